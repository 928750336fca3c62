//! The columns of services and of the endpoints behind them.

use serde_json::{Value, json};

use super::{AGE, Column, NAME, Type, items, text, text_or};

pub(super) const SERVICE: &[Column] = &[
    NAME,
    Column {
        name: "Type",
        of: Type::Text,
        wide: 0,
        help: "Who can reach it.",
        cell: |service, _| text_or(service, "/spec/type", "ClusterIP"),
    },
    Column {
        name: "Cluster-IP",
        of: Type::Text,
        wide: 0,
        help: "Its address inside.",
        cell: |service, _| text_or(service, "/spec/clusterIP", "<none>"),
    },
    Column {
        name: "External-IP",
        of: Type::Text,
        wide: 0,
        help: "Its address outside.",
        cell: |service, _| external(service),
    },
    Column {
        name: "Port(s)",
        of: Type::Text,
        wide: 0,
        help: "What it listens on.",
        cell: |service, _| ports(service),
    },
    AGE,
    Column {
        name: "Selector",
        of: Type::Text,
        wide: 1,
        help: "The labels of its pods.",
        cell: |service, _| selector(service),
    },
];

pub(super) const SLICE: &[Column] = &[
    NAME,
    Column {
        name: "AddressType",
        of: Type::Text,
        wide: 0,
        help: "IPv4, IPv6 or FQDN.",
        cell: |slice, _| text_or(slice, "/addressType", ""),
    },
    Column {
        name: "Ports",
        of: Type::Text,
        wide: 0,
        help: "Where the endpoints listen.",
        cell: |slice, _| slice_ports(slice),
    },
    Column {
        name: "Endpoints",
        of: Type::Text,
        wide: 0,
        help: "Their addresses.",
        cell: |slice, _| endpoints(slice),
    },
    AGE,
];

/// At most three, then how many more.
fn few(all: &[String], nothing: &str) -> Value {
    let shown = all.get(..3).unwrap_or(all).join(",");
    json!(match all.len() {
        0 => nothing.to_owned(),
        1..=3 => shown,
        more => format!("{shown} + {} more...", more - 3),
    })
}

fn external(service: &Value) -> Value {
    if text(service, "/spec/type") == Some("ExternalName") {
        return text_or(service, "/spec/externalName", "<none>");
    }
    let balancers = items(service, "/status/loadBalancer/ingress").iter();
    let balancers =
        balancers.filter_map(|ingress| text(ingress, "/ip").or_else(|| text(ingress, "/hostname")));
    let given = items(service, "/spec/externalIPs").iter().filter_map(Value::as_str);
    let all: Vec<&str> = balancers.chain(given).collect();
    json!(if all.is_empty() { "<none>".to_owned() } else { all.join(",") })
}

fn ports(service: &Value) -> Value {
    let all: Vec<String> = items(service, "/spec/ports")
        .iter()
        .map(|port| {
            let number = port["port"].as_u64().unwrap_or(0);
            let protocol = text(port, "/protocol").unwrap_or("TCP");
            match port["nodePort"].as_u64() {
                Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    json!(if all.is_empty() { "<none>".to_owned() } else { all.join(",") })
}

fn selector(service: &Value) -> Value {
    let labels = service.pointer("/spec/selector").and_then(Value::as_object);
    let all: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    json!(if all.is_empty() { "<none>".to_owned() } else { all.join(",") })
}

fn slice_ports(slice: &Value) -> Value {
    let all: Vec<String> = items(slice, "/ports")
        .iter()
        .filter_map(|port| port["port"].as_u64())
        .map(|port| port.to_string())
        .collect();
    few(&all, "<unset>")
}

fn endpoints(slice: &Value) -> Value {
    let all: Vec<String> = items(slice, "/endpoints")
        .iter()
        .flat_map(|endpoint| items(endpoint, "/addresses"))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    few(&all, "<unset>")
}
