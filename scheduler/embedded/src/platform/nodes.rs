//! Nodes that fall silent: when one counts as lost, which taints it gets, which
//! of its pods are deleted, and when a pod that nobody can confirm dead may be
//! removed all the same.
//!
//! Time is counted from what this process itself saw change, by a clock that
//! never goes back. A node's clock may be wrong, the wall clock may jump, the
//! control plane may have been down for an hour: none of this makes a node look
//! silent that is not. After a restart all waiting begins anew, so that pods go
//! late, never early.
//!
//! **When a pod is removed by force.** A node that is cut off cannot confirm that
//! its pods have stopped. Two pods that both take writes are worse than none, so that a pod
//! is only forgotten where one of these holds:
//!
//! 1. Its node promises, by the annotation `fleet.coffer/self-fencing: "N"`, to stop
//!    its pods once it could not renew its lease for N seconds, and it has
//!    been silent for N seconds, a tenth more for clocks of different speed, and the
//!    grace period of the pod. The renewal was made before it was seen here, so that the node's count began earlier.
//! 2. An operator says that the node is off: taint `node.kubernetes.io/out-of-service`.
//! 3. The Node object is gone, for as long as [`Settings::gone_node`] says.
//!
//! Otherwise the pod stays `Terminating`, as in Kubernetes, and its replacement waits
//! wherever it must not run beside it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, PodCondition, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{Moment, Settings};

/// The annotation by which an agent promises to stop its pods by itself.
pub const SELF_FENCING: &str = "fleet.coffer/self-fencing";
/// The taint by which an operator says that a node is off.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// What this module puts on nodes, and takes away again.
const OURS: [(&str, &str); 5] = [
    (NOT_READY, "NoExecute"),
    (NOT_READY, "NoSchedule"),
    (UNREACHABLE, "NoExecute"),
    (UNREACHABLE, "NoSchedule"),
    (UNSCHEDULABLE, "NoSchedule"),
];

/// What is to be done about a node or one of its pods.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// The node has these conditions.
    Conditions(Box<Node>, Vec<NodeCondition>),
    /// The node has these taints.
    Taints(Box<Node>, Vec<Taint>),
    /// The pod is not ready: nobody hears of its node.
    NotReady(Box<Pod>, Vec<PodCondition>),
    /// The pod is deleted, with its own grace period.
    Evict(Box<Pod>),
    /// The pod is removed without anybody's confirmation.
    Force(Box<Pod>),
}

/// What was seen of nodes, and when.
#[derive(Debug, Default)]
pub struct Lookout {
    /// By node: its last heartbeat, and when that was first seen.
    heartbeats: HashMap<String, (Option<k8s_openapi::jiff::Timestamp>, Duration)>,
    /// By node and taint: when it was first seen.
    taints: HashMap<(String, String, String), Duration>,
    /// By name of a node that pods name and that is not there: since when.
    gone: HashMap<String, Duration>,
}

/// The nodes, their leases and pods, as they are now.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// All nodes.
    pub nodes: &'a [&'a Node],
    /// The leases of `kube-node-lease`.
    pub leases: &'a [&'a Lease],
    /// All pods.
    pub pods: &'a [&'a Pod],
}

impl Lookout {
    /// What is to be done now. Nothing in it waits for anything else of it;
    /// whatever fails is found again by the next look.
    pub fn look(&mut self, sight: Sight<'_>, now: &Moment, settings: &Settings) -> Vec<Act> {
        let leases: HashMap<&str, &Lease> =
            sight.leases.iter().filter_map(|lease| Some((lease.metadata.name.as_deref()?, *lease))).collect();
        let mut by_node: HashMap<&str, Vec<&Pod>> = HashMap::new();
        for pod in sight.pods {
            if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
                by_node.entry(node).or_default().push(pod);
            }
        }
        let mut acts = Vec::new();
        // Where nobody is ready, it is rather this process that is cut off.
        let someone = sight.nodes.iter().any(|node| {
            ready(node) == Some("True") && self.silent(node, &leases, now) < patience(node, &leases, settings)
        });
        for node in sight.nodes {
            let name = node.name_any();
            self.gone.remove(&name);
            let pods = by_node.remove(name.as_str()).unwrap_or_default();
            let silence = self.silent(node, &leases, now);
            let silent = silence >= patience(node, &leases, settings);
            if silent {
                acts.extend(unknown(node, &now.wall));
                acts.extend(pods.iter().filter_map(|pod| unready(pod, &now.wall)));
            }
            let state = if silent { Some("Unknown") } else { ready(node) };
            let taints = self.taints(node, state, now, &mut acts);
            acts.extend(self.evictions(node, &taints, &pods, now, someone, settings));
            acts.extend(forced(node, silent.then_some(silence), &pods));
        }
        acts.extend(self.orphans(&by_node, now, settings));
        self.forget(&sight);
        acts
    }

    /// For how long the node has not been heard of.
    fn silent(&mut self, node: &Node, leases: &HashMap<&str, &Lease>, now: &Moment) -> Duration {
        let name = node.name_any();
        let lease = leases.get(name.as_str()).and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
        let beat = lease
            .map(|time| time.0)
            .or_else(|| condition(node, "Ready")?.last_heartbeat_time.as_ref().map(|time| time.0));
        let seen = self.heartbeats.entry(name).or_insert((beat, now.steady));
        if seen.0 != beat {
            *seen = (beat, now.steady);
        }
        now.steady.saturating_sub(seen.1)
    }

    /// The taints that the node should have; an act where it has others.
    fn taints(&mut self, node: &Node, state: Option<&str>, now: &Moment, acts: &mut Vec<Act>) -> Vec<Taint> {
        let spec = node.spec.as_ref();
        let has = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        let wanted = |key: &str| match key {
            NOT_READY => !matches!(state, Some("True" | "Unknown")),
            UNREACHABLE => state == Some("Unknown"),
            _ => cordoned,
        };
        let ours =
            |taint: &Taint| OURS.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
        let mut should: Vec<Taint> =
            has.iter().filter(|taint| !ours(taint) || wanted(&taint.key)).cloned().collect();
        for (key, effect) in OURS {
            if wanted(key) && !should.iter().any(|taint| taint.key == key && taint.effect == effect) {
                should.push(Taint {
                    key: key.to_owned(),
                    effect: effect.to_owned(),
                    value: None,
                    time_added: (effect == "NoExecute").then(|| now.wall.clone()),
                });
            }
        }
        if should != has {
            acts.push(Act::Taints(Box::new(node.clone()), should.clone()));
        }
        should
    }

    /// Pods that do not, or no longer, tolerate a `NoExecute` taint.
    fn evictions(
        &mut self,
        node: &Node,
        taints: &[Taint],
        pods: &[&Pod],
        now: &Moment,
        someone: bool,
        settings: &Settings,
    ) -> Vec<Act> {
        let name = node.name_any();
        let executing: Vec<&Taint> = taints.iter().filter(|taint| taint.effect == "NoExecute").collect();
        self.taints.retain(|(of, key, value), _| {
            *of != name || executing.iter().any(|taint| taint.key == *key && value_of(taint) == value)
        });
        let mut due = Vec::new();
        for taint in executing {
            let of_silence = matches!(taint.key.as_str(), NOT_READY | UNREACHABLE);
            let since = self
                .taints
                .entry((name.clone(), taint.key.clone(), value_of(taint).to_owned()))
                .or_insert(now.steady);
            let for_how_long = now.steady.saturating_sub(*since);
            if of_silence && !someone {
                continue;
            }
            let over = |pod: &&&Pod| {
                tolerated(pod, taint, settings).is_some_and(|tolerated| for_how_long >= tolerated)
            };
            due.extend(pods.iter().filter(over).copied());
        }
        due.sort_by_key(|pod| (pod.namespace(), pod.name_any()));
        due.dedup_by_key(|pod| (pod.namespace(), pod.name_any()));
        due.retain(|pod| pod.metadata.deletion_timestamp.is_none() && !over(pod));
        due.into_iter().map(|pod| Act::Evict(Box::new(pod.clone()))).collect()
    }

    /// Pods of nodes whose objects are gone.
    fn orphans(&mut self, by_node: &HashMap<&str, Vec<&Pod>>, now: &Moment, settings: &Settings) -> Vec<Act> {
        self.gone.retain(|node, _| by_node.contains_key(node.as_str()));
        let mut acts = Vec::new();
        for (node, pods) in by_node {
            let since = *self.gone.entry((*node).to_owned()).or_insert(now.steady);
            if now.steady.saturating_sub(since) >= settings.gone_node {
                acts.extend(pods.iter().map(|pod| Act::Force(Box::new((*pod).clone()))));
            }
        }
        acts
    }

    fn forget(&mut self, sight: &Sight<'_>) {
        let names: HashSet<String> = sight.nodes.iter().map(|node| node.name_any()).collect();
        self.heartbeats.retain(|name, _| names.contains(name));
        self.taints.retain(|(name, _, _), _| names.contains(name));
    }
}

fn value_of(taint: &Taint) -> &str {
    taint.value.as_deref().unwrap_or_default()
}

/// After how much silence a node counts as lost: what its lease says.
fn patience(node: &Node, leases: &HashMap<&str, &Lease>, settings: &Settings) -> Duration {
    let lease =
        leases.get(node.name_any().as_str()).and_then(|lease| lease.spec.as_ref()?.lease_duration_seconds);
    let seconds = lease.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(settings.node_patience, Duration::from_secs)
}

fn condition<'a>(node: &'a Node, of: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == of)
}

fn ready(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|condition| condition.status.as_str())
}

/// All conditions of a lost node become unknown.
fn unknown(node: &Node, now: &Time) -> Option<Act> {
    let mut conditions =
        node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    if !conditions.iter().any(|condition| condition.type_ == "Ready") {
        conditions.push(NodeCondition { type_: "Ready".to_owned(), ..NodeCondition::default() });
    }
    let mut changed = false;
    for condition in conditions.iter_mut().filter(|condition| condition.status != "Unknown") {
        condition.status = "Unknown".to_owned();
        condition.reason = Some("NodeStatusUnknown".to_owned());
        condition.message = Some("The node's agent has stopped renewing its lease.".to_owned());
        condition.last_transition_time = Some(now.clone());
        changed = true;
    }
    changed.then(|| Act::Conditions(Box::new(node.clone()), conditions))
}

fn unready(pod: &Pod, now: &Time) -> Option<Act> {
    let mut conditions = pod.status.as_ref()?.conditions.clone()?;
    let ready = conditions.iter_mut().find(|condition| condition.type_ == "Ready")?;
    if ready.status != "True" {
        return None;
    }
    ready.status = "False".to_owned();
    ready.reason = Some("NodeNotReady".to_owned());
    ready.last_transition_time = Some(now.clone());
    Some(Act::NotReady(Box::new(pod.clone()), conditions))
}

/// Whether a pod has ended by itself.
fn over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// For how long the pod tolerates the taint; None for ever. A pod that says nothing of
/// lost nodes tolerates them for as long as the settings say.
fn tolerated(pod: &Pod, taint: &Taint, settings: &Settings) -> Option<Duration> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let matching: Vec<&Toleration> =
        tolerations.iter().filter(|toleration| matches(toleration, taint)).collect();
    if matching.is_empty() {
        let lost = matches!(taint.key.as_str(), NOT_READY | UNREACHABLE);
        return Some(if lost { settings.default_toleration } else { Duration::ZERO });
    }
    let seconds = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn matches(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !(effect.is_empty() || effect == taint.effect) || !(key.is_empty() || key == taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        _ => !key.is_empty() && toleration.value.as_deref().unwrap_or_default() == value_of(taint),
    }
}

/// Deleted pods of the node that may be removed without its confirmation.
fn forced(node: &Node, silence: Option<Duration>, pods: &[&Pod]) -> Vec<Act> {
    let off = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_ref())
        .is_some_and(|taints| taints.iter().any(|taint| taint.key == OUT_OF_SERVICE));
    let not_ready = silence.is_some() || ready(node) != Some("True");
    let fenced = |pod: &Pod| {
        let bound = fencing_bound(node)?;
        let grace = pod.metadata.deletion_grace_period_seconds;
        let grace = grace.or_else(|| pod.spec.as_ref()?.termination_grace_period_seconds).unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        Some(silence? >= bound.saturating_add(grace))
    };
    let deleted = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some());
    deleted
        .filter(|pod| (off && not_ready) || fenced(pod) == Some(true))
        .map(|pod| Act::Force(Box::new((*pod).clone())))
        .collect()
}

/// After how much silence the node has stopped its pods: what it promises, and a
/// tenth more.
fn fencing_bound(node: &Node) -> Option<Duration> {
    let seconds: u32 = node.annotations().get(SELF_FENCING)?.parse().ok().filter(|seconds| *seconds > 0)?;
    let promised = Duration::from_secs(u64::from(seconds));
    Some(promised.saturating_add(promised / 10))
}

#[cfg(test)]
mod tests;
