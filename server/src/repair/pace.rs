//! How fast repair may go: within a bandwidth, and so that the calls of
//! tenants hardly notice. While there are such calls, one step is under way
//! at a time, and rests follow it; how long, their own durations tell, with
//! repair at work and without.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdGuard, PoisonError};
use std::time::Duration;

use coffer_model::Clock;
use tokio::sync::{Mutex, MutexGuard, Notify};

/// The calls of tenants that are under way, and how long others took.
pub(crate) struct Foreground {
    clock: Arc<dyn Clock>,
    in_flight: AtomicU64,
    /// Repair steps under way.
    steps: AtomicU64,
    /// Told when the last of the calls that were under way has ended.
    gap: Notify,
    state: StdMutex<State>,
}

struct State {
    /// Of calls that met no step.
    quiet: Durations,
    /// Of all calls: what tenants notice.
    all: Durations,
    /// When a call last began or ended.
    last: Option<Duration>,
    /// Of the time that there is, the part in which repair works: 1 in this many.
    rests: u32,
    /// Calls since the part was last set.
    since: u32,
    /// Whether repair was at work since.
    worked: bool,
}

/// Repair works at least one part in this many while tenants call.
const RESTS_MAX: u32 = 64;
/// And at most one in this many.
const RESTS_MIN: u32 = 2;
/// After a look at many records, so many times as long nothing is done: a
/// survey must end while tenants call all day.
const LOOK_RESTS: u32 = 4;
/// No rest is longer, whatever a slow site took.
const REST_MAX: Duration = Duration::from_secs(2);
/// Calls between two looks at their durations. Less than what [`Durations`]
/// remembers, so that a look sees mostly what the last answer has led to.
const LOOK_EVERY: u32 = 512;
/// So long a step waits for the moment in which the last call ends.
const GAP_WAIT: Duration = Duration::from_millis(20);
/// So long after the last call nobody is there.
const IDLE_AFTER: Duration = Duration::from_millis(250);

/// One call of a tenant, from its authorization to its end.
pub(crate) struct InFlight {
    foreground: Arc<Foreground>,
    began: Duration,
    disturbed: bool,
}

impl Foreground {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = State {
            quiet: Durations::default(),
            all: Durations::default(),
            last: None,
            rests: RESTS_MAX / 2,
            since: 0,
            worked: false,
        };
        let (in_flight, steps) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(Self { clock, in_flight, steps, gap: Notify::new(), state: StdMutex::new(state) })
    }

    fn state(&self) -> StdGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a call begins; it ends when what is returned is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> InFlight {
        let began = self.clock.monotonic();
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.state().last = Some(began);
        let disturbed = self.steps.load(Ordering::Relaxed) > 0;
        InFlight { foreground: Arc::clone(self), began, disturbed }
    }

    /// One look at many records, as a step is: whoever calls meanwhile is given
    /// most of the time.
    pub(crate) async fn look<T>(&self, work: impl Future<Output = T>) -> T {
        let began = self.clock.monotonic();
        self.steps.fetch_add(1, Ordering::Relaxed);
        let seen = work.await;
        self.steps.fetch_sub(1, Ordering::Relaxed);
        self.rest(began, LOOK_RESTS).await;
        seen
    }

    /// Waits for the moment in which the last call ends, but not for long. Calls
    /// come in flocks: whoever begins right behind one has the most time before
    /// the next, and whoever begins at any other moment meets it.
    async fn gap(&self) {
        if self.is_busy() {
            let _ = tokio::time::timeout(GAP_WAIT, self.gap.notified()).await;
        }
    }

    /// Rests so many times as long as was worked since, where somebody calls.
    async fn rest(&self, began: Duration, times: u32) {
        if self.is_busy() {
            let worked = self.clock.monotonic().saturating_sub(began);
            tokio::time::sleep(worked.saturating_mul(times).min(REST_MAX)).await;
        }
    }

    /// Whether somebody calls, or did a moment ago.
    fn is_busy(&self) -> bool {
        let recently = |last: Duration| self.clock.monotonic().saturating_sub(last) < IDLE_AFTER;
        self.in_flight.load(Ordering::Relaxed) > 0 || self.state().last.is_some_and(recently)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let foreground = &self.foreground;
        let now = foreground.clock.monotonic();
        if foreground.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            foreground.gap.notify_waiters();
        }
        let disturbed = self.disturbed || foreground.steps.load(Ordering::Relaxed) > 0;
        foreground.state().ended(now, now.saturating_sub(self.began), disturbed);
    }
}

impl State {
    fn ended(&mut self, now: Duration, took: Duration, disturbed: bool) {
        self.last = Some(now);
        if !disturbed {
            self.quiet.add(took);
        }
        self.all.add(took);
        self.since += 1;
        self.worked |= disturbed;
        if self.since < LOOK_EVERY {
            return;
        }
        self.since = 0;
        // Calls that had the service for themselves say nothing about repair.
        if !std::mem::take(&mut self.worked) {
            return;
        }
        // A quarter more at the slow end of all calls: well before anybody's
        // promise breaks. Those that met a step are no measure, since a slow
        // call meets one sooner than a fast one does.
        match (self.quiet.slow_end(), self.all.slow_end()) {
            (Some(quiet), Some(all)) if all > quiet + quiet / 4 => {
                self.rests = (self.rests + self.rests.div_ceil(2)).min(RESTS_MAX);
            }
            (Some(_), Some(_)) => self.rests = (self.rests - self.rests.div_ceil(8)).max(RESTS_MIN),
            _ => {}
        }
    }
}

/// Eight for each doubling of a microsecond, up to an hour and more.
const CLASSES: usize = 256;

/// Durations in classes, each an eighth longer than the one before; older
/// ones count less and less.
struct Durations {
    counts: [u32; CLASSES],
    total: u32,
}

impl Default for Durations {
    fn default() -> Self {
        Self { counts: [0; CLASSES], total: 0 }
    }
}

impl Durations {
    fn add(&mut self, took: Duration) {
        let micros = took.as_micros().max(1);
        let octave = 127 - micros.leading_zeros();
        let part = if octave < 3 { 0 } else { (micros >> (octave - 3)) & 7 };
        let class = usize::try_from(octave * 8).unwrap_or(0) + usize::try_from(part).unwrap_or(0);
        if let Some(count) = self.counts.get_mut(class.min(CLASSES - 1)) {
            *count += 1;
        }
        self.total += 1;
        if self.total >= 4096 {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// Microseconds that all but one in a hundred stay below; nothing of too few.
    fn slow_end(&self) -> Option<u64> {
        if self.total < 200 {
            return None;
        }
        let mut left = self.total / 100;
        for (class, count) in self.counts.iter().enumerate().rev() {
            if *count > left {
                let (octave, part) = (class / 8, u64::try_from(class % 8).ok()?);
                let base = 1_u64 << octave;
                return Some(base + base / 8 * part);
            }
            left -= count;
        }
        None
    }
}

/// The pace of one run.
pub(super) struct Pace<'a> {
    foreground: Option<&'a Arc<Foreground>>,
    bytes_per_second: Option<u64>,
    yields: bool,
    /// When the bandwidth has carried everything so far.
    free: StdMutex<Duration>,
    one: Mutex<()>,
}

/// One step under way.
pub(super) struct Turn<'a> {
    began: Option<Duration>,
    alone: Option<MutexGuard<'a, ()>>,
}

impl<'a> Pace<'a> {
    /// No bound and no regard.
    pub(super) fn unbounded() -> Self {
        Self::new(None, None, false)
    }

    pub(super) fn new(
        foreground: Option<&'a Arc<Foreground>>,
        bytes_per_second: Option<u64>,
        yields: bool,
    ) -> Self {
        let (free, one) = (StdMutex::new(Duration::ZERO), Mutex::new(()));
        Self { foreground, bytes_per_second, yields, free, one }
    }

    /// Whose calls come first.
    pub(super) fn gives_way_to(&self) -> Option<Arc<Foreground>> {
        self.foreground.filter(|_| self.yields).map(Arc::clone)
    }

    /// Waits until a step that moves so many bytes may begin.
    pub(super) async fn turn(&self, bytes: u64) -> Turn<'_> {
        let Some(foreground) = self.foreground else { return Turn { began: None, alone: None } };
        let alone = if self.yields && foreground.is_busy() { Some(self.one.lock().await) } else { None };
        if let Some(rate) = self.bytes_per_second {
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
            let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            let now = foreground.clock.monotonic();
            let wait = {
                let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
                let start = (*free).max(now);
                *free = start + takes;
                start.saturating_sub(now)
            };
            tokio::time::sleep(wait).await;
        }
        if self.yields {
            foreground.gap().await;
        }
        foreground.steps.fetch_add(1, Ordering::Relaxed);
        Turn { began: Some(foreground.clock.monotonic()), alone }
    }

    /// Ends a step, and rests where somebody calls.
    pub(super) async fn end(&self, turn: Turn<'_>) {
        let (Some(foreground), Some(began)) = (self.foreground, turn.began) else { return };
        foreground.steps.fetch_sub(1, Ordering::Relaxed);
        if turn.alone.is_some() {
            let rests = foreground.state().rests.saturating_sub(1);
            foreground.rest(began, rests).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(of: u64) -> Duration {
        Duration::from_millis(of)
    }

    #[test]
    fn the_slow_end_is_that_of_the_slowest_hundredth_within_an_eighth() {
        let mut durations = Durations::default();
        assert_eq!(durations.slow_end(), None);
        for n in 0..1000 {
            durations.add(if n % 50 == 0 { millis(100) } else { millis(1) });
        }
        let slow = durations.slow_end().unwrap();
        assert!((87_500..=100_000).contains(&slow), "{slow}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_begins_when_the_last_call_ends_and_before_long_in_any_case() {
        let foreground = Foreground::new(Arc::new(coffer_custody::SystemClock));
        let pace = Pace::new(Some(&foreground), None, true);
        let (one, other) = (foreground.enter(), foreground.enter());
        let mut turn = Box::pin(pace.turn(1));
        assert!(futures::poll!(turn.as_mut()).is_pending());
        drop(one);
        assert!(futures::poll!(turn.as_mut()).is_pending());
        drop(other);
        drop(turn.await);

        let began = tokio::time::Instant::now();
        let _stays = foreground.enter();
        drop(pace.turn(1).await);
        assert!((GAP_WAIT..GAP_WAIT * 2).contains(&began.elapsed()));
    }

    #[test]
    fn calls_that_repair_slows_down_make_it_rest_longer_and_others_shorter() {
        let foreground = Foreground::new(Arc::new(coffer_custody::SystemClock));
        let mut state = foreground.state();
        (0..400).for_each(|_| state.ended(millis(0), millis(10), false));
        let before = state.rests;
        (0..1024).for_each(|_| state.ended(millis(0), millis(20), true));
        assert!(state.rests > before);
        (0..65_536).for_each(|_| state.ended(millis(0), millis(10), true));
        assert_eq!(state.rests, RESTS_MIN);
        // The window that is open has met repair.
        (0..LOOK_EVERY).for_each(|_| state.ended(millis(0), millis(10), false));
        state.rests = RESTS_MAX;
        (0..4096).for_each(|_| state.ended(millis(0), millis(10), false));
        assert_eq!(state.rests, RESTS_MAX, "quiet calls taught nothing about repair");
    }
}
