//! Pulls that break off, and go on where they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coffer_agent::{FetchError, ImageDigest};
use hyper::StatusCode;
use hyper::body::Bytes;

use super::picture::{Picture, archive};
use super::registry::{Answer, Served, status, streamed, typed};
use super::{Node, fetch};

/// An image whose layer does not fit into a few reads.
fn large() -> Picture {
    let mut state: u32 = 7;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    Picture::new(&[archive(&[("bin/site".into(), noise.take(600_000).collect())])], |_| {})
}

fn cut(layer: &[u8]) -> Answer {
    let half = Bytes::copy_from_slice(&layer[..layer.len() / 2]);
    let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    // After a moment, so that the half is on its way before the line breaks.
    let pieces = futures::stream::unfold(vec![Err(broken), Ok(half)], |mut left| async move {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        left.pop().map(|piece| (piece, left))
    });
    streamed("x", pieces)
}

/// Breaks off in the first layer, and then answers as `after` does.
async fn broken_once(
    picture: &Picture,
    after: impl Fn() -> Option<Answer> + Send + Sync + 'static,
) -> (Served, Node) {
    let (layer, times) = (picture.layer().to_vec(), AtomicUsize::new(0));
    let hex = ImageDigest::of(&layer).hex().to_owned();
    let registry = Served::odd(picture, move |seen| match seen.path.contains(&hex) {
        true if times.fetch_add(1, Ordering::SeqCst) == 0 => Some(cut(&layer)),
        true if seen.range.is_some() => after(),
        _ => None,
    })
    .await;
    let node = Node::asking(&[&registry.plain()]);
    let error = fetch(node.pull(&registry, picture).await);
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error:?}");
    assert_eq!(node.partials(), 1);
    (registry, node)
}

#[tokio::test]
async fn a_blob_that_broke_off_is_gone_on_with() {
    let picture = large();
    let (registry, node) = broken_once(&picture, || None).await;
    let pulled = node.pull(&registry, &picture).await.unwrap();
    assert!(pulled.came > 0 && pulled.came < picture.layer().len() as u64, "{pulled:?}");
    let ranges: Vec<String> = registry.seen().into_iter().filter_map(|seen| seen.range).collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    node.ready(&picture.at(&registry.host())).unwrap();
    assert_eq!(node.partials(), 0);
}

#[tokio::test]
async fn what_another_registry_made_up_does_not_stop_an_honest_one() {
    let picture = large();
    let hex = ImageDigest::of(picture.layer()).hex().to_owned();
    for made_up in [1, picture.layer().len()] {
        let (registry, node) = broken_once(&picture, || None).await;
        let partial = node.directory.path().join("layout/partial").join(&hex);
        std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(partial)
            .and_then(|mut file| std::io::Write::write_all(&mut file, &vec![b'x'; made_up]))
            .unwrap();
        let pulled = node.pull(&registry, &picture).await.unwrap();
        assert!(pulled.came >= picture.layer().len() as u64, "{pulled:?}");
        node.ready(&picture.at(&registry.host())).unwrap();
    }
}

#[tokio::test]
async fn a_registry_that_knows_no_parts_sends_the_whole_again() {
    let picture = large();
    let whole = picture.layer().to_vec();
    let (registry, node) = broken_once(&picture, move || Some(typed("x", &whole))).await;
    node.pull(&registry, &picture).await.unwrap();
    node.ready(&picture.at(&registry.host())).unwrap();
    let (registry, node) = broken_once(&picture, || Some(status(StatusCode::RANGE_NOT_SATISFIABLE))).await;
    node.pull(&registry, &picture).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_goes_on_elsewhere_or_with_something_else_is_refused_and_begun_anew() {
    let picture = large();
    let (registry, node) = broken_once(&picture, || {
        let mut answer = typed("x", b"elsewhere");
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        answer.headers_mut().insert("content-range", "bytes 0-8/9".parse().unwrap());
        Some(answer)
    })
    .await;
    assert!(matches!(fetch(node.pull(&registry, &picture).await), FetchError::Range));
    assert_eq!(node.partials(), 0);
    node.pull(&registry, &picture).await.unwrap();
}

#[tokio::test]
async fn what_is_there_is_not_asked_for_again_unless_it_was_spoiled() {
    let picture = Picture::of(b"true");
    let registry = Served::honest(&picture).await;
    let node = Node::asking(&[&registry.plain()]);
    node.pull(&registry, &picture).await.unwrap();
    let before = registry.seen().len();
    assert_eq!(node.pull(&registry, &picture).await.unwrap().came, 0);
    assert_eq!(registry.seen().len(), before);
    // Unless the pod wants the registry to be asked: then for the document alone.
    let asked = node.puller.pull(&picture.at(&registry.host()), None, true).await.unwrap();
    assert_eq!((asked.came, registry.seen().len()), (0, before + 1));
    let layer =
        node.directory.path().join("layout/blobs/sha256").join(ImageDigest::of(picture.layer()).hex());
    let spoiled = std::fs::OpenOptions::new().write(true).truncate(true).open(&layer);
    std::io::Write::write_all(&mut spoiled.unwrap(), b"spoiled").unwrap();
    assert_eq!(node.pull(&registry, &picture).await.unwrap().came, picture.layer().len() as u64);
    node.ready(&picture.at(&registry.host())).unwrap();
}

#[tokio::test]
async fn an_image_that_many_want_at_once_is_pulled_once() {
    let picture = large();
    let registry = Served::honest(&picture).await;
    let node = Arc::new(Node::asking(&[&registry.plain()]));
    let pulls = (0..8).map(|_| node.pull(&registry, &picture));
    for pulled in futures::future::join_all(pulls).await {
        pulled.unwrap();
    }
    assert_eq!((registry.asked_for("/manifests/"), registry.asked_for("/blobs/")), (1, 2));
}

#[tokio::test]
async fn images_that_share_a_layer_are_pulled_at_once_and_the_layer_once() {
    let shared = large();
    let pictures: Vec<Picture> = (0..4)
        .map(|number| {
            let mut picture = large();
            let manifest = String::from_utf8(picture.documents[0].1.clone()).unwrap();
            let other = manifest.replace(
                "\"schemaVersion\":2",
                &format!("\"annotations\":{{\"n\":\"{number}\"}},\"schemaVersion\":2"),
            );
            picture.documents[0].1 = other.into_bytes();
            picture.digest = ImageDigest::of(&picture.documents[0].1);
            picture
        })
        .collect();
    let registry = Served::honest(&shared).await;
    pull_at_once(&registry, &pictures).await;
    assert_eq!(registry.asked_for(ImageDigest::of(shared.layer()).hex()), 1);
}

#[tokio::test]
async fn more_images_than_there_are_places_are_pulled_one_after_the_other() {
    let pictures: Vec<Picture> = (0..9_u8).map(|number| Picture::of(&[number])).collect();
    let registry = Served::honest(&pictures[0]).await;
    pull_at_once(&registry, &pictures).await;
}

/// Every image is there when all of them were asked for together.
async fn pull_at_once(registry: &Served, pictures: &[Picture]) {
    pictures.iter().for_each(|picture| registry.add(picture));
    let node = Node::asking(&[&registry.plain()]);
    let pulls = pictures.iter().map(|picture| node.pull(registry, picture));
    for (pulled, picture) in futures::future::join_all(pulls).await.into_iter().zip(pictures) {
        pulled.unwrap();
        node.ready(&picture.at(&registry.host())).unwrap();
    }
}
