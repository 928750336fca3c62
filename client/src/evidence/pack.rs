//! How a pack is put together: everything that can be made without the service
//! first, then its signatures, then the manifest over all of it.

use coffer_keys::{CanonicalError, TILE_WIDTH, Tiles, VerifierName, leaf_hash, to_canonical};
use serde_json::{Value, json};

use super::manifest::{self, MANIFEST, MANIFEST_SIGNATURE, Manifest};
use super::{Files, TlogProof, readme};
use crate::report::{Evidence, Material, OSCAL_PREDICATE_TYPE, Report, ResidencyItem, signing_statement};

/// Why a pack was not made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Something of it has no canonical form.
    #[error("a part of the pack has no canonical form: {0}")]
    Form(#[from] CanonicalError),
    /// A leaf that a finding rests on cannot be proven.
    #[error("leaf {0}, on which a finding rests, is not in the log")]
    Leaf(u64),
}

/// A pack that is not signed yet.
pub struct Draft {
    files: Files,
    tenant: String,
    period: crate::report::Period,
}

/// Where OSCAL files lie.
pub(super) const OSCAL: &str = "reports/oscal/";
/// Where the witnesses are kept that the tenant names, a key a line.
pub(super) const WITNESSES: &str = "policy/witnesses.txt";
/// Where it is kept where each version lies.
pub(super) const RESIDENCY: &str = "residency/versions.json";

/// Where the signature over a file lies.
pub fn signature_path(path: &str) -> String {
    format!("{}.dsse.json", path.strip_suffix(".json").unwrap_or(path))
}

/// The public key in the form that openssl and trestle read: an Ed25519 key's
/// SubjectPublicKeyInfo (RFC 8410) is this head and its 32 bytes.
pub(super) fn key_pem(signer: &VerifierName) -> String {
    use base64::Engine as _;
    const HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = [HEAD.as_slice(), &signer.key.0].concat();
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

/// The reports of a pack, which follow from its material: made again by
/// whoever verifies it.
pub(super) fn reports(report: &Report<'_>) -> Files {
    let mut files = Files::new();
    files.insert("reports/report.html".to_owned(), report.html(true).into_bytes());
    files.insert("reports/findings.csv".to_owned(), report.csv().into_bytes());
    files.insert("reports/report.pdf".to_owned(), report.pdf());
    if let Some(table) = report.residency_csv() {
        files.insert("reports/residency.csv".to_owned(), table.into_bytes());
    }
    if let Some(table) = report.dwelling_csv() {
        files.insert("reports/objects.csv".to_owned(), table.into_bytes());
    }
    for (name, bytes) in report.oscal().files {
        files.insert(format!("{OSCAL}{name}"), bytes);
    }
    files
}

/// The policies of tenant and buckets, as one file.
pub(super) fn policies(material: &Material) -> Value {
    let facts = &material.facts.facts;
    let buckets: Vec<Value> = facts
        .buckets
        .iter()
        .map(|bucket| json!({ "bucket": bucket.name, "id": bucket.id, "policy": bucket.policy.text() }))
        .collect();
    json!({ "tenant": facts.tenant.id, "policy": facts.tenant.policy.text(), "buckets": buckets })
}

impl Draft {
    /// Everything but signatures. `bom` is a bill of materials, CycloneDX.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn new(
        material: &Material,
        signer: &VerifierName,
        ca_pem: &str,
        bom: Vec<u8>,
    ) -> Result<Self, PackError> {
        let report = Report::new(material);
        let mut files = reports(&report);
        let mut put = |path: &str, bytes: Vec<u8>| files.insert(path.to_owned(), bytes);
        put("facts/facts.dsse.json", material.facts_envelope.clone());
        put("keys/evidence.vkey", format!("{signer}\n").into_bytes());
        put("keys/evidence.pem", key_pem(signer).into_bytes());
        put("keys/ca.pem", ca_pem.as_bytes().to_vec());
        put("log/checkpoint", material.log.note.clone().into_bytes());
        put("log/leaves.jsonl", lines(&material.log.leaves));
        put("policy/policies.json", to_canonical(&policies(material))?);
        put("sbom/coffer.cdx.json", bom);
        for drill in &material.drills {
            put(&Evidence::Drill(drill.record.drill.clone()).path(), drill.envelope.clone());
        }
        if !material.witnesses.is_empty() {
            let keys = material.witnesses.iter().fold(String::new(), |text, key| format!("{text}{key}\n"));
            put(WITNESSES, keys.into_bytes());
        }
        if let Some(items) = &material.residency {
            put(RESIDENCY, residency_bytes(items)?);
        }
        proofs(&report, &mut files)?;
        files.insert("README.md".to_owned(), readme::text(&report, signer).into_bytes());
        let tenant = material.facts.facts.tenant.id.clone();
        Ok(Self { files, tenant, period: material.period })
    }

    /// What the service is asked to sign: path and canonical statement.
    ///
    /// # Errors
    /// [`PackError::Form`].
    pub fn to_sign(&self) -> Result<Vec<(String, Vec<u8>)>, PackError> {
        let files = self.files.iter().filter(|(path, _)| is_oscal(path));
        files
            .map(|(path, bytes)| {
                let name = path.strip_prefix(OSCAL).unwrap_or(path);
                Ok((path.clone(), to_canonical(&signing_statement(name, bytes, &self.tenant))?))
            })
            .collect()
    }

    /// Enters the signed envelope over a file.
    pub fn signed(&mut self, path: &str, envelope: Vec<u8>) {
        self.files.insert(signature_path(path), envelope);
    }

    /// The manifest over all that is there, and the statement to sign over it.
    ///
    /// # Errors
    /// [`PackError::Form`].
    pub fn manifest(&self) -> Result<(Vec<u8>, Vec<u8>), PackError> {
        let manifest = Manifest::of(&self.files, &self.tenant, self.period).to_bytes()?;
        let statement = to_canonical(&manifest::statement(&manifest, &self.tenant))?;
        Ok((manifest, statement))
    }

    /// The whole pack, with its signed manifest.
    pub fn finish(mut self, manifest: Vec<u8>, envelope: Vec<u8>) -> Files {
        self.files.insert(MANIFEST.to_owned(), manifest);
        self.files.insert(MANIFEST_SIGNATURE.to_owned(), envelope);
        self.files
    }
}

/// Whether a path is that of an OSCAL file, and not of its signature.
pub(super) fn is_oscal(path: &str) -> bool {
    path.starts_with(OSCAL) && !path.ends_with(".dsse.json")
}

/// The statement's kind under which trestle verifies.
pub(super) const OSCAL_KIND: &str = OSCAL_PREDICATE_TYPE;

/// One leaf a line: canonical JSON holds no line feed.
fn lines(leaves: &[Vec<u8>]) -> Vec<u8> {
    leaves.iter().flat_map(|leaf| leaf.iter().copied().chain([b'\n'])).collect()
}

fn proofs(report: &Report<'_>, files: &mut Files) -> Result<(), PackError> {
    let log = &report.material.log;
    let hashes: Vec<_> = log.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let mut tiles = Tiles::new();
    hashes.iter().for_each(|hash| tiles.append(*hash));
    for evidence in report.evidence() {
        let Evidence::Leaf(index) = evidence else { continue };
        let needed = tiles.needed(&[index, tiles.size()]).into_iter().filter_map(|tile| {
            let first = usize::try_from(tile * TILE_WIDTH).ok()?;
            let last = first + usize::try_from(TILE_WIDTH).ok()?;
            Some((tile, hashes.get(first..last)?.to_vec()))
        });
        let proof = tiles.inclusion(index, tiles.size(), &needed.collect());
        let proof = proof.map_err(|_| PackError::Leaf(index))?;
        let proof = TlogProof { index, hashes: proof, note: log.note.clone() };
        files.insert(evidence.path(), proof.to_text().into_bytes());
    }
    Ok(())
}

/// Where each version lies, as one canonical file.
pub(super) fn residency_bytes(items: &[ResidencyItem]) -> Result<Vec<u8>, CanonicalError> {
    to_canonical(&serde_json::to_value(items).unwrap_or_default())
}
