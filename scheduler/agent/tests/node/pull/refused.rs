//! What a hostile registry may try: each attempt ends with its reason, in time,
//! and leaves nothing that a pod could be started from.

use std::time::Duration;

use coffer_agent::{FetchError, ImageDigest, ImageError, PullError, UnpackError};
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::picture::{INDEX, MANIFEST, Picture, archive};
use super::registry::{Answer, Seen, Served, endless, full, redirect, status, streamed, typed};
use super::{Node, fetch, hasty};

/// A pull from a registry that answers oddly; nothing of the image is to be had afterwards.
async fn refused(
    picture: &Picture,
    odd: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static,
) -> PullError {
    let registry = Served::odd(picture, odd).await;
    refused_by(&registry, picture).await
}

async fn refused_by(registry: &Served, picture: &Picture) -> PullError {
    let node = Node::asking(&[&registry.plain()]);
    let error = node.pull(registry, picture).await.unwrap_err();
    let here = node.ready(&picture.at(&registry.host()));
    assert!(matches!(here, Err(ImageError::Absent(_))), "{error}: {here:?}");
    error
}

fn is_layer(seen: &Seen, picture: &Picture) -> bool {
    seen.path.contains(ImageDigest::of(picture.layer()).hex())
}

#[tokio::test]
async fn what_an_honest_registry_has_is_pulled_and_can_be_run() {
    let picture = Picture::of(b"true");
    let registry = Served::honest(&picture).await;
    let node = Node::asking(&[&registry.plain()]);
    let pulled = node.pull(&registry, &picture).await.unwrap();
    let bytes: usize = picture.blobs.iter().map(Vec::len).sum();
    assert_eq!((pulled.bytes, pulled.came), (bytes as u64, bytes as u64));
    assert_eq!(node.ready(&picture.at(&registry.host())).unwrap().entrypoint, ["/bin/site"]);
    assert_eq!(node.partials(), 0);
}

#[tokio::test]
async fn a_registry_is_found_by_its_name() {
    let picture = Picture::of(b"true");
    let registry = Served::honest(&picture).await;
    let host = registry.host().replace("127.0.0.1", "localhost");
    let node = Node::asking(&[&format!("http://{host}")]);
    node.puller.pull(&picture.at(&host), None, false).await.unwrap();
    let nobody = "nobody.invalid:80";
    let error = fetch(
        Node::asking(&[&format!("http://{nobody}")]).puller.pull(&picture.at(nobody), None, false).await,
    );
    assert!(matches!(error, FetchError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_manifest_that_is_another_one_is_refused() {
    let picture = Picture::of(b"true");
    let other = Picture::of(b"evil");
    let registry = Served::honest(&other).await;
    registry.forge(&picture.digest, MANIFEST, &other.documents[0].1);
    let error = refused_by(&registry, &picture).await;
    let PullError::Forged { wanted, found } = error else { panic!("{error:?}") };
    assert_eq!((wanted, found), (picture.digest, other.digest));
    assert_eq!(registry.asked_for("/blobs/"), 0, "an unverified document was believed");
}

#[tokio::test]
async fn a_layer_or_configuration_of_another_content_is_refused_and_not_kept() {
    let picture = Picture::of(b"true");
    for at in [0, 1] {
        let registry = Served::honest(&picture).await;
        let mut forged = picture.blobs[at].clone();
        forged[10] ^= 1;
        registry.forge(&ImageDigest::of(&picture.blobs[at]), "x", &forged);
        let node = Node::asking(&[&registry.plain()]);
        let error = node.pull(&registry, &picture).await.unwrap_err();
        assert!(matches!(error, PullError::Forged { .. }), "{error:?}");
        assert_eq!((node.blobs().len(), node.partials()), (at, 0));
        registry.add(&picture);
        node.pull(&registry, &picture).await.unwrap();
    }
}

#[tokio::test]
async fn a_body_that_is_longer_than_declared_is_refused_announced_or_not() {
    let long = Picture::of(b"true");
    let picture = Picture::of(b"true");
    let error = refused(&picture, move |seen| {
        is_layer(seen, &long).then(|| typed("x", &[long.layer(), b"more"].concat()))
    })
    .await;
    assert!(matches!(error, PullError::Fetch(FetchError::TooLong(_))), "{error:?}");
    let endlessly = Picture::of(b"true");
    let error = refused(&picture, move |seen| is_layer(seen, &endlessly).then(|| endless("x"))).await;
    assert!(matches!(error, PullError::Fetch(FetchError::TooLong(_))), "{error:?}");
}

#[tokio::test]
async fn a_document_without_an_end_is_refused() {
    let picture = Picture::of(b"true");
    let error = refused(&picture, |_| Some(endless(MANIFEST))).await;
    assert!(matches!(error, PullError::Fetch(FetchError::TooLong(4_194_304))), "{error:?}");
}

#[tokio::test]
async fn a_body_that_is_shorter_than_declared_is_refused_announced_or_not() {
    let picture = Picture::of(b"true");
    let short = Picture::of(b"true");
    let error =
        refused(&picture, move |seen| is_layer(seen, &short).then(|| typed("x", &short.layer()[1..]))).await;
    assert!(matches!(error, PullError::Fetch(FetchError::Short { .. })), "{error:?}");
    let short = Picture::of(b"true");
    let error = refused(&picture, move |seen| {
        let bytes = Bytes::copy_from_slice(&short.layer()[1..]);
        is_layer(seen, &short).then(|| streamed("x", futures::stream::iter([Ok(bytes)])))
    })
    .await;
    assert!(matches!(error, PullError::Fetch(FetchError::Short { .. })), "{error:?}");
}

#[tokio::test]
async fn a_registry_that_is_silent_or_trickles_is_left() {
    let picture = Picture::of(b"true");
    // It takes the question and never answers.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
        }
    });
    let node = Node::with(&[&format!("http://{address}")], hasty);
    let error = fetch(node.puller.pull(&picture.at(&address.to_string()), None, false).await);
    assert!(matches!(error, FetchError::Stalled(_)), "{error:?}");
    silent.abort();
    // It sends a byte now and then.
    let registry = Served::odd(&picture, |_| {
        let bytes = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Bytes::from_static(b" ")), ()))
        });
        Some(streamed(MANIFEST, bytes))
    })
    .await;
    let error = fetch(Node::with(&[&registry.plain()], hasty).pull(&registry, &picture).await);
    assert!(matches!(error, FetchError::Stalled(_)), "{error:?}");
}

#[tokio::test]
async fn what_is_no_http_or_has_no_end_of_headers_is_refused() {
    use tokio::io::AsyncWriteExt;
    let picture = Picture::of(b"true");
    for said in
        [b"SSH-2.0-OpenSSH\r\n".to_vec(), [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 1 << 20]].concat()]
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let odd = tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let said = said.clone();
                tokio::spawn(async move { socket.write_all(&said).await });
            }
        });
        let node = Node::asking(&[&format!("http://{address}")]);
        let error = fetch(node.puller.pull(&picture.at(&address.to_string()), None, false).await);
        assert!(matches!(error, FetchError::Unreachable { .. }), "{error:?}");
        odd.abort();
    }
}

#[tokio::test]
async fn a_registry_that_redirects_for_ever_or_to_nowhere_is_left() {
    let picture = Picture::of(b"true");
    let error = refused(&picture, |seen| Some(redirect(&seen.path))).await;
    assert!(matches!(error, PullError::Fetch(FetchError::Redirects(5))), "{error:?}");
    for nowhere in ["", "//elsewhere.example/x", "file:///etc/passwd", "http://user:word@127.0.0.1/"] {
        let error = refused(&picture, move |_| Some(redirect(nowhere))).await;
        assert!(matches!(error, PullError::Fetch(FetchError::Location)), "{nowhere}: {error:?}");
    }
    let without = |_: &Seen| Some(status(StatusCode::FOUND));
    let error = refused(&picture, without).await;
    assert!(matches!(error, PullError::Fetch(FetchError::Location)), "{error:?}");
}

#[tokio::test]
async fn a_registry_cannot_send_the_node_to_where_there_is_no_tls() {
    let picture = Picture::of(b"true");
    let inside = Served::honest(&picture).await;
    let to = format!("{}/v2/admin/stop", inside.plain());
    let error = refused(&picture, move |_| Some(redirect(&to))).await;
    assert!(matches!(error, PullError::Fetch(FetchError::Plain(_))), "{error:?}");
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn what_is_not_of_a_manifests_type_is_none() {
    let picture = Picture::of(b"true");
    for kind in [
        "text/html; charset=utf-8",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "",
        "application/json",
    ] {
        let manifest = picture.documents[0].1.clone();
        let error = refused(&picture, move |_| Some(typed(kind, &manifest))).await;
        assert!(matches!(error, PullError::Fetch(FetchError::MediaType(_))), "{kind}: {error:?}");
    }
    let manifest = picture.documents[0].1.clone();
    let untyped = move |_: &Seen| Some(Response::new(full(&manifest)));
    assert!(matches!(refused(&picture, untyped).await, PullError::Fetch(FetchError::MediaType(_))));
}

#[tokio::test]
async fn answers_that_are_none_of_a_registry_are_told_apart() {
    let picture = Picture::of(b"true");
    let of = |code: StatusCode| refused(&picture, move |_| Some(status(code)));
    assert!(matches!(of(StatusCode::NOT_FOUND).await, PullError::Fetch(FetchError::Absent { .. })));
    assert!(matches!(
        of(StatusCode::FORBIDDEN).await,
        PullError::Fetch(FetchError::Denied { status: 403, .. })
    ));
    assert!(matches!(of(StatusCode::TOO_MANY_REQUESTS).await, PullError::Fetch(FetchError::Busy { .. })));
    assert!(matches!(of(StatusCode::BAD_GATEWAY).await, PullError::Fetch(FetchError::Busy { .. })));
    for code in [StatusCode::NO_CONTENT, StatusCode::PARTIAL_CONTENT, StatusCode::IM_A_TEAPOT] {
        assert!(matches!(of(code).await, PullError::Fetch(FetchError::Status { .. })), "{code}");
    }
}

/// A pull of an image whose manifest was forged, with its digest; no layer may be asked for.
async fn forged(change: impl FnOnce(&mut Value)) -> PullError {
    let picture = Picture::new(&[archive(&[("bin/site".into(), b"true".to_vec())])], change);
    let registry = Served::honest(&picture).await;
    let error = refused_by(&registry, &picture).await;
    assert_eq!(registry.asked_for("/blobs/"), 0, "{error}");
    error
}

#[tokio::test]
async fn sizes_that_cannot_be_are_refused_before_a_layer_is_asked_for() {
    let error = forged(|manifest| manifest["layers"][0]["size"] = json!(-1)).await;
    assert!(matches!(error, PullError::Image(ImageError::Malformed { .. })), "{error:?}");
    let error = forged(|manifest| manifest["layers"][0]["size"] = Value::Null).await;
    assert!(matches!(error, PullError::Size(_)), "{error:?}");
    let error = forged(|manifest| manifest["config"]["size"] = json!(1 << 30)).await;
    assert!(matches!(error, PullError::Size(_)), "{error:?}");
    let error = forged(|manifest| {
        let mut layer = manifest["layers"][0].clone();
        layer["size"] = json!(u64::MAX);
        manifest["layers"] = json!([layer, layer, layer]);
    })
    .await;
    assert!(matches!(error, PullError::TooLarge { declared: u64::MAX, .. }), "{error:?}");
    let error = forged(|manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = Value::Array(vec![layer; 129]);
    })
    .await;
    assert!(matches!(error, PullError::Layers { declared: 129, most: 128 }), "{error:?}");
    let error = forged(|manifest| manifest["layers"][0]["mediaType"] = json!("application/x-lzma")).await;
    assert!(matches!(error, PullError::Image(ImageError::Unpack(_, UnpackError::MediaType(_)))), "{error:?}");
}

#[tokio::test]
async fn a_layer_that_is_smaller_or_larger_than_the_manifest_says_is_refused() {
    for wrong in [-1, 1] {
        let picture = Picture::new(&[archive(&[("bin/site".into(), b"true".to_vec())])], |manifest| {
            let size = manifest["layers"][0]["size"].as_i64().unwrap() + wrong;
            manifest["layers"][0]["size"] = json!(size);
        });
        let registry = Served::honest(&picture).await;
        let error = refused_by(&registry, &picture).await;
        let fits = matches!(error, PullError::Fetch(FetchError::TooLong(_) | FetchError::Short { .. }));
        assert!(fits, "{error:?}");
    }
}

#[tokio::test]
async fn an_image_that_is_larger_than_the_node_takes_is_refused_before_a_layer_is_asked_for() {
    let picture = Picture::of(b"true");
    let registry = Served::honest(&picture).await;
    let bytes: usize = picture.blobs.iter().map(Vec::len).sum();
    let node = Node::with(&[&registry.plain()], |config| config.limits.bytes = bytes as u64 - 1);
    let error = node.pull(&registry, &picture).await.unwrap_err();
    assert!(matches!(error, PullError::TooLarge { .. }), "{error:?}");
    assert_eq!(registry.asked_for("/blobs/"), 0);
    let node = Node::with(&[&registry.plain()], |config| config.limits.bytes = bytes as u64);
    node.pull(&registry, &picture).await.unwrap();
}

#[tokio::test]
async fn of_an_index_the_image_for_this_machine_is_pulled_and_without_one_none() {
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let picture = Picture::of(b"true").behind_index(&json!({ "os": "linux", "architecture": arch }));
    let registry = Served::honest(&picture).await;
    let node = Node::asking(&[&registry.plain()]);
    node.pull(&registry, &picture).await.unwrap();
    node.ready(&picture.at(&registry.host())).unwrap();
    assert_eq!(registry.asked_for("/manifests/"), 2);
    let foreign = Picture::of(b"true").behind_index(&json!({ "os": "plan9", "architecture": arch }));
    let error = refused(&foreign, |_| None).await;
    assert!(matches!(error, PullError::Image(ImageError::Platform(_))), "{error:?}");
    let platform = json!({ "os": "linux", "architecture": arch });
    let deep = (0..4).fold(Picture::of(b"true"), |picture, _| picture.behind_index(&platform));
    let error = refused(&deep, |_| None).await;
    assert!(matches!(error, PullError::Image(ImageError::Malformed { .. })), "{error:?}");
}

#[tokio::test]
async fn an_index_of_the_wrong_kind_of_content_is_refused() {
    let mut picture = Picture::of(b"true");
    let odd = json!({ "mediaType": INDEX, "config": { "digest": picture.digest.to_string() }, "layers": [] });
    let odd = serde_json::to_vec(&odd).unwrap();
    picture.digest = ImageDigest::of(&odd);
    picture.documents = vec![(MANIFEST.to_owned(), odd)];
    let error = refused(&picture, |_| None).await;
    assert!(matches!(error, PullError::Image(ImageError::Malformed { .. })), "{error:?}");
}

#[tokio::test]
async fn a_registry_that_was_not_named_is_not_asked() {
    let picture = Picture::of(b"true");
    let registry = Served::honest(&picture).await;
    for named in [&[][..], &["other.example"], &["http://127.0.0.1:1"]] {
        let node = Node::asking(named);
        let error = node.pull(&registry, &picture).await.unwrap_err();
        assert!(matches!(error, PullError::NotNamed(_)), "{error:?}");
    }
    // Every registry is one with TLS, which this one has not.
    let error = fetch(Node::asking(&["any"]).pull(&registry, &picture).await);
    assert!(matches!(error, FetchError::Unreachable { .. } | FetchError::Roots(_)), "{error:?}");
    assert!(registry.seen().is_empty());
}
