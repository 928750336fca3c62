//! Where the data lies.

use coffer_model::Day;

use super::super::check::{Answer, Check, Evidence, Theme};
use super::super::dwelling::{Dwelling, dwellings};
use super::super::mapping::{dora, gdpr, iso, nis2, nist, pci, soc2};
use super::super::material::Material;

pub(super) static CHECKS: [Check; 6] = [
    Check {
        id: "place-policy",
        theme: Theme::Residency,
        title: "Every bucket says where its bytes may lie",
        objective: "For every bucket the jurisdictions are named in which its bytes may lie; nowhere is \"anywhere\" the answer.",
        remedy: "Name the jurisdictions: `coffer bucket policy set BUCKET --allow EU`.",
        references: &[nist("sa-9.5"), iso("A.5.23"), gdpr("28(3)(a), 44"), dora("30(2)(b)"), soc2("CC6.1")],
        query: policy,
    },
    Check {
        id: "place-inside",
        theme: Theme::Residency,
        title: "Nothing lies outside",
        objective: "No record of any version lies at a site that the policy of its bucket does not admit.",
        remedy: "Run a repair, which moves what must move and removes it there: `coffer repair run`.",
        references: &[nist("sa-9.5"), iso("A.5.34"), gdpr("44-49"), dora("30(2)(b)"), soc2("CC6.1")],
        query: inside,
    },
    Check {
        id: "place-tidy",
        theme: Theme::Residency,
        title: "Nothing is left over from a move",
        objective: "No record lies at a site where the layout of its version no longer wants it.",
        remedy: "Run a repair; if a site is silent, wait for it or retire it.",
        references: &[nist("mp-6"), iso("A.8.10"), gdpr("5(1)(e)"), soc2("CC6.5")],
        query: tidy,
    },
    Check {
        id: "place-history",
        theme: Theme::Residency,
        title: "Every version lies where it may, one by one",
        objective: "The list of all versions was read, and for each one every site of its layout is admitted by its bucket's policy.",
        remedy: "Make the report with --residency, so that the list is read; move what lies outside with a repair.",
        references: &[nist("sa-9.5"), iso("A.5.31"), gdpr("30(1)(e), 44"), dora("28(3)"), soc2("CC6.1")],
        query: history,
    },
    Check {
        id: "place-tiers",
        theme: Theme::Residency,
        title: "Sites are of the tier that was promised",
        objective: "Every bucket has at least as many admitted sites, each of the promised tier, as its geometry needs.",
        remedy: "Add sites of that tier: `coffer site add --help`.",
        references: &[
            nist("pe-11"),
            iso("A.7.5"),
            dora("RTS 2024/1774 art. 18"),
            nis2("CIR 2024/2690 annex 13"),
            soc2("A1.2"),
        ],
        query: tiers,
    },
    Check {
        id: "place-certified",
        theme: Theme::Residency,
        title: "Tiers are certified, and the certificates have not expired",
        objective: "For every site in use an operator declared a certificate of its building's tier, with issuer and number, that \
            is valid when the facts are taken.",
        remedy: "Declare the certificates of the sites: `coffer site certify --help`; until then the tier is a claim. Ask the issuer \
            whether the numbers are right.",
        references: &[
            nist("pe-23"),
            iso("A.7.5"),
            dora("28(6)"),
            nis2("CIR 2024/2690 annex 13"),
            pci("9.4.1.2"),
            soc2("CC9.2"),
        ],
        query: certified,
    },
];

fn policy(material: &Material) -> Answer {
    let open = material.facts.facts.buckets.iter().filter(|bucket| bucket.policy.allow.is_empty());
    let bad: Vec<String> =
        open.map(|bucket| format!("bucket {} may lie {}", bucket.name, bucket.policy.text())).collect();
    let good = format!("all {} buckets name their jurisdictions", material.facts.facts.buckets.len());
    Answer::unless(&bad, good, vec![Evidence::Facts])
}

fn inside(material: &Material) -> Answer {
    let facts = &material.facts.facts;
    let out = facts.buckets.iter().filter(|bucket| bucket.sums.outside > 0);
    let mut bad: Vec<String> =
        out.map(|bucket| format!("bucket {}: {} versions", bucket.name, bucket.sums.outside)).collect();
    let named: u64 = facts.buckets.iter().map(|bucket| bucket.sums.outside).sum();
    if facts.versions.outside > named {
        bad.push(format!("{} versions of removed buckets", facts.versions.outside - named));
    }
    let places: Vec<&str> = facts.versions.countries.keys().map(String::as_str).collect();
    let good = format!(
        "all {} versions lie inside; something lies in {}",
        facts.versions.versions,
        places.join(", ")
    );
    Answer::unless(&bad, good, vec![Evidence::Facts])
}

fn tidy(material: &Material) -> Answer {
    let stray = material.facts.facts.versions.out_of_place;
    let bad = format!("{stray} records lie where they are no longer wanted");
    Answer::when(stray == 0, "no record lies where it is no longer wanted", bad, vec![Evidence::Facts])
}

fn history(material: &Material) -> Answer {
    let Some(items) = &material.residency else {
        let bad = "the list of versions was not read for this report";
        return Answer::when(false, "", bad, vec![Evidence::Facts]);
    };
    let out = items.iter().filter(|item| !item.inside);
    let mut bad: Vec<String> =
        out.map(|item| format!("version {} lies in {}", item.version, item.countries.join(", "))).collect();
    let wanted = material.facts.facts.versions.versions;
    let read = u64::try_from(items.len()).unwrap_or(u64::MAX);
    if read < wanted {
        bad.push(format!("only {read} of {wanted} versions were listed"));
    }
    let objects = dwellings(material).unwrap_or_default();
    bad.extend(objects.iter().filter(|object| !object.doubt.is_empty()).map(Dwelling::sentence));
    let always = objects.iter().filter(|object| object.always()).count();
    let good = format!(
        "all {read} versions lie inside; {always} of {} objects never lay in another country since their first version",
        objects.len()
    );
    Answer::unless(&bad, good, vec![Evidence::Residency, Evidence::Facts])
}

fn tiers(material: &Material) -> Answer {
    let facts = &material.facts.facts;
    let few = facts.buckets.iter().filter_map(|bucket| {
        let admitted = facts.sites_now().filter(|site| bucket.policy.admits(site)).count();
        let needed = bucket.policy.data + bucket.policy.parity;
        (admitted < needed).then(|| {
            let tier = bucket.policy.tier_min;
            format!("bucket {}: {admitted} sites of tier {tier} are admitted, {needed} needed", bucket.name)
        })
    });
    let bad: Vec<String> = few.collect();
    Answer::unless(&bad, "every bucket has enough sites of its tier", vec![Evidence::Facts])
}

fn certified(material: &Material) -> Answer {
    let today = Day::of(material.now());
    let bad: Vec<String> = material
        .facts
        .facts
        .sites_now()
        .filter_map(|site| match &site.tier_certificate {
            None => Some(format!("{}: no certificate of tier {} was declared", site.name, site.tier)),
            Some(one) if one.tier < site.tier => {
                Some(format!("{}: tier {} is certified, {} is claimed", site.name, one.tier, site.tier))
            }
            Some(one) if today < one.from => Some(format!("{}: valid from {} on", site.name, one.from)),
            Some(one) if one.until < today => Some(format!("{}: expired on {}", site.name, one.until)),
            Some(_) => None,
        })
        .collect();
    let good = "for every site in use an operator declared a certificate of its tier that has not expired";
    Answer::unless(&bad, good, vec![Evidence::Facts])
}
