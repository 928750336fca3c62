//! Checks a pack, item by item, and names each one that is wrong. What the
//! manifest says is checked first; then each item for itself, as if there were
//! no manifest, so that not even the holder of the key can make a pack whose
//! parts contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use coffer_keys::{
    STATEMENT_PAYLOAD_TYPE, VerifierName, WitnessPolicy, open_checkpoint, parse_canonical, verify_envelope,
};
use serde_json::Value;

use super::manifest::{self, MANIFEST, MANIFEST_SIGNATURE, Manifest, PACK_PREDICATE_TYPE};
use super::pack::{
    OSCAL, OSCAL_KIND, RESIDENCY, WITNESSES, is_oscal, key_pem, policies, reports, signature_path,
};
use super::{Files, TlogProof, read_record};
use crate::digits::sha256_hex;
use crate::report::{DrillItem, LogExtract, Material, Report, ResidencyItem, SOFTWARE_VERSION, verify_facts};

/// One item that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrong {
    /// Its path in the pack.
    pub item: String,
    /// What is wrong with it.
    pub what: String,
}

/// What a verification came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files that were looked at.
    pub files: usize,
    /// Leaves of the log.
    pub leaves: u64,
    /// Drill records.
    pub drills: usize,
    /// Leaves that note the plan of a drill that has no record: it was not
    /// carried out, or not to its end.
    pub planned_only: Vec<u64>,
    /// Names, in the policy, of the witnesses that cosigned the checkpoint.
    pub witnesses: Vec<String>,
    /// Whether the reports were made again and compared; not where another
    /// version of this program made them.
    pub remade: bool,
    /// The version of the program that made the pack, as its manifest says.
    pub software: String,
    /// What is wrong, in order of items.
    pub wrong: Vec<Wrong>,
}

impl Verified {
    /// Whether everything was checked, the reports included, and nothing is
    /// wrong.
    pub fn is_verified(&self) -> bool {
        self.wrong.is_empty() && self.remade
    }
}

struct Book(BTreeSet<Wrong>);

impl Book {
    fn note(&mut self, item: &str, what: impl ToString) {
        self.0.insert(Wrong { item: item.to_owned(), what: what.to_string() });
    }

    /// The value, or nothing and a note.
    fn take<T, E: ToString>(&mut self, item: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.note(item, error.to_string())).ok()
    }
}

/// Checks the signed manifest and the digests of a pack; `digests` holds size
/// and SHA-256 of every file in it.
pub fn verify_digests(
    manifest: Option<&[u8]>,
    signature: Option<&[u8]>,
    digests: &BTreeMap<String, (u64, String)>,
    signer: &VerifierName,
) -> (Option<Manifest>, Vec<Wrong>) {
    let mut book = Book(BTreeSet::new());
    let manifest = signed_manifest(&mut book, manifest, signature, signer);
    book.0.extend(manifest.iter().flat_map(|manifest| differing(manifest, digests)));
    (manifest, book.0.into_iter().collect())
}

/// The files that are not what the manifest says.
pub fn differing(manifest: &Manifest, digests: &BTreeMap<String, (u64, String)>) -> Vec<Wrong> {
    let mut book = Book(BTreeSet::new());
    let listed: BTreeSet<&str> = manifest.files.iter().map(|entry| entry.path.as_str()).collect();
    for entry in &manifest.files {
        match digests.get(&entry.path) {
            None => book.note(&entry.path, "is missing"),
            Some((bytes, _)) if *bytes != entry.bytes => book.note(&entry.path, "has another size"),
            Some((_, digest)) if *digest != entry.sha256 => book.note(&entry.path, "has another content"),
            Some(_) => {}
        }
    }
    let others = digests.keys().filter(|path| ![MANIFEST, MANIFEST_SIGNATURE].contains(&path.as_str()));
    for path in others.filter(|path| !listed.contains(path.as_str())) {
        book.note(path, "is not in the manifest");
    }
    book.0.into_iter().collect()
}

fn signed_manifest(
    book: &mut Book,
    bytes: Option<&[u8]>,
    signature: Option<&[u8]>,
    signer: &VerifierName,
) -> Option<Manifest> {
    let Some(bytes) = bytes else {
        book.note(MANIFEST, "is missing");
        return None;
    };
    let manifest = book.take(MANIFEST, Manifest::parse(bytes));
    let Some(signature) = signature else {
        book.note(MANIFEST_SIGNATURE, "is missing");
        return manifest;
    };
    let statement = verify_envelope(signature, &signer.key, &signer.name, STATEMENT_PAYLOAD_TYPE);
    let statement = book.take(MANIFEST_SIGNATURE, statement)?;
    if statement.get("predicateType").and_then(Value::as_str) != Some(PACK_PREDICATE_TYPE) {
        book.note(MANIFEST_SIGNATURE, "signs something else than a pack");
    } else if manifest.as_ref().is_some_and(|m| statement != manifest::statement(bytes, &m.tenant)) {
        book.note(MANIFEST, "is not the manifest that was signed");
    }
    manifest
}

/// Checks everything. `signer` is the key that the verifier knows from
/// elsewhere: one out of the pack would prove nothing. So are the witnesses
/// of a policy, whose quorum must have cosigned the pack's checkpoint.
pub fn verify_pack(files: &Files, signer: &VerifierName, witnesses: Option<&WitnessPolicy>) -> Verified {
    let size = |bytes: &Vec<u8>| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let digests =
        files.iter().map(|(path, bytes)| (path.clone(), (size(bytes), sha256_hex(bytes)))).collect();
    let part = |path: &str| files.get(path).map(Vec::as_slice);
    let (manifest, wrong) = verify_digests(part(MANIFEST), part(MANIFEST_SIGNATURE), &digests, signer);
    let mut book = Book(wrong.into_iter().collect());
    let mut verified = Verified { files: files.len(), ..Verified::default() };
    let pack = Pack { files, signer };
    pack.keys(&mut book);
    let tenant = manifest.as_ref().map(|manifest| manifest.tenant.as_str());
    pack.signatures(&mut book, tenant);
    let log = pack.log(&mut book);
    if let (Some(log), Some(tenant)) = (&log, tenant)
        && log.checkpoint.origin != format!("{}/log/{tenant}", signer.name)
    {
        book.note("log/checkpoint", "is of another log than that of the manifest's tenant");
    }
    if let (Some(log), Some(policy)) = (&log, witnesses) {
        verified.witnesses = book.take("log/checkpoint", policy.check(signer, &log.note)).unwrap_or_default();
    }
    if let Some(log) = &log {
        verified.leaves = log.checkpoint.size;
        pack.proofs(&mut book, log);
    }
    let drills = pack.drills(&mut book, tenant);
    verified.drills = drills.len();
    if let Some(log) = &log {
        for event in log.signed_elsewhere(&drills) {
            let item = format!("drills: leaf {}", event.index);
            book.note(&item, "signs the record of a drill that is not in the pack");
        }
        verified.planned_only = log.planned_only(&drills).map(|event| event.index).collect();
    }
    verified.software = manifest.as_ref().map(|manifest| manifest.software.clone()).unwrap_or_default();
    if let (Some(manifest), Some(log)) = (manifest, log) {
        verified.remade = pack.remade(&mut book, (&manifest, witnesses), log, drills);
    }
    verified.wrong = book.0.into_iter().collect();
    verified
}

/// One key signs for all tenants of a deployment.
const OTHER_TENANT: &str = "is signed, and not about the tenant of the manifest";

struct Pack<'a> {
    files: &'a Files,
    signer: &'a VerifierName,
}

impl Pack<'_> {
    fn text(&self, book: &mut Book, path: &str) -> Option<&str> {
        let Some(bytes) = self.files.get(path) else {
            book.note(path, "is missing");
            return None;
        };
        book.take(path, str::from_utf8(bytes))
    }

    fn keys(&self, book: &mut Book) {
        for (path, wanted) in [
            ("keys/evidence.vkey", format!("{}\n", self.signer)),
            ("keys/evidence.pem", key_pem(self.signer)),
        ] {
            if self.text(book, path).is_some_and(|text| text != wanted) {
                book.note(path, "is not the key that you know");
            }
        }
    }

    fn signatures(&self, book: &mut Book, tenant: Option<&str>) {
        for (path, bytes) in self.files.iter().filter(|(path, _)| is_oscal(path)) {
            let at = signature_path(path);
            let Some(envelope) = self.files.get(&at) else {
                book.note(&at, "is missing");
                continue;
            };
            let statement =
                verify_envelope(envelope, &self.signer.key, &self.signer.name, STATEMENT_PAYLOAD_TYPE);
            let Some(statement) = book.take(&at, statement) else { continue };
            if statement.get("predicateType").and_then(Value::as_str) != Some(OSCAL_KIND) {
                book.note(&at, "signs something else than an OSCAL file");
            }
            // Without a readable manifest nobody knows whose it should be; that is told of the manifest.
            let of = statement.pointer("/predicate/tenant").and_then(Value::as_str);
            if tenant.is_some() && of != tenant {
                book.note(&at, OTHER_TENANT);
            }
            let name = path.strip_prefix(OSCAL).unwrap_or(path);
            let subject = |pointer: &str| statement.pointer(pointer).and_then(Value::as_str);
            if subject("/subject/0/name") != Some(name) {
                book.note(&at, "signs another file");
            } else if subject("/subject/0/digest/sha256") != Some(sha256_hex(bytes).as_str()) {
                book.note(path, "is not what was signed");
            }
        }
    }

    fn log(&self, book: &mut Book) -> Option<LogExtract> {
        let note = self.text(book, "log/checkpoint")?.to_owned();
        let checkpoint = open_checkpoint(&note, &self.signer.name, &self.signer.key);
        let checkpoint = book.take("log/checkpoint", checkpoint)?;
        const LEAVES: &str = "log/leaves.jsonl";
        let text = self.text(book, LEAVES)?.as_bytes();
        let leaves: Vec<Vec<u8>> = text.split_inclusive(|byte| *byte == b'\n').map(trimmed).collect();
        if !text.is_empty() && !text.ends_with(b"\n") {
            book.note(LEAVES, "does not end with a line feed");
        }
        book.take(LEAVES, LogExtract::new(note, checkpoint, leaves))
    }

    fn proofs(&self, book: &mut Book, log: &LogExtract) {
        for path in self.files.keys().filter(|path| path.starts_with("log/proofs/")) {
            let Some(text) = self.text(book, path) else { continue };
            let Some(proof) = book.take(path, TlogProof::parse(text)) else { continue };
            if *path != format!("log/proofs/{}.tlog-proof", proof.index) {
                book.note(path, "proves another leaf than its name says");
            }
            match usize::try_from(proof.index).ok().and_then(|index| log.leaves.get(index)) {
                Some(leaf) => drop(book.take(path, proof.verify(leaf, self.signer))),
                None => book.note(path, "proves a leaf that is not in the pack"),
            }
        }
    }

    fn drills(&self, book: &mut Book, tenant: Option<&str>) -> Vec<DrillItem> {
        let mut drills = Vec::new();
        for (path, bytes) in self.files.iter().filter(|(path, _)| path.starts_with("drills/")) {
            let Some(item) = book.take(path, read_record(path, bytes.clone(), self.signer)) else { continue };
            if *path != format!("drills/{}.json", item.record.drill) {
                book.note(path, "is the record of another drill");
            }
            if tenant.is_some_and(|tenant| item.record.tenant != tenant) {
                book.note(path, OTHER_TENANT);
            }
            drills.push(item);
        }
        drills.sort_by_key(|drill| (drill.declared(), drill.record.drill.clone()));
        drills
    }

    /// The witnesses that the tenant named, as the pack says. Whoever brings a
    /// policy of witnesses knows them: then the pack may name no other.
    fn named_witnesses(&self, book: &mut Book, known: Option<&WitnessPolicy>) -> Vec<String> {
        let Some(bytes) = self.files.get(WITNESSES) else { return Vec::new() };
        let Some(text) = book.take(WITNESSES, str::from_utf8(bytes)) else { return Vec::new() };
        let named: Vec<String> = text.lines().map(str::to_owned).collect();
        let is_known = |key: &String| {
            known.is_none_or(|policy| policy.witnesses().iter().any(|one| one.key.to_string() == *key))
        };
        if !named.iter().all(is_known) {
            book.note(WITNESSES, "names a witness that your policy does not");
        }
        named
    }

    /// Makes the reports again from what they rest on, and compares.
    fn remade(
        &self,
        book: &mut Book,
        (manifest, known): (&Manifest, Option<&WitnessPolicy>),
        log: LogExtract,
        drills: Vec<DrillItem>,
    ) -> bool {
        const FACTS: &str = "facts/facts.dsse.json";
        let Some(envelope) = self.files.get(FACTS) else {
            book.note(FACTS, "is missing");
            return false;
        };
        let Some(facts) = book.take(FACTS, verify_facts(envelope, self.signer)) else { return false };
        if facts.facts.tenant.id != manifest.tenant {
            book.note(FACTS, "are about another tenant than the manifest");
        }
        if log.noted("facts_read", &facts.statement.to_string()).is_none() {
            book.note(FACTS, "are noted in no leaf of the log");
        }
        let residency = match self.files.get(RESIDENCY) {
            Some(bytes) => match book.take(RESIDENCY, read_residency(bytes)) {
                Some(items) => Some(items),
                None => return false,
            },
            None => None,
        };
        // Held against the auditor's own, whoever can make the reports.
        let witnesses = self.named_witnesses(book, known);
        let (Some(period), true) = (manifest.period(), manifest.software == SOFTWARE_VERSION) else {
            return false;
        };
        let facts_envelope = envelope.clone();
        let material = Material { period, facts, facts_envelope, log, drills, residency, witnesses };
        let mut made = reports(&Report::new(&material));
        let policies = coffer_keys::to_canonical(&policies(&material)).unwrap_or_default();
        made.insert("policy/policies.json".to_owned(), policies);
        for (path, bytes) in &made {
            match self.files.get(path) {
                Some(there) if there == bytes => {}
                Some(_) => book.note(path, "is not what follows from the evidence"),
                None => book.note(path, "is missing"),
            }
        }
        true
    }
}

fn trimmed(line: &[u8]) -> Vec<u8> {
    line.strip_suffix(b"\n").unwrap_or(line).to_vec()
}

fn read_residency(bytes: &[u8]) -> Result<Vec<ResidencyItem>, String> {
    let value = parse_canonical(bytes).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}
