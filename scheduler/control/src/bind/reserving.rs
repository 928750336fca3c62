//! A real cluster: first the lines of the ledger, then for each pod a reservation
//! of its node's room by comparison of resource versions, then the binding, and
//! then the reservation is taken back: the bound pod itself holds its room. A crash
//! in between leaves a reservation of a pod that is bound or gone; whoever begins
//! to bind, or reserves on that node, takes it out.

use std::collections::BTreeMap;

use async_trait::async_trait;
use coffer_scheduler::{NodeName, Resources};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::OnceCell;

use super::{Batch, Bind, BindError, Bound, placement_record, pod_binding};
use crate::book::Binding;
use crate::resources::{Held, PlacementRecord, Reservation, ReservationSpec};
use crate::translate::{self, Phase};

/// How often a reservation is tried again after somebody else was quicker.
const ATTEMPTS: usize = 8;
/// On so many nodes is bound at once: what holds up one binding is the way to the API.
const AT_ONCE: usize = 16;

/// Binds by reservation and binding.
pub struct Reserving {
    client: Client,
    /// What was left behind is looked for once.
    compared: OnceCell<()>,
}

enum Refused {
    By(String),
    Api(kube::Error),
}

impl From<kube::Error> for Refused {
    fn from(error: kube::Error) -> Self {
        match error {
            // Conflicts, missing pods and what the API finds wrong concern this binding alone.
            kube::Error::Api(status) if matches!(status.code, 404 | 409 | 422) => {
                Self::By(status.message.clone())
            }
            other => Self::Api(other),
        }
    }
}

impl Reserving {
    /// By this client.
    pub fn new(client: Client) -> Self {
        Self { client, compared: OnceCell::new() }
    }

    /// Binds pods to one node; those that were refused, and why.
    async fn one_after_the_other(
        &self,
        namespace: &str,
        bindings: Vec<&Binding>,
    ) -> Result<Vec<(String, String)>, kube::Error> {
        let mut refused = Vec::new();
        for binding in bindings {
            match self.one(namespace, binding).await {
                Ok(()) => {}
                Err(Refused::By(why)) => refused.push((binding.name.clone(), why)),
                Err(Refused::Api(error)) => return Err(error),
            }
        }
        Ok(refused)
    }

    async fn one(&self, namespace: &str, binding: &Binding) -> Result<(), Refused> {
        self.reserve(namespace, binding).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &binding.namespace);
        let body = pod_binding(binding);
        let params = PostParams::default();
        let bound: Result<Status, _> =
            pods.create_subresource("binding", &binding.name, &params, &body).await;
        // Whatever became of it: a pod that was bound although no answer came is seen on its node.
        let released = self.release(namespace, binding).await;
        bound?;
        released
    }

    /// Enters the pod in the reservation of its node, if there is room for it beside all that are there and
    /// all that are about to be.
    async fn reserve(&self, namespace: &str, binding: &Binding) -> Result<(), Refused> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = nodes.get(binding.node.as_str()).await?;
        let total = translate::node(&node).map_err(|why| Refused::By(why.to_string()))?.total;
        let own = entry(binding);
        for _ in 0..ATTEMPTS {
            // The reservation before the pods: whoever is bound and released in between makes the writing fail.
            let known = self.reservation(namespace, binding.node.as_str()).await?;
            let mut held = self.live(&known.spec.pods).await?;
            held.insert(own.clone(), Held::from(binding.needs));
            let taken = held.values().fold(self.taken(binding).await?, |sum, one| sum.plus(&(*one).into()));
            if taken.lacking(&total).next().is_some() {
                return Err(Refused::By(format!("{} has no room for {}", binding.node, binding.name)));
            }
            if self.write(namespace, known, held).await? {
                return Ok(());
            }
        }
        Err(contended(binding.node.as_str()))
    }

    /// What the pods on the binding's node need, that of the binding itself left out.
    async fn taken(&self, binding: &Binding) -> Result<Resources, kube::Error> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let there = ListParams::default().fields(&format!("spec.nodeName={}", binding.node));
        let pods = pods.list(&there).await?.items.into_iter().map(|pod| translate::pod(&pod));
        let running = pods.filter(|pod| pod.phase != Phase::Ended && pod.uid != binding.uid);
        Ok(running.fold(Resources::default(), |sum, pod| sum.plus(&pod.pod.needs)))
    }

    /// Takes the pod out of its node's reservation.
    async fn release(&self, namespace: &str, binding: &Binding) -> Result<(), Refused> {
        let own = entry(binding);
        for _ in 0..ATTEMPTS {
            let known = self.reservation(namespace, binding.node.as_str()).await?;
            let mut held = known.spec.pods.clone();
            if held.remove(&own).is_none() || self.write(namespace, known, held).await? {
                return Ok(());
            }
        }
        // It is bound: whoever reserves there next finds that, and takes it out.
        Ok(())
    }

    /// Those of the reserved whose pods wait for their binding.
    async fn live(&self, held: &BTreeMap<String, Held>) -> Result<BTreeMap<String, Held>, kube::Error> {
        let mut live = BTreeMap::new();
        for (entry, needs) in held {
            // Without a namespace it is of an earlier version, which released nothing.
            let Some((namespace, name)) = entry.split_once('/') else { continue };
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
            let waits = |pod: Pod| pod.spec.is_some_and(|spec| spec.node_name.is_none());
            if pods.get_opt(name).await?.is_some_and(waits) {
                live.insert(entry.clone(), *needs);
            }
        }
        Ok(live)
    }

    /// Takes out what runs before this one left behind.
    async fn compare(&self, namespace: &str) -> Result<(), kube::Error> {
        let api: Api<Reservation> = Api::namespaced(self.client.clone(), namespace);
        for known in api.list(&ListParams::default()).await? {
            let live = self.live(&known.spec.pods).await?;
            if live != known.spec.pods {
                // Somebody else is at work there, who does the same.
                self.write(namespace, known, live).await?;
            }
        }
        Ok(())
    }

    /// A node's reservation; an empty one that is yet to be made, if there is none.
    async fn reservation(&self, namespace: &str, node: &str) -> Result<Reservation, kube::Error> {
        let api: Api<Reservation> = Api::namespaced(self.client.clone(), namespace);
        let known = api.get_opt(node).await?;
        Ok(known.unwrap_or_else(|| Reservation::new(node, ReservationSpec::default())))
    }

    /// Writes what is held of a node, unless somebody else was quicker; whether it was written. Its
    /// resource version goes along.
    async fn write(
        &self,
        namespace: &str,
        mut known: Reservation,
        held: BTreeMap<String, Held>,
    ) -> Result<bool, kube::Error> {
        let api: Api<Reservation> = Api::namespaced(self.client.clone(), namespace);
        let is_new = known.metadata.resource_version.is_none();
        known.spec.pods = held;
        let written = match is_new {
            true => api.create(&PostParams::default(), &known).await,
            false => api.replace(&known.name_any(), &PostParams::default(), &known).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// How a pod stands in a reservation.
fn entry(binding: &Binding) -> String {
    format!("{}/{}", binding.namespace, binding.name)
}

fn contended(node: &str) -> Refused {
    Refused::By(format!("others reserve room on {node} all the time"))
}

#[async_trait]
impl Bind for Reserving {
    async fn bind(&self, batch: &Batch) -> Result<Bound, BindError> {
        self.compared.get_or_try_init(|| self.compare(&batch.namespace)).await?;
        let records: Api<PlacementRecord> = Api::namespaced(self.client.clone(), &batch.namespace);
        for record in &batch.records {
            let object = placement_record(&batch.namespace, record);
            match records.create(&PostParams::default(), &object).await {
                Ok(_) => {}
                // An answer was lost, not the record.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut by_node: BTreeMap<&NodeName, Vec<&Binding>> = BTreeMap::new();
        for binding in &batch.bindings {
            by_node.entry(&binding.node).or_default().push(binding);
        }
        let all = by_node.into_values();
        let all: Vec<_> = all.map(|some| self.one_after_the_other(&batch.namespace, some)).collect();
        let refused: Vec<(String, String)> = stream::iter(all).buffer_unordered(AT_ONCE).try_concat().await?;
        Ok(if refused.is_empty() { Bound::All } else { Bound::Some(refused) })
    }
}
