//! The figures as a collector gets them: over a socket, from a service that
//! works; the alerts on them; and who may look from elsewhere.
#![expect(clippy::unwrap_used, reason = "cases of tests: what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "the rules of the alerts are a file")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use coffer_client::{Credentials, SiteChange};
use coffer_proto::v1::SignRecordRequest;
use coffer_server::{METRIC_FAMILIES, RepairRun, Service, serve_metrics};
use coffer_tests::{Deployment, Wire, bucket_name, fast_sites_and, pattern};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Serves the figures on this address; the port.
async fn serve(service: &Arc<Service>, address: &str) -> u16 {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve_metrics(Arc::clone(service), listener));
    port
}

/// Status line and body of an answer.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Option<(String, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: coffer\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    // A peer that hangs up without a word has answered too.
    let _ = stream.read_to_string(&mut answer).await;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}

async fn figures(port: u16) -> String {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (status, body) = ask(stream, "/metrics").await.unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    // hyper sends what it knows the length of in one piece.
    body
}

/// Samples by what stands before their value.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

/// The family of a sample.
fn family(sample: &str) -> &str {
    let name = sample.split('{').next().unwrap();
    let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
        name.strip_suffix(end).filter(|base| METRIC_FAMILIES.iter().any(|family| family.name == *base))
    });
    histogram.unwrap_or(name)
}

/// A service that did a little of everything, but was never shown to a witness.
async fn worked() -> Deployment {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("a-name-that-must-not-leak").await;
    let bucket = bucket_name("another-name");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "a-key", pattern(1, 100_000)).await;
    let _ = tenant.get(&bucket, "missing").await.unwrap_err();
    let service = deployment.service();
    service.repair(RepairRun::default(), &|_| ()).await.unwrap();
    service.scrub_once(u64::MAX).await.unwrap();
    deployment
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_did_is_in_its_figures_and_no_name_of_a_tenant_is() {
    let deployment = worked().await;
    let port = serve(deployment.service(), "127.0.0.1:0").await;
    let text = figures(port).await;
    for leak in ["a-name-that-must-not-leak", "another-name", "a-key", "ten-", "buc-", "pri-"] {
        assert!(!text.contains(leak), "{leak} is in the figures");
    }
    let samples = samples(&text);
    let value = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{name} is absent"));
    assert!(value(r#"coffer_calls_total{method="coffer.v1.Objects/PutObject",code="Ok"}"#) >= 1.0);
    assert!(value(r#"coffer_calls_total{method="coffer.v1.Objects/GetObject",code="NotFound"}"#) >= 1.0);
    assert!(value(r#"coffer_call_seconds_count{method="coffer.v1.Objects/PutObject"}"#) >= 1.0);
    assert!(value("coffer_log_append_seconds_count") >= 1.0);
    assert!(
        value(r#"coffer_log_leaves{log="1"}"#) >= 4.0 && value(r#"coffer_log_leaves{log="service"}"#) >= 1.0
    );
    assert!(value(r#"coffer_site_up{site="fra1"}"#) > 0.5);
    assert!(value(r#"coffer_scrub_kept{site="fra1"}"#) > 0.5, "a pass was read to its end");
    assert!(value("coffer_versions_below_promise") < 0.5 && value("coffer_repair_running") < 0.5);
    assert!(value(r#"coffer_certificate_expiry_timestamp_seconds{certificate="authority"}"#) > 1.9e9);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_that_an_alert_names_is_one_that_the_service_gives() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/alerts.yml");
    let rules = std::fs::read_to_string(rules).unwrap();
    let mut named = BTreeSet::new();
    for line in rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let before = named.len();
        named.extend(words.filter(|word| word.starts_with("coffer_")).map(|word| family(word).to_owned()));
        assert!(named.len() > before || line.contains("coffer_"), "{line} is about nothing of ours");
    }
    assert!(named.len() >= 20, "{} metrics have alerts", named.len());
    let deployment = worked().await;
    let port = serve(deployment.service(), "127.0.0.1:0").await;
    let text = figures(port).await;
    let announced: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let listed: BTreeSet<&str> = METRIC_FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(announced, listed, "a family is announced twice, or not at all");
    let given: BTreeSet<&str> = samples(&text).keys().map(|sample| family(sample)).collect();
    assert!(given.is_subset(&listed), "a sample of no family");
    // What only a witness, a signed drill or an adapter with a limit brings.
    let may_be_absent = |name: &str| {
        name.starts_with("coffer_witness_")
            || ["coffer_drill_last_record_timestamp_seconds", "coffer_site_free_bytes"].contains(&name)
    };
    for name in &named {
        assert!(listed.contains(name.as_str()), "an alert names {name}, which there is not");
        assert!(given.contains(name.as_str()) || may_be_absent(name), "{name} has no sample");
    }
}

async fn over_tls(port: u16, credentials: &Credentials) -> Option<(String, String)> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(credentials.ca_pem.as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(credentials.certificate_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    ask(stream, "/metrics").await
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_machine_only_an_operator_sees_the_figures() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("tenant").await;
    let port = serve(deployment.service(), "0.0.0.0:0").await;
    let (status, body) = over_tls(port, deployment.operator_credentials()).await.unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("coffer_site_up"));
    assert_eq!(over_tls(port, &tenant.credentials).await, None, "a tenant was let in");
    let plain = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(ask(plain, "/metrics").await, None, "in clear");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_served_there() {
    let deployment = Deployment::six_sites().await;
    let port = serve(deployment.service(), "127.0.0.1:0").await;
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (status, _) = ask(stream, "/metrics/../etc").await.unwrap();
    assert_eq!(status, "HTTP/1.1 404 Not Found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_retired_is_in_no_figure_any_more_and_one_that_is_silent_is() {
    let deployment = Deployment::six_sites().await;
    let operator = deployment.operator().await;
    operator.add_site(&fast_sites_and(&[("hel1", "FI")]), None).await.unwrap();
    operator.change_site("mad1", SiteChange::Drain).await.unwrap();
    deployment.service().repair(RepairRun::default(), &|_| ()).await.unwrap();
    let port = serve(deployment.service(), "127.0.0.1:0").await;
    assert!(
        figures(port).await.contains(r#"coffer_site_up{site="mad1"} 1"#),
        "it is drained, and still there"
    );
    operator.change_site("mad1", SiteChange::Retire).await.unwrap();
    operator.set_site_alive("par1", false).await.unwrap();
    let text = figures(port).await;
    let of_it: Vec<&str> = text.lines().filter(|line| line.contains(r#"site="mad1""#)).collect();
    assert_eq!(of_it, Vec::<&str>::new());
    let down: Vec<&str> =
        text.lines().filter(|line| line.starts_with("coffer_site_up{") && line.ends_with(" 0")).collect();
    assert_eq!(down, [r#"coffer_site_up{site="par1"} 0"#], "two would be critical");
}

#[tokio::test(flavor = "multi_thread")]
async fn drills_that_are_signed_at_once_are_all_counted() {
    const DRILLS: u16 = 24;
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    let wire = Wire::connect(deployment.endpoint(), &tenant.credentials).await.unwrap();
    let signing = (0..DRILLS).map(|number| {
        let mut wire = wire.clone();
        let statement = serde_json::json!({
            "_type": "https://in-toto.io/Statement/v1", "number": number, "predicateType": "urn:coffer:drill:1",
            "predicate": { "tenant": tenant.tenant.to_string() },
        });
        let request = SignRecordRequest { tenant: Default::default(), statement: statement.to_string().into() };
        async move { wire.drills.sign_record(request).await.map(drop) }
    });
    for signed in futures::future::join_all(signing).await {
        signed.unwrap();
    }
    let port = serve(deployment.service(), "127.0.0.1:0").await;
    let text = figures(port).await;
    let counted = samples(&text)[r#"coffer_drill_records{tenant="1"}"#];
    assert!((counted - f64::from(DRILLS)).abs() < 0.5, "{counted} of {DRILLS}");
}
