//! Self-fencing: each pod has a file that says until when it may take writes.
//! It is renewed only when the node's own lease was, so that a pod on the wrong
//! side of a partition stops by itself, and its replacement need not ask it.
//!
//! Two clocks must agree. The wall clock alone could be set back, which would
//! prolong a lease; the time since boot cannot, and counts suspended time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{clock, files};

/// Where a pod finds the directory with its lease.
pub(crate) const INSIDE: &str = "/run/coffer/lease";

/// The lease of one pod, as `lease.json` holds it. It is valid only while both
/// clocks are before their ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodLease {
    /// Format of the file; 1.
    pub version: u32,
    /// Grows whenever the pod's place changes hands.
    pub epoch: u64,
    /// The node.
    pub holder: String,
    /// End on the wall clock, milliseconds since 1970.
    pub valid_until_unix_ms: u64,
    /// End on the clock that counts from the machine's start, milliseconds.
    pub valid_until_boottime_ms: u64,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    wall: Duration,
    boottime: Duration,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { wall: clock::wall(), boottime: clock::boottime() }
    }
}

/// The lease files of this node's pods.
#[derive(Default)]
pub(crate) struct Fences {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, (PathBuf, u64)>,
    /// Pods that the API no longer has: what still runs of them has no lease.
    gone: BTreeSet<String>,
    until: Option<(Moment, Duration)>,
}

impl Fences {
    /// Gives the pod a lease: until the end of the node's last renewal, and a
    /// lapsed one if there was none yet.
    pub(crate) fn add(&self, holder: &str, uid: &str, directory: PathBuf, epoch: u64) -> io::Result<()> {
        files::make_dirs(&directory, 0o755)?;
        let mut state = self.state();
        if state.gone.contains(uid) {
            return write(holder, &directory, epoch, None);
        }
        state.pods.insert(uid.to_owned(), (directory.clone(), epoch));
        write(holder, &directory, epoch, state.until)
    }

    /// Goes on with the lease of a pod that an earlier agent left running: what
    /// that one was granted holds until its end.
    pub(crate) fn adopt(&self, uid: &str, directory: PathBuf, epoch: u64) {
        let mut state = self.state();
        if !state.gone.contains(uid) {
            state.pods.insert(uid.to_owned(), (directory, epoch));
        }
    }

    /// The API no longer has the pod: its place may be another one's already.
    /// What it was granted ends now, however long it takes to end.
    pub(crate) fn lapse(&self, holder: &str, uid: &str) {
        let mut state = self.state();
        state.gone.insert(uid.to_owned());
        if let Some((directory, epoch)) = state.pods.remove(uid) {
            // One that cannot be written is not renewed either, and ends by itself.
            drop(write(holder, &directory, epoch, None));
        }
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.state().pods.remove(uid);
    }

    /// Nothing of the pod is left on this node.
    pub(crate) fn forget(&self, uid: &str) {
        let mut state = self.state();
        state.pods.remove(uid);
        state.gone.remove(uid);
    }

    /// The node's lease was renewed by a request that was sent at `sent`, and
    /// holds for `duration` from then: not from the answer, which may be late.
    pub(crate) fn renew(&self, holder: &str, sent: Moment, duration: Duration) {
        let mut state = self.state();
        state.until = Some((sent, duration));
        for (directory, epoch) in state.pods.values() {
            // A lease that cannot be written lapses, which is the safe end.
            drop(write(holder, directory, *epoch, state.until));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn write(
    holder: &str,
    directory: &std::path::Path,
    epoch: u64,
    until: Option<(Moment, Duration)>,
) -> io::Result<()> {
    let end = |clock: fn(&Moment) -> Duration| {
        until.as_ref().map_or(0, |(sent, held)| clock::millis(clock(sent) + *held))
    };
    let lease = PodLease {
        version: 1,
        epoch,
        holder: holder.to_owned(),
        valid_until_unix_ms: end(|moment| moment.wall),
        valid_until_boottime_ms: end(|moment| moment.boottime),
    };
    files::swap(&directory.join("lease.json"), &serde_json::to_vec(&lease)?, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(directory: &std::path::Path) -> PodLease {
        files::read_json(&directory.join("lease.json")).unwrap().unwrap()
    }

    #[test]
    fn a_pod_of_a_node_that_never_renewed_may_not_write() {
        let dir = tempfile::tempdir().unwrap();
        let fences = Fences::default();
        fences.add("n1", "pod", dir.path().join("lease"), 7).unwrap();
        let lease = read(&dir.path().join("lease"));
        assert_eq!((lease.valid_until_unix_ms, lease.valid_until_boottime_ms, lease.epoch), (0, 0, 7));
    }

    #[test]
    fn a_successor_of_the_agent_neither_shortens_nor_prolongs_a_lease() {
        let dir = tempfile::tempdir().unwrap();
        let first = Fences::default();
        first.add("n1", "pod", dir.path().to_owned(), 1).unwrap();
        first.renew("n1", Moment::now(), Duration::from_secs(5));
        let lease = read(dir.path());
        let second = Fences::default();
        second.adopt("pod", dir.path().to_owned(), 1);
        assert_eq!(read(dir.path()), lease);
        second.renew("n1", Moment::now(), Duration::from_secs(9));
        assert!(read(dir.path()).valid_until_boottime_ms > lease.valid_until_boottime_ms);
    }

    #[test]
    fn a_pod_that_the_api_no_longer_has_may_not_write_until_its_end_whatever_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let fences = Fences::default();
        fences.add("n1", "pod", dir.path().to_owned(), 7).unwrap();
        fences.renew("n1", Moment::now(), Duration::from_secs(9));
        assert_ne!(read(dir.path()).valid_until_boottime_ms, 0);
        fences.lapse("n1", "pod");
        let ends = |lease: PodLease| (lease.valid_until_unix_ms, lease.valid_until_boottime_ms, lease.epoch);
        assert_eq!(ends(read(dir.path())), (0, 0, 7));
        // A start of it that was under way comes too late.
        fences.add("n1", "pod", dir.path().to_owned(), 7).unwrap();
        fences.adopt("pod", dir.path().to_owned(), 7);
        fences.renew("n1", Moment::now(), Duration::from_secs(9));
        assert_eq!(ends(read(dir.path())), (0, 0, 7));
    }

    #[test]
    fn a_lease_ends_counted_from_before_the_request_on_both_clocks() {
        let dir = tempfile::tempdir().unwrap();
        let fences = Fences::default();
        fences.add("n1", "pod", dir.path().to_owned(), 1).unwrap();
        let sent = Moment { wall: Duration::from_secs(1000), boottime: Duration::from_secs(10) };
        fences.renew("n1", sent, Duration::from_secs(5));
        let lease = read(dir.path());
        assert_eq!((lease.valid_until_unix_ms, lease.valid_until_boottime_ms), (1_005_000, 15_000));
        fences.remove("pod");
        fences.renew("n1", Moment::now(), Duration::from_secs(5));
        assert_eq!(read(dir.path()), lease, "a pod that is gone is not renewed");
    }
}
