//! The SDK against a service that fails, lies and goes back in time: a real
//! socket, real mutual TLS, and answers that no honest service gives.
#![expect(clippy::unwrap_used, reason = "a test; clippy knows only the functions marked as tests")]

mod sdk_faults {
    pub(crate) mod double;
    mod ways;
}

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use coffer_client::{CallError, GetError, LogError, LogWatch, PutError};
use coffer_model::{BucketName, ObjectKey};
use sdk_faults::double::{Double, Fault, ORIGIN, signing_key};

fn bucket() -> BucketName {
    BucketName::new("documents").unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name.as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_early_goes_on_too_long_or_was_altered_is_never_whole() {
    for (fault, whole) in [
        (Fault::None, true),
        (Fault::BodyEndsEarly, false),
        (Fault::BodyTooLong, false),
        (Fault::BodyAltered, false),
    ] {
        let double = Double::start(fault).await;
        let (_, body) = double.client().await.get(&bucket(), &key("a"), None).await.unwrap();
        let read = body.collect(1 << 20).await;
        assert_eq!(read.is_ok(), whole, "{fault:?}: {read:?}");
        if fault == Fault::BodyAltered {
            assert!(matches!(read, Err(GetError::Digest)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_larger_than_expected_is_refused_before_it_is_read() {
    let double = Double::start(Fault::None).await;
    let (_, body) = double.client().await.get(&bucket(), &key("a"), None).await.unwrap();
    assert!(matches!(body.collect(3).await, Err(GetError::TooLarge { limit: 3, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_never_ends_the_stream_as_if_it_were_whole() {
    let double = Double::start(Fault::None).await;
    let source = futures::stream::iter([Ok(Bytes::from_static(b"half")), Err(io::Error::other("disk"))]);
    let put = double.client().await.put(&bucket(), &key("a"), BTreeMap::new(), source).await;
    assert!(matches!(put, Err(PutError::Source(_))));
    assert_eq!(double.state.whole_puts.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_from_memory_outlives_an_outage_and_arrives_whole() {
    for size in [100, 64 << 10, 3 << 20] {
        let double = Double::start(Fault::PutUnavailableTwice).await;
        let client = double.client().await;
        let body = Bytes::from(vec![5; size]);
        let put = client.put_bytes(&bucket(), &key("a"), &BTreeMap::new(), body).await.unwrap();
        assert_eq!((put.object.size, put.audit_seq), (size as u64, 9));
        assert_eq!(double.state.repeated.load(Ordering::SeqCst), 1, "only a repetition says that it is one");
        assert_eq!(double.state.whole_puts.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_whose_pages_do_not_move_on_ends_with_an_error() {
    let double = Double::start(Fault::PagesRepeat).await;
    let listed = double.client().await.list(&bucket(), b"").await;
    assert!(matches!(listed, Err(CallError::Answer(_))), "{listed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_grew_is_accepted_and_one_that_went_back_is_refused() {
    let double = Double::start(Fault::None).await;
    let client = double.client().await;
    let mut watch = LogWatch::new(ORIGIN.to_owned(), signing_key().verifying_key(), None).unwrap();
    double.state.leaves.store(5, Ordering::SeqCst);
    assert_eq!(watch.advance(&client).await.unwrap().size, 5);
    double.state.leaves.store(8, Ordering::SeqCst);
    let grown = watch.advance(&client).await.unwrap();
    assert_eq!(grown.size, 8);
    assert_eq!(watch.leaf(&client, 2, &grown).await.unwrap().leaf, b"leaf 2");
    let remembered = watch.remembered().unwrap().to_owned();
    double.state.leaves.store(6, Ordering::SeqCst);
    let back = watch.advance(&client).await;
    assert!(matches!(back, Err(LogError::WentBack { remembered: 8, .. })), "{back:?}");
    assert_eq!(watch.remembered(), Some(remembered.as_str()), "the memory must survive the lie");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_another_past_is_refused() {
    let double = Double::start(Fault::None).await;
    let client = double.client().await;
    let mut watch = LogWatch::new(ORIGIN.to_owned(), signing_key().verifying_key(), None).unwrap();
    double.state.leaves.store(5, Ordering::SeqCst);
    watch.advance(&client).await.unwrap();
    double.state.forked.store(true, Ordering::SeqCst);
    double.state.leaves.store(9, Ordering::SeqCst);
    assert!(matches!(watch.advance(&client).await, Err(LogError::WentBack { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_that_is_not_in_the_log_is_not_believed() {
    let double = Double::start(Fault::LeafForged).await;
    let client = double.client().await;
    let mut watch = LogWatch::new(ORIGIN.to_owned(), signing_key().verifying_key(), None).unwrap();
    double.state.leaves.store(7, Ordering::SeqCst);
    let checkpoint = watch.advance(&client).await.unwrap();
    let leaf = watch.leaf(&client, 3, &checkpoint).await;
    assert!(matches!(leaf, Err(LogError::Leaf { index: 3, .. })), "{leaf:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_another_deployment_is_not_talked_to() {
    let (ours, theirs) = (Double::start(Fault::None).await, Double::start(Fault::None).await);
    assert!(ours.try_connect(&theirs.endpoint).await.is_err());
}
