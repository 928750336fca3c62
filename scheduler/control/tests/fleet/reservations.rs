//! Reservations of a home without transactions: room is held from the decision to
//! the binding, and not longer.

use std::collections::BTreeMap;

use coffer_control::{Control, Held, Reservation, ReservationSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use crate::story::serves;
use crate::world::{DISK, World, name};

/// A control plane as it is on a cluster.
async fn reserving(nodes: usize) -> World {
    World::with(nodes, |control| Control { bind: None, ..control }).await
}

fn reservations(world: &World) -> Api<Reservation> {
    world.api()
}

fn whole_disk() -> Held {
    Held { cpu_millis: 0, memory_bytes: 0, disk_bytes: DISK, iops: 0 }
}

async fn held(world: &World) -> BTreeMap<String, Held> {
    let all = reservations(world).list(&ListParams::default()).await.unwrap();
    all.into_iter().flat_map(|one| one.spec.pods).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reserved_any_more_once_every_pod_is_bound() {
    let mut world = reserving(9).await;
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    assert_eq!(held(&world).await, BTreeMap::new());
    world.nothing_is_over_committed("bound by reservation").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_that_nobody_uses_holds_up_nobody() {
    let mut world = reserving(6).await;
    for n in 0..6 {
        let pods = [(format!("gone-{n}"), whole_disk()), (world.path(&format!("gone-{n}")), whole_disk())];
        let stale = Reservation::new(&name(n), ReservationSpec { pods: pods.into() });
        reservations(&world).create(&PostParams::default(), &stale).await.unwrap();
    }
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    assert_eq!(held(&world).await, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_of_a_pod_that_waits_for_its_binding_is_respected() {
    let mut world = reserving(6).await;
    // Another scheduler's pod, reserved on n0 and not bound yet.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "other", "namespace": world.home.namespace },
        "spec": { "schedulerName": "another", "containers": [{ "name": "c", "image": "i" }] },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    world.pods().create(&PostParams::default(), &pod).await.unwrap();
    let pods = [(world.path("other"), whole_disk())];
    let live = Reservation::new(&name(0), ReservationSpec { pods: pods.into() });
    reservations(&world).create(&PostParams::default(), &live).await.unwrap();
    world.set(6, 1).await;
    for _ in 0..6 {
        world.turn().await;
    }
    let on_n0 = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some("n0");
    assert!(!world.all_pods().await.iter().any(on_n0));
    assert_eq!(held(&world).await.keys().collect::<Vec<_>>(), [&world.path("other")]);
}
