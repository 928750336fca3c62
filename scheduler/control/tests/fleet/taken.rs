//! Who takes pods beside us: a taint, an eviction while we restart one, a leader whose time is over.

use coffer_control::DISCARD;
use coffer_embedded::platform::nodes::{Act, Lookout, Sight};
use coffer_embedded::platform::{Moment, Settings};
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::EvictParams;
use serde_json::json;

use crate::story::{founded, homes, put, serves};
use crate::world::{Place, SHARDS, World, id};

/// What Kubernetes' own controller would take away at once.
async fn driven_out(world: &World) -> Vec<String> {
    let nodes = world.all_nodes().await;
    let nodes: Vec<&Node> = nodes.values().collect();
    let pods = world.all_pods().await;
    let pods: Vec<&Pod> = pods.iter().collect();
    let sight = Sight { nodes: &nodes, leases: &[], pods: &pods };
    let acts = Lookout::default().look(sight, &Moment::of(&*world.clock), &Settings::default());
    let evicted = acts.into_iter().filter_map(|act| match act {
        Act::Evict(pod) => Some(pod.name_any()),
        _ => None,
    });
    evicted.collect()
}

async fn taint(world: &World, n: usize) {
    let taints = json!([{ "key": "fire", "value": "hot", "effect": "NoExecute" }]);
    world.node(n, json!({ "spec": { "taints": taints } })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taint_on_every_node_takes_no_pod_down() {
    let mut world = founded(9, 6).await;
    put(&world);
    let before = homes(&world).await;
    for n in 0..9 {
        taint(&world, n).await;
    }
    assert_eq!(driven_out(&world).await, Vec::<String>::new());
    for _ in 0..8 {
        world.turn().await;
    }
    let mut after = homes(&world).await;
    after.retain(|pod, _| before.contains_key(pod));
    assert_eq!((after, world.serving().await.len()), (before, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tainted_node_is_drained_as_the_ledger_allows() {
    let mut world = founded(9, 6).await;
    put(&world);
    let n: usize = homes(&world).await["gold-1"][1..].parse().unwrap();
    taint(&world, n).await;
    let joined = |Place { pods, .. }: Place| async move { pods.get_opt("gold-6").await.unwrap().is_some() };
    world.until("another pod has joined", 12, joined).await;
    assert_eq!(driven_out(&world).await, Vec::<String>::new());
    let one = id(&world.pods().get("gold-1").await.unwrap()).unwrap();
    world.objects.0.lock().unwrap()[0].remove(&one);
    world.until("the pod has left, and six serve", 12, |place| serves(place, 6)).await;
    assert!(world.pods().get_opt("gold-1").await.unwrap().is_none());
}

/// What the nodes are told to remove.
async fn told(world: &World) -> Vec<String> {
    let nodes = world.all_nodes().await;
    let lists = nodes.values().flat_map(|node| node.annotations());
    let lists = lists.filter(|(key, _)| key.starts_with(DISCARD)).map(|(_, paths)| paths.clone());
    lists.collect()
}

async fn departed(world: &World) -> Vec<(u32, bool)> {
    let status = world.sets().get("gold").await.unwrap().status.unwrap();
    status.departed.iter().map(|site| (site.ordinal, site.retired)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_site_leaves_no_bytes_and_its_room_is_free_only_then() {
    let mut world = founded(9, 6).await;
    let secrets = world.api::<Secret>();
    assert!(secrets.get_opt("gold-1-certificate").await.unwrap().is_some());
    let node = homes(&world).await["gold-1"].clone();
    let n: usize = node[1..].parse().unwrap();
    world.drain(n, true).await;
    let left = |Place { pods, .. }: Place| async move { pods.get_opt("gold-1").await.unwrap().is_none() };
    world.until("the pod has left", 12, left).await;
    // The node does not say yet that the bytes are gone; its room stays taken over a new beginning too.
    let turn = async |world: &mut World| {
        world.turns.turn().await.unwrap();
        world.clock.forward(std::time::Duration::from_secs(1));
    };
    for _ in 0..4 {
        turn(&mut world).await;
    }
    assert_eq!(told(&world).await, ["site-data/gold-1"]);
    assert_eq!(departed(&world).await, [(1, true)]);
    assert!(secrets.get_opt("gold-1-certificate").await.unwrap().is_none(), "its key is of no use any more");
    let held = |world: &World| {
        let book = world.turns.book().lock().unwrap();
        book.ledger().cluster().pods_on(&node.parse().unwrap()).count()
    };
    assert_eq!(held(&world), 1);
    world.kubelet().await;
    for _ in 0..3 {
        turn(&mut world).await;
    }
    assert_eq!((told(&world).await, departed(&world).await, held(&world)), (Vec::new(), Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_had_to_leave_with_shards_on_it_keeps_them_until_they_are_elsewhere() {
    let mut world = founded(9, 6).await;
    put(&world);
    let n: usize = homes(&world).await["gold-1"][1..].parse().unwrap();
    let one = id(&world.pods().get("gold-1").await.unwrap()).unwrap();
    world.attest(n, None).await;
    let left = |Place { pods, .. }: Place| async move { pods.get_opt("gold-1").await.unwrap().is_none() };
    world.until("the pod has left", 12, left).await;
    for _ in 0..4 {
        world.turn().await;
    }
    assert_eq!((told(&world).await, departed(&world).await), (Vec::new(), vec![(1, false)]));
    world.objects.0.lock().unwrap()[0].remove(&one);
    for _ in 0..6 {
        world.turn().await;
    }
    assert_eq!(
        (told(&world).await, departed(&world).await),
        (Vec::new(), Vec::new()),
        "told, done, and forgotten"
    );
    assert!(world.api::<Secret>().get_opt("gold-1-certificate").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_in_the_moment_of_a_restart_gets_no_second_pod() {
    let mut world = founded(9, 6).await;
    put(&world);
    world.turn().await;
    world.set(6, 2).await;
    for _ in 0..40 {
        world.turns.turn().await.unwrap();
        // The platform has not counted yet; somebody drains a node at this moment.
        let restarts = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        let pods = world.all_pods().await;
        if let Some(other) = pods.iter().find(|pod| !restarts(pod))
            && pods.iter().any(restarts)
        {
            let evicted = world.pods().evict(&other.name_any(), &EvictParams::default()).await;
            assert!(evicted.is_err(), "two of six are down, and objects need five");
        }
        let serving = world.serving().await;
        assert!(world.objects.readable(&serving)[0].len() >= SHARDS - 1, "{serving:?}");
        world.kubelet().await;
        world.clock.forward(std::time::Duration::from_secs(1));
    }
    let args = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].args.clone();
    assert!(world.all_pods().await.iter().all(|pod| args(pod) == Some(vec!["2".to_owned()])));
}
