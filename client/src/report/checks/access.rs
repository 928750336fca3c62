//! Who may do what, and apart from whom.

use std::collections::BTreeSet;

use super::super::check::{Answer, Check, Evidence, Theme, counted};
use super::super::mapping::{dora, gdpr, iso, nis2, nist, pci, soc2};
use super::super::material::{LogEvent, Material};

/// The longest that a credential is used, in days.
const CREDENTIAL_DAYS: u64 = 365;
const DAY_NS: u64 = 86_400_000_000_000;

/// Names under which jobs of the service and unknown callers are logged.
const NO_PRINCIPAL: [&str; 2] = ["service", "anonymous"];

pub(super) static CHECKS: [Check; 6] = [
    Check {
        id: "access-known",
        theme: Theme::Access,
        title: "Only the tenant's own principals had their way",
        objective: "Every call of the period that was granted was made by a principal of this tenant, or by a job of the service; \
            no operator and nobody unknown had one granted.",
        remedy: "Find out whose id it is; withdraw the credential.",
        references: &[
            nist("ac-3"),
            iso("A.8.2"),
            gdpr("32(4)"),
            dora("RTS 2024/1774 art. 21"),
            pci("7.2"),
            soc2("CC6.1"),
        ],
        query: known,
    },
    Check {
        id: "access-least",
        theme: Theme::Access,
        title: "Roles are apart",
        objective: "No principal of the tenant has the role of an operator, and the tenant has at least one of its own.",
        remedy: "Give operators credentials of their own, which reach no tenant's data.",
        references: &[
            nist("ac-6"),
            iso("A.5.3"),
            gdpr("32(4)"),
            dora("RTS 2024/1774 art. 20"),
            pci("7.2.2"),
            soc2("CC6.3"),
        ],
        query: least,
    },
    Check {
        id: "access-age",
        theme: Theme::Access,
        title: "No credential is older than a year",
        objective: "Every principal's credential was issued at most 365 days before the facts were taken.",
        remedy: "Issue a new credential and withdraw the old one.",
        references: &[
            nist("ia-5"),
            iso("A.5.17"),
            dora("RTS 2024/1774 art. 21"),
            pci("8.3.9"),
            soc2("CC6.1"),
        ],
        query: age,
    },
    Check {
        id: "access-dual",
        theme: Theme::Access,
        title: "Destroying data takes two people",
        objective: "No deletion that cannot be taken back is possible with the credentials of one person.",
        remedy: "Require a second person for what cannot be taken back.",
        references: &[
            nist("cp-9.7"),
            iso("A.5.3"),
            gdpr("32(1)(b)"),
            dora("12(2)"),
            pci("3.7.6"),
            soc2("CC6.3"),
        ],
        query: dual,
    },
    Check {
        id: "access-denied",
        theme: Theme::Access,
        title: "Refusals are in the log, and name who was refused",
        objective: "Every call of the period that was refused left a leaf that names its caller, or says that nobody could be \
            identified; none of the refused callers had the same call granted later.",
        remedy: "Look at the leaves that are named; a grant after refusals may be a guess that came true.",
        references: &[
            nist("ac-6.9"),
            iso("A.8.15"),
            gdpr("33(5)"),
            nis2("CIR 2024/2690 annex 3.2"),
            pci("10.2.1.4"),
            soc2("CC7.2"),
        ],
        query: denied,
    },
    Check {
        id: "separate-log",
        theme: Theme::Access,
        title: "The tenant's log holds this tenant's events only",
        objective: "Every leaf of the log is about this tenant; no event of another one is in it.",
        remedy: "Ask the provider how an event of another tenant came into this log.",
        references: &[nist("sc-4"), iso("A.8.22"), gdpr("28(1)"), dora("28"), pci("A1.1.1"), soc2("CC6.1")],
        query: separate,
    },
];

fn granted(event: &LogEvent) -> bool {
    event.outcome == "done" || event.outcome == "intent"
}

fn known(material: &Material) -> Answer {
    let own: BTreeSet<&str> = material.facts.facts.principals.iter().map(|one| one.id.as_str()).collect();
    let calls = material.log.within(material.period).filter(|event| granted(event));
    let strange =
        calls.clone().filter(|event| !own.contains(event.actor.as_str()) && event.actor != NO_PRINCIPAL[0]);
    let bad: Vec<String> = strange
        .map(|event| format!("leaf {}: {} by {}", event.index, event.operation, event.actor))
        .collect();
    let good = format!(
        "{} leaves of granted calls, all by {} of the tenant or by jobs",
        calls.count(),
        counted(own.len(), "principal")
    );
    Answer::unless(&bad, good, vec![Evidence::Facts, Evidence::Log])
}

fn least(material: &Material) -> Answer {
    let principals = &material.facts.facts.principals;
    let mut bad: Vec<String> = principals
        .iter()
        .filter(|one| one.role != "tenant")
        .map(|one| format!("{} has the role {:?}", one.id, one.role))
        .collect();
    if principals.is_empty() {
        bad.push("the tenant has no principal".to_owned());
    }
    let good = format!("{}, none of them an operator", counted(principals.len(), "principal"));
    Answer::unless(&bad, good, vec![Evidence::Facts])
}

fn age(material: &Material) -> Answer {
    let now = material.now().0;
    let days = |created: u64| now.saturating_sub(created) / DAY_NS;
    let old = material.facts.facts.principals.iter().filter_map(|one| {
        let days = days(one.created.timestamp()?.0);
        (days > CREDENTIAL_DAYS).then(|| format!("{}: {days} days", one.id))
    });
    let bad: Vec<String> = old.collect();
    Answer::unless(&bad, "no credential is older than 365 days", vec![Evidence::Facts])
}

fn dual(material: &Material) -> Answer {
    let deletion = &material.facts.facts.deletion;
    let met = if deletion.erases { deletion.people_needed >= 2 } else { deletion.reversible };
    let good = if deletion.erases {
        format!("what cannot be taken back takes {} people", deletion.people_needed)
    } else {
        "a deletion hides and can be taken back; this version erases nothing".to_owned()
    };
    let bad = format!(
        "one deletion takes {} people, and is {}reversible",
        deletion.people_needed,
        if deletion.reversible { "" } else { "not " }
    );
    Answer::when(met, good, bad, vec![Evidence::Facts])
}

fn denied(material: &Material) -> Answer {
    let events: Vec<&LogEvent> = material.log.within(material.period).collect();
    let mut bad = Vec::new();
    let mut refused: BTreeSet<(&str, &str, &str)> = BTreeSet::new();
    let mut count = 0_u64;
    for event in events {
        let call = (event.actor.as_str(), event.operation.as_str(), event.subject.as_str());
        if event.outcome == "denied" {
            count += 1;
            refused.insert(call);
            if event.actor.is_empty() {
                bad.push(format!("leaf {} names no caller", event.index));
            }
        } else if event.outcome == "done" && refused.contains(&call) {
            bad.push(format!("leaf {}: {} was granted to {} after a refusal", event.index, call.1, call.0));
        }
    }
    let good = format!("{count} refusals in the period, each with its caller");
    Answer::unless(&bad, good, vec![Evidence::Log])
}

fn separate(material: &Material) -> Answer {
    let own = &material.facts.facts.tenant.id;
    let foreign = material.log.events.iter().filter(|event| event.account != *own);
    let bad: Vec<String> = foreign
        .map(|event| {
            let whose = if event.account.is_empty() { "nobody" } else { event.account.as_str() };
            format!("leaf {} is about {whose}", event.index)
        })
        .collect();
    let good = format!("all {} leaves are about this tenant", material.log.events.len());
    Answer::unless(&bad, good, vec![Evidence::Log])
}
