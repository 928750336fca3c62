//! Under which policy the bytes of a bucket lie: its own where its tenant's
//! holds as well, whatever sites there are by now. That of a removed bucket
//! stays with its hidden versions.

use std::collections::BTreeMap;

use coffer_catalog::CatalogError;
use coffer_model::{BucketId, Geometry, Jurisdiction, JurisdictionGroup, Manifest, ResidencyPolicy, SiteId};

use crate::sites::Sites;
use crate::tenant::Tenant;

impl Tenant {
    /// A bucket's policy where this tenant's holds as well. A bucket is made
    /// under a policy that admits no more than its tenant's among the sites of
    /// that day; others are added later.
    pub(crate) fn confined(&self, policy: &ResidencyPolicy) -> ResidencyPolicy {
        policy.within(&self.policy)
    }

    /// Under which policy lies what a bucket has beside its versions; the
    /// tenant's own where nobody knows any more what the bucket's was.
    pub(crate) async fn policy_of(&self, bucket: BucketId) -> Result<ResidencyPolicy, CatalogError> {
        Ok(self.known_policy(bucket).await?.unwrap_or_else(|| self.policy.clone()))
    }

    /// Under which policy a version lies.
    pub(crate) async fn policy_of_version(
        &self,
        sites: &Sites,
        manifest: &Manifest,
    ) -> Result<ResidencyPolicy, CatalogError> {
        let known = self.known_policy(manifest.bucket).await?;
        Ok(known.unwrap_or_else(|| stays(sites, &self.policy, manifest)))
    }

    /// What the hidden versions of a removed bucket ask of the sites: places for
    /// shards, or for whole copies only; nothing where there are none.
    pub(crate) async fn asked_by_hidden(
        &self,
        bucket: BucketId,
        policy: &ResidencyPolicy,
    ) -> Result<Option<ResidencyPolicy>, CatalogError> {
        let policy = self.confined(policy);
        if self.catalog.has_versions(bucket, false).await? {
            return Ok(Some(policy));
        }
        // A whole copy at each of m + 1 sites.
        let (_, m) = policy.geometry.into();
        let geometry = Geometry::new(1, m).unwrap_or(policy.geometry);
        let small = self.catalog.has_versions(bucket, true).await?;
        Ok(small.then_some(ResidencyPolicy { geometry, ..policy }))
    }

    async fn known_policy(&self, bucket: BucketId) -> Result<Option<ResidencyPolicy>, CatalogError> {
        let known = match self.catalog.bucket_by_id(bucket).await? {
            Some(bucket) => Some(bucket.policy),
            None => self.catalog.removed_policy(bucket).await?,
        };
        Ok(known.map(|policy| self.confined(&policy)))
    }
}

/// The policies under which a tenant's versions lie, for who looks at many.
pub(crate) struct Policies {
    tenant: ResidencyPolicy,
    known: BTreeMap<BucketId, ResidencyPolicy>,
}

impl Policies {
    pub(crate) async fn of(tenant: &Tenant) -> Result<Self, CatalogError> {
        // A removal between the two looks is met by one of them.
        let buckets = tenant.catalog.buckets().await?.into_iter().map(|bucket| (bucket.id, bucket.policy));
        let removed = tenant.catalog.removed_policies().await?;
        let confined = |(bucket, policy): (BucketId, ResidencyPolicy)| (bucket, tenant.confined(&policy));
        Ok(Self { tenant: tenant.policy.clone(), known: buckets.chain(removed).map(confined).collect() })
    }

    /// That of one version.
    pub(crate) fn of_version(&self, sites: &Sites, manifest: &Manifest) -> ResidencyPolicy {
        let known = self.known.get(&manifest.bucket).cloned();
        known.unwrap_or_else(|| stays(sites, &self.tenant, manifest))
    }
}

/// Of a version whose bucket was removed when policies did not outlive buckets
/// yet: it stays in the countries in which it lies, for nobody knows what else
/// its bucket admitted.
fn stays(sites: &Sites, tenant: &ResidencyPolicy, manifest: &Manifest) -> ResidencyPolicy {
    let homes = manifest.layout.sites();
    let home = |id: &SiteId| sites.listed().iter().map(|site| &site.address.site).find(|site| site.id == *id);
    confined_to(tenant, homes.iter().filter_map(home).map(|site| Jurisdiction::Country(site.country)))
}

/// A tenant's policy in these places alone; without any, it admits nothing.
fn confined_to(tenant: &ResidencyPolicy, places: impl Iterator<Item = Jurisdiction>) -> ResidencyPolicy {
    let mut allow: Vec<Jurisdiction> = places.collect();
    allow.sort_unstable();
    allow.dedup();
    let mut deny = Vec::new();
    if allow.is_empty() {
        // An empty list would mean every place.
        let any = Jurisdiction::Group(JurisdictionGroup::Eu);
        (allow, deny) = (vec![any], vec![any]);
    }
    ResidencyPolicy { allow, deny, ..tenant.clone() }.within(tenant)
}

#[cfg(test)]
mod tests {
    use coffer_model::{Degraded, FailureDomain, SiteDescription, Tier};

    use super::*;

    #[test]
    fn a_version_of_an_unknown_bucket_stays_in_its_countries_and_within_its_tenants_policy() {
        let tenant = ResidencyPolicy {
            allow: vec!["EU".parse().unwrap()],
            deny: vec!["FR".parse().unwrap()],
            tier_min: Tier::I,
            geometry: Geometry::DEFAULT,
            degraded: Degraded::Refuse,
        };
        let admitted = |policy: &ResidencyPolicy| {
            let site = |country: &&str| SiteDescription {
                id: SiteId::from_bytes([1; 16]),
                name: (*country).to_owned(),
                country: country.parse().unwrap(),
                domain: FailureDomain("one".to_owned()),
                tier: Tier::I,
            };
            let countries = ["DE", "FR", "NL", "US"].into_iter();
            countries.filter(|country| policy.admits(&site(country))).collect::<Vec<_>>()
        };
        let homes = |homes: &[&str]| confined_to(&tenant, homes.iter().map(|home| home.parse().unwrap()));
        assert_eq!(admitted(&tenant), ["DE", "NL"]);
        assert_eq!(admitted(&homes(&["DE", "US", "DE"])), ["DE"]);
        assert!(admitted(&homes(&[])).is_empty());
    }
}
