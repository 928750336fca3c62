//! The placement ledger as it lies in the API: nobody waits until it is tidied up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_control::{Control, PlacementRecord, PlacementRecordSpec};
use coffer_custody::SystemClock;
use coffer_model::Clock;
use futures::StreamExt as _;
use http::Method;
use kube::Client;
use kube::api::PostParams;
use kube::client::Body;

use crate::home::is_cluster;
use crate::world::{World, control};

/// Records of two segments that are over, the second of which is as long as what is kept.
async fn records(world: &World) {
    let names = (0..2).map(|n| (1, n)).chain((0..2000).map(|n| (2, n)));
    let record = |(segment, first): (u64, u64)| {
        let segment = format!("s{segment:016x}");
        let name = format!("{segment}-{first:010}");
        let spec = PlacementRecordSpec {
            segment,
            first,
            count: 0,
            lines: Vec::new(),
            end: "0".repeat(64),
            follows: None,
        };
        PlacementRecord::new(&name, spec)
    };
    let (api, params) = (world.api::<PlacementRecord>(), PostParams::default());
    let make = async |record: PlacementRecord| drop(api.create(&params, &record).await.unwrap());
    let made = futures::stream::iter(names.map(record)).map(make).buffer_unordered(64);
    made.collect::<()>().await;
}

/// The same API, which never answers who removes a record; how often that was asked.
fn without_removals(client: &Client, asked: &Arc<AtomicU64>) -> Client {
    let (inner, asked) = (client.clone(), Arc::clone(asked));
    let answer = tower::service_fn(move |request: http::Request<Body>| {
        let removes =
            request.method() == Method::DELETE && request.uri().path().contains("/placementrecords/");
        let (inner, asked) = (inner.clone(), Arc::clone(&asked));
        async move {
            if removes {
                asked.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            inner.send(request).await
        }
    });
    Client::new(answer, "default")
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_placed_while_old_records_are_removed() {
    if is_cluster() {
        eprintln!("two thousand records are too many for somebody's cluster: SKIPPED there");
        return;
    }
    let world = World::new(9).await;
    records(&world).await;
    world.set(6, 1).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let control = control(&world.home, clock, world.objects.clone());
    let asked = Arc::new(AtomicU64::new(0));
    let control = Control { client: without_removals(&control.client, &asked), ..control };
    let running = tokio::spawn(control.run());
    let placed = async {
        while world.serving().await.len() < 6 || asked.load(Ordering::Relaxed) == 0 {
            world.kubelet().await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), placed).await.unwrap();
    running.abort();
}
