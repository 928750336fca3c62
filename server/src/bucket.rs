//! Buckets: created under a policy that the sites can satisfy, listed, removed
//! when empty.

use coffer_catalog::{BucketError, BucketRow, CatalogError};
use coffer_model::{BucketId, BucketName, HoldId, Outcome, ResidencyPolicy};
use coffer_regions::{Unmet, satisfiable};

use crate::audit::AuditError;
use crate::authorize::{Grant, Granted};
use crate::bucket_change::{Change, finish};
use crate::hold;
use crate::leaf::leaf;
use crate::registry::{RegistryError, next_time};
use crate::service::Service;
use crate::stored::Fact;
use crate::tenant::Tenant;

/// The arguments of a creation.
pub(crate) struct CreateBucket {
    pub(crate) name: BucketName,
    /// `None`: the tenant's own policy.
    pub(crate) policy: Option<ResidencyPolicy>,
}

/// Why a bucket was not created, changed or removed. Nothing was changed, unless
/// it says that the outcome is undecided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BucketStoryError {
    #[error("the policy cannot be satisfied by the sites: {0}")]
    Unsatisfiable(Unmet),
    #[error("the bucket's policy allows {0}, which the tenant's policy does not")]
    Wider(String),
    #[error("the bucket stands: it lies under the legal hold {id}, \"{reason}\"")]
    Held { id: HoldId, reason: String },
    #[error("there is no bucket {0}")]
    NoBucket(BucketName),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
}

/// Creates a bucket.
pub(crate) async fn create(
    service: &Service,
    create: Granted<CreateBucket>,
) -> Result<(BucketRow, u64), BucketStoryError> {
    let (create, grant) = create.into_parts();
    let tenant = grant.tenant();
    let _turn = tenant.changing.lock().await;
    let finished = settle_others(service, &grant).await?;
    if let Some(made) = made_meanwhile(tenant, &create, &finished).await? {
        return Ok((made, tenant.note(&grant.event(service, None, Outcome::Done)).await?));
    }
    let admitted = admit(service, tenant, &create.name, create.policy).await;
    let policy = grant.settled(service, admitted).await?;
    let id = BucketId::generate(service.host.entropy.as_ref());
    let created = next_time(&service.host, tenant).await?;
    let fact = Fact::BucketCreated { id, name: create.name.clone(), policy: policy.clone(), created };
    let subject = Some(id.to_string());
    let intent = grant.event(service, subject.clone(), Outcome::Intent);
    let begun = Change::begin(service, tenant, id, fact, &intent).await;
    let record = grant.settled(service, begun).await?.spread(service, tenant).await?;
    let row = BucketRow { id, name: create.name, policy, created, record };
    let done = leaf(&grant.event(service, subject, Outcome::Done)).map_err(AuditError::from)?;
    let audit_seq = tenant.catalog.insert_bucket(row.clone(), done).await?;
    Ok((row, audit_seq))
}

/// Before a change: those that were cut off come to their end, so that nothing
/// which a rebuild could find is older than the change and not settled.
async fn settle_others(service: &Service, grant: &Grant) -> Result<Vec<Fact>, BucketStoryError> {
    let finished = finish(service, grant.tenant()).await;
    grant.settled(service, finished.map_err(BucketStoryError::from)).await
}

/// The bucket that is asked for, where asking again has just finished it.
async fn made_meanwhile(
    tenant: &Tenant,
    create: &CreateBucket,
    finished: &[Fact],
) -> Result<Option<BucketRow>, CatalogError> {
    let wanted = create.policy.as_ref().unwrap_or(&tenant.policy);
    let same = |fact: &Fact| matches!(fact, Fact::BucketCreated { name, policy, .. } if *name == create.name && policy == wanted);
    if finished.iter().any(same) { tenant.catalog.bucket(&create.name).await } else { Ok(None) }
}

/// The policy of a new bucket, if the sites can satisfy it, the tenant's policy
/// covers it and the name is free.
async fn admit(
    service: &Service,
    tenant: &Tenant,
    name: &BucketName,
    policy: Option<ResidencyPolicy>,
) -> Result<ResidencyPolicy, BucketStoryError> {
    let policy = policy.unwrap_or_else(|| tenant.policy.clone());
    check(service, tenant, &policy)?;
    if tenant.catalog.bucket(name).await?.is_some() {
        return Err(BucketError::NameTaken.into());
    }
    Ok(policy)
}

/// All buckets of the tenant.
pub(crate) async fn list(service: &Service, list: Granted<()>) -> Result<Vec<BucketRow>, BucketStoryError> {
    let ((), grant) = list.into_parts();
    grant.tenant().note(&grant.event(service, None, Outcome::Done)).await?;
    Ok(grant.tenant().catalog.buckets().await?)
}

/// The arguments of a change of policy.
pub(crate) struct SetPolicy {
    pub(crate) name: BucketName,
    pub(crate) policy: ResidencyPolicy,
}

/// Gives a bucket another policy. New versions lie under it at once, those of
/// puts under way among them, and when this returns nothing is on its way to a
/// site that it excludes; repair moves the older ones, each with its leaf. A version keeps its coding.
pub(crate) async fn set_policy(
    service: &Service,
    set: Granted<SetPolicy>,
) -> Result<(BucketRow, u64), BucketStoryError> {
    let (SetPolicy { name, policy }, grant) = set.into_parts();
    let tenant = grant.tenant();
    let _turn = tenant.changing.lock().await;
    settle_others(service, &grant).await?;
    let found = tenant.catalog.bucket(&name).await?.ok_or(BucketStoryError::NoBucket(name));
    let old = grant.settled(service, found).await?;
    grant.settled(service, check(service, tenant, &policy)).await?;
    let subject = Some(old.id.to_string());
    let (id, name, created) = (old.id, old.name, old.created);
    let changed = next_time(&service.host, tenant).await?;
    let fact = Fact::BucketPolicy { id, name: name.clone(), policy: policy.clone(), created, changed };
    let intent = grant.event(service, subject.clone(), Outcome::Intent);
    let begun = Change::begin(service, tenant, id, fact, &intent).await;
    let record = grant.settled(service, begun).await?.spread(service, tenant).await?;
    let row = BucketRow { id, name, policy, created, record };
    let done = leaf(&grant.event(service, subject, Outcome::Done)).map_err(AuditError::from)?;
    let audit_seq = tenant.catalog.set_bucket_policy(row.clone(), done).await?;
    // What is on its way under the old policy arrives before this is answered.
    drop(tenant.placing.write().await);
    Ok((row, audit_seq))
}

/// Whether the sites can satisfy a policy, and its tenant's covers it.
fn check(service: &Service, tenant: &Tenant, policy: &ResidencyPolicy) -> Result<(), BucketStoryError> {
    // A bucket may be stricter than its tenant, never wider. Of sites that are
    // not there yet it gets none that its tenant does not: see `residency.rs`.
    let mut all = service.sites.topology().sites.iter();
    if let Some(site) = all.find(|site| policy.admits(site) && !tenant.policy.admits(site)) {
        return Err(BucketStoryError::Wider(format!("{} ({})", site.name, site.country)));
    }
    satisfiable(service.sites.taking(), &tenant.confined(policy)).map_err(BucketStoryError::Unsatisfiable)
}

/// Removes an empty bucket. Once that has begun, it takes no put any more.
pub(crate) async fn remove(service: &Service, remove: Granted<BucketName>) -> Result<u64, BucketStoryError> {
    let (name, grant) = remove.into_parts();
    let tenant = grant.tenant();
    let _turn = tenant.changing.lock().await;
    let asked = tenant.catalog.bucket(&name).await?.map(|bucket| bucket.id);
    let finished = settle_others(service, &grant).await?;
    let same = |fact: &Fact| matches!(fact, Fact::BucketRemoved { id, .. } if Some(*id) == asked);
    if finished.iter().any(same) {
        return Ok(tenant.note(&grant.event(service, None, Outcome::Done)).await?);
    }
    let found = tenant.catalog.bucket(&name).await?.ok_or(BucketStoryError::NoBucket(name));
    let row = grant.settled(service, found).await?;
    // A hold is placed before the look, or finds that the removal has begun.
    let looking = tenant.holding.read().await;
    if let Some(held) = hold::on_bucket(tenant, row.id).await? {
        let subject = Some(format!("{} {}", row.id, held.id));
        tenant.note(&grant.event(service, subject, Outcome::Denied)).await?;
        return Err(BucketStoryError::Held { id: held.id, reason: held.reason });
    }
    let fact = Fact::BucketRemoved { id: row.id, removed: next_time(&service.host, tenant).await? };
    let subject = Some(row.id.to_string());
    let intent = grant.event(service, subject.clone(), Outcome::Intent);
    let begun = Change::begin(service, tenant, row.id, fact, &intent).await;
    drop(looking);
    grant.settled(service, begun).await?.spread(service, tenant).await?;
    let done = leaf(&grant.event(service, subject, Outcome::Done)).map_err(AuditError::from)?;
    Ok(tenant.catalog.remove_bucket(row.id, done).await?)
}
