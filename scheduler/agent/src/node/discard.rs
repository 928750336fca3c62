//! Bytes of sites that are retired for good are removed where the control plane
//! says so on the Node, and the Node says when they are gone. Whatever fails is tried again with the next look.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::api::Patch;
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;

use super::record::PodRecord;
use super::{Context, volumes};
use crate::disk::{self, DiskError};

/// What annotations begin with that name directories below the node's data, between commas.
const DISCARD: &str = "discard.fleet.coffer/";
/// Those of them that are gone.
const DISCARDED: &str = "fleet.coffer/discarded";
/// Who has a directory while it is removed.
const HOLDER: &str = "discard";

/// Why a directory is not removed.
#[derive(Debug, thiserror::Error)]
enum DiscardError {
    /// It leads out of the data, or is not the directory of one site.
    #[error("{0:?} is no directory of a site")]
    NotOurs(String),
    /// A pod of this node has it.
    #[error("{0:?} belongs to a pod that is here")]
    InUse(String),
    /// The disk refuses.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The thread that removes was ended.
    #[error("it was not removed to the end")]
    Interrupted,
}

/// Follows what the node is told, by each look at it. Beside the node's heartbeats, because a large directory
/// takes its time; what is said meanwhile is seen afterwards.
pub(super) async fn keep(context: Arc<Context>, mut seen: watch::Receiver<Option<Node>>) {
    let nodes: Api<Node> = Api::all(context.client.clone());
    while seen.changed().await.is_ok() {
        let node = seen.borrow_and_update().clone();
        if let Some(node) = node {
            // Told again with the next look where it failed.
            drop(carry_out(&context, &nodes, &node).await);
        }
    }
}

/// Removes what the node is told to, and says what is gone.
async fn carry_out(context: &Arc<Context>, nodes: &Api<Node>, node: &Node) -> kube::Result<()> {
    let told = node.annotations().iter().filter(|(key, _)| key.starts_with(DISCARD));
    let told: BTreeSet<&str> =
        told.flat_map(|(_, text)| text.split(',')).filter(|path| !path.is_empty()).collect();
    let mut done = BTreeSet::new();
    for path in told {
        match remove(context, path).await {
            Ok(()) => drop(done.insert(path)),
            Err(error) => tell(context, node, format!("the bytes of a retired site stay: {error}")).await,
        }
    }
    let done: Vec<&str> = done.into_iter().collect();
    let text = (!done.is_empty()).then(|| done.join(","));
    if node.annotations().get(DISCARDED) == text.as_ref() {
        return Ok(());
    }
    let patch = json!({ "metadata": { "annotations": { DISCARDED: text } } });
    nodes.patch(&context.config.name, &super::ours(), &Patch::Merge(&patch)).await.map(drop)
}

/// An event on the node: whoever looks why room is not given back finds it.
async fn tell(context: &Context, node: &Node, note: String) {
    let event = Event {
        type_: EventType::Warning,
        reason: "BytesStay".to_owned(),
        note: Some(note),
        action: "Discard".to_owned(),
        secondary: None,
    };
    // It is told again with the next attempt.
    drop(context.teller.tell(&event, &node.object_ref(&())).await);
}

async fn remove(context: &Arc<Context>, path: &str) -> Result<(), DiscardError> {
    // One of a site, never the directory of all.
    let directory = context.places.data_of(path).filter(|_| path.starts_with("site-data/"));
    let directory =
        directory.filter(|directory| directory.parent() == context.places.data_of("site-data").as_deref());
    let directory = directory.ok_or_else(|| DiscardError::NotOurs(path.to_owned()))?;
    let own = std::slice::from_ref(&directory);
    if !context.claims.take(own, HOLDER) {
        return Err(DiscardError::InUse(path.to_owned()));
    }
    let removed = if is_of_a_pod(context, &directory) {
        Err(DiscardError::InUse(path.to_owned()))
    } else {
        let directory = directory.clone();
        let removing = tokio::task::spawn_blocking(move || disk::discard(&directory));
        removing.await.map_err(|_| DiscardError::Interrupted).and_then(|done| Ok(done?))
    };
    context.claims.release(HOLDER);
    removed
}

/// Whether a pod is noted here that has the directory, whether it runs or not.
fn is_of_a_pod(context: &Context, directory: &PathBuf) -> bool {
    PodRecord::all(&context.places)
        .iter()
        .any(|record| volumes::data_directories(context, record).unwrap_or_default().contains(directory))
}
