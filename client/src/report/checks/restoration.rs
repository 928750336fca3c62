//! Restorations that were rehearsed, measured and compared.

use std::collections::BTreeMap;

use super::super::check::{Answer, Check, Evidence, Theme, counted, listed};
use super::super::mapping::{dora, gdpr, iso, nis2, nist, pci, soc2};
use super::super::material::{DrillItem, Material};
use crate::drill::Verdict;

/// The longest time between two drills, in days.
const DRILL_DAYS: u64 = 365;
const DAY_NS: u64 = 86_400_000_000_000;

pub(super) static CHECKS: [Check; 9] = [
    Check {
        id: "drill-recent",
        theme: Theme::Restoration,
        title: "A restoration was rehearsed in the last year",
        objective: "In the period, and at most 365 days before the facts were taken, a restoration was carried out, measured and \
            recorded, and brought something back.",
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
        objective: "In no drill of the period did what came back differ from what was noted at its source, or less come back than \
            its plan foresaw; and something came back.",
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
        objective: "The latest drill of the period whose loss was to be survived met its recovery time objective, measured from \
            the declared loss to the last verified file.",
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
        objective: "The latest drill of the period whose loss was to be survived met its recovery point objective: the newest \
            write that came back is known, and was recent enough.",
        remedy: "Back up more often, or change the objective with its owner.",
        references: &[nist("cp-9"), iso("A.5.30"), gdpr("32(1)(c)"), dora("12(6)"), soc2("A1.2")],
        query: rpo,
    },
    Check {
        id: "drill-loss",
        theme: Theme::Restoration,
        title: "The loss that was promised to be survived was rehearsed",
        objective: "In a drill of the period as many sites were lost as the tenant's policy promises to survive, and all of what \
            was to come back did, identical.",
        remedy: "Run a drill with that many sites lost.",
        references: &[nist("cp-10.4"), iso("A.5.29"), gdpr("32(1)(b)"), dora("11(6)"), soc2("A1.3")],
        query: loss,
    },
    Check {
        id: "drill-regression",
        theme: Theme::Restoration,
        title: "Restoring has not become much slower",
        objective: "No drill of the period took more than half as long again as the middle of the drills of its kind before it.",
        remedy: "See the phases of the two records for what became slower; drill again when it is mended.",
        references: &[nist("cp-4"), iso("A.5.30"), gdpr("32(1)(d)"), dora("11(6)"), soc2("A1.3")],
        query: regression,
    },
    Check {
        id: "drill-due",
        theme: Theme::Restoration,
        title: "No drill is overdue",
        objective: "Where the latest drill of a bucket and kind states when the next one is due, that moment had not passed when the \
            facts were taken.",
        remedy: "Carry out what is due: `coffer drill schedule run --out DIR`, from a timer.",
        references: &[nist("cp-4"), iso("A.5.30"), gdpr("32(1)(d)"), dora("11(6)"), soc2("A1.3")],
        query: due,
    },
    Check {
        id: "drill-logged",
        theme: Theme::Restoration,
        title: "Every record of a drill is in the log, and none is left out",
        objective: "The digest of every drill record of the period is a leaf of the log, so that none can be made, changed or \
            dated later; and of every leaf that signs a record that record is here. Plans without a record are listed.",
        remedy: "Have records signed by the service when they are made; bring those that are missing with --record. A record that \
            is in no leaf is no evidence, and one that is left out may be the bad one.",
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

/// Why there is nothing to show, where drills brought nothing back.
fn nothing(material: &Material) -> Answer {
    let drills: Vec<Evidence> = material.drills().map(of).collect();
    if drills.is_empty() {
        return none();
    }
    let said = "no drill of the period brought anything back: a loss that was foreseen is no restoration";
    Answer::when(false, "", said, drills)
}

/// The latest drill that was to bring back all that was promised: not one of a
/// loss that its plan foresaw.
fn last(material: &Material) -> Option<&DrillItem> {
    material.drills().rfind(|drill| !drill.is_foreseen_loss())
}

fn recent(material: &Material) -> Answer {
    let Some(last) = material.drills().rfind(|drill| drill.brought_back()) else { return nothing(material) };
    let days = material.now().0.saturating_sub(last.declared().0) / DAY_NS;
    let said = format!(
        "{} in the period; the latest that brought something back, {}, is {days} days old",
        counted(material.drills().count(), "drill"),
        name(last)
    );
    Answer::when(days <= DRILL_DAYS, said.clone(), said, vec![of(last)])
}

fn identical(material: &Material) -> Answer {
    let all: Vec<&DrillItem> = material.drills().collect();
    let differing = all.iter().filter(|drill| drill.record.verdicts.integrity != Verdict::Satisfied);
    let bad: Vec<String> = differing
        .map(|drill| {
            let (files, differences) = (drill.record.files, drill.record.differences.count);
            format!("drill {}: {differences} differences, {files} files came back", name(drill))
        })
        .collect();
    let back = all.iter().filter(|drill| drill.brought_back());
    if bad.is_empty() && back.clone().next().is_none() {
        return nothing(material);
    }
    let files: u64 = back.clone().map(|drill| drill.record.files).fold(0, u64::saturating_add);
    let good = format!("{files} files came back in {}, with no difference", counted(back.count(), "drill"));
    let lost = all.iter().filter(|drill| drill.is_foreseen_loss()).count();
    let good = match lost {
        0 => good,
        lost => format!("{good}; {} lost what was foreseen to be lost", counted(lost, "drill")),
    };
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
    let Some(last) = last(material) else { return nothing(material) };
    let record = &last.record;
    let (promised, took) = (record.objectives.rto_seconds, seconds(record.measured.rta_ns));
    let said = format!("drill {}: {took} of {promised} s that were promised", name(last));
    let bad = match record.verdicts.integrity {
        Verdict::Satisfied => said.clone(),
        Verdict::NotSatisfied => format!("{said}; what differs was not recovered in any time"),
    };
    let met = last.brought_back() && record.verdicts.rto == Verdict::Satisfied;
    Answer::when(met, said, bad, vec![of(last)])
}

fn rpo(material: &Material) -> Answer {
    let Some(last) = last(material) else { return nothing(material) };
    let record = &last.record;
    let promised = record.objectives.rpo_seconds;
    if !last.brought_back() || !record.measured.is_loss_known() {
        let said = format!("drill {}: how old the newest write that came back was is not known", name(last));
        return Answer::when(false, "", said, vec![of(last)]);
    }
    let lost = seconds(record.measured.rpa_ns);
    let said = format!("drill {}: the newest write was {lost} old; {promised} s are accepted", name(last));
    Answer::when(record.verdicts.rpo == Verdict::Satisfied, said.clone(), said, vec![of(last)])
}

fn loss(material: &Material) -> Answer {
    let wanted = material.facts.facts.tenant.policy.parity;
    let whole = material.drills().filter(|drill| drill.is_whole());
    match whole.max_by_key(|drill| drill.record.sites_lost.len()) {
        Some(drill) => {
            let lost = drill.record.sites_lost.len();
            let said = format!(
                "drill {}: {lost} of {} sites lost and all came back; {wanted} are promised to be survived",
                name(drill),
                drill.record.sites
            );
            Answer::when(lost >= wanted, said.clone(), said, vec![of(drill)])
        }
        None if material.drills().next().is_none() => none(),
        None => {
            let said = "in no drill of the period did all of it come back";
            Answer::when(false, "", said, material.drills().map(of).collect())
        }
    }
}

fn regression(material: &Material) -> Answer {
    let all: Vec<&DrillItem> = material.drills().collect();
    let compared: Vec<_> =
        all.iter().filter_map(|drill| Some((*drill, drill.second.as_ref()?.trend.as_ref()?))).collect();
    let slower = compared.iter().filter(|(_, trend)| trend.regression);
    let bad: Vec<String> = slower
        .map(|(drill, trend)| {
            let (took, middle) = (seconds(drill.record.measured.rta_ns), seconds(trend.middle_ns));
            format!("drill {}: {took}; the middle of {} before it is {middle}", name(drill), trend.earlier)
        })
        .collect();
    if all.is_empty() {
        return none();
    }
    let good = format!(
        "{} of {} had others of its kind before it, none was much slower",
        compared.len(),
        counted(all.len(), "drill")
    );
    Answer::unless(&bad, good, all.into_iter().map(of).collect())
}

fn due(material: &Material) -> Answer {
    let mut latest = BTreeMap::new();
    for drill in material.drills() {
        let Some(record) = &drill.second else { continue };
        latest.insert((record.scope.bucket.clone(), record.scenario.kind.to_string()), (drill, record));
    }
    let next: Vec<_> = latest
        .iter()
        .filter_map(|(of, (drill, record))| Some((of, *drill, record.next_due.as_ref()?)))
        .collect();
    let late = next.iter().filter(|(_, _, due)| due.timestamp().is_none_or(|due| due < material.now()));
    let bad: Vec<String> = late
        .map(|((bucket, kind), drill, due)| {
            format!("{kind} of {bucket}: was due on {}, the latest is {}", due.utc(), name(drill))
        })
        .collect();
    let evidence: Vec<Evidence> = material.drills().map(of).collect();
    if evidence.is_empty() {
        return none();
    }
    let good = match next.len() {
        0 => "no drill of the period states when the next is due".to_owned(),
        count => format!("{} state when the next is due, and none is overdue", counted(count, "kind")),
    };
    Answer::unless(&bad, good, evidence)
}

fn logged(material: &Material) -> Answer {
    let log = &material.log;
    let (mut bad, mut evidence) = (Vec::new(), Vec::new());
    for drill in material.drills() {
        evidence.push(of(drill));
        match log.noted("drill_sign", &drill.statement.to_string()) {
            Some(event) => evidence.push(Evidence::Leaf(event.index)),
            None => bad.push(format!("the record of drill {} is in no leaf", name(drill))),
        }
        if drill.record.tenant != material.facts.facts.tenant.id {
            bad.push(format!("drill {} is one of another tenant", name(drill)));
        }
    }
    for event in log.signed_elsewhere(&material.drills) {
        evidence.push(Evidence::Leaf(event.index));
        bad.push(format!("the record that leaf {} signs is not here", event.index));
    }
    let open: Vec<String> =
        log.planned_only(&material.drills).map(|event| format!("leaf {}", event.index)).collect();
    if evidence.is_empty() {
        return none();
    }
    let good = match open.as_slice() {
        [] => "every record is a leaf of the log, and none that was signed is left out".to_owned(),
        open => format!(
            "every record is a leaf of the log, and none that was signed is left out; planned, and without a record: {}",
            listed(open)
        ),
    };
    Answer::unless(&bad, good, evidence)
}
