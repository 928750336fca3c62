//! Who is asked for what: tokens, logins, and hosts that must not get either.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use coffer_agent::{FetchError, Login, PullError};
use hyper::{Response, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::picture::Picture;
use super::registry::{Answer, Seen, Served, endless, full, redirect, status, typed};
use super::{Node, fetch};

const NAME: &str = "alice";
const WORD: &str = "correct horse";

/// `Basic` authentication of the login of these tests.
fn basic() -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{NAME}:{WORD}")))
}

fn login(node: &Node, registry: &Served, word: &str) -> Login {
    let list = json!({ "auths": { (registry.host()): { "username": NAME, "password": word } } });
    let source = node.puller.source(&Picture::of(b"").at(&registry.host())).unwrap();
    Login::find(&serde_json::to_vec(&list).unwrap(), &source).unwrap().unwrap()
}

fn challenged(with: &str) -> Answer {
    let response = Response::builder().status(StatusCode::UNAUTHORIZED).header("www-authenticate", with);
    response.body(full(b"")).unwrap()
}

fn says(seen: &Seen, authorization: &str) -> bool {
    seen.authorization.as_deref() == Some(authorization)
}

/// A service of tokens, and a registry that wants one of them.
async fn with_tokens(picture: &Picture, open: bool) -> (Served, Served) {
    let tokens = Served::odd(picture, move |seen| {
        let known = open || says(seen, &basic());
        let scoped = seen.query.contains("scope=repository%3Acoffer%2Fsite%3Apull");
        Some(match (known, scoped) {
            (true, true) => typed("application/json", br#"{"token":"ticket"}"#),
            (true, false) => status(StatusCode::BAD_REQUEST),
            (false, _) => challenged("Basic realm=\"tokens\""),
        })
    })
    .await;
    let realm = format!("Bearer realm=\"{}/token\",service=\"reg\"", tokens.plain());
    let registry =
        Served::odd(picture, move |seen| (!says(seen, "Bearer ticket")).then(|| challenged(&realm))).await;
    (registry, tokens)
}

#[tokio::test]
async fn a_token_is_fetched_for_anybody_where_anybody_gets_one_and_once_for_all_blobs() {
    let picture = Picture::of(b"true");
    let (registry, tokens) = with_tokens(&picture, true).await;
    let node = Node::asking(&[&registry.plain(), &tokens.plain()]);
    node.pull(&registry, &picture).await.unwrap();
    assert_eq!(tokens.seen().len(), 1);
    assert_eq!(tokens.seen()[0].authorization, None);
    assert!(tokens.seen()[0].query.contains("service=reg"));
}

#[tokio::test]
async fn a_token_is_fetched_with_the_login_and_refused_without_it_or_with_a_wrong_one() {
    let picture = Picture::of(b"true");
    let (registry, tokens) = with_tokens(&picture, false).await;
    let node = Node::asking(&[&registry.plain(), &tokens.plain()]);
    let error = fetch(node.pull(&registry, &picture).await);
    assert!(matches!(error, FetchError::Denied { status: 401, .. }), "{error:?}");
    let wrong = login(&node, &registry, "wrong");
    let error = fetch(node.pull_as(&registry, &picture, Some(wrong)).await);
    assert!(matches!(error, FetchError::Denied { status: 401, .. }), "{error:?}");
    let right = login(&node, &registry, WORD);
    node.pull_as(&registry, &picture, Some(right)).await.unwrap();
    // The registry itself never saw the password.
    assert!(registry.seen().iter().all(|seen| !says(seen, &basic())));
}

#[tokio::test]
async fn a_login_goes_to_the_registry_that_asks_for_it_and_not_before() {
    let picture = Picture::of(b"true");
    let registry =
        Served::odd(&picture, |seen| (!says(seen, &basic())).then(|| challenged("Basic realm=\"x\""))).await;
    let node = Node::asking(&[&registry.plain()]);
    let error = fetch(node.pull(&registry, &picture).await);
    assert!(matches!(error, FetchError::Denied { .. }), "{error:?}");
    let right = login(&node, &registry, WORD);
    node.pull_as(&registry, &picture, Some(right)).await.unwrap();
    assert!(registry.seen().iter().any(|seen| seen.authorization.is_none()));
    let open = Served::honest(&picture).await;
    let node = Node::asking(&[&open.plain()]);
    let unneeded = login(&node, &open, WORD);
    node.pull_as(&open, &picture, Some(unneeded)).await.unwrap();
    assert!(open.seen().iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn a_redirect_to_another_host_is_followed_without_the_login_and_not_back_with_it() {
    let picture = Picture::of(b"true");
    let store = Served::honest(&picture).await;
    let to = store.plain();
    let registry = Served::odd(&picture, move |seen| {
        if !says(seen, &basic()) {
            return Some(challenged("Basic realm=\"x\""));
        }
        seen.path.contains("/blobs/").then(|| redirect(&format!("{to}{}", seen.path)))
    })
    .await;
    let node = Node::asking(&[&registry.plain(), &store.plain()]);
    let right = login(&node, &registry, WORD);
    node.pull_as(&registry, &picture, Some(right)).await.unwrap();
    assert_eq!(store.asked_for("/blobs/"), 2);
    assert!(store.seen().iter().all(|seen| seen.authorization.is_none()));

    // A store that wants the login for itself gets none, and one that sends back gets nothing done with it.
    let asks = Served::odd(&picture, |_| Some(challenged("Basic realm=\"mine\""))).await;
    let to = asks.plain();
    let registry = Served::odd(&picture, move |seen| Some(redirect(&format!("{to}{}", seen.path)))).await;
    let node = Node::asking(&[&registry.plain(), &asks.plain()]);
    let right = login(&node, &registry, WORD);
    let error = fetch(node.pull_as(&registry, &picture, Some(right)).await);
    assert!(matches!(error, FetchError::Denied { .. }), "{error:?}");
    assert!(asks.seen().iter().chain(&registry.seen()).all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn a_registry_cannot_have_the_login_sent_to_where_there_is_no_tls() {
    let picture = Picture::of(b"true");
    let (registry, tokens) = with_tokens(&picture, false).await;
    let node = Node::asking(&[&registry.plain()]);
    let right = login(&node, &registry, WORD);
    let error = fetch(node.pull_as(&registry, &picture, Some(right)).await);
    assert!(matches!(error, FetchError::Plain(_)), "{error:?}");
    assert!(tokens.seen().is_empty());
}

#[tokio::test]
async fn a_registry_that_is_never_content_is_asked_twice_and_left() {
    let picture = Picture::of(b"true");
    let tokens = Served::odd(&picture, |_| Some(typed("application/json", br#"{"access_token":"x"}"#))).await;
    let realm = format!("Bearer realm=\"{}/\"", tokens.plain());
    let registry = Served::odd(&picture, move |_| Some(challenged(&realm))).await;
    let node = Node::asking(&[&registry.plain(), &tokens.plain()]);
    let error = fetch(node.pull(&registry, &picture).await);
    assert!(matches!(error, FetchError::Denied { status: 401, .. }), "{error:?}");
    assert_eq!((registry.seen().len(), tokens.seen().len()), (2, 1));
}

#[tokio::test]
async fn challenges_and_tokens_that_mean_nothing_are_refused() {
    let picture = Picture::of(b"true");
    for with in
        ["Digest realm=\"x\"", "Bearer service=\"x\"", "Bearer realm=\"/token\"", "", "Bearer realm=\"a b\""]
    {
        let registry = Served::odd(&picture, move |_| Some(challenged(with))).await;
        let error = fetch(Node::asking(&[&registry.plain()]).pull(&registry, &picture).await);
        assert!(matches!(error, FetchError::Challenge(_)), "{with}: {error:?}");
    }
    let answers: [fn() -> Answer; 5] = [
        || typed("application/json", b"{}"),
        || typed("application/json", b"\xff\xff"),
        || typed("application/json", br#"{"token":"a\nb"}"#),
        || endless("application/json"),
        || status(StatusCode::BAD_GATEWAY),
    ];
    for answer in answers {
        let tokens = Served::odd(&picture, move |_| Some(answer())).await;
        let realm = format!("Bearer realm=\"{}/\"", tokens.plain());
        let registry = Served::odd(&picture, move |_| Some(challenged(&realm))).await;
        let node = Node::asking(&[&registry.plain(), &tokens.plain()]);
        let error = fetch(node.pull(&registry, &picture).await);
        let fits =
            matches!(error, FetchError::Token(_) | FetchError::TooLong(131_072) | FetchError::Busy { .. });
        assert!(fits, "{error:?}");
    }
}

#[tokio::test]
async fn the_nodes_own_logins_are_read_at_each_pull_and_a_broken_list_is_told() {
    let picture = Picture::of(b"true");
    let registry = Served::honest(&picture).await;
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("config.json");
    let write = |text: &str| {
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&list);
        std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
    };
    let node = Node::with(&[&registry.plain()], |config| config.credentials = Some(list.clone()));
    let source = node.puller.source(&picture.at(&registry.host())).unwrap();
    assert!(matches!(node.puller.login(&source), Err(PullError::Credentials(..))), "there is no such file");
    write(r#"{"auths":{}}"#);
    assert!(node.puller.login(&source).unwrap().is_none());
    write(&json!({ "auths": { (registry.host()): { "auth": BASE64_STANDARD.encode("a:b") } } }).to_string());
    assert!(node.puller.login(&source).unwrap().is_some());
    write("{");
    assert!(matches!(node.puller.login(&source), Err(PullError::Credentials(..))));
}

/// An authority, and a registry's identity by it.
fn identity(name: &str) -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let chain = params.signed_by(&key, &issuer).unwrap().pem();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        );
    (authority, TlsAcceptor::from(Arc::new(config.unwrap())))
}

#[tokio::test]
async fn a_registry_with_tls_is_believed_by_the_authority_that_was_named_and_by_its_own_name_only() {
    let picture = Picture::of(b"true");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("authority.pem");
    let write = |text: &str| {
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&file);
        std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
    };
    let (authority, acceptor) = identity("127.0.0.1");
    let (stranger, other) = identity("elsewhere.example");
    let registry = Served::start(&picture, |_| None, Some(acceptor)).await;
    let misnamed = Served::start(&picture, |_| None, Some(other)).await;
    let (host, wrong) = (registry.host(), misnamed.host());
    let node = Node::with(&[&host, &wrong], |config| config.roots = Some(file.clone()));
    assert!(matches!(fetch(node.pull(&registry, &picture).await), FetchError::Roots(_)));
    write("no certificate");
    assert!(matches!(fetch(node.pull(&registry, &picture).await), FetchError::Roots(_)));
    write(&stranger);
    assert!(matches!(fetch(node.pull(&registry, &picture).await), FetchError::Unreachable { .. }));
    assert!(matches!(fetch(node.pull(&misnamed, &picture).await), FetchError::Unreachable { .. }));
    assert!(registry.seen().is_empty() && misnamed.seen().is_empty());
    write(&authority);
    node.pull(&registry, &picture).await.unwrap();
    // The machine's own authorities do not know it.
    let error = fetch(Node::asking(&[&host]).pull(&registry, &picture).await);
    assert!(matches!(error, FetchError::Unreachable { .. } | FetchError::Roots(_)), "{error:?}");
}
