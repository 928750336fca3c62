//! The embedded API as a whole: opened once, asked by clients in process and
//! over the network.

use std::path::PathBuf;
use std::sync::Arc;

use coffer_model::{Clock, Entropy};
use serde_json::json;
use tokio::sync::watch;

use crate::FIRST_NAMESPACES;
use crate::api::Api;
use crate::audit::Audit;
use crate::identity::Identity;
use crate::node_access::NodeAccess;
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::request::{Objects, Query};
use crate::service::Service;
use crate::store::{Limits, OpenError, Store};
use crate::write::Write;

/// The namespace of clients that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// What the API is opened with.
pub struct Options {
    /// The file of its store.
    pub path: PathBuf,
    /// How much it remembers.
    pub limits: Limits,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance: UIDs and made-up names.
    pub entropy: Arc<dyn Entropy>,
    /// The way to the nodes.
    pub nodes: Arc<dyn NodeAccess>,
    /// Is told of every change.
    pub audit: Arc<dyn Audit>,
}

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The first objects cannot be written.
    #[error("the first namespaces cannot be written: {0}")]
    First(Refusal),
}

/// The embedded API. Clones share it; when the last clone, client and service is gone its store is closed.
#[derive(Clone)]
pub struct Embedded {
    pub(crate) api: Arc<Api>,
}

impl Embedded {
    /// Opens the store, and makes the first namespaces where they are missing.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn open(options: Options) -> Result<Self, StartError> {
        let Options { path, limits, clock, entropy, nodes, audit } = options;
        let store = Store::open(&path, limits)?;
        let (here, _) = watch::channel(());
        let api = Arc::new(Api { store, registry: Registry::new(), clock, entropy, nodes, audit, here });
        api.refresh_definitions();
        for name in FIRST_NAMESPACES {
            first_namespace(&api, name).await.map_err(StartError::First)?;
        }
        Ok(Self { api })
    }

    /// A service for this caller.
    pub fn service(&self, identity: Identity) -> Service {
        Service::new(Arc::clone(&self.api), identity)
    }

    /// A client for the inside of the process, which may do everything. Needs a tokio runtime.
    pub fn client(&self) -> kube::Client {
        self.client_as(Identity::inside())
    }

    /// A client for this caller. Needs a tokio runtime.
    pub fn client_as(&self, identity: Identity) -> kube::Client {
        kube::Client::new(self.service(identity), DEFAULT_NAMESPACE)
    }

    /// Until the last clone, client and service is gone and the store is closed:
    /// from then on nothing is written to its directory.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut here = self.api.here.subscribe();
        async move { while here.changed().await.is_ok() {} }
    }

    /// The store, for whoever measures or compacts it.
    pub fn store(&self) -> &Store {
        &self.api.store
    }
}

async fn first_namespace(api: &Api, name: &str) -> Result<(), Refusal> {
    let Some(resource) = api.registry.find("", "v1", "namespaces") else { return Err(Refusal::NoPath) };
    let verb = crate::kinds::Verb::Create;
    let objects = Objects { resource, verb, namespace: String::new(), name: None, part: None };
    let (query, identity) = (Query::default(), Identity::inside());
    let manager = "coffer".to_owned();
    let write =
        Write { api, objects: &objects, query: &query, identity: &identity, manager, now: api.clock.now() };
    match write.create(json!({"metadata": {"name": name}})).await {
        Ok(_) | Err(Refusal::AlreadyExists(_)) => Ok(()),
        Err(refusal) => Err(refusal),
    }
}
