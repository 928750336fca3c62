//! A ledger of decisions, no two alike, that one process records and another one makes again. The program is
//! `examples/decisions/`.
#![expect(clippy::disallowed_methods, reason = "it reads and writes plain files, and starts programs")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use coffer_scheduler::{Decision, Line, SiteSet};

use crate::instance::Chance;

/// Enough for each kind of change to occur many times; 10,000 take a release build a minute.
const DECISIONS: usize = 500;

/// Beside the tests, where `cargo test` has built it.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().and_then(|deps| deps.parent()).unwrap().join("examples/decisions");
    assert!(program.exists(), "build the program first: cargo build --workspace --examples");
    program
}

fn run(arguments: &[&str]) -> Output {
    Command::new(program()).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A file of one test, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("coffer-decisions-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn another_process_comes_to_the_same_decisions_and_finds_one_changed_byte() {
    let file = Scratch::new("ledger");
    let made = run(&["ledger", &DECISIONS.to_string(), file.path()]);
    assert!(made.status.success(), "{made:?}");
    let end = said(&made);
    let bytes = std::fs::read(file.path()).unwrap();
    varies(std::str::from_utf8(&bytes).unwrap());
    let replayed = run(&["replay", file.path(), &end]);
    assert!(replayed.status.success() && said(&replayed).starts_with("the same: "), "{replayed:?}");

    let changed = Scratch::new("changed");
    let mut chance = Chance(DECISIONS as u64);
    for _ in 0..8 {
        let at = usize::try_from(chance.below(bytes.len() as u64)).unwrap();
        let mut bytes = bytes.clone();
        // It stays text.
        bytes[at] ^= 1;
        std::fs::write(changed.path(), &bytes).unwrap();
        let replayed = run(&["replay", changed.path(), &end]);
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count();
        let names = |line: usize| said(&replayed).contains(&format!("line {line} "));
        let found = names(line) || names(line + 1) || said(&replayed).contains("the ledger does not end");
        assert!(replayed.status.code() == Some(1) && found, "byte {at} in line {line}: {replayed:?}");
    }
}

/// That the decisions are not one decision, made over and over.
fn varies(text: &str) {
    let lines: Vec<Line> = text.lines().map(what).collect();
    let decided: Vec<(&SiteSet, &Decision)> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Decided { set, decision: Some(decision), .. } => Some((&**set, decision)),
            _ => None,
        })
        .filter(|(_, decision)| !decision.placed.is_empty())
        .collect();
    assert_eq!(decided.len(), DECISIONS);
    assert!(decided.iter().all(|(_, decision)| decision.format == 3));
    let policies: BTreeSet<&String> = decided.iter().map(|(_, decision)| &decision.policy).collect();
    let most =
        |of: fn(&SiteSet) -> usize| decided.iter().map(|(set, _)| of(set)).collect::<BTreeSet<_>>().len();
    assert!(policies.len() > DECISIONS / 3, "{} policies", policies.len());
    assert!(most(|set| set.pods.len()) >= 9);
    assert!(most(|set| usize::try_from(set.spread.per_domain).unwrap()) >= 3);
    let pods = || decided.iter().flat_map(|(set, _)| &set.pods);
    assert!(pods().filter(|pod| pod.affinity.is_some()).count() > DECISIONS / 10);
    assert!(pods().map(|pod| pod.priority).collect::<BTreeSet<_>>().len() >= 3);
    let prices = || decided.iter().flat_map(|(_, decision)| &decision.placed).map(|one| one.price.unwrap());
    assert!(prices().filter(|price| price.wishes > 0).count() > 20);
    assert!(prices().filter(|price| price.moving > 0).count() > 20, "nobody moved away from its disk");
    let home = |(set, decision): &(&SiteSet, &Decision)| {
        let is_home = |pod: &coffer_scheduler::Pod| {
            let at = decision.placed.iter().find(|placed| placed.ordinal == pod.ordinal);
            at.is_some_and(|at| pod.home.as_ref().is_some_and(|home| home.node == at.node))
        };
        set.pods.iter().any(is_home)
    };
    assert!(decided.iter().filter(|one| home(one)).count() > 20, "nobody returned to its disk");
    let some = |of: fn(&Line) -> bool| lines.iter().filter(|line| of(line)).count();
    assert!(some(|line| matches!(line, Line::NodeGone(_))) > 20);
    assert!(some(|line| matches!(line, Line::Traits { .. })) > 20);
    assert!(some(|line| matches!(line, Line::Neighbour(_))) > 20);
    assert!(some(|line| matches!(line, Line::Preempted { .. })) > 2, "nobody gave way");
    assert!(some(|line| matches!(line, Line::Decided { decision: None, .. })) > 5, "everything fitted");
}

fn what(line: &str) -> Line {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    serde_json::from_value(value["what"].clone()).unwrap()
}
