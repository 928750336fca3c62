//! Waits that double each time: of sets whose plans came to nothing, and of pods that did not go when they were asked.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default)]
struct Wait {
    times: u32,
    until: Duration,
    /// Its end was noted.
    is_over: bool,
    /// Somebody came meanwhile and was sent away.
    was_asked: bool,
}

/// Waits by whose they are.
#[derive(Debug)]
pub(super) struct Waits<K> {
    first: Duration,
    longest: Duration,
    all: BTreeMap<K, Wait>,
}

impl<K: Ord + Clone> Waits<K> {
    /// The first one lasts so long, the next one twice as long, and none longer than this.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, all: BTreeMap::new() }
    }

    fn length(&self, times: u32) -> Duration {
        let times = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(times).min(self.longest)
    }

    /// One more.
    pub(super) fn again(&mut self, whose: K, now: Duration) {
        let times = self.all.get(&whose).map_or(0, |wait| wait.times).saturating_add(1);
        let until = now.saturating_add(self.length(times));
        self.all.insert(whose, Wait { times, until, is_over: false, was_asked: false });
    }

    /// Whether it has to wait still; that it asked is remembered.
    pub(super) fn holds(&mut self, whose: &K) -> bool {
        let Some(wait) = self.all.get_mut(whose).filter(|wait| !wait.is_over) else { return false };
        wait.was_asked = true;
        true
    }

    /// Who has to wait still.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &K> {
        self.all.iter().filter(|(_, wait)| !wait.is_over).map(|(whose, _)| whose)
    }

    /// How often it had to wait, and how long it does now; `None` once that is over.
    pub(super) fn of(&self, whose: &K) -> Option<(u32, Duration)> {
        let wait = self.all.get(whose).filter(|wait| !wait.is_over)?;
        Some((wait.times, self.length(wait.times)))
    }

    /// Whose wait is over by now, and was not before; whether they asked meanwhile.
    pub(super) fn over(&mut self, now: Duration) -> Vec<(K, bool)> {
        let over = self.all.iter_mut().filter(|(_, wait)| !wait.is_over && wait.until <= now);
        let over = over.map(|(whose, wait)| {
            wait.is_over = true;
            (whose.clone(), wait.was_asked)
        });
        over.collect()
    }

    /// It need not wait, and the next wait is a first one again.
    pub(super) fn forget(&mut self, whose: &K) {
        self.all.remove(whose);
    }

    /// The same for all but these.
    pub(super) fn keep(&mut self, keep: impl Fn(&K) -> bool) {
        self.all.retain(|whose, _| keep(whose));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_the_one_before_and_none_too_long() {
        let second = Duration::from_secs(1);
        let mut waits: Waits<u8> = Waits::new(second, second * 5);
        let mut now = second;
        for length in [1, 2, 4, 5, 5] {
            waits.again(7, now);
            assert_eq!(waits.of(&7).map(|(_, length)| length), Some(second * length));
            assert!(waits.over(now).is_empty() && waits.holds(&7));
            now += second * length;
            assert_eq!(waits.over(now), [(7, true)]);
            assert!(waits.over(now).is_empty() && !waits.holds(&7));
        }
        waits.forget(&7);
        waits.again(7, now);
        assert_eq!(waits.of(&7), Some((1, second)));
    }
}
