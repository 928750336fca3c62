//! `kill -9` between what reached the sites, a deletion's tombstone or a put's
//! manifest, and its commit: the next start finishes it, so that catalogue and
//! sites never tell different stories.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use coffer_client::{CallError, GetError};
use coffer_model::{BucketName, Degraded, ResidencyPolicy, SiteId};
use coffer_proto::v1::{PutHeader, PutSmallRequest};
use coffer_server::RepairRun;
use coffer_tests::{
    Deployment, Held, Ledger, Process, TenantClient, bucket_name, catalogue_keys, object_key, pattern, policy,
};
use tokio::task::JoinHandle;

/// The program that [`Process`] runs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-test-service");

/// Waits until these sites acknowledged what decides. The call that sent it
/// cannot end meanwhile: one site never answers it.
async fn acknowledged<T>(held: &Held, names: &[&str], call: &JoinHandle<T>) {
    let mut look = tokio::time::interval(Duration::from_millis(2));
    while !names.iter().all(|name| held.acknowledged(name)) {
        assert!(!call.is_finished(), "it ended before all of {names:?} acknowledged it");
        look.tick().await;
    }
}

async fn is_gone(tenant: &TenantClient, key: &str) -> bool {
    let read = tenant.get(&bucket_name("things"), key).await;
    matches!(read, Err(GetError::Call(CallError::NotFound(_))))
}

/// Begins a deletion and kills the service when five sites have the tombstone
/// and the sixth has not answered yet: nothing of it is committed.
async fn die_in_the_midst(deployment: &Deployment, tenant: &TenantClient, key: &str) {
    let held = Held::new("mad1", &deployment.scratch().join("acknowledged"));
    let process = Process::start_held(PROGRAM, deployment, &held);
    let client = process.connect(deployment, &tenant.credentials).await;
    let key = object_key(key);
    let deletion = tokio::spawn(async move { client.delete(&bucket_name("things"), &key).await });
    acknowledged(&held, &["fra1", "par1", "ams1", "zrh1", "sto1"], &deletion).await;
    process.kill();
    assert!(deletion.await.unwrap().is_err(), "nobody was told that it is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_cut_off_after_its_tombstone_is_finished_by_the_next_start_and_a_rebuild_agrees() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("acme").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for key in ["kept", "doomed"] {
        tenant.put(&bucket, key, pattern(5, 70_000)).await;
    }
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    die_in_the_midst(&deployment, &tenant, "doomed").await;

    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    assert!(is_gone(&tenant, "doomed").await, "what the sites say, the catalogue says");
    let leaves = tenant.leaves().await;
    let intents = leaves.iter().filter(|leaf| leaf.operation == "object_delete" && leaf.outcome == "intent");
    let subjects: Vec<_> = intents.map(|leaf| leaf.subject.clone()).collect();
    let finished = leaves.iter().filter(|leaf| leaf.operation == "sweep" && leaf.outcome == "done");
    assert_eq!(finished.map(|leaf| leaf.subject.clone()).collect::<Vec<_>>(), subjects);
    assert_eq!(subjects.len(), 1);
    // The name is free, and its next object is not the tombstone's.
    tenant.put(&bucket, "doomed", pattern(6, 200)).await;

    deployment.stop().await;
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    assert!(tenant.get(&bucket, "doomed").await.unwrap() == pattern(6, 200));
    assert!(tenant.get(&bucket, "kept").await.unwrap() == pattern(5, 70_000));
}

/// A deletion that was cut off, and a service that began anew without a holder
/// of the small object, so that it could not finish it.
struct CutOff {
    deployment: Deployment,
    tenant: TenantClient,
    bucket: BucketName,
    /// The version that is being deleted.
    version: String,
    home: PathBuf,
    away: PathBuf,
}

impl CutOff {
    /// With these objects, of which the first is being deleted.
    async fn of(keys: &[&str]) -> Self {
        let mut deployment = Deployment::six_sites().await;
        let mut tenant = deployment.tenant("acme").await;
        let bucket = bucket_name("things");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        for key in keys {
            tenant.put(&bucket, key, pattern(5, 200)).await;
        }
        let doomed = tenant.client.stat(&bucket, &object_key(keys[0])).await.unwrap();
        deployment.stop().await;
        die_in_the_midst(&deployment, &tenant, keys[0]).await;
        let (home, away) = (deployment.site_dir(&doomed.sites[0]), deployment.scratch().join("away"));
        std::fs::rename(&home, &away).unwrap();
        deployment.start().await;
        deployment.reconnect(&mut tenant).await;
        assert!(!is_gone(&tenant, keys[0]).await, "without all holders nobody says that it is gone");
        Self { deployment, tenant, bucket, version: doomed.object.version.to_string(), home, away }
    }

    async fn start_again(&mut self) {
        self.deployment.stop().await;
        if self.away.exists() {
            std::fs::rename(&self.away, &self.home).unwrap();
        }
        self.deployment.start().await;
        self.deployment.reconnect(&mut self.tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_too_few_holders_acknowledged_is_finished_when_they_answer_again() {
    let mut cut_off = CutOff::of(&["doomed"]).await;
    cut_off.start_again().await;
    assert!(is_gone(&cut_off.tenant, "doomed").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hold_is_acknowledged_over_a_deletion_that_has_begun_and_is_not_over() {
    let mut cut_off = CutOff::of(&["case/doomed", "case/kept", "other"]).await;
    let (client, bucket) = (&cut_off.tenant.client, cut_off.bucket.clone());
    for (prefix, exact) in [("case/", false), ("case/doomed", true), ("", false)] {
        let refused = client.place_hold(&bucket, prefix.as_bytes(), exact, "case 7").await;
        assert!(matches!(refused, Err(CallError::Precondition(_))), "{prefix:?}: {refused:?}");
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(&cut_off.version) && text.contains("case/doomed"), "it is named: {text}");
    }
    assert_eq!(client.list_holds().await.unwrap(), [], "what is refused holds nothing");
    // What is not deleted can be held meanwhile.
    let kept = client.place_hold(&bucket, b"case/kept", true, "case 7").await.unwrap();
    assert!(client.delete(&bucket, &object_key("case/kept")).await.is_err());
    client.release_hold(kept.id).await.unwrap();
    // Its holder is back, and the start finishes it: what lies under the hold lies there for good.
    cut_off.start_again().await;
    assert!(is_gone(&cut_off.tenant, "case/doomed").await);
    cut_off.tenant.client.place_hold(&bucket, b"case/", false, "case 7").await.unwrap();
    cut_off.start_again().await;
    assert_eq!(cut_off.tenant.get(&bucket, "case/kept").await.unwrap(), pattern(5, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_said_again_is_not_taken_for_a_version_whose_deletion_has_begun() {
    let mut cut_off = CutOff::of(&["doomed"]).await;
    let data = pattern(5, 200);
    let repeats_blake3 = Bytes::copy_from_slice(blake3::hash(&data).as_bytes());
    let (bucket, key) = (cut_off.bucket.to_string(), Bytes::from_static(b"doomed"));
    let header = PutHeader { bucket, key, repeats_blake3, ..PutHeader::default() };
    let mut wire = cut_off.deployment.wire(&cut_off.tenant.credentials).await;
    wire.objects.put_small(PutSmallRequest { header: Some(header), data: data.clone() }).await.unwrap();
    drop(wire);
    // Its holder is back, and the start finishes the deletion of the version before.
    cut_off.start_again().await;
    assert_eq!(cut_off.tenant.get(&cut_off.bucket, "doomed").await.unwrap(), data, "it was acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_cut_off_and_made_again_stands_in_no_hold_s_way() {
    let CutOff { deployment: _stays, tenant, bucket, .. } = CutOff::of(&["doomed"]).await;
    // A newer version, and a deletion that hides both.
    tenant.put(&bucket, "doomed", pattern(6, 200)).await;
    tenant.client.delete(&bucket, &object_key("doomed")).await.unwrap();
    assert!(is_gone(&tenant, "doomed").await);
    tenant.client.place_hold(&bucket, b"", false, "case 7").await.unwrap();
}

/// Versions of a stopped deployment whose catalogue says another number of
/// missing pieces than there are of these sites.
async fn counted_otherwise(deployment: &Deployment, tenant: &TenantClient, lacking: &[SiteId]) -> u64 {
    let keys = catalogue_keys(&deployment.data(), deployment.root()).await;
    let key = &keys[&tenant.tenant];
    Ledger::read(&deployment.data(), tenant.tenant, key, u64::MAX, lacking).reduced_otherwise
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_without_all_its_shards_that_was_cut_off_before_its_commit_is_not_taken_for_a_whole_one() {
    let mut deployment = Deployment::six_sites().await;
    let accepting = ResidencyPolicy { degraded: Degraded::Accept, ..policy(&[]) };
    let mut tenant = deployment.tenant_with("acme", accepting).await;
    let (bucket, key) = (bucket_name("things"), object_key("cut-off"));
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    let id = |name: &str| kit.sites.iter().find(|address| address.site.name == name).unwrap().site.id;
    deployment.stop().await;
    let (home, away) = (deployment.site_dir("par1"), deployment.scratch().join("away"));
    std::fs::rename(&home, &away).unwrap();
    let held = Held::new("mad1", &deployment.scratch().join("acknowledged"));
    let process = Process::start_held(PROGRAM, &deployment, &held);
    let client = process.connect(&deployment, &tenant.credentials).await;
    let (into, name) = (bucket.clone(), key.clone());
    let put = tokio::spawn(async move {
        client.put_bytes(&into, &name, &Default::default(), pattern(5, 300_000)).await
    });
    // All five have their shards, and all but one of these the manifest.
    acknowledged(&held, &["fra1", "ams1", "zrh1", "sto1"], &put).await;
    process.kill();
    assert!(put.await.unwrap().is_err(), "nobody was told that it is done");
    std::fs::rename(&away, &home).unwrap();
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    assert_eq!(tenant.get(&bucket, "cut-off").await.unwrap(), pattern(5, 300_000), "it is rolled forward");
    deployment.stop().await;
    // The site that was away lacks its shard; so may the one that had no manifest.
    let (gone, late) = (id("par1"), id("mad1"));
    let exact = counted_otherwise(&deployment, &tenant, &[gone]).await;
    let careful = counted_otherwise(&deployment, &tenant, &[gone, late]).await;
    assert_eq!(exact.min(careful), 0, "it is known to lack something");
    deployment.start().await;
    deployment.service().repair(RepairRun::default(), &|_| ()).await.unwrap();
    deployment.stop().await;
    assert_eq!(counted_otherwise(&deployment, &tenant, &[]).await, 0, "and, repaired, to lack nothing");
}
