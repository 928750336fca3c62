//! What happens in the API, read and translated where it comes in, as one stream
//! of changes for the book.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use coffer_scheduler::{NodeName, SetName};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;

use crate::attestation::TrustedKeys;
use crate::book::{Discards, SeenNode};
use crate::names::{ATTESTATION, DRAIN, REVOCATIONS};
use crate::resources::SiteSet;
use crate::translate::{self, SeenPod, SeenSet, Whose};

/// A change.
#[derive(Debug)]
pub(crate) enum Change {
    Node(Box<SeenNode>),
    NodeGone(NodeName),
    /// These are all nodes.
    Nodes(BTreeSet<NodeName>),
    Pod(Box<SeenPod>),
    PodGone(Box<SeenPod>),
    /// The uids of all pods.
    Pods(BTreeSet<String>),
    Set(Box<SeenSet>, BTreeMap<u32, NodeName>),
    SetGone(SetName),
    Sets(BTreeSet<SetName>),
    Revocations(BTreeSet<String>),
    /// An object takes no part, and why.
    Refused(Box<ObjectReference>, String),
}

/// Nobody listens any more.
struct Closed;

/// Watches everything that placing depends on, until nobody listens.
pub(crate) async fn all(client: Client, namespace: String, trusted: TrustedKeys, to: Sender<Change>) {
    let of_node = |node: &core::Node| node_changes(node, &trusted);
    let of_pod = |pod: &core::Pod| pod_changes(pod, &namespace);
    let pod_gone = |pod: &core::Pod| Some(Change::PodGone(Box::new(seen_pod(pod, &namespace))));
    let node_gone = |node: &core::Node| node_name(node).map(Change::NodeGone);
    let set_gone = |set: &SiteSet| set_name(set).map(Change::SetGone);
    let (nodes, pods) = (Api::all(client.clone()), Api::all(client.clone()));
    let sets = Api::namespaced(client.clone(), &namespace);
    tokio::join!(
        follow(nodes, to.clone(), node_name, Change::Nodes, node_gone, of_node),
        follow(pods, to.clone(), |pod| pod.uid(), Change::Pods, pod_gone, of_pod),
        follow(sets, to.clone(), set_name, Change::Sets, set_gone, set_changes),
        revocations(client, &namespace, to),
    );
}

/// Watches one kind of objects: each that there is, then which they are in
/// all, then what becomes of them. A watcher that was cut off begins anew.
async fn follow<K, N>(
    api: Api<K>,
    to: Sender<Change>,
    name: fn(&K) -> Option<N>,
    all: fn(BTreeSet<N>) -> Change,
    gone: impl Fn(&K) -> Option<Change>,
    changes: impl Fn(&K) -> Vec<Change>,
) where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    N: Ord,
{
    let mut stream = watch(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = BTreeSet::new();
    while let Some(event) = stream.next().await {
        let changes = match event {
            // The watcher begins anew by itself.
            Err(_) => continue,
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitDone) => vec![all(std::mem::take(&mut listed))],
            Ok(Event::Delete(object)) => gone(&object).into_iter().collect(),
            Ok(Event::InitApply(object)) => {
                listed.extend(name(&object));
                changes(&object)
            }
            Ok(Event::Apply(object)) => changes(&object),
        };
        if send(&to, changes).await.is_err() {
            return;
        }
    }
}

fn node_name(object: &core::Node) -> Option<NodeName> {
    object.name_any().parse().ok()
}

fn set_name(object: &SiteSet) -> Option<SetName> {
    object.name_any().parse().ok()
}

pub(crate) fn node_changes(object: &core::Node, trusted: &TrustedKeys) -> Vec<Change> {
    match translate::node(object) {
        Ok(base) => {
            let annotations = object.metadata.annotations.as_ref();
            let text = annotations.and_then(|all| all.get(ATTESTATION));
            let statement = trusted.verify(&base.name, text.map(String::as_str));
            let drain = annotations.is_some_and(|all| all.contains_key(DRAIN));
            let discards = Discards::of(annotations);
            vec![Change::Node(Box::new(SeenNode { base, statement, drain, discards, silent_since: None }))]
        }
        Err(why) => {
            let gone = node_name(object).map(Change::NodeGone);
            let refused = Change::Refused(Box::new(object.object_ref(&())), why.to_string());
            gone.into_iter().chain([refused]).collect()
        }
    }
}

/// A pod as the fleet of this namespace sees it: those elsewhere are another fleet's, and only take room.
fn seen_pod(object: &core::Pod, namespace: &str) -> SeenPod {
    let mut seen = translate::pod(object);
    if seen.namespace != namespace {
        seen.whose = Whose::Foreign;
    }
    seen
}

pub(crate) fn pod_changes(object: &core::Pod, namespace: &str) -> Vec<Change> {
    let seen = seen_pod(object, namespace);
    let refused = match &seen.whose {
        // Said once: while it has no node yet.
        Whose::Refused(why) if seen.node.is_none() => {
            Some(Change::Refused(Box::new(object.object_ref(&())), why.to_string()))
        }
        _ => None,
    };
    [Change::Pod(Box::new(seen))].into_iter().chain(refused).collect()
}

pub(crate) fn set_changes(object: &SiteSet) -> Vec<Change> {
    match translate::site_set(object) {
        Ok(seen) => {
            let members = object.status.iter().flat_map(|status| &status.members);
            let homes = members.filter_map(|one| Some((one.ordinal, one.node.as_ref()?.parse().ok()?)));
            let departed = object.status.iter().flat_map(|status| &status.departed);
            let homes = homes.chain(departed.filter_map(|one| Some((one.ordinal, one.node.parse().ok()?))));
            vec![Change::Set(Box::new(seen), homes.collect())]
        }
        // What it was before stays as it was: a typing error takes nothing down.
        Err(why) => vec![Change::Refused(Box::new(object.object_ref(&())), why.to_string())],
    }
}

async fn revocations(client: Client, namespace: &str, to: Sender<Change>) {
    let api: Api<core::ConfigMap> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={REVOCATIONS}"));
    let mut stream = watch(api, config).default_backoff().boxed();
    let mut listed = BTreeSet::new();
    loop {
        let revoked = match stream.try_next().await {
            Err(_) => continue,
            Ok(None) => return,
            Ok(Some(Event::Init)) => {
                listed.clear();
                continue;
            }
            Ok(Some(Event::InitApply(map))) => {
                listed = revoked(&map);
                continue;
            }
            Ok(Some(Event::InitDone)) => std::mem::take(&mut listed),
            Ok(Some(Event::Apply(map))) => revoked(&map),
            Ok(Some(Event::Delete(_))) => BTreeSet::new(),
        };
        if send(&to, vec![Change::Revocations(revoked)]).await.is_err() {
            return;
        }
    }
}

fn revoked(map: &core::ConfigMap) -> BTreeSet<String> {
    map.data.iter().flat_map(BTreeMap::keys).cloned().collect()
}

async fn send(to: &Sender<Change>, changes: Vec<Change>) -> Result<(), Closed> {
    for change in changes {
        to.send(change).await.map_err(|_| Closed)?;
    }
    Ok(())
}
