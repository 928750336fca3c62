//! Legal holds: placed, listed, released, and asked for by whatever deletes.
//! A hold is a fact at the sites, so that a rebuild brings it back.

use std::fmt;

use coffer_catalog::{BucketRow, CatalogError, ManifestRow};
use coffer_keys::{STATEMENT_PAYLOAD_TYPE, leaf_hash, sign_statement};
use coffer_model::{BucketId, BucketName, HoldId, ObjectKey, Outcome, PrincipalId, Timestamp, VersionId};
use serde::{Deserialize, Serialize};

use crate::audit::AuditError;
use crate::authorize::{Grant, Granted};
use crate::bucket_change;
use crate::deletion;
use crate::drill::{STATEMENT_BYTES_MAX, SignError, read_statement};
use crate::registry::{RegistryError, write_fact};
use crate::service::Service;
use crate::stored::Fact;
use crate::tenant::Tenant;

/// The kind of the catalogue's facts that index holds.
pub(crate) const HOLD: &str = "hold";

/// The longest reason, in characters.
pub(crate) const REASON_CHARACTERS_MAX: usize = 256;

/// One hold, as the catalogue keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) id: HoldId,
    pub(crate) bucket: BucketId,
    pub(crate) prefix: Vec<u8>,
    /// Only the key that is the prefix.
    pub(crate) exact: bool,
    pub(crate) reason: String,
    pub(crate) placed: Timestamp,
    pub(crate) by: PrincipalId,
    /// When it was lifted, and by whom.
    pub(crate) released: Option<(Timestamp, PrincipalId)>,
}

impl Hold {
    pub(crate) fn covers(&self, bucket: BucketId, key: &[u8]) -> bool {
        let key = if self.exact { key == self.prefix } else { key.starts_with(&self.prefix) };
        self.released.is_none() && self.bucket == bucket && key
    }
}

/// The arguments of a hold.
pub(crate) struct PlaceHold {
    pub(crate) bucket: BucketName,
    pub(crate) prefix: Vec<u8>,
    pub(crate) exact: bool,
    pub(crate) reason: String,
}

/// Deletions that are named; the others are counted.
const NAMED_MAX: usize = 4;

/// What a hold would cover, and somebody began to delete before. A deletion
/// that has begun is not taken back, and a hold destroys nothing.
#[derive(Debug)]
pub(crate) struct BegunDeletions(Vec<(VersionId, ObjectKey)>);

impl fmt::Display for BegunDeletions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing is held: the deletion of")?;
        for (version, key) in self.0.iter().take(NAMED_MAX) {
            write!(f, " \"{}\" (version {version}),", key.as_bytes().escape_ascii())?;
        }
        if let Some(more) = self.0.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
            write!(f, " and {more} more,")?;
        }
        write!(
            f,
            " has begun, is not over, and cannot be taken back. Place the hold again when it is over: \
             delete again where the sites answer, or let the next start of the service finish it; or \
             hold the other keys meanwhile"
        )
    }
}

/// Why a hold is not as it was wished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    #[error("there is no bucket {0}")]
    NoBucket(BucketName),
    #[error("there is no hold {0}")]
    NoHold(HoldId),
    #[error("the hold {0} was released before")]
    Released(HoldId),
    #[error("{0}")]
    Deleting(BegunDeletions),
    #[error(
        "nothing is held: the removal of the bucket {0} has begun, and cannot be taken back; it holds nothing \
         that can be read any more"
    )]
    Leaving(BucketName),
    #[error("a reason has 1 to {REASON_CHARACTERS_MAX} characters and no control characters")]
    Reason,
    #[error("the hold cannot be written down")]
    Encode,
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
}

/// Every hold of a tenant that the catalogue knows, in order of their ids.
pub(crate) async fn all(tenant: &Tenant) -> Result<Vec<Hold>, CatalogError> {
    let facts = tenant.catalog.facts(HOLD).await?;
    let read = |(_, body): &([u8; 16], Vec<u8>)| postcard::from_bytes(body);
    // A hold that cannot be read must not be taken for none.
    facts.iter().map(read).collect::<Result<_, _>>().map_err(|_| CatalogError::Damaged("hold"))
}

/// A hold that a key of a bucket lies under.
pub(crate) async fn on_key(
    tenant: &Tenant,
    bucket: BucketId,
    key: &ObjectKey,
) -> Result<Option<Hold>, CatalogError> {
    Ok(all(tenant).await?.into_iter().find(|hold| hold.covers(bucket, key.as_bytes())))
}

/// A hold that anything in a bucket may lie under.
pub(crate) async fn on_bucket(tenant: &Tenant, bucket: BucketId) -> Result<Option<Hold>, CatalogError> {
    let stands = |hold: &Hold| hold.released.is_none() && hold.bucket == bucket;
    Ok(all(tenant).await?.into_iter().find(stands))
}

/// The catalogue's body of a hold, for a rebuild as well.
pub(crate) fn index(hold: &Hold) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_allocvec(hold)
}

async fn enter(tenant: &Tenant, hold: &Hold) -> Result<(), HoldError> {
    let body = index(hold).map_err(|_| HoldError::Encode)?;
    Ok(tenant.catalog.put_fact(HOLD, *hold.id.as_bytes(), body).await?)
}

/// Places a hold. It stands in the catalogue first, so that a crash leaves too
/// much held rather than too little, and then at the sites.
pub(crate) async fn place(service: &Service, place: Granted<PlaceHold>) -> Result<(Hold, u64), HoldError> {
    let (PlaceHold { bucket, prefix, exact, reason }, grant) = place.into_parts();
    let tenant = grant.tenant();
    let good = (1..=REASON_CHARACTERS_MAX).contains(&reason.chars().count());
    if !good || reason.chars().any(char::is_control) {
        return grant.settled(service, Err(HoldError::Reason)).await;
    }
    let found = tenant.catalog.bucket(&bucket).await?.ok_or(HoldError::NoBucket(bucket));
    let BucketRow { id: bucket, name, .. } = grant.settled(service, found).await?;
    let id = HoldId::generate(service.host.entropy.as_ref());
    let (placed, by) = (service.host.clock.now(), grant.caller.principal);
    let hold = Hold { id, bucket, prefix, exact, reason, placed, by, released: None };
    let subject = id.to_string();
    tenant.note(&grant.event(service, Some(subject.clone()), Outcome::Intent)).await?;
    let entered = {
        // A deletion that has looked for holds has begun before this one counts.
        let _alone = tenant.holding.write().await;
        match refuse_over_what_began(tenant, &hold, name).await {
            Ok(()) => enter(tenant, &hold).await,
            refused => refused,
        }
    };
    grant.ended(service, &subject, entered).await?;
    let written = write_fact(&service.host, &service.sites, tenant, &Fact::HoldPlaced(hold.clone())).await;
    if written.is_err() {
        // Not promised, so that it does not stand.
        enter(tenant, &Hold { released: Some((placed, by)), ..hold.clone() }).await?;
    }
    grant.ended(service, &subject, written.map_err(HoldError::from)).await?;
    let audit_seq = tenant.note(&grant.event(service, Some(subject), Outcome::Done)).await?;
    Ok((hold, audit_seq))
}

/// Refuses a hold over what somebody began to remove before.
async fn refuse_over_what_began(tenant: &Tenant, hold: &Hold, name: BucketName) -> Result<(), HoldError> {
    if bucket_change::is_leaving(tenant, hold.bucket).await? {
        return Err(HoldError::Leaving(name));
    }
    // A removal may have come to its end since the name was looked up.
    if tenant.catalog.bucket_by_id(hold.bucket).await?.is_none() {
        return Err(HoldError::NoBucket(name));
    }
    refuse_over_deletions(tenant, hold).await
}

/// Refuses a hold over what somebody began to delete before: it would be
/// finished later, and what lies under a hold would be gone.
async fn refuse_over_deletions(tenant: &Tenant, hold: &Hold) -> Result<(), HoldError> {
    let covered = |row: &ManifestRow| hold.covers(row.manifest.bucket, row.manifest.key.as_bytes());
    let begun = deletion::undecided(tenant).await?.into_iter().filter(covered);
    let begun: Vec<_> = begun.map(|row| (row.manifest.version, row.manifest.key)).collect();
    if begun.is_empty() { Ok(()) } else { Err(HoldError::Deleting(BegunDeletions(begun))) }
}

/// Releases a hold: at the sites first, in the catalogue last.
pub(crate) async fn release(service: &Service, release: Granted<HoldId>) -> Result<(Hold, u64), HoldError> {
    let (id, grant) = release.into_parts();
    let tenant = grant.tenant();
    let hold = grant.settled(service, known(tenant, id).await).await?;
    if hold.released.is_some() {
        return grant.settled(service, Err(HoldError::Released(id))).await;
    }
    let (released, by) = (service.host.clock.now(), grant.caller.principal);
    let subject = id.to_string();
    tenant.note(&grant.event(service, Some(subject.clone()), Outcome::Intent)).await?;
    let fact = Fact::HoldReleased { id, released, by };
    let written = write_fact(&service.host, &service.sites, tenant, &fact).await;
    grant.ended(service, &subject, written.map_err(HoldError::from)).await?;
    let hold = Hold { released: Some((released, by)), ..hold };
    grant.ended(service, &subject, enter(tenant, &hold).await).await?;
    let audit_seq = tenant.note(&grant.event(service, Some(subject), Outcome::Done)).await?;
    Ok((hold, audit_seq))
}

async fn known(tenant: &Tenant, id: HoldId) -> Result<Hold, HoldError> {
    all(tenant).await?.into_iter().find(|hold| hold.id == id).ok_or(HoldError::NoHold(id))
}

/// Lists the holds.
pub(crate) async fn list(service: &Service, list: Granted<()>) -> Result<(Vec<Hold>, Grant), HoldError> {
    let ((), grant) = list.into_parts();
    grant.tenant().note(&grant.event(service, None, Outcome::Done)).await?;
    Ok((all(grant.tenant()).await?, grant))
}

/// Signs a statement about what was exported of a hold, and logs its digest.
pub(crate) async fn sign_case(
    service: &Service,
    sign: Granted<(HoldId, Vec<u8>)>,
) -> Result<(Vec<u8>, u64), HoldError> {
    let ((id, statement), grant) = sign.into_parts();
    let tenant = grant.tenant();
    grant.settled(service, known(tenant, id).await).await?;
    let of_case = |kind: &str| kind.starts_with("urn:coffer:case:");
    let read = read_statement(&statement, STATEMENT_BYTES_MAX, of_case).map_err(HoldError::from);
    let value = grant.settled(service, read).await?;
    let digest = leaf_hash(&statement).to_string();
    let audit_seq = tenant.note(&grant.event(service, Some(digest), Outcome::Done)).await?;
    let signed = sign_statement(&service.evidence, &service.evidence_name, STATEMENT_PAYLOAD_TYPE, &value);
    Ok((signed.map_err(SignError::from)?, audit_seq))
}
