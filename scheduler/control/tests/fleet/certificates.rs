//! The certificates of pods, from the site authority that the program has, on
//! whichever home: each names its site and where its node stands, is renewed in
//! time, and of two control planes only one issues what a pod begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use coffer_control::{CertificateError, Control, NoCertificates, SiteCertificates, SiteIdentity};
use coffer_custody::OsEntropy;
use coffer_model::Clock;
use coffer_server::SiteAuthority;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tempfile::TempDir;

use crate::story::{homes, serves};
use crate::world::{World, home};

/// The issuer that ships with the program.
#[path = "../../../../client/cli/src/commands/fleet/certificates.rs"]
mod issuer;

use issuer::{CERTIFICATE_LASTS, Certificates};

type Files = BTreeMap<String, Vec<u8>>;

const NUMBER: &str = "fleet.coffer/certificate";

fn certificates(dir: &Path, clock: &Arc<dyn Clock>) -> Certificates {
    let authority = SiteAuthority::open_or_create(dir).unwrap();
    Certificates::new(authority, CERTIFICATE_LASTS, Arc::clone(clock), Arc::new(OsEntropy))
}

fn files(secret: &Secret) -> Files {
    secret.data.iter().flatten().map(|(name, file)| (name.clone(), file.0.clone())).collect()
}

fn data(files: &Files) -> BTreeMap<String, ByteString> {
    files.iter().map(|(name, file)| (name.clone(), ByteString(file.clone()))).collect()
}

async fn secrets(world: &World) -> BTreeMap<String, Secret> {
    let all = world.api::<Secret>().list(&ListParams::default()).await.unwrap();
    let pod = |secret: Secret| Some((secret.name_any().strip_suffix("-certificate")?.to_owned(), secret));
    all.items.into_iter().filter_map(pod).collect()
}

/// What is in each pod's secret.
async fn certified(world: &World) -> BTreeMap<String, Files> {
    secrets(world).await.iter().map(|(pod, secret)| (pod.clone(), files(secret))).collect()
}

fn identity(files: &Files) -> coffer_site::SiteIdentity {
    let pem = String::from_utf8(files["certificate.pem"].clone()).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(body).unwrap();
    coffer_site::SiteIdentity::of_certificate(&der).unwrap()
}

/// Six pods of one set that serve with certificates of an authority in `dir`.
async fn issued(dir: &TempDir) -> World {
    let issuing = |control: Control| Control {
        certificates: Arc::new(certificates(&dir.path().join("authority"), &control.clock)),
        ..control
    };
    let mut world = World::with(9, issuing).await;
    world.waits = true;
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    world
}

/// The pods by the objects that they are: one that was started again is another.
async fn objects(world: &World) -> BTreeSet<Option<String>> {
    world.all_pods().await.iter().map(|pod| pod.uid()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_its_site_and_where_its_node_stands_and_is_renewed_for_that_site() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = issued(&dir).await;
    crate::story::put(&world);
    world.turn().await;
    let first = certified(&world).await;
    for (pod, node) in homes(&world).await {
        let (files, n) = (&first[&pod], node[1..].parse().unwrap());
        assert_eq!(identity(files).country.as_str(), home(n), "{pod} on {node}");
        let site = issuer::site_id(secrets(&world).await.remove(&pod).unwrap());
        assert_eq!(site, Some(identity(files).site.to_string()));
    }
    let sites: BTreeSet<String> = first.values().map(|files| identity(files).to_string()).collect();
    assert_eq!(sites.len(), 6);
    let begun = objects(&world).await;
    world.clock.forward(CERTIFICATE_LASTS / 2);
    for _ in 0..4 {
        world.turn().await;
    }
    assert_eq!(
        (certified(&world).await, objects(&world).await),
        (first.clone(), begun.clone()),
        "not yet due"
    );
    world.clock.forward(CERTIFICATE_LASTS / 6);
    for _ in 0..40 {
        world.turn().await;
    }
    let second = secrets(&world).await;
    for (pod, secret) in &second {
        let (before, after) = (&first[pod], files(secret));
        assert_eq!(identity(before), identity(&after));
        assert_eq!(before["receipt.key"], after["receipt.key"]);
        assert_ne!(before["key.pem"], after["key.pem"]);
        assert_eq!(secret.annotations()[NUMBER], "1", "once");
    }
    assert_eq!(second.len(), 6);
    assert!(objects(&world).await.is_disjoint(&begun), "each pod has begun anew");
    // One that was deleted is issued under a number that none before had, and its pod takes it up.
    let pod = second.keys().next().unwrap();
    let name = format!("{pod}-certificate");
    world.api::<Secret>().delete(&name, &DeleteParams::default()).await.unwrap();
    for _ in 0..12 {
        world.turn().await;
    }
    let third = secrets(&world).await;
    let began = world.all_pods().await.into_iter().find(|one| one.name_any() == *pod).unwrap();
    assert_eq!((&*third[pod].annotations()[NUMBER], &*began.annotations()[NUMBER]), ("2", "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_deleted_before_it_was_ever_renewed_is_issued_under_a_number_and_its_pod_takes_it_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = issued(&dir).await;
    world.turn().await;
    let (first, begun) = (secrets(&world).await, objects(&world).await);
    assert!(first.values().all(|secret| !secret.annotations().contains_key(NUMBER)), "{first:?}");
    // Late, so that what its pod began with ends long before another one would be due.
    world.clock.forward(CERTIFICATE_LASTS / 2);
    world.api::<Secret>().delete("gold-2-certificate", &DeleteParams::default()).await.unwrap();
    for _ in 0..12 {
        world.turn().await;
    }
    let second = secrets(&world).await;
    let began = world.all_pods().await.into_iter().find(|one| one.name_any() == "gold-2").unwrap();
    let number = second["gold-2"].annotations().get(NUMBER).map(String::as_str);
    assert_eq!((number, &*began.annotations()[NUMBER]), (Some("1"), "1"));
    assert_eq!(objects(&world).await.intersection(&begun).count(), 5, "nobody else began anew");
}

/// An issuer that is slow: before its answer arrives, the control plane that leads by now has had its own from the
/// same authority, and has stored it.
struct Overtaken {
    inner: Certificates,
    secrets: Api<Secret>,
    stored: Mutex<BTreeMap<String, Files>>,
}

impl Overtaken {
    fn note(&self, site: &SiteIdentity, files: Files) {
        self.stored.lock().unwrap().insert(site.pod.to_string(), files);
    }
}

#[async_trait]
impl SiteCertificates for Overtaken {
    async fn issue(&self, site: &SiteIdentity) -> Result<Files, CertificateError> {
        let (late, stored) = (self.inner.issue(site).await?, self.inner.issue(site).await?);
        let now = self.inner.now().to_string();
        let secret = json!({
            "metadata": { "name": format!("{}-certificate", site.pod), "annotations": { "fleet.coffer/issued-at": now } },
        });
        let mut secret: Secret = serde_json::from_value(secret).unwrap();
        secret.data = Some(data(&stored));
        self.secrets.create(&PostParams::default(), &secret).await.unwrap();
        self.note(site, stored);
        Ok(late)
    }

    fn lasts(&self) -> Option<Duration> {
        self.inner.lasts()
    }

    async fn renew(&self, site: &SiteIdentity, files: &Files) -> Result<Files, CertificateError> {
        let (late, stored) = (self.inner.renew(site, files).await?, self.inner.renew(site, files).await?);
        let annotations = json!({ "fleet.coffer/issued-at": self.inner.now().to_string(), NUMBER: "1" });
        let patch =
            Patch::Merge(json!({ "metadata": { "annotations": annotations }, "data": data(&stored) }));
        let name = format!("{}-certificate", site.pod);
        self.secrets.patch(&name, &PatchParams::default(), &patch).await.unwrap();
        self.note(site, stored);
        Ok(late)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_wakes_up_late_replaces_no_certificate_that_another_one_issued_or_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let mut overtaken = None;
    let issuing = |control: Control| {
        let inner = certificates(&dir.path().join("authority"), &control.clock);
        let secrets = Api::namespaced(control.client.clone(), &control.namespace);
        let certificates = Arc::new(Overtaken { inner, secrets, stored: Mutex::default() });
        overtaken = Some(Arc::clone(&certificates));
        Control { certificates, ..control }
    };
    let mut world = World::with(9, issuing).await;
    world.waits = true;
    let overtaken = overtaken.unwrap();
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    world.turn().await;
    let stored = || overtaken.stored.lock().unwrap().clone();
    let first = certified(&world).await;
    assert_eq!((first.len(), &first), (6, &stored()));
    world.clock.forward(CERTIFICATE_LASTS * 3 / 4);
    for _ in 0..12 {
        world.turn().await;
    }
    let second = certified(&world).await;
    assert_eq!(second, stored());
    let same = |(pod, files): (&String, &Files)| files["key.pem"] == second[pod]["key.pem"];
    assert!(!first.iter().any(same), "they were renewed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_certified_is_said_and_holds_up_no_other_pod() {
    let dir = tempfile::tempdir().unwrap();
    let issuing = |control: Control| Control {
        certificates: Arc::new(certificates(&dir.path().join("authority"), &control.clock)),
        ..control
    };
    let mut world = World::with(9, issuing).await;
    world.waits = true;
    // As an older control plane left it, and as somebody with another authority made it.
    let empty = json!({ "metadata": { "name": "gold-0-certificate" } });
    let another = SiteAuthority::open_or_create(&dir.path().join("another")).unwrap();
    let theirs = another.enrol("DE".parse().unwrap(), &OsEntropy).unwrap();
    let text = theirs.files.iter().map(|(name, _, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    let foreign = json!({ "metadata": { "name": "gold-1-certificate" } });
    for (secret, files) in [(empty, Files::new()), (foreign, text.collect())] {
        let mut secret: Secret = serde_json::from_value(secret).unwrap();
        secret.data = Some(data(&files));
        world.api::<Secret>().create(&PostParams::default(), &secret).await.unwrap();
    }
    let before = certified(&world).await;
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    world.turn().await;
    let mut after = certified(&world).await;
    assert_eq!(after.remove("gold-1"), before.get("gold-1").cloned());
    let sites: BTreeSet<String> = after.values().map(|files| identity(files).to_string()).collect();
    assert_eq!(sites.len(), 5, "{:?}", after.keys());
    let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
    let said = |event: &Event| {
        event.note.as_ref().is_some_and(|note| note.contains("gold-1") && note.contains("this authority"))
    };
    assert!(events.iter().any(said));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_issuer_a_pod_waits_for_its_secret_and_gets_no_empty_one() {
    let mut world =
        World::with(9, |control| Control { certificates: Arc::new(NoCertificates), ..control }).await;
    world.set(6, 1).await;
    world.until("all pods serve", 12, |place| serves(place, 6)).await;
    world.turn().await;
    assert_eq!(certified(&world).await, BTreeMap::new());
}
