//! Whether enough of the data lies there, whole and readable.

use std::collections::BTreeSet;

use super::super::check::{Answer, Check, Evidence, Theme};
use super::super::mapping::{dora, gdpr, iso, nis2, nist, pci, soc2};
use super::super::material::Material;

pub(super) static CHECKS: [Check; 7] = [
    Check {
        id: "whole-versions",
        theme: Theme::Integrity,
        title: "No version has less than was promised",
        objective: "Every version survives the loss of as many sites as its bucket promises, as it was found at the sites.",
        remedy: "See which they are with `coffer repair ls`, and run `coffer repair run`.",
        references: &[
            nist("cp-9"),
            iso("A.8.13"),
            gdpr("32(1)(b)"),
            dora("12(1)"),
            nis2("CIR 2024/2690 annex 4.2.2(b)"),
            soc2("A1.2"),
        ],
        query: whole,
    },
    Check {
        id: "spread-domains",
        theme: Theme::Integrity,
        title: "Copies are spread over places that do not fail together",
        objective: "For every bucket there are at least as many admitted failure domains as shards, in at least two countries or \
            at least two more domains than may be lost.",
        remedy: "Add sites in other failure domains inside the policy.",
        references: &[
            nist("cp-6.1"),
            iso("A.8.14"),
            gdpr("32(1)(b)"),
            dora("12(3)"),
            nis2("CIR 2024/2690 annex 4.2.2(c)"),
            soc2("A1.2"),
        ],
        query: spread,
    },
    Check {
        id: "spread-budget",
        theme: Theme::Integrity,
        title: "At least two sites may be lost",
        objective: "Every bucket is coded so that any two sites may be lost, and no write below that promise is accepted.",
        remedy: "Give the bucket two parity shards or more, and do not accept degraded writes.",
        references: &[nist("cp-6"), iso("A.8.14"), gdpr("32(1)(b)"), dora("12(1)"), soc2("A1.2")],
        query: budget,
    },
    Check {
        id: "sites-answer",
        theme: Theme::Integrity,
        title: "Every site answers and is believed",
        objective: "Every site in use answers, takes writes, and has not come back older than it was.",
        remedy: "See `coffer site ls`; bring the site back, or drain and replace it.",
        references: &[nist("cp-10"), iso("A.8.6"), gdpr("32(1)(b)"), dora("9(2)"), soc2("A1.2")],
        query: answers,
    },
    Check {
        id: "sites-undamaged",
        theme: Theme::Integrity,
        title: "No known damage is left",
        objective: "No record that is known to be wrong is left at any site.",
        remedy: "Run a repair: `coffer repair run`.",
        references: &[nist("si-7"), iso("A.8.13"), gdpr("5(1)(f)"), dora("12(2)"), soc2("PI1.5")],
        query: undamaged,
    },
    Check {
        id: "scrub-coverage",
        theme: Theme::Integrity,
        title: "Every byte was read and verified in time",
        objective: "At every site every byte was read and verified within the time that the service promises.",
        remedy: "Let the scrub run, or run it: `coffer scrub run`.",
        references: &[
            nist("cp-9.1"),
            iso("A.8.13"),
            gdpr("32(1)(d)"),
            dora("12(2)"),
            nis2("CIR 2024/2690 annex 4.2.3"),
            soc2("A1.2"),
        ],
        query: scrub,
    },
    Check {
        id: "possession",
        theme: Theme::Integrity,
        title: "Sites show that they hold what they were given",
        objective: "Every shard has questions that only its holder can answer, and no site answers as if it fetched the bytes from \
            elsewhere.",
        remedy: "Run `coffer scrub challenge`; look why a site answers later than it did.",
        references: &[
            nist("sa-9.7"),
            iso("A.5.22"),
            gdpr("28(3)(h)"),
            dora("12(2)"),
            pci("12.8.4"),
            soc2("CC9.2"),
        ],
        query: possession,
    },
];

fn whole(material: &Material) -> Answer {
    let sums = &material.facts.facts.versions;
    let good =
        format!("all {} versions survive the losses that they were promised to survive", sums.versions);
    let bad = format!("{} of {} versions survive fewer losses than was promised", sums.short, sums.versions);
    Answer::when(sums.short == 0, good, bad, vec![Evidence::Facts])
}

fn spread(material: &Material) -> Answer {
    let facts = &material.facts.facts;
    let narrow = facts.buckets.iter().filter_map(|bucket| {
        let admitted: Vec<_> = facts.sites_now().filter(|site| bucket.policy.admits(site)).collect();
        let domains = admitted.iter().map(|site| site.domain.as_str()).collect::<BTreeSet<_>>().len();
        let countries = admitted.iter().map(|site| site.country).collect::<BTreeSet<_>>().len();
        let needed = bucket.policy.data + bucket.policy.parity;
        let apart = countries >= 2 || domains >= needed + 2;
        (domains < needed || !apart).then(|| {
            format!("bucket {}: {domains} domains in {countries} countries for {needed} shards", bucket.name)
        })
    });
    let bad: Vec<String> = narrow.collect();
    let domains = facts.sites_now().map(|site| site.domain.as_str()).collect::<BTreeSet<_>>().len();
    let good = format!("{} sites in {domains} failure domains", facts.sites_now().count());
    Answer::unless(&bad, good, vec![Evidence::Facts])
}

fn budget(material: &Material) -> Answer {
    let weak =
        material.facts.facts.buckets.iter().filter(|b| b.policy.parity < 2 || b.policy.accept_degraded);
    let bad: Vec<String> = weak
        .map(|bucket| {
            let degraded = if bucket.policy.accept_degraded { ", and accepts less" } else { "" };
            format!("bucket {} survives {} sites{degraded}", bucket.name, bucket.policy.parity)
        })
        .collect();
    Answer::unless(&bad, "every bucket survives the loss of any two sites", vec![Evidence::Facts])
}

fn answers(material: &Material) -> Answer {
    let troubled = material.facts.facts.sites_now().filter_map(|site| {
        let why = match site {
            site if !site.answers => "does not answer",
            site if site.quarantined => "came back older than it was",
            site if site.read_only => "takes no writes",
            _ => return None,
        };
        Some(format!("{} {why}", site.name))
    });
    let bad: Vec<String> = troubled.collect();
    let good = format!("all {} sites answer", material.facts.facts.sites_now().count());
    Answer::unless(&bad, good, vec![Evidence::Facts])
}

fn undamaged(material: &Material) -> Answer {
    let hurt = material.facts.facts.sites_now().filter(|site| site.damaged > 0);
    let bad: Vec<String> = hurt.map(|site| format!("{}: {} records", site.name, site.damaged)).collect();
    Answer::unless(&bad, "no record is known to be wrong", vec![Evidence::Facts])
}

fn scrub(material: &Material) -> Answer {
    let facts = &material.facts.facts;
    let promised = facts.scrub.promised_seconds / 86_400;
    let mut bad: Vec<String> = Vec::new();
    for site in facts.sites_now() {
        match facts.scrub.sites.iter().find(|scrub| scrub.site == site.name) {
            Some(scrub) if scrub.kept => {}
            Some(scrub) => bad.push(match scrub.age_seconds {
                Some(age) => format!("{}: not since {} days", site.name, age / 86_400),
                None => format!("{}: no whole pass is known", site.name),
            }),
            None => bad.push(format!("{}: nothing is known", site.name)),
        }
    }
    let good = format!("every byte at every site was verified within {promised} days");
    Answer::unless(&bad, good, vec![Evidence::Facts])
}

fn possession(material: &Material) -> Answer {
    let scrub = &material.facts.facts.scrub;
    let late = scrub.sites.iter().filter(|site| site.delay == "later");
    let mut bad: Vec<String> = late.map(|site| format!("{} answers later than it did", site.site)).collect();
    if scrub.unchallenged_versions > 0 {
        bad.push(format!("{} versions have a shard that cannot be asked for", scrub.unchallenged_versions));
    }
    if !scrub.trouble.is_empty() {
        bad.push(format!("a background job failed: {}", scrub.trouble));
    }
    let good = format!("every shard can be asked for; {} questions are unasked", scrub.unasked_challenges);
    Answer::unless(&bad, good, vec![Evidence::Facts])
}
