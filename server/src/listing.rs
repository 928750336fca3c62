//! How long the listing of one site may be. A site that lies could list what
//! nobody wrote for ever: whoever waited for its end, or kept what was listed,
//! would come to none. Beyond what an honest site can have, it counts as silent.

use coffer_catalog::CatalogError;
use coffer_model::{RecordId, SiteId};
use coffer_regions::RecordKind;

use crate::service::Service;

/// Lines that nothing has to account for: what puts under way, withdrawn puts
/// and facts that never stood leave at a site.
const SLACK: u64 = 1 << 16;
/// The same for shards: one withdrawn put can leave thousands.
const SLACK_SHARDS: u64 = 1 << 20;

/// A site may have so many times what is known, for what was moved or written
/// again.
const TIMES: u64 = 4;

/// Sealed bytes of a stripe, at least.
const STRIPE_BYTES_MIN: u64 = 1 << 20;

/// What is allowed whatever is known, so that what is known need not be looked
/// up for a short listing.
pub(crate) fn slack(kind: RecordKind) -> u64 {
    if kind == RecordKind::Shard { SLACK_SHARDS } else { SLACK }
}

/// How many records of a kind the catalogues of all tenants account for at one
/// site, at most. Whatever is written but a shard has a leaf of its own, and a
/// stripe has one shard at a site; a site that has more of them has them twice.
pub(crate) async fn known(service: &Service, kind: RecordKind) -> Result<u64, CatalogError> {
    let mut known = 0_u64;
    for tenant in service.all_tenants() {
        let of_tenant = match kind {
            RecordKind::Shard => {
                let striped = tenant.catalog.striped().await?;
                striped.bytes / STRIPE_BYTES_MIN + 2 * striped.versions
            }
            // A log that a rebuild found cut short accounts for too little.
            RecordKind::Manifest => {
                tenant.catalog.log_size().await?.max(tenant.catalog.version_count().await?)
            }
            _ => tenant.catalog.log_size().await?,
        };
        known = known.saturating_add(of_tenant);
    }
    Ok(known)
}

/// What other sites vouch for, of what each of them listed. Sites may be shared
/// with deployments of which no catalogue here knows anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vouched {
    /// The longest but one: one that lies does not vouch for another.
    by_two: u64,
    /// The longest.
    by_one: u64,
}

pub(crate) fn vouched(listed: impl Iterator<Item = u64>) -> Vouched {
    let mut listed: Vec<u64> = listed.collect();
    listed.sort_unstable();
    let nth_last = |n: usize| listed.len().checked_sub(n).and_then(|at| listed.get(at)).copied();
    let by_one = nth_last(1).unwrap_or(0);
    Vouched { by_two: nth_last(2).unwrap_or(by_one), by_one }
}

/// So many records may be there for which less than two others vouch: one other
/// site, or a record itself that is served as it was listed. Where a bucket has
/// few sites and some of them burned, nobody else can. It still has an end.
const ALONE_MAX: u64 = 1 << 24;

/// Whether a site may have listed so many records of a kind, where so many are
/// `known`, or are listed by others.
pub(crate) fn is_credible(kind: RecordKind, listed: u64, known: u64, others: Vouched) -> bool {
    let fits = |by: u64| listed <= slack(kind).saturating_add(by.saturating_mul(TIMES));
    fits(known.max(others.by_two)) || (listed <= ALONE_MAX && fits(others.by_one))
}

/// The same, of records of which so many are not what is looked for, and so many
/// of these were served as they were listed.
pub(crate) fn is_credible_served(
    kind: RecordKind,
    strange: u64,
    served: u64,
    known: u64,
    others: Vouched,
) -> bool {
    let unserved = strange.saturating_sub(served);
    is_credible(kind, strange, known, others)
        || (strange <= ALONE_MAX && is_credible(kind, unserved, known, others))
}

/// What accounts for the listing of one site, where one is read to its end
/// after the other.
pub(crate) struct Accounted {
    known: u64,
    /// About how much each site lists.
    sites: Vec<(SiteId, u64)>,
}

impl Accounted {
    pub(crate) async fn of(
        service: &Service,
        kind: RecordKind,
        sites: &[SiteId],
    ) -> Result<Self, CatalogError> {
        let known = known(service, kind).await?;
        let asked = sites.iter().map(|id| async {
            let page = service.sites.for_repair(*id)?.list(kind, None, PAGE).await.ok()?;
            Some((*id, estimated(page.len(), page.last().map(|line| line.id))))
        });
        let sites = futures::future::join_all(asked).await.into_iter().flatten().collect();
        Ok(Self { known, sites })
    }

    pub(crate) fn is_credible(&self, kind: RecordKind, site: SiteId, listed: u64) -> bool {
        let elsewhere = self.sites.iter().filter(|(id, _)| *id != site).map(|(_, listed)| *listed);
        is_credible(kind, listed, self.known, vouched(elsewhere))
    }
}

/// Lines by which the length of a listing is estimated.
const PAGE: usize = 1024;

/// How long a listing is that begins with so many lines, up to `last`. Ids are
/// drawn by chance or are digests, so that they lie evenly.
fn estimated(lines: usize, last: Option<RecordId>) -> u64 {
    let Some(last) = last.filter(|_| lines >= PAGE) else { return lines as u64 };
    let pages = u128::MAX / u128::from_be_bytes(*last.as_bytes()).max(1);
    u64::try_from(pages.saturating_mul(lines as u128)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others(by_two: u64, by_one: u64) -> Vouched {
        Vouched { by_two, by_one }
    }

    #[test]
    fn a_listing_is_credible_as_far_as_catalogues_or_the_other_sites_account_for_it_and_a_little_further() {
        let manifests = |listed, known, elsewhere| {
            is_credible(RecordKind::Manifest, listed, known, others(elsewhere, elsewhere))
        };
        assert!(manifests(SLACK, 0, 0) && !manifests(SLACK + 1, 0, 0));
        assert!(manifests(10_000_000, 2_500_000, 0) && manifests(10_000_000, 0, 2_500_000));
        assert!(!manifests(11_000_000, 2_500_000, 2_500_000), "one of the two accounts for it");
        assert!(manifests(u64::MAX, u64::MAX, 0));
        assert!(is_credible(RecordKind::Shard, SLACK_SHARDS, 0, Vouched::default()));
    }

    #[test]
    fn one_other_site_accounts_for_as_much_as_has_an_end() {
        let manifests = |listed, by_one| is_credible(RecordKind::Manifest, listed, 0, others(0, by_one));
        assert!(manifests(360_000, 90_000) && !manifests(500_000, 90_000));
        assert!(manifests(ALONE_MAX, u64::MAX) && !manifests(ALONE_MAX + 1, u64::MAX));
    }

    #[test]
    fn records_that_are_served_account_for_themselves_and_those_that_are_not_do_not() {
        let manifests = |strange, served| {
            is_credible_served(RecordKind::Manifest, strange, served, 0, Vouched::default())
        };
        assert!(manifests(5_000_000, 5_000_000) && manifests(5_000_000, 5_000_000 - SLACK));
        assert!(!manifests(5_000_000, 5_000_000 - SLACK - 1) && !manifests(SLACK + 1, 0));
        assert!(!manifests(ALONE_MAX + 1, ALONE_MAX + 1), "nor is there no end of them");
    }

    #[test]
    fn a_site_that_lies_vouches_for_no_other_and_two_that_share_a_deployment_vouch_for_a_third() {
        assert_eq!(vouched([0, u64::MAX, 9, 7, 8].into_iter()), others(9, u64::MAX));
        assert_eq!(vouched([0, 0, 0, 9_000_000, 8_000_000].into_iter()), others(8_000_000, 9_000_000));
        assert_eq!(vouched([5].into_iter()), others(5, 5));
        assert_eq!(vouched(std::iter::empty()), others(0, 0));
    }

    #[test]
    fn the_length_of_a_listing_is_estimated_by_where_its_first_page_ends() {
        let id = |n: u128| Some(RecordId::from_bytes(n.to_be_bytes()));
        assert_eq!((estimated(0, None), estimated(100, id(7))), (0, 100), "a short one is whole");
        assert_eq!(estimated(PAGE, id(u128::MAX)), PAGE as u64);
        assert_eq!(estimated(PAGE, id(u128::MAX / 1000)), 1000 * PAGE as u64);
        assert_eq!((estimated(PAGE, id(0)), estimated(PAGE, id(PAGE as u128))), (u64::MAX, u64::MAX));
    }
}
