//! The schemas of the built-in types, from `k8s-openapi`, with what those do
//! not carry: how the elements of a list are told apart, and which maps are
//! one value. Facts of Kubernetes 1.33's published types.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use k8s_openapi::api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::schemars::SchemaGenerator;
use k8s_openapi::schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{Additional, Checks, ListType, Schema, Type};

/// Type, field, key of a strategic merge (empty where elements are their own key), keys of the list map
/// (none: a set). Types are named by the end of their definition's name.
const LISTS: &[(&str, &str, Option<&str>, &[&str])] = &[
    ("meta.v1.ObjectMeta", "ownerReferences", Some("uid"), &["uid"]),
    ("meta.v1.ObjectMeta", "finalizers", Some(""), &[]),
    ("core.v1.PodSpec", "containers", Some("name"), &["name"]),
    ("core.v1.PodSpec", "initContainers", Some("name"), &["name"]),
    ("core.v1.PodSpec", "ephemeralContainers", Some("name"), &["name"]),
    ("core.v1.PodSpec", "volumes", Some("name"), &["name"]),
    ("core.v1.PodSpec", "imagePullSecrets", Some("name"), &["name"]),
    ("core.v1.PodSpec", "hostAliases", Some("ip"), &["ip"]),
    ("core.v1.PodSpec", "schedulingGates", Some("name"), &["name"]),
    ("core.v1.PodSpec", "resourceClaims", Some("name"), &["name"]),
    (
        "core.v1.PodSpec",
        "topologySpreadConstraints",
        Some("topologyKey"),
        &["topologyKey", "whenUnsatisfiable"],
    ),
    ("core.v1.Container", "env", Some("name"), &["name"]),
    ("core.v1.Container", "ports", Some("containerPort"), &["containerPort", "protocol"]),
    ("core.v1.Container", "volumeMounts", Some("mountPath"), &["mountPath"]),
    ("core.v1.Container", "volumeDevices", Some("devicePath"), &["devicePath"]),
    ("core.v1.EphemeralContainer", "env", Some("name"), &["name"]),
    ("core.v1.EphemeralContainer", "ports", Some("containerPort"), &["containerPort", "protocol"]),
    ("core.v1.EphemeralContainer", "volumeMounts", Some("mountPath"), &["mountPath"]),
    ("core.v1.EphemeralContainer", "volumeDevices", Some("devicePath"), &["devicePath"]),
    ("core.v1.ResourceRequirements", "claims", None, &["name"]),
    ("core.v1.PodStatus", "conditions", Some("type"), &["type"]),
    ("core.v1.PodStatus", "podIPs", Some("ip"), &["ip"]),
    ("core.v1.PodStatus", "hostIPs", Some("ip"), &["ip"]),
    ("core.v1.PodStatus", "resourceClaimStatuses", Some("name"), &["name"]),
    ("core.v1.NodeSpec", "podCIDRs", Some(""), &[]),
    ("core.v1.NodeStatus", "conditions", Some("type"), &["type"]),
    ("core.v1.NodeStatus", "addresses", Some("type"), &["type"]),
    ("core.v1.ServiceSpec", "ports", Some("port"), &["port", "protocol"]),
    ("core.v1.ServiceStatus", "conditions", Some("type"), &["type"]),
    ("core.v1.ServiceAccount", "secrets", Some("name"), &["name"]),
    ("core.v1.NamespaceStatus", "conditions", Some("type"), &["type"]),
    ("core.v1.PersistentVolumeClaimStatus", "conditions", Some("type"), &["type"]),
    ("discovery.v1.Endpoint", "addresses", None, &[]),
    ("policy.v1.PodDisruptionBudgetStatus", "conditions", Some("type"), &["type"]),
    ("v1.CustomResourceDefinitionStatus", "conditions", None, &["type"]),
];

/// Types whose objects are one value.
const ATOMIC: &[&str] = &[
    "core.v1.ConfigMapKeySelector",
    "core.v1.FileKeySelector",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.ObjectFieldSelector",
    "core.v1.ObjectReference",
    "core.v1.ResourceFieldSelector",
    "core.v1.SecretKeySelector",
    "core.v1.SecretReference",
    "core.v1.TypedLocalObjectReference",
    "meta.v1.FieldsV1",
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
];

/// Fields that are one value though their type is not.
const ATOMIC_FIELDS: &[(&str, &str)] = &[
    ("core.v1.PodSpec", "nodeSelector"),
    ("core.v1.ServiceSpec", "selector"),
    ("storage.v1.StorageClass", "parameters"),
];

/// Types that are kept as they are: their shape is free, or refers to itself.
const FREE: &[&str] = &["v1.JSONSchemaProps", "meta.v1.FieldsV1", "runtime.RawExtension", "v1.JSON"];

/// Defaults that Kubernetes fills in and controllers count on: type, field, value as JSON.
const DEFAULTS: &[(&str, &str, &str)] = &[
    ("core.v1.PodSpec", "restartPolicy", "\"Always\""),
    ("core.v1.PodSpec", "dnsPolicy", "\"ClusterFirst\""),
    ("core.v1.PodSpec", "terminationGracePeriodSeconds", "30"),
    ("core.v1.PodSpec", "schedulerName", "\"default-scheduler\""),
    ("core.v1.PodSpec", "securityContext", "{}"),
    ("core.v1.PodSpec", "enableServiceLinks", "true"),
    ("core.v1.Container", "terminationMessagePath", "\"/dev/termination-log\""),
    ("core.v1.Container", "terminationMessagePolicy", "\"File\""),
    ("core.v1.Container", "resources", "{}"),
    ("core.v1.ContainerPort", "protocol", "\"TCP\""),
    ("core.v1.HTTPGetAction", "path", "\"/\""),
    ("core.v1.HTTPGetAction", "scheme", "\"HTTP\""),
    ("core.v1.Probe", "timeoutSeconds", "1"),
    ("core.v1.Probe", "periodSeconds", "10"),
    ("core.v1.Probe", "successThreshold", "1"),
    ("core.v1.Probe", "failureThreshold", "3"),
    ("core.v1.HostPathVolumeSource", "type", "\"\""),
    ("core.v1.ConfigMapVolumeSource", "defaultMode", "420"),
    ("core.v1.SecretVolumeSource", "defaultMode", "420"),
    ("core.v1.ProjectedVolumeSource", "defaultMode", "420"),
    ("core.v1.DownwardAPIVolumeSource", "defaultMode", "420"),
    ("core.v1.ObjectFieldSelector", "apiVersion", "\"v1\""),
    ("core.v1.ServiceSpec", "type", "\"ClusterIP\""),
    ("core.v1.ServiceSpec", "sessionAffinity", "\"None\""),
    ("core.v1.ServiceSpec", "internalTrafficPolicy", "\"Cluster\""),
    ("core.v1.ServicePort", "protocol", "\"TCP\""),
    ("core.v1.Secret", "type", "\"Opaque\""),
    ("core.v1.Event", "type", "\"Normal\""),
    ("discovery.v1.EndpointPort", "protocol", "\"TCP\""),
    ("discovery.v1.EndpointPort", "name", "\"\""),
    ("scheduling.v1.PriorityClass", "preemptionPolicy", "\"PreemptLowerPriority\""),
];

/// Where references of the generated definitions point.
const REFERENCE: &str = "#/$defs/";

struct BuiltIn {
    schemas: HashMap<(&'static str, &'static str, &'static str), Arc<Schema>>,
}

static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let roots = roots(&mut generator);
    let definitions = generator.take_definitions(false);
    let mut reader = Reader { definitions: &definitions, known: BTreeMap::new() };
    let schemas = roots.into_iter().map(|(path, root)| (path, reader.read(&root))).collect();
    BuiltIn { schemas }
});

/// The schema of a built-in kind; anything for what is none.
pub(crate) fn schema_of(group: &str, version: &str, kind: &str) -> Arc<Schema> {
    let found = BUILT_IN.schemas.iter().find(|((a, b, c), _)| (*a, *b, *c) == (group, version, kind));
    found.map_or_else(|| Arc::new(Schema::anything()), |(_, schema)| Arc::clone(schema))
}

type Root = ((&'static str, &'static str, &'static str), Value);

fn roots(generator: &mut SchemaGenerator) -> Vec<Root> {
    let mut roots = Vec::new();
    macro_rules! add {
        ($($group:literal $version:literal $kind:literal $type:ty;)*) => {
            $(roots.push((($group, $version, $kind), generator.subschema_for::<$type>().to_value()));)*
        };
    }
    add! {
        "" "v1" "Binding" api::core::v1::Binding;
        "" "v1" "ConfigMap" api::core::v1::ConfigMap;
        "" "v1" "Event" api::core::v1::Event;
        "" "v1" "Namespace" api::core::v1::Namespace;
        "" "v1" "Node" api::core::v1::Node;
        "" "v1" "PersistentVolume" api::core::v1::PersistentVolume;
        "" "v1" "PersistentVolumeClaim" api::core::v1::PersistentVolumeClaim;
        "" "v1" "Pod" api::core::v1::Pod;
        "" "v1" "Secret" api::core::v1::Secret;
        "" "v1" "Service" api::core::v1::Service;
        "" "v1" "ServiceAccount" api::core::v1::ServiceAccount;
        "apiextensions.k8s.io" "v1" "CustomResourceDefinition" CustomResourceDefinition;
        "authorization.k8s.io" "v1" "SelfSubjectAccessReview" api::authorization::v1::SelfSubjectAccessReview;
        "autoscaling" "v1" "Scale" api::autoscaling::v1::Scale;
        "coordination.k8s.io" "v1" "Lease" api::coordination::v1::Lease;
        "discovery.k8s.io" "v1" "EndpointSlice" api::discovery::v1::EndpointSlice;
        "events.k8s.io" "v1" "Event" api::events::v1::Event;
        "policy" "v1" "Eviction" api::policy::v1::Eviction;
        "policy" "v1" "PodDisruptionBudget" api::policy::v1::PodDisruptionBudget;
        "scheduling.k8s.io" "v1" "PriorityClass" api::scheduling::v1::PriorityClass;
        "storage.k8s.io" "v1" "StorageClass" api::storage::v1::StorageClass;
    }
    roots
}

struct Reader<'a> {
    definitions: &'a Map<String, Value>,
    known: BTreeMap<String, Arc<Schema>>,
}

impl Reader<'_> {
    fn read(&mut self, json: &Value) -> Arc<Schema> {
        let Some(name) =
            json.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(REFERENCE))
        else {
            return Arc::new(self.shape(json, ""));
        };
        if let Some(known) = self.known.get(name) {
            return Arc::clone(known);
        }
        let free = FREE.iter().any(|free| is_type(name, free));
        let schema = match self.definitions.get(name) {
            Some(definition) if !free => self.shape(definition, name),
            _ => Schema::anything(),
        };
        let schema = Arc::new(schema);
        self.known.insert(name.to_owned(), Arc::clone(&schema));
        schema
    }

    fn shape(&mut self, json: &Value, name: &str) -> Schema {
        let kind = match json.get("type").and_then(Value::as_str) {
            Some("object") => Some(Type::Object),
            Some("array") => Some(Type::Array),
            Some("string") => Some(Type::String),
            Some("integer") => Some(Type::Integer),
            Some("number") => Some(Type::Number),
            Some("boolean") => Some(Type::Boolean),
            _ => None,
        };
        let int_or_string = json.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
        let additional = match json.get("additionalProperties") {
            None | Some(Value::Bool(false)) => Additional::Nothing,
            Some(Value::Bool(true)) => Additional::Any,
            Some(schema) => Additional::Of(self.read(schema)),
        };
        let format = json.get("format").and_then(Value::as_str).map(str::to_owned);
        let mut schema = Schema {
            kind,
            additional,
            items: json.get("items").map(|items| self.read(items)),
            atomic: ATOMIC.iter().any(|atomic| is_type(name, atomic)),
            preserve: kind.is_none() && !int_or_string,
            int_or_string,
            quantity: is_type(name, "api.resource.Quantity"),
            checks: Checks { format, ..Checks::default() },
            ..Schema::default()
        };
        for (field, member) in json.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let member = self.read(member);
            schema.properties.insert(field.clone(), with_facts(name, field, member));
        }
        schema
    }
}

fn is_type(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The member with what the tables say of it.
fn with_facts(name: &str, field: &str, member: Arc<Schema>) -> Arc<Schema> {
    let list = LISTS.iter().find(|(of, one, _, _)| *one == field && is_type(name, of));
    let default = DEFAULTS.iter().find(|(of, one, _)| *one == field && is_type(name, of));
    let atomic = ATOMIC_FIELDS.iter().any(|(of, one)| *one == field && is_type(name, of));
    if list.is_none() && default.is_none() && !atomic {
        return member;
    }
    let mut member = Schema::clone(&member);
    if let Some((_, _, merge_key, keys)) = list {
        member.merge_key = merge_key.map(str::to_owned);
        member.list = match keys {
            [] => ListType::Set,
            keys => ListType::Map(keys.iter().map(|key| (*key).to_owned()).collect()),
        };
    }
    if let Some((_, _, json)) = default {
        member.default = serde_json::from_str(json).ok();
    }
    member.atomic |= atomic;
    Arc::new(member)
}
