//! The embedded API behind mutual TLS, with certificates of its own authority.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use coffer_custody::{OsEntropy, SystemClock};
use coffer_embedded::store::Limits;
use coffer_embedded::{Embedded, LogRequest, NoAudit, NodeAccess, NodeAccessError, Options, Tls};
use coffer_model::Clock;
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::Client;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cluster::kubeconfig;

pub(crate) struct Server {
    embedded: Embedded,
    directory: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let embedded = Embedded::open(Options {
            path: directory.path().join("api.db"),
            limits: Limits::default(),
            clock: clock.clone(),
            entropy: Arc::new(OsEntropy),
            nodes: Arc::new(Nodes),
            audit: Arc::new(NoAudit),
        })
        .await
        .unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.issue("127.0.0.1", None);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = Tls { certificate, key: key.into(), clients: authority.pem.clone() };
        let mut tasks = JoinSet::new();
        let serving = embedded.clone();
        tasks.spawn(async move { serving.listen(listener, tls, std::future::pending()).await.unwrap() });
        let (certificate, key) = authority.issue("operator", Some("system:masters"));
        let config = kubeconfig(&format!("https://{address}"), &authority.pem, &certificate, &key);
        let server = Self { embedded, directory, clock, _tasks: tasks };
        #[expect(
            clippy::disallowed_methods,
            reason = "a file for another program, in a directory of the test's own"
        )]
        std::fs::write(server.kubeconfig(), config).unwrap();
        server
    }

    pub(crate) fn embedded(&self) -> &Embedded {
        &self.embedded
    }

    pub(crate) fn client(&self) -> Client {
        self.embedded.client()
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory().join("kubeconfig")
    }
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of the test");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key, in PEM: of the server, or of somebody in a group.
    fn issue(&self, name: &str, group: Option<&str>) -> (String, String) {
        let names = if group.is_none() { vec![name.to_owned()] } else { Vec::new() };
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let purpose = match group {
            Some(group) => {
                params.distinguished_name.push(DnType::OrganizationName, group);
                ExtendedKeyUsagePurpose::ClientAuth
            }
            None => ExtendedKeyUsagePurpose::ServerAuth,
        };
        params.extended_key_usages.push(purpose);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Nodes that say what the tests expect.
struct Nodes;

#[async_trait]
impl NodeAccess for Nodes {
    async fn logs(
        &self,
        _: &Value,
        request: LogRequest,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, NodeAccessError> {
        let lines = ["one\n", "two\n", "three\n"];
        let skipped =
            request.tail_lines.map_or(0, |tail| lines.len().saturating_sub(usize::try_from(tail).unwrap()));
        let lines = lines.into_iter().skip(skipped).map(|line| Ok(Bytes::from_static(line.as_bytes())));
        Ok(futures::stream::iter(lines.collect::<Vec<_>>()).boxed())
    }

    async fn usage(&self, _: &Value) -> Result<Value, NodeAccessError> {
        let of = |millicores: u64, mebibytes: u64| {
            json!({
                "cpu": {"usageNanoCores": millicores * 1_000_000}, "memory": {"workingSetBytes": mebibytes << 20},
            })
        };
        let pods = ["a", "b", "c"].map(|name| {
            let mut container = of(125, 64);
            container["name"] = json!("site");
            json!({"podRef": {"name": name, "namespace": "coffer"}, "containers": [container]})
        });
        let mut summary = json!({"node": of(250, 512), "pods": pods});
        summary["node"]["nodeName"] = json!("any");
        Ok(summary)
    }
}
