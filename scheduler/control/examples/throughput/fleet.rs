//! The nodes, sets and pods that are measured.

use coffer_control::SiteSet;
use coffer_control::attestation::{Attester, Statement};
use coffer_model::{FailureDomain, Tier};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

const COUNTRIES: [&str; 8] = ["DE", "FR", "NL", "ES", "IT", "CH", "US", "JP"];
pub(crate) const PODS_OF_A_SET: u64 = 6;
pub(crate) fn attester() -> Attester {
    Attester::danger_from_seed(&[9; 32])
}

pub(crate) fn node(n: u64) -> Node {
    let country = COUNTRIES[usize::try_from(n % 8).unwrap()];
    let name = format!("node-{n}");
    let statement = Statement {
        node: name.parse().unwrap(),
        country: country.parse().unwrap(),
        domain: FailureDomain(format!("{country}-{}", n / 16)),
        tier: Tier::III,
        not_before: 0,
        not_after: u64::MAX,
    };
    let amounts = json!({
        "cpu": "16", "memory": "64Gi", "pods": "110",
        "fleet.coffer/disk-bytes": (8_u64 << 40).to_string(), "fleet.coffer/iops": "50000",
    });
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "annotations": { "fleet.coffer/attestation": attester().sign(&statement) } },
        "status": {
            "capacity": amounts, "allocatable": amounts,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    }))
    .unwrap()
}

pub(crate) fn set(n: u64, hard: bool) -> SiteSet {
    let (residency, spread) = if hard {
        (
            json!({ "allow": ["EU"], "tierMin": "II" }),
            json!({ "perDomain": 1, "perCountry": 3, "countrySkew": 1 }),
        )
    } else {
        (json!({}), json!({ "perDomain": 6 }))
    };
    serde_json::from_value(json!({
        "apiVersion": "fleet.coffer/v1", "kind": "SiteSet",
        "metadata": { "name": format!("set-{n}") },
        "spec": {
            "replicas": PODS_OF_A_SET, "dataShards": 4, "parityShards": 2,
            "residency": residency, "spread": spread,
            "template": {
                "image": format!("coffer.local/site@sha256:{}", "0".repeat(64)),
                "resources": { "cpu": "500m", "memory": "2Gi", "diskBytes": 256_u64 << 30, "iops": 500 },
            },
        },
    }))
    .unwrap()
}

pub(crate) fn pod(set: u64, ordinal: u64) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("set-{set}-{ordinal}"),
            "labels": { "fleet.coffer/site-set": format!("set-{set}"), "fleet.coffer/ordinal": ordinal.to_string() },
        },
        "spec": {
            "schedulerName": "coffer",
            "containers": [{
                "name": "site", "image": format!("coffer.local/site@sha256:{}", "0".repeat(64)),
                "resources": { "requests": {
                    "cpu": "500m", "memory": "2Gi",
                    "fleet.coffer/disk-bytes": (256_u64 << 30).to_string(), "fleet.coffer/iops": "500",
                } },
            }],
        },
    }))
    .unwrap()
}
