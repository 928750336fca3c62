//! The site set of a fleet at home: made by the first start. Afterwards it is its
//! operators'; a start changes only what comes with the program and its flags, and the size where that
//! start wants another one than the start before it.

use coffer_control::{FIELD_MANAGER, NAMESPACE, SiteSet};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::{DATA_SHARDS, LEASE_FILE, PARITY_SHARDS, PORT, SET};
use crate::exit::Failure;

/// Annotation of the set: how many pods the start wanted that wrote it.
const STARTED_WITH: &str = "fleet.coffer/started-with";

/// What the set is made of, where there is none.
pub(super) struct Founding<'a> {
    /// The program of its pods, by digest.
    pub(super) image: &'a str,
    /// How many pods.
    pub(super) replicas: usize,
    /// The disk of each.
    pub(super) disk_bytes: u64,
    /// Seconds for which a silent node is waited for before its data is rebuilt.
    pub(super) rebuild_after: u64,
}

/// The set is there, and its pods run this program.
pub(super) async fn keep(client: &Client, founding: &Founding<'_>) -> Result<(), Failure> {
    let refused =
        |error: &dyn std::fmt::Display| Failure::new(format!("the site set was not taken: {error}"));
    let api: Api<SiteSet> = Api::namespaced(client.clone(), NAMESPACE);
    let known = api.get_opt(SET).await.map_err(|error| refused(&error))?;
    let Some(known) = known else {
        let set: SiteSet = serde_json::from_value(founded(founding)).map_err(|error| refused(&error))?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        return api.create(&params, &set).await.map(drop).map_err(|error| refused(&error));
    };
    let (image, args) = (founding.image, args());
    let started = founding.replicas.to_string();
    // What an operator has made of its size since a start that wanted the same stays. A set that does not say is of before that.
    let before = known.annotations().get(STARTED_WITH).filter(|before| **before != started);
    // Not applied: what an apply does not name is taken away, and somebody else may have set it.
    let mut patch = json!({
        "metadata": { "annotations": { STARTED_WITH: started } },
        "spec": {
            "rebuildAfterSeconds": founding.rebuild_after,
            "template": { "image": image, "args": args },
        },
    });
    if let (Some(_), Some(spec)) = (before, patch.get_mut("spec").and_then(Value::as_object_mut)) {
        spec.insert("replicas".to_owned(), json!(founding.replicas));
    }
    let params = PatchParams { field_manager: Some("coffer-home".to_owned()), ..PatchParams::default() };
    let patched = api.patch(SET, &params, &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(|error| refused(&error))
}

fn founded(founding: &Founding<'_>) -> Value {
    json!({
        "apiVersion": "fleet.coffer/v1",
        "kind": "SiteSet",
        "metadata": {
            "name": SET,
            "namespace": NAMESPACE,
            "annotations": { STARTED_WITH: founding.replicas.to_string() },
        },
        "spec": {
            "replicas": founding.replicas,
            "rebuildAfterSeconds": founding.rebuild_after,
            "dataShards": DATA_SHARDS,
            "parityShards": PARITY_SHARDS,
            "template": {
                "image": founding.image,
                "args": args(),
                "port": PORT,
                "resources": { "cpu": "100m", "memory": "256Mi", "diskBytes": founding.disk_bytes, "iops": 1000 },
            },
        },
    })
}

/// How the pods' program is called.
fn args() -> Vec<String> {
    let file = |name: &str| format!("$(COFFER_CERTIFICATE_DIR)/{name}");
    ["serve", "--create", "--dir", "$(COFFER_DATA_DIR)/store", "--listen"]
        .map(str::to_owned)
        .into_iter()
        .chain(["$(COFFER_POD_IP):$(COFFER_PORT)".to_owned()])
        .chain(["--certificate".to_owned(), file("certificate.pem"), "--key".to_owned(), file("key.pem")])
        .chain(["--receipt-key".to_owned(), file("receipt.key"), "--ca".to_owned(), file("ca.pem")])
        .chain(["--callers".to_owned(), file("callers")])
        .chain(["--lease-file".to_owned(), LEASE_FILE.to_owned()])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use coffer_custody::{OsEntropy, SystemClock};
    use coffer_embedded::{Embedded, NoAudit, NoNodeAccess, Options};

    use super::*;

    #[tokio::test]
    async fn a_later_start_undoes_neither_a_scaling_nor_a_residency_that_was_applied() {
        let dir = tempfile::tempdir().unwrap();
        let embedded = Embedded::open(Options {
            path: dir.path().join("fleet.sqlite"),
            limits: coffer_embedded::store::Limits::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            nodes: Arc::new(NoNodeAccess),
            audit: Arc::new(NoAudit),
        });
        let client = embedded.await.unwrap().client();
        coffer_control::install(&client, NAMESPACE).await.unwrap();
        let image = |digit: &str| format!("coffer.local/coffer-site@sha256:{}", digit.repeat(64));
        let start = async |digit: &str, replicas| {
            let image = image(digit);
            let founding = Founding { image: &image, replicas, disk_bytes: 1 << 20, rebuild_after: 600 };
            keep(&client, &founding).await.unwrap();
        };
        start("0", 6).await;
        let api: Api<SiteSet> = Api::namespaced(client.clone(), NAMESPACE);
        // As `coffer fleet apply` and `kubectl scale` do it.
        let applied = json!({
            "apiVersion": "fleet.coffer/v1", "kind": "SiteSet", "metadata": { "name": SET },
            "spec": { "residency": { "allow": ["EU"] } },
        });
        api.patch(SET, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&applied)).await.unwrap();
        let scaled = json!({ "spec": { "replicas": 7 } });
        api.patch(SET, &PatchParams::default(), &Patch::Merge(&scaled)).await.unwrap();
        start("1", 6).await;
        let set = api.get(SET).await.unwrap();
        assert_eq!((set.spec.replicas, set.spec.residency.allow), (7, vec!["EU".to_owned()]));
        assert_eq!(set.spec.template.image, image("1"));
        // A start that wants more pods than the one before gets them.
        start("1", 8).await;
        let set = api.get(SET).await.unwrap();
        assert_eq!((set.spec.replicas, set.spec.residency.allow), (8, vec!["EU".to_owned()]));
    }
}
