//! The ledger of placements: replayed it gives the same bindings, and one
//! changed byte, a missing line or a cut end is found.

use crate::instance::{COUNTRIES, Chance, node, pod, set};
use coffer_scheduler::{Costs, Ledger, LedgerError, Line, PodId};

/// A ledger with so many nodes and decisions, over sets that come and go.
fn ledger(nodes: usize, decisions: usize) -> (Ledger, Vec<String>) {
    let (mut ledger, mut chance, mut lines) = (Ledger::new(), Chance(decisions as u64), Vec::new());
    for n in 0..nodes {
        let country = *chance.pick(&COUNTRIES);
        let node = node(&format!("n{n}"), country, &format!("d{}", n / 2), 1000 + chance.below(1000));
        lines.push(ledger.change(Line::Node(Box::new(node))).unwrap());
    }
    let mut running: Vec<Vec<PodId>> = Vec::new();
    for n in 0..decisions {
        let mut set = set((0..6).map(|n| pod(n, 50 + chance.below(100))).collect());
        set.name = format!("set-{n}").parse().unwrap();
        set.spread.country_skew = chance.one_in(2).then_some(2);
        let (decision, line) = ledger.decide(set.clone(), Costs::default()).unwrap();
        lines.push(line);
        if decision.is_some() {
            running.push(set.pods.iter().map(|pod| set.id(pod)).collect());
        }
        if running.len() > 8 {
            let gone = running.remove(usize::try_from(chance.below(8)).unwrap());
            lines.extend(gone.into_iter().map(|pod| ledger.change(Line::Released(pod)).unwrap()));
        }
    }
    (ledger, lines)
}

fn texts(lines: &[String]) -> impl Iterator<Item = &str> {
    lines.iter().map(String::as_str)
}

#[test]
fn a_replay_ends_with_the_same_bindings() {
    let (made, lines) = ledger(30, 300);
    let again = Ledger::replay(texts(&lines), Some(&made.end())).unwrap();
    assert!(made.cluster().bound().count() > 20);
    assert!(made.cluster().bound().eq(again.cluster().bound()));
}

#[test]
fn one_changed_byte_anywhere_is_found() {
    let (made, lines) = ledger(10, 3);
    let end = made.end();
    for (number, line) in lines.iter().enumerate() {
        for at in 0..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let mut with = lines.clone();
            with[number] = changed;
            assert!(Ledger::replay(texts(&with), Some(&end)).is_err(), "line {number}, byte {at}");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "it reads plain files of the workspace")]
fn a_ledger_of_every_past_format_replays() {
    let past = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decisions/past");
    let mut found = 0;
    for entry in std::fs::read_dir(past).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
            let (text, end) = (read(&path), read(&path.with_extension("end")));
            let again = Ledger::replay(text.lines(), Some(end.trim())).unwrap();
            assert_eq!(again.cluster().bound().count(), 18, "{}", path.display());
            // Another choice is found in them as well, with the digests mended.
            let last = text.lines().next_back().unwrap();
            let forged = last.replacen("\"legal\":125", "\"legal\":124", 1);
            assert_ne!(forged, last);
            let lines: Vec<&str> =
                text.lines().map(|line| if line == last { &*forged } else { line }).collect();
            assert!(matches!(Ledger::replay(lines, None), Err(LedgerError::Decision { .. })));
            found += 1;
        }
    }
    assert_eq!(found, 2);
}

#[test]
fn a_decision_says_by_which_policy_among_which_nodes_and_at_what_price() {
    let (_, lines) = ledger(30, 1);
    let decided = |line: &String| match serde_json::from_value(
        serde_json::from_str::<serde_json::Value>(line).unwrap()["what"].clone(),
    ) {
        Ok(Line::Decided { decision: Some(decision), set, .. }) => (decision, set),
        other => unreachable!("{other:?}"),
    };
    let (decision, set) = decided(&lines[30]);
    assert_eq!((decision.format, decision.policy.len()), (3, 64));
    // Those of other countries are not among them.
    let legal: u64 = decision.placed.iter().map(|placed| placed.legal).max().unwrap();
    for feasible in &decision.feasible {
        assert!(feasible.count == legal && feasible.digest.len() == 64);
        let prices: Vec<u64> = feasible.cheapest.iter().map(|scored| scored.room).collect();
        assert!(prices.is_sorted() && prices.len() == usize::try_from(legal.min(16)).unwrap());
    }
    let shapes: usize = decision.feasible.iter().map(|feasible| feasible.pods.len()).sum();
    assert_eq!(shapes, set.pods.len());
    for placed in &decision.placed {
        let price = placed.price.unwrap();
        let of_pod = decision.feasible.iter().find(|one| one.pods.contains(&placed.ordinal)).unwrap();
        let named = of_pod.cheapest.iter().find(|scored| scored.node == placed.node);
        assert!(price.moving == 0 && named.is_none_or(|scored| scored.room == price.room));
    }
    // Another policy has another digest.
    let mut ledger = Ledger::new();
    for line in &lines[..30] {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        ledger.change(serde_json::from_value(value["what"].clone()).unwrap()).unwrap();
    }
    let mut other = *set;
    other.spread.per_domain += 1;
    let (again, _) = ledger.decide(other, Costs::default()).unwrap();
    assert_ne!(again.unwrap().policy, decision.policy);
}

#[test]
fn lines_that_are_missing_swapped_or_cut_off_are_found() {
    let (made, lines) = ledger(30, 12);
    let end = made.end();
    for gone in 0..lines.len() {
        let mut with = lines.clone();
        with.remove(gone);
        let found = Ledger::replay(texts(&with), Some(&end)).err();
        let at_the_end = gone + 1 == lines.len();
        let named = match found {
            Some(LedgerError::End) => at_the_end,
            Some(LedgerError::Chain { line }) => line == gone as u64,
            _ => false,
        };
        assert!(named, "line {gone} is missing");
    }
    let mut swapped = lines.clone();
    swapped.swap(3, 4);
    assert!(matches!(Ledger::replay(texts(&swapped), None), Err(LedgerError::Chain { line: 3 })));
}

#[test]
fn a_decision_that_the_inputs_do_not_lead_to_is_found_even_with_a_mended_chain() {
    let (_, lines) = ledger(30, 1);
    let (mut forged, mut other) = (Ledger::new(), Vec::new());
    for line in &lines[..30] {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        other.push(forged.change(serde_json::from_value(value["what"].clone()).unwrap()).unwrap());
    }
    let value: serde_json::Value = serde_json::from_str(&lines[30]).unwrap();
    let mut what: Line = serde_json::from_value(value["what"].clone()).unwrap();
    let Line::Decided { decision: Some(decision), .. } = &mut what else { unreachable!() };
    let (first, second) = (decision.placed[0].node.clone(), decision.placed[1].node.clone());
    (decision.placed[0].node, decision.placed[1].node) = (second, first);
    other.push(forged.change(what).unwrap());
    assert!(matches!(Ledger::replay(texts(&other), None), Err(LedgerError::Decision { line: 30 })));
}
