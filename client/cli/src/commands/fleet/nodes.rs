//! `coffer fleet nodes`.

use coffer_control::attestation::said_by;
use coffer_control::{DISK_BYTES, DRAIN, REVOCATIONS, translate};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{Fleet, failed, table};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::bytes_text;

pub(super) async fn list(context: &Context<'_>, fleet: &Fleet) -> Result<Exit, Failure> {
    let nodes = Api::<Node>::all(fleet.client.clone()).list(&ListParams::default()).await;
    let nodes = nodes.map_err(|error| failed(&error))?;
    let maps: Api<ConfigMap> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    let revoked = maps.get_opt(REVOCATIONS).await.map_err(|error| failed(&error))?;
    let revoked = revoked.and_then(|map| map.data).unwrap_or_default();
    let mut rows = Vec::new();
    for node in &nodes {
        let name = node.name_any();
        let read = translate::node(node);
        let annotations = node.annotations();
        let said = annotations.get(coffer_control::ATTESTATION).and_then(|text| said_by(text));
        let why_revoked = said.as_ref().and_then(|said| revoked.get(&said.id));
        let said = said.as_ref().map(|said| &said.statement);
        let drain = annotations.contains_key(DRAIN);
        let state = match &read {
            Err(_) => "unusable",
            Ok(node) if !node.ready => "silent",
            Ok(_) if drain => "draining",
            Ok(node) if node.cordoned => "cordoned",
            Ok(_) => "ready",
        };
        context.output.object(&json!({
            "node": name,
            "state": state,
            "why": read.as_ref().err().map(ToString::to_string),
            "says": said,
            "revoked": why_revoked,
            "cpu_millis": read.as_ref().map_or(0, |node| node.total.cpu_millis),
            "memory_bytes": read.as_ref().map_or(0, |node| node.total.memory_bytes),
            "disk_bytes": read.as_ref().map_or(0, |node| node.total.disk_bytes),
            "iops": read.as_ref().map_or(0, |node| node.total.iops),
        }));
        let total = read.map(|node| node.total).unwrap_or_default();
        let mut place = said.map_or_else(|| "-".to_owned(), |said| said.country.to_string());
        if why_revoked.is_some() {
            place.push_str(" (revoked)");
        }
        let domain = said.map_or_else(|| "-".to_owned(), |said| said.domain.0.clone());
        rows.push(vec![
            name,
            state.to_owned(),
            place,
            domain,
            format!("{}m", total.cpu_millis),
            bytes_text(total.memory_bytes),
            bytes_text(total.disk_bytes),
            total.iops.to_string(),
        ]);
    }
    table(context, &["NODE", "STATE", "SAYS", "DOMAIN", "CPU", "MEMORY", "DISK", "IOPS"], &rows);
    if rows.is_empty() {
        context.output.remark(format_args!(
            "no node has registered; each needs its agent, and disk as the resource {DISK_BYTES}"
        ));
    }
    Ok(Exit::Success)
}
