//! Stories of one site set on the embedded API.

use std::collections::BTreeMap;

use coffer_control::PlacementRecord;
use coffer_scheduler::{Ledger, PodId};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::world::{Place, SHARDS, World, home, name, signed};

/// The set has so many pods, all of them serve, and none more.
pub(crate) async fn serves(Place { pods, sets }: Place, wanted: usize) -> bool {
    let pods = pods.list(&ListParams::default()).await.unwrap().items;
    let status = sets.get("gold").await.unwrap().status.unwrap_or_default();
    let ready = pods.iter().filter(|pod| coffer_control::translate::pod(pod).ready).count();
    (pods.len(), ready, status.ready as usize, status.members.len()) == (wanted, wanted, wanted, wanted)
}

async fn is_serving(place: Place, pod: &str) -> bool {
    place.pods.get_opt(pod).await.unwrap().is_some_and(|pod| coffer_control::translate::pod(&pod).ready)
}

pub(crate) async fn founded(nodes: usize, replicas: usize) -> World {
    let mut world = World::new(nodes).await;
    world.set(replicas, 1).await;
    world.until("all pods serve", 12, |place| serves(place, replicas)).await;
    world
}

fn id(ordinal: u32) -> PodId {
    PodId { set: "gold".parse().unwrap(), ordinal }
}

pub(crate) async fn homes(world: &World) -> BTreeMap<String, String> {
    let pods = world.all_pods().await;
    let bound = |pod: &Pod| Some((pod.name_any(), pod.spec.as_ref()?.node_name.clone()?));
    pods.iter().filter_map(bound).collect()
}

/// One object on the first six pods.
pub(crate) fn put(world: &World) {
    let shards = (0..u32::try_from(SHARDS).unwrap()).map(|ordinal| (id(ordinal), true));
    world.objects.0.lock().unwrap().push(shards.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_becomes_pods_on_nodes_of_its_own_with_all_that_they_need() {
    let world = founded(9, 6).await;
    let homes = homes(&world).await;
    let nodes: std::collections::BTreeSet<&String> = homes.values().collect();
    assert_eq!((homes.len(), nodes.len()), (6, 6));
    let secrets = world.api::<Secret>();
    assert!(secrets.get_opt("gold-0-certificate").await.unwrap().is_some());
    let slices = world.api::<EndpointSlice>();
    let slice = slices.get("gold-3").await.unwrap();
    assert_eq!(slice.endpoints[0].conditions.as_ref().unwrap().ready, Some(true));
    world.nothing_is_over_committed("founded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_another_fleet_is_not_taken_for_one_of_the_own_set_of_that_name() {
    let mut world = World::new(6).await;
    let neighbour = world.home.neighbour().await;
    let theirs = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "gold-0", "namespace": neighbour,
            "labels": { "fleet.coffer/site-set": "gold", "fleet.coffer/ordinal": "0" },
        },
        "spec": { "schedulerName": "coffer", "containers": [{ "name": "site", "image": "i" }] },
    });
    let theirs: Pod = serde_json::from_value(theirs).unwrap();
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &neighbour);
    pods.create(&PostParams::default(), &theirs).await.unwrap();
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    let theirs = pods.get("gold-0").await.unwrap();
    assert_eq!(theirs.spec.unwrap().node_name, None, "its own fleet places it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_is_written_down_and_replays() {
    let mut world = founded(9, 6).await;
    world.set(7, 1).await;
    world.until("seven pods serve", 12, |place| serves(place, 7)).await;
    let records = world.api::<PlacementRecord>();
    let mut records = records.list(&ListParams::default()).await.unwrap().items;
    records.sort_by_key(|record| record.spec.first);
    let end = records.last().unwrap().spec.end.clone();
    let lines: Vec<String> = records.into_iter().flat_map(|record| record.spec.lines).collect();
    let replayed = Ledger::replay(lines.iter().map(String::as_str), Some(&end)).unwrap();
    let bound: BTreeMap<String, String> =
        replayed.cluster().bound().map(|(pod, node)| (pod.to_string(), node.to_string())).collect();
    assert_eq!(bound, homes(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_be_placed_says_why_and_what_would_help() {
    let mut world = World::new(5).await;
    world.set(6, 1).await;
    for _ in 0..6 {
        world.turn().await;
    }
    let status = world.sets().get("gold").await.unwrap().status.unwrap();
    let placed = status.conditions.iter().find(|one| one.type_ == "Placed").unwrap();
    assert_eq!((placed.status.as_str(), placed.reason.as_str()), ("False", "Unplaceable"));
    assert!(placed.message.contains("add a node"), "{}", placed.message);
    assert!(world.all_pods().await.iter().all(|pod| pod.spec.as_ref().unwrap().node_name.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_somebody_deletes_comes_back_to_its_disk_with_a_higher_epoch() {
    let mut world = founded(9, 6).await;
    let before = homes(&world).await;
    world.pods().delete("gold-2", &DeleteParams::default()).await.unwrap();
    world.kubelet().await;
    world.until("all pods serve again", 12, |place| serves(place, 6)).await;
    assert_eq!(homes(&world).await, before);
    let pod = world.pods().get("gold-2").await.unwrap();
    assert_eq!(pod.annotations()["fleet.coffer/epoch"], "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_moves_data_first_and_the_pod_waits_for_it() {
    let mut world = founded(9, 6).await;
    put(&world);
    let n: usize = homes(&world).await["gold-1"][1..].parse().unwrap();
    world.drain(n, true).await;
    world.until("another pod has joined", 12, |place| is_serving(place, "gold-6")).await;
    for _ in 0..5 {
        world.turn().await;
    }
    assert!(world.pods().get_opt("gold-1").await.unwrap().is_some(), "its shards are still there");
    {
        let mut objects = world.objects.0.lock().unwrap();
        objects[0].remove(&id(1));
        objects[0].insert(id(6), true);
    }
    world.until("the drained pod has left", 12, |place| serves(place, 6)).await;
    assert!(world.pods().get_opt("gold-1").await.unwrap().is_none());
    let slices = world.api::<EndpointSlice>();
    assert!(slices.get_opt("gold-1").await.unwrap().is_none(), "nobody is sent there any more");
    assert!(slices.get_opt("gold-6").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_emptied_first_takes_no_data_again_while_it_waits_for_its_turn_to_go() {
    let mut world = founded(9, 9).await;
    // The last two hold the least; of them the very last is the first to go.
    let holders: [[u32; 6]; 6] = [
        [0, 1, 2, 3, 4, 5],
        [1, 2, 3, 4, 5, 6],
        [1, 2, 3, 4, 5, 6],
        [0, 2, 3, 4, 5, 6],
        [0, 1, 2, 3, 4, 7],
        [0, 1, 2, 3, 5, 8],
    ];
    let object = |pods: &[u32; 6]| pods.iter().map(|ordinal| (id(*ordinal), true)).collect();
    world.objects.0.lock().unwrap().extend(holders.iter().map(object));
    world.set(7, 1).await;
    world.until("both are told to go", 12, async |place| leave(place, [7, 8]).await == [true, true]).await;
    let moves = |world: &World, object: usize, from: u32, to: u32| {
        let mut objects = world.objects.0.lock().unwrap();
        objects[object].remove(&id(from));
        objects[object].insert(id(to), true);
    };
    moves(&world, 4, 7, 5);
    for _ in 0..5 {
        world.turn().await;
        assert_eq!(leave(world.place(), [7, 8]).await, [true, true]);
    }
    moves(&world, 5, 8, 4);
    world.until("both have left", 12, |place| serves(place, 7)).await;
    let left: Vec<String> = world.all_pods().await.iter().map(|pod| pod.name_any()).collect();
    assert_eq!(left, (0..7).map(|ordinal| format!("gold-{ordinal}")).collect::<Vec<_>>());
}

/// Whether these are members that are told to go.
async fn leave<const N: usize>(place: Place, ordinals: [u32; N]) -> [bool; N] {
    let members = place.sets.get("gold").await.unwrap().status.unwrap().members;
    ordinals.map(|ordinal| members.iter().any(|member| member.ordinal == ordinal && member.leaves.is_some()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_replaced_after_its_grace_without_an_operator() {
    let mut world = founded(9, 6).await;
    put(&world);
    let n: usize = homes(&world).await["gold-1"][1..].parse().unwrap();
    world.ready(n, false).await;
    world.until("a replacement serves", 15, |place| is_serving(place, "gold-6")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_reports_again_within_the_grace_keeps_its_pod_and_nothing_joins() {
    let mut world = founded(9, 6).await;
    let before = homes(&world).await;
    let n: usize = before["gold-1"][1..].parse().unwrap();
    world.ready(n, false).await;
    for _ in 0..3 {
        world.turn().await;
    }
    world.ready(n, true).await;
    world.until("all pods serve", 6, |place| serves(place, 6)).await;
    assert_eq!(homes(&world).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_label_changes_nothing_and_a_lost_attestation_everything() {
    let mut world = founded(9, 6).await;
    put(&world);
    let n: usize = homes(&world).await["gold-1"][1..].parse().unwrap();
    world.node(n, json!({ "metadata": { "labels": { "topology.kubernetes.io/region": "US" } } })).await;
    for _ in 0..3 {
        world.turn().await;
    }
    assert!(serves(world.place(), 6).await);
    // Taken back by the operator.
    let revoked =
        coffer_control::attestation::TrustedKeys::new(&[crate::world::attester().verifying_key()]).unwrap();
    let verified = revoked.verify(&name(n).parse().unwrap(), Some(&signed(&name(n), home(n)))).unwrap();
    let map: ConfigMap = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "revoked-attestations" },
        "data": { verified.id(): "the node was moved" },
    }))
    .unwrap();
    world.api::<ConfigMap>().create(&PostParams::default(), &map).await.unwrap();
    world
        .until("the pod has left, and another serves", 12, |Place { pods, .. }| async move {
            pods.get_opt("gold-1").await.unwrap().is_none() && pods.get_opt("gold-6").await.unwrap().is_some()
        })
        .await;
    let homes = homes(&world).await;
    assert!(homes.values().all(|node| *node != name(n)), "{homes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_changes_country_loses_its_pod_although_the_set_may_stand_there() {
    let mut world = founded(9, 6).await;
    put(&world);
    let n: usize = homes(&world).await["gold-1"][1..].parse().unwrap();
    // Both are countries of the set.
    world.attest(n, Some(home(n + 1))).await;
    world
        .until("the pod has left, and another serves", 12, |place| async move {
            place.pods.get_opt("gold-1").await.unwrap().is_none() && is_serving(place, "gold-6").await
        })
        .await;
    // Its successor came to where the node stands now.
    for _ in 0..6 {
        world.turn().await;
    }
    assert!(serves(world.place(), 6).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_restarts_one_pod_after_the_other_where_it_is() {
    let mut world = founded(9, 6).await;
    put(&world);
    let before = homes(&world).await;
    world.set(6, 2).await;
    for _ in 0..40 {
        world.turn().await;
        let serving = world.serving().await;
        assert!(world.objects.readable(&serving)[0].len() >= SHARDS - 1, "{serving:?}");
    }
    let pods = world.all_pods().await;
    let args = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].args.clone();
    assert!(pods.iter().all(|pod| args(pod) == Some(vec!["2".to_owned()])));
    assert_eq!(homes(&world).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disruption_budget_follows_the_shards() {
    let mut world = founded(9, 6).await;
    let budgets = world.api::<PodDisruptionBudget>();
    let least =
        |budget: PodDisruptionBudget| serde_json::to_value(budget.spec.unwrap().min_available).unwrap();
    put(&world);
    world.turn().await;
    assert_eq!(least(budgets.get("gold").await.unwrap()), json!(5));
    world.objects.0.lock().unwrap()[0].insert(id(0), false);
    world.turn().await;
    assert_eq!(least(budgets.get("gold").await.unwrap()), json!(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_set_goes_after_its_pods_and_no_number_is_given_twice() {
    let mut world = founded(9, 6).await;
    world.set(7, 1).await;
    world.until("seven serve", 12, |place| serves(place, 7)).await;
    world.set(6, 1).await;
    world.until("six serve", 12, |place| serves(place, 6)).await;
    world.set(7, 1).await;
    world.until("seven serve again", 12, |place| serves(place, 7)).await;
    assert!(world.pods().get_opt("gold-7").await.unwrap().is_some(), "{:?}", homes(&world).await);
    world.sets().delete("gold", &DeleteParams::default()).await.unwrap();
    for _ in 0..40 {
        world.turn().await;
    }
    assert!(world.sets().get_opt("gold").await.unwrap().is_none());
    assert!(world.all_pods().await.is_empty());
}
