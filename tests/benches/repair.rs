//! Repair of a lost site at two sizes, beside what the disk could do at best
//! in the same run; what small calls of tenants notice of it; and whether the
//! ledger agrees, while it goes on, with a count that does not ask the service.
//!
//! `cargo bench -p coffer-tests --bench repair -- 512 2048 [paced] [saturating]
//! [ledger]` takes MiB on the lost site; the default is small enough for every
//! day.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its findings")]
#![expect(clippy::disallowed_methods, reason = "the disk's own limit is measured on plain files")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coffer_model::{BucketName, Geometry, ResidencyPolicy};
use coffer_regions::RecordKind;
use coffer_server::{Host, RepairBudget, RepairRun};
use coffer_tests::{
    Deployment, Lies, TenantClient, bucket_name, elapsed, host, object_key, pattern, policy, seconds,
};

const MIB: usize = 1 << 20;
/// Plaintext of one large object.
const OBJECT: usize = 32 * MIB;
/// The object that is watched: 3+2, so that its shards have a length of their own.
const WATCHED: usize = 64 * MIB;
const WATCHED_STRIPES: usize = WATCHED.div_ceil(4 * MIB) + 1;
const CLIENTS: usize = 4;

/// What the disk writes at best in pieces as long as a shard, each fsynced,
/// as a site must; bytes a second, the median of three.
fn disk_limit(dir: &Path) -> f64 {
    let piece = pattern(1, MIB);
    let mut rates: Vec<f64> = (0..3)
        .map(|_| {
            let mut file = File::create(dir.join("limit")).unwrap();
            let took = seconds(|| {
                for _ in 0..64 {
                    file.write_all(&piece).unwrap();
                    file.sync_data().unwrap();
                }
            });
            (64 * MIB) as f64 / took
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[1]
}

struct Bench {
    deployment: Deployment,
    tenant: Arc<TenantClient>,
    lies: Arc<Lies>,
    bucket: BucketName,
}

impl Bench {
    /// Six sites, each with about so many MiB of shards.
    async fn with(mib: usize) -> Self {
        let (sites, lies) = Lies::before(host().sites);
        let deployment = Deployment::six_sites_on(Host { sites, ..host() }).await;
        let tenant = Arc::new(deployment.tenant("benchmark").await);
        let bucket = bucket_name("objects");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        let watched = ResidencyPolicy { geometry: Geometry::new(3, 2).unwrap(), ..policy(&["EU"]) };
        tenant.client.create_bucket(&bucket_name("watched"), Some(&watched)).await.unwrap();
        tenant.put(&bucket_name("watched"), "object", pattern(3, WATCHED)).await;
        let body = pattern(2, OBJECT);
        for n in 0..(mib * MIB * 4).div_ceil(OBJECT) {
            tenant.put(&bucket, &format!("large/{n}"), body.clone()).await;
        }
        for n in 0..256 {
            tenant.put(&bucket, &format!("small/{n}"), pattern(n, 4096)).await;
        }
        Self { deployment, tenant, lies, bucket }
    }

    /// The disk of a site is lost, and an empty one put in its place.
    async fn lose(&mut self, name: &str) {
        self.deployment.stop().await;
        self.lies.forget();
        std::fs::remove_dir_all(self.deployment.site_dir(name)).unwrap();
        self.deployment.start().await;
        let tenant = Arc::get_mut(&mut self.tenant).unwrap();
        self.deployment.reconnect(tenant).await;
        self.deployment.service().replace_site(name).await.unwrap();
    }

    /// Shards of the watched object at a site, counted past the service.
    async fn counted(&self, name: &str) -> usize {
        let site = self.lies.site(name).unwrap();
        let lines = site.list(RecordKind::Shard, None, usize::MAX).await.unwrap();
        let own = |bytes: u32| usize::try_from(bytes).is_ok_and(|bytes| bytes > MIB + MIB / 8);
        lines.iter().filter(|line| own(line.body_bytes)).count()
    }

    /// The same, as the ledger has it.
    async fn told(&self, name: &str) -> usize {
        let (bucket, key) = (bucket_name("watched"), object_key("object"));
        let ledger = self.tenant.client.stat_shards(&bucket, &key, false).await.unwrap();
        let at = |state: &&coffer_client::ShardState| {
            // The last stripe is a short one, with shards as long as others'.
            let whole = state.shard.is_some_and(|(stripe, _)| stripe as usize + 1 < WATCHED_STRIPES);
            whole && state.site == name && state.state == "listed"
        };
        ledger.states.iter().filter(at).count()
    }
}

/// How the tenants of the foreground call.
#[derive(Clone, Copy)]
enum Load {
    /// Each client a call every ten milliseconds, whatever the last one took.
    Paced,
    /// Each client its next call as soon as the last one is answered: the
    /// processors are full before repair begins.
    Saturating,
}

/// Small gets and puts of several clients until told to stop; how long each took.
async fn foreground(bench: &Bench, load: Load, stop: &Arc<AtomicBool>) -> Vec<f64> {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (tenant, bucket, stop) = (Arc::clone(&bench.tenant), bench.bucket.clone(), Arc::clone(stop));
        clients.spawn(async move {
            let mut took = Vec::new();
            let mut n = client;
            let mut due = tokio::time::interval(Duration::from_millis(10));
            while !stop.load(Ordering::Relaxed) {
                if matches!(load, Load::Paced) {
                    due.tick().await;
                }
                n = (n * 7 + 1) % 256;
                let key = format!("small/{n}");
                if n.is_multiple_of(2) {
                    took.push(elapsed(tenant.get(&bucket, &key)).await.0);
                } else {
                    let key = format!("put/{client}/{n}");
                    let put = tenant.put(&bucket, &key, Bytes::from_static(&[7; 4096]));
                    took.push(elapsed(put).await.0);
                }
            }
            took
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

/// In milliseconds.
fn p99(took: &[f64]) -> f64 {
    let mut took = took.to_vec();
    took.sort_by(f64::total_cmp);
    took[took.len() * 99 / 100] * 1e3
}

/// Foreground calls while `work` is under way.
async fn beside<T>(bench: &Bench, load: Load, work: impl Future<Output = T>) -> (Vec<f64>, T) {
    let stop = Arc::new(AtomicBool::new(false));
    let ended = async {
        let done = work.await;
        stop.store(true, Ordering::Relaxed);
        done
    };
    tokio::join!(foreground(bench, load, &stop), ended)
}

/// The disk of a virtual machine has bad seconds of its own. So quiet slices and
/// slices with repair take turns, and each pair is compared by itself as well.
struct Turns {
    /// So many are shown; the rest of the repair has the machine for itself.
    pairs: usize,
    quiet: Duration,
    repair: Duration,
}

impl Load {
    /// A repair that was cut off looks at everything anew, and gives way while
    /// it looks. Calls that saturate the machine leave a hundred thousand
    /// versions to look at, and little of it for the looking.
    const fn turns(self) -> Turns {
        let (pairs, quiet, repair) = match self {
            Self::Paced => (12, 6, 6),
            Self::Saturating => (3, 10, 60),
        };
        Turns { pairs, quiet: Duration::from_secs(quiet), repair: Duration::from_secs(repair) }
    }
}

/// What repair has left to the disk is not charged to a quiet slice.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Slices {
    quiet: Vec<f64>,
    during: Vec<f64>,
    /// Of each pair, the p99 in milliseconds without and with repair.
    pairs: Vec<(f64, f64)>,
    moved: u64,
    took: f64,
}

impl Slices {
    fn add(&mut self, quiet: Vec<f64>, during: Vec<f64>) {
        if during.len() >= 1000 {
            self.pairs.push((p99(&quiet), p99(&during)));
        }
        self.quiet.extend(quiet);
        self.during.extend(during);
    }

    fn tell(&self, name: &str) {
        let mut ratios: Vec<f64> = self.pairs.iter().map(|(quiet, during)| during / quiet).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN);
        let (quiet, during) = (p99(&self.quiet), p99(&self.during));
        println!(
            "  giving way   {name} calls: {:6.1} MB/s moved, {:.1} s; p99 of all {quiet:.2} ms without ({} calls), \
             {during:.2} ms meanwhile ({} calls): {:.2} times; of {} pairs of slices the middle one {middle:.2} times",
            self.moved as f64 / self.took / 1e6,
            self.took,
            self.quiet.len(),
            self.during.len(),
            during / quiet,
            ratios.len(),
        );
        let pairs: Vec<String> =
            self.pairs.iter().map(|(quiet, during)| format!("{quiet:.1}/{during:.1}")).collect();
        println!("               p99 without/with, ms: {}", pairs.join(" "));
    }
}

/// What small calls notice of the repair of a lost site. A slice of repair is
/// cut off at its end, as by a service that leaves, and goes on with the next.
async fn giving_way(bench: &mut Bench, load: Load) {
    let name = match load {
        Load::Paced => "paced",
        Load::Saturating => "saturating",
    };
    bench.lose("par1").await;
    let service = Arc::clone(bench.deployment.service());
    let (mut slices, mut over) = (Slices::default(), None);
    let turns = load.turns();
    for _ in 0..turns.pairs {
        tokio::time::sleep(SETTLE).await;
        let (quiet, ()) = beside(bench, load, tokio::time::sleep(turns.quiet)).await;
        let slice = tokio::time::timeout(turns.repair, service.repair(RepairRun::default(), &|_| ()));
        let (during, (took, done)) = beside(bench, load, elapsed(slice)).await;
        slices.add(quiet, during);
        slices.moved += service.repair_progress().bytes;
        slices.took += took;
        if let Ok(done) = done {
            over = Some(done);
            break;
        }
    }
    let (last, sums) = match over {
        Some(done) => done,
        None => service.repair(RepairRun::default(), &|_| ()).await,
    }
    .unwrap();
    assert!(last.is_over() && sums.failed == 0, "{last:?}");
    slices.tell(name);
}

/// The ledger and the independent count while `going` holds; how often they
/// were compared, and how often they contradicted each other.
async fn watch(bench: &Bench, name: &str, going: &AtomicBool) -> (u64, u64) {
    let (mut looks, mut wrong) = (0, 0);
    while going.load(Ordering::Relaxed) {
        let before = bench.counted(name).await;
        let told = bench.told(name).await;
        let after = bench.counted(name).await;
        looks += 1;
        wrong += u64::from(!(before..=after).contains(&told));
    }
    (looks, wrong)
}

async fn one_size(mib: usize, wants: impl Fn(&str) -> bool) -> f64 {
    let mut bench = Bench::with(mib).await;
    let disk = disk_limit(bench.deployment.scratch());
    println!("{mib} MiB on each site; the disk writes {:.0} MB/s in fsynced pieces of 1 MiB", disk / 1e6);

    // As fast as it goes, nobody else there, the ledger watched meanwhile.
    bench.lose("fra1").await;
    let service = Arc::clone(bench.deployment.service());
    let run = RepairRun { bytes_per_second: None, yields: false, ..RepairRun::default() };
    let (took, done) = elapsed(service.repair(run, &|_| ())).await;
    let (last, sums) = done.unwrap();
    assert!(last.is_over() && sums.failed == 0, "{last:?}");
    let site = bench.deployment.site("fra1").await;
    let written = site.volume_bytes as f64;
    let rate = written / took;
    println!(
        "  full speed   {:6.0} MB/s written, {:6.0} MB/s moved, {took:.1} s: {:.2} of the disk's limit; \
         {} shards, {} records read back, {} rounds",
        written / took / 1e6,
        sums.bytes as f64 / took / 1e6,
        written / took / disk,
        sums.shards,
        sums.read_back,
        sums.rounds
    );
    assert!(sums.read_back >= sums.shards);
    drop(service);

    // With tenants at work.
    if wants("paced") {
        giving_way(&mut bench, Load::Paced).await;
    }
    if wants("saturating") {
        giving_way(&mut bench, Load::Saturating).await;
    }
    if !wants("ledger") {
        return rate;
    }

    // The ledger, sampled while a third site is filled slowly.
    bench.lose("mad1").await;
    let service = Arc::clone(bench.deployment.service());
    let going = AtomicBool::new(true);
    let budget = RepairBudget { bytes: 64 << 20, ..RepairBudget::default() };
    let run = RepairRun { budget, bytes_per_second: Some(128 << 20), yields: false };
    let (_, (looks, wrong)) = tokio::join!(
        async {
            service.repair(run, &|_| ()).await.unwrap();
            going.store(false, Ordering::Relaxed);
        },
        watch(&bench, "mad1", &going)
    );
    println!("  ledger       compared {looks} times while a site was filled, {wrong} contradictions");
    rate
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let word = |word: &String| word.parse::<usize>().is_err() && !word.starts_with('-');
    let chosen: Vec<String> = std::env::args().skip(1).filter(word).collect();
    let wants = |what: &str| chosen.is_empty() || chosen.iter().any(|word| word == what);
    let sizes = if sizes.is_empty() { vec![24, 96] } else { sizes };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut rates = Vec::new();
        for mib in sizes {
            rates.push(one_size(mib, wants).await);
        }
        let first = rates.first().copied().unwrap_or(1.0);
        let flat: Vec<String> = rates.iter().map(|rate| format!("{:.2}", rate / first)).collect();
        println!("rates of the sizes, the first one being 1: {}", flat.join(" "));
    });
}
