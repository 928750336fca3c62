//! What a repair asks and changes: pages of versions, manifests that take the
//! place of others, counts that go to zero, policies.

use coffer_catalog::{BucketError, ReplaceError};
use coffer_model::{Layout, RecordId, SiteId, VersionId};

use crate::sample::{BUCKET, bucket, delete, fresh, leaf, put, sixteen, version};

#[tokio::test]
async fn every_version_comes_once_in_order_hidden_or_not_whatever_the_page() {
    let (_folder, catalog) = fresh().await;
    for number in [5, 1, 9, 3, 7] {
        put(&catalog, number, &format!("key-{number}")).await;
    }
    let hidden = put(&catalog, 11, "key-11").await;
    delete(&catalog, &hidden).await;
    for limit in [1, 2, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = catalog.versions(after, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.manifest.manifest.version);
            found.extend(page.into_iter().map(|row| (row.manifest.manifest.version, row.hidden)));
        }
        let wanted: Vec<(VersionId, bool)> =
            [1, 3, 5, 7, 9, 11].map(|number| (version(number), number == 11)).to_vec();
        assert_eq!(found, wanted, "limit {limit}");
    }
    let records = catalog.manifest_records(Some(version(7)), 100).await.unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1], (version(11), hidden.record));
}

#[tokio::test]
async fn a_newer_manifest_takes_the_place_of_the_one_that_is_named_and_of_no_other() {
    let (_folder, catalog) = fresh().await;
    let old = put(&catalog, 1, "key").await;
    let mut new = old.clone();
    new.record = RecordId::from_bytes(sixteen(77));
    new.manifest.revision = 1;
    new.reduced = 0;
    if let Layout::Striped { sites, .. } = &mut new.manifest.layout {
        sites[0] = SiteId::from_bytes([99; 16]);
    }
    let before = catalog.log_size().await.unwrap();
    let stale = catalog.replace_manifest(RecordId::from_bytes([1; 16]), new.clone(), leaf("no")).await;
    assert!(matches!(stale, Err(ReplaceError::Superseded)));
    assert_eq!(catalog.log_size().await.unwrap(), before, "no effect, no leaf");
    catalog.replace_manifest(old.record, new.clone(), leaf("moved")).await.unwrap();
    assert_eq!(catalog.version(version(1)).await.unwrap(), Some(new.clone()));
    let again = catalog.replace_manifest(old.record, new, leaf("again")).await;
    assert!(matches!(again, Err(ReplaceError::Superseded)));
    assert_eq!(catalog.log_size().await.unwrap(), before + 1);
}

#[tokio::test]
async fn what_is_short_is_listed_until_it_is_not() {
    let (_folder, catalog) = fresh().await;
    let row = put(&catalog, 1, "key").await;
    assert_eq!(catalog.reduced_versions(None, 10).await.unwrap().len(), 1);
    let stale = vec![(version(1), RecordId::from_bytes([1; 16]), 0)];
    catalog.set_reduced(stale, leaf("another record")).await.unwrap();
    assert_eq!(catalog.reduced_versions(None, 10).await.unwrap().len(), 1);
    catalog.set_reduced(vec![(version(1), row.record, 0)], leaf("whole")).await.unwrap();
    assert_eq!(catalog.reduced_versions(None, 10).await.unwrap(), vec![]);
}

#[tokio::test]
async fn another_policy_is_for_a_bucket_that_is_there() {
    let (_folder, catalog) = fresh().await;
    let mut row = bucket(BUCKET, "first");
    let seen_before = catalog.bucket(&row.name).await.unwrap().unwrap();
    row.policy.deny.clear();
    assert_ne!(seen_before.policy, row.policy);
    row.record = RecordId::from_bytes([5; 16]);
    catalog.set_bucket_policy(row.clone(), leaf("policy")).await.unwrap();
    assert_eq!(catalog.bucket_by_id(BUCKET).await.unwrap(), Some(row.clone()));
    let by_name = catalog.bucket(&row.name).await.unwrap();
    assert_eq!(by_name, Some(row.clone()), "nobody places by the policy that was");
    let renamed = coffer_catalog::BucketRow { name: coffer_model::BucketName::new("other").unwrap(), ..row };
    let missing = catalog.set_bucket_policy(renamed, leaf("no")).await;
    assert!(matches!(missing, Err(BucketError::Missing)));
}

#[tokio::test]
async fn a_bucket_that_was_read_before_shows_every_change_that_returned() {
    let (_folder, catalog) = fresh().await;
    let name = bucket(BUCKET, "first").name;
    let before = catalog.bucket(&name).await.unwrap().unwrap();
    assert_eq!(catalog.bucket(&name).await.unwrap().as_ref(), Some(&before), "kept");
    let mut row = before.clone();
    row.policy.deny = vec!["FR".parse().unwrap()];
    catalog.set_bucket_policy(row.clone(), leaf("policy")).await.unwrap();
    assert_eq!(catalog.bucket(&name).await.unwrap(), Some(row));
    catalog.remove_bucket(BUCKET, leaf("removed")).await.unwrap();
    assert_eq!(catalog.bucket(&name).await.unwrap(), None);
}
