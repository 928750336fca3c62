//! The parts that answering a request needs, in one place.

use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{Clock, Entropy};
use serde_json::Value;
use tokio::sync::watch;

use crate::audit::Audit;
use crate::convert;
use crate::node_access::NodeAccess;
use crate::object::{field, set};
use crate::registry::{Registry, Resource};
use crate::store::{Key, Store, Stored};

/// Everything behind the service.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) nodes: Arc<dyn NodeAccess>,
    pub(crate) audit: Arc<dyn Audit>,
    /// Last, so that who waits for its end waits for that of the store.
    pub(crate) here: watch::Sender<()>,
}

/// Where definitions of custom resources are stored.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

impl Api {
    /// An object as its resource shows it.
    pub(crate) fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Value> {
        let key = Key::new(&resource.store, namespace, name);
        self.store.get(&key).map(|stored| view(resource, &stored))
    }

    /// Takes over the definitions that are in the store now.
    pub(crate) fn refresh_definitions(&self) {
        let definitions = self.store.list(DEFINITIONS, None);
        let definitions: Vec<Value> = definitions.iter().map(|stored| stored.value()).collect();
        self.registry.define(&definitions);
    }

    /// A fresh UID: a random UUID, RFC 9562 version 4.
    pub(crate) fn uid(&self) -> String {
        let mut bytes = self.entropy.sixteen();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
    }
}

/// Whether the stored bytes are not what the resource shows.
pub(crate) fn needs_view(resource: &Resource) -> bool {
    resource.definition.is_some() || is_other_view(resource)
}

/// Whether the resource is a second view of what another one stores.
pub(crate) fn is_other_view(resource: &Resource) -> bool {
    resource
        .kind
        .stored_as
        .as_ref()
        .is_some_and(|(group, plural)| (group, plural) != (&resource.kind.group, &resource.kind.plural))
}

/// A stored object as the resource shows it.
pub(crate) fn view(resource: &Resource, stored: &Stored) -> Value {
    let mut object = stored.value();
    show(resource, &mut object);
    object
}

fn show(resource: &Resource, object: &mut Value) {
    if is_other_view(resource) {
        convert::from_stored(object);
    }
    let version = resource.kind.api_version();
    if field(object, "apiVersion") != version {
        set(object, "apiVersion", Some(version.into()));
    }
}

/// The same as bytes, without parsing where nothing changes.
pub(crate) fn view_bytes(resource: &Resource, stored: &Stored) -> Bytes {
    if needs_view(resource) { view(resource, stored).to_string().into() } else { stored.json.clone() }
}

/// An object of the resource as it is stored.
pub(crate) fn stored_form(resource: &Resource, mut object: Value) -> Value {
    if is_other_view(resource) {
        convert::to_stored(&mut object);
    }
    object
}
