//! Over the network only certificates of the fleet's authority are let in.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use coffer_embedded::{AgentAccess, Embedded, ListenError, Options, Tls};
use futures::FutureExt as _;
use http::Uri;
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{LogParams, PostParams};
use kube::{Api, Client, Config};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::fixture::{Fixture, code, of, options, pod};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn certify(&self, user: &str, group: &str) -> (String, String) {
        self.certify_as(user, group, &["localhost", "127.0.0.1"])
    }

    fn certify_as(&self, user: &str, group: &str, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, user);
        name.push(DnType::OrganizationName, group);
        params.distinguished_name = name;
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

fn client(address: SocketAddr, authority: &Authority, (certificate, key): (String, String)) -> Client {
    let mut config = Config::new(format!("https://127.0.0.1:{}", address.port()).parse::<Uri>().unwrap());
    let der = |pem: &str| x509_der(pem);
    config.root_cert = Some(vec![der(&authority.pem())]);
    config.auth_info.client_certificate_data = Some(base64_of(certificate.as_bytes()));
    config.auth_info.client_key_data = Some(base64_of(key.as_bytes()).into());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

fn x509_der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_says_who_calls_and_one_of_another_authority_says_nothing() {
    let fixture = Fixture::new().await;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (address, stop, serving) = serve(&fixture, &authority).await;
    let pods = |client: Client| -> Api<Pod> { Api::namespaced(client, "default") };
    let viewer = client(address, &authority, authority.certify("v", "fleet.coffer:viewer"));
    pods(viewer.clone()).list(&kube::api::ListParams::default()).await.unwrap();
    let refused = pods(viewer).delete("a", &kube::api::DeleteParams::default()).await;
    assert_eq!(code(refused), 403);
    let unknown = client(address, &authority, authority.certify("x", "others"));
    assert_eq!(code(pods(unknown).list(&kube::api::ListParams::default()).await), 403);
    let forged = client(address, &authority, stranger.certify("v", "system:masters"));
    let outcome = pods(forged).list(&kube::api::ListParams::default()).await;
    assert!(!matches!(outcome, Ok(_) | Err(kube::Error::Api(_))), "no answer at all");
    drop(stop);
    serving.await.unwrap().unwrap();
}

/// Whether this process is the server of the test below, and what it certifies by.
const SERVER: &str = "COFFER_TEST_LISTENER";

/// The server, when this test is run by the other one; alone it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "it reads what the other test wrote for it")]
async fn a_listener_with_few_descriptors_serves() {
    let Some(directory) = std::env::var_os(SERVER) else { return };
    let read = |name: &str| std::fs::read_to_string(std::path::Path::new(&directory).join(name)).unwrap();
    let fixture = Fixture::new().await;
    let tls = Tls { certificate: read("pem"), key: read("key").into(), clients: read("ca") };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    {
        let mut out = std::io::stdout().lock();
        writeln!(out, "\nport {}", listener.local_addr().unwrap().port()).unwrap();
        out.flush().unwrap();
    }
    let over = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    fixture.embedded.listen(listener, tls, async { drop(over.await) }).await.unwrap();
}

/// Ends the process of the test above, whatever became of the test below.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "a process of its own reads plain files")]
async fn callers_that_say_nothing_take_neither_the_descriptors_nor_the_places_of_those_that_do() {
    let (directory, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let (certificate, key) = authority.certify("api", "servers");
    for (name, text) in [("pem", certificate), ("key", key), ("ca", authority.pem())] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let limited = Command::new("sh")
        .args(["-c", "ulimit -n 80; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tls::a_listener_with_few_descriptors_serves", "--nocapture"])
        .env(SERVER, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut server = Ended(limited.unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| line.unwrap().strip_prefix("port ").map(str::to_owned)).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let viewer = client(address, &authority, authority.certify("v", "fleet.coffer:viewer"));
    let pods: Api<Pod> = Api::namespaced(viewer, "default");
    pods.list(&kube::api::ListParams::default()).await.unwrap();
    assert!(server.0.try_wait().unwrap().is_none());
    drop(silent);
}

/// The API behind TLS; dropping the sender is the word to stop.
async fn serve(
    fixture: &Fixture,
    authority: &Authority,
) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<Result<(), ListenError>>) {
    let (certificate, key) = authority.certify("api", "servers");
    let tls = Tls { certificate, key: key.into(), clients: authority.pem() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let embedded = fixture.embedded.clone();
    let serving = async move { embedded.listen(listener, tls, async { drop(stopped.await) }).await };
    (address, stop, tokio::spawn(serving))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_ends_with_the_listener_as_if_its_time_were_over() {
    let (fixture, authority) = (Fixture::new().await, Authority::new());
    let (address, stop, serving) = serve(&fixture, &authority).await;
    let viewer = client(address, &authority, authority.certify("v", "fleet.coffer:viewer"));
    let request = http::Request::get("/api/v1/namespaces/default/pods?watch=true");
    let answer = viewer.send(request.body(kube::client::Body::empty()).unwrap()).await.unwrap();
    fixture.pods().create(&PostParams::default(), &pod("a")).await.unwrap();
    let mut lines = answer.into_body();
    assert!(lines.frame().await.unwrap().unwrap().data_ref().unwrap().starts_with(br#"{"type":"ADDED""#));
    drop(stop);
    // Cut off by force it would end with an error.
    assert_eq!(lines.collect().await.unwrap().to_bytes(), Bytes::new());
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_says_nothing_does_not_hold_up_the_end() {
    let (fixture, authority) = (Fixture::new().await, Authority::new());
    let (address, stop, serving) = serve(&fixture, &authority).await;
    let silent = TcpStream::connect(address).await.unwrap();
    // Taken in order: once this one is answered the silent one was taken, too.
    let viewer = client(address, &authority, authority.certify("v", "fleet.coffer:viewer"));
    Api::<Pod>::namespaced(viewer, "default").list(&kube::api::ListParams::default()).await.unwrap();
    let closed = fixture.embedded.closed();
    drop(fixture);
    drop(stop);
    serving.await.unwrap().unwrap();
    assert!(closed.now_or_never().is_some(), "nobody keeps the store open once the listener has ended");
    drop(silent);
}

/// An agent's endpoint that answers with what it was asked.
async fn agent(authority: &Authority, name: &str) -> u16 {
    let (certificate, key) = authority.certify_as(name, "system:nodes", &[name]);
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // Who does not believe the certificate goes away.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let echo = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(request.uri().to_string()))))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), echo));
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_comes_from_the_node_that_has_the_certificate_of_its_name_and_from_no_other() {
    let authority = Authority::new();
    let port = agent(&authority, "n1").await;
    let (certificate, key) = authority.certify("api", "servers");
    let nodes = AgentAccess::new(&Tls { certificate, key: key.into(), clients: authority.pem() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let options = Options { nodes: Arc::new(nodes), ..options(&directory) };
    let fixture = Fixture { embedded: Embedded::open(options).await.unwrap(), directory };
    for (node, pod_name) in [("n1", "a"), ("n2", "b"), ("n3", "c")] {
        let address = json!([{"type": "InternalIP", "address": "127.0.0.1"}]);
        let endpoint = json!({"kubeletEndpoint": {"Port": port}});
        // The second claims to be where the first is; the third says nothing.
        let status =
            if node == "n3" { json!({}) } else { json!({"addresses": address, "daemonEndpoints": endpoint}) };
        let manifest = of(json!({"metadata": {"name": node}, "status": status}));
        fixture.nodes().create(&PostParams::default(), &manifest).await.unwrap();
        let mut pod = pod(pod_name);
        pod.spec.as_mut().unwrap().node_name = Some(node.into());
        fixture.pods().create(&PostParams::default(), &pod).await.unwrap();
    }
    let params = LogParams { follow: true, tail_lines: Some(3), ..LogParams::default() };
    let log = fixture.pods().logs("a", &params).await.unwrap();
    assert_eq!(log, "/containerLogs/default/a/site?follow=true&tailLines=3");
    for pod in ["b", "c"] {
        assert_eq!(code(fixture.pods().logs(pod, &params).await), 503, "{pod}");
    }
    let other = LogParams { container: Some("none".into()), ..LogParams::default() };
    assert_eq!(code(fixture.pods().logs("a", &other).await), 422);
}
