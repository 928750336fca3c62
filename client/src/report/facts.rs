//! The facts that a service signed about a tenant, read and checked. The form
//! is `server/FACTS.md`; a field that is not known is refused, so that nothing
//! that was said goes unread.

use std::collections::BTreeMap;

use coffer_keys::{
    EnvelopeError, STATEMENT_PAYLOAD_TYPE, VerifierName, leaf_hash, statement_kind, to_canonical,
    verify_envelope,
};
use coffer_model::{Country, Day, Digest, Jurisdiction, Tier};
use serde::Deserialize;
use serde_json::Value;

use crate::drill::Moment;

/// The predicate types of the facts that this program reads. The first
/// version says nothing of custody, certificates and witnesses.
pub(crate) const PREDICATE_TYPES: [&str; 2] = ["urn:coffer:facts:v1", "urn:coffer:facts:v2"];

/// The longest envelope that is read, in bytes.
pub const FACTS_BYTES_MAX: usize = 64 << 20;

/// Why an envelope holds no facts.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// Longer than [`FACTS_BYTES_MAX`].
    #[error("facts have at most {FACTS_BYTES_MAX} bytes")]
    TooLong,
    /// Not signed by that key, or not canonical.
    #[error("the facts: {0}")]
    Envelope(#[from] EnvelopeError),
    /// Signed, but of another form.
    #[error("the facts are signed and are not of the form that this program reads: {0}")]
    Form(String),
}

/// What a bucket or tenant was promised about its places.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFacts {
    /// Jurisdictions allowed; empty: every one.
    pub allow: Vec<Jurisdiction>,
    /// Jurisdictions denied.
    pub deny: Vec<Jurisdiction>,
    /// The lowest tier.
    pub tier_min: Tier,
    /// Data shards.
    pub data: usize,
    /// Parity shards: sites that may be lost.
    pub parity: usize,
    /// Whether writes below the promise are accepted.
    pub accept_degraded: bool,
}

impl PolicyFacts {
    /// Whether bytes may lie in this country and tier.
    pub fn admits(&self, site: &SiteFacts) -> bool {
        let inside = |list: &[Jurisdiction]| list.iter().any(|place| place.contains(site.country));
        (self.allow.is_empty() || inside(&self.allow)) && !inside(&self.deny) && site.tier >= self.tier_min
    }

    /// The policy in one line.
    pub fn text(&self) -> String {
        let list = |places: &[Jurisdiction]| -> String {
            places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let mut text = match self.allow.as_slice() {
            [] => "anywhere".to_owned(),
            places => format!("in {}", list(places)),
        };
        if !self.deny.is_empty() {
            text.push_str(&format!(", not in {}", list(&self.deny)));
        }
        text.push_str(&format!("; tier {} or better; {}+{}", self.tier_min, self.data, self.parity));
        text
    }
}

/// The tenant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The policy that its buckets have by default.
    pub policy: PolicyFacts,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftwareFacts {
    /// `coffer`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The tenant's log when the facts were taken.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFacts {
    /// Which log.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// RFC 6962 root, hexadecimal.
    pub root: String,
}

/// The certificate of a building's tier, as an operator declared it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierCertificateFacts {
    /// Who certified.
    pub issuer: String,
    /// Its number there.
    pub number: String,
    /// Which tier.
    pub tier: Tier,
    /// First day of its validity.
    pub from: Day,
    /// Last day of its validity.
    pub until: Day,
    /// When it was declared.
    pub declared: Moment,
    /// By which operator.
    pub declared_by: String,
}

impl TierCertificateFacts {
    /// In a few words.
    pub fn text(&self) -> String {
        format!("{} {}, tier {}, until {}", self.issuer, self.number, self.tier, self.until)
    }
}

/// Who keeps the root key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustodyFacts {
    /// What opened it at the last start: `passphrase file`, `quorum`, `not told`.
    pub kind: String,
    /// So many shares open it.
    pub threshold: u8,
    /// Of so many.
    pub shares: u8,
}

/// A certificate of TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFacts {
    /// Whose.
    pub name: String,
    /// Until when it is valid; none: it cannot be read.
    pub until: Option<Moment>,
}

/// What witnesses saw of the log.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessedFacts {
    /// The newest state that they were shown, a signed note with what they
    /// put under it; none: they were shown none.
    pub checkpoint: Option<String>,
    /// Their keys, as C2SP vkeys.
    pub witnesses: Vec<String>,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where its disks stand, as the operator says.
    pub country: Country,
    /// What it fails together with.
    pub domain: String,
    /// Tier of its building.
    pub tier: Tier,
    /// In the first version, until when a certificate says so: always none.
    #[serde(default)]
    pub tier_certificate_until: Option<String>,
    /// What an operator declared about the certificate of that tier.
    #[serde(default)]
    pub tier_certificate: Option<TierCertificateFacts>,
    /// active, draining, quarantined, retired.
    pub standing: String,
    /// A directory that plays a site.
    pub simulated: bool,
    /// Whether it answers.
    pub answers: bool,
    /// It came back older than it was.
    pub quarantined: bool,
    /// It takes no writes.
    pub read_only: bool,
    /// Records that it holds, of all tenants.
    pub records: u64,
    /// Bytes of its volumes, of all tenants.
    pub volume_bytes: u64,
    /// Records known to be wrong.
    pub damaged: u64,
    /// Reads in which it returned damaged, wrong or no bytes.
    pub reported: u64,
}

impl SiteFacts {
    /// Whether it is part of the deployment now.
    pub fn counts(&self) -> bool {
        self.standing != "retired"
    }
}

/// How far one site was read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteScrubFacts {
    /// Its name.
    pub site: String,
    /// Whether every byte is shown to have been verified in time.
    pub kept: bool,
    /// Since the oldest byte can have been verified.
    pub age_seconds: Option<u64>,
    /// When the last whole pass ended.
    pub last_ended: Option<Moment>,
    /// Damage that it found.
    pub findings: u64,
    /// Bytes that there are to read.
    pub bytes_total: u64,
    /// The pass under way will be too late.
    pub at_risk: bool,
    /// What the delays of its answers say.
    pub delay: String,
}

/// How far the sites were read and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubFacts {
    /// Within which time every byte is to be verified.
    pub promised_seconds: u64,
    /// Each site.
    pub sites: Vec<SiteScrubFacts>,
    /// Questions that no site has seen yet.
    pub unasked_challenges: u64,
    /// Striped versions of which a shard has no question.
    pub unchallenged_versions: u64,
    /// Why the last step of a background job failed; empty: it did not.
    pub trouble: String,
}

/// Sums over versions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionSums {
    /// Versions, hidden ones included.
    pub versions: u64,
    /// Those that a tombstone hides.
    pub hidden: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// The same, sealed.
    pub sealed_bytes: u64,
    /// Versions that survive fewer losses than was promised.
    pub short: u64,
    /// Records where layout or policy do not want them.
    pub out_of_place: u64,
    /// Versions of which a record lies where the policy does not admit it.
    pub outside: u64,
    /// Versions that moved since they were written.
    pub moved: u64,
    /// Versions of which something lies in each country.
    pub countries: BTreeMap<String, u64>,
}

/// One bucket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketFacts {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Moment,
    /// Where its bytes may lie.
    pub policy: PolicyFacts,
    /// What lies in it.
    pub sums: VersionSums,
}

/// One epoch of the tenant's key-encryption key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochFacts {
    /// Its id.
    pub id: String,
    /// Its number.
    pub epoch: u32,
    /// When it was made, if that is known.
    pub created: Option<Moment>,
    /// Versions whose keys are wrapped under it.
    pub versions: u64,
}

/// The tenant's keys; no secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFacts {
    /// The format that content is sealed in.
    pub content: String,
    /// The cipher that keys are wrapped with.
    pub wrap: String,
    /// The epochs, oldest first.
    pub epochs: Vec<EpochFacts>,
    /// Versions whose wrapped key names no epoch that there is.
    pub versions_under_no_epoch: u64,
}

/// Somebody who may act for the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalFacts {
    /// The principal's id.
    pub id: String,
    /// `tenant` or `operator`.
    pub role: String,
    /// Since when.
    pub created: Moment,
}

/// What deleting does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletionFacts {
    /// A deletion hides, and can be taken back.
    pub reversible: bool,
    /// There is a way to erase for good.
    pub erases: bool,
    /// How many people a deletion takes.
    pub people_needed: u32,
}

/// Everything that a service said about one tenant at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// When.
    pub taken: Moment,
    /// About whom.
    pub tenant: TenantFacts,
    /// Said by what.
    pub software: SoftwareFacts,
    /// The log then.
    pub log: LogFacts,
    /// The sites.
    pub sites: Vec<SiteFacts>,
    /// How far they were read and asked.
    pub scrub: ScrubFacts,
    /// The buckets.
    pub buckets: Vec<BucketFacts>,
    /// The keys.
    pub keys: KeyFacts,
    /// Who may act for the tenant.
    pub principals: Vec<PrincipalFacts>,
    /// How many operators the deployment has.
    pub operators: u64,
    /// Who keeps the root key.
    #[serde(default)]
    pub custody: Option<CustodyFacts>,
    /// Certificates of TLS.
    #[serde(default)]
    pub certificates: Vec<CertificateFacts>,
    /// What witnesses saw of the log.
    #[serde(default)]
    pub witnessed: Option<WitnessedFacts>,
    /// Sums over all versions.
    pub versions: VersionSums,
    /// What deleting does.
    pub deletion: DeletionFacts,
}

impl Facts {
    /// Sites that are part of the deployment now.
    pub fn sites_now(&self) -> impl Iterator<Item = &SiteFacts> {
        self.sites.iter().filter(|site| site.counts())
    }
}

/// Facts whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedFacts {
    /// What they say.
    pub facts: Facts,
    /// The RFC 6962 leaf hash of the statement, which a leaf of the log names.
    pub statement: Digest,
}

/// The facts in an envelope that this key signed under its name.
///
/// # Errors
/// [`FactsError`].
pub fn verify_facts(envelope: &[u8], signer: &VerifierName) -> Result<VerifiedFacts, FactsError> {
    if envelope.len() > FACTS_BYTES_MAX {
        return Err(FactsError::TooLong);
    }
    let statement = verify_envelope(envelope, &signer.key, &signer.name, STATEMENT_PAYLOAD_TYPE)?;
    let facts = of_statement(&statement)?;
    let canonical = to_canonical(&statement).map_err(EnvelopeError::Payload)?;
    Ok(VerifiedFacts { facts, statement: leaf_hash(&canonical) })
}

fn of_statement(statement: &Value) -> Result<Facts, FactsError> {
    let form = |what: &str| FactsError::Form(what.to_owned());
    let whole = statement.as_object().is_some_and(|object| object.len() == 4);
    let kind = statement_kind(statement).filter(|_| whole);
    let kind = kind.ok_or_else(|| form("not an in-toto Statement v1"))?;
    if !PREDICATE_TYPES.contains(&kind) {
        return Err(form("another predicate type"));
    }
    let predicate = statement.get("predicate").cloned().unwrap_or_default();
    let facts: Facts = serde_json::from_value(predicate).map_err(|error| form(&error.to_string()))?;
    let subject = serde_json::json!([{ "name": facts.log.origin, "digest": { "sha256": facts.log.root } }]);
    if statement.get("subject") != Some(&subject) {
        return Err(form("the subject is not the log that the facts name"));
    }
    let moments = facts.buckets.iter().map(|bucket| &bucket.created);
    let moments = moments.chain(facts.principals.iter().map(|principal| &principal.created));
    let moments = moments.chain(facts.keys.epochs.iter().filter_map(|epoch| epoch.created.as_ref()));
    let declared = facts.sites.iter().filter_map(|site| site.tier_certificate.as_ref());
    let moments = moments.chain(declared.map(|certificate| &certificate.declared));
    let moments = moments.chain(facts.certificates.iter().filter_map(|one| one.until.as_ref()));
    let moments = moments.chain(facts.scrub.sites.iter().filter_map(|site| site.last_ended.as_ref()));
    if std::iter::once(&facts.taken).chain(moments).any(|moment| moment.timestamp().is_none()) {
        return Err(form("the two forms of a moment disagree"));
    }
    Ok(facts)
}
