//! Buckets: created under a policy that the sites can satisfy, listed, removed
//! when empty.

use coffer_catalog::{BucketError, BucketRow, CatalogError};
use coffer_model::{BucketId, BucketName, HoldId, Outcome, ResidencyPolicy};
use coffer_regions::{Unmet, satisfiable};

use crate::audit::AuditError;
use crate::authorize::{Grant, Granted};
use crate::hold;
use crate::leaf::leaf;
use crate::registry::{RegistryError, next_time, write_fact};
use crate::service::Service;
use crate::stored::Fact;
use crate::tenant::Tenant;

/// The arguments of a creation.
pub(crate) struct CreateBucket {
    pub(crate) name: BucketName,
    /// `None`: the tenant's own policy.
    pub(crate) policy: Option<ResidencyPolicy>,
}

/// Why a bucket was not created or removed. Nothing was changed.
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
    let admitted = admit(service, tenant, &create.name, create.policy).await;
    let policy = grant.settled(service, admitted).await?;
    let id = BucketId::generate(service.host.entropy.as_ref());
    let created = next_time(&service.host, tenant).await?;
    tenant.note(&grant.event(service, Some(id.to_string()), Outcome::Intent)).await?;
    let fact = Fact::BucketCreated { id, name: create.name.clone(), policy: policy.clone(), created };
    let subject = id.to_string();
    let written = write_fact(&service.host, &service.sites, tenant, &fact).await;
    let record = grant.ended(service, &subject, written.map_err(BucketStoryError::from)).await?;
    let row = BucketRow { id, name: create.name, policy, created, record };
    let done = grant.event(service, Some(subject.clone()), Outcome::Done);
    let done = leaf(&done).map_err(AuditError::from)?;
    let inserted = tenant.catalog.insert_bucket(row.clone(), done).await;
    let audit_seq = grant.ended(service, &subject, inserted.map_err(BucketStoryError::from)).await?;
    Ok((row, audit_seq))
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

/// Gives a bucket another policy. New versions lie under it at once; repair
/// moves the older ones, each with its leaf. A version keeps its coding.
pub(crate) async fn set_policy(
    service: &Service,
    set: Granted<SetPolicy>,
) -> Result<(BucketRow, u64), BucketStoryError> {
    let (SetPolicy { name, policy }, grant) = set.into_parts();
    let tenant = grant.tenant();
    let _turn = tenant.changing.lock().await;
    let found = tenant.catalog.bucket(&name).await?.ok_or(BucketStoryError::NoBucket(name));
    let old = grant.settled(service, found).await?;
    grant.settled(service, check(service, tenant, &policy)).await?;
    let subject = Some(old.id.to_string());
    tenant.note(&grant.event(service, subject.clone(), Outcome::Intent)).await?;
    let (id, name, created) = (old.id, old.name, old.created);
    let changed = next_time(&service.host, tenant).await?;
    let fact = Fact::BucketPolicy { id, name: name.clone(), policy: policy.clone(), created, changed };
    let written = write_fact(&service.host, &service.sites, tenant, &fact).await;
    let record = grant.ended(service, &id.to_string(), written.map_err(BucketStoryError::from)).await?;
    let row = BucketRow { id, name, policy, created, record };
    let done = leaf(&grant.event(service, subject, Outcome::Done)).map_err(AuditError::from)?;
    let set = tenant.catalog.set_bucket_policy(row.clone(), done).await;
    let audit_seq = grant.ended(service, &id.to_string(), set.map_err(BucketStoryError::from)).await?;
    Ok((row, audit_seq))
}

/// Whether the sites can satisfy a policy, and its tenant's covers it.
fn check(service: &Service, tenant: &Tenant, policy: &ResidencyPolicy) -> Result<(), BucketStoryError> {
    satisfiable(service.sites.taking(), policy).map_err(BucketStoryError::Unsatisfiable)?;
    // A bucket may be stricter than its tenant, never wider.
    let mut all = service.sites.topology().sites.iter();
    match all.find(|site| policy.admits(site) && !tenant.policy.admits(site)) {
        Some(site) => Err(BucketStoryError::Wider(format!("{} ({})", site.name, site.country))),
        None => Ok(()),
    }
}

/// Removes an empty bucket.
pub(crate) async fn remove(service: &Service, remove: Granted<BucketName>) -> Result<u64, BucketStoryError> {
    let (name, grant) = remove.into_parts();
    let tenant = grant.tenant();
    let _turn = tenant.changing.lock().await;
    let found = tenant.catalog.bucket(&name).await?.ok_or(BucketStoryError::NoBucket(name));
    let row = grant.settled(service, found).await?;
    if !tenant.catalog.list(row.id, &[], None, 1).await?.is_empty() {
        return grant.settled(service, Err(BucketError::NotEmpty.into())).await;
    }
    if let Some(held) = hold::on_bucket(tenant, row.id).await? {
        let subject = Some(format!("{} {}", row.id, held.id));
        tenant.note(&grant.event(service, subject, Outcome::Denied)).await?;
        return Err(BucketStoryError::Held { id: held.id, reason: held.reason });
    }
    tenant.note(&grant.event(service, Some(row.id.to_string()), Outcome::Intent)).await?;
    let fact = Fact::BucketRemoved { id: row.id, removed: next_time(&service.host, tenant).await? };
    let subject = row.id.to_string();
    let written = write_fact(&service.host, &service.sites, tenant, &fact).await;
    grant.ended(service, &subject, written.map_err(BucketStoryError::from)).await?;
    let done = leaf(&grant.event(service, Some(subject.clone()), Outcome::Done)).map_err(AuditError::from)?;
    match tenant.catalog.remove_bucket(row.id, done).await {
        Ok(audit_seq) => Ok(audit_seq),
        Err(refused) => {
            stands_after_all(service, &grant, row).await?;
            Err(refused.into())
        }
    }
}

/// A put came while the removal was on its way: the sites have the removal, the
/// catalogue has not. A later fact says there that the bucket stands.
async fn stands_after_all(service: &Service, grant: &Grant, row: BucketRow) -> Result<(), BucketStoryError> {
    let tenant = grant.tenant();
    let subject = row.id.to_string();
    let changed = next_time(&service.host, tenant).await?;
    let BucketRow { id, name, policy, created, .. } = row;
    let fact = Fact::BucketPolicy { id, name: name.clone(), policy: policy.clone(), created, changed };
    let written = write_fact(&service.host, &service.sites, tenant, &fact).await;
    let record = grant.ended(service, &subject, written.map_err(BucketStoryError::from)).await?;
    let failed = leaf(&grant.event(service, Some(subject), Outcome::Failed)).map_err(AuditError::from)?;
    tenant.catalog.set_bucket_policy(BucketRow { id, name, policy, created, record }, failed).await?;
    Ok(())
}
