//! "Every byte read and verified within N days", as a figure: what a site's
//! ledger says, when it alarms, how fast a pass may read, and which time to
//! believe. Pure: what happened comes in, what to do goes out.

use std::num::NonZeroU64;
use std::time::Duration;

use coffer_model::Timestamp;
use coffer_regions::ScrubCursor;
use serde::{Deserialize, Serialize};

/// A pass that read everything that the site had when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedPass {
    /// When it began: no byte of the site was verified before.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Bytes of bodies, read and verified.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Damage that it found.
    pub findings: u64,
}

/// A pass under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningPass {
    /// When it began.
    pub started: Timestamp,
    /// Where it goes on; `None`: from the oldest record.
    pub cursor: Option<ScrubCursor>,
    /// Bytes so far.
    pub bytes: u64,
    /// Records so far.
    pub records: u64,
    /// Damage so far.
    pub findings: u64,
    /// Time that it was at work, pauses included; not the time that the
    /// service was down.
    pub at_work: Duration,
}

/// The ledger of one site, as it is stored: `server/LEDGERS.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteLedger {
    format: u32,
    /// The latest moment at which this was written.
    pub(crate) seen: Timestamp,
    pub(crate) running: Option<RunningPass>,
    pub(crate) last: Option<CompletedPass>,
    /// Whether the alarm was raised and not yet taken back.
    pub(crate) alarmed: bool,
    /// From when on nothing shows that the site was verified, while no whole
    /// pass is known: when it was first known, or what a clock that went back
    /// leaves of it.
    #[serde(default = "unsaid")]
    since: Timestamp,
}

/// What one step of a pass brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) findings: u64,
    pub(crate) next: Option<ScrubCursor>,
    /// Since the step before, or its own time where there was none.
    pub(crate) at_work: Duration,
}

/// Whether the promise holds at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Every byte was verified within this time, and that is short enough.
    Kept(Duration),
    /// The oldest byte may be unverified for longer than was promised.
    Slipped(Duration),
    /// No pass is known to have ended: nothing is shown.
    Unknown,
}

/// What a ledger of format 1 says of `since`.
fn unsaid() -> Timestamp {
    Timestamp(0)
}

/// The format of ledgers; format 1 had no `since`.
const FORMAT: u32 = 2;

impl SiteLedger {
    /// Of a site of which nothing is known.
    pub(crate) fn unknown(now: Timestamp) -> Self {
        Self { format: FORMAT, seen: now, running: None, last: None, alarmed: false, since: now }
    }

    /// The stored ledger; one that this program does not read counts as none.
    /// One of format 1 is known since the first moment that it names.
    pub(crate) fn parse(stored: &[u8]) -> Option<Self> {
        let ledger: Self = serde_json::from_slice(stored).ok()?;
        match ledger.format {
            1 if ledger.since == unsaid() => {
                let begun = ledger.last.map(|pass| pass.started);
                let begun = begun.or_else(|| ledger.running.map(|pass| pass.started));
                Some(Self { format: FORMAT, since: begun.unwrap_or(ledger.seen), ..ledger })
            }
            FORMAT => Some(ledger),
            _ => None,
        }
    }

    /// The pass under way, begun now where there is none.
    pub(crate) fn run(&mut self, now: Timestamp) -> &mut RunningPass {
        self.running.get_or_insert(RunningPass {
            started: now,
            cursor: None,
            bytes: 0,
            records: 0,
            findings: 0,
            at_work: Duration::ZERO,
        })
    }

    /// Enters a step that began at `from`; ends the pass where nothing is
    /// left. A step of a pass that is no longer at that place is not counted.
    /// Whether the pass has ended.
    pub(crate) fn advance(&mut self, from: Option<ScrubCursor>, step: Progress, now: Timestamp) -> bool {
        let Some(pass) = self.running.as_mut().filter(|pass| pass.cursor == from) else { return false };
        pass.bytes = pass.bytes.saturating_add(step.bytes);
        pass.records = pass.records.saturating_add(step.records);
        pass.findings = pass.findings.saturating_add(step.findings);
        pass.at_work = pass.at_work.saturating_add(step.at_work);
        pass.cursor = step.next;
        if step.next.is_some() {
            return false;
        }
        let RunningPass { started, bytes, records, findings, .. } = *pass;
        self.last = Some(CompletedPass { started, ended: now.max(started), bytes, records, findings });
        self.running = None;
        true
    }

    /// Believes no moment any more: the clock went back. For how long nothing
    /// was shown is known all the same, by the clock as it was: a clock that is
    /// set back again and again does not keep the alarm from being given.
    pub(crate) fn forget(&mut self, now: Timestamp) {
        let waited = self.seen.since(self.shown_since());
        let waited = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        let since = Timestamp(now.0.saturating_sub(waited));
        *self = Self { alarmed: self.alarmed, since, ..Self::unknown(now) };
    }

    /// Up to when everything is known to be verified.
    fn shown_since(&self) -> Timestamp {
        self.last.map_or(self.since, |last| last.started)
    }

    /// Whether for longer than was promised nothing shows that every byte was
    /// verified: by a pass that is too old, or by none at all.
    pub(crate) fn is_late(&self, now: Timestamp, promised: Duration) -> bool {
        now.since(self.shown_since()) > promised
    }

    /// How long ago the oldest byte can have been verified: every byte that the
    /// last pass met was read after it began, every later one was written after.
    pub(crate) fn coverage(&self, now: Timestamp, promised: Duration) -> Coverage {
        match self.last {
            Some(last) if last.started <= now => {
                let age = now.since(last.started);
                if age <= promised { Coverage::Kept(age) } else { Coverage::Slipped(age) }
            }
            _ => Coverage::Unknown,
        }
    }

    /// When the pass under way ends, if it goes on at the rate that it had;
    /// `total` is what there is to read.
    pub(crate) fn predicted_end(&self, now: Timestamp, total: u64) -> Option<Timestamp> {
        let pass = self.running.filter(|pass| pass.bytes > 0)?;
        let left = u128::from(total.saturating_sub(pass.bytes));
        let nanos = left * pass.at_work.as_nanos() / u128::from(pass.bytes);
        Some(now.plus(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))))
    }

    /// When the next pass should begin: after an eighth of what was promised,
    /// at most a day, so that a small site is not read without end; at once
    /// where the promise is not kept.
    pub(crate) fn due(&self, now: Timestamp, promised: Duration) -> bool {
        let rest = (promised / 8).min(Duration::from_secs(24 * 3600));
        match (self.running, self.coverage(now, promised)) {
            (Some(_), _) => true,
            (None, Coverage::Kept(age)) => age >= rest,
            (None, Coverage::Slipped(_) | Coverage::Unknown) => true,
        }
    }
}

/// How far the wall clock may fall behind before it is said to have gone back:
/// more than a clock is set right by, less than matters to days.
pub(crate) const TOLERANCE: Duration = Duration::from_secs(300);

/// Whether the wall clock can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It went on.
    Steady,
    /// It went back: no moment that was stored can be compared with it.
    Back,
}

/// The time that ledgers are kept in. It never goes back within a run: it is
/// the wall clock of the start, carried on by the monotonic clock. Where the
/// wall clock runs ahead it is followed: ages only grow by that. Where it
/// falls behind, nothing that was stamped before counts any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    wall: Timestamp,
    monotonic: Duration,
}

impl Time {
    /// The time of a new run; `seen` is the latest moment that was stored.
    pub(crate) fn start(wall: Timestamp, monotonic: Duration, seen: Option<Timestamp>) -> (Self, Turn) {
        let mut time = Self { wall: seen.unwrap_or(wall), monotonic };
        let (_, turn) = time.read(wall, monotonic);
        (time, turn)
    }

    /// The time now.
    pub(crate) fn read(&mut self, wall: Timestamp, monotonic: Duration) -> (Timestamp, Turn) {
        let carried = self.wall.plus(monotonic.saturating_sub(self.monotonic));
        if wall >= carried {
            (self.wall, self.monotonic) = (wall, monotonic);
            return (wall, Turn::Steady);
        }
        if carried.since(wall) <= TOLERANCE {
            return (carried, Turn::Steady);
        }
        (self.wall, self.monotonic) = (wall, monotonic);
        (wall, Turn::Back)
    }
}

/// How fast a pass may read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace(pub(crate) NonZeroU64);

/// The pass leaves its site alone for at least this many times as long as a
/// step took: a step that foreground work makes slow is followed by a longer
/// pause, so that the scrub gives way without being told.
const REST: u32 = 3;

impl Pace {
    /// Bytes of one step: a quarter of a second's worth, within bounds that
    /// keep a step short and its own cost small.
    pub(crate) fn step_bytes(self) -> u64 {
        (self.0.get() / 4).clamp(256 << 10, 4 << 20)
    }

    /// How long to pause after a step.
    pub(crate) fn pause(self, bytes: u64, took: Duration) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.0.get());
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        due.saturating_sub(took).max(took.saturating_mul(REST))
    }
}

#[cfg(test)]
mod tests;
