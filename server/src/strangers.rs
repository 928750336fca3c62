//! Calls by nobody who is known go to the log of the service itself, and not
//! more of them in a while than it bears: the rest is counted, so that whoever
//! knocks all day costs a leaf now and then.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_model::{Actor, AuditEvent, Operation, Outcome};

use crate::audit::AuditError;
use crate::service::Service;

/// Leaves that strangers get in a while, one each.
const LEAVES: u32 = 32;
/// The while.
const WHILE: Duration = Duration::from_secs(10);

/// How much of their while strangers used up.
#[derive(Default)]
pub(crate) struct Strangers {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the while began, on the monotonic clock.
    began: Duration,
    leaves: u32,
    /// Calls without a leaf of their own, so far.
    counted: u64,
}

impl Strangers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call at this moment has a leaf of its own; else it is counted.
    fn admits(&self, now: Duration) -> bool {
        let mut state = self.state();
        if now.saturating_sub(state.began) >= WHILE {
            (state.began, state.leaves) = (now, 0);
        }
        if state.leaves < LEAVES {
            state.leaves += 1;
            return true;
        }
        state.counted += 1;
        false
    }

    /// The calls that were only counted, if their while is over.
    fn take(&self, now: Duration) -> u64 {
        let mut state = self.state();
        if now.saturating_sub(state.began) < WHILE { 0 } else { std::mem::take(&mut state.counted) }
    }

    /// Counts them again: the log did not take their leaf.
    fn give_back(&self, count: u64) {
        self.state().counted += count;
    }
}

impl Service {
    /// The leaf of a call by whoever this is: in the own log of a principal,
    /// else in that of the service, within bounds.
    pub(crate) async fn note_of_caller(
        &self,
        bearer: Option<[u8; 32]>,
        operation: Operation,
        subject: String,
        outcome: Outcome,
    ) -> Result<(), AuditError> {
        let principal = bearer.and_then(|print| self.principal(&print));
        let own = principal.as_ref().and_then(|principal| principal.tenant).and_then(|id| self.tenant(id));
        let actor = principal.map_or(Actor::Anonymous, |principal| Actor::Principal(principal.id));
        if actor == Actor::Anonymous && !self.strangers.admits(self.host.clock.monotonic()) {
            return Ok(());
        }
        let Some(log) = own.or_else(|| self.service_realm()) else { return Ok(()) };
        let tenant = Some(log.id);
        let time = self.host.clock.now();
        log.note(&AuditEvent { time, tenant, actor, operation, subject, outcome }).await?;
        Ok(())
    }

    /// One leaf for the calls of strangers that had none.
    pub(crate) async fn note_strangers(&self) {
        let count = self.strangers.take(self.host.clock.monotonic());
        if count == 0 {
            return;
        }
        let noted =
            self.note_of_caller(None, Operation::Call, format!("{count} more"), Outcome::Denied).await;
        if noted.is_err() {
            self.strangers.give_back(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_so_many_leaves_in_a_while_and_the_rest_is_counted_once() {
        let strangers = Strangers::default();
        let at = |seconds| Duration::from_secs(seconds);
        let admitted = (0..100).filter(|_| strangers.admits(at(100))).count();
        assert_eq!(admitted, 32);
        assert_eq!(strangers.take(at(105)), 0, "their while is not over");
        assert_eq!((strangers.take(at(110)), strangers.take(at(110))), (68, 0));
        assert!(strangers.admits(at(111)), "the next while has its own");
        strangers.give_back(3);
        assert_eq!(strangers.take(at(130)), 3);
    }
}
