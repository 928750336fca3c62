//! Where the node stands, told by an agent that runs: renewed without a restart,
//! never against an operator's word, and warned of before it ends.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{Event, Node, NodeCondition};
use kube::Api;
use serde_json::json;

use crate::fleet::Fleet;

const ATTESTATION: &str = "fleet.coffer/attestation";

#[expect(clippy::disallowed_methods, reason = "an attestation is a matter of real time")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A statement with a signature that nobody made: who may sign is the control plane's matter.
fn statement(node: &str, not_before: u64, not_after: u64) -> String {
    let statement = json!({
        "node": node, "country": "DE", "domain": "fra", "tier": "III",
        "not_before": not_before, "not_after": not_after,
    });
    let [statement, signature] =
        [statement.to_string().as_bytes(), &[7; 64]].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("v1.{statement}.{signature}")
}

fn carries(node: &Node, text: &str) -> bool {
    node.metadata.annotations.as_ref().and_then(|all| all.get(ATTESTATION)).map(String::as_str) == Some(text)
}

fn lasts(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.and_then(|all| all.iter().find(|one| one.type_ == "AttestationLasts"))
}

fn is(node: &Node, status: &str, reason: &str) -> bool {
    lasts(node).is_some_and(|one| one.status == status && one.reason.as_deref() == Some(reason))
}

/// Another look at the node was told since.
async fn beat(fleet: &Fleet) {
    let beat = |node: &Node| lasts(node).and_then(|one| one.last_heartbeat_time.clone());
    let before = beat(&fleet.until_node(|node| lasts(node).is_some()).await);
    fleet.until_node(|node| beat(node) > before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attestation_is_renewed_while_the_agent_runs_and_an_operators_word_stays() {
    let Some(fleet) = Fleet::new("renewed").await else { return };
    let of = |days: u64| statement("renewed", now() - 1000, now() + days * 86_400);
    let [first, theirs, second] = [100, 200, 300].map(of);
    fleet.attest(&first);
    let agent = fleet.start();
    fleet.until_node(|node| carries(node, &first) && is(node, "True", "Holds")).await;
    fleet.patch_node(json!({ "metadata": { "annotations": { ATTESTATION: theirs } } })).await;
    beat(&fleet).await;
    beat(&fleet).await;
    fleet.until_node(|node| carries(node, &theirs)).await;
    fleet.attest(&second);
    fleet.until_node(|node| carries(node, &second)).await;
    // Half a text and one of another node are no news.
    let newer = of(400);
    for wrong in [&newer[..60], &newer[..newer.len() - 1], &statement("another", 0, now() + 86_400)] {
        fleet.attest(wrong);
        let said = |node: &Node| {
            lasts(node)
                .is_some_and(|one| one.message.as_ref().is_some_and(|text| text.contains("not taken up")))
        };
        let node = fleet.until_node(said).await;
        assert!(carries(&node, &second));
    }
    // Told once is told once for the next agent, too.
    fleet.attest(&second);
    fleet.patch_node(json!({ "metadata": { "annotations": { ATTESTATION: theirs } } })).await;
    agent.abort().await;
    let agent = fleet.start();
    beat(&fleet).await;
    beat(&fleet).await;
    fleet.until_node(|node| carries(node, &theirs)).await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attestation_that_ends_soon_is_a_condition_of_the_node_and_an_event() {
    let Some(fleet) = Fleet::new("endssoon").await else { return };
    fleet.attest(&statement("endssoon", now() - 9000, now() + 1000));
    let agent = fleet.start();
    let node = fleet.until_node(|node| is(node, "False", "EndsSoon")).await;
    let message = lasts(&node).unwrap().message.clone().unwrap();
    assert!(message.contains("sign another one"), "{message}");
    let events: Api<Event> = Api::namespaced(fleet.embedded().client(), "default");
    let told = async {
        loop {
            let all = events.list(&Default::default()).await.unwrap().items;
            let ours = |event: &Event| event.reason.as_deref() == Some("AttestationEndsSoon");
            if let Some(told) = all.into_iter().find(ours) {
                return told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), told).await.unwrap();
    assert_eq!(told.involved_object.name.as_deref(), Some("endssoon"));
    assert_eq!(told.type_.as_deref(), Some("Warning"));
    fleet.attest(&statement("endssoon", now() - 9000, now() + 9000));
    fleet.until_node(|node| is(node, "True", "Holds")).await;
    fleet.attest(&statement("endssoon", now() - 9000, now() - 1000));
    fleet.until_node(|node| is(node, "False", "Ended")).await;
    agent.end_all().await;
}
