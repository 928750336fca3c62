//! Sampled drills: the sample is drawn after the plan, by a rule that an
//! independent program follows to the same result; what was skipped, swapped
//! or drawn again is found; in time every object has been restored.
#![expect(clippy::disallowed_methods, reason = "a test writes files for another program")]
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use coffer_client::drill::{
    DrillError, Drilled, Planned, SampleFault, SampleFiles, Shelf, Wish, cosign, drill_file,
    look_for_redraws, parse_list, sample_files, verify_sample,
};
use coffer_model::{BucketName, Digest};
use coffer_tests::drills::{Driller, conduct, wish};
use coffer_tests::{Deployment, TenantClient, bucket_name, pattern};

const OBJECTS: usize = 40;

async fn furnish(tenant: &TenantClient) -> BucketName {
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for number in 0..OBJECTS {
        tenant.put(&bucket, &format!("object-{number}"), pattern(number as u64, 100 + number)).await;
    }
    bucket
}

/// Some of the bucket's objects are to be restored.
fn sampled(bucket: &BucketName, n: u64) -> Wish {
    Wish { sample: Some(n), ..wish(bucket) }
}

async fn drill(
    driller: &mut Driller,
    tenant: &TenantClient,
    bucket: &BucketName,
    n: u64,
    at: &Path,
) -> Drilled {
    let planned = driller.plan(tenant, &sampled(bucket, n), None, at).await;
    driller.run(tenant, &planned, None, conduct(at)).await.unwrap()
}

fn write_files(directory: &Path, files: &SampleFiles, record: &[u8]) {
    std::fs::create_dir_all(directory).unwrap();
    let all: [(&str, &[u8]); 5] = [
        ("plan.json", &files.plan),
        ("population.txt", files.population.as_bytes()),
        ("seed.txt", files.seed.as_bytes()),
        ("sample.txt", files.sample.as_bytes()),
        ("record.json", record),
    ];
    for (name, bytes) in all {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}

/// The Python that runs outside scripts, where the caller names one.
const PYTHON: &str = "COFFER_TEST_PYTHON";

/// What the independent script says. None, and said aloud, where the machine's
/// own Python lacks the package that it needs; one that is named must have it.
fn outside(directory: &Path) -> Option<bool> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("outside/sample.py");
    let named = std::env::var_os(PYTHON);
    let python = named.clone().unwrap_or_else(|| "python3".into());
    let able = Command::new(&python).args(["-c", "import cryptography"]).output();
    if !able.is_ok_and(|ran| ran.status.success()) {
        assert!(named.is_none(), "{PYTHON} cannot import cryptography");
        // Past the capture of the test's output.
        let aloud = "SKIPPED: tests/outside/sample.py, for want of a Python with cryptography; name one with";
        std::io::stderr().write_all(format!("{aloud} {PYTHON}\n").as_bytes()).unwrap();
        return None;
    }
    Some(Command::new(&python).arg(script).arg(directory).output().unwrap().status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_is_drawn_again_from_its_files_and_every_change_of_them_is_found() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = furnish(&tenant).await;
    let mut driller = Driller::of(&tenant);
    let done = drill(&mut driller, &tenant, &bucket, 7, &deployment.scratch().join("one")).await;
    let record = &done.record;
    assert!(record.is_satisfied(), "{:#?}", record.verdicts);
    assert_eq!((record.results.restored, record.scope.population), (7, 40));
    let shelf = Shelf::open(&tenant.client).await.unwrap();
    let good = sample_files(&shelf, &record.drill).await.unwrap();
    verify_sample(record, &good).unwrap();
    let mut better = record.clone();
    better.predicted.total_ns = better.predicted_part_ns();
    assert_eq!(verify_sample(&better, &good), Err(SampleFault::Prediction));
    let directory = deployment.scratch().join("files");
    write_files(&directory, &good, &done.envelope);
    assert_ne!(outside(&directory), Some(false));

    let sample: Vec<&str> = good.sample.lines().collect();
    let other = good.population.lines().find(|line| !sample.contains(line)).unwrap();
    let joined = |lines: &[&str]| lines.iter().fold(String::new(), |all, line| format!("{all}{line}\n"));
    let mut swapped = sample.clone();
    swapped[3] = other;
    let mut reordered = sample.clone();
    reordered.swap(0, 1);
    let with = |change: &dyn Fn(&mut SampleFiles)| {
        let mut files = good.clone();
        change(&mut files);
        files
    };
    let bad = [
        (with(&|f| f.sample = joined(&sample[..6])), SampleFault::Sample),
        (with(&|f| f.sample = joined(&swapped)), SampleFault::Sample),
        (with(&|f| f.sample = joined(&reordered)), SampleFault::Sample),
        (
            with(&|f| f.population = joined(&good.population.lines().skip(1).collect::<Vec<_>>())),
            SampleFault::Population,
        ),
        (with(&|f| f.seed = f.seed.replacen('\n', "\n\n", 1)), SampleFault::Seed),
        (with(&|f| f.plan.push(b'\n')), SampleFault::Plan),
    ];
    for (files, fault) in bad {
        assert_eq!(verify_sample(record, &files), Err(fault));
        write_files(&directory, &files, &done.envelope);
        assert_ne!(outside(&directory), Some(true), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_draw_of_one_plan_is_seen_in_the_log() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = furnish(&tenant).await;
    let mut driller = Driller::of(&tenant);
    let at = deployment.scratch().join("one");
    let planned = driller.plan(&tenant, &sampled(&bucket, 5), None, &at).await;
    let done = driller.run(&tenant, &planned, None, conduct(&at)).await.unwrap();
    let mut watch = tenant.watch();
    let once = look_for_redraws(&driller.setting(&tenant), &done.record, &mut watch).await.unwrap();
    assert_eq!(once, Ok(()));
    // Whoever did not like the sample takes it away and draws again.
    let shelf = Shelf::open(&tenant.client).await.unwrap();
    for file in ["record.json", "record.tlog-proof", "seed.txt", "seed.index", "sample.txt"] {
        shelf.remove(&drill_file(&done.record.drill, file)).await.unwrap();
    }
    for _ in 0..64 {
        tenant.client.list_buckets().await.unwrap();
    }
    let again = driller.run(&tenant, &planned, None, conduct(&at.join("again"))).await;
    // By then too many leaves lie between the plan and the checkpoint.
    assert!(matches!(again, Err(DrillError::Verify(_))), "{:?}", again.map(|drilled| drilled.record));
    let twice = look_for_redraws(&driller.setting(&tenant), &done.record, &mut watch).await.unwrap();
    assert_eq!(twice, Err(SampleFault::Redrawn(2)));
    // Another digest noted under a name of its own is nobody's draw.
    tenant.client.note_digest("drill-seed-of-somebody", &Digest([1; 32])).await.unwrap();
    let twice = look_for_redraws(&driller.setting(&tenant), &done.record, &mut watch).await.unwrap();
    assert_eq!(twice, Err(SampleFault::Redrawn(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_another_leaf_notes_than_the_record_says_is_found() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = furnish(&tenant).await;
    let mut driller = Driller::of(&tenant);
    let done = drill(&mut driller, &tenant, &bucket, 5, &deployment.scratch().join("one")).await;
    let mut watch = tenant.watch();
    let mut elsewhere = done.record.clone();
    elsewhere.drawn.as_mut().unwrap().log_index += 1;
    let mut another = done.record.clone();
    another.drawn.as_mut().unwrap().checkpoint.push('x');
    for record in [elsewhere, another] {
        let found = look_for_redraws(&driller.setting(&tenant), &record, &mut watch).await.unwrap();
        assert!(found.is_err(), "the seed that was noted is not the one that was used");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_the_shelf_is_held_against_the_log_and_the_own_cosigner() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = furnish(&tenant).await;
    let mut driller = Driller::of(&tenant);
    let at = deployment.scratch().join("one");
    let planned = driller.plan(&tenant, &sampled(&bucket, 5), None, &at).await;
    let mut watch = tenant.watch();
    let loaded = Planned::load(&driller.setting(&tenant), &planned.plan.drill, &mut watch).await;
    assert!(loaded.is_ok(), "{:?}", loaded.err());
    // A plan whose sample somebody else's key is to draw.
    let stranger = Driller::of(&tenant);
    let loaded = Planned::load(&stranger.setting(&tenant), &planned.plan.drill, &mut watch).await;
    assert!(loaded.is_err());
    // A checkpoint that is good in itself, and is not the one that was noted.
    watch.advance(&tenant.client).await.unwrap();
    let other = cosign(watch.remembered().unwrap(), &driller.cosigner, 1_700_000_000);
    let shelf = Shelf::open(&tenant.client).await.unwrap();
    shelf.put(&drill_file(&planned.plan.drill, "seed.txt"), other).await.unwrap();
    let ran = driller.run(&tenant, &planned, None, conduct(&at)).await;
    assert!(matches!(ran, Err(DrillError::Unnoted { .. })), "{:?}", ran.map(|drilled| drilled.record));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_is_not_satisfied_covers_nothing() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = furnish(&tenant).await;
    let mut driller = Driller::of(&tenant);
    let at = deployment.scratch().join("late");
    let mut wish = sampled(&bucket, 15);
    wish.promise.rto_seconds = 0;
    let planned = driller.plan(&tenant, &wish, None, &at).await;
    let done = driller.run(&tenant, &planned, None, conduct(&at)).await.unwrap();
    assert!(!done.record.is_satisfied() && done.record.results.restored == 15);
    assert_eq!(done.record.coverage.unwrap().restored, 0);
    let next = drill(&mut driller, &tenant, &bucket, 15, &deployment.scratch().join("next")).await;
    assert_eq!((next.record.scope.covered_before, next.record.coverage.unwrap().restored), (0, 15));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_is_restored_once_before_any_is_twice() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = furnish(&tenant).await;
    let mut driller = Driller::of(&tenant);
    let shelf = Shelf::open(&tenant.client).await.unwrap();
    let mut seen = BTreeSet::new();
    for (number, expected) in [15, 15, 10].into_iter().enumerate() {
        let at = deployment.scratch().join(format!("drill-{number}"));
        let done = drill(&mut driller, &tenant, &bucket, 15, &at).await;
        assert_eq!(done.record.results.restored, expected);
        let files = sample_files(&shelf, &done.record.drill).await.unwrap();
        for line in parse_list(&files.sample, false).unwrap() {
            assert!(seen.insert(line.version), "restored twice in one cycle");
        }
        let coverage = done.record.coverage.unwrap();
        assert_eq!((coverage.restored, coverage.objects), (seen.len() as u64, 40));
    }
    assert_eq!(seen.len(), OBJECTS);
    let next = drill(&mut driller, &tenant, &bucket, 15, &deployment.scratch().join("next")).await;
    assert_eq!((next.record.scope.covered_before, next.record.scope.population), (0, 40));
}
