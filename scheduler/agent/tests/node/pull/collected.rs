//! Images that no pod uses, on a node at work: they go, and those of pods stay,
//! whatever happens to pod and agent meanwhile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_agent::{AgentConfig, ImageDigest, ImageKeeping, Registry};
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use serde_json::{Value, json};

use super::STUCK;
use super::picture::{Picture, archive, sample};
use super::registry::Served;
use crate::fleet::{Fleet, ready, restarts, until_true};

/// Nothing unused is kept, on any disk.
fn hasty(config: &mut AgentConfig, registry: &Served) {
    config.registries.registries = vec![Registry::parse(&registry.plain()).unwrap()];
    config.keeping =
        ImageKeeping { unused: Duration::ZERO, high: 100, low: 100, every: Duration::from_millis(20) };
}

fn container(picture: &Picture, registry: &Served) -> Value {
    json!({ "image": format!("{}/coffer/site@{}", registry.host(), picture.digest) })
}

/// The sample program, in an image that nobody else has.
fn sample_with(mark: &str) -> Picture {
    let mark = archive(&[("mark".into(), mark.as_bytes().to_vec())]);
    Picture::new(&[sample(), mark], |_| {})
}

fn images(fleet: &Fleet) -> PathBuf {
    fleet.directory().join("agent/images")
}

/// The root and the blobs of an image, but for those that another one has too.
fn places(fleet: &Fleet, picture: &Picture, other: &Picture) -> Vec<PathBuf> {
    let blobs = images(fleet).join("layout/blobs/sha256");
    let shared: Vec<ImageDigest> = other.blobs.iter().map(|blob| ImageDigest::of(blob)).collect();
    let own = picture.blobs.iter().map(|blob| ImageDigest::of(blob));
    let own = own.filter(|digest| !shared.contains(digest)).chain([picture.digest.clone()]);
    let root = images(fleet).join(format!("oci-{}", picture.digest.hex()));
    own.map(|digest| blobs.join(digest.hex())).chain([root]).collect()
}

/// Waits until a round has begun and ended after now.
async fn a_round(fleet: &Fleet) {
    for number in 0..2_u8 {
        let stray = images(fleet).join(format!("exe-{}", ImageDigest::of(&[number]).hex()));
        std::fs::File::create_new(&stray).unwrap();
        until_true("what nobody uses is gone", || !stray.exists()).await;
    }
}

fn all_there(places: &[PathBuf]) -> bool {
    places.iter().all(|path: &PathBuf| Path::exists(path))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_with_its_last_pod_and_stays_with_one_that_runs_or_starts_again() {
    let Some(fleet) = Fleet::new("collects").await else { return };
    let (kept, gone) = (sample_with("kept"), sample_with("gone"));
    let registry = Served::honest(&kept).await;
    registry.add(&gone);
    let agent = fleet.start_with(|config| hasty(config, &registry));
    fleet.create("stays", &["wait"], container(&kept, &registry)).await;
    fleet.create("goes", &["wait"], container(&gone, &registry)).await;
    let pod = fleet.until("stays", ready).await;
    fleet.until("goes", ready).await;
    a_round(&fleet).await;
    let (of_kept, of_gone) = (places(&fleet, &kept, &gone), places(&fleet, &gone, &kept));
    assert!(all_there(&of_kept) && all_there(&of_gone));
    fleet.delete("goes").await;
    fleet.until_gone("goes").await;
    until_true("its image is gone", || of_gone.iter().all(|path| !path.exists())).await;
    assert!(all_there(&of_kept));
    // While it waits to be started again no process has the image.
    fleet.kill_container(&pod, 0);
    fleet.until("stays", |pod| restarts(pod) == 1 && ready(pod)).await;
    // An agent that is started again knows it from the disk alone.
    agent.abort().await;
    let agent = fleet.start_with(|config| hasty(config, &registry));
    a_round(&fleet).await;
    fleet.kill_container(&pod, 1);
    fleet.until("stays", |pod| restarts(pod) == 2 && ready(pod)).await;
    assert_eq!(registry.asked_for(kept.digest.hex()), 1, "it was never brought again");
    // What is gone is pulled again when it is wanted.
    fleet.create("again", &["wait"], container(&gone, &registry)).await;
    fleet.until("again", ready).await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_come_and_go_while_images_are_removed_all_find_theirs() {
    let Some(fleet) = Fleet::new("collecting").await else { return };
    let pictures: Vec<Picture> = (0..3).map(|number| sample_with(&format!("{number}"))).collect();
    let registry = Served::honest(&pictures[0]).await;
    pictures.iter().for_each(|picture| registry.add(picture));
    let agent = fleet.start_with(|config| {
        hasty(config, &registry);
        config.keeping.every = Duration::from_millis(1);
    });
    for round in 0..4 {
        for (number, picture) in pictures.iter().enumerate() {
            let name = format!("pod-{round}-{number}");
            fleet.create(&name, &["wait"], container(picture, &registry)).await;
        }
        for number in 0..pictures.len() {
            let name = format!("pod-{round}-{number}");
            fleet.until(&name, ready).await;
            fleet.delete(&name).await;
        }
    }
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_on_which_no_image_makes_room_is_told_and_takes_no_pod_its_image() {
    let Some(fleet) = Fleet::new("fulldisk").await else { return };
    let picture = sample_with("kept");
    let registry = Served::honest(&picture).await;
    let agent = fleet.start_with(|config| {
        hasty(config, &registry);
        (config.keeping.high, config.keeping.low) = (0, 0);
    });
    fleet.create("stays", &["wait"], container(&picture, &registry)).await;
    let pod = fleet.until("stays", ready).await;
    let events: Api<Event> = Api::namespaced(fleet.embedded().client(), "default");
    let told = async {
        loop {
            let all = events.list(&Default::default()).await.unwrap().items;
            let ours = |event: &Event| event.reason.as_deref() == Some("FreeDiskSpaceFailed");
            if let Some(told) = all.into_iter().find(ours) {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let told = tokio::time::timeout(STUCK, told).await.unwrap();
    assert_eq!(told.involved_object.name.as_deref(), Some("fulldisk"));
    assert!(told.message.unwrap().contains("--image-disk-high"));
    a_round(&fleet).await;
    fleet.kill_container(&pod, 0);
    fleet.until("stays", |pod| restarts(pod) == 1 && ready(pod)).await;
    agent.end_all().await;
}
