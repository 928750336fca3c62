//! A put that is repeated because the answer to it was lost: the version that
//! the attempt before made is the answer, and nothing is written twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_model::{AuditEvent, BucketName, Layout, ObjectKey, Operation, Outcome, TenantId};
use coffer_regions::acknowledgeable;
use tokio::sync::Notify;

use crate::authorize::Grant;
use crate::deletion;
use crate::put::{Committed, Put, PutError, policy_of};
use crate::service::Service;

/// A put whose caller is gone ends within moments, unless its upload hangs;
/// one that hangs lacks its end, and comes to nothing.
const PATIENCE: Duration = Duration::from_secs(20);

type Name = (TenantId, BucketName, ObjectKey);

/// The puts that have begun and not ended, by what they write.
#[derive(Default)]
pub(crate) struct UnderWay {
    counts: Mutex<BTreeMap<Name, usize>>,
    ended: Notify,
}

/// One put, until this is dropped.
pub(crate) struct Begun {
    book: Arc<UnderWay>,
    name: Name,
}

impl UnderWay {
    fn begin(self: &Arc<Self>, name: Name) -> Begun {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(name.clone()).or_default() += 1;
        Begun { book: Arc::clone(self), name }
    }

    fn has(&self, name: &Name) -> bool {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Until no put of this name is under way, or `PATIENCE` is over.
    async fn over(&self, name: &Name) {
        let over = async {
            loop {
                let ended = self.ended.notified();
                if !self.has(name) {
                    return;
                }
                ended.await;
            }
        };
        // What hangs longer is not waited for.
        let _ = tokio::time::timeout(PATIENCE, over).await;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let mut counts = self.book.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.name);
            }
        }
        drop(counts);
        self.book.ended.notify_waiters();
    }
}

fn name(grant: &Grant, put: &Put) -> Name {
    (grant.tenant().id, put.bucket.clone(), put.key.clone())
}

/// From here until what is returned is dropped, a repetition waits.
pub(crate) fn begin(service: &Service, grant: &Grant, put: &Put) -> Begun {
    service.puts.begin(name(grant, put))
}

/// The version that an attempt before this one made, if this is a repetition
/// and the newest version is of the same content and metadata. It costs a leaf
/// that says that the version was looked at.
pub(crate) async fn standing(
    service: &Service,
    grant: &Grant,
    put: &Put,
) -> Result<Option<Committed>, PutError> {
    let Some(content) = put.repeats else { return Ok(None) };
    service.puts.over(&name(grant, put)).await;
    let tenant = grant.tenant();
    let Some(bucket) = tenant.catalog.bucket(&put.bucket).await? else { return Ok(None) };
    let Some(row) = tenant.catalog.latest(bucket.id, &put.key).await? else { return Ok(None) };
    if row.manifest.content != content || row.manifest.metadata != put.metadata {
        return Ok(None);
    }
    // Its deletion has begun and will be finished: what is put now must stay.
    if deletion::pending(tenant).await?.contains(&row.manifest.version) {
        return Ok(None);
    }
    // A start may have taken up what the attempt before left on too few sites:
    // better than nothing, and not enough to be acknowledged. What is not
    // enough for a put is not enough for one that says so again.
    let small = matches!(row.manifest.layout, Layout::Inline { .. });
    let degraded = policy_of(service, grant, &bucket, small).degraded;
    if !acknowledgeable(&row.manifest.layout, degraded, usize::from(row.reduced)) {
        return Ok(None);
    }
    let done = grant.event(service, Some(row.manifest.version.to_string()), Outcome::Done);
    let audit_seq = tenant.note(&AuditEvent { operation: Operation::ObjectStat, ..done }).await?;
    Ok(Some(Committed { manifest: row.manifest, audit_seq, reduced_by: usize::from(row.reduced) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_name(key: &str) -> Name {
        let bucket = BucketName::new("things").unwrap();
        (TenantId::from_bytes([1; 16]), bucket, ObjectKey::new(key.as_bytes()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_repetition_waits_for_every_put_of_its_name_and_for_no_other_and_not_for_ever() {
        let book = Arc::new(UnderWay::default());
        let (first, second, other) =
            (book.begin(a_name("a")), book.begin(a_name("a")), book.begin(a_name("b")));
        let waits = tokio::spawn({
            let book = Arc::clone(&book);
            async move { book.over(&a_name("a")).await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        drop(second);
        waits.await.unwrap();
        let begun = tokio::time::Instant::now();
        book.over(&a_name("b")).await;
        assert_eq!(begun.elapsed(), PATIENCE);
        drop(other);
        assert!(book.counts.lock().unwrap().is_empty());
    }
}
