//! How bad it is: the rates of small faults, drawn once for each seed, and the
//! conditions of the wires at this moment. In the calm there are none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::chance::Chance;
use super::trace::Trace;
use super::wire::LEAST_DELAY;

/// Shares of a thousand calls of a site. Each kind of fault is off in some
/// seeds, so that the others are not always drowned by it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    /// The request never arrives.
    pub(crate) lost_request: u64,
    /// The request is carried out, the answer never arrives.
    pub(crate) lost_answer: u64,
    /// The request arrives again, later.
    pub(crate) twice: u64,
    /// The request is given up as unreachable, and arrives later.
    pub(crate) late: u64,
    /// The call is much slower than others.
    pub(crate) slow: u64,
    /// A site of the loss budget does not tell the truth.
    pub(crate) lie: u64,
    /// A site says that it answers although it does not, or the reverse.
    pub(crate) hearsay: u64,
    /// The connection between client and service is slow.
    pub(crate) slow_wire: u64,
}

impl Rates {
    pub(crate) fn draw(chance: &Chance) -> Self {
        let rate = |most: u64| if chance.permille(500) { chance.below(most + 1) } else { 0 };
        Self {
            lost_request: rate(40),
            lost_answer: rate(40),
            twice: rate(60),
            late: rate(40),
            slow: rate(100),
            lie: rate(500),
            hearsay: rate(60),
            slow_wire: rate(100),
        }
    }
}

/// Rates, and whether they count now.
pub(crate) struct Weather {
    rates: Rates,
    calm: AtomicBool,
    /// Whoever lies does so in every answer, whatever the weather.
    liars: AtomicBool,
    stalled_until: Mutex<Option<Instant>>,
    trace: Arc<Trace>,
}

impl Weather {
    /// Begins calm: a deployment is founded in fine weather.
    pub(crate) fn new(rates: Rates, trace: Arc<Trace>) -> Self {
        Self {
            rates,
            calm: AtomicBool::new(true),
            liars: AtomicBool::new(false),
            stalled_until: Mutex::default(),
            trace,
        }
    }

    pub(crate) fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
        if calm {
            *self.stalled() = None;
        }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// The rates now.
    pub(crate) fn rates(&self) -> Rates {
        let rates = if self.is_calm() { Rates::default() } else { self.rates };
        if self.liars.load(Ordering::Relaxed) { Rates { lie: 1000, ..rates } } else { rates }
    }

    /// From now on, or no longer, a site that lies does nothing else.
    pub(crate) fn set_liars(&self, liars: bool) {
        self.liars.store(liars, Ordering::Relaxed);
    }

    /// Nothing passes between clients and service until then.
    pub(crate) fn stall_wires(&self, until: Instant) {
        *self.stalled() = Some(until);
    }

    fn stalled(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.stalled_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the next bytes take between client and service.
    pub(crate) fn wire_delay(&self, chance: &Chance) -> Duration {
        let slow = chance.permille(self.rates().slow_wire);
        if slow {
            self.trace.fault("slow wire", "");
        }
        let usual = chance.up_to(Duration::from_millis(if slow { 2000 } else { 4 }));
        let stalled =
            self.stalled().map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        LEAST_DELAY + usual + stalled
    }
}
