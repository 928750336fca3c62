//! Silence, taints, tolerations and force, with a clock that the test moves.

use serde_json::{Value, json};

use super::*;

/// One node and one pod on it, and a ready second node beside them.
struct World {
    lookout: Lookout,
    now: u64,
    settings: Settings,
    node: Node,
    beside: Node,
    lease: Option<Lease>,
    pods: Vec<Pod>,
}

fn made<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn node(name: &str, annotations: &Value) -> Node {
    made(json!({
        "metadata": {"name": name, "annotations": annotations},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }))
}

fn pod(tolerations: &Value) -> Pod {
    made(json!({
        "metadata": {"name": "p", "namespace": "coffer", "uid": "u"},
        "spec": {"nodeName": "n", "containers": [], "tolerations": tolerations, "terminationGracePeriodSeconds": 5},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
}

fn lease(name: &str, second: u64) -> Lease {
    let renewed =
        format!("{}000Z", coffer_model::Timestamp(second * 1_000_000_000).to_string().replace('Z', ".000"));
    made(json!({
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {"leaseDurationSeconds": 10, "renewTime": renewed},
    }))
}

impl World {
    fn new() -> Self {
        Self {
            lookout: Lookout::default(),
            now: 0,
            settings: Settings::default(),
            node: node("n", &json!({})),
            beside: node("beside", &json!({})),
            lease: Some(lease("n", 0)),
            pods: vec![pod(&json!([{"operator": "Exists", "tolerationSeconds": 20}]))],
        }
    }

    /// Moves the clock; the node beside renews its lease, ours does not.
    fn after(&mut self, seconds: u64) -> Vec<Act> {
        self.now += seconds;
        let beside = lease("beside", self.now);
        let leases: Vec<&Lease> = self.lease.iter().chain([&beside]).collect();
        let sight = Sight {
            nodes: &[&self.node, &self.beside],
            leases: &leases,
            pods: &self.pods.iter().collect::<Vec<_>>(),
        };
        let wall = super::super::time(coffer_model::Timestamp(self.now * 1_000_000_000));
        self.lookout.look(sight, &Moment { steady: Duration::from_secs(self.now), wall }, &self.settings)
    }

    /// Does what the acts say to the node and the pods.
    fn take(&mut self, acts: &[Act]) {
        for act in acts {
            match act {
                Act::Conditions(_, conditions) => {
                    self.node.status.get_or_insert_default().conditions = Some(conditions.clone());
                }
                Act::Taints(node, taints) if node.name_any() == "n" => {
                    self.node.spec.get_or_insert_default().taints = Some(taints.clone());
                }
                Act::Evict(_) => {
                    self.pods[0].metadata.deletion_timestamp =
                        Some(super::super::time(coffer_model::Timestamp(1)));
                }
                Act::Force(_) => self.pods.clear(),
                Act::NotReady(..) | Act::Taints(..) => {}
            }
        }
    }
}

fn forces(acts: &[Act]) -> bool {
    acts.iter().any(|act| matches!(act, Act::Force(_)))
}

fn evicts(acts: &[Act]) -> bool {
    acts.iter().any(|act| matches!(act, Act::Evict(_)))
}

#[test]
fn a_node_that_renews_its_lease_is_left_alone() {
    let mut world = World::new();
    for second in 0..100 {
        world.lease = Some(lease("n", second));
        assert_eq!(world.after(1), []);
    }
}

#[test]
fn a_clock_of_a_node_that_is_wrong_does_not_make_it_silent() {
    let mut world = World::new();
    for second in 0..100 {
        world.lease = Some(lease("n", 3000 - second));
        assert_eq!(world.after(1), []);
    }
}

#[test]
fn a_silent_node_becomes_unknown_and_its_pods_unready_and_it_is_tainted() {
    let mut world = World::new();
    assert_eq!(world.after(0), []);
    assert_eq!(world.after(9), []);
    let acts = world.after(1);
    assert!(matches!(&acts[..], [Act::Conditions(..), Act::NotReady(..), Act::Taints(..)]), "{acts:?}");
    world.take(&acts);
    let taints = world.node.spec.as_ref().unwrap().taints.as_ref().unwrap();
    assert!(taints.iter().any(|taint| taint.key == UNREACHABLE && taint.effect == "NoExecute"));
    assert_eq!(condition(&world.node, "Ready").unwrap().status, "Unknown");
}

#[test]
fn a_pod_goes_when_its_toleration_is_over_and_not_before() {
    let mut world = World::new();
    world.after(0);
    let acts = world.after(10);
    world.take(&acts);
    assert!(!evicts(&world.after(19)));
    assert!(evicts(&world.after(1)));
}

#[test]
fn a_pod_that_tolerates_for_ever_stays() {
    let mut world = World::new();
    world.pods = vec![pod(&json!([{"operator": "Exists"}]))];
    world.after(0);
    let acts = world.after(10);
    world.take(&acts);
    assert!(!evicts(&world.after(100_000)));
}

#[test]
fn a_pod_that_says_nothing_stays_as_long_as_the_settings_say() {
    let mut world = World::new();
    world.pods = vec![pod(&json!([]))];
    world.after(0);
    let acts = world.after(10);
    world.take(&acts);
    assert!(!evicts(&world.after(299)));
    assert!(evicts(&world.after(1)));
}

#[test]
fn where_no_node_is_ready_nothing_is_evicted() {
    let mut world = World::new();
    world.beside.status = None;
    world.after(0);
    let acts = world.after(10);
    world.take(&acts);
    assert!(!evicts(&world.after(100_000)));
}

#[test]
fn a_node_that_comes_back_in_time_loses_its_taints_and_keeps_its_pods() {
    let mut world = World::new();
    world.after(0);
    let acts = world.after(10);
    world.take(&acts);
    world.after(10);
    world.lease = Some(lease("n", 77));
    world.node.status = node("n", &json!({})).status;
    let acts = world.after(1);
    assert!(matches!(&acts[..], [Act::Taints(_, taints)] if taints.is_empty()), "{acts:?}");
    world.take(&acts);
    world.lease = Some(lease("n", 78));
    assert_eq!(world.after(9), []);
}

#[test]
fn a_lost_node_without_a_promise_keeps_its_terminating_pods_for_ever() {
    let mut world = World::new();
    world.after(0);
    for seconds in [10, 20, 100_000] {
        let acts = world.after(seconds);
        assert!(!forces(&acts));
        world.take(&acts);
    }
}

#[test]
fn a_promise_to_stop_permits_force_once_its_bound_is_over() {
    let mut world = World::new();
    world.node = node("n", &json!({SELF_FENCING: "40"}));
    world.after(0);
    let acts = world.after(10);
    world.take(&acts);
    let acts = world.after(20);
    assert!(evicts(&acts));
    world.take(&acts);
    // 40 s, a tenth, and the grace period of 5 s: 49 s of silence; 30 are over.
    assert!(!forces(&world.after(18)));
    assert!(forces(&world.after(1)));
}

#[test]
fn a_promise_that_is_no_number_is_none() {
    for promise in ["", "0", "-1", "soon", "99999999999"] {
        assert_eq!(fencing_bound(&node("n", &json!({SELF_FENCING: promise}))), None, "{promise}");
    }
}

#[test]
fn an_operator_who_says_that_the_node_is_off_permits_force_and_a_node_that_answers_does_not() {
    let mut world = World::new();
    world.node.spec = Some(made(json!({"taints": [{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]})));
    let acts = world.after(0);
    assert!(!forces(&acts));
    let acts = world.after(10);
    world.take(&acts);
    let acts = world.after(20);
    world.take(&acts);
    assert!(forces(&world.after(1)));
}

#[test]
fn pods_of_a_node_that_is_gone_are_forgotten_after_a_while() {
    let mut world = World::new();
    world.node = node("other", &json!({}));
    world.lease = None;
    assert!(!forces(&world.after(0)));
    assert!(!forces(&world.after(39)));
    assert!(forces(&world.after(1)));
}

#[test]
fn a_restart_of_the_controllers_begins_all_waiting_anew() {
    let mut world = World::new();
    world.after(0);
    let acts = world.after(10);
    world.take(&acts);
    world.after(19);
    world.lookout = Lookout::default();
    assert_eq!(world.after(600).iter().filter(|act| matches!(act, Act::Evict(_))).count(), 0);
}

#[test]
fn a_cordoned_node_is_tainted_and_an_uncordoned_one_is_not() {
    let mut world = World::new();
    world.node.spec = Some(made(json!({"unschedulable": true})));
    let acts = world.after(0);
    world.take(&acts);
    let spec = world.node.spec.as_mut().unwrap();
    assert!(spec.taints.as_ref().unwrap().iter().any(|taint| taint.key == UNSCHEDULABLE));
    spec.unschedulable = None;
    let acts = world.after(1);
    assert!(matches!(&acts[..], [Act::Taints(_, taints)] if taints.is_empty()), "{acts:?}");
}
