//! Restorations that were rehearsed, measured and compared.

use super::super::check::{Answer, Check, Evidence, Theme, counted};
use super::super::mapping::{dora, gdpr, iso, nis2, nist, pci, soc2};
use super::super::material::{DrillItem, Material};
use crate::drill::Verdict;

/// The longest time between two drills, in days.
const DRILL_DAYS: u64 = 365;
const DAY_NS: u64 = 86_400_000_000_000;

pub(super) static CHECKS: [Check; 7] = [
    Check {
        id: "drill-recent",
        theme: Theme::Restoration,
        title: "A restoration was rehearsed in the last year",
        objective: "In the period, and at most 365 days before the facts were taken, a restoration was carried out, measured and \
            recorded.",
        remedy: "Run a drill: `coffer drill run --help`.",
        references: &[
            nist("cp-4"),
            iso("A.5.30"),
            gdpr("32(1)(d)"),
            dora("11(6)"),
            nis2("CIR 2024/2690 annex 4.1.4"),
            pci("12.10.2"),
            soc2("A1.3"),
        ],
        query: recent,
    },
    Check {
        id: "drill-identical",
        theme: Theme::Restoration,
        title: "What came back is what was there",
        objective: "In no drill of the period did the restored tree differ from the manifest that was made at its source.",
        remedy: "Find the cause of the differences before the next drill; the record counts them by kind.",
        references: &[
            nist("cp-9.1"),
            iso("A.8.13"),
            gdpr("32(1)(c)"),
            dora("12(2)"),
            nis2("CIR 2024/2690 annex 4.2.6"),
            soc2("A1.3"),
        ],
        query: identical,
    },
    Check {
        id: "drill-noted",
        theme: Theme::Restoration,
        title: "What was there was written down before it was lost",
        objective: "For every drill of the period the digest of the source's manifest, or of the plan that fixes what is to come back, \
            is a leaf of the log that is older than the declared loss.",
        remedy: "Back up with `coffer backup`, which notes the manifest; restore that snapshot in the drill.",
        references: &[nist("cp-9.1"), iso("A.5.28"), gdpr("5(2)"), dora("12(7)"), soc2("A1.3")],
        query: noted,
    },
    Check {
        id: "drill-rto",
        theme: Theme::Restoration,
        title: "It came back within the time that was promised",
        objective: "The latest drill of the period met its recovery time objective, measured from the declared loss to the last \
            verified file.",
        remedy: "See the phases of the record for what took the time; change the objective only with its owner.",
        references: &[
            nist("cp-10"),
            iso("A.5.30"),
            gdpr("32(1)(c)"),
            dora("12(6)"),
            nis2("CIR 2024/2690 annex 4.2.6"),
            soc2("A1.3"),
        ],
        query: rto,
    },
    Check {
        id: "drill-rpo",
        theme: Theme::Restoration,
        title: "No more was lost than was accepted",
        objective: "The latest drill of the period met its recovery point objective: the newest write that came back was recent \
            enough.",
        remedy: "Back up more often, or change the objective with its owner.",
        references: &[nist("cp-9"), iso("A.5.30"), gdpr("32(1)(c)"), dora("12(6)"), soc2("A1.2")],
        query: rpo,
    },
    Check {
        id: "drill-loss",
        theme: Theme::Restoration,
        title: "The loss that was promised to be survived was rehearsed",
        objective: "In a drill of the period as many sites were lost as the tenant's policy promises to survive, and the tree came \
            back identical.",
        remedy: "Run a drill with that many sites lost.",
        references: &[nist("cp-10.4"), iso("A.5.29"), gdpr("32(1)(b)"), dora("11(6)"), soc2("A1.3")],
        query: loss,
    },
    Check {
        id: "drill-logged",
        theme: Theme::Restoration,
        title: "Every record of a drill is in the log",
        objective: "The digest of every drill record of the period is a leaf of the log, so that none can be made, changed or \
            dated later.",
        remedy: "Have records signed by the service when they are made; one that is in no leaf is no evidence.",
        references: &[
            nist("cp-4"),
            iso("A.5.28"),
            dora("11(6)"),
            nis2("CIR 2024/2690 annex 4.1.4"),
            soc2("CC7.5"),
        ],
        query: logged,
    },
];

fn of(drill: &DrillItem) -> Evidence {
    Evidence::Drill(drill.record.drill.clone())
}

fn name(drill: &DrillItem) -> String {
    drill.record.drill.get(..8).unwrap_or(&drill.record.drill).to_owned()
}

fn none() -> Answer {
    Answer::when(false, "", "there is no record of a drill in the period", vec![Evidence::Log])
}

fn recent(material: &Material) -> Answer {
    let Some(last) = material.drills().next_back() else { return none() };
    let days = material.now().0.saturating_sub(last.declared().0) / DAY_NS;
    let said = format!(
        "{} in the period; the latest, {}, is {days} days old",
        counted(material.drills().count(), "drill"),
        name(last)
    );
    Answer::when(days <= DRILL_DAYS, said.clone(), said, vec![of(last)])
}

fn identical(material: &Material) -> Answer {
    let all: Vec<&DrillItem> = material.drills().collect();
    if all.is_empty() {
        return none();
    }
    let differing = all.iter().filter(|drill| drill.record.verdicts.integrity != Verdict::Satisfied);
    let bad: Vec<String> = differing
        .map(|drill| format!("drill {}: {} differences", name(drill), drill.record.differences.count))
        .collect();
    let files: u64 = all.iter().map(|drill| drill.record.files).fold(0, u64::saturating_add);
    let good = format!("{files} files came back in {}, with no difference", counted(all.len(), "drill"));
    Answer::unless(&bad, good, all.into_iter().map(of).collect())
}

fn noted(material: &Material) -> Answer {
    let (mut bad, mut evidence) = (Vec::new(), Vec::new());
    for drill in material.drills() {
        let index = drill.record.manifests.source_note_index;
        let event = usize::try_from(index).ok().and_then(|index| material.log.events.get(index));
        let digest = &drill.record.manifests.source_sha256;
        evidence.push(of(drill));
        match event {
            Some(event)
                if event.operation == "digest_note"
                    && event.outcome == "done"
                    && event.subject.rsplit_once(':').is_some_and(|(_, noted)| noted == digest) =>
            {
                evidence.push(Evidence::Leaf(index));
                if event.time() > drill.declared() {
                    bad.push(format!("drill {}: noted after the loss was declared", name(drill)));
                }
            }
            _ => bad.push(format!("drill {}: leaf {index} does not note its source", name(drill))),
        }
    }
    if evidence.is_empty() {
        return none();
    }
    Answer::unless(&bad, "every source was in the log before the loss", evidence)
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:03} s", nanos / 1_000_000_000, nanos / 1_000_000 % 1000)
}

fn rto(material: &Material) -> Answer {
    let Some(last) = material.drills().next_back() else { return none() };
    let record = &last.record;
    let (promised, took) = (record.objectives.rto_seconds, seconds(record.measured.rta_ns));
    let said = format!("drill {}: {took} of {promised} s that were promised", name(last));
    let bad = match record.verdicts.integrity {
        Verdict::Satisfied => said.clone(),
        Verdict::NotSatisfied => format!("{said}; what differs was not recovered in any time"),
    };
    Answer::when(record.verdicts.rto == Verdict::Satisfied, said, bad, vec![of(last)])
}

fn rpo(material: &Material) -> Answer {
    let Some(last) = material.drills().next_back() else { return none() };
    let record = &last.record;
    let (promised, lost) = (record.objectives.rpo_seconds, seconds(record.measured.rpa_ns));
    let said = format!("drill {}: the newest write was {lost} old; {promised} s are accepted", name(last));
    Answer::when(record.verdicts.rpo == Verdict::Satisfied, said.clone(), said, vec![of(last)])
}

fn loss(material: &Material) -> Answer {
    let wanted = material.facts.facts.tenant.policy.parity;
    let most = material.drills().filter(|drill| drill.record.verdicts.integrity == Verdict::Satisfied);
    match most.max_by_key(|drill| drill.record.sites_lost.len()) {
        Some(drill) => {
            let lost = drill.record.sites_lost.len();
            let said = format!(
                "drill {}: {lost} of {} sites lost, {wanted} are promised to be survived",
                name(drill),
                drill.record.sites
            );
            Answer::when(lost >= wanted, said.clone(), said, vec![of(drill)])
        }
        None => none(),
    }
}

fn logged(material: &Material) -> Answer {
    let (mut bad, mut evidence) = (Vec::new(), Vec::new());
    for drill in material.drills() {
        evidence.push(of(drill));
        match material.log.noted("drill_sign", &drill.statement.to_string()) {
            Some(event) => evidence.push(Evidence::Leaf(event.index)),
            None => bad.push(format!("the record of drill {} is in no leaf", name(drill))),
        }
    }
    if evidence.is_empty() {
        return none();
    }
    Answer::unless(&bad, "every record is a leaf of the log", evidence)
}
