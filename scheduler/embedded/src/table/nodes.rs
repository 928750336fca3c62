//! The columns of nodes.

use serde_json::{Value, json};

use super::{AGE, Column, NAME, Type, condition, items, text_or};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column {
        name: "Status",
        of: Type::Text,
        wide: 0,
        help: "Whether it takes pods.",
        cell: |node, _| status(node),
    },
    Column { name: "Roles", of: Type::Text, wide: 0, help: "What it is for.", cell: |node, _| roles(node) },
    AGE,
    Column {
        name: "Version",
        of: Type::Text,
        wide: 0,
        help: "The version of its agent.",
        cell: |node, _| text_or(node, "/status/nodeInfo/kubeletVersion", "<unknown>"),
    },
    Column {
        name: "Internal-IP",
        of: Type::Text,
        wide: 1,
        help: "Its address inside.",
        cell: |node, _| address(node, "InternalIP"),
    },
    Column {
        name: "External-IP",
        of: Type::Text,
        wide: 1,
        help: "Its address outside.",
        cell: |node, _| address(node, "ExternalIP"),
    },
    Column {
        name: "OS-Image",
        of: Type::Text,
        wide: 1,
        help: "Its system.",
        cell: |node, _| text_or(node, "/status/nodeInfo/osImage", "<unknown>"),
    },
    Column {
        name: "Kernel-Version",
        of: Type::Text,
        wide: 1,
        help: "Its kernel.",
        cell: |node, _| text_or(node, "/status/nodeInfo/kernelVersion", "<unknown>"),
    },
    Column {
        name: "Container-Runtime",
        of: Type::Text,
        wide: 1,
        help: "What runs its containers.",
        cell: |node, _| text_or(node, "/status/nodeInfo/containerRuntimeVersion", "<unknown>"),
    },
];

fn status(node: &Value) -> Value {
    let ready = match condition(node, "Ready") {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = node.pointer("/spec/unschedulable") == Some(&json!(true));
    json!(format!("{ready}{}", if cordoned { ",SchedulingDisabled" } else { "" }))
}

fn roles(node: &Value) -> Value {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| match name.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if name == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    json!(if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") })
}

fn address(node: &Value, of: &str) -> Value {
    let found = items(node, "/status/addresses").iter().find(|address| address["type"] == of);
    found.map_or_else(|| json!("<none>"), |address| text_or(address, "/address", "<none>"))
}
