//! A site leaves for good, and takes nothing with it that no other site has.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use coffer_model::{Digest, RecordId};
use coffer_regions::{ClearGeometry, ListedRecord, Receipt, Record, RecordKind, Site, SiteError};
use coffer_server::{RecoveryKit, RepairError, SiteChangeError};
use coffer_site::{DirectorySite, SimulatedSite};
use coffer_tests::{Deployment, TenantClient, Twist, bucket_name, host, policy, twisted};

const LEAVING: &str = "fra1";
/// After every id that chance gives.
const INVENTED: RecordId = RecordId::from_bytes([0xff; 16]);
const STAYING: [&str; 5] = ["par1", "ams1", "zrh1", "sto1", "mad1"];

async fn records(site: &DirectorySite, kind: RecordKind) -> Vec<Record> {
    let mut records = Vec::new();
    for line in site.list(kind, None, usize::MAX).await.unwrap() {
        records.push(site.get(line.id).await.unwrap());
    }
    records
}

/// Makes the one site the only one that has any record of this kind.
async fn leave_it_alone_with(kind: RecordKind, deployment: &Deployment, kit: &RecoveryKit) {
    let alone = deployment.open_site(kit, LEAVING);
    for name in STAYING {
        let site = deployment.open_site(kit, name);
        let all = records(&site, kind).await;
        site.delete(all.iter().map(Record::id).collect()).await.unwrap();
        alone.put(all).await.unwrap();
    }
}

/// What goes wrong at sites, by their names.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<Wrong>>);

#[derive(Default)]
struct Wrong {
    /// Facts are listed there, and not given back, for this reason.
    unread: Option<(&'static str, SiteError)>,
    /// A tombstone that nobody wrote is listed at the site that leaves, and this answered to who reads it.
    invented: Option<Result<Record, SiteError>>,
    /// Listings of facts there break off after their first page.
    breaks_off: Option<&'static str>,
    /// Nothing is taken there.
    full: BTreeSet<&'static str>,
    /// These are taken nowhere.
    refused: BTreeSet<RecordId>,
    /// The sites as they were opened last.
    links: Vec<Weak<SimulatedSite>>,
}

impl Faults {
    fn set(&self, change: impl FnOnce(&mut Wrong)) {
        change(&mut self.0.lock().unwrap());
    }

    /// Makes a site silent.
    fn kill(&self, name: &str) {
        let wrong = self.0.lock().unwrap();
        let links = wrong.links.iter().filter_map(Weak::upgrade);
        links.filter(|link| link.description().name == name).for_each(|link| link.kill());
    }

    /// Six sites at which this may go wrong.
    async fn deployment(&self) -> Deployment {
        let (mut host, faults) = (host(), self.clone());
        host.sites = twisted(host.sites, move |inner| {
            let link = Arc::new(SimulatedSite::new(inner, Duration::ZERO, None));
            faults.set(|wrong| wrong.links.push(Arc::downgrade(&link)));
            Faulty { inner: link, faults: faults.clone() }
        });
        Deployment::six_sites_on(host).await
    }
}

struct Faulty {
    inner: Arc<dyn Site>,
    faults: Faults,
}

impl Faulty {
    fn is(&self, name: &str) -> bool {
        self.inner.description().name == name
    }

    fn invented(&self) -> Option<Result<Record, SiteError>> {
        self.faults.0.lock().unwrap().invented.clone().filter(|_| self.is(LEAVING))
    }
}

#[async_trait]
impl Twist for Faulty {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let refused = {
            let wrong = self.faults.0.lock().unwrap();
            let is_refused = |record: &Record| wrong.refused.contains(&record.id());
            wrong.full.iter().any(|name| self.is(name)) || records.iter().any(is_refused)
        };
        if refused { Err(SiteError::Full) } else { self.inner.put(records).await }
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        if let Some(answer) = self.invented().filter(|_| id == INVENTED) {
            return answer;
        }
        let record = self.inner.get(id).await?;
        let unread = self.faults.0.lock().unwrap().unread.clone();
        match unread {
            Some((name, error)) if self.is(name) && record.kind() == RecordKind::Registry => Err(error),
            _ => Ok(record),
        }
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        let breaks_off = self.faults.0.lock().unwrap().breaks_off;
        if kind == RecordKind::Registry && after.is_some() && breaks_off.is_some_and(|name| self.is(name)) {
            return Err(SiteError::Unreachable);
        }
        let mut page = self.inner.list(kind, after, limit).await?;
        let is_next = kind == RecordKind::Tombstone && after.is_none_or(|after| after < INVENTED);
        if self.invented().is_some() && is_next && page.len() < limit {
            page.push(ListedRecord { id: INVENTED, kind, digest: Digest([9; 32]), body_bytes: 40 });
        }
        Ok(page)
    }
}

/// A tenant of two and one, so that five sites are enough for it.
async fn small_tenant(deployment: &Deployment) -> TenantClient {
    let mut two_and_one = policy(&[]);
    two_and_one.geometry = "2+1".parse().unwrap();
    let tenant = deployment.tenant_with("acme", two_and_one).await;
    tenant.client.create_bucket(&bucket_name("things"), None).await.unwrap();
    tenant
}

/// The site goes, and what it alone had is found by a recovery without it.
async fn leaves_nothing_behind(mut deployment: Deployment, mut tenant: TenantClient, kit: &RecoveryKit) {
    deployment.service().retire_site(LEAVING).await.unwrap();
    deployment.stop().await;
    std::fs::remove_dir_all(deployment.site_dir(LEAVING)).unwrap();
    deployment.lose_all_but_sites();
    deployment.try_recover(kit).await.unwrap();
    deployment.reconnect(&mut tenant).await;
    let buckets = tenant.client.list_buckets().await.unwrap();
    assert!(buckets.iter().any(|bucket| bucket.name == bucket_name("things")));
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_that_a_site_alone_lists_and_does_not_give_back_keep_it_from_leaving() {
    for error in [SiteError::Unreachable, SiteError::Damaged] {
        let faults = Faults::default();
        let mut deployment = faults.deployment().await;
        let mut tenant = small_tenant(&deployment).await;
        let kit = deployment.service().kit().await.unwrap();
        let alone = async |deployment: &Deployment| {
            leave_it_alone_with(RecordKind::Registry, deployment, &kit).await;
        };
        deployment.between(&mut tenant, alone).await;
        deployment.service().drain_site(LEAVING, false).await.unwrap();
        faults.set(|wrong| wrong.unread = Some((LEAVING, error.clone())));
        let refused = deployment.service().retire_site(LEAVING).await;
        assert!(matches!(refused, Err(SiteChangeError::Unread { records: 1.., .. })), "{error}: {refused:?}");
        faults.set(|wrong| wrong.unread = None);
        leaves_nothing_behind(deployment, tenant, &kit).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_breaks_off_midway_is_not_taken_for_its_end() {
    let faults = Faults::default();
    let mut deployment = faults.deployment().await;
    let mut tenant = small_tenant(&deployment).await;
    let kit = deployment.service().kit().await.unwrap();
    deployment
        .between(&mut tenant, async |deployment| {
            leave_it_alone_with(RecordKind::Registry, deployment, &kit).await;
            // More than a page that comes before all that counts, and belongs to nobody.
            let nobodys = (0..1100_u16).map(|n| {
                let mut id = [0; 16];
                id[14..].copy_from_slice(&n.to_be_bytes());
                let (id, body) = (RecordId::from_bytes(id), Bytes::from(vec![7; 40]));
                Record::new(RecordKind::Registry, id, ClearGeometry::default(), body).unwrap()
            });
            deployment.open_site(&kit, LEAVING).put(nobodys.collect()).await.unwrap();
        })
        .await;
    deployment.service().drain_site(LEAVING, false).await.unwrap();
    faults.set(|wrong| wrong.breaks_off = Some(LEAVING));
    let refused = deployment.service().retire_site(LEAVING).await;
    let unseen = |error: &SiteChangeError| {
        matches!(error, SiteChangeError::Unseen { source: RepairError::Unlisted, .. })
    };
    assert!(refused.as_ref().is_err_and(unseen), "{refused:?}");
    assert_eq!(deployment.site(LEAVING).await.standing, "draining");
    faults.set(|wrong| wrong.breaks_off = None);
    leaves_nothing_behind(deployment, tenant, &kit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_leaves_is_none_of_those_that_must_have_the_list_without_it() {
    let faults = Faults::default();
    let deployment = faults.deployment().await;
    let tenant = small_tenant(&deployment).await;
    let kit = deployment.service().kit().await.unwrap();
    deployment.service().drain_site(LEAVING, false).await.unwrap();
    // The service's own records take three sites: these are two, and the one that goes.
    faults.set(|wrong| wrong.full = STAYING[2..].iter().copied().collect());
    let refused = deployment.service().retire_site(LEAVING).await;
    let too_few = |error: &SiteChangeError| matches!(error, SiteChangeError::Registry(short) if short.to_string().contains("only 2 sites"));
    assert!(refused.as_ref().is_err_and(too_few), "{refused:?}");
    faults.set(|wrong| wrong.full.clear());
    leaves_nothing_behind(deployment, tenant, &kit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_site_is_not_let_go_while_what_it_may_have_is_too_thin_elsewhere() {
    let faults = Faults::default();
    let mut deployment = faults.deployment().await;
    let mut tenant = small_tenant(&deployment).await;
    let kit = deployment.service().kit().await.unwrap();
    deployment.service().drain_site(LEAVING, false).await.unwrap();
    deployment
        .between(&mut tenant, async |deployment| {
            // What there is by now has one copy at the sites that stay, and gets no other.
            for name in &STAYING[..4] {
                let site = deployment.open_site(&kit, name);
                let all: Vec<RecordId> =
                    records(&site, RecordKind::Registry).await.iter().map(Record::id).collect();
                site.delete(all.clone()).await.unwrap();
                faults.set(|wrong| wrong.refused.extend(all));
            }
        })
        .await;
    faults.kill(LEAVING);
    let refused = deployment.service().retire_site(LEAVING).await;
    assert!(matches!(refused, Err(SiteChangeError::Needing { records: 1.., .. })), "{refused:?}");
    faults.set(|wrong| wrong.refused.clear());
    leaves_nothing_behind(deployment, tenant, &kit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_no_bucket_has_yet_keeps_a_site_from_being_drained() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    let refused = deployment.service().drain_site(LEAVING, false).await;
    let needed = |error: &SiteChangeError| matches!(error, SiteChangeError::NeededByTenant { tenant: whose, .. } if *whose == tenant.tenant);
    assert!(refused.as_ref().is_err_and(needed), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_copies_of_logs_and_facts_are_not_let_go_with_a_site() {
    for kind in [RecordKind::Log, RecordKind::Registry] {
        let mut deployment = Deployment::six_sites().await;
        let mut two_and_one = policy(&[]);
        two_and_one.geometry = "2+1".parse().unwrap();
        let mut tenant = deployment.tenant_with("acme", two_and_one).await;
        tenant.client.create_bucket(&bucket_name("things"), None).await.unwrap();
        let kit = deployment.service().kit().await.unwrap();
        deployment
            .between(&mut tenant, async |deployment| leave_it_alone_with(kind, deployment, &kit).await)
            .await;
        let service = deployment.service();
        service.drain_site(LEAVING, false).await.unwrap();
        service.retire_site(LEAVING).await.unwrap();
        deployment.stop().await;
        std::fs::remove_dir_all(deployment.site_dir(LEAVING)).unwrap();
        deployment.lose_all_but_sites();
        deployment.try_recover(&kit).await.unwrap();
        deployment.reconnect(&mut tenant).await;
        let buckets = tenant.client.list_buckets().await.unwrap();
        assert!(buckets.iter().any(|bucket| bucket.name == bucket_name("things")), "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_lists_what_it_never_had_is_let_go() {
    let garbage =
        Record::new(RecordKind::Tombstone, INVENTED, ClearGeometry::default(), Bytes::from(vec![7; 40]));
    for (answer, is_let_go) in [
        (Err(SiteError::Missing), true),
        (Ok(garbage.unwrap()), true),
        (Err(SiteError::Damaged), false),
        (Err(SiteError::Unreachable), false),
    ] {
        let faults = Faults::default();
        let deployment = faults.deployment().await;
        let tenant = small_tenant(&deployment).await;
        let kit = deployment.service().kit().await.unwrap();
        deployment.service().drain_site(LEAVING, false).await.unwrap();
        faults.set(|wrong| wrong.invented = Some(answer.clone()));
        if !is_let_go {
            let refused = deployment.service().retire_site(LEAVING).await;
            assert!(
                matches!(refused, Err(SiteChangeError::Unread { records: 1, .. })),
                "{answer:?}: {refused:?}"
            );
            // What it alone lists nobody can ask of it once it is cut off.
            faults.kill(LEAVING);
        }
        leaves_nothing_behind(deployment, tenant, &kit).await;
    }
}
