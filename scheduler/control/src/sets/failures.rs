//! Looks that failed: what has been told already. The next one comes as soon as after any other: what is refused of a
//! set, or cannot be had, keeps no pod of it where it may not be.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt as _;

use crate::resources::SiteSet;

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
}
