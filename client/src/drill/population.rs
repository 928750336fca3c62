//! The population of a sample, held against an export of the tenant's log. The
//! list is the service's own; that a version was put is in the log.

use std::collections::BTreeSet;

use coffer_model::VersionId;

use super::sample::Line;
use crate::leaf::LeafView;

/// The versions that leaves in front of a plan say were put.
#[derive(Clone, Debug, Default)]
pub struct PutBefore {
    plan: u64,
    versions: BTreeSet<String>,
}

/// What a population looks like beside a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BesideLog {
    /// Versions of the population that no leaf in front of the plan puts.
    pub unlogged: Vec<VersionId>,
    /// Versions that were put before the plan and are not in the population.
    /// They may be of other buckets, replaced, deleted or covered: leaves do
    /// not tell, so that this figure is one to ask about, and no proof.
    pub others: u64,
}

impl PutBefore {
    /// For the plan that this leaf notes.
    pub fn plan(log_index: u64) -> Self {
        Self { plan: log_index, versions: BTreeSet::new() }
    }

    /// Enters a leaf; those after the plan do not count.
    pub fn enter(&mut self, index: u64, leaf: &[u8]) {
        if index >= self.plan {
            return;
        }
        let value: serde_json::Value = serde_json::from_slice(leaf).unwrap_or_default();
        let leaf = LeafView(&value);
        // What a crash left of a put is settled by a sweep.
        if let Some(version) = leaf.done("object_put").or_else(|| leaf.done("sweep")) {
            self.versions.insert(version.to_owned());
        }
    }

    /// Holds a population against what was entered.
    pub fn hold(&self, population: &[Line]) -> BesideLog {
        let listed: BTreeSet<String> = population.iter().map(|line| line.version.to_string()).collect();
        let unlogged = population.iter().map(|line| line.version);
        let unlogged = unlogged.filter(|version| !self.versions.contains(&version.to_string())).collect();
        let others = self.versions.iter().filter(|version| !listed.contains(*version)).count();
        BesideLog { unlogged, others: u64::try_from(others).unwrap_or(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use coffer_model::Digest;
    use serde_json::json;

    use super::*;

    fn version(n: u8) -> VersionId {
        VersionId::from_bytes([n; 16])
    }

    fn leaf(operation: &str, n: u8, outcome: &str) -> Vec<u8> {
        let uid = version(n).to_string();
        let leaf = json!({
            "api": { "operation": operation }, "resources": [{ "uid": uid }], "status_detail": outcome,
        });
        leaf.to_string().into_bytes()
    }

    #[test]
    fn a_population_with_a_version_that_was_never_put_is_named_and_one_that_lacks_some_is_counted() {
        let mut put = PutBefore::plan(4);
        for (index, leaf) in [
            (0, leaf("object_put", 1, "done")),
            (1, leaf("object_put", 2, "intent")),
            (2, leaf("sweep", 3, "done")),
            (3, leaf("object_put", 4, "done")),
            (4, leaf("object_put", 5, "done")),
        ] {
            put.enter(index, &leaf);
        }
        let line = |n| Line { version: version(n), size: 1, content: Digest([n; 32]) };
        assert_eq!(put.hold(&[line(1), line(3), line(4)]), BesideLog::default());
        let found = put.hold(&[line(1), line(2), line(5)]);
        assert_eq!(found, BesideLog { unlogged: vec![version(2), version(5)], others: 2 });
    }
}
