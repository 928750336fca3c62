//! The story of a put, and that no effect stands without its leaf.

use coffer_catalog::{
    BucketError, BucketRow, Catalog, CatalogError, CommitError, NewChallenges, NewReservation, TombstoneError,
};
use coffer_model::{BucketId, BucketName, ObjectId, RecordId, ResidencyPolicy, TenantId};

use crate::sample::{
    BUCKET, TENANT, bucket, delete, fresh, key, leaf, manifest, object_key, path, put, reservation,
    tombstone, version,
};

#[tokio::test]
async fn a_put_takes_its_reservation_with_it_and_reads_back_whole() {
    let (_folder, catalog) = fresh().await;
    let new = reservation(1, "a");
    let reserved = catalog.reserve(new.clone(), leaf("intent")).await.unwrap();
    assert_eq!((reserved.order, reserved.object, reserved.audit_seq), (1, new.object, 1));
    let waiting = catalog.reservations().await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].version, waiting[0].order, &waiting[0].sites), (new.version, 1, &new.sites));
    assert_eq!(catalog.latest(BUCKET, &new.key).await.unwrap(), None);

    let row = manifest(&new, reserved);
    assert_eq!(catalog.commit(row.clone(), leaf("outcome")).await.unwrap(), 2);
    assert_eq!(catalog.reservations().await.unwrap(), []);
    assert_eq!(catalog.latest(BUCKET, &new.key).await.unwrap().as_ref(), Some(&row));
    assert_eq!(catalog.version(new.version).await.unwrap(), Some(row));
}

/// Turns a good row into a bad one.
type Spoil = &'static dyn Fn(&mut coffer_catalog::ManifestRow);

#[tokio::test]
async fn a_commit_that_fails_leaves_neither_leaf_nor_version() {
    let (_folder, catalog) = fresh().await;
    let new = reservation(1, "a");
    let reserved = catalog.reserve(new.clone(), leaf("intent")).await.unwrap();
    let before = (catalog.counts().await.unwrap(), catalog.reservations().await.unwrap());
    let good = manifest(&new, reserved);
    let spoil: [(&str, Spoil); 6] = [
        ("tenant", &|row| row.manifest.tenant = TenantId::from_bytes([1; 16])),
        ("bucket", &|row| row.manifest.bucket = BucketId::from_bytes([1; 16])),
        ("key", &|row| row.manifest.key = object_key("b")),
        ("object", &|row| row.manifest.object = ObjectId::from_bytes([1; 16])),
        ("order", &|row| row.manifest.order += 1),
        ("record", &|row| row.record = RecordId::from_bytes([1; 16])),
    ];
    for (field, spoil) in spoil {
        let mut row = good.clone();
        spoil(&mut row);
        let refused = catalog.commit(row, leaf("outcome")).await;
        assert!(matches!(refused, Err(CommitError::Mismatch(named)) if named == field), "{field}");
    }
    // Fails late, after the reservation was removed inside the transaction.
    let mut row = good.clone();
    row.manifest.size = u64::MAX;
    let refused = catalog.commit(row, leaf("outcome")).await;
    assert!(matches!(refused, Err(CommitError::Catalog(CatalogError::TooLarge("size")))));
    assert_eq!((catalog.counts().await.unwrap(), catalog.reservations().await.unwrap()), before);
    catalog.commit(good, leaf("outcome")).await.unwrap();
}

#[tokio::test]
async fn a_put_whose_reservation_was_swept_cannot_commit() {
    let (_folder, catalog) = fresh().await;
    let new = reservation(1, "a");
    let reserved = catalog.reserve(new.clone(), leaf("intent")).await.unwrap();
    assert_eq!(catalog.abandon(new.version, leaf("failed")).await.unwrap(), 2);
    let late = catalog.commit(manifest(&new, reserved), leaf("outcome")).await;
    assert!(matches!(late, Err(CommitError::NoReservation)));
    let again = catalog.abandon(new.version, leaf("failed")).await;
    assert!(matches!(again, Err(CatalogError::NoReservation)));
    assert_eq!(catalog.log_size().await.unwrap(), 3);
    assert_eq!(catalog.latest(BUCKET, &new.key).await.unwrap(), None);
}

#[tokio::test]
async fn a_put_under_a_policy_that_was_changed_is_neither_reserved_nor_committed() {
    let (_folder, catalog) = fresh().await;
    let (under_way, late) = (reservation(1, "a"), reservation(2, "a"));
    let reserved = catalog.reserve(under_way.clone(), leaf("intent")).await.unwrap();
    let record = RecordId::from_bytes([0xbc; 16]);
    let changed = BucketRow { record, ..bucket(BUCKET, "first") };
    catalog.set_bucket_policy(changed, leaf("policy")).await.unwrap();
    let before = (catalog.counts().await.unwrap(), catalog.reservations().await.unwrap());
    let refused = catalog.reserve(late.clone(), leaf("intent")).await;
    assert!(matches!(refused, Err(CatalogError::PolicyChanged)), "{refused:?}");
    let row = manifest(&under_way, reserved);
    let commit = async |under| {
        catalog.commit_under(row.clone(), Some(under), NewChallenges::default(), leaf("outcome")).await
    };
    let refused = commit(under_way.under).await;
    assert!(matches!(refused, Err(CommitError::Catalog(CatalogError::PolicyChanged))), "{refused:?}");
    assert_eq!((catalog.counts().await.unwrap(), catalog.reservations().await.unwrap()), before);
    // Whoever has looked at the new policy goes on under it.
    commit(record).await.unwrap();
    catalog.reserve(NewReservation { under: record, ..late }, leaf("intent")).await.unwrap();
}

#[tokio::test]
async fn versions_of_one_key_share_their_object_and_a_version_id_is_taken_once() {
    let (_folder, catalog) = fresh().await;
    let first = put(&catalog, 1, "a").await;
    let second = put(&catalog, 2, "a").await;
    assert_eq!(first.manifest.object, second.manifest.object);
    assert_eq!(catalog.latest(BUCKET, &object_key("a")).await.unwrap(), Some(second));
    for number in [1, 3] {
        let _ = catalog.reserve(reservation(number, "b"), leaf("intent")).await;
        let size = catalog.log_size().await.unwrap();
        let twice = catalog.reserve(reservation(number, "b"), leaf("intent")).await;
        assert!(matches!(twice, Err(CatalogError::VersionTaken)), "{number}");
        assert_eq!(catalog.log_size().await.unwrap(), size);
    }
}

#[tokio::test]
async fn the_newest_is_what_was_reserved_last_not_what_was_committed_last() {
    let (_folder, catalog) = fresh().await;
    let (one, two) = (reservation(1, "a"), reservation(2, "a"));
    let first = catalog.reserve(one.clone(), leaf("intent")).await.unwrap();
    let second = catalog.reserve(two.clone(), leaf("intent")).await.unwrap();
    catalog.commit(manifest(&two, second), leaf("outcome")).await.unwrap();
    catalog.commit(manifest(&one, first), leaf("outcome")).await.unwrap();
    let latest = catalog.latest(BUCKET, &one.key).await.unwrap().unwrap();
    assert_eq!(latest.manifest.version, two.version);
}

#[tokio::test]
async fn no_order_is_given_twice_over_abandoned_puts_and_reopening() {
    let (folder, mut catalog) = fresh().await;
    let mut last = 0;
    for number in 0..12 {
        let reserved = catalog.reserve(reservation(number, "a"), leaf("intent")).await.unwrap();
        assert!(reserved.order > last);
        last = reserved.order;
        if number % 2 == 0 {
            catalog.abandon(version(number), leaf("failed")).await.unwrap();
        }
        if number % 3 == 0 {
            catalog.close().await;
            catalog = Catalog::open(path(folder.path()), key(1), TENANT).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_bucket_that_is_unknown_taken_or_in_use_is_refused_without_a_leaf() {
    let (_folder, catalog) = fresh().await;
    let other = BucketId::from_bytes([0xb1; 16]);
    let taken = [bucket(other, "first"), bucket(BUCKET, "second")];
    for row in taken {
        assert!(matches!(catalog.insert_bucket(row, leaf("x")).await, Err(BucketError::NameTaken)));
    }
    let mut stray = reservation(1, "a");
    stray.bucket = other;
    assert!(matches!(catalog.reserve(stray, leaf("x")).await, Err(CatalogError::NoBucket)));
    assert!(matches!(catalog.remove_bucket(other, leaf("x")).await, Err(BucketError::Missing)));
    assert_eq!(catalog.log_size().await.unwrap(), 1);

    catalog.reserve(reservation(1, "a"), leaf("intent")).await.unwrap();
    assert!(matches!(catalog.remove_bucket(BUCKET, leaf("x")).await, Err(BucketError::NotEmpty)));
    catalog.abandon(version(1), leaf("failed")).await.unwrap();
    let row = put(&catalog, 2, "a").await;
    assert!(matches!(catalog.remove_bucket(BUCKET, leaf("x")).await, Err(BucketError::NotEmpty)));
    delete(&catalog, &row).await;
    assert_eq!(catalog.remove_bucket(BUCKET, leaf("gone")).await.unwrap(), 6);
    assert_eq!(catalog.bucket(&BucketName::new("first").unwrap()).await.unwrap(), None);
    assert_eq!(catalog.bucket_by_id(BUCKET).await.unwrap(), None);
    assert_eq!(catalog.version(row.manifest.version).await.unwrap(), Some(row));
}

#[tokio::test]
async fn a_removed_bucket_leaves_its_policy_and_nothing_of_one_that_is_there() {
    let (folder, catalog) = fresh().await;
    assert_eq!(catalog.removed_policy(BUCKET).await.unwrap(), None);
    let policy = bucket(BUCKET, "first").policy;
    let narrow = ResidencyPolicy { allow: vec!["DE".parse().unwrap()], ..policy };
    let row = BucketRow { policy: narrow.clone(), ..bucket(BUCKET, "first") };
    catalog.set_bucket_policy(row, leaf("policy")).await.unwrap();
    catalog.remove_bucket(BUCKET, leaf("gone")).await.unwrap();
    catalog.close().await;
    let catalog = Catalog::open(path(folder.path()), key(1), TENANT).await.unwrap();
    assert_eq!(catalog.removed_policy(BUCKET).await.unwrap(), Some(narrow.clone()));
    assert_eq!(catalog.removed_policies().await.unwrap(), [(BUCKET, narrow)]);
    for inline in [true, false] {
        assert!(!catalog.has_versions(BUCKET, inline).await.unwrap());
    }
}

#[tokio::test]
async fn a_tombstone_hides_every_older_version_and_a_newer_put_shows_again() {
    let (_folder, catalog) = fresh().await;
    let first = put(&catalog, 1, "a").await;
    let second = put(&catalog, 2, "a").await;
    delete(&catalog, &second).await;
    assert_eq!(catalog.latest(BUCKET, &object_key("a")).await.unwrap(), None);
    assert_eq!(catalog.list(BUCKET, b"", None, 10).await.unwrap(), []);
    assert_eq!(catalog.version(first.manifest.version).await.unwrap(), Some(first.clone()));

    for row in [&first, &second] {
        let again = catalog.tombstone(row.manifest.version, tombstone(row), leaf("x")).await;
        assert!(matches!(again, Err(TombstoneError::Missing)));
    }
    let third = put(&catalog, 3, "a").await;
    assert_eq!(third.manifest.object, first.manifest.object);
    assert_eq!(catalog.latest(BUCKET, &object_key("a")).await.unwrap(), Some(third));
}

#[tokio::test]
async fn a_put_that_was_under_way_during_the_deletion_stays_visible() {
    let (_folder, catalog) = fresh().await;
    let seen = put(&catalog, 1, "a").await;
    let newer = reservation(2, "a");
    let reserved = catalog.reserve(newer.clone(), leaf("intent")).await.unwrap();
    delete(&catalog, &seen).await;
    catalog.commit(manifest(&newer, reserved), leaf("outcome")).await.unwrap();
    let latest = catalog.latest(BUCKET, &object_key("a")).await.unwrap().unwrap();
    assert_eq!(latest.manifest.version, newer.version);
}

#[tokio::test]
async fn a_tombstone_of_another_object_or_of_the_future_is_refused_without_a_leaf() {
    let (_folder, catalog) = fresh().await;
    let row = put(&catalog, 1, "a").await;
    let good = tombstone(&row);
    let bad = [
        ("version", coffer_catalog::TombstoneRow { version: version(9), ..good.clone() }),
        ("object", coffer_catalog::TombstoneRow { object: ObjectId::from_bytes([1; 16]), ..good.clone() }),
        ("bucket", coffer_catalog::TombstoneRow { bucket: BucketId::from_bytes([1; 16]), ..good.clone() }),
        ("order", coffer_catalog::TombstoneRow { order: 0, ..good.clone() }),
        ("order", coffer_catalog::TombstoneRow { order: 2, ..good.clone() }),
    ];
    for (field, bad) in bad {
        let refused = catalog.tombstone(row.manifest.version, bad, leaf("x")).await;
        assert!(matches!(refused, Err(TombstoneError::Mismatch(named)) if named == field), "{field}");
    }
    let unknown = catalog.tombstone(version(9), good, leaf("x")).await;
    assert!(matches!(unknown, Err(TombstoneError::Missing)));
    assert_eq!(catalog.log_size().await.unwrap(), 3);
    assert_eq!(catalog.latest(BUCKET, &object_key("a")).await.unwrap(), Some(row));
}

#[tokio::test]
async fn a_bucket_that_is_leaving_takes_no_put_and_one_that_takes_one_does_not_leave() {
    let (_folder, catalog) = fresh().await;
    catalog.reserve(reservation(1, "key"), leaf("intent")).await.unwrap();
    let early = catalog.begin_bucket_change(BUCKET, b"removal".to_vec(), true, leaf("no")).await;
    assert!(matches!(early, Err(BucketError::NotEmpty)));
    assert_eq!(catalog.bucket_changes().await.unwrap(), []);
    catalog.abandon(version(1), leaf("failed")).await.unwrap();

    catalog.begin_bucket_change(BUCKET, b"removal".to_vec(), true, leaf("intent")).await.unwrap();
    let late = catalog.reserve(reservation(2, "key"), leaf("intent")).await;
    assert!(matches!(late, Err(CatalogError::Leaving)));
    assert_eq!(catalog.bucket_changes().await.unwrap(), [(BUCKET, b"removal".to_vec())]);
    catalog.drop_bucket_change(BUCKET, leaf("failed")).await.unwrap();
    catalog.reserve(reservation(2, "key"), leaf("intent")).await.unwrap();
    catalog.abandon(version(2), leaf("failed")).await.unwrap();

    catalog.begin_bucket_change(BUCKET, b"removal".to_vec(), true, leaf("intent")).await.unwrap();
    catalog.remove_bucket(BUCKET, leaf("done")).await.unwrap();
    assert_eq!(catalog.bucket_changes().await.unwrap(), [], "it is over");
}

#[tokio::test]
async fn a_change_that_is_entered_is_over_and_another_bucket_s_is_not() {
    let (_folder, catalog) = fresh().await;
    let (other, third) = (BucketId::from_bytes([9; 16]), BucketId::from_bytes([8; 16]));
    for id in [BUCKET, other, third] {
        catalog.begin_bucket_change(id, b"change".to_vec(), false, leaf("intent")).await.unwrap();
    }
    catalog.insert_bucket(bucket(other, "another"), leaf("done")).await.unwrap();
    catalog.set_bucket_policy(bucket(BUCKET, "first"), leaf("done")).await.unwrap();
    assert_eq!(catalog.bucket_changes().await.unwrap(), [(third, b"change".to_vec())]);
}
