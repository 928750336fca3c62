//! How well drills are foreseen: drills of different size and scenario over
//! the shipped sites with their distances, each planned, then carried out. Prints
//! a table of predicted and measured times, with the phases of each drill. Run it
//! with `--release` on a quiet machine; it writes some 4 GB of scratch files:
//!
//! `cargo run --release -p coffer-tests --example drill_predictions [-- SCALE]`
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(clippy::disallowed_methods, reason = "a measurement makes files")]
#![expect(clippy::cast_precision_loss, reason = "times are for people")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_client::BucketStore;
use coffer_client::backup::{BackupOptions, Quiet, Repository, SnapshotId, backup};
use coffer_client::drill::{Conduct, DrillRecordV2, ScenarioKind, TreeSource, Wish};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::RepositoryKey;
use coffer_model::{BucketName, Clock as _, Digest};
use coffer_server::SiteFile;
use coffer_tests::drills::{Driller, conduct, wish};
use coffer_tests::{Deployment, TenantClient, bucket_name, pattern};

/// A backed-up tree.
struct Tree {
    name: String,
    snapshot: SnapshotId,
    manifest: PathBuf,
    digest: Digest,
    note_index: u64,
}

fn make_tree(root: &Path, files: usize, bytes_each: usize, seed: u64) {
    for number in 0..files {
        let directory = root.join(format!("d{}", number / 100));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{number}")), pattern(seed + number as u64, bytes_each)).unwrap();
    }
}

async fn store(
    scratch: &Path,
    repository: &Repository,
    tenant: &TenantClient,
    files: usize,
    each: usize,
    seed: u64,
) -> Tree {
    let name = format!("tree, {files} files, {} MiB", (files * each) >> 20);
    let source = scratch.join(format!("source-{seed}"));
    make_tree(&source, files, each, seed * 1_000_000);
    let mut text = Vec::new();
    let options = BackupOptions::default();
    let (entropy, quiet) = (Arc::new(OsEntropy), Arc::new(Quiet));
    let report = backup(repository, &source, options, &mut text, &SystemClock, entropy, quiet).await.unwrap();
    let manifest = scratch.join(format!("manifest-{seed}"));
    fs::write(&manifest, &text).unwrap();
    let note_index = tenant.client.note_digest("backup-manifest", &report.manifest_digest).await.unwrap();
    Tree { name, snapshot: report.snapshot, manifest, digest: report.manifest_digest, note_index }
}

/// The scenarios, in turn.
fn scenarios(bucket: &BucketName) -> Vec<(&'static str, Wish)> {
    let with = |kind, sites: &[&str], places: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        Wish { kind, sites: owned(sites), places: owned(places), ..wish(bucket) }
    };
    let past = Wish { as_of: Some(SystemClock.now()), ..with(ScenarioKind::Ransomware, &[], &[]) };
    vec![
        ("nothing lost", with(ScenarioKind::Rehearsal, &[], &[])),
        ("two sites lost", with(ScenarioKind::Sites, &["fra1", "par1"], &[])),
        ("a country lost", with(ScenarioKind::Jurisdiction, &[], &["NL"])),
        ("as of before", past),
        ("two countries lost", with(ScenarioKind::Jurisdiction, &[], &["CH", "ES"])),
    ]
}

/// How far off the drills were, in percent.
#[derive(Default)]
struct Tally {
    all: Vec<u64>,
    /// Those before which at least two others had been.
    taught: Vec<u64>,
}

fn tell(number: usize, what: &str, scenario: &str, record: &DrillRecordV2, tally: &mut Tally) {
    assert!(record.is_satisfied(), "{:#?}", record.verdicts);
    let off = record.prediction_error_percent().unwrap();
    let predicted = &record.predicted;
    tally.all.push(off);
    if predicted.history >= 2 {
        tally.taught.push(off);
    }
    let seconds = |ns: u64| ns as f64 / 1e9;
    let phases: Vec<String> = predicted
        .phases
        .iter()
        .map(|phase| {
            let took = record.timeline.phases.iter().find(|took| took.name == phase.name);
            let took = took.map_or(0, |took| took.duration_ns);
            format!("{} {:.2}/{:.2}", phase.name, seconds(phase.duration_ns), seconds(took))
        })
        .collect();
    println!(
        "| {number} | {what} | {scenario} | {} | {:.2} | {:.2} | {off} % | {} % | {:.2} | {} |",
        predicted.history,
        seconds(predicted.total_ns),
        seconds(record.predicted_part_ns()),
        predicted.spread_percent.unwrap_or_default(),
        predicted.correction_milli as f64 / 1e3,
        phases.join(", "),
    );
}

/// A conduct that leaves the tree where it is: all of it goes at the end.
fn kept(directory: &Path) -> Conduct {
    Conduct { keep: true, ..conduct(directory) }
}

#[tokio::main]
async fn main() {
    let scale: usize = std::env::args().nth(1).map_or(1, |scale| scale.parse().unwrap());
    let deployment = Deployment::with_sites(SiteFile::SHIPPED).await;
    let tenant = deployment.tenant("t").await;
    let [trees, things] = ["trees", "things"].map(bucket_name);
    for bucket in [&trees, &things] {
        tenant.client.create_bucket(bucket, None).await.unwrap();
    }
    let scratch = deployment.scratch().to_owned();
    let blobs = Arc::new(BucketStore::new(tenant.client.clone(), trees.clone()));
    let key = RepositoryKey::generate(&OsEntropy);
    let repository = Repository::init(blobs, &key, None, &OsEntropy).await.unwrap();
    let mut stored = Vec::new();
    for (seed, (files, each)) in
        [(1500, 100_000), (9000, 4_000), (5000, 40_000), (500, 1_000_000), (12_000, 10_000)]
            .into_iter()
            .enumerate()
    {
        stored.push(store(&scratch, &repository, &tenant, files * scale, each, seed as u64 + 1).await);
    }
    for number in 0..1200 * scale {
        let size = [900, 30_000, 200_000, 1_500_000][number % 4];
        tenant.put(&things, &format!("o{number}"), pattern(number as u64, size)).await;
    }
    let mut driller = Driller::of(&tenant);
    let mut tally = Tally::default();
    println!(
        "| # | what | scenario | history | predicted s | measured s | off | said to be within | corrected | phases |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut number = 0;
    for round in 0..2 {
        for (at, (scenario, wish)) in scenarios(&trees).into_iter().enumerate() {
            number += 1;
            let tree = &stored[(at + 2 * round) % stored.len()];
            let source = TreeSource {
                bucket: trees.clone(),
                repository: &repository,
                snapshot: tree.snapshot,
                manifest: tree.manifest.clone(),
                manifest_sha256: tree.digest,
                note_index: tree.note_index,
            };
            let directory = scratch.join(format!("drill-{number}"));
            let planned = driller.plan(&tenant, &wish, Some(&source), &directory).await;
            let done = driller.run(&tenant, &planned, Some(&source), kept(&directory)).await.unwrap();
            tell(number, &tree.name, scenario, &done.record, &mut tally);
        }
        for (at, (scenario, mut wish)) in scenarios(&things).into_iter().enumerate() {
            number += 1;
            let sizes = [450, 900, 300, 1200, 600];
            wish.sample = (sizes[at] < 1200).then_some((sizes[at] * scale) as u64);
            let directory = scratch.join(format!("drill-{number}"));
            let planned = driller.plan(&tenant, &wish, None, &directory).await;
            let done = driller.run(&tenant, &planned, None, kept(&directory)).await.unwrap();
            tell(
                number,
                &format!("{} objects", planned.plan.scope.sample),
                scenario,
                &done.record,
                &mut tally,
            );
        }
    }
    for (which, offs) in [("all", &tally.all), ("those with two before them", &tally.taught)] {
        let within = offs.iter().filter(|off| **off <= 25).count();
        println!("\nof {which}, {within} of {} foreseen within 25 %", offs.len());
    }
}
