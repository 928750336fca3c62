//! Many callers at once: commits are grouped, and nobody notices but the disk.

use std::collections::BTreeSet;

use coffer_catalog::CatalogError;

use crate::sample::{fresh, leaf, reservation, version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_concurrent_reserves_get_distinct_orders_and_contiguous_leaves() {
    let (_folder, catalog) = fresh().await;
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let catalog = catalog.clone();
            let new = reservation(number, &format!("key-{}", number % 7));
            tokio::spawn(async move { catalog.reserve(new, leaf(&format!("intent {number}"))).await })
        })
        .collect();
    let (mut orders, mut leaves, mut objects) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (number, call) in calls.into_iter().enumerate() {
        let reserved = call.await.unwrap().unwrap();
        orders.insert(reserved.order);
        leaves.insert(reserved.audit_seq);
        objects.insert(reserved.object);
        let body = catalog.leaves(reserved.audit_seq, 1).await.unwrap();
        assert_eq!(body, [format!("intent {number}").into_bytes()]);
    }
    assert!(orders.into_iter().eq(1..=200));
    assert!(leaves.into_iter().eq(1..=200));
    assert_eq!(objects.len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_fails_takes_none_of_its_group_with_it() {
    let (_folder, catalog) = fresh().await;
    let calls: Vec<_> = (0..100)
        .map(|number| {
            let catalog = catalog.clone();
            tokio::spawn(async move {
                match number % 2 {
                    0 => catalog.append_leaf(leaf(&format!("good {number}"))).await,
                    _ => catalog.abandon(version(number), leaf("bad")).await,
                }
            })
        })
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        match call.await.unwrap() {
            Ok(_) => assert_eq!(number % 2, 0),
            Err(error) => assert!(matches!(error, CatalogError::NoReservation) && number % 2 == 1),
        }
    }
    let leaves = catalog.leaves(1, 1000).await.unwrap();
    assert_eq!(leaves.len(), 50);
    assert!(leaves.iter().all(|body| body.starts_with(b"good")));
}

#[tokio::test]
async fn an_answer_that_nobody_waits_for_does_not_take_the_change_back() {
    let (_folder, catalog) = fresh().await;
    let call = tokio::spawn({
        let catalog = catalog.clone();
        async move { catalog.append_leaf(leaf("sent")).await }
    });
    // One turn of the scheduler: the operation is in the queue.
    tokio::task::yield_now().await;
    call.abort();
    let _ = call.await;
    assert_eq!(catalog.append_leaf(leaf("after")).await.unwrap(), 2);
}

#[tokio::test]
async fn leaves_read_back_in_order_and_no_more_are_safe_than_there_are() {
    let (_folder, catalog) = fresh().await;
    for text in ["one", "two", "three"] {
        catalog.append_leaf(leaf(text)).await.unwrap();
    }
    assert_eq!(catalog.leaves(1, 2).await.unwrap(), [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(catalog.leaf_hashes(2, usize::MAX).await.unwrap(), [leaf("two").hash, leaf("three").hash]);
    assert!(catalog.leaves(u64::MAX, 10).await.unwrap().is_empty());
    let beyond = catalog.set_replicated_size(5).await;
    assert!(matches!(beyond, Err(CatalogError::BeyondLog { size: 4, claimed: 5 })));
    catalog.set_replicated_size(3).await.unwrap();
    catalog.set_replicated_size(2).await.unwrap();
    assert_eq!(catalog.replicated_size().await.unwrap(), 3);
}
