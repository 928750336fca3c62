//! Buckets that were read, kept until one changes: every call about an object
//! begins with its bucket, and a read on a connection of its own decrypts its
//! pages anew after each commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coffer_model::BucketName;

use crate::BucketRow;

/// Most buckets kept; beyond, they are read again.
const KEPT_MAX: usize = 1024;

/// The buckets of one open catalogue; a clone is the same.
#[derive(Clone, Default)]
pub(crate) struct KnownBuckets(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    changes: u64,
    rows: BTreeMap<BucketName, BucketRow>,
}

/// Permission to keep what is read from now on, unless something changes first.
pub(crate) struct Ticket(u64);

/// Rides with the result of a change to where it is known to stand or not, and
/// forgets everything there, even if nobody waits for that result any more.
pub(crate) struct Change(KnownBuckets);

impl Drop for Change {
    fn drop(&mut self) {
        let mut kept = self.0.kept();
        kept.changes += 1;
        kept.rows.clear();
    }
}

impl KnownBuckets {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bucket, or leave to keep it once it is read.
    pub(crate) fn get(&self, name: &BucketName) -> Result<BucketRow, Ticket> {
        let kept = self.kept();
        kept.rows.get(name).cloned().ok_or(Ticket(kept.changes))
    }

    /// Keeps what was read, if no change was answered since.
    pub(crate) fn keep(&self, ticket: &Ticket, row: &BucketRow) {
        let mut kept = self.kept();
        if kept.changes == ticket.0 && kept.rows.len() < KEPT_MAX {
            kept.rows.insert(row.name.clone(), row.clone());
        }
    }

    /// A change that is about to be made.
    pub(crate) fn change(&self) -> Change {
        Change(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use coffer_model::{BucketId, Degraded, Geometry, RecordId, ResidencyPolicy, Tier, Timestamp};

    use super::*;

    fn row() -> BucketRow {
        BucketRow {
            id: BucketId::from_bytes([1; 16]),
            name: BucketName::new("one").unwrap(),
            policy: ResidencyPolicy {
                allow: vec![],
                deny: vec![],
                tier_min: Tier::I,
                geometry: Geometry::DEFAULT,
                degraded: Degraded::Refuse,
            },
            created: Timestamp(1),
            record: RecordId::from_bytes([2; 16]),
        }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let known = KnownBuckets::default();
        let Err(early) = known.get(&row().name) else { panic!("nothing was kept yet") };
        known.keep(&early, &row());
        assert_eq!(known.get(&row().name).ok(), Some(row()));
        drop(known.change());
        assert!(known.get(&row().name).is_err());
        known.keep(&early, &row());
        assert!(known.get(&row().name).is_err(), "read before the change, kept after it");
    }
}
