//! Under which policy the bytes of a bucket lie: its own where its tenant's
//! holds as well, whatever sites there are by now.

use std::collections::BTreeMap;

use coffer_catalog::CatalogError;
use coffer_model::{BucketId, ResidencyPolicy};

use crate::tenant::Tenant;

impl Tenant {
    /// A bucket's policy where this tenant's holds as well. A bucket is made
    /// under a policy that admits no more than its tenant's among the sites of
    /// that day; others are added later.
    pub(crate) fn confined(&self, policy: &ResidencyPolicy) -> ResidencyPolicy {
        policy.within(&self.policy)
    }

    /// Under which policy a bucket lies; the tenant's own where it is gone.
    pub(crate) async fn policy_of(&self, bucket: BucketId) -> Result<ResidencyPolicy, CatalogError> {
        let bucket = self.catalog.bucket_by_id(bucket).await?;
        Ok(bucket.map_or_else(|| self.policy.clone(), |bucket| self.confined(&bucket.policy)))
    }
}

/// The policies under which a tenant's buckets lie, for who looks at many versions.
pub(crate) struct Policies {
    tenant: ResidencyPolicy,
    known: BTreeMap<BucketId, ResidencyPolicy>,
}

impl Policies {
    pub(crate) async fn of(tenant: &Tenant) -> Result<Self, CatalogError> {
        let buckets = tenant.catalog.buckets().await?.into_iter();
        let known = buckets.map(|bucket| (bucket.id, tenant.confined(&bucket.policy))).collect();
        Ok(Self { tenant: tenant.policy.clone(), known })
    }

    /// That of a bucket; the tenant's own where it is gone.
    pub(crate) fn of_bucket(&self, bucket: BucketId) -> &ResidencyPolicy {
        self.known.get(&bucket).unwrap_or(&self.tenant)
    }
}
