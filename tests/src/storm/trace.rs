//! What happened: counted by kind, chained into one digest, the last of it
//! kept for people; and the first promise that was broken.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Events that a failing seed prints.
const KEPT: usize = 400;

/// Every kind of fault, so that one that never strikes is seen.
pub(crate) const FAULTS: [&str; 45] = [
    "acknowledged and forgotten",
    "all that may lie do nothing else",
    "answers although it does not, or the reverse",
    "as many sites cut off as may be lost",
    "bits flip on disk",
    "catalogue pages torn",
    "catalogue tail torn",
    "catalogues copied",
    "catalogues lost in the end",
    "clock jumps",
    "comes back old",
    "custodians away",
    "disk replaced",
    "doubled request",
    "everything lost in the end",
    "fsync fails",
    "image taken",
    "late request",
    "lie",
    "lost answer",
    "lost request",
    "power cut",
    "power cut everywhere",
    "records lost behind the back",
    "service crash",
    "service crash, all but the sites lost",
    "service crash, catalogues come back old",
    "service crash, catalogues lost",
    "service crash, one catalogue lost",
    "siege",
    "site cut off",
    "site destroyed",
    "site drained",
    "site forgets",
    "site full",
    "site joined",
    "site lies",
    "site retired",
    "site stalled",
    "sites fall silent during a start",
    "sites levelled",
    "slow call",
    "slow wire",
    "wires cut",
    "wires stalled",
];

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which checker found it.
    pub checker: &'static str,
    /// What it found.
    pub finding: String,
}

/// How often what happened.
pub type Counts = BTreeMap<String, u64>;

/// The record of one run.
pub(crate) struct Trace {
    start: Instant,
    inner: Mutex<Inner>,
    loud: bool,
}

#[derive(Default)]
struct Inner {
    digest: blake3::Hasher,
    recent: VecDeque<String>,
    faults: Counts,
    operations: Counts,
    violation: Option<Violation>,
    events: u64,
}

impl Trace {
    /// An empty record; a loud one prints each event.
    pub(crate) fn start(loud: bool) -> Self {
        Self { start: Instant::now(), inner: Mutex::default(), loud }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an event. `event` is the same in every run of a seed; `detail`
    /// need not be.
    #[expect(clippy::print_stderr, reason = "somebody asked to see the events")]
    pub(crate) fn note(&self, event: &str, detail: &str) {
        let at = self.start.elapsed().as_micros();
        let mut line = String::new();
        // Writing into a string cannot fail.
        let _ = write!(line, "{:>12}.{:06} {event}", at / 1_000_000, at % 1_000_000);
        let mut inner = self.inner();
        inner.digest.update(line.as_bytes());
        inner.digest.update(b"\n");
        inner.events += 1;
        if !detail.is_empty() {
            let _ = write!(line, "  [{detail}]");
        }
        if self.loud {
            eprintln!("{line}");
        }
        if inner.recent.len() == KEPT {
            inner.recent.pop_front();
        }
        inner.recent.push_back(line);
    }

    /// Counts and notes a fault.
    pub(crate) fn fault(&self, kind: &str, what: &str) {
        if !FAULTS.contains(&kind) {
            self.violated("harness", format!("{kind} is no listed kind of fault"));
        }
        *self.inner().faults.entry(kind.to_owned()).or_default() += 1;
        self.note(&format!("FAULT {kind} {what}"), "");
    }

    /// Counts an operation by its kind and how it ended.
    pub(crate) fn operation(&self, kind: &str, ended: &str) {
        *self.inner().operations.entry(format!("{kind} {ended}")).or_default() += 1;
    }

    /// Notes a broken promise; the first one is the verdict.
    pub(crate) fn violated(&self, checker: &'static str, finding: String) {
        self.note(&format!("VIOLATION {checker}"), &finding);
        self.inner().violation.get_or_insert(Violation { checker, finding });
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.inner().violation.clone()
    }

    pub(crate) fn is_violated(&self) -> bool {
        self.inner().violation.is_some()
    }

    pub(crate) fn recent(&self) -> Vec<String> {
        self.inner().recent.iter().cloned().collect()
    }

    pub(crate) fn faults(&self) -> Counts {
        self.inner().faults.clone()
    }

    pub(crate) fn operations(&self) -> Counts {
        self.inner().operations.clone()
    }

    pub(crate) fn events(&self) -> u64 {
        self.inner().events
    }

    /// The digest of all events so far.
    pub(crate) fn digest(&self) -> String {
        self.inner().digest.finalize().to_hex().to_string()
    }
}
