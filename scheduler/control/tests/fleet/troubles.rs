//! What a look at a set runs into is seen by whoever looks at the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use coffer_control::{
    CertificateError, Control, ShardLedger, ShardLedgerError, Shards, SiteCertificates, SiteIdentity,
};
use coffer_scheduler::{PodId, SetName, ShardGroup};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams};
use kube::client::Body;
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::story::{homes, put, serves};
use crate::world::{Place, World};

/// A ledger that does every wish, or refuses to empty any site. Where it lists the sites, each holds a shard
/// that is not needed.
struct Askew {
    lists: bool,
    empties: bool,
}

#[async_trait]
impl ShardLedger for Askew {
    async fn look(
        &self,
        _: &SetName,
        members: &BTreeSet<PodId>,
        serving: &BTreeSet<PodId>,
        _: &BTreeSet<PodId>,
    ) -> Result<Shards, ShardLedgerError> {
        if !self.lists {
            return Ok(Shards::default());
        }
        let held = members.iter().map(|pod| (pod.clone(), 1)).collect();
        let group = ShardGroup { needed: 1, readable: serving.clone(), objects: 1 };
        Ok(Shards { groups: vec![group], held })
    }

    async fn join(&self, _: &SiteIdentity, _: &str) -> Result<(), ShardLedgerError> {
        Ok(())
    }

    async fn evacuate(&self, pod: &PodId, _: bool) -> Result<(), ShardLedgerError> {
        let why = "a policy needs it".to_owned();
        if self.empties { Ok(()) } else { Err(ShardLedgerError::Refused { pod: pod.clone(), why }) }
    }

    async fn keep(&self, _: &PodId) -> Result<(), ShardLedgerError> {
        Ok(())
    }

    async fn leave(&self, _: &PodId) -> Result<(), ShardLedgerError> {
        Ok(())
    }
}

/// Six pods that serve, under such a ledger.
async fn founded(ledger: Askew) -> World {
    let shards = Arc::new(ledger);
    let mut world = World::with(9, |control| Control { shards, ..control }).await;
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    world.turn().await;
    world
}

/// The pods by the objects that they are: one that was started again is another.
async fn objects(world: &World) -> BTreeSet<Option<String>> {
    world.all_pods().await.iter().map(ResourceExt::uid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_the_ledger_does_not_list_is_not_taken_for_empty() {
    let mut world = founded(Askew { lists: false, empties: true }).await;
    let before = objects(&world).await;
    let budget = world.api::<PodDisruptionBudget>().get("gold").await.unwrap();
    let least = serde_json::to_value(budget.spec.unwrap().min_available).unwrap();
    assert_eq!(least, serde_json::json!(6));
    world.set(5, 2).await;
    for _ in 0..8 {
        world.turn().await;
    }
    assert_eq!(objects(&world).await, before);
    let status = world.sets().get("gold").await.unwrap().status.unwrap();
    let known = status.conditions.iter().find(|one| one.type_ == "ShardsKnown").unwrap();
    assert!(known.status == "False" && known.message.contains("lists no site gold-0"), "{known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_may_take_new_shards_still_does_not_leave() {
    let mut world = founded(Askew { lists: true, empties: false }).await;
    let before = objects(&world).await;
    let pod = world.pods().get("gold-0").await.unwrap();
    let node: usize = pod.spec.unwrap().node_name.unwrap().trim_start_matches('n').parse().unwrap();
    world.attest(node, None).await;
    for _ in 0..8 {
        world.turn().await;
    }
    assert!(objects(&world).await.is_superset(&before), "its site was not told to be emptied");
}

/// An issuer that is out of order.
struct OutOfOrder;

#[async_trait]
impl SiteCertificates for OutOfOrder {
    async fn issue(&self, site: &SiteIdentity) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        Err(CertificateError::NotIssued {
            pod: site.pod.clone(),
            why: "the issuer is out of order".to_owned(),
        })
    }
}

/// Certificates that hold for an hour.
struct Short;

#[async_trait]
impl SiteCertificates for Short {
    async fn issue(&self, site: &SiteIdentity) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        Ok([("certificate".to_owned(), site.pod.to_string().into_bytes())].into())
    }

    fn lasts(&self) -> Option<Duration> {
        Some(Duration::from_secs(3600))
    }

    async fn renew(
        &self,
        _: &SiteIdentity,
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        let more = |bytes: &Vec<u8>| [bytes, &b"+"[..]].concat();
        Ok(files.iter().map(|(name, bytes)| (name.clone(), more(bytes))).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_in_time_and_pods_take_it_up_one_after_the_other() {
    let mut world = World::with(9, |control| Control { certificates: Arc::new(Short), ..control }).await;
    world.waits = true;
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    put(&world);
    world.turn().await;
    let files = async |world: &World| -> Vec<Vec<u8>> {
        let secrets = world.api::<Secret>().list(&ListParams::default()).await.unwrap().items;
        secrets.into_iter().map(|secret| secret.data.unwrap()["certificate"].0.clone()).collect()
    };
    let before = (objects(&world).await, files(&world).await);
    for _ in 0..4 {
        world.turn().await;
    }
    assert_eq!((objects(&world).await, files(&world).await), before, "nothing is due yet");
    world.clock.forward(Duration::from_secs(2400));
    for _ in 0..40 {
        world.turn().await;
        let serving = world.serving().await;
        assert!(world.objects.readable(&serving)[0].len() >= crate::world::SHARDS - 1, "{serving:?}");
    }
    let after = (objects(&world).await, files(&world).await);
    assert!(after.0.is_disjoint(&before.0), "each pod has begun anew");
    let renewed: Vec<Vec<u8>> = before.1.iter().map(|bytes| [bytes, &b"+"[..]].concat()).collect();
    assert_eq!(after.1, renewed, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_fails_is_an_event_on_its_set_and_a_line_for_the_operator() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&lines);
    let mut world = World::with(6, |control| Control {
        certificates: Arc::new(OutOfOrder),
        trouble: Arc::new(move |what: &str| told.lock().unwrap().push(what.to_owned())),
        ..control
    })
    .await;
    world.set(6, 1).await;
    for _ in 0..8 {
        world.turn().await;
    }
    let lines = lines.lock().unwrap().clone();
    assert!(lines.iter().all(|line| line.contains("gold") && line.contains("out of order")), "{lines:?}");
    assert!((1..8).contains(&lines.len()), "told, and not with every look: {lines:?}");
    let events = world.api::<Event>();
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let told =
        events.iter().find(|event| event.note.as_ref().is_some_and(|note| note.contains("out of order")));
    let told = told.unwrap();
    assert_eq!(told.regarding.as_ref().and_then(|set| set.name.as_deref()), Some("gold"));
    assert_eq!(told.type_.as_deref(), Some("Warning"));
    // What was done before it is not forgotten: the pods were bound, and their disks are there.
    let status = world.sets().get("gold").await.unwrap().status.unwrap();
    assert!(status.members.iter().all(|member| member.node.is_some()), "{:?}", status.members);
}

/// The same API, which refuses such requests by this code while `refuses` says so.
pub(crate) fn refusing(
    client: &Client,
    (method, end, code): (http::Method, &'static str, u16),
    refuses: &Arc<AtomicBool>,
) -> Client {
    let (inner, refuses) = (client.clone(), Arc::clone(refuses));
    let answer = tower::service_fn(move |request: http::Request<Body>| {
        let is_meant = request.method() == method && request.uri().path().ends_with(end);
        let (inner, refused) = (inner.clone(), is_meant && refuses.load(Ordering::Relaxed));
        async move {
            if !refused {
                return inner.send(request).await;
            }
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "Forbidden",
                "message": "refused: violates PodSecurity",
            });
            let body = Body::from(status.to_string().into_bytes());
            Ok(http::Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(answer, "default")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_whose_pods_are_refused_is_not_written_with_every_look() {
    let refuses = Arc::new(AtomicBool::new(true));
    let mut world = World::with(6, |control| Control {
        client: refusing(&control.client, (http::Method::POST, "/pods", 403), &refuses),
        ..control
    })
    .await;
    world.set(6, 1).await;
    for _ in 0..8 {
        world.turn().await;
    }
    let epochs = async |world: &World| -> BTreeSet<u64> {
        let status = world.sets().get("gold").await.unwrap().status.unwrap();
        assert_eq!(status.members.len(), 6);
        status.members.iter().map(|member| member.epoch).collect()
    };
    assert_eq!(epochs(&world).await, [1].into());
    refuses.store(false, Ordering::Relaxed);
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    assert_eq!(epochs(&world).await, [1].into());
    // The next start of a site is another one.
    world.pods().delete("gold-2", &DeleteParams::default()).await.unwrap();
    world.kubelet().await;
    world.until("all pods serve again", 12, |place| serves(place, 6)).await;
    assert_eq!(epochs(&world).await, [1, 2].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_outside_of_their_jurisdictions_go_at_once_although_no_other_can_be_made() {
    let refuses = Arc::new(AtomicBool::new(false));
    let mut world = World::with(9, |control| Control {
        client: refusing(&control.client, (http::Method::POST, "/pods", 403), &refuses),
        ..control
    })
    .await;
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    put(&world);
    refuses.store(true, Ordering::Relaxed);
    for pod in ["gold-1", "gold-4"] {
        let n = homes(&world).await[pod][1..].parse().unwrap();
        world.attest(n, Some("US")).await;
    }
    // Others are to join in the same look, and their pods are refused in each one after it.
    let gone = |place: Place| async move {
        let left = place.pods.list(&ListParams::default()).await.unwrap().items;
        left.iter().all(|pod| !["gold-1", "gold-4"].contains(&pod.name_any().as_str()))
    };
    world.until("both have left", 4, gone).await;
    assert_eq!(world.serving().await.len(), 4);
    refuses.store(false, Ordering::Relaxed);
    world.until("six serve again", 12, |place| serves(place, 6)).await;
}
