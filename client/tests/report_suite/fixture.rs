//! A tenant on whose evidence every objective is satisfied, and the key that
//! signed it.

use std::collections::BTreeMap;

use coffer_client::drill::{
    Differences, DrillRecord, DrillRecordV2, Environment, Evidence, KeyEvidence, Manifests, Measured,
    NOT_PROVEN, NOT_PROVEN_V2, Objectives, PAYLOAD_TYPE, Phase, PlanNote, Prediction, Promise, RULE_ALL,
    Results, Scenario, ScenarioKind, Scope, Shares, Software, Subject, TimeAxis, Trigger, Verdicts,
};
use coffer_client::evidence::{Draft, Files, bill_of_materials, read_record};
use coffer_client::report::{LogExtract, Material, Period, ResidencyItem, verify_facts};
use coffer_keys::{
    Checkpoint, SigningKey, VerifierName, WitnessName, cosign, leaf_hash, root_of, sign_checkpoint,
    sign_statement, to_canonical,
};
use coffer_model::{Digest, Timestamp};
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub(crate) const NAME: &str = "coffer-test";
pub(crate) const TENANT: &str = "ten-01";
pub(crate) const PRINCIPAL: &str = "pri-01";
const ORIGIN: &str = "coffer-test/log/ten-01";
/// When the facts were taken, milliseconds since 1970.
pub(crate) const NOW_MS: u64 = 1_790_000_000_000;
const DAY_MS: u64 = 86_400_000;

pub(crate) fn key() -> SigningKey {
    SigningKey::danger_from_seed(Zeroizing::new([7; 32]))
}

pub(crate) fn signer() -> VerifierName {
    VerifierName { name: NAME.to_owned(), key: key().verifying_key() }
}

pub(crate) fn moment(ms: u64) -> Value {
    let time = Timestamp(ms * 1_000_000);
    json!({ "ns": time.0.to_string(), "utc": time.to_string() })
}

fn sums() -> Value {
    json!({
        "versions": 3, "hidden": 1, "bytes": 3000, "sealed_bytes": 3300, "short": 0, "out_of_place": 0,
        "outside": 0, "moved": 0, "countries": { "DE": 3, "FR": 2 },
    })
}

fn policy() -> Value {
    json!({ "allow": ["EU"], "deny": [], "tier_min": "III", "data": 4, "parity": 2, "accept_degraded": false })
}

fn site(number: usize) -> Value {
    let country = ["DE", "FR", "NL", "SE", "ES", "IT"][number % 6];
    json!({
        "id": format!("site-{number}"), "name": format!("s{number}"), "country": country,
        "domain": format!("d{number}"), "tier": "III", "tier_certificate": {
            "issuer": "Uptime Institute", "number": format!("T-{number}"), "tier": "III", "from": "2024-01-01",
            "until": "2030-01-01", "declared": moment(NOW_MS - 80 * DAY_MS), "declared_by": "pri-09",
        },
        "standing": "active", "simulated": true, "answers": true, "quarantined": false, "read_only": false,
        "records": 9, "volume_bytes": 900, "damaged": 0, "reported": 0,
    })
}

fn scrubbed(number: usize) -> Value {
    json!({
        "site": format!("s{number}"), "kept": true, "age_seconds": 7200, "last_ended": moment(NOW_MS - 7_200_000),
        "findings": 0, "bytes_total": 900, "at_risk": false, "delay": "as enrolled",
    })
}

/// Somebody else, who saw the log a day before the facts.
pub(crate) fn witness() -> (SigningKey, WitnessName) {
    let key = SigningKey::danger_from_seed(Zeroizing::new([9; 32]));
    let name = WitnessName { name: "witness.example/w1".to_owned(), key: key.verifying_key() };
    (key, name)
}

/// The first leaves of the good log, as the witness cosigned them.
pub(crate) fn witnessed(size: usize) -> String {
    let bytes: Vec<Vec<u8>> = leaves().iter().take(size).map(|leaf| to_canonical(leaf).unwrap()).collect();
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: size as u64, root: root(&bytes) };
    let note = sign_checkpoint(&key(), NAME, &checkpoint);
    let (key, name) = witness();
    let line = cosign(&note, &key, &name.name, (NOW_MS - DAY_MS) / 1000).unwrap();
    note + &line
}

/// The predicate of good facts; the log's figures are filled in later.
pub(crate) fn facts() -> Value {
    json!({
        "taken": moment(NOW_MS),
        "tenant": { "id": TENANT, "name": "demo <b>\"&'", "policy": policy() },
        "software": { "name": "coffer", "version": "0.1.0" },
        "log": { "origin": ORIGIN, "size": 0, "root": "" },
        "sites": (0..6).map(site).collect::<Vec<_>>(),
        "scrub": {
            "promised_seconds": 2_592_000, "sites": (0..6).map(scrubbed).collect::<Vec<_>>(),
            "unasked_challenges": 12, "unchallenged_versions": 0, "trouble": "",
        },
        "buckets": [{
            "id": "buc-01", "name": "documents", "created": moment(NOW_MS - 90 * DAY_MS), "policy": policy(),
            "sums": sums(),
        }],
        "keys": {
            "content": "C2SP chunked-encryption, Cobblestone-256", "wrap": "AES-256-GCM-SIV",
            "epochs": [
                { "id": "key-01", "epoch": 1, "created": moment(NOW_MS - 100 * DAY_MS), "versions": 0 },
                { "id": "key-02", "epoch": 2, "created": moment(NOW_MS - 10 * DAY_MS), "versions": 3 },
            ],
            "versions_under_no_epoch": 0,
        },
        "principals": [{ "id": PRINCIPAL, "role": "tenant", "created": moment(NOW_MS - 100 * DAY_MS) }],
        "operators": 1,
        "custody": { "kind": "quorum", "threshold": 3, "shares": 5 },
        "certificates": [{ "name": "authority", "until": moment(NOW_MS + 400 * DAY_MS) }],
        "witnessed": { "checkpoint": witnessed(3), "witnesses": [witness().1.to_string()] },
        "versions": sums(),
        "deletion": { "reversible": true, "erases": false, "people_needed": 1 },
    })
}

/// One leaf.
pub(crate) fn leaf(operation: &str, actor: &str, subject: &str, outcome: &str, ms: u64) -> Value {
    json!({
        "actor": { "user": { "uid": actor } },
        "api": { "operation": operation },
        "cloud": { "account": { "uid": TENANT } },
        "resources": [{ "uid": subject }],
        "status_detail": outcome,
        "time": ms,
    })
}

/// The leaves before the facts were taken. The source's manifest is noted by
/// the one at [`NOTE`].
pub(crate) fn leaves() -> Vec<Value> {
    let day = |days: u64| NOW_MS - days * DAY_MS;
    vec![
        leaf("tenant_create", "service", PRINCIPAL, "intent", day(100)),
        leaf("tenant_create", "service", PRINCIPAL, "done", day(100)),
        leaf("bucket_create", PRINCIPAL, "buc-01", "done", day(90)),
        leaf("object_put", PRINCIPAL, "ver-01", "intent", day(80)),
        leaf("object_put", PRINCIPAL, "ver-01", "done", day(80)),
        leaf("object_get", "anonymous", "", "denied", day(70)),
        leaf("digest_note", PRINCIPAL, &format!("manifest:{}", "ab".repeat(32)), "done", day(60)),
    ]
}

pub(crate) const NOTE: usize = 6;

pub(crate) fn record() -> DrillRecord {
    let objectives = Objectives { rto_seconds: 10, rpo_seconds: 30 };
    let measured = Measured { rta_ns: 3_000_000_000, rpa_ns: 20_000_000_000 };
    let differences = Differences::default();
    let declared = Timestamp((NOW_MS - 50 * DAY_MS) * 1_000_000);
    DrillRecord {
        drill: "0f".repeat(16),
        tenant: TENANT.to_owned(),
        scenario: "two sites, the catalogue and the key service burned".to_owned(),
        sites: 6,
        sites_lost: vec!["s0".to_owned(), "s1".to_owned()],
        objectives,
        measured,
        declared: declared.into(),
        finished: Timestamp(declared.0 + measured.rta_ns).into(),
        phases: vec![Phase { name: "restore".to_owned(), start_ns: 0, duration_ns: 3_000_000_000, bytes: 9 }],
        files: 1,
        bytes: 9,
        manifests: Manifests {
            source_sha256: "ab".repeat(32),
            restored_sha256: "ab".repeat(32),
            source_note_index: 6,
        },
        verdicts: Verdicts::of(&objectives, &measured, &differences),
        differences,
        evidence: Evidence { checkpoint_before: None, checkpoint_after: "note".to_owned() },
        shares: Shares { provider: vec![1, 3, 5], tenant: vec![2, 3, 4] },
        software: Software::this(),
        not_proven: NOT_PROVEN.map(str::to_owned).to_vec(),
    }
}

/// A record of the second version: two sites lost, all twelve objects back.
/// Its plan is noted by the leaf at [`NOTE`].
pub(crate) fn second() -> DrillRecordV2 {
    let declared = Timestamp((NOW_MS - 40 * DAY_MS) * 1_000_000);
    let measured = Measured { rta_ns: 3_000_000_000, rpa_ns: 20_000_000_000 };
    let list = "11".repeat(32);
    let mut record = DrillRecordV2 {
        drill: "2e".repeat(16),
        tenant: TENANT.to_owned(),
        plan: PlanNote { sha256: "ab".repeat(32), log_index: NOTE as u64 },
        trigger: Trigger::SelfChallenge,
        people: vec![],
        scenario: Scenario {
            kind: ScenarioKind::Sites,
            sites_lost: vec!["s0".to_owned(), "s1".to_owned()],
            places_lost: vec![],
            as_of: None,
        },
        scope: Scope {
            bucket: "documents".to_owned(),
            subject: Subject::Objects,
            snapshot: None,
            source_manifest_sha256: None,
            source_note_index: None,
            objects: 12,
            bytes: 120,
            population_sha256: "22".repeat(32),
            population: 12,
            rule: RULE_ALL.to_owned(),
            sample: 12,
            covered_before: 0,
            cosigner: None,
        },
        drawn: None,
        promise: Promise { rto_seconds: 10, rpo_seconds: 30, source: "a contract".to_owned() },
        environment: Environment { target: "memory".to_owned(), separation: vec![], max_rate: None },
        timeline: TimeAxis {
            clock: "a test's".to_owned(),
            declared: declared.into(),
            finished: Timestamp(declared.0 + measured.rta_ns).into(),
            phases: vec![Phase { name: "read".to_owned(), start_ns: 0, duration_ns: 9, bytes: 120 }],
        },
        results: Results {
            expected: 12,
            expected_bytes: 120,
            restored: 12,
            restored_bytes: 120,
            expected_sha256: list.clone(),
            restored_sha256: list,
            sites: 6,
            ..Results::default()
        },
        keys: KeyEvidence::default(),
        negative: vec![],
        predicted: Prediction { recoverable: 12, ..Prediction::default() },
        measured,
        deviations: vec![],
        verdicts: BTreeMap::new(),
        previous: None,
        trend: None,
        coverage: None,
        next_due: None,
        checkpoint_before: None,
        checkpoint_after: "note".to_owned(),
        software: Software::this(),
        not_proven: NOT_PROVEN_V2.map(str::to_owned).to_vec(),
    };
    record.verdicts = record.verdicts_of_numbers();
    record
}

/// The same with all six sites lost: nothing came back, as was foreseen.
pub(crate) fn all_lost() -> DrillRecordV2 {
    let mut record = second();
    record.drill = "3d".repeat(16);
    record.scenario.sites_lost = (0..6).map(|n| format!("s{n}")).collect();
    record.results.restored = 0;
    record.results.restored_bytes = 0;
    record.results.restored_sha256 = "33".repeat(32);
    record.results.unreadable = 12;
    record.results.failures = BTreeMap::from([("too few shards or copies".to_owned(), 12)]);
    record.predicted = Prediction { unrecoverable: 12, ..Prediction::default() };
    record.measured.rpa_ns = 0;
    record.verdicts = record.verdicts_of_numbers();
    record
}

/// What a case changes before anything is signed.
pub(crate) struct World {
    pub(crate) facts: Value,
    pub(crate) leaves: Vec<Value>,
    pub(crate) records: Vec<DrillRecord>,
    /// Records of the second version.
    pub(crate) seconds: Vec<DrillRecordV2>,
    pub(crate) residency: Option<Vec<ResidencyItem>>,
    /// The witnesses that the tenant names.
    pub(crate) witnesses: Vec<String>,
    /// Leave out the leaf that notes the facts, or the record.
    pub(crate) facts_noted: bool,
    pub(crate) records_noted: bool,
}

impl World {
    pub(crate) fn good() -> Self {
        let item = |n: u32| ResidencyItem {
            version: format!("ver-0{n}"),
            bucket: "buc-01".to_owned(),
            object: format!("obj-0{n}"),
            created: Timestamp(NOW_MS * 1_000_000 - u64::from(n)),
            revision: 0,
            hidden: n == 2,
            sites: vec!["s0".to_owned(), "s1".to_owned()],
            countries: vec!["DE".to_owned(), "FR".to_owned()],
            inside: true,
        };
        Self {
            facts: facts(),
            leaves: leaves(),
            records: vec![record()],
            seconds: vec![],
            residency: Some((0..3).map(item).collect()),
            witnesses: vec![witness().1.to_string()],
            facts_noted: true,
            records_noted: true,
        }
    }

    /// Signs everything as a service would, and reads it as a client does.
    pub(crate) fn material(mut self) -> Material {
        let mut items = Vec::new();
        let statements = self.records.iter().map(DrillRecord::to_statement);
        for statement in statements.chain(self.seconds.iter().map(DrillRecordV2::to_statement)) {
            let envelope = sign_statement(&key(), NAME, PAYLOAD_TYPE, &statement).unwrap();
            let digest = leaf_hash(&to_canonical(&statement).unwrap()).to_string();
            if self.records_noted {
                let at = NOW_MS - 49 * DAY_MS;
                self.leaves.push(leaf("drill_sign", PRINCIPAL, &digest, "done", at));
            }
            items.push(read_record("record", envelope, &signer()).unwrap());
        }
        let mut bytes: Vec<Vec<u8>> = self.leaves.iter().map(|leaf| to_canonical(leaf).unwrap()).collect();
        let root = root(&bytes);
        self.facts["log"]["size"] = json!(bytes.len());
        self.facts["log"]["root"] = json!(root.to_string());
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{ "name": ORIGIN, "digest": { "sha256": root.to_string() } }],
            "predicateType": "urn:coffer:facts:v2",
            "predicate": self.facts,
        });
        let envelope = sign_statement(&key(), NAME, PAYLOAD_TYPE, &statement).unwrap();
        let digest = leaf_hash(&to_canonical(&statement).unwrap()).to_string();
        if self.facts_noted {
            let noted = leaf("facts_read", PRINCIPAL, &digest, "done", NOW_MS);
            bytes.push(to_canonical(&noted).unwrap());
        }
        Material {
            period: Period {
                from: Timestamp((NOW_MS - 365 * DAY_MS) * 1_000_000),
                to: Timestamp(NOW_MS * 1_000_000),
            },
            facts: verify_facts(&envelope, &signer()).unwrap(),
            facts_envelope: envelope,
            log: extract(bytes),
            drills: items,
            residency: self.residency,
            witnesses: self.witnesses,
        }
    }
}

pub(crate) fn root(leaves: &[Vec<u8>]) -> Digest {
    root_of(&leaves.iter().map(|leaf| leaf_hash(leaf)).collect::<Vec<_>>())
}

/// The log of these leaves, with a checkpoint that was signed for them.
pub(crate) fn extract(leaves: Vec<Vec<u8>>) -> LogExtract {
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: leaves.len() as u64, root: root(&leaves) };
    let note = sign_checkpoint(&key(), NAME, &checkpoint);
    LogExtract::new(note, checkpoint, leaves).unwrap()
}

const LOCK: &str = "[[package]]\nname = \"coffer-cli\"\nversion = \"0.1.0\"\n";

/// A pack of this material, signed with the key of the fixture.
pub(crate) fn pack(material: &Material) -> Files {
    let bom = bill_of_materials(LOCK).unwrap();
    let mut draft = Draft::new(material, &signer(), "a certificate\n", bom).unwrap();
    let sign = |statement: &[u8]| {
        let value: Value = serde_json::from_slice(statement).unwrap();
        sign_statement(&key(), NAME, PAYLOAD_TYPE, &value).unwrap()
    };
    for (path, statement) in draft.to_sign().unwrap() {
        draft.signed(&path, sign(&statement));
    }
    let (manifest, statement) = draft.manifest().unwrap();
    let envelope = sign(&statement);
    draft.finish(manifest, envelope)
}
