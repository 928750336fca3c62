//! A catalogue that was lost and loaded again equals the old one in what matters.

use coffer_catalog::{Catalog, CatalogError, FactRow, Leaf, ManifestRow, RebuildBatch, TombstoneRow};
use coffer_model::{BucketId, ObjectId, RecordId, TenantId, VersionId};

use crate::sample::{
    BUCKET, TENANT, bucket, delete, fresh, key, leaf, object_key, path, put, reservation, tombstone,
};

async fn empty() -> (tempfile::TempDir, Catalog) {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::create(path(folder.path()), key(3), TENANT).await.unwrap();
    (folder, catalog)
}

/// A catalogue with versions, deletions and facts, and what sites would hold of it.
async fn original() -> (tempfile::TempDir, Catalog, RebuildBatch) {
    let (folder, catalog) = fresh().await;
    let (mut manifests, mut tombstones) = (Vec::new(), Vec::new());
    for number in 0..30 {
        let row = put(&catalog, number, &format!("key-{}", number % 11)).await;
        if number % 4 == 0 {
            delete(&catalog, &row).await;
            tombstones.push(tombstone(&row));
        }
        manifests.push(row);
    }
    catalog.put_fact("principal", [1; 16], b"body".to_vec()).await.unwrap();
    let bodies = catalog.leaves(0, 1000).await.unwrap();
    let hashes = catalog.leaf_hashes(0, 1000).await.unwrap();
    let leaves = bodies.into_iter().zip(hashes).map(|(body, hash)| Leaf { body, hash }).collect();
    let batch = RebuildBatch {
        buckets: vec![bucket(BUCKET, "first")],
        manifests,
        tombstones,
        leaves,
        facts: vec![FactRow { kind: "principal".to_owned(), id: [1; 16], body: b"body".to_vec() }],
        order_floor: 40,
    };
    (folder, catalog, batch)
}

async fn assert_same(old: &Catalog, new: &Catalog, manifests: &[ManifestRow]) {
    assert_eq!(new.counts().await.unwrap(), old.counts().await.unwrap());
    assert_eq!(new.buckets().await.unwrap(), old.buckets().await.unwrap());
    assert_eq!(new.leaves(0, 1000).await.unwrap(), old.leaves(0, 1000).await.unwrap());
    assert_eq!(new.leaf_hashes(0, 1000).await.unwrap(), old.leaf_hashes(0, 1000).await.unwrap());
    assert_eq!(new.facts("principal").await.unwrap(), old.facts("principal").await.unwrap());
    let list = |catalog: Catalog| async move { catalog.list(BUCKET, b"", None, 1000).await.unwrap() };
    assert_eq!(list(new.clone()).await, list(old.clone()).await);
    for row in manifests {
        let key = &row.manifest.key;
        assert_eq!(new.latest(BUCKET, key).await.unwrap(), old.latest(BUCKET, key).await.unwrap());
        assert_eq!(new.version(row.manifest.version).await.unwrap().as_ref(), Some(row));
    }
}

#[tokio::test]
async fn a_rebuilt_catalogue_equals_the_lost_one_and_gives_higher_orders() {
    let (_folder, old, batch) = original().await;
    let (_other, new) = empty().await;
    let manifests = batch.manifests.clone();
    new.load(batch).await.unwrap();
    assert_same(&old, &new, &manifests).await;
    let reserved = new.reserve(reservation(99, "key-1"), leaf("intent")).await.unwrap();
    assert_eq!(reserved.order, 41);
    assert_eq!(reserved.object, manifests[1].manifest.object);
}

#[tokio::test]
async fn batches_may_come_in_any_order_and_twice() {
    let (_folder, old, batch) = original().await;
    let (_other, new) = empty().await;
    let manifests = batch.manifests.clone();
    for _ in 0..2 {
        for tombstone in batch.tombstones.iter().rev() {
            let one = RebuildBatch { tombstones: vec![tombstone.clone()], ..RebuildBatch::default() };
            new.load(one).await.unwrap();
        }
        for row in batch.manifests.iter().rev() {
            let one = RebuildBatch { manifests: vec![row.clone()], ..RebuildBatch::default() };
            new.load(one).await.unwrap();
        }
        let rest = RebuildBatch {
            buckets: batch.buckets.clone(),
            facts: batch.facts.clone(),
            ..RebuildBatch::default()
        };
        new.load(rest).await.unwrap();
    }
    new.load(RebuildBatch { leaves: batch.leaves, ..RebuildBatch::default() }).await.unwrap();
    assert_same(&old, &new, &manifests).await;
    let reserved = new.reserve(reservation(99, "key-1"), leaf("intent")).await.unwrap();
    assert_eq!(reserved.order, 31, "above every order that was loaded");
}

#[tokio::test]
async fn a_batch_with_a_fault_leaves_nothing_of_itself() {
    let (_folder, _old, batch) = original().await;
    let (_other, new) = empty().await;
    let stranger = TenantId::from_bytes([1; 16]);
    let mut mixed = batch.clone();
    mixed.manifests[29].manifest.tenant = stranger;
    let refused = new.load(mixed).await;
    assert!(matches!(refused, Err(CatalogError::OtherTenant(found)) if found == stranger));
    let mut twice = batch.clone();
    twice.buckets.push(bucket(BucketId::from_bytes([2; 16]), "first"));
    assert!(matches!(new.load(twice).await, Err(CatalogError::BucketNameTwice(_))));
    let huge = RebuildBatch { order_floor: u64::MAX, ..batch };
    assert!(matches!(new.load(huge).await, Err(CatalogError::TooLarge("order"))));
    assert_eq!(new.counts().await.unwrap(), coffer_catalog::Counts::default());
}

#[tokio::test]
async fn two_objects_under_one_name_show_the_newest_that_is_not_hidden() {
    let (_folder, _old, batch) = original().await;
    let (_other, new) = empty().await;
    let first = batch.manifests[1].clone();
    let mut second = first.clone();
    second.manifest.object = ObjectId::from_bytes([0xee; 16]);
    second.manifest.version = VersionId::from_bytes([0xee; 16]);
    second.manifest.order = 500;
    let both = vec![first.clone(), second.clone()];
    new.load(RebuildBatch { buckets: batch.buckets, manifests: both, ..RebuildBatch::default() })
        .await
        .unwrap();
    let name = object_key("key-1");
    assert_eq!(new.latest(BUCKET, &name).await.unwrap().as_ref(), Some(&second));
    let grave = TombstoneRow { record: RecordId::from_bytes([0xdd; 16]), ..tombstone(&second) };
    new.load(RebuildBatch { tombstones: vec![grave], ..RebuildBatch::default() }).await.unwrap();
    assert_eq!(new.latest(BUCKET, &name).await.unwrap(), Some(first));
}

#[tokio::test]
async fn of_two_manifests_of_one_version_the_higher_revision_stands_in_whatever_order_they_come() {
    let (_folder, _old, batch) = original().await;
    let born = batch.manifests[1].clone();
    let mut moved = born.clone();
    moved.record = RecordId::from_bytes([0; 16]);
    moved.manifest.revision = 1;
    let mut again = moved.clone();
    again.record = RecordId::from_bytes([1; 16]);
    let version = born.manifest.version;
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let (_other, new) = empty().await;
        let rows = [&born, &moved, &again];
        for row in order.map(|i| rows[i].clone()) {
            new.load(RebuildBatch { manifests: vec![row], ..RebuildBatch::default() }).await.unwrap();
        }
        assert_eq!(new.version(version).await.unwrap().as_ref(), Some(&again), "{order:?}");
    }
}

#[tokio::test]
async fn of_two_manifests_that_hold_the_object_the_whole_one_stands_before_a_later_one_that_few_sites_have() {
    let (_folder, _old, batch) = original().await;
    for inline in [true, false] {
        let born = ManifestRow { inline, reduced: 0, ..batch.manifests[1].clone() };
        let mut left = ManifestRow { reduced: 1, record: RecordId::from_bytes([0; 16]), ..born.clone() };
        left.manifest.revision = 1;
        for rows in [[&born, &left], [&left, &born]] {
            let (_other, new) = empty().await;
            for row in rows {
                new.load(RebuildBatch { manifests: vec![row.clone()], ..RebuildBatch::default() })
                    .await
                    .unwrap();
            }
            let stands = new.version(born.manifest.version).await.unwrap().unwrap();
            assert_eq!(&stands, if inline { &born } else { &left }, "shards lie where the later one says");
        }
    }
}

#[tokio::test]
async fn rows_in_large_and_small_batches_show_the_same_whichever_came_first() {
    let (_folder, old, batch) = original().await;
    for round in 0..20_usize {
        let (_other, new) = empty().await;
        new.begin_loading(4).await.unwrap();
        new.load(RebuildBatch { buckets: batch.buckets.clone(), ..RebuildBatch::default() }).await.unwrap();
        // Turned by the round and cut into pieces of its length.
        let mut manifests = batch.manifests.clone();
        manifests.rotate_left(round * 7 % 30);
        let mut tombstones = batch.tombstones.clone();
        tombstones.rotate_left(round % 8);
        let late = tombstones.split_off(round % 9 % tombstones.len());
        new.load(RebuildBatch { tombstones, ..RebuildBatch::default() }).await.unwrap();
        for piece in manifests.chunks(1 + round * 2) {
            new.load(RebuildBatch { manifests: piece.to_vec(), ..RebuildBatch::default() }).await.unwrap();
        }
        new.load(RebuildBatch { tombstones: late, ..RebuildBatch::default() }).await.unwrap();
        for piece in batch.leaves.chunks(3) {
            new.load(RebuildBatch { leaves: piece.to_vec(), ..RebuildBatch::default() }).await.unwrap();
        }
        new.load(RebuildBatch { facts: batch.facts.clone(), ..RebuildBatch::default() }).await.unwrap();
        new.finish_loading().await.unwrap();
        assert_same(&old, &new, &batch.manifests).await;
    }
}

#[tokio::test]
async fn a_deletion_under_way_stays_until_its_own_tombstone_or_its_end() {
    let (_folder, catalog) = fresh().await;
    let row = put(&catalog, 1, "key").await;
    let grave = tombstone(&row);
    let other = RecordId::from_bytes([0xaa; 16]);
    catalog.reserve_deletion(grave.record, b"sealed".to_vec(), leaf("intent")).await.unwrap();
    catalog.reserve_deletion(other, b"other".to_vec(), leaf("intent")).await.unwrap();
    assert_eq!(catalog.latest(BUCKET, &object_key("key")).await.unwrap().as_ref(), Some(&row), "it shows");
    let mut pending = vec![(grave.record, b"sealed".to_vec()), (other, b"other".to_vec())];
    pending.sort();
    assert_eq!(catalog.deletions().await.unwrap(), pending);
    let leaves = catalog.log_size().await.unwrap();
    catalog.tombstone(row.manifest.version, grave, leaf("done")).await.unwrap();
    assert_eq!(catalog.deletions().await.unwrap(), [(other, b"other".to_vec())]);
    catalog.drop_deletion(other, leaf("done")).await.unwrap();
    assert_eq!(catalog.deletions().await.unwrap(), []);
    assert_eq!(catalog.log_size().await.unwrap(), leaves + 2, "each with its leaf");
}

#[tokio::test]
async fn orders_after_a_rebuild_go_on_far_above_and_the_catalogue_remembers_that_until_it_is_kept() {
    let (_folder, catalog) = fresh().await;
    assert_eq!(catalog.order_floor().await.unwrap(), None, "nothing was lost yet");
    let batch =
        RebuildBatch { buckets: vec![bucket(BUCKET, "first")], order_floor: 40, ..Default::default() };
    catalog.load(batch).await.unwrap();
    catalog.skip_orders(1000).await.unwrap();
    assert_eq!(catalog.order_floor().await.unwrap(), Some(1041));
    let given = catalog.reserve(reservation(1, "key"), leaf("intent")).await.unwrap();
    assert_eq!(given.order, 1041);
    assert_eq!(catalog.next_order().await.unwrap(), 1042, "it is told, and not given");
    assert_eq!(catalog.next_order().await.unwrap(), 1042);
    catalog.order_floor_kept().await.unwrap();
    assert_eq!(catalog.order_floor().await.unwrap(), None);
    assert!(matches!(catalog.skip_orders(u64::MAX).await, Err(CatalogError::TooLarge("order"))));
}
