//! A bucket on a real S3 server keeps the promises of the port, repeats what
//! a busy server refuses, and is never another site's.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::disallowed_methods, reason = "tests damage objects on purpose")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

#[path = "bucket/cut.rs"]
mod cut;
#[expect(unreachable_pub, reason = "the stories of the workspace share it")]
#[path = "support/s3.rs"]
mod s3;
#[path = "bucket/versions.rs"]
mod versions;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coffer_regions::{Record, RecordKind, Site, SiteError};
use coffer_site::conformance::{conformance, damaged_slots};
use coffer_site::{BucketError, BucketOptions, BucketSite, BucketTiming};
use s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use support::record;
use tempfile::TempDir;

fn options(server: &S3Server, prefix: &str, site: u8) -> BucketOptions {
    BucketOptions {
        description: support::description(site),
        endpoint: server.endpoint(),
        bucket: "shards".to_owned(),
        prefix: prefix.to_owned(),
        region: "eu-central-1".to_owned(),
        access_key_id: ACCESS_KEY.to_owned(),
        secret_access_key: SECRET_KEY.to_owned().into(),
        timing: BucketTiming {
            call: Duration::from_secs(60),
            probe_every: Duration::from_millis(50),
            ..BucketTiming::default()
        },
    }
}

async fn server() -> (TempDir, S3Server) {
    let dir = TempDir::new().unwrap();
    let server = S3Server::over(dir.path(), &["shards"]).await;
    (dir, server)
}

/// The files of the server whose path has this in it.
fn objects(root: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.to_str().unwrap().contains(part) && !path.to_str().unwrap().contains(".s3s") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_the_promises() {
    let (_dir, server) = server().await;
    let next = AtomicU64::new(0);
    conformance(async || {
        let prefix = format!("site-{}", next.fetch_add(1, Ordering::Relaxed));
        Arc::new(BucketSite::create(options(&server, &prefix, 1)).await.unwrap()) as Arc<dyn Site>
    })
    .await;
    assert!(server.parts() > 1, "the longest body went up in parts");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_shows_the_slots_that_are_damaged_and_takes_them_anew() {
    let (dir, server) = server().await;
    let site = BucketSite::create(options(&server, "a", 1)).await.unwrap();
    damaged_slots(Arc::new(site), async |slot| {
        let name: String = slot.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let found = objects(dir.path(), &name);
        assert_eq!(found.len(), 1, "{found:?}");
        let mut bytes = std::fs::read(&found[0]).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&found[0], bytes).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_there_when_the_bucket_is_opened_again_and_for_nobody_else() {
    let (_dir, server) = server().await;
    assert!(matches!(BucketSite::open(options(&server, "a", 1)).await, Err(BucketError::NotASite)));
    let site = BucketSite::create(options(&server, "a", 1)).await.unwrap();
    let records: Vec<Record> = (0..5).map(|n| record(n, 100)).collect();
    site.put(records.clone()).await.unwrap();
    drop(site);
    let site = BucketSite::open(options(&server, "a", 1)).await.unwrap();
    for record in &records {
        assert_eq!(site.get(record.id()).await.as_ref(), Ok(record));
    }
    assert_eq!(site.state().await.records, 5);
    assert_eq!(site.scrub().await, Ok(Vec::new()));
    let again = BucketSite::create(options(&server, "a", 1)).await;
    assert!(matches!(again, Err(BucketError::AlreadyASite(_))));
    let other = BucketSite::open(options(&server, "a", 2)).await;
    assert!(matches!(other, Err(BucketError::OtherSite { .. })));
    let beside = BucketSite::create(options(&server, "b", 2)).await.unwrap();
    assert_eq!(beside.state().await.records, 0);
    assert_eq!(beside.list(RecordKind::Shard, None, 10).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_costs_repetitions_and_nothing_else() {
    let (_dir, server) = server().await;
    let site = BucketSite::create(options(&server, "a", 1)).await.unwrap();
    server.be_busy(3);
    site.put(vec![record(1, 100)]).await.unwrap();
    server.be_busy(2);
    assert_eq!(site.get(record(1, 100).id()).await, Ok(record(1, 100)));
    assert!(site.answers());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_answer_is_unreachable_at_once_and_comes_back_by_itself() {
    let (dir, server) = server().await;
    let mut options = options(&server, "a", 1);
    options.timing.repetitions = 1;
    let site = BucketSite::create(options).await.unwrap();
    site.put(vec![record(1, 100)]).await.unwrap();
    server.be_busy(u64::MAX);
    assert_eq!(site.get(record(1, 100).id()).await, Err(SiteError::Unreachable));
    assert!(!site.answers());
    assert!(!site.state().await.alive);
    assert_eq!(site.put(vec![record(2, 100)]).await, Err(SiteError::Unreachable));
    server.be_busy(0);
    while !site.answers() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(site.get(record(1, 100).id()).await, Ok(record(1, 100)));

    // While it is away it becomes another site's: then it stays away.
    let mark = objects(dir.path(), "/SITE").remove(0);
    std::fs::write(mark, format!("{{\"format\":1,\"site\":\"site-{}\"}}", "09".repeat(16))).unwrap();
    server.be_busy(2);
    assert_eq!(site.get(record(1, 100).id()).await, Err(SiteError::Unreachable));
    let asked = server.requests();
    while server.requests() < asked + 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!site.answers());
    assert_eq!(site.put(vec![record(2, 100)]).await, Err(SiteError::Unreachable));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_bucket_is_found_and_mended_by_the_same_record() {
    let (dir, server) = server().await;
    let mut small = options(&server, "a", 1);
    small.timing.apart_bytes = 1000;
    let site = BucketSite::create(small).await.unwrap();
    let (inline, apart, unlisted) = (record(1, 400), record(2, 4000), record(3, 50));
    site.put(vec![inline.clone(), apart.clone(), unlisted.clone()]).await.unwrap();

    for part in ["/records/", "/bodies/"] {
        let object = objects(dir.path(), part).remove(0);
        let mut bytes = std::fs::read(&object).unwrap();
        let middle = bytes.len() - 7;
        bytes[middle] ^= 1;
        std::fs::write(&object, bytes).unwrap();
    }
    std::fs::remove_file(objects(dir.path(), "/kinds/").remove(2)).unwrap();
    assert_eq!(site.get(inline.id()).await, Err(SiteError::Damaged));
    assert_eq!(site.get(apart.id()).await, Err(SiteError::Damaged));
    let mut found: Vec<_> = site.scrub().await.unwrap().into_iter().map(|finding| finding.record).collect();
    found.sort();
    assert_eq!(found, vec![Some(inline.id()), Some(apart.id()), Some(unlisted.id())]);
    assert_eq!(site.state().await.damaged, 2);

    let other = Record::new(RecordKind::Shard, inline.id(), inline.geometry(), "other".into()).unwrap();
    assert_eq!(site.put(vec![other]).await, Err(SiteError::Conflict), "its head still says whose it is");
    site.put(vec![inline.clone(), apart.clone(), unlisted]).await.unwrap();
    assert_eq!(site.get(inline.id()).await, Ok(inline.clone()));
    assert_eq!(site.get(apart.id()).await, Ok(apart.clone()));
    assert_eq!(site.scrub().await, Ok(Vec::new()));
    assert_eq!(site.delete(vec![inline.id(), apart.id()]).await, Ok(2));
    assert_eq!(objects(dir.path(), "/bodies/"), Vec::<PathBuf>::new(), "a body apart goes with its record");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_ends_too_early_is_damaged_and_its_bucket_goes_on_answering() {
    let (dir, server) = server().await;
    let site = BucketSite::create(options(&server, "a", 1)).await.unwrap();
    let (short, other) = (record(1, 5000), record(2, 5000));
    site.put(vec![short.clone(), other.clone()]).await.unwrap();
    let of_short = |path: &&PathBuf| {
        let name = short.id().to_string();
        path.to_str().unwrap().contains(name.trim_start_matches("rec-"))
    };
    let paths = objects(dir.path(), "/records/");
    let path = paths.iter().find(of_short).unwrap();
    // A range then begins behind the end of what is left, or at it.
    let whole = std::fs::read(path).unwrap();
    for left in [0, 10, 200, 1000] {
        std::fs::write(path, &whole[..left]).unwrap();
        let read = site.get_range(short.id(), 1500..2000).await;
        assert_eq!(read.err(), Some(SiteError::Damaged), "{left} bytes are left");
        assert!(site.answers(), "{left} bytes are left");
        assert_eq!(site.get(other.id()).await.as_ref(), Ok(&other));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_to_another_machine_and_wrong_keys_are_refused() {
    let (_dir, server) = server().await;
    let far = BucketOptions { endpoint: "http://192.0.2.1:9000".to_owned(), ..options(&server, "a", 1) };
    assert!(matches!(BucketSite::create(far).await, Err(BucketError::Plain(_))));
    let stranger =
        BucketOptions { secret_access_key: "another".to_owned().into(), ..options(&server, "a", 1) };
    assert!(matches!(BucketSite::create(stranger).await, Err(BucketError::Unreachable(_))));
    assert!(matches!(BucketSite::open(options(&server, "a", 1)).await, Err(BucketError::NotASite)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_came_after_its_record_was_removed_is_found_and_removed() {
    let (dir, server) = server().await;
    let site = BucketSite::create(options(&server, "a", 1)).await.unwrap();
    let (gone, kept) = (record(1, 100), record(2, 100));
    site.put(vec![gone.clone(), kept.clone()]).await.unwrap();
    let lines = objects(dir.path(), "/kinds/");
    assert_eq!(site.delete(vec![gone.id()]).await, Ok(1));
    // The put of a line was on its way all the time.
    let late = lines.iter().find(|line| !line.exists()).unwrap();
    std::fs::write(late, b"").unwrap();
    let listed = site.list(RecordKind::Shard, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|line| line.id).collect::<Vec<_>>(), [gone.id(), kept.id()]);
    let found = site.scrub().await.unwrap();
    assert_eq!(found.iter().map(|finding| finding.record).collect::<Vec<_>>(), [Some(gone.id())]);
    site.delete(vec![gone.id()]).await.unwrap();
    let listed = site.list(RecordKind::Shard, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|line| line.id).collect::<Vec<_>>(), [kept.id()]);
    assert_eq!(site.scrub().await, Ok(Vec::new()));
    assert_eq!(site.state().await.records, 1);

    // Nothing but such lines: the scrub sees them all the same.
    site.delete(vec![kept.id()]).await.unwrap();
    for line in &lines {
        std::fs::write(line, b"").unwrap();
    }
    assert_eq!(site.scrub().await.unwrap().len(), 2);
    assert_eq!(site.delete(vec![gone.id(), kept.id()]).await, Ok(2));
    assert_eq!(site.list(RecordKind::Shard, None, 10).await, Ok(Vec::new()));
}

/// A site whose longer bodies go up in small parts, with this deadline.
fn options_in_parts(server: &S3Server, call: Duration) -> BucketOptions {
    let mut options = options(server, "a", 1);
    (options.timing.apart_bytes, options.timing.part_bytes) = (1000, 1 << 20);
    (options.timing.call, options.timing.repetitions) = (call, 1);
    options.timing.bytes_per_second = 1 << 30;
    options
}

async fn in_parts(server: &S3Server, call: Duration) -> BucketSite {
    BucketSite::create(options_in_parts(server, call)).await.unwrap()
}

/// Twelve megabytes: twelve parts.
fn long() -> Record {
    record(1, 12 << 20)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_parts_are_refused_or_not_answered_is_given_up() {
    let (_dir, server) = server().await;
    let site = in_parts(&server, Duration::from_secs(60)).await;
    server.refuse_parts();
    assert_eq!(site.put(vec![long()]).await, Err(SiteError::Unreachable));
    assert_eq!(server.aborts(), 1, "what it had sent is not kept where nobody sees it");
    drop(site);

    let (_dir, server) = crate::server().await;
    drop(in_parts(&server, Duration::from_secs(60)).await);
    let site = BucketSite::open(options_in_parts(&server, Duration::from_secs(2))).await.unwrap();
    server.hold_parts();
    // On a busy machine an upload may not even begin within the deadline.
    while server.parts() == 0 {
        assert_eq!(site.put(vec![long()]).await, Err(SiteError::Unreachable));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while server.aborts() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.aborts(), 1, "nor what came too late");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_which_nobody_waits_for_the_end_is_given_up() {
    let (_dir, server) = server().await;
    let site = in_parts(&server, Duration::from_secs(60)).await;
    server.hold_parts();
    let begun = async {
        while server.parts() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        put = site.put(vec![long()]) => unreachable!("no part was answered: {put:?}"),
        () = begun => {}
    }
    while server.aborts() == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_unlisted_is_counted_when_it_is_put_or_deleted_again() {
    let (dir, server) = server().await;
    let site = BucketSite::create(options(&server, "a", 1)).await.unwrap();
    let (kept, half) = (record(1, 100), record(2, 100));
    site.put(vec![kept.clone(), half.clone()]).await.unwrap();
    std::fs::remove_file(objects(dir.path(), "/kinds/").remove(1)).unwrap();
    let site = BucketSite::open(options(&server, "a", 1)).await.unwrap();
    assert_eq!(site.state().await.records, 1);
    site.put(vec![half.clone()]).await.unwrap();
    assert_eq!(site.state().await.records, 2, "put again");

    std::fs::remove_file(objects(dir.path(), "/kinds/").remove(1)).unwrap();
    let site = BucketSite::open(options(&server, "a", 1)).await.unwrap();
    assert_eq!(site.state().await.records, 1);
    site.delete(vec![half.id()]).await.unwrap();
    assert_eq!(site.state().await.records, 1, "deleted");
}
