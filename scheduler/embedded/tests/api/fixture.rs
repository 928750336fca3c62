//! An API on a fresh file, and manifests.

use std::sync::Arc;

use bytes::Bytes;
use coffer_custody::{OsEntropy, SystemClock};
use coffer_embedded::store::Limits;
use coffer_embedded::{Embedded, Identity, NoAudit, NoNodeAccess, Options};
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

pub(crate) struct Fixture {
    pub(crate) embedded: Embedded,
    pub(crate) directory: TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(options(&directory)).await.unwrap();
        Self { embedded, directory }
    }

    /// Sends a request as it is, from the inside; its status and its JSON, if it is any.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: impl Into<Bytes>,
    ) -> (u16, Value) {
        self.send_as(Identity::new("inside", ["system:masters"]), method, path, media, body).await
    }

    /// The same from somebody.
    pub(crate) async fn send_as(
        &self,
        identity: Identity,
        method: &str,
        path: &str,
        media: &str,
        body: impl Into<Bytes>,
    ) -> (u16, Value) {
        let request = http::Request::builder().method(method).uri(path).header("content-type", media);
        let request = request.body(Full::new(body.into())).unwrap();
        let response = self.embedded.service(identity).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.embedded.client(), "default")
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.embedded.client())
    }
}

pub(crate) fn options(directory: &TempDir) -> Options {
    Options {
        path: directory.path().join("fleet.sqlite"),
        limits: Limits::default(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        nodes: Arc::new(NoNodeAccess),
        audit: Arc::new(NoAudit),
    }
}

pub(crate) fn pod(name: &str) -> Pod {
    of(json!({
        "metadata": {"name": name, "labels": {"app": "site"}},
        "spec": {"schedulerName": "coffer", "containers": [{"name": "site", "image": "coffer.local/site@sha256:00"}]},
    }))
}

pub(crate) fn node(name: &str) -> Node {
    of(json!({"metadata": {"name": name}, "status": {"capacity": {"cpu": 2}}}))
}

pub(crate) fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// The HTTP status that a refused request got.
pub(crate) fn code<T: std::fmt::Debug>(outcome: kube::Result<T>) -> u16 {
    match outcome {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("not refused: {other:?}"),
    }
}
