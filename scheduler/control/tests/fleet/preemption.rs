//! Who gives way: pods of others with a lower priority, sites only after their data, and nobody whom a budget holds.
//! And where pods go that say by affinity where they want to be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coffer_control::{Control, PlacementRecord};
use coffer_scheduler::{Ledger, PodId};
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::home::Home;
use crate::story::{founded, homes, put};
use crate::troubles::refusing;
use crate::world::{DISK, Place, World, name};

/// A class that stories use, and its name.
pub(crate) async fn class(world: &World, priority: i32, policy: &str) -> String {
    let name = format!("coffer-story-{priority}-{}", policy.to_lowercase());
    let class = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": { "name": name, "labels": Home::labels() }, "value": priority, "preemptionPolicy": policy,
    });
    let class: PriorityClass = serde_json::from_value(class).unwrap();
    let classes: Api<PriorityClass> = Api::all(world.client.clone());
    match classes.create(&PostParams::default(), &class).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => unreachable!("{error}"),
    }
    name
}

/// Somebody's pod on a node, without a class.
async fn somebody(world: &World, n: usize, disk: u64, labels: Value) {
    let amounts = json!({ "cpu": "10m", "memory": "1Mi", "fleet.coffer/disk-bytes": disk.to_string() });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": format!("batch-{n}"), "namespace": world.home.namespace, "labels": labels },
        "spec": {
            "schedulerName": "another", "nodeName": name(n),
            // A cluster would let its scheduler's taints take it away otherwise.
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "c", "image": "i", "resources": { "requests": amounts, "limits": amounts } }],
        },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    world.pods().create(&PostParams::default(), &pod).await.unwrap();
}

/// A set of its own, like gold but for what is changed.
pub(crate) async fn set(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    let mut object = json!({
        "apiVersion": "fleet.coffer/v1", "kind": "SiteSet", "metadata": { "name": name },
        "spec": {
            "replicas": 6, "dataShards": 2, "parityShards": 1, "graceSeconds": 5,
            "residency": { "allow": ["EU"] }, "spread": { "perDomain": 1 },
            "template": {
                "image": format!("coffer.local/site@sha256:{}", "0".repeat(64)),
                "resources": { "cpu": "100m", "memory": "1Mi", "diskBytes": 300, "iops": 10 },
            },
        },
    });
    change(&mut object["spec"]);
    world.sets().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

async fn pods_of(place: &Place, set: &str) -> Vec<Pod> {
    let label = format!("fleet.coffer/site-set={set}");
    place.pods.list(&ListParams::default().labels(&label)).await.unwrap().items
}

async fn all_serve(place: Place, set: &str, count: usize) -> bool {
    let pods = pods_of(&place, set).await;
    pods.len() == count && pods.iter().all(|pod| coffer_control::translate::pod(pod).ready)
}

async fn batch(world: &World) -> Vec<String> {
    let mut names: Vec<String> = world.all_pods().await.iter().map(ResourceExt::name_any).collect();
    names.retain(|name| name.starts_with("batch-"));
    names.sort();
    names
}

/// What was told of a pod.
async fn told(world: &World, pod: &str) -> Vec<String> {
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let about = |event: &Event| event.regarding.as_ref().is_some_and(|one| one.name.as_deref() == Some(pod));
    events.into_iter().filter(about).filter_map(|event| event.reason).collect()
}

async fn placed(world: &World, set: &str) -> (String, String) {
    let status = world.sets().get(set).await.unwrap().status.unwrap();
    let placed = status.conditions.into_iter().find(|one| one.type_ == "Placed").unwrap();
    (placed.reason, placed.message)
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_lower_priority_give_way_and_their_room_is_kept_for_the_set() {
    let mut world = World::new(6).await;
    let high = class(&world, 1000, "PreemptLowerPriority").await;
    for n in 0..6 {
        somebody(&world, n, DISK - 100, json!({})).await;
    }
    world.kubelet().await;
    set(&world, "ruby", |spec| spec["template"]["priorityClassName"] = json!(high)).await;
    let nominated = |place: Place| async move {
        let pods = pods_of(&place, "ruby").await;
        let nominated = |pod: &Pod| pod.status.as_ref().and_then(|one| one.nominated_node_name.clone());
        pods.len() == 6
            && pods.iter().filter_map(nominated).collect::<std::collections::BTreeSet<_>>().len() == 6
    };
    world.until("each pod is told where room is kept for it", 12, nominated).await;
    world.until("all pods serve", 20, |place| all_serve(place, "ruby", 6)).await;
    assert_eq!(batch(&world).await, Vec::<String>::new());
    assert!(told(&world, "batch-0").await.contains(&"Preempted".to_owned()));
    assert!(told(&world, "ruby-0").await.contains(&"Nominated".to_owned()));
    world.nothing_is_over_committed("after others gave way").await;
    // Who gave way is in the ledger, and replays.
    let records = world.api::<PlacementRecord>().list(&ListParams::default()).await.unwrap().items;
    let records: std::collections::BTreeMap<u64, PlacementRecord> =
        records.into_iter().map(|record| (record.spec.first, record)).collect();
    let lines: Vec<String> = records.into_values().flat_map(|record| record.spec.lines).collect();
    assert_eq!(lines.iter().filter(|line| line.contains("\"preempted\"")).count(), 1);
    assert!(Ledger::replay(lines.iter().map(String::as_str), None).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_never_preempts_waits_and_so_does_one_of_no_higher_priority() {
    let mut world = World::new(6).await;
    let never = class(&world, 1000, "Never").await;
    for n in 0..6 {
        somebody(&world, n, DISK - 100, json!({})).await;
    }
    set(&world, "ruby", |spec| spec["template"]["priorityClassName"] = json!(never)).await;
    set(&world, "jade", |_| ()).await;
    for _ in 0..8 {
        world.turn().await;
    }
    assert_eq!(batch(&world).await.len(), 6);
    for one in ["ruby", "jade"] {
        assert_eq!(placed(&world, one).await.0, "Unplaceable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_disruption_budget_holds_does_not_give_way_and_others_are_found() {
    let mut world = World::new(9).await;
    let high = class(&world, 1000, "PreemptLowerPriority").await;
    for n in 0..9 {
        let labels = if n < 3 { json!({ "held": "yes" }) } else { json!({}) };
        somebody(&world, n, DISK - 100, labels).await;
    }
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "held" },
        "spec": { "minAvailable": 3, "selector": { "matchLabels": { "held": "yes" } } },
    });
    let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
    world.api::<PodDisruptionBudget>().create(&PostParams::default(), &budget).await.unwrap();
    world.kubelet().await;
    set(&world, "ruby", |spec| spec["template"]["priorityClassName"] = json!(high)).await;
    world.until("all pods serve", 30, |place| all_serve(place, "ruby", 6)).await;
    let left = batch(&world).await;
    for held in ["batch-0", "batch-1", "batch-2"] {
        assert!(left.contains(&held.to_owned()), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_gives_way_only_once_its_data_is_elsewhere() {
    let mut world = founded(10, 6).await;
    put(&world);
    world.turn().await;
    let high = class(&world, 1000, "PreemptLowerPriority").await;
    // Four racks, one of them with a site of gold; where the next of gold can go is none of them.
    let taken = homes(&world).await;
    let n: usize = taken["gold-1"][1..].parse().unwrap();
    let free: Vec<usize> =
        (0..10).filter(|n| !taken.values().any(|node| *node == name(*n))).take(3).collect();
    for n in free.iter().chain([&n]) {
        world.node(*n, json!({ "metadata": { "labels": { "rack": "x" } } })).await;
    }
    set(&world, "ruby", |spec| {
        let term = json!({ "matchExpressions": [{ "key": "rack", "operator": "In", "values": ["x"] }] });
        let required = json!({ "nodeSelectorTerms": [term] });
        spec["replicas"] = json!(4);
        spec["template"]["resources"]["diskBytes"] = json!(900);
        spec["template"]["priorityClassName"] = json!(high);
        spec["template"]["affinity"] =
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } });
    })
    .await;
    let joined = |Place { pods, .. }: Place| async move { pods.get_opt("gold-6").await.unwrap().is_some() };
    world.until("another site has joined gold", 20, joined).await;
    for _ in 0..6 {
        world.turn().await;
        let serving = world.serving().await;
        assert_eq!(world.objects.readable(&serving)[0].len(), 6, "nothing is taken before it moved");
    }
    assert!(world.pods().get_opt("gold-1").await.unwrap().is_some());
    // The data moves: gold-6 takes the shard over.
    let (from, to) = (
        PodId { set: "gold".parse().unwrap(), ordinal: 1 },
        PodId { set: "gold".parse().unwrap(), ordinal: 6 },
    );
    {
        let mut objects = world.objects.0.lock().unwrap();
        objects[0].remove(&from);
        objects[0].insert(to, true);
    }
    world.until("all pods of ruby serve", 30, |place| all_serve(place, "ruby", 4)).await;
    assert!(world.pods().get_opt("gold-1").await.unwrap().is_none());
    let gold = |place: Place| async move { pods_of(&place, "gold").await.len() == 6 };
    world.until("gold has six again", 6, gold).await;
    let serving = world.serving().await;
    assert_eq!(world.objects.readable(&serving)[0].len(), 6);
    world.nothing_is_over_committed("after a site gave way").await;
}

/// Six nodes, and a seventh that a site of gold can move to, with ruby that wants the room of gold-1.
async fn one_gives_way() -> World {
    let mut world = founded(7, 6).await;
    put(&world);
    world.turn().await;
    let high = class(&world, 1000, "PreemptLowerPriority").await;
    let taken = homes(&world).await;
    let n: usize = taken["gold-1"][1..].parse().unwrap();
    let spare = (0..7).find(|n| !taken.values().any(|node| *node == name(*n))).unwrap();
    // Another three for ruby, which are empty.
    for n in 7..10 {
        world.register(n).await;
        world.node(n, json!({ "spec": { "unschedulable": true } })).await;
    }
    world.turn().await;
    for n in [n, 7, 8] {
        world.node(n, json!({ "metadata": { "labels": { "rack": "x" } } })).await;
    }
    world.node(spare, json!({ "metadata": { "labels": { "rack": "y" } } })).await;
    for n in [7, 8] {
        let taint = json!([{ "key": "ruby", "value": "only", "effect": "NoSchedule" }]);
        world.node(n, json!({ "spec": { "unschedulable": null, "taints": taint } })).await;
    }
    set(&world, "ruby", |spec| {
        let term = json!({ "matchExpressions": [{ "key": "rack", "operator": "In", "values": ["x"] }] });
        let required = json!({ "nodeSelectorTerms": [term] });
        spec["replicas"] = json!(3);
        spec["template"]["resources"]["diskBytes"] = json!(900);
        spec["template"]["priorityClassName"] = json!(high);
        spec["template"]["tolerations"] = json!([{ "key": "ruby", "value": "only" }]);
        spec["template"]["affinity"] =
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } });
    })
    .await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_begins_anew_goes_on_with_what_was_under_way() {
    let mut world = one_gives_way().await;
    let leaves = async |world: &World| -> Option<String> {
        let status = world.sets().get("gold").await.unwrap().status.unwrap();
        status.members.into_iter().find(|member| member.ordinal == 1).unwrap().leaves
    };
    let joined = |Place { pods, .. }: Place| async move { pods.get_opt("gold-6").await.unwrap().is_some() };
    world.until("another site has joined gold", 20, joined).await;
    for _ in 0..4 {
        world.begin_anew().await;
        for _ in 0..3 {
            world.turn().await;
            assert_eq!(
                leaves(&world).await.as_deref(),
                Some("Preempted"),
                "it is not told to take data again"
            );
        }
        let ruby = pods_of(&world.place(), "ruby").await;
        let kept = |pod: &Pod| pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
        assert_eq!(ruby.iter().filter_map(kept).count(), 3, "room is kept where it was");
    }
    let set = || "gold".parse().unwrap();
    {
        let mut objects = world.objects.0.lock().unwrap();
        objects[0].remove(&PodId { set: set(), ordinal: 1 });
        objects[0].insert(PodId { set: set(), ordinal: 6 }, true);
    }
    world.until("all pods of ruby serve", 30, |place| all_serve(place, "ruby", 3)).await;
    let serving = world.serving().await;
    assert_eq!(world.objects.readable(&serving)[0].len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_that_the_api_answers_as_a_fault_of_its_own_ends_no_look() {
    let refuses = Arc::new(AtomicBool::new(true));
    let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told_lines = Arc::clone(&lines);
    let mut world = World::with(6, |control| Control {
        client: refusing(&control.client, (Method::POST, "/eviction", 500), &refuses),
        trouble: Arc::new(move |what: &str| told_lines.lock().unwrap().push(what.to_owned())),
        ..control
    })
    .await;
    let high = class(&world, 1000, "PreemptLowerPriority").await;
    for n in 0..6 {
        somebody(&world, n, DISK - 100, json!({})).await;
    }
    world.kubelet().await;
    set(&world, "ruby", |spec| spec["template"]["priorityClassName"] = json!(high)).await;
    for _ in 0..8 {
        world.turn().await;
    }
    assert_eq!(batch(&world).await.len(), 6);
    assert_eq!(placed(&world, "ruby").await.0, "Unplaceable", "the status is written");
    assert!(told(&world, "ruby").await.contains(&"Stays".to_owned()));
    assert_eq!(*lines.lock().unwrap(), Vec::<String>::new(), "no look has failed");
    refuses.store(false, Ordering::Relaxed);
    world.clock.forward(Duration::from_secs(90));
    world.until("all pods serve", 30, |place| all_serve(place, "ruby", 6)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_stays_apart_from_pods_that_it_names_and_from_those_that_shun_it() {
    let mut world = World::new(9).await;
    for n in 0..2 {
        somebody(&world, n, 10, json!({ "app": "noisy" })).await;
    }
    // Somebody who wants no site of gold on his node.
    let gold = json!({ "matchLabels": { "fleet.coffer/site-set": "gold" } });
    let term = json!([{ "topologyKey": "kubernetes.io/hostname", "labelSelector": gold }]);
    let shy = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "shy", "namespace": world.home.namespace },
        "spec": {
            "schedulerName": "another", "nodeName": name(2), "tolerations": [{ "operator": "Exists" }],
            "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": term } },
            "containers": [{ "name": "c", "image": "i" }],
        },
    });
    let shy: Pod = serde_json::from_value(shy).unwrap();
    world.pods().create(&PostParams::default(), &shy).await.unwrap();
    let noisy = json!([{ "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "noisy" } } }]);
    let apart = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": noisy } });
    set(&world, "gold", |spec| spec["template"]["affinity"] = apart).await;
    world.until("all pods serve", 12, |place| all_serve(place, "gold", 6)).await;
    let homes = homes(&world).await;
    let mut of_gold = homes.iter().filter(|(pod, _)| pod.starts_with("gold-"));
    assert!(of_gold.all(|(_, node)| !["n0", "n1", "n2"].contains(&node.as_str())), "{homes:?}");
    // With one more pod than nodes that are left, what is in the way is said.
    let seven = json!({ "spec": { "replicas": 7 } });
    let how = kube::api::PatchParams::default();
    world.sets().patch("gold", &how, &kube::api::Patch::Merge(&seven)).await.unwrap();
    for _ in 0..4 {
        world.turn().await;
    }
    let (reason, message) = placed(&world, "gold").await;
    assert!(reason == "Unplaceable" && message.contains("PodAntiAffinity"), "{reason}: {message}");
}
