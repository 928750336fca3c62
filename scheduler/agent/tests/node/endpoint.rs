//! The node's endpoint: logs and usage for whoever has a certificate of the
//! right authority, and not a word for anybody else.

use std::net::SocketAddr;
use std::sync::Arc;

use coffer_agent::{NodeTls, serve};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::fleet::{Fleet, ready};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn certificate(&self) -> (String, String) {
        let params = CertificateParams::new(vec!["node".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// What the endpoint answers, or why not.
async fn get(
    address: SocketAddr,
    trusted: &Authority,
    own: Option<&Authority>,
    path: &str,
) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own.map(Authority::certificate) {
        Some((chain, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                .unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::try_from("node").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_usage_are_told_to_who_has_a_certificate_and_to_nobody_else() {
    let Some(fleet) = Fleet::new("endpoint").await else { return };
    let agent = fleet.start();
    let (nodes, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (certificate, key) = nodes.certificate();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = NodeTls { certificate, key, clients: clients.pem.clone() };
    let logs = agent.access();
    let serving = tokio::spawn(async move { serve(listener, &tls, logs).await });
    fleet.create("talks", &["wait"], json!({})).await;
    fleet.until("talks", ready).await;
    fleet.until_says(&agent, "talks", "ready").await;

    let path = "/containerLogs/coffer/talks/site?tailLines=1";
    let told = get(address, &nodes, Some(&clients), path).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 200") && told.contains("ready\n"), "{told}");
    let none = get(address, &nodes, Some(&clients), "/containerLogs/coffer/nobody/site").await.unwrap();
    assert!(none.starts_with("HTTP/1.1 404"), "{none}");
    let nonsense = get(address, &nodes, Some(&clients), &format!("{path}x")).await.unwrap();
    assert!(nonsense.starts_with("HTTP/1.1 400"), "{nonsense}");
    let summary = get(address, &nodes, Some(&clients), "/stats/summary").await.unwrap();
    let summary: Value = serde_json::from_str(summary.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(summary["pods"][0]["podRef"]["name"], "talks");
    assert!(summary["pods"][0]["memory"]["workingSetBytes"].as_u64().unwrap() > 0);
    // What the API asks for: rates, of each container and of the node.
    assert!(summary["pods"][0]["containers"][0]["cpu"]["usageNanoCores"].is_u64(), "{summary}");
    assert!(summary["node"]["cpu"]["usageNanoCores"].is_u64(), "{summary}");
    for own in [None, Some(&strangers), Some(&nodes)] {
        let told = get(address, &nodes, own, path).await;
        assert!(told.as_ref().is_err() || told.as_ref().is_ok_and(String::is_empty), "{told:?}");
    }
    serving.abort();
    agent.end_all().await;
}
