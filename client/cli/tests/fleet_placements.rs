//! `coffer fleet placements --verify` as an auditor runs it: the decisions were recorded by another process, and lie
//! in the API of a real control plane.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and reads files")]

#[path = "support/built.rs"]
mod built;
#[path = "support/calls.rs"]
mod calls;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use coffer_model::{FailureDomain, Tier};
use coffer_scheduler::{
    Attestation, Costs, Ledger, Line, Node, Pod, PodId, Residency, Resources, SiteSet, Spread,
};
use serde_json::{Value, json};

use built::node_program;
use calls::{coffer, good};
use process::Process;

const NAMESPACE: &str = "audited";
const DECISIONS: u64 = 500;
const LINES_OF_A_RECORD: usize = 40;

/// `coffer fleet serve` without agents.
fn control_plane(dir: &Path) -> Process {
    node_program();
    let flags = "fleet serve --data-dir data --listen 127.0.0.1:0 --no-agents --exit-with-stdin";
    let control = Process::start(dir, &flags.split_whitespace().collect::<Vec<_>>());
    control.until("nodes");
    control
}

fn node(n: u64) -> Node {
    let country = ["DE", "FR", "NL", "US"][usize::try_from(n % 4).unwrap()];
    let domain = FailureDomain(format!("{country}-{}", n / 8));
    Node {
        name: format!("node-{n}").parse().unwrap(),
        total: Resources {
            cpu_millis: 16_000,
            memory_bytes: 64 << 30,
            disk_bytes: (4 + n % 3) << 40,
            iops: 50_000,
        },
        attested: Some(Attestation { country: country.parse().unwrap(), domain, tier: Tier::III }),
        labels: BTreeMap::new(),
        taints: BTreeSet::new(),
        cordoned: n.is_multiple_of(11),
        ready: true,
    }
}

fn set(n: u64) -> SiteSet {
    let needs = |ordinal: u64| Resources {
        cpu_millis: 250 + 50 * (n % 5),
        memory_bytes: 2 << 30,
        disk_bytes: (64 + 16 * (ordinal % 3)) << 30,
        iops: 100,
    };
    let pods = (0..3 + n % 4).map(|ordinal| Pod::plain(u32::try_from(ordinal).unwrap(), needs(ordinal)));
    let allow = if n.is_multiple_of(3) { Vec::new() } else { vec!["EU".parse().unwrap()] };
    SiteSet {
        name: format!("set-{n}").parse().unwrap(),
        residency: Residency { allow, deny: Vec::new(), tier_min: Tier::II },
        spread: Spread { per_domain: 1, per_country: None, country_skew: n.is_multiple_of(2).then_some(1) },
        pods: pods.collect(),
    }
}

/// A ledger over sets that come and go; its lines and, after each of them, its end.
fn ledger() -> Vec<(String, String)> {
    let (mut ledger, mut all) = (Ledger::new(), Vec::new());
    for n in 0..40 {
        let line = ledger.change(Line::Node(Box::new(node(n)))).unwrap();
        all.push((line, ledger.end()));
    }
    for n in 0..DECISIONS {
        let (decision, line) = ledger.decide(set(n), Costs::default()).unwrap();
        assert!(decision.is_some(), "set {n}");
        all.push((line, ledger.end()));
        for old in n.checked_sub(30).into_iter().map(set) {
            for pod in &old.pods {
                let id = PodId { set: old.name.clone(), ordinal: pod.ordinal };
                let line = ledger.change(Line::Released(id)).unwrap();
                all.push((line, ledger.end()));
            }
        }
    }
    all
}

/// The object in which such lines lie in the API.
fn record(first: usize, lines: &[&str], end: &str) -> Value {
    let segment = "s00000000000000ff";
    json!({
        "apiVersion": "fleet.coffer/v1", "kind": "PlacementRecord",
        "metadata": { "name": format!("{segment}-{first:010}"), "namespace": NAMESPACE },
        "spec": { "segment": segment, "first": first, "count": lines.len(), "lines": lines, "end": end },
    })
}

fn apply(dir: &Path, objects: &[Value]) {
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    fs::write(dir.join("objects.yaml"), texts.join("\n---\n")).unwrap();
    good(dir, &["fleet", "apply", "objects.yaml"]);
}

/// The exit code, and what is said of the one segment.
fn verify(dir: &Path) -> (Option<i32>, Value) {
    let output = coffer(dir, &["fleet", "--namespace", NAMESPACE, "placements", "--verify"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let values = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let segments: Vec<Value> = values.filter(|value| value.get("segment").is_some()).collect();
    let [segment] = &segments[..] else { unreachable!("{text}") };
    (output.status.code(), segment.clone())
}

#[test]
fn the_real_program_replays_what_another_process_decided_and_finds_one_changed_byte() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _control = control_plane(dir);
    apply(dir, &[json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } })]);
    let all = ledger();
    let chunks: Vec<&[(String, String)]> = all.chunks(LINES_OF_A_RECORD).collect();
    let object = |number: usize, changed: Option<(usize, &str)>| {
        let mut lines: Vec<&str> = chunks[number].iter().map(|(line, _)| line.as_str()).collect();
        if let Some((at, line)) = changed {
            lines[at] = line;
        }
        let end = &chunks[number].last().unwrap().1;
        record(number * LINES_OF_A_RECORD, &lines, end)
    };
    // As many as a file of objects may have.
    let numbers: Vec<usize> = (0..chunks.len()).collect();
    for some in numbers.chunks(20) {
        apply(dir, &some.iter().map(|number| object(*number, None)).collect::<Vec<_>>());
    }
    let (code, segment) = verify(dir);
    assert_eq!((code, &segment["wrong"], &segment["lines"]), (Some(0), &Value::Null, &all.len().into()));
    assert!(segment["pods"].as_u64().unwrap() > 50, "{segment}");

    // One bit, here and there.
    for part in [0, 3, 7, 10] {
        let line = part * (all.len() - 1) / 10;
        let (number, at) = (line / LINES_OF_A_RECORD, line % LINES_OF_A_RECORD);
        let mut bytes = all[line].0.clone().into_bytes();
        let byte = bytes.len() * (part + 1) / 12;
        bytes[byte] ^= 1;
        apply(dir, &[object(number, Some((at, std::str::from_utf8(&bytes).unwrap())))]);
        let (code, segment) = verify(dir);
        let why = segment["wrong"].as_str().unwrap_or_default().to_owned();
        let named = [line, line + 1].iter().any(|line| why.contains(&format!("line {line} ")));
        assert!(code == Some(4) && (named || why.contains("does not end as it did")), "{line}: {why}");
        apply(dir, &[object(number, None)]);
    }
    assert_eq!(verify(dir).0, Some(0));
}
