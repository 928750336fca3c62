//! Data at rest and its keys.

use std::collections::BTreeSet;

use super::super::check::{Answer, Check, Evidence, Theme};
use super::super::mapping::{dora, gdpr, iso, nis2, nist, pci, soc2};
use super::super::material::Material;

/// The formats of sealed content that commit to their key.
const FORMATS: [&str; 1] = ["C2SP chunked-encryption, Cobblestone-256"];
/// The ciphers that keys may be wrapped with.
const WRAPS: [&str; 1] = ["AES-256-GCM-SIV"];

/// The longest that an epoch of a key is used, in days.
const EPOCH_DAYS: u64 = 365;
/// Versions that one epoch may wrap.
const EPOCH_WRAPS: u64 = 1 << 30;

/// Share holders that a quorum has at least.
const QUORUM: usize = 2;

const DAY_NS: u64 = 86_400_000_000_000;

pub(super) static CHECKS: [Check; 8] = [
    Check {
        id: "rest-sealed",
        theme: Theme::Sealing,
        title: "Every version is sealed under the tenant's own keys",
        objective: "Nothing of the tenant lies at a site unless it is sealed, and the key of every version is wrapped under a \
            key that is this tenant's alone.",
        remedy: "Find the versions whose wrapped key names no epoch; read them with their client's own key and write them anew.",
        references: &[
            nist("sc-28.1"),
            iso("A.8.24"),
            gdpr("32(1)(a)"),
            dora("RTS 2024/1774 art. 6(2)(a)"),
            nis2("CIR 2024/2690 annex 9"),
            pci("3.5.1"),
            soc2("CC6.1"),
        ],
        query: sealed,
    },
    Check {
        id: "rest-format",
        theme: Theme::Sealing,
        title: "Content is sealed in a published, committing format",
        objective: "Stored content is encrypted and authenticated in a format that others can read, and that opens under one \
            key only.",
        remedy: "Upgrade the service to a version that seals in a format of this list, and write the objects anew.",
        references: &[nist("sc-13"), iso("A.8.24"), gdpr("32(1)(a)"), pci("3.6.1"), soc2("CC6.1")],
        query: format,
    },
    Check {
        id: "keys-age",
        theme: Theme::Sealing,
        title: "No key is used for longer than a year",
        objective: "The key that new data is wrapped under is at most 365 days old, and its age is known.",
        remedy: "Rotate the tenant's key-encryption key.",
        references: &[
            nist("sc-12"),
            iso("A.8.24"),
            dora("RTS 2024/1774 art. 7"),
            nis2("CIR 2024/2690 annex 9.2"),
            pci("3.7.4"),
            soc2("CC6.1"),
        ],
        query: age,
    },
    Check {
        id: "keys-one-epoch",
        theme: Theme::Sealing,
        title: "Rotation has reached every version",
        objective: "No version is left under a key epoch older than the newest one.",
        remedy: "Let the rotation finish; it wraps keys anew and moves no data.",
        references: &[
            nist("sc-12"),
            iso("A.8.24"),
            dora("RTS 2024/1774 art. 7"),
            pci("3.7.5"),
            soc2("CC6.1"),
        ],
        query: one_epoch,
    },
    Check {
        id: "keys-limit",
        theme: Theme::Sealing,
        title: "No key wraps more than it may",
        objective: "Every key epoch stays below the number of wraps that its cipher was chosen for, 2^30.",
        remedy: "Rotate the tenant's key-encryption key before the limit.",
        references: &[nist("sc-12"), iso("A.8.24"), pci("3.7.4")],
        query: limit,
    },
    Check {
        id: "keys-quorum",
        theme: Theme::Sealing,
        title: "Keys come back from people, not from one machine",
        objective: "In the period a restoration that met all its objectives began without the key service: custodians of the \
            provider and people of the tenant, at least two of each, brought the keys back from their shares.",
        remedy: "Run a drill that begins with the people of both: `coffer drill run --scenario lost-host` or `provider-exit`.",
        references: &[
            nist("sc-12.1"),
            iso("A.5.29"),
            dora("RTS 2024/1774 art. 7"),
            nis2("CIR 2024/2690 annex 9.2"),
            pci("3.7.6"),
            soc2("A1.3"),
        ],
        query: quorum,
    },
    Check {
        id: "keys-custody",
        theme: Theme::Sealing,
        title: "No machine alone can open the deployment",
        objective: "When the service last started, people brought shares of the root key, and one share was not enough; no file of \
            its machine opened it.",
        remedy: "Start the service with the shares of a quorum: `coffer serve --custodian quorum --share FILE ...`.",
        references: &[
            nist("sc-12"),
            iso("A.8.24"),
            dora("RTS 2024/1774 art. 7"),
            nis2("CIR 2024/2690 annex 9.2"),
            pci("3.7.6"),
            soc2("CC6.1"),
        ],
        query: custody,
    },
    Check {
        id: "keys-certificates",
        theme: Theme::Sealing,
        title: "The certificates of TLS have not expired and will not soon",
        objective: "Every certificate of TLS that the service stands for is valid for thirty days more.",
        remedy: "Replace the certificate before it expires.",
        references: &[
            nist("sc-17"),
            iso("A.8.24"),
            dora("RTS 2024/1774 art. 7"),
            nis2("CIR 2024/2690 annex 9.2"),
            pci("4.2.1.1"),
        ],
        query: certificates,
    },
];

/// How long before its end a certificate is to be replaced.
const EXPIRY_DAYS: u64 = 30;

fn custody(material: &Material) -> Answer {
    let Some(custody) = &material.facts.facts.custody else {
        return Answer::when(false, "", "the facts do not say who keeps the root key", vec![Evidence::Facts]);
    };
    let said =
        format!("opened by {}; {} of {} shares open it", custody.kind, custody.threshold, custody.shares);
    let met = custody.kind == "quorum" && usize::from(custody.threshold) >= QUORUM;
    Answer::when(met, said.clone(), said, vec![Evidence::Facts])
}

fn certificates(material: &Material) -> Answer {
    let all = &material.facts.facts.certificates;
    let limit = material.now().0.saturating_add(EXPIRY_DAYS * DAY_NS);
    let mut bad: Vec<String> = all
        .iter()
        .filter_map(|one| match one.until.as_ref().and_then(|until| until.timestamp()) {
            None => Some(format!("{}: until when it is valid is not known", one.name)),
            Some(until) if until.0 < limit => Some(format!("{}: valid until {until}", one.name)),
            Some(_) => None,
        })
        .collect();
    if all.is_empty() {
        bad.push("the facts name no certificate".to_owned());
    }
    Answer::unless(&bad, "every certificate is valid for thirty days more", vec![Evidence::Facts])
}

fn sealed(material: &Material) -> Answer {
    let keys = &material.facts.facts.keys;
    let wrapped = keys.epochs.iter().map(|epoch| epoch.versions).fold(0_u64, u64::saturating_add);
    let versions = material.facts.facts.versions.versions;
    Answer::when(
        keys.versions_under_no_epoch == 0 && wrapped == versions,
        format!("all {versions} versions are wrapped under an epoch of this tenant"),
        format!(
            "of {versions} versions {wrapped} are wrapped under an epoch of this tenant, and {} under none",
            keys.versions_under_no_epoch
        ),
        vec![Evidence::Facts],
    )
}

fn format(material: &Material) -> Answer {
    let keys = &material.facts.facts.keys;
    let good = FORMATS.contains(&keys.content.as_str()) && WRAPS.contains(&keys.wrap.as_str());
    let said = format!("content in {:?}, keys wrapped with {:?}", keys.content, keys.wrap);
    let bad = format!("{said}: not on the list of this program");
    Answer::when(good, said, bad, vec![Evidence::Facts])
}

fn age(material: &Material) -> Answer {
    let evidence = vec![Evidence::Facts, Evidence::Leaf(0)];
    let newest = material.facts.facts.keys.epochs.last();
    let created = newest.and_then(|epoch| epoch.created.as_ref()).and_then(|moment| moment.timestamp());
    let Some(created) = created else {
        return Answer::when(false, "", "the age of the newest key epoch is not known", evidence);
    };
    let days = material.now().0.saturating_sub(created.0) / DAY_NS;
    let said = format!("the newest key epoch is {days} days old; at most {EPOCH_DAYS} are allowed");
    let met = days <= EPOCH_DAYS && created <= material.now();
    Answer::when(met, said.clone(), said, evidence)
}

fn one_epoch(material: &Material) -> Answer {
    let epochs = &material.facts.facts.keys.epochs;
    let Some((newest, older)) = epochs.split_last() else {
        return Answer::when(false, "", "the tenant has no key epoch", vec![Evidence::Facts]);
    };
    let late = older.iter().filter(|epoch| epoch.versions > 0);
    let bad: Vec<String> =
        late.map(|epoch| format!("{} versions are under epoch {}", epoch.versions, epoch.epoch)).collect();
    let good = format!("every version is under epoch {}, the newest", newest.epoch);
    Answer::unless(&bad, good, vec![Evidence::Facts])
}

fn limit(material: &Material) -> Answer {
    let over = material.facts.facts.keys.epochs.iter().filter(|epoch| epoch.versions >= EPOCH_WRAPS);
    let bad: Vec<String> =
        over.map(|epoch| format!("epoch {} wraps {} keys", epoch.epoch, epoch.versions)).collect();
    Answer::unless(&bad, "every epoch wraps fewer than 2^30 keys", vec![Evidence::Facts])
}

fn quorum(material: &Material) -> Answer {
    let with_people = material.drills().rfind(|drill| {
        let shares = &drill.record.shares;
        let enough = |of: &[u64]| of.iter().collect::<BTreeSet<_>>().len() >= QUORUM;
        drill.is_satisfied() && enough(&shares.provider) && enough(&shares.tenant)
    });
    match with_people {
        Some(drill) => {
            let shares = &drill.record.shares;
            let said = format!(
                "on {} {} custodians of the provider and {} people of the tenant brought the keys back",
                drill.record.declared.utc(),
                shares.provider.len(),
                shares.tenant.len()
            );
            Answer::when(true, said, "", vec![Evidence::Drill(drill.record.drill.clone())])
        }
        None => {
            let said =
                "no satisfied drill of the period began with shares of both the provider and the tenant";
            Answer::when(false, "", said, vec![Evidence::Log])
        }
    }
}
