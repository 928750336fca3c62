//! What reading costs: large gets beside what this machine could do at best,
//! small gets by number of clients, and both again with two sites dead or one
//! slow, as ratios to the healthy deployment in the same run. Rounds of both
//! alternate, so that what else the machine does falls on both.
//!
//! `cargo bench -p coffer-tests --bench reading -- [large] [small] [degraded]`
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its findings")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::sync::Arc;

use bytes::Bytes;
use coffer_model::BucketName;
use coffer_tests::{
    Deployment, Limits, TenantClient, bucket_name, elapsed, median, object_key, pattern, quantile,
};

const MIB: usize = 1 << 20;
const LARGE: usize = 64 * MIB;

struct Bench {
    deployment: Deployment,
    tenant: Arc<TenantClient>,
    bucket: BucketName,
}

impl Bench {
    async fn new(deployment: Deployment) -> Self {
        let tenant = Arc::new(deployment.tenant("benchmark").await);
        let bucket = bucket_name("objects");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        Self { deployment, tenant, bucket }
    }

    /// Reads a whole object; seconds.
    async fn get(&self, key: &str, size: usize) -> f64 {
        elapsed(async { assert_eq!(self.tenant.get(&self.bucket, key).await.unwrap().len(), size) }).await.0
    }

    /// Reads a whole object and keeps nothing; seconds.
    async fn drain(&self, key: &str) -> f64 {
        elapsed(async {
            let (_, mut body) = self.tenant.client.get(&self.bucket, &object_key(key), None).await.unwrap();
            while body.next().await.unwrap().is_some() {}
        })
        .await
        .0
    }

    async fn set_alive(&self, names: &[String], alive: bool) {
        let operator = self.deployment.operator().await;
        for name in names {
            operator.set_site_alive(name, alive).await.unwrap();
        }
    }
}

async fn large(bench: &Bench, limits: &Limits) {
    println!("large gets on loopback, mutual TLS, 4+2 over six local sites, page cache:");
    for (size, rounds) in [(LARGE, 21), (8 * MIB, 41), (MIB, 101)] {
        bench.tenant.put(&bench.bucket, "object", pattern(2, size)).await;
        bench.get("object", size).await;
        let mut times = Vec::new();
        for round in 0..rounds {
            let drained = round % 2 == 1;
            let took = if drained { bench.drain("object").await } else { bench.get("object", size).await };
            times.push((drained, took));
        }
        for (drained, what) in [(false, "collected"), (true, "streamed ")] {
            let of: Vec<f64> =
                times.iter().filter(|(how, _)| *how == drained).map(|(_, took)| *took).collect();
            let rate = size as f64 / median(&of);
            println!(
                "  {:3} MiB {what} {:6.0} MB/s   {:.2} of the limit   {:.2} of that with the wire",
                size / MIB,
                rate / 1e6,
                rate / limits.get(),
                rate / limits.get_over_wire()
            );
        }
    }
    println!();
}

async fn small(bench: &Bench, limits: &Limits) {
    println!("gets of 4 KiB:");
    for i in 0..256 {
        bench.tenant.put(&bench.bucket, &format!("small/{i}"), Bytes::from_static(&[5; 4096])).await;
    }
    for clients in [1, 8, 64] {
        let each = 3072 / clients.max(2);
        let (took, ()) = elapsed(async {
            let mut tasks = tokio::task::JoinSet::new();
            for client in 0..clients {
                let (tenant, bucket) = (Arc::clone(&bench.tenant), bench.bucket.clone());
                tasks.spawn(async move {
                    for i in 0..each {
                        let key = format!("small/{}", (client * 37 + i) % 256);
                        assert_eq!(tenant.get(&bucket, &key).await.unwrap().len(), 4096);
                    }
                });
            }
            tasks.join_all().await;
        })
        .await;
        let rate = (clients * each) as f64 / took;
        println!(
            "  {clients:2} clients  {rate:6.0} a second   {:5.2} of the disk's fsyncs",
            rate / limits.fsyncs
        );
    }
    println!("  {:?}\n", bench.deployment.service().read_load());
}

/// Six sites 2 ms away at 1,000 MiB/s, one of them, if so, fifty times slower.
fn linked_sites(slow: bool) -> String {
    let countries = ["DE", "FR", "NL", "CH", "SE", "ES"];
    let site = |(n, country): (usize, &str)| {
        let (latency, bandwidth) = if slow && n == 2 { (100, 20) } else { (2, 1000) };
        format!(
            "[[site]]\nname = \"s{n}\"\ncountry = \"{country}\"\ndomain = \"d{n}\"\ntier = \"III\"\nlatency_ms = {latency}\nbandwidth_mib = {bandwidth}\n"
        )
    };
    countries.into_iter().enumerate().map(site).collect()
}

/// Objects of each size.
const OBJECTS: usize = 48;
const SIZES: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, MIB];

async fn fill(bench: &Arc<Bench>) {
    let mut tasks = tokio::task::JoinSet::new();
    for size in SIZES {
        for i in 0..OBJECTS {
            let bench = Arc::clone(bench);
            tasks.spawn(async move {
                bench.tenant.put(&bench.bucket, &format!("{size}/{i}"), pattern(i as u64, size)).await;
            });
            if tasks.len() >= 16 {
                tasks.join_next().await;
            }
        }
    }
    tasks.join_all().await;
    for i in 0..3 {
        bench.tenant.put(&bench.bucket, &format!("large/{i}"), pattern(900 + i, LARGE)).await;
    }
}

async fn degraded_large(healthy: &Bench, slow: &Bench) {
    let (mut well, mut dead, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..15 {
        let key = format!("large/{}", round % 3);
        well.push(healthy.drain(&key).await);
        // The worst two: holders of data.
        let sites = healthy.tenant.client.stat(&healthy.bucket, &object_key(&key)).await.unwrap().sites;
        healthy.set_alive(&sites[..2], false).await;
        dead.push(healthy.drain(&key).await);
        healthy.set_alive(&sites[..2], true).await;
        late.push(slow.drain(&key).await);
    }
    // The first round of each is a warm-up.
    let rate = |times: &[f64]| LARGE as f64 / median(&times[3..]);
    println!("64 MiB gets over links of 2 ms and 1,000 MiB/s, medians of {} rounds:", well.len() - 3);
    println!("  healthy                     {:6.0} MB/s", rate(&well) / 1e6);
    for (what, times) in [("two of six dead (data)     ", &dead), ("one slow by 50 times       ", &late)] {
        println!(
            "  {what} {:6.0} MB/s   {:.2} of healthy (target 0.7)",
            rate(times) / 1e6,
            rate(times) / rate(&well)
        );
    }
}

async fn degraded_small(healthy: &Bench, slow: &Bench) {
    println!("small gets over the same links, one client, in turns of 48:");
    for size in SIZES {
        let (mut well, mut late) = (Vec::new(), Vec::new());
        let rounds = if size > 65536 { 30 } else { 50 };
        for round in 0..rounds {
            for i in 0..OBJECTS {
                well.push(healthy.get(&format!("{size}/{i}"), size).await);
            }
            for i in 0..OBJECTS {
                let took = slow.get(&format!("{size}/{i}"), size).await;
                // Two rounds to get to know the sites.
                late.extend(Some(took).filter(|_| round >= 2));
            }
        }
        let p = |times: &[f64], share: f64| quantile(times, share) * 1e3;
        println!(
            "  {:4} KiB  healthy p50 {:5.1} p99 {:5.1} ms   one slow p50 {:5.1} p99 {:5.1} ms   p99 {:.2} of healthy (target < 2)",
            size >> 10,
            p(&well, 0.5),
            p(&well, 0.99),
            p(&late, 0.5),
            p(&late, 0.99),
            p(&late, 0.99) / p(&well, 0.99)
        );
    }
}

async fn degraded() {
    let healthy = Arc::new(Bench::new(Deployment::with_sites(&linked_sites(false)).await).await);
    let slow = Arc::new(Bench::new(Deployment::with_sites(&linked_sites(true)).await).await);
    fill(&healthy).await;
    fill(&slow).await;
    degraded_small(&healthy, &slow).await;
    degraded_large(&healthy, &slow).await;
    println!("  asked, healthy:  {:?}", healthy.deployment.service().read_load());
    println!("  asked, one slow: {:?}", slow.deployment.service().read_load());
    println!("  the slow site:   {:?}", slow.deployment.service().site_reading("s2"));
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |what: &str| chosen.is_empty() || chosen.iter().any(|word| word == what);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if wants("large") || wants("small") {
            let bench = Bench::new(Deployment::six_sites().await).await;
            let limits = Limits::measure(bench.deployment.scratch());
            limits.print();
            if wants("large") {
                large(&bench, &limits).await;
            }
            if wants("small") {
                small(&bench, &limits).await;
            }
        }
        if wants("degraded") {
            degraded().await;
        }
    });
}
