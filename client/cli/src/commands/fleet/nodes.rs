//! `coffer fleet nodes`.

use coffer_control::attestation::{Statement, said_by};
use coffer_control::{DISK_BYTES, DRAIN, revocations, translate};
use coffer_model::Timestamp;
use k8s_openapi::api::core::v1::Node;
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
    let revoked = revocations(&fleet.client, &fleet.namespace).await.map_err(|error| failed(&error))?;
    let now = context.clock.now();
    let mut rows = Vec::new();
    for node in &nodes {
        let name = node.name_any();
        let read = translate::node(node);
        let annotations = node.annotations();
        let said = annotations.get(coffer_control::ATTESTATION).and_then(|text| said_by(text));
        let why_revoked = said.as_ref().and_then(|said| revoked.get(&said.id));
        let said = said.as_ref().map(|said| &said.statement);
        let warned = warned(node);
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
            "holds_seconds": said.map(|said| left(said, now)),
            "warned": warned,
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
            holds(said, now, warned.is_some()),
            format!("{}m", total.cpu_millis),
            bytes_text(total.memory_bytes),
            bytes_text(total.disk_bytes),
            total.iops.to_string(),
        ]);
    }
    table(context, &["NODE", "STATE", "SAYS", "DOMAIN", "HOLDS", "CPU", "MEMORY", "DISK", "IOPS"], &rows);
    if rows.is_empty() {
        context.output.remark(format_args!(
            "no node has registered; each needs its agent, and disk as the resource {DISK_BYTES}"
        ));
    }
    Ok(Exit::Success)
}

/// Seconds for which a statement holds still.
fn left(said: &Statement, now: Timestamp) -> u64 {
    said.not_after.saturating_sub(now.0 / 1_000_000_000)
}

/// How long a node's statement holds, for people.
fn holds(said: Option<&Statement>, now: Timestamp, warned: bool) -> String {
    let Some(said) = said else { return "-".to_owned() };
    let left = left(said, now);
    let text = match left {
        _ if now.0 / 1_000_000_000 < said.not_before => return "not yet".to_owned(),
        0 => return "ended".to_owned(),
        1..7_200 => format!("{} min", left.div_ceil(60)),
        7_200..172_800 => format!("{} h", left / 3_600),
        _ => format!("{} d", left / 86_400),
    };
    if warned { format!("{text}, ends soon") } else { text }
}

/// What the node's agent warns of: an attestation that ends soon.
fn warned(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let soon = conditions.iter().find(|one| one.type_ == "AttestationLasts" && one.status == "False")?;
    (soon.reason.as_deref() == Some("EndsSoon")).then(|| soon.message.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use coffer_model::{FailureDomain, Tier};

    use super::*;

    #[test]
    fn how_long_an_attestation_holds_is_said_in_words_that_fit_it() {
        let said = Statement {
            node: "fra1".parse().unwrap(),
            country: "DE".parse().unwrap(),
            domain: FailureDomain("fra".to_owned()),
            tier: Tier::III,
            not_before: 1_000_000,
            not_after: 9_640_000,
        };
        let at = |seconds: u64| holds(Some(&said), Timestamp(seconds * 1_000_000_000), false);
        let told = [999_999, 1_000_000, 9_600_000, 9_639_999, 9_640_000].map(at);
        assert_eq!(told, ["not yet", "100 d", "11 h", "1 min", "ended"]);
        let soon = holds(Some(&said), Timestamp(9_000_000_000_000_000), true);
        assert_eq!(soon, "7 d, ends soon");
        assert_eq!(holds(None, Timestamp(0), false), "-");
    }
}
