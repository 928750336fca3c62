//! A bucket that keeps what is overwritten would keep every old key: it is
//! refused when the site is created, and by every write of a key slot.

use bytes::Bytes;
use coffer_model::{ScopeId, SlotId};
use coffer_regions::{Change, Fence, Site, SiteError, SlotContent};
use coffer_site::{BucketError, BucketSite};

use crate::{options, server};

fn content(generation: u64, body: &'static str) -> SlotContent {
    SlotContent { generation, body: Bytes::from_static(body.as_bytes()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_keeps_versions_is_refused_as_a_site() {
    let (_dir, server) = server().await;
    server.keep_versions();
    let refused = BucketSite::create(options(&server, "a", 1)).await.err().unwrap();
    assert!(matches!(refused, BucketError::Versioned), "{refused}");
    assert!(refused.to_string().contains("without versioning"), "it says what to do: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_slot_is_not_acknowledged_where_versions_are_kept_since_the_site_was_made() {
    let (_dir, server) = server().await;
    let site = BucketSite::create(options(&server, "a", 1)).await.unwrap();
    let (old, fresh) = (SlotId::from_bytes([1; 16]), SlotId::from_bytes([2; 16]));
    site.write_slot(old, content(1, "old keys")).await.unwrap();
    server.keep_versions();
    // One that is overwritten and one that is new; by the next process as well.
    let next = BucketSite::open(options(&server, "a", 1)).await.unwrap();
    for (generation, site) in [(2, &site), (3, &next)] {
        for slot in [old, fresh] {
            let written = site.write_slot(slot, content(generation, "new keys")).await;
            assert_eq!(written, Err(SiteError::ReadOnly), "{slot}");
        }
        assert!(site.answers(), "what it holds can be read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_learns_of_kept_versions_by_its_epoch_and_by_every_key_slot() {
    let (_dir, server) = server().await;
    let site = BucketSite::create(options(&server, "a", 1)).await.unwrap();
    let slot = SlotId::from_bytes([1; 16]);
    let owner = |epoch| Fence { scope: ScopeId::from_bytes([7; 16]), epoch };
    let write = |generation| Change::WriteSlot(slot, content(generation, "keys"));
    site.change_under(owner(1), write(1)).await.unwrap();
    server.keep_versions();
    assert_eq!(site.change_under(owner(1), write(2)).await, Err(SiteError::ReadOnly));
    assert_eq!(site.raise(owner(2)).await, Err(SiteError::ReadOnly));
    assert_eq!(site.change_under(owner(2), write(3)).await, Err(SiteError::ReadOnly));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refused_creation_leaves_is_no_site() {
    let (_dir, server) = server().await;
    server.keep_versions();
    let refused = BucketSite::create(options(&server, "a", 1)).await;
    assert!(matches!(refused, Err(BucketError::Versioned)));
    let opened = BucketSite::open(options(&server, "a", 1)).await;
    assert!(matches!(opened, Err(BucketError::NotASite)), "{:?}", opened.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_slot_that_was_refused_is_refused_when_it_is_written_again() {
    let (_dir, server) = server().await;
    let site = BucketSite::create(options(&server, "a", 1)).await.unwrap();
    let slot = SlotId::from_bytes([1; 16]);
    site.write_slot(slot, content(1, "old keys")).await.unwrap();
    server.keep_versions();
    for attempt in 0..3 {
        let written = site.write_slot(slot, content(2, "new keys")).await;
        assert_eq!(written, Err(SiteError::ReadOnly), "attempt {attempt}");
    }
}
