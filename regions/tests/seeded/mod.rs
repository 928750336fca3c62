//! Delays of sites that do not exist: seeded, heavy-tailed, the same on every
//! machine. Shared by the test and the example that prints the table.

use std::time::Duration;

/// A generator of pseudo-random numbers (splitmix64).
pub(crate) struct Chance(pub u64);

impl Chance {
    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1, both left out.
    pub(crate) fn share(&mut self) -> f64 {
        let [a, b, c, d, ..] = self.bits().to_le_bytes();
        (f64::from(u32::from_le_bytes([a, b, c, d])) + 0.5) / 4_294_967_296.0
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.share().ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }
}

/// A site and its line: a floor, a log-normal part, and spikes. Milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    /// For people.
    pub(crate) name: &'static str,
    floor: f64,
    median: f64,
    sigma: f64,
    spikes: f64,
    spike: f64,
}

/// From a local disk to a bad line over an ocean; the jitter is about what
/// stands before the name.
pub(crate) const LINES: [Line; 8] = [
    Line { name: "0.2 ms, local disk", floor: 0.1, median: 0.2, sigma: 0.9, spikes: 0.01, spike: 15.0 },
    Line { name: "1 ms, machine room", floor: 0.5, median: 1.0, sigma: 0.8, spikes: 0.01, spike: 30.0 },
    Line { name: "3 ms, metropolis", floor: 4.0, median: 3.0, sigma: 0.7, spikes: 0.02, spike: 50.0 },
    Line { name: "8 ms, spinning disk", floor: 1.0, median: 8.0, sigma: 0.5, spikes: 0.02, spike: 60.0 },
    Line { name: "10 ms, country", floor: 18.0, median: 10.0, sigma: 0.5, spikes: 0.02, spike: 80.0 },
    Line { name: "20 ms, continent", floor: 40.0, median: 20.0, sigma: 0.5, spikes: 0.03, spike: 100.0 },
    Line { name: "30 ms, ocean", floor: 110.0, median: 30.0, sigma: 0.6, spikes: 0.03, spike: 150.0 },
    Line { name: "40 ms, bad line", floor: 70.0, median: 40.0, sigma: 0.7, spikes: 0.04, spike: 200.0 },
];

impl Line {
    /// One answer, `added` milliseconds later than an honest one.
    pub(crate) fn delay(&self, chance: &mut Chance, added: f64) -> Duration {
        let mut millis = self.floor + self.median * (self.sigma * chance.normal()).exp() + added;
        if chance.share() < self.spikes {
            millis -= self.spike * chance.share().ln();
        }
        Duration::from_secs_f64(millis / 1000.0)
    }

    /// Several answers.
    pub(crate) fn delays(&self, chance: &mut Chance, added: f64, count: usize) -> Vec<Duration> {
        (0..count).map(|_| self.delay(chance, added)).collect()
    }
}

/// What happened over many rounds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Rounds of a site that is as it was.
    pub(crate) honest: u32,
    /// Of these, taken for a relay.
    pub(crate) alarms: u32,
    /// Rounds of a site that fetches what it is asked for.
    pub(crate) relayed: u32,
    /// Of these, found out.
    pub(crate) found: u32,
    /// The largest round.
    pub(crate) answers: usize,
}

impl Tally {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            honest: self.honest + other.honest,
            alarms: self.alarms + other.alarms,
            relayed: self.relayed + other.relayed,
            found: self.found + other.found,
            answers: self.answers.max(other.answers),
        }
    }

    /// False alarms, as a share of the honest rounds.
    pub(crate) fn false_alarms(self) -> f64 {
        f64::from(self.alarms) / f64::from(self.honest.max(1))
    }

    /// Found relays, as a share of the relayed rounds.
    pub(crate) fn detection(self) -> f64 {
        f64::from(self.found) / f64::from(self.relayed.max(1))
    }
}
