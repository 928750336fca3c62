//! Listings: bytewise, by prefix, by page.

use coffer_model::{BucketId, ObjectKey, Timestamp};

use crate::sample::{BUCKET, delete, fresh, keys, leaf, manifest, put, reservation};

#[tokio::test]
async fn pages_with_a_prefix_join_to_the_whole_in_bytewise_order() {
    let (_folder, catalog) = fresh().await;
    let mut names: Vec<String> = (0..40).map(|i| format!("dir/{:02}", i * 7 % 40)).collect();
    names.extend(["dir", "dir.", "dir0", "dis", "a", "é", "dir/"].map(str::to_owned));
    for (number, name) in (0..).zip(&names) {
        put(&catalog, number, name).await;
    }
    let mut expected: Vec<&str> =
        names.iter().map(String::as_str).filter(|n| n.starts_with("dir/")).collect();
    expected.sort_unstable();
    let mut listed = Vec::new();
    let mut after: Option<ObjectKey> = None;
    loop {
        let page = catalog.list(BUCKET, b"dir/", after.as_ref(), 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        listed.extend(page.into_iter().map(|row| row.key.to_string()));
    }
    assert_eq!(listed, expected);
    let mut all: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
    all.sort_unstable();
    let listed = catalog.list(BUCKET, b"", None, 1000).await.unwrap();
    assert!(listed.iter().map(|row| row.key.as_bytes()).eq(all));
}

#[tokio::test]
async fn keys_of_high_bytes_are_listed_too() {
    let (_folder, catalog) = fresh().await;
    let high: Vec<Vec<u8>> = vec![vec![0xfe, 0xff], vec![0xff], vec![0xff, 0xff], vec![0xff; 1024]];
    for (number, bytes) in (0..).zip(&high) {
        let mut new = reservation(number, "x");
        new.key = ObjectKey::new(bytes.clone()).unwrap();
        let reserved = catalog.reserve(new.clone(), leaf("intent")).await.unwrap();
        catalog.commit(manifest(&new, reserved), leaf("outcome")).await.unwrap();
    }
    assert_eq!(catalog.list(BUCKET, b"", None, 10).await.unwrap().len(), 4);
    assert_eq!(catalog.list(BUCKET, &[0xff], None, 10).await.unwrap().len(), 3);
    assert_eq!(catalog.list(BUCKET, &[0xfe, 0xff], None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_deleted_or_only_reserved_or_lies_elsewhere_is_not_listed() {
    let (_folder, catalog) = fresh().await;
    put(&catalog, 1, "kept").await;
    let gone = put(&catalog, 2, "gone").await;
    delete(&catalog, &gone).await;
    catalog.reserve(reservation(3, "reserved"), leaf("intent")).await.unwrap();
    assert_eq!(keys(&catalog, b"").await, ["kept"]);
    let other = BucketId::from_bytes([1; 16]);
    assert!(catalog.list(other, b"", None, 10).await.unwrap().is_empty());
    assert!(catalog.list(BUCKET, b"", None, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn facts_are_kept_apart_by_kind_and_replaced_by_id() {
    let (_folder, catalog) = fresh().await;
    catalog.put_fact("principal", [2; 16], b"second".to_vec()).await.unwrap();
    catalog.put_fact("principal", [1; 16], b"old".to_vec()).await.unwrap();
    catalog.put_fact("principal", [1; 16], b"new".to_vec()).await.unwrap();
    catalog.put_fact("hold", [1; 16], vec![]).await.unwrap();
    let principals = catalog.facts("principal").await.unwrap();
    assert_eq!(principals, [([1; 16], b"new".to_vec()), ([2; 16], b"second".to_vec())]);
    assert_eq!(catalog.facts("hold").await.unwrap(), [([1; 16], vec![])]);
    assert!(catalog.facts("none").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_moment_shows_what_was_newest_then_and_neither_later_versions_nor_later_tombstones() {
    let (_folder, catalog) = fresh().await;
    let before = Timestamp(1_700_000_000_000_000_000);
    let kept = put(&catalog, 10, "kept").await;
    let old = put(&catalog, 11, "rewritten").await;
    let new = put(&catalog, 30, "rewritten").await;
    let gone = put(&catalog, 12, "gone").await;
    put(&catalog, 31, "later").await;
    delete(&catalog, &gone).await;
    let at = |number: u64| Timestamp(before.0 + number);
    let key = |name: &str| ObjectKey::new(name.as_bytes()).unwrap();
    let shown = async |name: &str, moment| {
        let row = catalog.latest_at(BUCKET, &key(name), moment).await.unwrap();
        row.map(|row| row.manifest.version)
    };
    assert_eq!(shown("rewritten", at(10)).await, None);
    assert_eq!(shown("rewritten", at(11)).await, Some(old.manifest.version));
    assert_eq!(shown("rewritten", at(29)).await, Some(old.manifest.version));
    assert_eq!(shown("rewritten", at(30)).await, Some(new.manifest.version));
    assert_eq!(shown("gone", at(20)).await, Some(gone.manifest.version));
    // The tombstone of the sample is of 1.8e18.
    assert_eq!(shown("gone", Timestamp(1_799_999_999_999_999_999)).await, Some(gone.manifest.version));
    assert_eq!(shown("gone", Timestamp(1_800_000_000_000_000_000)).await, None);
    assert_eq!(shown("gone", Timestamp(u64::MAX)).await, None);
    let list = async |prefix: &[u8], after: Option<&ObjectKey>, most, moment| {
        let rows = catalog.list_at(BUCKET, prefix, after, most, moment).await.unwrap();
        rows.into_iter().map(|row| (row.key.to_string(), row.version)).collect::<Vec<_>>()
    };
    let then = list(b"", None, 10, at(20)).await;
    let versions = [("gone", &gone), ("kept", &kept), ("rewritten", &old)];
    assert_eq!(then, versions.map(|(name, row)| (name.to_owned(), row.manifest.version)));
    assert_eq!(list(b"", Some(&key("gone")), 1, at(20)).await, then[1..2]);
    assert_eq!(list(b"k", None, 10, at(20)).await, then[1..2]);
    assert!(list(b"", None, 10, Timestamp(1)).await.is_empty());
}
