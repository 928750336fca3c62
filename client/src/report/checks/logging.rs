//! The log itself.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_keys::{WitnessName, verify_cosignature};
use coffer_model::Timestamp;

use super::super::check::{Answer, Check, Evidence, Theme, listed};
use super::super::mapping::{dora, gdpr, iso, nis2, nist, pci, soc2};
use super::super::material::Material;

/// How far a leaf's time may lie before that of the leaf in front of it.
const BACK_MS: u64 = 300_000;
/// How long before the facts an intent may be without its outcome.
const UNDER_WAY_MS: u64 = 600_000;

/// Jobs whose steps each have an intent and one outcome for many.
const OWN_RHYTHM: [&str; 4] = ["repair", "scrub", "challenge", "sites"];

pub(super) static CHECKS: [Check; 7] = [
    Check {
        id: "log-facts",
        theme: Theme::Logging,
        title: "The facts of this report are in the log",
        objective: "The digest of the facts is a leaf of the log, and the log is a continuation of the one that the facts name.",
        remedy: "Take the facts anew; facts that are in no leaf may have been made for this report.",
        references: &[nist("au-10"), iso("A.5.28"), gdpr("5(2)"), dora("12(7)"), soc2("CC4.1")],
        query: facts,
    },
    Check {
        id: "log-whole",
        theme: Theme::Logging,
        title: "The log is whole from its first leaf on",
        objective: "Every leaf from the founding of the tenant to the signed checkpoint is there, in its place; the period is \
            covered.",
        remedy: "Compare the checkpoint with those that clients keep; a log that lost its past is no evidence.",
        references: &[
            nist("au-9.3"),
            iso("A.8.15"),
            gdpr("5(2)"),
            dora("RTS 2024/1774 art. 12"),
            nis2("CIR 2024/2690 annex 3.2"),
            pci("10.3.4"),
            soc2("CC7.2"),
        ],
        query: whole,
    },
    Check {
        id: "log-outcomes",
        theme: Theme::Logging,
        title: "Every intent has its outcome",
        objective: "Every call of the period that wrote an intent into the log before its effect also wrote one outcome, unless it \
            was under way when the facts were taken.",
        remedy: "See the leaves that are named: a crash that was not settled, or a call that hangs.",
        references: &[
            nist("au-12"),
            iso("A.8.15"),
            dora("RTS 2024/1774 art. 12"),
            pci("10.2.2"),
            soc2("CC7.2"),
        ],
        query: outcomes,
    },
    Check {
        id: "log-content",
        theme: Theme::Logging,
        title: "Every leaf says who, what, when, and with what end",
        objective: "Every leaf names its actor, operation, time and outcome.",
        remedy: "See the leaves that are named; a newer version of this program may read them.",
        references: &[nist("au-3"), iso("A.8.15"), gdpr("30"), pci("10.2.2"), soc2("CC7.2")],
        query: content,
    },
    Check {
        id: "log-time",
        theme: Theme::Logging,
        title: "Time in the log goes forward",
        objective: "No leaf is dated more than five minutes before the leaf in front of it, and none after the facts were taken by \
            more than that.",
        remedy: "Look at the clocks of the service's machines.",
        references: &[nist("au-8"), iso("A.8.17"), dora("RTS 2024/1774 art. 12"), pci("10.6"), soc2("CC7.2")],
        query: time,
    },
    Check {
        id: "log-privileged",
        theme: Theme::Logging,
        title: "Changes of what was promised are in the log",
        objective: "For every bucket there is a leaf of its creation; for every principal one of its making.",
        remedy: "Ask the provider how a bucket or principal came to be without a leaf.",
        references: &[
            nist("ac-6.9"),
            iso("A.8.15"),
            gdpr("30"),
            dora("RTS 2024/1774 art. 12"),
            pci("10.2.1.5"),
            soc2("CC6.2"),
        ],
        query: privileged,
    },
    Check {
        id: "log-witnessed",
        theme: Theme::Logging,
        title: "Somebody else saw the log, and saw the same",
        objective: "In the week before the facts a witness that the tenant itself names put its signature under a state of this \
            log, and the log here extends that state.",
        remedy: "Have witnesses that somebody else runs, name them to the service (`coffer serve --witnesses FILE`) and to the \
            report (`--witnesses FILE` or `--witness KEY`).",
        references: &[
            nist("au-9.2"),
            iso("A.5.28"),
            gdpr("5(2)"),
            dora("RTS 2024/1774 art. 12"),
            pci("10.3.3"),
            soc2("CC7.2"),
        ],
        query: witnessed,
    },
];

/// How long ago a witness may have seen the log.
const SEEN_SECONDS: u64 = 7 * 24 * 3600;

fn witnessed(material: &Material) -> Answer {
    let evidence = vec![Evidence::Facts, Evidence::Log];
    let no = |reason: &str| Answer::when(false, "", reason, vec![Evidence::Facts, Evidence::Log]);
    let Some(seen) = &material.facts.facts.witnessed else { return no("the facts name no witness") };
    let Some(note) = &seen.checkpoint else { return no("no witness was shown this log") };
    let now = material.now().0 / 1_000_000_000;
    if material.witnesses.is_empty() {
        return no(&format!(
            "the tenant names no witness; those that the service names ({}) may be the service itself",
            listed(&seen.witnesses)
        ));
    }
    let keys = material.witnesses.iter().filter_map(|key| key.parse::<WitnessName>().ok());
    let times = keys.filter_map(|key| Some((verify_cosignature(note, &key).ok()?, key.name)));
    let recent =
        |time: u64| time <= now.saturating_add(BACK_MS / 1000) && now.saturating_sub(time) <= SEEN_SECONDS;
    let names: Vec<String> = times.filter(|(time, _)| recent(*time)).map(|(_, name)| name).collect();
    let Some(size) = extended(material, note) else {
        return no("the log here does not extend the state that witnesses were shown");
    };
    let bad = "no witness that the tenant names cosigned a state of this log in the week before the facts";
    let good = format!("{} cosigned the first {size} leaves", names.join(", "));
    Answer::when(!names.is_empty(), good, bad, evidence)
}

/// The size of the state in a note, if the log begins with it.
fn extended(material: &Material, note: &str) -> Option<u64> {
    let log = &material.log;
    let mut lines = note.split('\n');
    let (origin, size, root) = (lines.next()?, lines.next()?.parse::<u64>().ok()?, lines.next()?);
    let leaves = log.leaves.get(..usize::try_from(size).ok()?)?;
    let hashes: Vec<_> = leaves.iter().map(|leaf| coffer_keys::leaf_hash(leaf)).collect();
    let own = STANDARD.encode(coffer_keys::root_of(&hashes).0);
    (origin == log.checkpoint.origin && root == own).then_some(size)
}

fn facts(material: &Material) -> Answer {
    let (log, stated) = (&material.log, &material.facts.facts.log);
    let digest = material.facts.statement.to_string();
    let size = usize::try_from(stated.size).unwrap_or(usize::MAX);
    let hashes: Option<Vec<_>> =
        log.leaves.get(..size).map(|leaves| leaves.iter().map(|leaf| coffer_keys::leaf_hash(leaf)).collect());
    let same = hashes.is_some_and(|hashes| coffer_keys::root_of(&hashes).to_string() == stated.root);
    let noted = log.noted("facts_read", &digest);
    let mut bad = Vec::new();
    if stated.origin != log.checkpoint.origin || !same {
        bad.push("the log is not a continuation of the one that the facts name".to_owned());
    }
    if noted.is_none() {
        bad.push("no leaf notes the digest of the facts".to_owned());
    }
    let mut evidence = vec![Evidence::Facts, Evidence::Log];
    let index = noted.map_or(0, |event| event.index);
    evidence.extend(noted.map(|event| Evidence::Leaf(event.index)));
    Answer::unless(&bad, format!("leaf {index} notes the facts"), evidence)
}

fn whole(material: &Material) -> Answer {
    let log = &material.log;
    let first = log.events.first();
    let founded = first.is_some_and(|event| event.operation == "tenant_create" && event.outcome == "intent");
    let good =
        format!("{} leaves from the founding of the tenant on, under one signed root", log.checkpoint.size);
    let bad = "the first leaf is not the founding of the tenant";
    Answer::when(founded, good, bad, vec![Evidence::Leaf(0), Evidence::Log])
}

fn outcomes(material: &Material) -> Answer {
    let mut open: Open<'_> = BTreeMap::new();
    let mut intents = 0_u64;
    for event in &material.log.events {
        if OWN_RHYTHM.contains(&event.operation.as_str()) {
            continue;
        }
        let call = (event.actor.as_str(), event.operation.as_str(), event.subject.as_str());
        match event.outcome.as_str() {
            "intent" => {
                intents += 1;
                open.entry(call).or_default().push((event.index, event.time_ms));
            }
            _ => settle(&mut open, call),
        }
    }
    let now = material.now().0 / 1_000_000;
    let mut late: Vec<(u64, u64)> = open.into_values().flatten().collect();
    late.retain(|(_, time)| {
        let in_period = material.period.holds(Timestamp(time.saturating_mul(1_000_000)));
        in_period && now.saturating_sub(*time) > UNDER_WAY_MS
    });
    late.sort_unstable();
    let bad: Vec<String> =
        late.iter().map(|(index, _)| format!("the intent of leaf {index} has no outcome")).collect();
    Answer::unless(&bad, format!("each of {intents} intents has its outcome"), vec![Evidence::Log])
}

/// Actor, operation and subject.
type Call<'a> = (&'a str, &'a str, &'a str);
/// Index and time of each intent that has no outcome yet.
type Open<'a> = BTreeMap<Call<'a>, Vec<(u64, u64)>>;

/// Takes the oldest open intent of a call away. What a crash left is settled
/// by a job of the service, under its own name, and by the same subject.
fn settle<'a>(open: &mut Open<'a>, call: Call<'a>) {
    let key = match open.get(&call) {
        Some(list) if !list.is_empty() => Some(call),
        _ if call.0 == "service" => {
            open.iter().find(|(key, list)| key.2 == call.2 && !list.is_empty()).map(|(key, _)| *key)
        }
        _ => None,
    };
    if let Some(list) = key.and_then(|key| open.get_mut(&key)) {
        list.remove(0);
    }
}

fn content(material: &Material) -> Answer {
    let empty = material.log.events.iter().filter(|event| {
        let known = matches!(event.outcome.as_str(), "intent" | "done" | "denied" | "failed" | "interrupted");
        event.actor.is_empty() || event.operation.is_empty() || event.time_ms == 0 || !known
    });
    let bad: Vec<String> = empty.map(|event| format!("leaf {} does not say all", event.index)).collect();
    let good = format!("all {} leaves name actor, operation, time and outcome", material.log.events.len());
    Answer::unless(&bad, good, vec![Evidence::Log])
}

fn time(material: &Material) -> Answer {
    let mut bad = Vec::new();
    let mut latest = 0;
    for event in &material.log.events {
        if event.time_ms.saturating_add(BACK_MS) < latest {
            bad.push(format!("leaf {} is dated before the one in front of it", event.index));
        }
        latest = latest.max(event.time_ms);
    }
    let taken = material.now().0 / 1_000_000;
    let facts = usize::try_from(material.facts.facts.log.size).unwrap_or(usize::MAX);
    let before = material.log.events.iter().take(facts);
    let ahead = before.filter(|event| event.time_ms > taken.saturating_add(BACK_MS));
    bad.extend(ahead.map(|event| format!("leaf {} is dated after the facts", event.index)));
    Answer::unless(&bad, "no leaf is dated before the one in front of it", vec![Evidence::Log])
}

fn privileged(material: &Material) -> Answer {
    let facts = &material.facts.facts;
    let made = |operation: &str, id: &str| {
        let mut events = material.log.events.iter();
        events.find(|event| event.operation == operation && event.subject == id && event.outcome == "done")
    };
    let (mut bad, mut evidence) = (Vec::new(), vec![Evidence::Facts]);
    for bucket in &facts.buckets {
        match made("bucket_create", &bucket.id) {
            Some(event) => evidence.push(Evidence::Leaf(event.index)),
            None => bad.push(format!("no leaf says that bucket {} was made", bucket.name)),
        }
    }
    for principal in &facts.principals {
        match made("tenant_create", &principal.id) {
            Some(event) => evidence.push(Evidence::Leaf(event.index)),
            None => bad.push(format!("no leaf says that principal {} was made", principal.id)),
        }
    }
    let good = format!(
        "{} buckets and {} principals, each with its leaf",
        facts.buckets.len(),
        facts.principals.len()
    );
    Answer::unless(&bad, good, evidence)
}
