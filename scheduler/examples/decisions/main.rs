//! What decisions cost, and their replay in a process of its own.
//!
//! `cargo run --release -p coffer-scheduler --example decisions -- rates` decides over sets of six pods on 100 to
//! 10,000 nodes, and over such as have to be apart from others; `-- ledger N FILE` writes a ledger of N decisions, no two alike, and prints its end;
//! `-- replay FILE END` makes all of them again; `-- damage FILE END N` changes one bit at each of N places by
//! chance, one after the other, and fails where a replay does not find it.
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(
    clippy::disallowed_methods,
    reason = "it measures with the machine's clock and keeps its ledger in a plain file"
)]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

mod shapes;
mod varied;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

use coffer_model::{FailureDomain, Tier};
use coffer_scheduler::{
    Affinity, Attestation, Costs, Ledger, LedgerError, Line, Node, Operator, Pod, PodId, PodTerm,
    Requirement, Residency, Resources, SiteSet, Space, Spread, Topology,
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

/// Colours of sets whose pods have to be apart from those of others of the same colour, by node.
const COLOURS: u64 = 16;

fn apart(n: u64) -> (BTreeMap<String, String>, Affinity) {
    let colour = format!("c{}", n % COLOURS);
    let same = Requirement { key: "colour".to_owned(), is: Operator::In([colour.clone()].into()) };
    let term = PodTerm { topology: Topology::Node, spaces: [Space::Fleet].into(), selector: vec![same] };
    ([("colour".to_owned(), colour)].into(), Affinity { apart: vec![term], ..Affinity::default() })
}

fn set(n: u64, coloured: bool) -> SiteSet {
    let needs = Resources { cpu_millis: 500, memory_bytes: 2 << 30, disk_bytes: 256 << 30, iops: 500 };
    let (labels, affinity) = if coloured { apart(n) } else { Default::default() };
    let affinity = coloured.then(|| Box::new(affinity));
    let like = Pod { labels, affinity, ..Pod::plain(0, needs) };
    let pods = (0..6).map(|ordinal| Pod { ordinal, ..like.clone() });
    let allow = vec!["EU".parse().unwrap()];
    SiteSet {
        name: format!("set-{n}").parse().unwrap(),
        residency: Residency { allow, deny: Vec::new(), tier_min: Tier::II },
        spread: Spread { per_domain: 1, per_country: Some(3), country_skew: Some(1) },
        pods: pods.collect(),
    }
}

/// Decides over sets that come and, after a while, go; how long each decision took.
fn run(nodes: u64, sets: u64, coloured: bool) -> Vec<f64> {
    let mut ledger = Ledger::new();
    (0..nodes).for_each(|n| _ = ledger.change(Line::Node(Box::new(node(n)))).unwrap());
    let mut took = Vec::new();
    let keep = nodes;
    for n in 0..sets {
        let start = Instant::now();
        let (decision, _) = ledger.decide(set(n, coloured), Costs::default()).unwrap();
        took.push(start.elapsed().as_secs_f64());
        assert!(decision.is_some(), "set {n} on {nodes} nodes");
        if let Some(old) = n.checked_sub(keep) {
            for ordinal in 0..6 {
                let pod = PodId { set: format!("set-{old}").parse().unwrap(), ordinal };
                ledger.change(Line::Released(pod)).unwrap();
            }
        }
    }
    took
}

fn rates() {
    println!("sets of 6 pods: EU, tier II, one a failure domain, three a country, countries within one");
    rates_of(false);
    println!("the same, apart by node from pods of other sets of their colour");
    rates_of(true);
}

fn rates_of(coloured: bool) {
    for nodes in [100, 500, 1000, 2000, 5000, 10_000] {
        let mut took = run(nodes, 1000, coloured);
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

fn write(decisions: u64, path: &str) {
    let mut lines = String::new();
    let (end, counts) = varied::write(decisions, &mut |line| {
        lines.push_str(&line);
        lines.push('\n');
    });
    std::fs::write(path, &lines).unwrap();
    println!("{end}");
    eprintln!("{} lines, {} bytes: {}", lines.lines().count(), lines.len(), varied::said(&counts));
}

/// Changes one bit here and there, always of a whole ledger. Each change has to be found.
fn damage(path: &str, end: &str, places: u64) -> ExitCode {
    let bytes = std::fs::read(path).unwrap();
    let (mut chance, mut found) = (shapes::Chance(places), BTreeMap::<&str, u64>::new());
    for _ in 0..places {
        let (at, bit) = (chance.index(bytes.len()), chance.below(8));
        let mut changed = bytes.clone();
        changed[at] ^= 1 << bit;
        let why = match String::from_utf8(changed) {
            Err(_) => "no text any more",
            Ok(text) => match Ledger::replay(text.lines(), Some(end)) {
                Ok(_) => {
                    println!("bit {bit} of byte {at} was changed, and nobody found it");
                    return ExitCode::FAILURE;
                }
                Err(LedgerError::Form { .. }) => "no line of a ledger",
                Err(LedgerError::Chain { .. } | LedgerError::End) => "the chain of digests",
                Err(_) => "the decision made again",
            },
        };
        *found.entry(why).or_default() += 1;
    }
    println!("{places} of {places} changes were found: {found:?}");
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts[..] {
        ["ledger", count, path] => write(count.parse().unwrap(), path),
        ["damage", path, end, places] => return damage(path, end, places.parse().unwrap()),
        ["replay", path, end] => {
            let text = std::fs::read_to_string(path).unwrap();
            match Ledger::replay(text.lines(), Some(end)) {
                Ok(ledger) => println!("the same: {} pods bound", ledger.cluster().bound().count()),
                Err(error) => {
                    println!("{error}");
                    return ExitCode::FAILURE;
                }
            }
        }
        _ => rates(),
    }
    ExitCode::SUCCESS
}
