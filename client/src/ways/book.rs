//! What is remembered of each address: which one served, which failed and
//! when, and where the owner was said to be. It decides only who is asked
//! first; nobody is left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::address::Address;

/// As many owners are remembered as were told last: a service that sends its
/// clients round in circles fills nothing.
const TOLD_MAX: usize = 4;

/// One address of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) socket: SocketAddr,
}

/// The memory of one client.
pub(super) struct Book {
    listed: Vec<Address>,
    /// Where the owner is by the word of a service of this deployment; the newest last.
    told: Vec<Address>,
    /// The last one that served.
    served: Option<SocketAddr>,
    /// When each failed last, or said that it is not the owner.
    failed: BTreeMap<SocketAddr, Instant>,
}

impl Book {
    pub(super) fn new(listed: Vec<Address>) -> Self {
        Self { listed, told: Vec::new(), served: None, failed: BTreeMap::new() }
    }

    /// Everything to look at, the owner that was told last first.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let mut all: Vec<Address> = self.told.iter().rev().cloned().collect();
        all.extend(self.listed.iter().filter(|listed| !self.told.contains(listed)).cloned());
        all
    }

    /// Whether there may be another way.
    pub(super) fn is_alone(&self) -> bool {
        let literal = |address: &Address| address.host.parse::<std::net::IpAddr>().is_ok();
        self.told.is_empty() && self.listed.len() == 1 && self.listed.iter().all(literal)
    }

    pub(super) fn serves(&mut self, socket: SocketAddr) {
        self.failed.remove(&socket);
        self.served = Some(socket);
    }

    pub(super) fn fails(&mut self, socket: SocketAddr, now: Instant) {
        self.failed.insert(socket, now);
        if self.served == Some(socket) {
            self.served = None;
        }
    }

    /// Somebody of this deployment is not its owner, and may have said who is.
    pub(super) fn is_not_owner(&mut self, socket: SocketAddr, owner: Option<Address>, now: Instant) {
        self.fails(socket, now);
        if let Some(owner) = owner {
            self.told.retain(|told| *told != owner);
            self.told.push(owner);
            if self.told.len() > TOLD_MAX {
                self.told.remove(0);
            }
        }
    }

    /// Who is asked in which order: the one that served, then whoever has not
    /// failed, then those that failed, the longest ago first. Without a
    /// difference the order stays. Each socket once.
    pub(super) fn in_order(&self, found: Vec<Target>) -> Vec<Target> {
        let mut order: Vec<Target> = Vec::new();
        for target in found {
            if !order.iter().any(|known| known.socket == target.socket) {
                order.push(target);
            }
        }
        order.sort_by_key(|target| {
            let failed = self.failed.get(&target.socket).copied();
            (failed.is_some(), self.served != Some(target.socket), failed)
        });
        order
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn target(n: u8) -> Target {
        let address = Address { host: format!("10.0.0.{n}"), port: 1 };
        Target { address, socket: SocketAddr::from(([10, 0, 0, n], 1)) }
    }

    fn order(book: &Book) -> Vec<u8> {
        let found = book.in_order((1..=4).map(target).collect());
        found.iter().map(|target| target.address.host.rsplit('.').next().unwrap().parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn who_served_is_asked_first_and_who_failed_last_and_nobody_is_left_out() {
        let now = Instant::now();
        let mut book = Book::new((1..=4).map(|n| target(n).address).collect());
        assert_eq!(order(&book), [1, 2, 3, 4]);
        book.serves(target(3).socket);
        assert_eq!(order(&book), [3, 1, 2, 4]);
        book.fails(target(3).socket, now);
        book.fails(target(1).socket, now + Duration::from_secs(1));
        assert_eq!(order(&book), [2, 4, 3, 1]);
        book.serves(target(1).socket);
        assert_eq!(order(&book), [1, 2, 4, 3]);
    }

    #[tokio::test]
    async fn an_owner_that_was_told_is_looked_at_first_and_only_the_last_four_are_remembered() {
        let now = Instant::now();
        let mut book = Book::new(vec![target(1).address]);
        assert!(book.is_alone());
        for n in 2..=7 {
            book.is_not_owner(target(1).socket, Some(target(n).address), now);
        }
        let hosts: Vec<String> = book.addresses().into_iter().map(|address| address.host).collect();
        assert_eq!(hosts, ["10.0.0.7", "10.0.0.6", "10.0.0.5", "10.0.0.4", "10.0.0.1"]);
        assert!(!book.is_alone());
        let twice = book.in_order(vec![target(1), target(2), target(1)]);
        assert_eq!(twice, [target(2), target(1)]);
    }
}
