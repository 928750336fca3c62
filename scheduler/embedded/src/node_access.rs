//! The port to the nodes: what only the agent of a node can answer.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::Value;

/// Which part of whose log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Container in the pod.
    pub container: String,
    /// Go on as the log grows.
    pub follow: bool,
    /// Of the container before its last start.
    pub previous: bool,
    /// Each line with its time.
    pub timestamps: bool,
    /// This many last lines; all if none.
    pub tail_lines: Option<u32>,
    /// Not older than this many seconds.
    pub since_seconds: Option<u32>,
    /// Not before this moment, RFC 3339.
    pub since_time: Option<String>,
    /// This many bytes at most.
    pub limit_bytes: Option<u64>,
}

/// Why a node gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum NodeAccessError {
    /// The node says where it is nowhere, or cannot be reached there.
    #[error("node {node} cannot be reached")]
    Unreachable {
        /// Which.
        node: String,
    },
    /// The node does not have that container or log.
    #[error("node {node} has no such log")]
    NoLog {
        /// Which.
        node: String,
    },
    /// No way to nodes was given to this server.
    #[error("this server has no way to its nodes")]
    NoWay,
}

/// Asks nodes. `node` is the Node object, with addresses and port of its agent.
#[async_trait]
pub trait NodeAccess: Send + Sync {
    /// The log of a container.
    async fn logs(
        &self,
        node: &Value,
        request: LogRequest,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, NodeAccessError>;

    /// What the node and its pods use, as the `Summary` of a kubelet.
    async fn usage(&self, node: &Value) -> Result<Value, NodeAccessError>;
}

/// No way to any node.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNodeAccess;

#[async_trait]
impl NodeAccess for NoNodeAccess {
    async fn logs(
        &self,
        _node: &Value,
        _request: LogRequest,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, NodeAccessError> {
        Err(NodeAccessError::NoWay)
    }

    async fn usage(&self, _node: &Value) -> Result<Value, NodeAccessError> {
        Err(NodeAccessError::NoWay)
    }
}
