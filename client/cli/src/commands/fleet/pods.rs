//! `coffer fleet pods`.

use coffer_control::{LABEL_SET, translate};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{Fleet, failed, table};
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub(super) async fn list(context: &Context<'_>, fleet: &Fleet) -> Result<Exit, Failure> {
    let api: Api<Pod> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    let pods = api.list(&ListParams::default().labels(LABEL_SET)).await.map_err(|error| failed(&error))?;
    let mut rows = Vec::new();
    for pod in &pods {
        let seen = translate::pod(pod);
        let status = pod.status.as_ref();
        let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
        let restarts: i32 = containers.iter().map(|one| one.restart_count).sum();
        let phase = status.and_then(|status| status.phase.clone()).unwrap_or_else(|| "Pending".to_owned());
        let state = match seen.phase {
            translate::Phase::Ending => "Ending".to_owned(),
            _ => phase,
        };
        let node = seen.node.map(|node| node.to_string());
        let address = status.and_then(|status| status.pod_ip.clone());
        context.output.object(&json!({
            "pod": pod.name_any(),
            "set": pod.labels().get(LABEL_SET),
            "state": state,
            "ready": seen.ready,
            "restarts": restarts,
            "node": node,
            "address": address,
        }));
        rows.push(vec![
            pod.name_any(),
            state,
            if seen.ready { "yes" } else { "no" }.to_owned(),
            restarts.to_string(),
            node.unwrap_or_else(|| "-".to_owned()),
            address.unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table(context, &["POD", "STATE", "READY", "RESTARTS", "NODE", "ADDRESS"], &rows);
    Ok(Exit::Success)
}
