//! The node as the API sees it: what it has, what it can do, that it is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::api::{Patch, PostParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource as _};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::admission::Amounts;
use super::attestation::{ATTESTATION, Attested, LASTS, Outlook};
use super::config::AgentConfig;
use super::quantity::Quantity;
use super::{AgentError, Context};
use crate::layer::Layer;
use crate::{clock, files};

/// What the machine can do, layer by layer.
const CONFINEMENT: &str = "fleet.coffer/confinement";
/// After how many seconds without a renewal no pod here takes a write.
const SELF_FENCING: &str = "fleet.coffer/self-fencing";

/// Tells the node's status for ever, sooner again where the API is away. Each look at the node goes to `looked`.
pub(super) async fn keep(context: Arc<Context>, looked: watch::Sender<Option<Node>>) {
    let mut attested = Attested::new(&context).await;
    let nodes: Api<Node> = Api::all(context.client.clone());
    let mut retry = super::backoff::Retry::default();
    loop {
        match tell(&context, &nodes, &mut attested).await {
            Ok(()) => {
                kube::runtime::utils::Backoff::reset(&mut retry);
                wait_until_wrong(&context, &nodes, &mut attested, &looked).await;
            }
            Err(_) => {
                let pause = retry.pause();
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Waits for the next round, or until the API says that the node is not ready: a platform that missed it has
/// marked it, and its pods. Or until there is something to tell of the attestation.
async fn wait_until_wrong(
    context: &Arc<Context>,
    nodes: &Api<Node>,
    attested: &mut Attested,
    looked: &watch::Sender<Option<Node>>,
) {
    let look_every = context.config.lease.renew.min(context.config.status_every);
    let mut waited = std::time::Duration::ZERO;
    while waited < context.config.status_every {
        tokio::time::sleep(look_every).await;
        waited += look_every;
        if let Ok(node) = nodes.get_opt(&context.config.name).await {
            looked.send_replace(node.clone());
            if attested.look().await || attested.news(node.as_ref()).is_some() {
                return;
            }
            let conditions = node.and_then(|node| node.status).and_then(|status| status.conditions);
            let ready =
                conditions.unwrap_or_default().iter().any(|one| one.type_ == "Ready" && one.status == "True");
            if !ready {
                return;
            }
        }
    }
}

async fn tell(context: &Context, nodes: &Api<Node>, attested: &mut Attested) -> kube::Result<()> {
    let name = &context.config.name;
    let before = nodes.get_opt(name).await?;
    attested.look().await;
    let attestation = attested.news(before.as_ref()).map(str::to_owned);
    let outlook = attested.outlook(before.as_ref(), attestation.as_deref());
    let metadata = metadata(context, attestation.as_deref());
    if before.is_none() {
        let mut fresh = metadata.clone();
        fresh["metadata"]["name"] = json!(name);
        let node: Node = serde_json::from_value(fresh).map_err(kube::Error::SerdeError)?;
        nodes.create(&PostParams::default(), &node).await?;
    } else {
        nodes.patch(name, &super::ours(), &Patch::Merge(&metadata)).await?;
    }
    if let Some(text) = &attestation {
        attested.is_told(text).await;
    }
    let before = before.and_then(|node| node.status?.conditions).unwrap_or_default();
    let status = status(context, &before, &outlook);
    let told = nodes.patch_status(name, &super::ours(), &Patch::Merge(&status)).await?;
    if let Some(note) = attested.warning(&outlook) {
        warn(context, &told, outlook.reason, note).await;
    }
    Ok(())
}

/// An event on the node; its condition says so as long as it lasts.
async fn warn(context: &Context, node: &Node, reason: &str, note: String) {
    let event = Event {
        type_: EventType::Warning,
        reason: format!("Attestation{reason}"),
        note: Some(note),
        action: "Attest".to_owned(),
        secondary: None,
    };
    drop(context.teller.tell(&event, &node.object_ref(&())).await);
}

fn metadata(context: &Context, attestation: Option<&str>) -> Value {
    let config = &context.config;
    let mut labels: BTreeMap<&str, &str> = BTreeMap::from([
        ("kubernetes.io/hostname", config.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
    ]);
    labels.extend(config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let confinement: BTreeMap<&str, &str> = context
        .probe
        .layers
        .iter()
        .map(|finding| (finding.layer.name(), if finding.had { "yes" } else { finding.detail.as_str() }))
        .collect();
    let seconds = config.lease.duration.as_millis().div_ceil(1000);
    let mut annotations =
        BTreeMap::from([(CONFINEMENT, json!(confinement).to_string()), (SELF_FENCING, seconds.to_string())]);
    if let Some(attestation) = attestation {
        annotations.insert(ATTESTATION, attestation.to_owned());
    }
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "labels": labels, "annotations": annotations } })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(context: &Context, before: &[NodeCondition], attested: &Outlook) -> Value {
    let capacity: BTreeMap<&String, String> =
        context.admission.capacity().iter().map(|(name, amount)| (name, amount.to_string())).collect();
    let had = context.probe.had();
    let lacking: Vec<&str> =
        Layer::ALL.into_iter().filter(|layer| !had.has(*layer)).map(Layer::name).collect();
    let condition =
        |kind: &str, holds, reason: &str, message| condition(before, kind, holds, reason, message);
    let confined = match lacking.as_slice() {
        [] => condition(
            "Confined",
            true,
            "AllLayers",
            "every layer of confinement was tried and holds".to_owned(),
        ),
        lacking => condition(
            "Confined",
            false,
            "LayersLacking",
            format!("this machine lacks: {}", lacking.join(", ")),
        ),
    };
    let mut status = json!({
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [
            condition("Ready", true, "AgentReady", "the agent runs pods".to_owned()),
            condition("MemoryPressure", false, "Enough", String::new()),
            condition("DiskPressure", false, "Enough", String::new()),
            condition("PIDPressure", false, "Enough", String::new()),
            confined,
            condition(LASTS, attested.lasts, attested.reason, attested.message.clone()),
        ],
        "addresses": [
            { "type": "InternalIP", "address": context.config.address.to_string() },
            { "type": "Hostname", "address": context.config.name },
        ],
        "nodeInfo": {
            "architecture": architecture(), "operatingSystem": "linux",
            "kernelVersion": context.probe.kernel, "osImage": "Linux",
            "containerRuntimeVersion": format!("{}://{}", context.runtime.name(), env!("CARGO_PKG_VERSION")),
            "kubeletVersion": format!("coffer-{}", env!("CARGO_PKG_VERSION")), "kubeProxyVersion": "",
            "bootID": crate::process_id::boot().unwrap_or_default(),
            "machineID": text("/etc/machine-id"), "systemUUID": "",
        },
    });
    if let Some(port) = context.config.port {
        status["daemonEndpoints"] = json!({ "kubeletEndpoint": { "Port": port } });
    }
    json!({ "status": status })
}

fn text(path: &str) -> String {
    files::read_text(path.as_ref()).unwrap_or_default().trim().to_owned()
}

/// A condition, as old as its last change: the API knows it where this agent,
/// which may be another one since, does not.
fn condition(before: &[NodeCondition], kind: &str, holds: bool, reason: &str, message: String) -> Value {
    let now = clock::timestamp(std::time::Duration::from_secs(clock::wall().as_secs())).to_string();
    let status = if holds { "True" } else { "False" };
    let same = before.iter().find(|one| one.type_ == kind && one.status == status);
    let since = same.and_then(|one| one.last_transition_time.as_ref());
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": since.map_or_else(|| json!(now), |since| json!(since)),
    })
}

/// What the machine has, and what the configuration says in its place or beside.
pub(super) fn capacity(config: &AgentConfig) -> Result<Amounts, AgentError> {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let memory = text("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let disk =
        rustix::fs::statvfs(&config.directory).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
    let pids = text("/proc/sys/kernel/pid_max").parse().unwrap_or(32_768);
    let mut capacity = Amounts::from([
        ("cpu".to_owned(), Quantity::units(processors)),
        ("memory".to_owned(), Quantity::units(memory.unwrap_or(0).saturating_mul(1024))),
        ("ephemeral-storage".to_owned(), Quantity::units(disk)),
        ("fleet.coffer/disk-bytes".to_owned(), Quantity::units(disk)),
        ("fleet.coffer/pids".to_owned(), Quantity::units(pids)),
        ("pods".to_owned(), Quantity::units(110)),
    ]);
    for (resource, amount) in &config.capacity {
        let amount =
            Quantity::parse(amount).map_err(|error| AgentError::Capacity(resource.clone(), error))?;
        capacity.insert(resource.clone(), amount);
    }
    Ok(capacity)
}
