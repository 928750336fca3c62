//! Faults that are planted, and that a drill must find: each verdict is "not
//! satisfied", for the right reason and no other.
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use coffer_client::BucketStore;
use coffer_client::backup::{BackupOptions, Quiet, Repository, SnapshotId, backup};
use coffer_client::drill::{
    DrillRecordV2, NegativeCheck, STATE_FILE, SampleFault, ScenarioKind, Shelf, TreeSource, Verdict,
    sample_files, verify_sample,
};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::RepositoryKey;
use coffer_model::{BucketName, Clock as _, Digest};
use coffer_tests::drills::{Driller, conduct, wish};
use coffer_tests::{
    Deployment, Files, TenantClient, bucket_name, flip, object_key, pattern, source_tree, volumes,
};

/// The verdicts that are not satisfied, and why.
fn unmet(record: &DrillRecordV2) -> Vec<(String, String)> {
    let unmet = record.verdicts.iter().filter(|(_, judged)| judged.verdict == Verdict::NotSatisfied);
    unmet.map(|(name, judged)| (name.clone(), judged.reason.clone())).collect()
}

fn names(unmet: &[(String, String)]) -> BTreeSet<&str> {
    unmet.iter().map(|(name, _)| name.as_str()).collect()
}

fn volume_bytes(deployment: &Deployment, site: &str) -> Vec<u8> {
    let directory = deployment.site_dir(site);
    let files = Files::of(&directory);
    let last = volumes(&directory).pop().unwrap();
    files.iter().find(|(path, _)| directory.join(path) == last).map(|(_, bytes)| bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_byte_at_rest_on_more_sites_than_parity_is_found_and_named_unreadable() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "good", pattern(1, 400_000)).await;
    let sites = ["fra1", "par1", "ams1"];
    let before = sites.map(|site| volume_bytes(&deployment, site));
    tenant.put(&bucket, "bad", pattern(2, 3 << 20)).await;
    for (site, before) in sites.iter().zip(&before) {
        let after = volume_bytes(&deployment, site);
        let differs = |at: &usize| before.get(*at) != after.get(*at);
        let (first, last) =
            ((0..after.len()).find(differs).unwrap(), (0..after.len()).rev().find(differs).unwrap());
        assert!(last - first > 500_000, "the shard lies between {first} and {last}");
        flip(&volumes(&deployment.site_dir(site)).pop().unwrap(), ((first + last) / 2) as u64);
    }
    let mut driller = Driller::of(&tenant);
    let at = deployment.scratch().join("drill");
    let planned = driller.plan_unmeasured(&tenant, &wish(&bucket), &at).await;
    assert_eq!(planned.plan.prediction.unrecoverable, 0, "nothing of it could be foreseen");
    let record = driller.run(&tenant, &planned, None, conduct(&at)).await.unwrap().record;
    let unmet = unmet(&record);
    assert_eq!(names(&unmet), BTreeSet::from(["completeness", "outcome as foreseen", "rpo", "rto"]));
    assert_eq!((record.results.restored, record.results.unreadable), (1, 1));
    assert!(unmet.iter().any(|(_, why)| why.contains("1 of 2 came back; unreadable: ")), "{unmet:?}");
    assert!(!record.is_as_foreseen());
}

/// A repository with one tree, backed up; and the manifest's text.
async fn back_up(
    tenant: &TenantClient,
    bucket: &BucketName,
    source: &std::path::Path,
) -> (Repository, SnapshotId, Vec<u8>, Digest) {
    let store = Arc::new(BucketStore::new(tenant.client.clone(), bucket.clone()));
    let key = RepositoryKey::generate(&OsEntropy);
    let repository = Repository::init(store, &key, None, &OsEntropy).await.unwrap();
    let (snapshot, text, digest) = store_tree(&repository, source).await;
    (repository, snapshot, text, digest)
}

async fn store_tree(repository: &Repository, source: &std::path::Path) -> (SnapshotId, Vec<u8>, Digest) {
    let mut text = Vec::new();
    let made = backup(
        repository,
        source,
        BackupOptions::default(),
        &mut text,
        &SystemClock,
        Arc::new(OsEntropy),
        Arc::new(Quiet),
    );
    let report = made.await.unwrap();
    (report.snapshot, text, report.manifest_digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_comes_back_without_two_countries_and_a_hard_link_that_is_lost_is_found() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let source = deployment.scratch().join("source");
    source_tree(&source, "word");
    let (repository, snapshot, text, digest) = back_up(&tenant, &bucket, &source).await;
    let manifest = deployment.scratch().join("source.manifest");
    std::io::Write::write_all(&mut tempfile_at(&manifest), &text).unwrap();
    let note_index = tenant.client.note_digest("backup-manifest", &digest).await.unwrap();
    let mut driller = Driller::of(&tenant);
    let mut wish = wish(&bucket);
    (wish.kind, wish.places) = (ScenarioKind::Jurisdiction, vec!["DE".to_owned(), "ES".to_owned()]);
    let whole = TreeSource {
        bucket: bucket.clone(),
        repository: &repository,
        snapshot,
        manifest: manifest.clone(),
        manifest_sha256: digest,
        note_index,
    };
    let at = deployment.scratch().join("whole");
    let planned = driller.plan(&tenant, &wish, Some(&whole), &at).await;
    let record = driller.run(&tenant, &planned, Some(&whole), conduct(&at)).await.unwrap().record;
    assert_eq!(unmet(&record), []);
    assert!(record.results.restored > 5 && !record.results.sites_answered.is_empty());
    assert!(!at.join("restored").exists() && at.join(STATE_FILE).exists());

    // The backup of a tree whose hard link was lost, against the manifest of the whole one.
    let link = source.join("dir-word/again-word");
    std::fs::remove_file(&link).unwrap();
    std::fs::copy(source.join("text-word"), &link).unwrap();
    let (broken, ..) = store_tree(&repository, &source).await;
    let lost = TreeSource { snapshot: broken, manifest, ..whole };
    let at = deployment.scratch().join("lost");
    let planned = driller.plan(&tenant, &wish, Some(&lost), &at).await;
    let drilled = driller.run(&tenant, &planned, Some(&lost), conduct(&at)).await.unwrap();
    let unmet = unmet(&drilled.record);
    assert_eq!(names(&unmet), BTreeSet::from(["integrity", "rto"]));
    assert!(unmet.iter().any(|(_, why)| why.contains("HardLink (1)")), "{unmet:?}");
    assert_eq!(drilled.differences.iter().filter(|line| line.starts_with("HardLink ")).count(), 1);
}

fn tempfile_at(path: &std::path::Path) -> std::fs::File {
    std::fs::OpenOptions::new().write(true).create_new(true).open(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_tree_is_restored_to_foresee_it_and_nothing_of_it_is_left_behind() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = bucket_name("trees");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let source = deployment.scratch().join("source");
    for number in 0..12 {
        source_tree(&source.join(format!("{number}")), &number.to_string());
    }
    let (repository, snapshot, text, digest) = back_up(&tenant, &bucket, &source).await;
    let manifest = deployment.scratch().join("source.manifest");
    std::io::Write::write_all(&mut tempfile_at(&manifest), &text).unwrap();
    let note_index = tenant.client.note_digest("backup-manifest", &digest).await.unwrap();
    let mut driller = Driller::of(&tenant);
    let tree = TreeSource {
        bucket: bucket.clone(),
        repository: &repository,
        snapshot,
        manifest,
        manifest_sha256: digest,
        note_index,
    };
    let at = deployment.scratch().join("drill");
    let mut wish = wish(&bucket);
    wish.sites = vec!["fra1".to_owned(), "par1".to_owned()];
    let planned = driller.plan(&tenant, &wish, Some(&tree), &at).await;
    let pilot = planned.plan.prediction.pilot.clone().unwrap();
    let phases: Vec<&str> = pilot.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(phases, ["restore", "read back", "compare"]);
    assert!(!at.join("scratch").exists());
    let record = driller.run(&tenant, &planned, Some(&tree), conduct(&at)).await.unwrap().record;
    assert_eq!((unmet(&record), &record.predicted), (vec![], &planned.plan.prediction));
    assert!(pilot.entries > 0 && pilot.entries <= record.results.expected * 3 / 4, "{pilot:?}");
    let shelf = Shelf::open(&tenant.client).await.unwrap();
    let files = sample_files(&shelf, &record.drill).await.unwrap();
    assert_eq!(verify_sample(&record, &files), Ok(()));
    let mut better = record;
    better.predicted.total_ns = better.predicted_part_ns();
    assert_eq!(verify_sample(&better, &files), Err(SampleFault::Prediction));

    // What cannot be read beforehand is foreseen all the same, and said to be lost.
    wish.sites.push("ams1".to_owned());
    let planned = driller.plan(&tenant, &wish, Some(&tree), &at.join("lost")).await;
    let foreseen = &planned.plan.prediction;
    assert!(foreseen.pilot.is_none() && foreseen.unrecoverable > 0, "{foreseen:?}");
    assert!(!at.join("lost/scratch").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_and_another_tenant_stay_out_of_reach_and_a_breach_is_found() {
    let deployment = Deployment::six_sites().await;
    let (tenant, other) = (deployment.tenant("t").await, deployment.tenant("other").await);
    let bucket = bucket_name("things");
    for tenant in [&tenant, &other] {
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        tenant.put(&bucket, "kept", Bytes::from_static(b"kept")).await;
        tenant.put(&bucket, "gone", Bytes::from_static(b"gone")).await;
    }
    tenant.client.delete(&bucket, &object_key("gone")).await.unwrap();
    let (client, key) = (&tenant.client, object_key("kept"));
    let foreign = client.reach_for(other.tenant, &bucket, &key).await.unwrap();
    let deleted = client.reach_for_deleted(&bucket, &[object_key("gone")]).await.unwrap();
    assert_eq!((foreign, deleted), ((0, 9), (0, 1)));
    // Planted: the credentials of the tenant itself are those of one that reads it; an object that lives.
    let breached = client.reach_for(tenant.tenant, &bucket, &object_key("gone")).await.unwrap();
    let alive = client.reach_for_deleted(&bucket, &[object_key("gone"), key]).await.unwrap();
    assert!(breached.0 > 0, "{breached:?}");
    assert_eq!(alive, (1, 2));
    // And where another tenant can be reached, trying harms nothing of it.
    client.reach_for(tenant.tenant, &bucket, &object_key("kept")).await.unwrap();
    client.get(&bucket, &object_key("kept"), None).await.unwrap();

    let mut driller = Driller::of(&tenant);
    for (number, (tenant_possible, deleted_possible)) in
        [(0, 0), (breached.0, 0), (0, 1)].into_iter().enumerate()
    {
        let at = deployment.scratch().join(format!("drill-{number}"));
        let mut wish = wish(&bucket);
        wish.kind = ScenarioKind::Negative;
        let planned = driller.plan(&tenant, &wish, None, &at).await;
        let mut conduct = conduct(&at);
        let check = |tried: &str, count, possible| NegativeCheck { tried: tried.to_owned(), count, possible };
        conduct.negative =
            vec![check("another tenant", 9, tenant_possible), check("deleted", 2, deleted_possible)];
        let record = driller.run(&tenant, &planned, None, conduct).await.unwrap().record;
        let unmet = unmet(&record);
        let breach = tenant_possible + deleted_possible > 0;
        assert_eq!(names(&unmet), if breach { BTreeSet::from(["negative"]) } else { BTreeSet::new() });
        for (_, why) in unmet {
            let named = if tenant_possible > 0 { "another tenant (" } else { "deleted (1 of 2)" };
            assert!(why.contains(named), "{why}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_everything_was_rewritten_and_deleted_the_moment_before_comes_back() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for number in 0..12 {
        tenant
            .put(
                &bucket,
                &format!("file-{number}"),
                pattern(number, 1000 + 90_000 * usize::try_from(number).unwrap()),
            )
            .await;
    }
    let before = SystemClock.now();
    for number in 0..12 {
        let key = format!("file-{number}");
        tenant.put(&bucket, &key, pattern(number + 500, 2000)).await;
        tenant.client.delete(&bucket, &object_key(&key)).await.unwrap();
    }
    tenant.put(&bucket, "README-PAY", Bytes::from_static(b"pay")).await;
    let mut driller = Driller::of(&tenant);
    let mut wish = wish(&bucket);
    (wish.kind, wish.as_of) = (ScenarioKind::Ransomware, Some(before));
    let at = deployment.scratch().join("drill");
    let planned = driller.plan(&tenant, &wish, None, &at).await;
    let record = driller.run(&tenant, &planned, None, conduct(&at)).await.unwrap().record;
    assert_eq!(unmet(&record), []);
    assert_eq!((record.results.restored, record.scope.objects), (12, 12));
    assert_eq!(record.results.restored_bytes, (0..12).map(|n| 1000 + 90_000 * n).sum::<u64>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_drill_goes_on_where_it_was_and_counts_from_its_first_beginning() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for number in 0..30 {
        tenant.put(&bucket, &format!("file-{number}"), pattern(number, 40_000)).await;
    }
    let mut driller = Driller::of(&tenant);
    let at = deployment.scratch().join("drill");
    let planned = driller.plan(&tenant, &wish(&bucket), None, &at).await;
    let mut slow = conduct(&at);
    slow.max_rate = Some(300_000);
    {
        let mut watch = driller.watch.clone();
        let setting = driller.setting(&tenant);
        let drill = setting.run(&planned, None, &mut watch, slow);
        let some_are_verified = async {
            let count = || {
                Files::of(&at)
                    .iter()
                    .map(|(_, bytes)| bytes.iter().filter(|b| **b == b'\n').count())
                    .sum::<usize>()
            };
            while !at.exists() || count() < 5 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = drill => panic!("it was to be interrupted: {:?}", done.map(|drilled| drilled.record.verdicts)),
            () = some_are_verified => {}
        }
    }
    let refused = driller.run(&tenant, &planned, None, conduct(&at)).await;
    assert!(matches!(refused, Err(coffer_client::drill::DrillError::Interrupted)));
    let mut again = conduct(&at);
    again.resume = true;
    let record = driller.run(&tenant, &planned, None, again).await.unwrap().record;
    assert_eq!(unmet(&record), []);
    assert_eq!(record.results.restored, 30);
    let answered: u64 = record.results.sites_answered.values().max().copied().unwrap();
    assert!(answered <= 26, "what was verified before was read again: {answered}");
    assert!(record.deviations.iter().any(|what| what.contains("resumed")));
}
