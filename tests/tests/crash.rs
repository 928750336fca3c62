//! `kill -9` at any moment of more than a hundred puts: what was acknowledged
//! reads back, nothing else is half there, and no reservation stays.
#![expect(clippy::unwrap_used, clippy::panic, reason = "steps of stories: what fails here fails the test")]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use coffer_client::{CallError, Client, Credentials, GetError};
use coffer_model::BucketName;
use coffer_tests::{AuditLeaf, Deployment, Process, TenantClient, bucket_name, object_key, pattern};
use tokio::sync::Notify;
use tokio_stream::Stream;

/// The program that [`Process`] runs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-test-service");

/// Counts what happens while objects are written, and says when it is time.
struct Fuse {
    left: AtomicI64,
    burnt: Notify,
}

impl Fuse {
    fn burn(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.burnt.notify_one();
        }
    }
}

/// An upload, each step of which burns the fuse: its pieces and its end.
struct Upload {
    rest: Bytes,
    ended: bool,
    fuse: Arc<Fuse>,
}

impl Stream for Upload {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.ended {
            self.fuse.burn();
        }
        if self.rest.is_empty() {
            self.ended = true;
            return Poll::Ready(None);
        }
        let piece = self.rest.len().min(512 << 10);
        Poll::Ready(Some(Ok(self.rest.split_to(piece))))
    }
}

/// What one key may hold: nothing, or the object of some attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Attempt(u64),
}

/// The object of an attempt: mostly small, some striped, some of two stripes.
fn body(attempt: u64) -> Bytes {
    let length = match attempt % 10 {
        0..5 => 200 + usize::try_from(attempt).unwrap(),
        5 => 64 << 10,
        6..9 => 70_000,
        _ => 5 << 20,
    };
    pattern(attempt, length)
}

/// What is known about every key: the possibilities that are left.
type Known = BTreeMap<String, Vec<Held>>;

const WRITERS: u64 = 4;
const KEYS: u64 = 28;

/// One writer: attempts one after the other, on keys of its own.
async fn write(client: Client, bucket: BucketName, attempts: Vec<u64>, fuse: Arc<Fuse>) -> Vec<(u64, bool)> {
    let mut outcomes = Vec::new();
    for attempt in attempts {
        let upload = Upload { rest: body(attempt), ended: false, fuse: Arc::clone(&fuse) };
        let put = client.put(&bucket, &object_key(&key_of(attempt)), BTreeMap::new(), upload).await;
        fuse.burn();
        let acknowledged = put.is_ok();
        outcomes.push((attempt, acknowledged));
        if !acknowledged {
            break;
        }
    }
    outcomes
}

/// Attempt n belongs to writer n mod 4, and so does its key.
fn key_of(attempt: u64) -> String {
    format!("key-{:02}", attempt % KEYS)
}

async fn read(client: &Client, bucket: &BucketName, key: &str) -> Option<Bytes> {
    match client.get(bucket, &object_key(key), None).await {
        Ok((info, body)) => Some(body.collect(info.size).await.unwrap()),
        Err(GetError::Call(CallError::NotFound(_))) => None,
        Err(error) => panic!("{key}: {error}"),
    }
}

/// Reads every key; each holds one of its possibilities, and from now on that.
async fn settle(client: &Client, bucket: &BucketName, known: &mut Known, when: &str) {
    for (key, possible) in known.iter_mut() {
        let found = read(client, bucket, key).await;
        let held = possible.iter().find(|held| match held {
            Held::Nothing => found.is_none(),
            Held::Attempt(attempt) => found.as_ref().is_some_and(|found| *found == body(*attempt)),
        });
        let held = held.unwrap_or_else(|| panic!("{when}: {key} holds none of {possible:?}")).clone();
        *possible = vec![held];
    }
    let listed = client.list(bucket, b"").await.unwrap();
    let listed: Vec<String> = listed.into_iter().map(|object| object.key.to_string()).collect();
    let present = known.iter().filter(|(_, held)| **held != [Held::Nothing]).map(|(key, _)| key.clone());
    assert_eq!(listed, present.collect::<Vec<_>>(), "{when}: the listing");
}

/// Every attempt that was announced has exactly one outcome, whoever wrote it.
fn every_intent_has_one_outcome(leaves: &[AuditLeaf]) -> usize {
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for leaf in leaves.iter().filter(|leaf| leaf.operation == "object_put" || leaf.operation == "sweep") {
        let count = if leaf.outcome == "intent" { &mut open } else { &mut outcomes };
        *count.entry(&leaf.subject).or_default() += 1;
    }
    assert_eq!(open, outcomes, "intents on the left, outcomes on the right");
    open.len()
}

fn count(leaves: &[AuditLeaf], operation: &str) -> usize {
    leaves.iter().filter(|leaf| leaf.operation == operation).count()
}

/// One life of the process: some puts, and the kill in the midst of them.
async fn live_and_die(
    deployment: &Deployment,
    credentials: &Credentials,
    known: &mut Known,
    attempts: Vec<u64>,
    moment: i64,
) -> usize {
    let bucket = bucket_name("things");
    let process = Process::start(PROGRAM, deployment);
    let client = process.connect(deployment, credentials).await;
    settle(&client, &bucket, known, "after a kill").await;
    let fuse = Arc::new(Fuse { left: AtomicI64::new(moment), burnt: Notify::new() });
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let own = attempts.iter().copied().filter(|attempt| attempt % WRITERS == writer).collect();
        writers.push(tokio::spawn(write(client.clone(), bucket.clone(), own, Arc::clone(&fuse))));
    }
    fuse.burnt.notified().await;
    process.kill();
    let mut acknowledged = 0;
    for writer in writers {
        for (attempt, acked) in writer.await.unwrap() {
            let possible = known.get_mut(&key_of(attempt)).unwrap();
            if acked {
                possible.clear();
                acknowledged += 1;
            }
            possible.push(Held::Attempt(attempt));
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_of_many_puts_it_keeps_what_it_acknowledged_and_leaves_nothing_half_there() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("acme").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    deployment.stop().await;

    let mut known: Known = (0..KEYS).map(|n| (key_of(n), vec![Held::Nothing])).collect();
    let (mut next, mut acknowledged, mut lives) = (0, 0, 0_u64);
    while acknowledged < 120 {
        // At every place between the first step and the last: the moments are
        // spread by a stride, chance comes from the four writers' race.
        let attempts: Vec<u64> = (next..next + 32).collect();
        let moment = 5 + i64::try_from(lives * 37 % 101).unwrap();
        let known = &mut known;
        acknowledged += live_and_die(&deployment, &tenant.credentials, known, attempts, moment).await;
        (next, lives) = (next + 32, lives + 1);
        assert!(lives < 100, "{acknowledged} puts were acknowledged in {lives} lives");
    }

    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    settle(&tenant.client, &bucket, &mut known, "at the end").await;
    let leaves = tenant.leaves().await;
    assert!(every_intent_has_one_outcome(&leaves) >= 120);
    assert!(count(&leaves, "sweep") > 0, "some kill left something to settle");
    restart_and_rebuild(deployment, tenant, known, count(&leaves, "sweep")).await;
}

/// Another start settles nothing more, and what the sites hold says the same
/// as the catalogue did.
async fn restart_and_rebuild(
    mut deployment: Deployment,
    mut tenant: TenantClient,
    mut known: Known,
    swept: usize,
) {
    let bucket = bucket_name("things");
    deployment.stop().await;
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    assert_eq!(count(&tenant.leaves().await, "sweep"), swept, "the second start has nothing left to settle");
    let before = tenant.client.list(&bucket, b"").await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    settle(&tenant.client, &bucket, &mut known, "after a rebuild").await;
    assert_eq!(tenant.client.list(&bucket, b"").await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_midst_of_puts_and_robbed_of_its_catalogue_it_still_keeps_what_it_acknowledged() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("acme").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    let mut known: Known = (0..KEYS).map(|n| (key_of(n), vec![Held::Nothing])).collect();
    for life in 0..4_u64 {
        let attempts = (life * 32..life * 32 + 32).collect();
        let moment = 11 + i64::try_from(life * 23).unwrap();
        live_and_die(&deployment, &tenant.credentials, &mut known, attempts, moment).await;
        // No start in between that could tidy up: the sites alone must tell.
        deployment.lose_all_but_sites();
        deployment.recover(&kit).await;
        deployment.reconnect(&mut tenant).await;
        settle(&tenant.client, &bucket, &mut known, "after kill and rebuild").await;
        deployment.stop().await;
    }
}
