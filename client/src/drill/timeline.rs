//! Phases of a restoration on one time axis that begins with the declared
//! loss: the wall clock says how long before this process that was, the
//! monotonic clock measures from there.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::{Clock, Timestamp};

use super::record::Phase;

/// The axis and the phases so far.
pub struct Timeline {
    clock: Arc<dyn Clock>,
    declared: Timestamp,
    /// From the declared loss to the origin of the monotonic measurement.
    before: Duration,
    origin: Duration,
    begun: Duration,
    phases: Vec<Phase>,
}

impl Timeline {
    /// The axis from `declared`; what passed until now is the first phase, if
    /// it has a name.
    pub fn new(clock: Arc<dyn Clock>, declared: Timestamp, first: Option<&str>) -> Self {
        let origin = clock.monotonic();
        let before = clock.now().since(declared);
        let mut timeline =
            Self { clock, declared, before, origin, begun: Duration::ZERO, phases: Vec::new() };
        match first {
            Some(name) => timeline.end_phase(name, 0),
            None => timeline.begun = timeline.elapsed(),
        }
        timeline
    }

    /// From the declared loss until now.
    pub fn elapsed(&self) -> Duration {
        self.before + self.clock.monotonic().saturating_sub(self.origin)
    }

    /// Ends the phase that began with the end of the last one.
    pub fn end_phase(&mut self, name: &str, bytes: u64) {
        let now = self.elapsed();
        self.phases.push(Phase::new(name, self.begun, now.saturating_sub(self.begun), bytes));
        self.begun = now;
    }

    /// When the last phase ended, from the declared loss.
    pub fn total(&self) -> Duration {
        self.begun
    }

    /// When the last phase ended, by the declared loss's clock.
    pub fn finished(&self) -> Timestamp {
        self.declared.plus(self.begun)
    }

    /// When the loss was declared.
    pub fn declared(&self) -> Timestamp {
        self.declared
    }

    /// The phases that have ended.
    pub fn phases(&self) -> &[Phase] {
        &self.phases
    }
}
