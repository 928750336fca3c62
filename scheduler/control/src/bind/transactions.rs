//! The embedded home: pods, the lines that decided them, and the head of the
//! ledger in one transaction. The head moves by comparison: no scheduler adds a
//! line to a ledger that another has moved on meanwhile, and so none gives away
//! room that another has given already.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{Batch, Bind, BindError, Bound, placement_record, pod_binding};

/// The ConfigMap that says where the ledger ends.
const HEAD: &str = "placement-ledger";

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new object.
    Create(Value),
    /// An object in the place of the one with its resource version.
    Replace(Value),
    /// A pod to its node.
    Bind(Value),
}

/// Why a transaction was refused; nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionRefused {
    /// An object is not what it had to be.
    #[error("{name}: {why}")]
    Conflict {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It could not be tried.
    #[error("{0}")]
    Unavailable(String),
}

/// An object as a transaction left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Plural name of its kind, with the group behind a point unless it is the core group.
    pub resource: String,
    /// Its name.
    pub name: String,
    /// Its resource version.
    pub version: String,
}

/// An API with transactions.
#[async_trait]
pub trait Transact: Send + Sync {
    /// Carries out all changes or none; the versions that the objects have then.
    ///
    /// # Errors
    /// [`TransactionRefused`].
    async fn transact(&self, changes: Vec<Change>) -> Result<Vec<Version>, TransactionRefused>;
}

/// Binds by transactions.
pub struct Transactions<T> {
    client: Client,
    api: T,
    /// The head's resource version, as we left it.
    head: Mutex<Option<String>>,
}

impl<T: Transact> Transactions<T> {
    /// By this API, whose objects are read by this client.
    pub fn new(client: Client, api: T) -> Self {
        Self { client, api, head: Mutex::new(None) }
    }

    fn head(&self) -> Option<String> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_head(&self, version: Option<String>) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    /// How the head moves to the end of these records.
    async fn moves_head(&self, batch: &Batch) -> Result<Option<Change>, BindError> {
        let Some(last) = batch.records.last() else { return Ok(None) };
        if batch.records.iter().any(|record| record.first == 0) {
            // A scheduler that begins takes over from whoever was there.
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &batch.namespace);
            let known = api.get_opt(HEAD).await?;
            self.set_head(known.and_then(|map| map.metadata.resource_version));
        }
        let version = self.head();
        let head = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": HEAD, "namespace": batch.namespace, "resourceVersion": version },
            "data": { "segment": last.segment, "end": last.end },
        });
        Ok(Some(if version.is_some() { Change::Replace(head) } else { Change::Create(head) }))
    }
}

#[async_trait]
impl<T: Transact> Bind for Transactions<T> {
    async fn bind(&self, batch: &Batch) -> Result<Bound, BindError> {
        let mut changes = Vec::new();
        for binding in &batch.bindings {
            changes.push(Change::Bind(serde_json::to_value(pod_binding(binding))?));
        }
        for record in &batch.records {
            let record = placement_record(&batch.namespace, record);
            changes.push(Change::Create(serde_json::to_value(record)?));
        }
        changes.extend(self.moves_head(batch).await?);
        match self.api.transact(changes).await {
            Ok(stored) => {
                if let Some(head) =
                    stored.into_iter().find(|one| one.resource == "configmaps" && one.name == HEAD)
                {
                    self.set_head(Some(head.version));
                }
                Ok(Bound::All)
            }
            Err(TransactionRefused::Conflict { name, why }) if name != HEAD => {
                let ours = batch.bindings.iter().any(|one| one.name == name);
                if ours { Ok(Bound::None(name, why)) } else { Err(BindError::Refused(why)) }
            }
            Err(refused) => Err(BindError::Refused(refused.to_string())),
        }
    }
}
