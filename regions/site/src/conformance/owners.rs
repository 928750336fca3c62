//! What every adapter promises about the epochs of owners.
#![expect(clippy::unwrap_used, reason = "a test suite: a broken promise panics")]

use std::collections::BTreeSet;
use std::sync::Arc;

use coffer_model::ScopeId;
use coffer_regions::{Change, Changed, Fence, RecordKind, Site, SiteError};

use super::{content, id, receipt, record, shard, slot};

/// The checks, each on a fresh and empty site.
pub(super) async fn follow_one_another<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Site>>,
{
    without_owners_nothing_is_asked(make().await).await;
    epochs_only_rise_and_each_scope_has_its_own(make().await).await;
    an_owner_who_was_followed_changes_nothing(make().await).await;
    a_change_without_an_owner_is_refused_once_there_is_one(make().await).await;
    a_raise_comes_after_all_that_is_acknowledged_under_a_lower_epoch(make().await).await;
}

/// What an adapter without epochs does.
pub(super) async fn are_refused(site: Arc<dyn Site>) {
    assert_eq!(site.epoch(fence(1).scope).await, Ok(0));
    assert_eq!(site.raise(fence(1)).await, Err(SiteError::OverLimit));
    assert_eq!(put_under(site.as_ref(), 1, 1).await, Err(SiteError::OverLimit));
    assert_eq!(site.epoch(fence(1).scope).await, Ok(0));
    assert_eq!(site.get(id(1)).await, Err(SiteError::Missing), "nothing was done");
}

fn fence(epoch: u64) -> Fence {
    Fence { scope: ScopeId::from_bytes([7; 16]), epoch }
}

async fn put_under(site: &dyn Site, epoch: u64, n: u64) -> Result<Changed, SiteError> {
    site.change_under(fence(epoch), Change::Put(vec![shard(n)])).await
}

async fn without_owners_nothing_is_asked(site: Arc<dyn Site>) {
    assert_eq!(site.epoch(fence(1).scope).await, Ok(0));
    site.put(vec![shard(1)]).await.unwrap();
    assert_eq!(site.raise(fence(0)).await, Err(SiteError::OverLimit), "zero is no epoch");
    assert_eq!(site.epoch(fence(1).scope).await, Ok(0));
    assert_eq!(site.delete(vec![id(1)]).await, Ok(1));
}

async fn epochs_only_rise_and_each_scope_has_its_own(site: Arc<dyn Site>) {
    let other = ScopeId::from_bytes([8; 16]);
    site.raise(fence(5)).await.unwrap();
    site.raise(fence(5)).await.unwrap();
    assert_eq!(site.raise(fence(4)).await, Err(SiteError::Superseded));
    assert_eq!((site.epoch(fence(1).scope).await, site.epoch(other).await), (Ok(5), Ok(0)));
    site.raise(Fence { scope: other, epoch: 1 }).await.unwrap();
    assert_eq!((site.epoch(fence(1).scope).await, site.epoch(other).await), (Ok(5), Ok(1)));
    // Epochs are no key slots, and harm none.
    assert_eq!(site.list_slots().await, Ok(Vec::new()));
    assert_eq!(site.scrub().await, Ok(Vec::new()));
    assert_eq!(
        put_under(site.as_ref(), 9, 1).await,
        Ok(Changed::Stored(vec![receipt(site.as_ref(), &shard(1))]))
    );
    assert_eq!(site.epoch(fence(1).scope).await, Ok(9), "a change under a higher epoch raises it");
    assert_eq!(site.raise(fence(8)).await, Err(SiteError::Superseded));
}

async fn an_owner_who_was_followed_changes_nothing(site: Arc<dyn Site>) {
    put_under(site.as_ref(), 3, 1).await.unwrap();
    let under = |epoch, change| site.change_under(fence(epoch), change);
    assert_eq!(under(3, Change::WriteSlot(slot(1), content(1, b"one"))).await, Ok(Changed::Slot));
    assert_eq!(under(3, Change::WipeSuperseded(slot(1))).await, Ok(Changed::Slot));
    site.raise(fence(4)).await.unwrap();
    let late = [
        Change::Put(vec![shard(1)]),
        Change::Put(vec![shard(2)]),
        Change::Delete(vec![id(1)]),
        Change::WriteSlot(slot(1), content(2, b"two")),
        Change::WriteSlot(slot(2), content(1, b"one")),
        Change::WipeSuperseded(slot(1)),
    ];
    for change in late {
        assert_eq!(under(3, change.clone()).await, Err(SiteError::Superseded), "{change:?}");
    }
    assert_eq!(site.get(id(1)).await, Ok(shard(1)), "reading needs no epoch");
    assert_eq!(site.get(id(2)).await, Err(SiteError::Missing));
    assert_eq!(site.read_slot(slot(1)).await, Ok(content(1, b"one")));
    assert_eq!(site.read_slot(slot(2)).await, Err(SiteError::Missing));
    assert_eq!(under(4, Change::Delete(vec![id(1), id(9)])).await, Ok(Changed::Removed(1)));
}

async fn a_change_without_an_owner_is_refused_once_there_is_one(site: Arc<dyn Site>) {
    site.put(vec![shard(1)]).await.unwrap();
    site.write_slot(slot(1), content(1, b"one")).await.unwrap();
    site.raise(fence(1)).await.unwrap();
    assert_eq!(site.put(vec![shard(2)]).await, Err(SiteError::Superseded));
    assert_eq!(site.delete(vec![id(1)]).await, Err(SiteError::Superseded));
    assert_eq!(site.write_slot(slot(1), content(2, b"two")).await, Err(SiteError::Superseded));
    assert_eq!(site.wipe_superseded(slot(1)).await, Err(SiteError::Superseded));
    assert_eq!(site.get(id(1)).await, Ok(shard(1)));
    assert_eq!(site.read_slot(slot(1)).await, Ok(content(1, b"one")));
}

/// Puts run while the epoch rises: of those under the lower one, all that is
/// acknowledged, ever, is there when the raise returns.
async fn a_raise_comes_after_all_that_is_acknowledged_under_a_lower_epoch(site: Arc<dyn Site>) {
    site.raise(fence(1)).await.unwrap();
    let puts: Vec<_> = (0..64)
        .map(|n| {
            let site = Arc::clone(&site);
            tokio::spawn(async move { (id(n), put_under(site.as_ref(), 1, n).await) })
        })
        .collect();
    put_under(site.as_ref(), 1, 100).await.unwrap();
    site.raise(fence(2)).await.unwrap();
    let there = site.list(RecordKind::Shard, None, 1000).await.unwrap();
    let there: BTreeSet<_> = there.into_iter().map(|line| line.id).collect();
    for put in puts {
        match put.await.unwrap() {
            (id, Ok(_)) => assert!(there.contains(&id), "{id} was acknowledged and is not there"),
            (_, Err(error)) => assert_eq!(error, SiteError::Superseded),
        }
    }
    assert!(there.contains(&id(100)));
    let none = record(RecordKind::Shard, 101, Vec::new());
    assert_eq!(site.change_under(fence(1), Change::Put(vec![none])).await, Err(SiteError::Superseded));
}
