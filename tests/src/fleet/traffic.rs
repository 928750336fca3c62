//! Writing and reading without pause: what was acknowledged is remembered, and
//! must come back whenever it is asked for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_client::Client;
use coffer_model::{BucketName, Degraded, ResidencyPolicy};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Fleet, until};
use crate::{TenantClient, bucket_name, object_key, pattern, policy};

/// Longer than any deadline of a call and its second attempts together.
const HANG: Duration = Duration::from_secs(90);
/// Who is refused hears it soon, and asks again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two writes, so that no disk fills up by them.
const PAUSE: Duration = Duration::from_millis(100);
/// Sizes of objects, in bytes: small ones and striped ones.
const SIZES: [usize; 4] = [100, 5_000, 70_000, 300_000];

/// A tenant that writes and reads for as long as this lives.
pub struct Traffic {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    tenant: TenantClient,
    bucket: BucketName,
    /// Numbers of objects that were acknowledged.
    acknowledged: Mutex<Vec<u64>>,
    /// When the last of them was.
    last: Mutex<Instant>,
    refused: AtomicU64,
    reads: AtomicU64,
    /// What did not come back as it was put.
    wrong: Mutex<Vec<String>>,
}

/// How much there was at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    written: usize,
    read: u64,
}

fn size(n: u64) -> usize {
    SIZES[usize::try_from(n).unwrap() % SIZES.len()]
}

impl Shared {
    /// Puts an object; whether it was acknowledged.
    async fn put(&self, n: u64) -> bool {
        let (key, none) = (object_key(&format!("object-{n}")), Default::default());
        let put = self.tenant.client.put_bytes(&self.bucket, &key, &none, pattern(n, size(n)));
        let put = tokio::time::timeout(HANG, put).await;
        assert!(put.is_ok(), "the put of object-{n} hangs");
        let acknowledged = put.unwrap().is_ok();
        if acknowledged {
            self.acknowledged.lock().unwrap().push(n);
            *self.last.lock().unwrap() = Instant::now();
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        acknowledged
    }

    /// Reads an object; why it is not what was put.
    async fn read(&self, n: u64) -> Result<(), String> {
        let key = format!("object-{n}");
        let read = tokio::time::timeout(HANG, self.tenant.get(&self.bucket, &key)).await;
        self.reads.fetch_add(1, Ordering::Relaxed);
        match read {
            Err(_) => Err(format!("the read of {key} hangs")),
            Ok(Err(error)) => Err(format!("{key}: {error}")),
            Ok(Ok(body)) if body == pattern(n, size(n)) => Ok(()),
            Ok(Ok(_)) => Err(format!("{key} is not what was put")),
        }
    }
}

impl Traffic {
    /// Begins, once a few objects are there.
    ///
    /// # Panics
    /// If nothing can be written.
    pub async fn begin(fleet: &Fleet) -> Self {
        let deployment = fleet.deployment();
        let accepting = ResidencyPolicy { degraded: Degraded::Accept, ..policy(&[]) };
        let mut tenant = deployment.tenant_with("acme", accepting).await;
        let bucket = bucket_name("things");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        let mut options = deployment.options();
        options.patience.deadline = PATIENCE;
        tenant.client = Client::connect(&tenant.credentials, options).await.unwrap();
        let shared = Arc::new(Shared {
            tenant,
            bucket,
            acknowledged: Mutex::default(),
            last: Mutex::new(Instant::now()),
            refused: AtomicU64::default(),
            reads: AtomicU64::default(),
            wrong: Mutex::default(),
        });
        for n in 0..8 {
            // Nothing is wrong yet, but this machine may be slower than the patience.
            until(&format!("object-{n} is taken"), async || shared.put(n).await.then_some(())).await;
        }
        let mut tasks = JoinSet::new();
        let writing = Arc::clone(&shared);
        tasks.spawn(async move {
            for n in 8.. {
                writing.put(n).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        let reading = Arc::clone(&shared);
        tasks.spawn(async move {
            for turn in 0_usize.. {
                // Old ones and new ones by turns.
                let n = {
                    let acknowledged = reading.acknowledged.lock().unwrap();
                    acknowledged[turn.wrapping_mul(7919) % acknowledged.len()]
                };
                if let Err(why) = reading.read(n).await {
                    reading.wrong.lock().unwrap().push(why);
                }
                tokio::time::sleep(PAUSE / 5).await;
            }
        });
        Self { shared, tasks }
    }

    /// How much was done so far.
    pub fn mark(&self) -> Mark {
        let written = self.shared.acknowledged.lock().unwrap().len();
        Mark { written, read: self.shared.reads.load(Ordering::Relaxed) }
    }

    /// When the last write was acknowledged.
    pub fn last_write(&self) -> Instant {
        *self.shared.last.lock().unwrap()
    }

    /// Writes that were refused so far.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Until so many more were written and read since a mark.
    pub async fn more(&self, since: Mark, writes: usize, reads: u64) {
        let enough = async || {
            let now = self.mark();
            (now.written >= since.written + writes && now.read >= since.read + reads).then_some(())
        };
        until(&format!("{writes} writes and {reads} reads"), enough).await;
        self.assert_right();
    }

    /// Nothing that was read so far was wrong or missing.
    ///
    /// # Panics
    /// If something was.
    pub fn assert_right(&self) {
        let wrong = self.shared.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{} reads failed, the first: {}", wrong.len(), wrong[0]);
        assert!(!self.tasks.is_empty(), "the traffic has ended");
    }

    /// Reads everything that was ever acknowledged; how many objects.
    ///
    /// # Panics
    /// If one does not come back.
    pub async fn all_back(&self) -> usize {
        self.assert_right();
        let all = self.shared.acknowledged.lock().unwrap().clone();
        for n in &all {
            let read = self.shared.read(*n).await;
            assert!(read.is_ok(), "{read:?}");
        }
        all.len()
    }
}
