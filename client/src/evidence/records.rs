//! Drill records of every version, as a report looks at them.

use std::collections::BTreeMap;

use crate::drill::{
    AnyRecord, DrillRecord, DrillRecordV2, Evidence, Judged, Manifests, Objectives, Verdict, Verdicts,
};

/// The record in the terms of the first version, which are those of the
/// checks; and all of it, where it is of the second.
pub(super) fn seen(record: AnyRecord) -> (DrillRecord, Option<Box<DrillRecordV2>>) {
    match record {
        AnyRecord::V1(record) => (*record, None),
        AnyRecord::V2(record) => (of_second((*record).clone()), Some(record)),
    }
}

fn verdict(verdicts: &BTreeMap<String, Judged>, name: &str) -> Verdict {
    verdicts.get(name).map_or(Verdict::NotSatisfied, |judged| judged.verdict)
}

/// Whether the drill ended otherwise than its plan foresaw, its times aside.
fn is_unforeseen(record: &DrillRecordV2) -> bool {
    let timed = ["rto", "rpo"];
    let others = record.verdicts.iter().filter(|(name, _)| !timed.contains(&name.as_str()));
    let met = others.into_iter().all(|(_, judged)| judged.verdict == Verdict::Satisfied);
    !met && !record.is_as_foreseen()
}

fn of_second(record: DrillRecordV2) -> DrillRecord {
    // Of what came back: what a plan foresaw to be lost is no difference, and
    // is not called restored either.
    let same = verdict(&record.verdicts, "integrity") == Verdict::Satisfied && !is_unforeseen(&record);
    let verdicts = Verdicts {
        integrity: same.into(),
        rto: verdict(&record.verdicts, "rto"),
        rpo: verdict(&record.verdicts, "rpo"),
    };
    // What was to come back was fixed beforehand by the source's manifest or,
    // where there is none, by the plan and its population.
    let noted = record.scope.source_manifest_sha256.zip(record.scope.source_note_index);
    let (source_sha256, source_note_index) = noted.unwrap_or((record.plan.sha256, record.plan.log_index));
    DrillRecord {
        drill: record.drill,
        tenant: record.tenant,
        scenario: record.scenario.kind.to_string(),
        sites: record.results.sites,
        sites_lost: record.scenario.sites_lost,
        objectives: Objectives {
            rto_seconds: record.promise.rto_seconds,
            rpo_seconds: record.promise.rpo_seconds,
        },
        measured: record.measured,
        declared: record.timeline.declared,
        finished: record.timeline.finished,
        phases: record.timeline.phases,
        files: record.results.restored,
        bytes: record.results.restored_bytes,
        manifests: Manifests {
            source_sha256,
            restored_sha256: record.results.restored_sha256,
            source_note_index,
        },
        differences: record.results.differences,
        evidence: Evidence {
            checkpoint_before: record.checkpoint_before,
            checkpoint_after: record.checkpoint_after,
        },
        shares: record.keys.shares,
        software: record.software,
        verdicts,
        not_proven: record.not_proven,
    }
}
