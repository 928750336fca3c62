//! A change of a tenant's buckets under way: the record that says it stands in
//! the catalogue, in one transaction with its intent leaf, before the first
//! site gets it. One that was cut off, or that too few sites took, is finished
//! by the next change or the next start, never taken back: a rebuild would
//! believe a single copy.

use bytes::Bytes;
use coffer_catalog::{BucketError, BucketRow, CatalogError};
use coffer_model::{AuditEvent, BucketId, Operation, Outcome, RecordId};
use coffer_regions::{ClearGeometry, Record, RecordKind};
use serde::{Deserialize, Serialize};

use crate::audit::AuditError;
use crate::bucket::BucketStoryError;
use crate::leaf::leaf;
use crate::registry::{self, RegistryError};
use crate::service::Service;
use crate::stored::Fact;
use crate::tenant::Tenant;

/// The first byte of a change in the catalogue.
const FORMAT: u8 = 1;

/// A change that has begun: what it says, and the record that says it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Change {
    bucket: BucketId,
    fact: Fact,
    record: RecordId,
    /// The body of the record, sealed once: whoever writes it later writes the
    /// same bytes under the same id.
    body: Vec<u8>,
}

impl Change {
    /// Begins a change, if enough sites answer; from here on it comes to its
    /// end, here or later.
    pub(crate) async fn begin(
        service: &Service,
        tenant: &Tenant,
        bucket: BucketId,
        fact: Fact,
        intent: &AuditEvent,
    ) -> Result<Self, BucketStoryError> {
        registry::refuse_if_too_few_answer(&service.sites, tenant)?;
        let record = registry::sealed(&service.host, tenant, &fact)?;
        let removal = matches!(fact, Fact::BucketRemoved { .. });
        let change = Self { bucket, fact, record: record.id(), body: record.into_body().to_vec() };
        let kept = postcard::to_extend(&change, vec![FORMAT]).map_err(|_| RegistryError::Seal)?;
        let intent = leaf(intent).map_err(AuditError::from)?;
        tenant.catalog.begin_bucket_change(bucket, kept, removal, intent).await?;
        Ok(change)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        (*format == FORMAT).then(|| postcard::from_bytes(rest).ok()).flatten()
    }

    /// Brings it to every site that the tenant's policy admits; its record,
    /// once more of them have it than may be lost.
    pub(crate) async fn spread(&self, service: &Service, tenant: &Tenant) -> Result<RecordId, RegistryError> {
        let body = Bytes::from(self.body.clone());
        let record = Record::new(RecordKind::Registry, self.record, ClearGeometry::default(), body);
        let record = record.map_err(|_| RegistryError::Seal)?;
        registry::write_for_good(&service.sites, tenant, &record).await?;
        Ok(self.record)
    }

    /// Enters it where its record stands at the sites; whether there was
    /// something left to change.
    async fn enter(&self, service: &Service, tenant: &Tenant) -> Result<bool, RegistryError> {
        let event = |outcome| {
            let subject = self.bucket.to_string();
            let event = service.own_event(Some(tenant.id), operation(&self.fact), subject, outcome);
            leaf(&event).map_err(|_| RegistryError::Seal)
        };
        let (done, record) = (event(Outcome::Done)?, self.record);
        let catalog = &tenant.catalog;
        let entered = match self.fact.clone() {
            Fact::BucketCreated { id, name, policy, created } => {
                catalog.insert_bucket(BucketRow { id, name, policy, created, record }, done).await
            }
            Fact::BucketPolicy { id, name, policy, created, .. } => {
                catalog.set_bucket_policy(BucketRow { id, name, policy, created, record }, done).await
            }
            Fact::BucketRemoved { id, .. } => catalog.remove_bucket(id, done).await,
            _ => Err(BucketError::Missing),
        };
        match entered {
            Ok(_) => Ok(true),
            Err(BucketError::Catalog(error)) => Err(error.into()),
            // There is nothing that it could still change.
            Err(_) => {
                catalog.drop_bucket_change(self.bucket, event(Outcome::Failed)?).await?;
                Ok(false)
            }
        }
    }
}

/// What its leaves are called.
fn operation(fact: &Fact) -> Operation {
    match fact {
        Fact::BucketCreated { .. } => Operation::BucketCreate,
        Fact::BucketRemoved { .. } => Operation::BucketRemove,
        _ => Operation::BucketPolicy,
    }
}

/// Finishes the changes of a tenant's buckets that were cut off, and says which;
/// whoever calls holds the tenant's turn. Where too few sites answer they stay.
pub(crate) async fn finish(service: &Service, tenant: &Tenant) -> Result<Vec<Fact>, RegistryError> {
    let mut finished = Vec::new();
    for (_, body) in tenant.catalog.bucket_changes().await? {
        let change = Change::decode(&body).ok_or(CatalogError::Damaged("change of a bucket"))?;
        change.spread(service, tenant).await?;
        if change.enter(service, tenant).await? {
            finished.push(change.fact);
        }
    }
    Ok(finished)
}

/// Whether the removal of a bucket has begun and is not over.
pub(crate) async fn is_leaving(tenant: &Tenant, bucket: BucketId) -> Result<bool, CatalogError> {
    for (_, body) in tenant.catalog.bucket_changes().await?.iter().filter(|(id, _)| *id == bucket) {
        let change = Change::decode(body).ok_or(CatalogError::Damaged("change of a bucket"))?;
        if matches!(change.fact, Fact::BucketRemoved { .. }) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The buckets whose change is not over.
pub(crate) async fn pending(tenant: &Tenant) -> Result<Vec<BucketId>, CatalogError> {
    Ok(tenant.catalog.bucket_changes().await?.into_iter().map(|(bucket, _)| bucket).collect())
}
