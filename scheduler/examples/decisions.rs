//! What decisions cost, and their replay in a process of its own.
//!
//! `cargo run --release -p coffer-scheduler --example decisions -- rates` decides over sets of six pods on 100 to
//! 10,000 nodes; `-- ledger N FILE` writes a ledger of N decisions and prints its end;
//! `-- replay FILE END` makes all of them again.
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(
    clippy::disallowed_methods,
    reason = "it measures with the machine's clock and keeps its ledger in a plain file"
)]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use coffer_model::{FailureDomain, Tier};
use coffer_scheduler::{
    Attestation, Costs, Ledger, Line, Node, Pod, PodId, Residency, Resources, SiteSet, Spread,
};

const COUNTRIES: [&str; 8] = ["DE", "FR", "NL", "ES", "IT", "CH", "US", "JP"];

fn node(n: u64) -> Node {
    let country = COUNTRIES[usize::try_from(n % 8).unwrap()];
    Node {
        name: format!("node-{n}").parse().unwrap(),
        total: Resources { cpu_millis: 16_000, memory_bytes: 64 << 30, disk_bytes: 8 << 40, iops: 50_000 },
        attested: Some(Attestation {
            country: country.parse().unwrap(),
            domain: FailureDomain(format!("{country}-{}", n / 16)),
            tier: Tier::III,
        }),
        labels: BTreeMap::new(),
        taints: BTreeSet::new(),
        cordoned: false,
        ready: true,
    }
}

fn set(n: u64) -> SiteSet {
    let needs = Resources { cpu_millis: 500, memory_bytes: 2 << 30, disk_bytes: 256 << 30, iops: 500 };
    let pods = (0..6).map(|ordinal| Pod::plain(ordinal, needs));
    let allow = vec!["EU".parse().unwrap()];
    SiteSet {
        name: format!("set-{n}").parse().unwrap(),
        residency: Residency { allow, deny: Vec::new(), tier_min: Tier::II },
        spread: Spread { per_domain: 1, per_country: Some(3), country_skew: Some(1) },
        pods: pods.collect(),
    }
}

/// Decides over sets that come and, after a while, go; how long each decision took.
fn run(nodes: u64, sets: u64, mut written: impl FnMut(String)) -> (Vec<f64>, String) {
    let mut ledger = Ledger::new();
    (0..nodes).for_each(|n| written(ledger.change(Line::Node(Box::new(node(n)))).unwrap()));
    let mut took = Vec::new();
    let keep = nodes;
    for n in 0..sets {
        let start = Instant::now();
        let (decision, line) = ledger.decide(set(n), Costs::default()).unwrap();
        took.push(start.elapsed().as_secs_f64());
        assert!(decision.is_some(), "set {n} on {nodes} nodes");
        written(line);
        if let Some(old) = n.checked_sub(keep) {
            for ordinal in 0..6 {
                let pod = PodId { set: format!("set-{old}").parse().unwrap(), ordinal };
                written(ledger.change(Line::Released(pod)).unwrap());
            }
        }
    }
    (took, ledger.end())
}

fn rates() {
    println!("sets of 6 pods: EU, tier II, one a failure domain, three a country, countries within one");
    for nodes in [100, 500, 1000, 2000, 5000, 10_000] {
        let (mut took, _) = run(nodes, 1000, |_| ());
        let all: f64 = took.iter().sum();
        took.sort_by(f64::total_cmp);
        println!(
            "{nodes:6} nodes  {:8.0} pods a second   decision of a set: p50 {:6.3} ms, p99 {:6.3} ms",
            6.0 * took.len() as f64 / all,
            took[took.len() / 2] * 1e3,
            took[took.len() * 99 / 100] * 1e3
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts[..] {
        ["ledger", count, path] => {
            let mut lines = String::new();
            let (_, end) = run(200, count.parse().unwrap(), |line| {
                lines.push_str(&line);
                lines.push('\n');
            });
            std::fs::write(path, lines).unwrap();
            println!("{end}");
        }
        ["replay", path, end] => {
            let text = std::fs::read_to_string(path).unwrap();
            match Ledger::replay(text.lines(), Some(end)) {
                Ok(ledger) => println!("the same: {} pods bound", ledger.cluster().bound().count()),
                Err(error) => {
                    println!("{error}");
                    std::process::exit(1);
                }
            }
        }
        _ => rates(),
    }
}
