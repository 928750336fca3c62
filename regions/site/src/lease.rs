//! A lease that somebody else renews by rewriting a small file: an epoch, and
//! until when it is held. Who holds none takes no writes, so that nobody needs
//! to reach him to stop him.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_model::{Clock, Timestamp};
use serde::Deserialize;

use crate::disk;

/// The longest lease file, in bytes.
const FILE_BYTES_MAX: u64 = 4096;
const VERSION: u32 = 1;

/// Why a lease file was not taken; the lease that was read before stands, and
/// runs out when it does.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It cannot be read.
    #[error("{path}: {source}; whoever grants the lease writes it there")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no lease.
    #[error(
        "{path} is no lease: it reads {{\"version\":1,\"epoch\":N,\"valid_until_unix_ms\":N}}, and may have \"valid_until_boottime_ms\""
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// It is older than the one that was read before.
    #[error("{path} has epoch {found}, and had {known}: epochs only rise")]
    Older {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
        /// What it said.
        known: u64,
    },
}

/// The text of the file; who holds the lease, and what else is said there, is
/// for others.
#[derive(Deserialize)]
struct Text {
    version: u32,
    #[serde(default)]
    epoch: u64,
    valid_until_unix_ms: u64,
    /// On the clock that counts from the machine's start, suspended time
    /// included; whoever grants leases elsewhere leaves it out.
    #[serde(default)]
    valid_until_boottime_ms: Option<u64>,
    /// Where the holder answers, for those who ask somebody who is not.
    #[serde(default)]
    endpoint: Option<String>,
}

/// The lease as it was last read.
#[derive(Clone)]
struct Seen {
    epoch: u64,
    until: Timestamp,
    /// By the monotonic clock: a wall clock that is put back lengthens nothing.
    ends: Duration,
    /// By the time since the machine's start, which counts suspended time too.
    boot: Option<Duration>,
    endpoint: Option<String>,
}

/// The file of a lease.
pub struct LeaseFile {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

impl LeaseFile {
    /// Reads a lease for the first time.
    ///
    /// # Errors
    /// [`LeaseError`]. One that has run out is none.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, LeaseError> {
        let seen = read(path, clock.as_ref(), None)?;
        Ok(Self { path: path.to_owned(), clock, seen: Mutex::new(seen) })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads it again.
    ///
    /// # Errors
    /// [`LeaseError`]; what was read before stands.
    pub fn look(&self) -> Result<(), LeaseError> {
        let before = self.seen().clone();
        let now = read(&self.path, self.clock.as_ref(), Some(before))?;
        *self.seen() = now;
        Ok(())
    }

    /// Reads it again and again, for as long as this is awaited; `trouble` is
    /// told, once, when a file cannot be taken.
    pub async fn keep_looking(self: Arc<Self>, every: Duration, trouble: impl Fn(LeaseError) + Send) {
        let mut told = false;
        loop {
            tokio::time::sleep(every).await;
            let lease = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || lease.look()).await {
                Ok(Err(error)) if !told => {
                    told = true;
                    trouble(error);
                }
                Ok(Ok(())) => told = false,
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Its epoch, whether or not it has run out.
    pub fn epoch(&self) -> u64 {
        self.seen().epoch
    }

    /// Where the file says that the holder of the lease answers.
    pub fn endpoint(&self) -> Option<String> {
        self.seen().endpoint.clone()
    }

    /// Its epoch while it is held.
    pub fn held(&self) -> Option<u64> {
        let seen = self.seen();
        let since_boot = self.clock.since_boot();
        let awake = seen.boot.zip(since_boot).is_none_or(|(until, now)| now < until);
        let held = awake && self.clock.now() < seen.until && self.clock.monotonic() < seen.ends;
        held.then_some(seen.epoch)
    }
}

fn read(path: &Path, clock: &dyn Clock, before: Option<Seen>) -> Result<Seen, LeaseError> {
    let form = || LeaseError::Form { path: path.to_owned() };
    let bytes = disk::read_bounded(path, FILE_BYTES_MAX)
        .map_err(|source| LeaseError::Disk { path: path.to_owned(), source })?;
    let text: Text = serde_json::from_slice(&bytes).map_err(|_| form())?;
    if text.version != VERSION {
        return Err(form());
    }
    let boot = text.valid_until_boottime_ms.map(Duration::from_millis);
    let until = Timestamp(text.valid_until_unix_ms.saturating_mul(1_000_000));
    if let Some(before) = before {
        if text.epoch < before.epoch {
            let (found, known) = (text.epoch, before.epoch);
            return Err(LeaseError::Older { path: path.to_owned(), found, known });
        }
        if (text.epoch, until, boot) == (before.epoch, before.until, before.boot) {
            return Ok(Seen { endpoint: text.endpoint, ..before });
        }
    }
    let ends = clock.monotonic().saturating_add(until.since(clock.now()));
    Ok(Seen { epoch: text.epoch, until, ends, boot, endpoint: text.endpoint })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that stands still until it is moved: by the wall, of this
    /// process, and since the machine's start if that is counted.
    #[derive(Default)]
    struct Hand(Mutex<(u64, u64, Option<u64>)>);

    impl Hand {
        fn set(&self, wall_ms: u64, run_ms: u64) {
            *self.0.lock().unwrap() = (wall_ms, run_ms, None);
        }

        fn set_with_boot(&self, wall_ms: u64, run_ms: u64, boot_ms: u64) {
            *self.0.lock().unwrap() = (wall_ms, run_ms, Some(boot_ms));
        }
    }

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.lock().unwrap().0 * 1_000_000)
        }
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.lock().unwrap().1)
        }
        fn since_boot(&self) -> Option<Duration> {
            self.0.lock().unwrap().2.map(Duration::from_millis)
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the test is who grants the lease")]
    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    fn grant(path: &Path, epoch: u64, until_ms: u64) {
        let until = format!("\"valid_until_unix_ms\":{until_ms},\"valid_until_boottime_ms\":1");
        write(path, &format!("{{\"version\":1,\"epoch\":{epoch},\"holder\":\"n\",{until}}}"));
    }

    fn held() -> (tempfile::TempDir, PathBuf, Arc<Hand>, LeaseFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let clock = Arc::new(Hand::default());
        clock.set(10_000, 500);
        grant(&path, 7, 15_000);
        let lease = LeaseFile::open(&path, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        assert_eq!(lease.held(), Some(7));
        (dir, path, clock, lease)
    }

    #[test]
    fn a_lease_that_is_not_renewed_runs_out_and_one_that_is_does_not() {
        let (_dir, path, clock, lease) = held();
        clock.set(14_999, 5_499);
        assert_eq!(lease.held(), Some(7));
        clock.set(15_000, 5_500);
        assert_eq!((lease.held(), lease.epoch()), (None, 7));
        grant(&path, 7, 20_000);
        assert_eq!(lease.held(), None, "nobody has looked");
        lease.look().unwrap();
        assert_eq!(lease.held(), Some(7));
    }

    #[test]
    fn a_clock_that_is_put_back_or_forward_lengthens_no_lease() {
        let (_dir, _, clock, lease) = held();
        clock.set(2_000, 5_500);
        lease.look().unwrap();
        assert_eq!(lease.held(), None, "five seconds have passed, whatever the wall says");
        clock.set(15_000, 600);
        assert_eq!(lease.held(), None);
    }

    #[test]
    fn a_machine_that_slept_holds_no_lease_whose_time_since_boot_is_over_whatever_its_other_clocks_say() {
        let dir = tempfile::tempdir().unwrap();
        let (path, clock) = (dir.path().join("lease"), Arc::new(Hand::default()));
        clock.set_with_boot(10_000, 500, 3_000);
        let until = "\"valid_until_unix_ms\":15000,\"valid_until_boottime_ms\":8000";
        write(&path, &format!("{{\"version\":1,\"epoch\":7,{until}}}"));
        let lease = LeaseFile::open(&path, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        assert_eq!(lease.held(), Some(7));
        // Suspended for an hour, and the wall clock set back meanwhile.
        clock.set_with_boot(10_100, 600, 3_603_000);
        assert_eq!(lease.held(), None);
        // A daemon that starts just now is not fooled either.
        let fresh = LeaseFile::open(&path, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        assert_eq!(fresh.held(), None);
        // Where nobody counts that time, the other two stand alone.
        clock.set(10_100, 600);
        assert_eq!(lease.held(), Some(7));
    }

    #[test]
    fn a_renewal_of_the_time_since_boot_alone_is_a_renewal() {
        let dir = tempfile::tempdir().unwrap();
        let (path, clock) = (dir.path().join("lease"), Arc::new(Hand::default()));
        clock.set_with_boot(10_000, 500, 3_000);
        let text = |boot: u64| {
            format!(
                "{{\"version\":1,\"epoch\":7,\"valid_until_unix_ms\":15000,\"valid_until_boottime_ms\":{boot}}}"
            )
        };
        write(&path, &text(3_000));
        let lease = LeaseFile::open(&path, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        assert_eq!(lease.held(), None);
        write(&path, &text(4_000));
        lease.look().unwrap();
        assert_eq!(lease.held(), Some(7));
    }

    #[test]
    fn what_is_no_lease_or_an_older_one_leaves_the_one_before() {
        let (_dir, path, _, lease) = held();
        grant(&path, 6, 99_000);
        assert!(matches!(lease.look(), Err(LeaseError::Older { found: 6, known: 7, .. })));
        for bad in ["", "{}", "{\"version\":2,\"epoch\":9,\"valid_until_unix_ms\":99000}"] {
            write(&path, bad);
            assert!(matches!(lease.look(), Err(LeaseError::Form { .. })), "{bad}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(lease.look(), Err(LeaseError::Disk { .. })));
        assert_eq!(lease.held(), Some(7));
        grant(&path, 8, 12_000);
        lease.look().unwrap();
        assert_eq!(lease.held(), Some(8));
    }
}
