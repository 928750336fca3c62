//! A real cluster: first the lines of the ledger, then for each pod a reservation
//! of its node's room by comparison of resource versions, then the binding. A
//! crash in between leaves a reservation that no pod uses; it is taken back when
//! the pod is seen unbound or gone.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::PostParams;
use kube::{Api, Client};

use super::{Batch, Bind, BindError, Bound, placement_record, pod_binding};
use crate::book::Binding;
use crate::resources::{Held, PlacementRecord, Reservation, ReservationSpec};
use crate::translate;

/// How often a reservation is tried again after somebody else was quicker.
const ATTEMPTS: usize = 8;

/// Binds by reservation and binding.
pub struct Reserving {
    client: Client,
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
        Self { client }
    }

    async fn one(&self, namespace: &str, binding: &Binding) -> Result<(), Refused> {
        self.reserve(namespace, binding).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &binding.namespace);
        let body = pod_binding(binding);
        let params = PostParams::default();
        let bound: Result<Status, _> =
            pods.create_subresource("binding", &binding.name, &params, &body).await;
        match bound {
            Ok(_) => Ok(()),
            Err(error) => {
                self.release(namespace, binding).await?;
                Err(error.into())
            }
        }
    }

    /// Enters the pod in the reservation of its node, if there is room for it beside all that are there.
    async fn reserve(&self, namespace: &str, binding: &Binding) -> Result<(), Refused> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = nodes.get(binding.node.as_str()).await?;
        let total = translate::node(&node).map_err(|why| Refused::By(why.to_string()))?.total;
        let full = || Refused::By(format!("{} has no room for {}", binding.node, binding.name));
        self.change(namespace, binding.node.as_str(), |pods| {
            pods.insert(binding.name.clone(), Held::from(binding.needs));
            let taken = pods.values().map(|held| (*held).into());
            let taken = taken.fold(coffer_scheduler::Resources::default(), |sum, held| sum.plus(&held));
            if taken.lacking(&total).next().is_some() { Err(full()) } else { Ok(()) }
        })
        .await
    }

    /// Takes the pod out of its node's reservation.
    async fn release(&self, namespace: &str, binding: &Binding) -> Result<(), Refused> {
        self.change(namespace, binding.node.as_str(), |pods| {
            pods.remove(&binding.name);
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        namespace: &str,
        node: &str,
        change: impl Fn(&mut std::collections::BTreeMap<String, Held>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let api: Api<Reservation> = Api::namespaced(self.client.clone(), namespace);
        for _ in 0..ATTEMPTS {
            let found = api.get_opt(node).await?;
            let written = match found {
                None => {
                    let mut new = Reservation::new(node, ReservationSpec::default());
                    change(&mut new.spec.pods)?;
                    api.create(&PostParams::default(), &new).await
                }
                Some(mut known) => {
                    change(&mut known.spec.pods)?;
                    // Its resource version goes along: who comes second is refused.
                    api.replace(node, &PostParams::default(), &known).await
                }
            };
            match written {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refused::By(format!("others reserve room on {node} all the time")))
    }
}

#[async_trait]
impl Bind for Reserving {
    async fn bind(&self, batch: &Batch) -> Result<Bound, BindError> {
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
        let mut refused = Vec::new();
        for binding in &batch.bindings {
            match self.one(&batch.namespace, binding).await {
                Ok(()) => {}
                Err(Refused::By(why)) => refused.push((binding.name.clone(), why)),
                Err(Refused::Api(error)) => return Err(error.into()),
            }
        }
        Ok(if refused.is_empty() { Bound::All } else { Bound::Some(refused) })
    }
}
