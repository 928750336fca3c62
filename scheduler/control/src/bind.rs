//! How decisions become bindings. In the embedded home one transaction holds the
//! pods, the capacity of their nodes and the lines of the ledger; on a real
//! cluster a reservation by comparison comes before each binding.

mod reserving;
mod transactions;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Binding as PodBinding, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ObjectMeta as Metadata;

use crate::book::Binding;
use crate::names::DECISION;
use crate::resources::{PlacementRecord, PlacementRecordSpec};

pub use reserving::Reserving;
pub use transactions::{Change, Transact, TransactionRefused, Transactions, Version};

/// Lines of the ledger that are to be written down with the bindings that they decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which run of the scheduler this is.
    pub segment: String,
    /// Number of the first line.
    pub first: u64,
    /// The lines.
    pub lines: Vec<String>,
    /// Digest of the last.
    pub end: String,
    /// End of the segment before, in the first record.
    pub follows: Option<String>,
}

/// What is to be done at once, as far as the home can do it at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The namespace of the records.
    pub namespace: String,
    /// Pods with their nodes.
    pub bindings: Vec<Binding>,
    /// Lines of the ledger, in order.
    pub records: Vec<Record>,
}

/// Why nothing, or nobody knows what, was bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The API does not answer, or not as it should.
    #[error("the API did not bind: {0}")]
    Api(#[from] kube::Error),
    /// The transaction was refused as a whole: another scheduler has gone on with the ledger, or the store fails.
    #[error("nothing was bound: {0}")]
    Refused(String),
    /// An object that has no JSON form.
    #[error("an object could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// All of it was done.
    All,
    /// The bindings with these names of pods were refused, and why; all else was done.
    Some(Vec<(String, String)>),
    /// One binding was refused, and nothing was done.
    None(String, String),
}

/// How decisions become bindings.
#[async_trait]
pub trait Bind: Send + Sync {
    /// Binds the pods of a batch and writes its lines down.
    ///
    /// # Errors
    /// [`BindError`]: then it is not known what was done.
    async fn bind(&self, batch: &Batch) -> Result<Bound, BindError>;
}

/// A binding as the API wants it.
pub(crate) fn pod_binding(binding: &Binding) -> PodBinding {
    let annotations = binding.line.map(|line| [(DECISION.to_owned(), line.to_string())].into());
    PodBinding {
        metadata: ObjectMeta {
            name: Some(binding.name.clone()),
            namespace: Some(binding.namespace.clone()),
            uid: Some(binding.uid.clone()),
            annotations,
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(binding.node.to_string()),
            ..ObjectReference::default()
        },
    }
}

/// A record as the API wants it. Its name says where it belongs, so that none is written twice.
pub(crate) fn placement_record(namespace: &str, record: &Record) -> PlacementRecord {
    let name = format!("{}-{:010}", record.segment, record.first);
    PlacementRecord {
        metadata: Metadata { name: Some(name), namespace: Some(namespace.to_owned()), ..Metadata::default() },
        spec: PlacementRecordSpec {
            segment: record.segment.clone(),
            first: record.first,
            count: u32::try_from(record.lines.len()).unwrap_or(u32::MAX),
            lines: record.lines.clone(),
            end: record.end.clone(),
            follows: record.follows.clone(),
        },
    }
}
