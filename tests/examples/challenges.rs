//! What challenges cost a put of 64 MiB, and whether a site that fetches its
//! answers over a real (simulated) link is told by its delay:
//! `cargo run -p coffer-tests --release --example challenges`.
#![expect(clippy::print_stdout, reason = "it prints what it measured")]
#![expect(clippy::unwrap_used, reason = "a program of the tests: what fails ends it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coffer_catalog::{BucketRow, Catalog, ChallengeRow, Leaf, ManifestRow, NewChallenges, NewReservation};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_model::{
    BucketId, BucketName, CatalogKey, Clock, Digest, Entropy, Geometry, Layout, Manifest, ObjectId, RecordId,
    SiteDescription, SiteId, TenantId, Tier, Timestamp, VersionId,
};
use coffer_regions::{Baseline, Challenge, ClearGeometry, DelayVerdict, Record, RecordKind, Site, answer_of};
use coffer_site::{DirectorySite, SimulatedSite};
use coffer_tests::{Deployment, bucket_name, object_key, pattern, policy};
use zeroize::Zeroizing;

const MIB: usize = 1 << 20;

fn now() -> Duration {
    SystemClock.monotonic()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// What the sampler does with 16 stripes of six shards of 1 MiB: a rank for
/// each of four questions at each shard, an answer wherever one wins.
fn hashing() -> (Duration, usize) {
    let shards: Vec<Vec<u8>> = (0..6).map(|n| pattern(n, MIB).to_vec()).collect();
    let mut answers = 0;
    let times = (0..9_u8).map(|round| {
        let start = now();
        answers = 0;
        let mut lowest: BTreeMap<(usize, u8), [u8; 32]> = BTreeMap::new();
        for stripe in 0..16_u8 {
            for (index, body) in shards.iter().enumerate() {
                for slot in 0..4 {
                    let id = [round, stripe, u8::try_from(index).unwrap(), slot];
                    let key = *blake3::Hasher::new_keyed(&[7; 32]).update(&id).finalize().as_bytes();
                    let rank = *blake3::Hasher::new_keyed(&key).update(b"rank").finalize().as_bytes();
                    if lowest.get(&(index, slot)).is_none_or(|low| rank < *low) {
                        lowest.insert((index, slot), rank);
                        assert_ne!(answer_of(&key, body).0, Digest([0; 32]));
                        answers += 1;
                    }
                }
            }
        }
        now() - start
    });
    (median(times.collect()), answers)
}

fn leaf() -> Leaf {
    Leaf { body: vec![b'x'; 400], hash: Digest([1; 32]) }
}

/// One commit of a striped version, with and without 24 challenges.
async fn commits(dir: &Path) -> (Duration, Duration) {
    let tenant = TenantId::from_bytes([1; 16]);
    let key = CatalogKey::new(Zeroizing::new([2; 32]));
    let catalog = Catalog::create(dir.join("catalogue"), key, tenant).await.unwrap();
    let bucket = BucketId::from_bytes([3; 16]);
    let row = BucketRow {
        id: bucket,
        name: BucketName::new("bucket").unwrap(),
        policy: policy(&[]),
        created: Timestamp(0),
        record: RecordId::from_bytes([4; 16]),
    };
    catalog.insert_bucket(row, leaf()).await.unwrap();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for n in 0..402_u32 {
        let sites: Vec<SiteId> = (0..6).map(|site| SiteId::from_bytes([site; 16])).collect();
        let new = NewReservation {
            version: VersionId::generate(&OsEntropy),
            bucket,
            under: RecordId::from_bytes([4; 16]),
            key: object_key(&format!("key-{n}")),
            object: ObjectId::generate(&OsEntropy),
            created: Timestamp(0),
            record: RecordId::generate(&OsEntropy),
            sites: sites.clone(),
            locator: [5; 32],
            striped: true,
            wrap: vec![6; 81],
        };
        let reserved = catalog.reserve(new.clone(), leaf()).await.unwrap();
        let manifest = Manifest {
            tenant,
            bucket,
            object: reserved.object,
            version: new.version,
            key: new.key,
            order: reserved.order,
            created: new.created,
            size: 64 << 20,
            sealed_size: 64 << 20,
            content: Digest([7; 32]),
            metadata: BTreeMap::new(),
            layout: Layout::Striped {
                geometry: Geometry::DEFAULT,
                sites: sites.clone(),
                stripe_bytes: 4 << 20,
                locator: new.locator,
                digests: vec![vec![Digest([8; 32]); 6]; 16],
            },
            revision: 0,
        };
        let version = manifest.version;
        let challenge = |site: &SiteId| ChallengeRow {
            version,
            site: *site,
            record: RecordId::generate(&OsEntropy),
            nonce: [9; 8],
            answer: Digest([10; 32]),
        };
        let rows = (0..4).flat_map(|_| sites.iter().map(challenge)).collect();
        let challenges =
            if n % 2 == 0 { NewChallenges { rows, whole: true } } else { NewChallenges::default() };
        let row = ManifestRow { record: new.record, manifest, wrap: new.wrap, reduced: 0, inline: false };
        let start = now();
        catalog.commit_under(row, None, challenges, leaf()).await.unwrap();
        if n % 2 == 0 { with.push(now() - start) } else { without.push(now() - start) }
    }
    (median(with), median(without))
}

async fn cost() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("measured").await;
    let bucket = bucket_name("objects");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let body = pattern(1, 64 * MIB);
    let mut puts = Vec::new();
    for n in 0..7 {
        let start = now();
        tenant.put(&bucket, &format!("object-{n}"), body.clone()).await;
        puts.push(now() - start);
    }
    let put = median(puts);
    let (hashing, answers) = hashing();
    let (with, without) = commits(deployment.scratch()).await;
    let more = with.saturating_sub(without);
    println!("put of 64 MiB, 4+2 over six local sites       {:9.3} ms", millis(put));
    println!("ranks and {answers} answers for its 96 shards        {:9.3} ms", millis(hashing));
    println!(
        "commit without, with 24 challenges            {:9.3} ms {:9.3} ms",
        millis(without),
        millis(with)
    );
    let share = (hashing + more).as_secs_f64() / put.as_secs_f64();
    println!("challenges are {:.2} % of the put", share * 100.0);
}

fn site(dir: &Path, name: &str) -> Arc<dyn Site> {
    let description = SiteDescription {
        id: SiteId::generate(&OsEntropy),
        name: name.to_owned(),
        country: "DE".parse().unwrap(),
        domain: coffer_model::FailureDomain(name.to_owned()),
        tier: Tier::I,
    };
    Arc::new(DirectorySite::create(&dir.join(name), description, Arc::new(OsEntropy)).unwrap())
}

async fn answer(site: &dyn Site, record: RecordId) -> Duration {
    let mut key = [0; 32];
    OsEntropy.fill(&mut key);
    let start = now();
    site.answer(Challenge { record, key }).await.unwrap();
    now() - start
}

/// A site `near`, and one that has the same link and fetches what it is asked
/// for over another one of 20 ms.
async fn relay(dir: &Path, near: u64) {
    const ROUNDS: u32 = 25;
    let [here, elsewhere] = ["here", "elsewhere"].map(|name| site(dir, &format!("{name}-{near}")));
    let mut ids = Vec::new();
    for n in 0..64 {
        let id = RecordId::generate(&OsEntropy);
        let record =
            Record::new(RecordKind::Shard, id, ClearGeometry { k: 4, m: 2, index: 0 }, pattern(n, MIB))
                .unwrap();
        for site in [&here, &elsewhere] {
            site.put(vec![record.clone()]).await.unwrap();
        }
        ids.push(id);
    }
    let link = Duration::from_millis(near);
    let honest = SimulatedSite::new(here, link, None);
    let far: Arc<dyn Site> = Arc::new(SimulatedSite::new(elsewhere, Duration::from_millis(20), None));
    let relaying = SimulatedSite::new(far, link, None);
    let mut ids = ids.iter().cycle();
    let mut delays = Vec::new();
    for id in ids.by_ref().take(512) {
        delays.push(answer(&honest, *id).await);
    }
    let baseline = Baseline::learn(delays).unwrap();
    let median = baseline.quantile(500);
    let Ok(plan) = baseline.plan(Duration::from_millis(20)) else {
        println!("link {near:>3} ms: the answers of this machine scatter too much now");
        return;
    };
    let mut later = [0_u32; 2];
    for (count, site) in later.iter_mut().zip([&honest, &relaying]) {
        for _ in 0..ROUNDS {
            let mut round = Vec::new();
            for id in ids.by_ref().take(plan.answers()) {
                round.push(answer(site, *id).await);
            }
            *count += u32::from(plan.judge(&round) == Some(DelayVerdict::Later));
        }
    }
    println!(
        "link {near:>3} ms: median answer {:7.3} ms, {} answers a round, threshold {:7.3} ms: false alarms {} of {ROUNDS}, relays found {} of {ROUNDS}",
        millis(median),
        plan.answers(),
        millis(plan.threshold()),
        later[0],
        later[1],
    );
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        cost().await;
        let dir = tempfile::tempdir().unwrap();
        for near in [0, 1, 5, 15] {
            relay(dir.path(), near).await;
        }
    });
}
