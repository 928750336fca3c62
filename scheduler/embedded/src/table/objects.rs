//! The columns of the smaller kinds.

use serde_json::{Value, json};

use super::{AGE, Column, NAME, Type, int_or_text, items, text, text_or};

pub(super) const NAMESPACE: &[Column] = &[
    NAME,
    Column {
        name: "Status",
        of: Type::Text,
        wide: 0,
        help: "Active or Terminating.",
        cell: |namespace, _| text_or(namespace, "/status/phase", "Active"),
    },
    AGE,
];

pub(super) const CONFIG_MAP: &[Column] = &[
    NAME,
    Column {
        name: "Data",
        of: Type::Number,
        wide: 0,
        help: "How many entries it has.",
        cell: |map, _| json!(entries(map, "/data") + entries(map, "/binaryData")),
    },
    AGE,
];

pub(super) const SECRET: &[Column] = &[
    NAME,
    Column {
        name: "Type",
        of: Type::Text,
        wide: 0,
        help: "What it holds.",
        cell: |secret, _| text_or(secret, "/type", "Opaque"),
    },
    Column {
        name: "Data",
        of: Type::Number,
        wide: 0,
        help: "How many entries it has.",
        cell: |secret, _| json!(entries(secret, "/data")),
    },
    AGE,
];

pub(super) const BUDGET: &[Column] = &[
    NAME,
    Column {
        name: "Min Available",
        of: Type::Text,
        wide: 0,
        help: "How many must stay.",
        cell: |budget, _| int_or_text(budget.pointer("/spec/minAvailable"), "N/A"),
    },
    Column {
        name: "Max Unavailable",
        of: Type::Text,
        wide: 0,
        help: "How many may be away.",
        cell: |budget, _| int_or_text(budget.pointer("/spec/maxUnavailable"), "N/A"),
    },
    Column {
        name: "Allowed Disruptions",
        of: Type::Number,
        wide: 0,
        help: "How many may go now.",
        cell: |budget, _| {
            json!(budget.pointer("/status/disruptionsAllowed").and_then(Value::as_i64).unwrap_or(0))
        },
    },
    AGE,
];

pub(super) const LEASE: &[Column] = &[
    NAME,
    Column {
        name: "Holder",
        of: Type::Text,
        wide: 0,
        help: "Who has it.",
        cell: |lease, _| text_or(lease, "/spec/holderIdentity", ""),
    },
    AGE,
];

pub(super) const PRIORITY: &[Column] = &[
    NAME,
    Column {
        name: "Value",
        of: Type::Number,
        wide: 0,
        help: "The more the sooner.",
        cell: |class, _| json!(class["value"].as_i64().unwrap_or(0)),
    },
    Column {
        name: "Global-Default",
        of: Type::Truth,
        wide: 0,
        help: "Whether pods without a class get it.",
        cell: |class, _| json!(class["globalDefault"] == true),
    },
    AGE,
    Column {
        name: "PreemptionPolicy",
        of: Type::Text,
        wide: 0,
        help: "Whether it drives out others.",
        cell: |class, _| text_or(class, "/preemptionPolicy", "PreemptLowerPriority"),
    },
];

pub(super) const STORAGE: &[Column] = &[
    NAME,
    Column {
        name: "Provisioner",
        of: Type::Text,
        wide: 0,
        help: "Who makes its volumes.",
        cell: |class, _| text_or(class, "/provisioner", ""),
    },
    AGE,
];

pub(super) const DEFINITION: &[Column] = &[
    NAME,
    Column {
        name: "Created At",
        of: Type::Text,
        wide: 0,
        help: "When it was created.",
        cell: |definition, _| text_or(definition, "/metadata/creationTimestamp", "<unknown>"),
    },
];

pub(super) const VOLUME: &[Column] = &[
    NAME,
    Column {
        name: "Capacity",
        of: Type::Text,
        wide: 0,
        help: "Its size.",
        cell: |volume, _| text_or(volume, "/spec/capacity/storage", ""),
    },
    Column {
        name: "Access Modes",
        of: Type::Text,
        wide: 0,
        help: "Who may use it at once.",
        cell: |volume, _| modes(volume, "/spec/accessModes"),
    },
    Column {
        name: "Reclaim Policy",
        of: Type::Text,
        wide: 0,
        help: "What becomes of it.",
        cell: |volume, _| text_or(volume, "/spec/persistentVolumeReclaimPolicy", ""),
    },
    Column {
        name: "Status",
        of: Type::Text,
        wide: 0,
        help: "Whether it is taken.",
        cell: |volume, _| text_or(volume, "/status/phase", ""),
    },
    Column { name: "Claim", of: Type::Text, wide: 0, help: "Who has it.", cell: |volume, _| claim(volume) },
    Column {
        name: "StorageClass",
        of: Type::Text,
        wide: 0,
        help: "Its class.",
        cell: |volume, _| text_or(volume, "/spec/storageClassName", ""),
    },
    AGE,
];

pub(super) const CLAIM: &[Column] = &[
    NAME,
    Column {
        name: "Status",
        of: Type::Text,
        wide: 0,
        help: "Whether it is met.",
        cell: |claim, _| text_or(claim, "/status/phase", ""),
    },
    Column {
        name: "Volume",
        of: Type::Text,
        wide: 0,
        help: "What it got.",
        cell: |claim, _| text_or(claim, "/spec/volumeName", ""),
    },
    Column {
        name: "Capacity",
        of: Type::Text,
        wide: 0,
        help: "How much it got.",
        cell: |claim, _| text_or(claim, "/status/capacity/storage", ""),
    },
    Column {
        name: "Access Modes",
        of: Type::Text,
        wide: 0,
        help: "Who may use it at once.",
        cell: |claim, _| modes(claim, "/status/accessModes"),
    },
    Column {
        name: "StorageClass",
        of: Type::Text,
        wide: 0,
        help: "Its class.",
        cell: |claim, _| text_or(claim, "/spec/storageClassName", ""),
    },
    AGE,
];

fn entries(object: &Value, at: &str) -> usize {
    object.pointer(at).and_then(Value::as_object).map_or(0, serde_json::Map::len)
}

fn claim(volume: &Value) -> Value {
    let namespace = text(volume, "/spec/claimRef/namespace");
    let name = text(volume, "/spec/claimRef/name");
    json!(namespace.zip(name).map_or_else(String::new, |(namespace, name)| format!("{namespace}/{name}")))
}

fn modes(object: &Value, at: &str) -> Value {
    let short = |mode: &str| match mode {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "?",
    };
    let all: Vec<&str> = items(object, at).iter().filter_map(Value::as_str).map(short).collect();
    json!(all.join(","))
}
