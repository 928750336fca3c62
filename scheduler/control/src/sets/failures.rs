//! Looks that failed: how long to wait before the next one, and what has been
//! told already.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt as _;

use crate::resources::SiteSet;

/// The longest wait, in times of the calm pace.
const WAITS_MAX: u32 = 32;

/// Sets whose last look failed.
#[derive(Default)]
pub(crate) struct Failures(Mutex<BTreeMap<(String, String), Failure>>);

struct Failure {
    /// How often in a row.
    count: u32,
    /// What was told last.
    told: String,
}

fn key(set: &SiteSet) -> (String, String) {
    (set.namespace().unwrap_or_default(), set.name_any())
}

impl Failures {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(String, String), Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure; whether it is news, or has lasted twice as long as when it was told.
    pub(super) fn is_to_be_told(&self, set: &SiteSet, text: &str) -> bool {
        let mut all = self.all();
        let known = all.entry(key(set)).or_insert_with(|| Failure { count: 0, told: String::new() });
        known.count = known.count.saturating_add(1);
        let news = known.told != text || known.count.is_power_of_two();
        if news {
            text.clone_into(&mut known.told);
        }
        news
    }

    /// How long to wait: twice as long with each failure in a row.
    pub(super) fn wait(&self, set: &SiteSet, calm: Duration) -> Duration {
        let count = self.all().get(&key(set)).map_or(1, |known| known.count);
        let times = 1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(WAITS_MAX);
        calm.saturating_mul(times.clamp(1, WAITS_MAX))
    }

    /// A look succeeded.
    pub(super) fn over(&self, set: &SiteSet) {
        self.all().remove(&key(set));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> SiteSet {
        let template = serde_json::json!({ "image": "i", "resources": { "cpu": "1", "memory": "1", "diskBytes": 1, "iops": 1 } });
        let spec =
            serde_json::json!({ "replicas": 1, "dataShards": 1, "parityShards": 1, "template": template });
        SiteSet::new("gold", serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn the_same_trouble_is_told_ever_less_often_and_another_one_at_once() {
        let failures = Failures::default();
        let told: Vec<u32> = (1..=20).filter(|_| failures.is_to_be_told(&set(), "why")).collect();
        assert_eq!(told, [1, 2, 4, 8, 16]);
        assert!(failures.is_to_be_told(&set(), "another"));
        failures.over(&set());
        assert!(failures.is_to_be_told(&set(), "another"));
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_wait_up_to_a_bound() {
        let (failures, calm) = (Failures::default(), Duration::from_secs(2));
        let wait = || {
            failures.is_to_be_told(&set(), "why");
            failures.wait(&set(), calm).as_secs()
        };
        let waits: Vec<u64> = (0..7).map(|_| wait()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 64]);
        assert_eq!((0..60).map(|_| wait()).max(), Some(64));
    }
}
