//! The way to the nodes: the small endpoint of each agent, over mutual TLS. A
//! node says itself where it is, so that the certificate found there must be of
//! the node's name: no node is asked in place of another.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::listener::{ListenError, Tls};
use crate::node_access::{LogRequest, NodeAccess, NodeAccessError};
use crate::object::{elements, field, meta};

/// How long a node may take to be reached and to begin its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a summary of what a node uses.
const SUMMARY_BYTES_MAX: usize = 8 << 20;

/// Asks the agents of nodes.
pub struct AgentAccess {
    tls: TlsConnector,
}

impl AgentAccess {
    /// With the certificate and key that agents hear, and the authority that certifies nodes (`clients`).
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn new(tls: &Tls) -> Result<Self, ListenError> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(tls.clients.as_bytes()) {
            roots.add(root?)?;
        }
        let chain =
            CertificateDer::pem_slice_iter(tls.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes())?;
        let mut config =
            ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn get(&self, node: &Value, path: &str) -> Result<Incoming, NodeAccessError> {
        let name = meta(node, "name").to_owned();
        let unreachable = || NodeAccessError::Unreachable { node: name.clone() };
        let answer = timeout(PATIENCE, self.ask(node, path)).await.ok().flatten().ok_or_else(unreachable)?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            StatusCode::NOT_FOUND => Err(NodeAccessError::NoLog { node: name }),
            _ => Err(unreachable()),
        }
    }

    /// None where any step fails: the caller can do nothing about which.
    async fn ask(&self, node: &Value, path: &str) -> Option<http::Response<Incoming>> {
        let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port")?.as_u64()?;
        let port = u16::try_from(port).ok()?;
        let is_kind = |kind: &'static str| move |one: &&Value| field(one, "type") == kind;
        let addresses = elements(node, "/status/addresses");
        let address =
            ["InternalIP", "Hostname"].iter().find_map(|kind| addresses.iter().find(is_kind(kind)))?;
        let socket = TcpStream::connect((field(address, "address"), port)).await.ok()?;
        let name = ServerName::try_from(meta(node, "name").to_owned()).ok()?;
        let stream = self.tls.connect(name, socket).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        // The connection ends with the answer, or with whoever drops it.
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, meta(node, "name")).body(Empty::<Bytes>::new()).ok()?;
        sender.send_request(request).await.ok()
    }
}

#[async_trait]
impl NodeAccess for AgentAccess {
    async fn logs(
        &self,
        node: &Value,
        request: LogRequest,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, NodeAccessError> {
        let body = self.get(node, &log_path(&request)).await?;
        Ok(body.into_data_stream().map(|piece| piece.map_err(std::io::Error::other)).boxed())
    }

    async fn usage(&self, node: &Value) -> Result<Value, NodeAccessError> {
        let body = self.get(node, "/stats/summary").await?;
        let whole = timeout(PATIENCE, Limited::new(body, SUMMARY_BYTES_MAX).collect()).await;
        let bytes = whole.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
        let summary = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        summary.ok_or_else(|| NodeAccessError::Unreachable { node: meta(node, "name").to_owned() })
    }
}

/// The path of a kubelet's log, with the options that were given.
fn log_path(request: &LogRequest) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, flag) in
        [("follow", request.follow), ("previous", request.previous), ("timestamps", request.timestamps)]
    {
        if flag {
            query.append_pair(name, "true");
        }
    }
    let numbers = [
        ("tailLines", request.tail_lines.map(u64::from)),
        ("sinceSeconds", request.since_seconds.map(u64::from)),
        ("limitBytes", request.limit_bytes),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            query.append_pair(name, &number.to_string());
        }
    }
    if let Some(since) = &request.since_time {
        query.append_pair("sinceTime", since);
    }
    let LogRequest { namespace, pod, container, .. } = request;
    format!("/containerLogs/{namespace}/{pod}/{container}?{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_options_that_were_given_are_asked_for() {
        let plain = LogRequest {
            namespace: "n".into(),
            pod: "p".into(),
            container: "c".into(),
            ..LogRequest::default()
        };
        assert_eq!(log_path(&plain), "/containerLogs/n/p/c?");
        let all = LogRequest {
            follow: true,
            tail_lines: Some(3),
            since_time: Some("2026-01-01T00:00:00+01:00".into()),
            ..plain
        };
        assert_eq!(
            log_path(&all),
            "/containerLogs/n/p/c?follow=true&tailLines=3&sinceTime=2026-01-01T00%3A00%3A00%2B01%3A00"
        );
    }
}
