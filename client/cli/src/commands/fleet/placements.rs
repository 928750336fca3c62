//! `coffer fleet placements`: the placement ledger as it lies in the fleet, and
//! whether it is what a scheduler can have written.

use std::collections::BTreeMap;

use coffer_control::PlacementRecord;
use coffer_scheduler::Ledger;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::{Fleet, failed};
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub(super) async fn run(context: &Context<'_>, fleet: &Fleet, verify: bool) -> Result<Exit, Failure> {
    let api: Api<PlacementRecord> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    let records = api.list(&ListParams::default()).await.map_err(|error| failed(&error))?.items;
    // By their names, which have the order of the ledger.
    let records: BTreeMap<String, PlacementRecord> =
        records.into_iter().map(|record| (record.name_any(), record)).collect();
    if !verify {
        for line in records.values().flat_map(|record| &record.spec.lines) {
            // Each is a JSON object; one that is none is shown as it is.
            let value: Value = serde_json::from_str(line).unwrap_or_else(|_| json!({ "unreadable": line }));
            context.output.object(&value);
            context.output.text(line);
        }
        return Ok(Exit::Success);
    }
    let found = check(records.into_values());
    for segment in &found {
        context.output.object(&json!({
            "segment": segment.name, "lines": segment.lines, "pods": segment.bound, "wrong": segment.wrong,
        }));
        let (name, lines) = (&segment.name, segment.lines);
        match &segment.wrong {
            None => context.output.text(format_args!(
                "{name}: {lines} lines, replayed to the same decisions; {} pods bound at its end",
                segment.bound
            )),
            Some(why) => context.output.text(format_args!("{name}: {why}")),
        }
    }
    let wrong = found.iter().filter(|segment| segment.wrong.is_some()).count();
    if wrong == 0 {
        return Ok(Exit::Success);
    }
    let what =
        format!("{wrong} of {} segments of the placement ledger are not what a scheduler wrote", found.len());
    Err(Failure::new(what).safe("nothing was changed").exit(Exit::Differences))
}

/// What became of one segment.
struct Segment {
    name: String,
    lines: usize,
    bound: usize,
    wrong: Option<String>,
}

/// Replays each segment, and holds it against the one before.
fn check(records: impl Iterator<Item = PlacementRecord>) -> Vec<Segment> {
    let mut segments: BTreeMap<String, Vec<PlacementRecord>> = BTreeMap::new();
    for record in records {
        segments.entry(record.spec.segment.clone()).or_default().push(record);
    }
    let mut before: Option<String> = None;
    let mut found = Vec::new();
    for (name, mut records) in segments {
        records.sort_by_key(|record| record.spec.first);
        let end = records.last().map(|record| record.spec.end.clone());
        let follows = records.first().and_then(|record| record.spec.follows.clone());
        let lines: Vec<&str> =
            records.iter().flat_map(|record| &record.spec.lines).map(String::as_str).collect();
        let replayed = Ledger::replay(lines.iter().copied(), end.as_deref());
        // What the oldest one follows is not kept any more.
        let gap = before.is_some() && follows != before;
        let wrong = match &replayed {
            Err(error) => Some(error.to_string()),
            Ok(_) if gap => {
                Some("it does not follow the segment before it: one is missing, or was changed".to_owned())
            }
            Ok(_) => None,
        };
        let bound = replayed.map_or(0, |ledger| ledger.cluster().bound().count());
        found.push(Segment { name, lines: lines.len(), bound, wrong });
        before = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use coffer_control::PlacementRecordSpec;
    use coffer_scheduler::Line;

    use super::*;

    /// Segments of three nodes each.
    fn records(segments: usize) -> Vec<PlacementRecord> {
        let (mut records, mut before) = (Vec::new(), None);
        for n in 0..segments {
            let mut ledger = Ledger::new();
            for first in 0..3_u64 {
                let line = ledger.change(Line::NodeGone(format!("n{first}x{n}").parse().unwrap())).unwrap();
                let spec = PlacementRecordSpec {
                    segment: format!("s{n:016x}"),
                    first,
                    count: 1,
                    lines: vec![line],
                    end: ledger.end(),
                    follows: (first == 0).then(|| before.clone()).flatten(),
                };
                records.push(PlacementRecord::new(&format!("s{n:016x}-{first:010}"), spec));
            }
            before = Some(ledger.end());
        }
        records
    }

    fn wrong(records: Vec<PlacementRecord>) -> Vec<usize> {
        let found = check(records.into_iter());
        found.iter().enumerate().filter(|(_, one)| one.wrong.is_some()).map(|(number, _)| number).collect()
    }

    #[test]
    fn a_record_that_is_missing_or_changed_is_found_and_the_oldest_segments_may_be_gone() {
        assert_eq!(wrong(records(3)), Vec::<usize>::new());
        let after = records(3).split_off(3);
        assert_eq!(wrong(after), Vec::<usize>::new());
        let mut missing = records(3);
        missing.remove(4);
        assert_eq!(wrong(missing), [1]);
        let mut changed = records(3);
        changed[8].spec.lines[0] = changed[8].spec.lines[0].replace("n2", "n7");
        assert_eq!(wrong(changed), [2]);
        let mut cut = records(3);
        cut.remove(5);
        assert_eq!(wrong(cut), [2], "the next one names the end that was cut off");
        let mut gap = records(3);
        gap.drain(3..6);
        assert_eq!(wrong(gap), [1]);
    }
}
