//! Garbage collection by owner: what loses its owners goes, an owner that is
//! deleted in the foreground waits for what it owns, one that orphans lets go of it.
//!
//! The graph is fed by one watch of metadata for each kind. It may be behind, so that
//! an owner that it does not know is asked for before anything is deleted, and
//! what is deleted is named by its uid. What an owner that waits or orphans has of dependents is only asked of the graph:
//! nobody is judged while a kind is not listed, or not known.

pub mod graph;

use std::collections::{BTreeSet, HashMap};

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{
    Api, DeleteParams, DynamicObject, PartialObjectMeta, Patch, PatchParams, Preconditions, PropagationPolicy,
};
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use self::graph::{Entry, Graph, Standing, Verdict};
use super::{Fault, Settings, Told};

/// Group and kind.
type Name = (String, String);

/// What a watch saw.
enum Seen {
    Applied(Entry),
    Removed(String),
    /// All that there is of a kind.
    Listed(Name, BTreeSet<String>),
    /// A custom resource definition changed: there may be other kinds now.
    Kinds,
}

struct Collector {
    client: Client,
    told: Told,
    graph: Graph,
    kinds: HashMap<Name, (ApiResource, bool)>,
    watches: HashMap<Name, AbortHandle>,
    tasks: JoinSet<()>,
    seen: mpsc::Sender<Seen>,
    /// Uids of those whose verdict could not be carried out.
    failed: Vec<String>,
}

/// Collects until it is dropped.
pub(super) async fn run(client: &Client, settings: &Settings, told: &Told) {
    let (seen, mut sightings) = mpsc::channel(1024);
    let mut collector = Collector {
        client: client.clone(),
        told: told.clone(),
        graph: Graph::default(),
        kinds: HashMap::new(),
        watches: HashMap::new(),
        tasks: JoinSet::new(),
        seen,
        failed: Vec::new(),
    };
    let mut kinds_known = false;
    // By the clock, not in a pause: in a fleet that is never quiet what failed must be tried again too.
    let mut retry = tokio::time::interval(settings.period);
    retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut next = tokio::select! {
            _ = retry.tick() => {
                for uid in std::mem::take(&mut collector.failed) {
                    collector.graph.again(&uid);
                }
                None
            }
            seen = sightings.recv() => seen,
        };
        while let Some(seen) = next {
            kinds_known &= !matches!(seen, Seen::Kinds);
            collector.take(seen);
            next = sightings.try_recv().ok();
        }
        if !kinds_known {
            kinds_known = collector.discover().await;
        }
        if kinds_known {
            for entry in collector.graph.take_dirty() {
                collector.judge(entry).await;
            }
        }
    }
}

impl Collector {
    /// Finds the kinds and watches them; whether that worked.
    async fn discover(&mut self) -> bool {
        let discovery = match Discovery::new(self.client.clone()).run_aggregated().await {
            Ok(discovery) => discovery,
            Err(error) => {
                (self.told)(Fault::Discovery(error));
                return false;
            }
        };
        let mut kinds = HashMap::new();
        for (resource, abilities) in discovery.groups().flat_map(|group| group.recommended_resources()) {
            let able = [verbs::LIST, verbs::WATCH, verbs::DELETE]
                .iter()
                .all(|verb| abilities.supports_operation(verb));
            // Events own nothing, are owned by nobody, and are many.
            if able && resource.kind != "Event" {
                let name = (resource.group.clone(), resource.kind.clone());
                kinds.insert(name, (resource, abilities.scope == Scope::Namespaced));
            }
        }
        self.watches.retain(|name, watch| {
            let stays = kinds.contains_key(name);
            if !stays {
                watch.abort();
                self.graph.retain(&name.0, &name.1, &BTreeSet::new());
            }
            stays
        });
        for (name, (resource, _)) in &kinds {
            if !self.watches.contains_key(name) {
                let watch =
                    watch(self.client.clone(), resource.clone(), self.seen.clone(), self.told.clone());
                self.watches.insert(name.clone(), self.tasks.spawn(watch));
                self.graph.expect(&name.0, &name.1);
            }
        }
        self.kinds = kinds;
        true
    }

    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Applied(entry) => self.graph.apply(entry),
            Seen::Removed(uid) => self.graph.remove(&uid),
            Seen::Listed(name, uids) => self.graph.retain(&name.0, &name.1, &uids),
            Seen::Kinds => {}
        }
    }

    async fn judge(&mut self, entry: Entry) {
        let mut standings = HashMap::new();
        for owner in entry.owners.iter().filter(|owner| !self.graph.knows(&owner.uid)) {
            standings.insert(owner.uid.clone(), self.standing(&entry, owner).await);
        }
        let verdict = self
            .graph
            .judge(&entry, &|owner| standings.get(&owner.uid).copied().unwrap_or(Standing::Unknown));
        if verdict == Verdict::Keep {
            if standings.values().any(|standing| *standing == Standing::Unknown) {
                self.failed.push(entry.uid);
            }
            return;
        }
        let Some(api) = self.api(&entry.group, &entry.kind, entry.namespace.as_deref()) else { return };
        let (deed, done) = match &verdict {
            Verdict::Keep => return,
            Verdict::Delete { foreground } => ("deletion", delete(&api, &entry, *foreground).await),
            Verdict::Disown(uids) => ("disowning", disown(&api, &entry, uids).await),
            Verdict::Release(finalizer) => ("release", release(&api, &entry, finalizer).await),
        };
        match done {
            Ok(()) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => {
                let conflict = matches!(&source, kube::Error::Api(status) if status.code == 409);
                self.failed.push(entry.uid);
                if !conflict {
                    (self.told)(Fault::Request { deed, object: entry.name, source });
                }
            }
        }
    }

    /// Asks the API itself how an owner stands.
    async fn standing(&self, entry: &Entry, owner: &OwnerReference) -> Standing {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let name = (group.to_owned(), owner.kind.clone());
        let Some((_, namespaced)) = self.kinds.get(&name) else { return Standing::Unknown };
        let namespace = entry.namespace.as_deref();
        if *namespaced && namespace.is_none() {
            // What lives in no namespace cannot be owned by what does.
            return Standing::Unknown;
        }
        let Some(api) = self.api(&name.0, &name.1, namespace) else { return Standing::Unknown };
        match api.get_opt(&owner.name).await {
            Ok(None) => Standing::Gone,
            Ok(Some(found)) if found.metadata.uid.as_deref() == Some(owner.uid.as_str()) => Standing::There,
            Ok(Some(_)) => Standing::Gone,
            Err(_) => Standing::Unknown,
        }
    }

    fn api(
        &self,
        group: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Option<Api<PartialObjectMeta<DynamicObject>>> {
        let (resource, namespaced) = self.kinds.get(&(group.to_owned(), kind.to_owned()))?;
        Some(match namespace.filter(|_| *namespaced) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        })
    }
}

/// Watches the metadata of one kind and tells what it sees.
async fn watch(client: Client, resource: ApiResource, seen: mpsc::Sender<Seen>, told: Told) {
    let name = (resource.group.clone(), resource.kind.clone());
    let definitions = resource.kind == "CustomResourceDefinition";
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        let entry = |object: &PartialObjectMeta<DynamicObject>| Entry::of(&name.0, &name.1, &object.metadata);
        let told_of = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                None
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.extend(object.metadata.uid.clone());
                entry(&object).map(Seen::Applied)
            }
            Ok(watcher::Event::InitDone) => Some(Seen::Listed(name.clone(), std::mem::take(&mut listed))),
            Ok(watcher::Event::Apply(object)) => entry(&object).map(Seen::Applied),
            Ok(watcher::Event::Delete(object)) => object.metadata.uid.map(Seen::Removed),
            Err(error) => {
                told(Fault::Watch(error));
                None
            }
        };
        let Some(told_of) = told_of else { continue };
        if seen.send(told_of).await.is_err() || (definitions && seen.send(Seen::Kinds).await.is_err()) {
            return;
        }
    }
}

async fn delete(
    api: &Api<PartialObjectMeta<DynamicObject>>,
    entry: &Entry,
    foreground: bool,
) -> Result<(), kube::Error> {
    let policy = if foreground { PropagationPolicy::Foreground } else { PropagationPolicy::Background };
    let only = Preconditions { uid: Some(entry.uid.clone()), resource_version: None };
    let how =
        DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() }.preconditions(only);
    match api.delete(&entry.name, &how).await {
        // The name belongs to another object by now.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(drop),
    }
}

async fn disown(
    api: &Api<PartialObjectMeta<DynamicObject>>,
    entry: &Entry,
    uids: &[String],
) -> Result<(), kube::Error> {
    let Some(now) = api.get_opt(&entry.name).await? else { return Ok(()) };
    if now.metadata.uid.as_ref() != Some(&entry.uid) {
        return Ok(());
    }
    let owners = now.metadata.owner_references.unwrap_or_default();
    let left: Vec<_> = owners.into_iter().filter(|owner| !uids.contains(&owner.uid)).collect();
    let change = json!({"metadata": {
        "resourceVersion": now.metadata.resource_version, "uid": entry.uid, "ownerReferences": left,
    }});
    api.patch(&entry.name, &PatchParams::default(), &Patch::Merge(change)).await.map(drop)
}

async fn release(
    api: &Api<PartialObjectMeta<DynamicObject>>,
    entry: &Entry,
    finalizer: &str,
) -> Result<(), kube::Error> {
    let Some(now) = api.get_opt(&entry.name).await? else { return Ok(()) };
    if now.metadata.uid.as_ref() != Some(&entry.uid) {
        return Ok(());
    }
    let finalizers = now.metadata.finalizers.unwrap_or_default();
    let left: Vec<_> = finalizers.into_iter().filter(|name| name != finalizer).collect();
    let change = json!({"metadata": {
        "resourceVersion": now.metadata.resource_version, "uid": entry.uid, "finalizers": left,
    }});
    api.patch(&entry.name, &PatchParams::default(), &Patch::Merge(change)).await.map(drop)
}
