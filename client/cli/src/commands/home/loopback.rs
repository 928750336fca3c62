//! The loopback network of a fleet at home: 256 addresses of its own, so that
//! two fleets on one machine do not meet. Chosen once, by chance, and kept.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use coffer_client::profile::write_atomically;
use coffer_model::Entropy;

use crate::exit::Failure;
use crate::files;

/// No address is longer.
const TEXT_MAX: u64 = 64;

/// 127.X.Y.0/24.
#[derive(Clone, Copy)]
pub(super) struct Loopback(u8, u8);

impl Loopback {
    /// The network of the fleet in this directory.
    pub(super) fn open_or_choose(dir: &Path, entropy: &dyn Entropy) -> Result<Self, Failure> {
        let path = dir.join("loopback");
        if path.exists() {
            let text = String::from_utf8_lossy(&files::read_small(&path, TEXT_MAX)?).into_owned();
            return Self::parse(text.trim()).ok_or_else(|| {
                Failure::new(format!("{}: this is no address 127.X.Y.0", path.display()))
                    .safe("nothing was started")
                    .next("remove the file; another network is chosen")
            });
        }
        let chance = entropy.sixteen();
        // Neither 127.0 nor 127.255, which others of the machine use.
        let chosen = Self(1 + chance[0] % 254, chance[1]);
        write_atomically(&path, chosen.to_string().as_bytes())?;
        Ok(chosen)
    }

    fn parse(text: &str) -> Option<Self> {
        match text.parse::<Ipv4Addr>().ok()?.octets() {
            [127, x, y, 0] => Some(Self(x, y)),
            _ => None,
        }
    }

    /// The address of the n-th node.
    pub(super) fn node(self, number: usize) -> Result<IpAddr, Failure> {
        let last = u8::try_from(number.saturating_add(11)).ok().filter(|last| *last < 255);
        let last = last.ok_or_else(|| Failure::usage("a fleet at home has at most 244 nodes"))?;
        Ok(IpAddr::from([127, self.0, self.1, last]))
    }
}

impl std::fmt::Display for Loopback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "127.{}.{}.0", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use coffer_custody::OsEntropy;

    use super::*;

    #[test]
    fn a_network_is_chosen_once_and_what_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let chosen = Loopback::open_or_choose(dir.path(), &OsEntropy).unwrap();
        let kept = Loopback::open_or_choose(dir.path(), &OsEntropy).unwrap();
        assert_eq!(chosen.to_string(), kept.to_string());
        assert!(kept.node(0).unwrap().is_loopback() && kept.node(244).is_err());
        for wrong in ["", "10.1.2.0", "127.1.2.3", "127.1.2"] {
            write_atomically(&dir.path().join("loopback"), wrong.as_bytes()).unwrap();
            assert!(Loopback::open_or_choose(dir.path(), &OsEntropy).is_err(), "{wrong}");
        }
    }
}
