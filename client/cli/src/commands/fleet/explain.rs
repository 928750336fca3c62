//! `coffer fleet explain`.

use coffer_control::SiteSet;
use kube::Api;
use serde_json::json;

use super::{Fleet, failed};
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub(super) async fn explain(context: &Context<'_>, fleet: &Fleet, set: &str) -> Result<Exit, Failure> {
    let api: Api<SiteSet> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    let found = api.get(set).await.map_err(|error| failed(&error))?;
    let status = found.status.unwrap_or_default();
    context.output.object(&json!({
        "set": set,
        "wanted": found.spec.replicas,
        "ready": status.ready,
        "may_lose": status.may_lose,
        "members": status.members,
        "conditions": status.conditions,
    }));
    context.output.text(format_args!(
        "{set}: {} of {} pods serve; {} may be lost by choice now",
        status.ready, found.spec.replicas, status.may_lose
    ));
    for condition in &status.conditions {
        context.output.text(format_args!(
            "{} is {} since {}: {}",
            condition.type_,
            condition.status.to_lowercase(),
            condition.last_transition_time,
            condition.message
        ));
    }
    for member in &status.members {
        let node = member.node.as_deref().unwrap_or("no node yet");
        let leaves = member.leaves.as_deref().map(|why| format!("; leaves: {why}")).unwrap_or_default();
        context.output.text(format_args!("{set}-{}: {node}{leaves}", member.ordinal));
    }
    let placed = status.conditions.iter().find(|one| one.type_ == "Placed");
    Ok(if placed.is_some_and(|one| one.status == "True") { Exit::Success } else { Exit::Partial })
}
