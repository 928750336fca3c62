//! The nodes, sets and pods that are measured.

use coffer_control::SiteSet;
use coffer_control::attestation::{Attester, Statement};
use coffer_model::{FailureDomain, Tier};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

/// What the pods demand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Room.
    Basic,
    /// Also jurisdiction, tier and hard spread.
    Spread,
    /// Also that no pod of another set of the same colour runs on the node: required `podAntiAffinity`.
    Hard,
}

impl Kind {
    pub(crate) const ALL: [(&str, Self); 3] =
        [("basic", Self::Basic), ("spread", Self::Spread), ("hard", Self::Hard)];

    pub(crate) fn called(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(own, _)| *own == name).map(|(_, kind)| kind)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// By which label sets have their colour.
pub(crate) const COLOUR: &str = "example.org/colour";

/// So many colours that two of three nodes where pods may stand have one of each, once all pods are bound.
pub(crate) fn colours(nodes: u64, pods: u64) -> u64 {
    (pods * 8 * 3).div_ceil(nodes * 5 * 2).max(2)
}

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

pub(crate) fn set(n: u64, kind: Kind) -> SiteSet {
    let (residency, spread) = if kind != Kind::Basic {
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

/// Pod `ordinal` of set `set`; of one of so many colours, if that is what is measured.
pub(crate) fn pod(set: u64, ordinal: u64, colours: Option<u64>) -> Pod {
    let mut pod = plain(set, ordinal);
    if let Some(colours) = colours {
        let colour = format!("c{}", set % colours);
        let term = json!({
            "labelSelector": { "matchLabels": { COLOUR: colour } },
            "topologyKey": "kubernetes.io/hostname",
        });
        let apart =
            json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
        if let Some(spec) = &mut pod.spec {
            spec.affinity = serde_json::from_value(apart).ok();
        }
        pod.metadata.labels.get_or_insert_default().insert(COLOUR.to_owned(), colour);
    }
    pod
}

fn plain(set: u64, ordinal: u64) -> Pod {
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
