//! The connections of a pod: those of callers it has let in, and those of
//! strangers, which are in their handshake or have not asked anything yet.
//! Each have places of their own, so that whoever only connects keeps nobody
//! out: where strangers are too many, the oldest of the most crowded address
//! goes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use coffer_proto::READ_BYTES;
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::Connected;

use super::Notice;

/// Connections of callers at the same time: callers are few.
const CALLERS_MAX: usize = 64;
/// Connections of strangers at the same time.
const STRANGERS_MAX: usize = 64;
/// Those from one address.
const STRANGERS_OF_ONE_MAX: usize = 16;

/// Who is told of refusals.
type Notices = Arc<dyn Fn(Notice) + Send + Sync>;

/// The places of one pod.
struct Places {
    taken: Mutex<Taken>,
    notices: Notices,
}

/// Connections by their number, which counts up.
#[derive(Default)]
struct Taken {
    next: u64,
    strangers: BTreeMap<u64, (Option<IpAddr>, Arc<Door>)>,
    callers: BTreeSet<u64>,
}

/// By which a connection is closed from elsewhere.
#[derive(Default)]
struct Door {
    closed: AtomicBool,
    reader: AtomicWaker,
}

impl Door {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Taken {
    /// The stranger that goes for one from `address`, if one has to.
    fn too_many(&self, address: Option<IpAddr>) -> Option<u64> {
        let mut of_one: BTreeMap<Option<IpAddr>, (usize, u64)> = BTreeMap::new();
        for (number, (from, _)) in &self.strangers {
            of_one.entry(*from).or_insert((0, *number)).0 += 1;
        }
        let own = of_one.get(&address).filter(|(count, _)| *count >= STRANGERS_OF_ONE_MAX);
        let crowded = of_one.values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest)));
        let crowded = crowded.filter(|_| self.strangers.len() >= STRANGERS_MAX);
        own.or(crowded).map(|(_, oldest)| *oldest)
    }
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a stranger; another one may have to go for it.
    fn arrive(self: &Arc<Self>, address: Option<IpAddr>) -> Place {
        let door = Arc::<Door>::default();
        let (number, gone) = {
            let mut taken = self.taken();
            let gone = taken.too_many(address).and_then(|number| taken.strangers.remove(&number));
            let number = taken.next;
            taken.next += 1;
            taken.strangers.insert(number, (address, Arc::clone(&door)));
            (number, gone)
        };
        if let Some((_, door)) = gone {
            door.close();
            (self.notices)(Notice::Connections);
        }
        Place { number, door, places: Arc::clone(self) }
    }
}

/// The place of one connection.
#[derive(Clone)]
pub(super) struct Place {
    number: u64,
    door: Arc<Door>,
    places: Arc<Places>,
}

impl Place {
    /// Its caller is one of those that may call: from now on it is no
    /// stranger's. False where there are as many callers as there may be; then
    /// it is closed.
    pub(super) fn admit(&self) -> bool {
        {
            let mut taken = self.places.taken();
            if taken.callers.contains(&self.number) {
                return true;
            }
            let known = taken.strangers.remove(&self.number).is_some();
            if known && taken.callers.len() < CALLERS_MAX {
                return taken.callers.insert(self.number);
            }
        }
        self.door.close();
        (self.places.notices)(Notice::Connections);
        false
    }

    fn leave(&self) {
        let mut taken = self.places.taken();
        taken.strangers.remove(&self.number);
        taken.callers.remove(&self.number);
    }
}

/// A connection that holds a place. It is read in long pieces: TLS asks for
/// 4 KiB at a time, four times for each record.
pub(super) struct Counted {
    stream: BufReader<TcpStream>,
    place: Place,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.place.leave();
    }
}

/// What is accepted, each with its place.
pub(super) fn bounded(listener: TcpListener, notices: Notices) -> impl Stream<Item = io::Result<Counted>> {
    let places = Arc::new(Places { taken: Mutex::default(), notices });
    TcpListenerStream::new(listener).map(move |accepted: io::Result<TcpStream>| -> io::Result<Counted> {
        let stream = accepted?;
        // Small answers would wait for the caller's delayed ACK otherwise; a
        // connection that refuses the option still works.
        let _ = stream.set_nodelay(true);
        let place = places.arrive(stream.peer_addr().ok().map(|address| network_of(address.ip())));
        Ok(Counted { stream: BufReader::with_capacity(READ_BYTES, stream), place })
    })
}

/// Whoever has one address of IPv6 has its network of 64 bits.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

impl Connected for Counted {
    type ConnectInfo = Place;

    fn connect_info(&self) -> Place {
        self.place.clone()
    }
}

impl Counted {
    fn open(&self) -> io::Result<()> {
        if self.place.door.is_closed() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever waits for the peer hears of the door, too.
        self.place.door.reader.register(cx.waker());
        self.open()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.open()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Arc<Places> {
        Arc::new(Places { taken: Mutex::default(), notices: Arc::new(|_| ()) })
    }

    fn address(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    #[test]
    fn one_address_pushes_out_its_own_oldest_and_nobody_elses() {
        let places = places();
        let other = places.arrive(address(1));
        let first = places.arrive(address(2));
        let rest: Vec<Place> = (1..STRANGERS_OF_ONE_MAX).map(|_| places.arrive(address(2))).collect();
        assert!(!first.door.is_closed());
        let one_more = places.arrive(address(2));
        assert!(first.door.is_closed());
        assert!([&other, &one_more].into_iter().chain(&rest).all(|place| !place.door.is_closed()));
    }

    #[test]
    fn many_addresses_push_out_the_most_crowded_one_and_no_caller() {
        let places = places();
        let caller = places.arrive(address(1));
        assert!(caller.admit() && caller.admit());
        let alone = places.arrive(address(2));
        let crowd: Vec<Place> = (0..STRANGERS_OF_ONE_MAX).map(|_| places.arrive(address(3))).collect();
        let mut others = Vec::new();
        for n in 10..=200 {
            others.push(places.arrive(address(n)));
            assert!(places.taken().strangers.len() <= STRANGERS_MAX);
        }
        assert!(crowd[0].door.is_closed() && !caller.door.is_closed());
        assert!(!others.last().unwrap().door.is_closed(), "the newest has its chance");
        drop(alone);
    }

    #[test]
    fn callers_are_bounded_too_and_a_place_is_free_again_when_one_leaves() {
        let places = places();
        let callers: Vec<Place> = (0..CALLERS_MAX).map(|_| places.arrive(address(1))).collect();
        let let_in = callers.iter().filter(|place| place.admit()).count();
        assert_eq!(let_in, STRANGERS_OF_ONE_MAX, "the others were pushed out while they waited");
        for _ in let_in..CALLERS_MAX {
            assert!(places.arrive(address(1)).admit());
        }
        let late = places.arrive(address(1));
        assert!(!late.admit() && late.door.is_closed());
        callers.last().unwrap().leave();
        assert!(places.arrive(address(1)).admit());
    }
}
