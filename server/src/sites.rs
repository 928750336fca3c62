//! The sites as the service sees them: reachable or not, and what reads found
//! wrong with them. A site whose directory is gone stays in the topology and
//! never answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_model::{ResidencyPolicy, SiteDescription, SiteId, Topology};
use coffer_regions::{Receipt, Record, Site, SiteError, SiteState};
use coffer_site::{OpenSiteError, SimulatedSite};

use crate::guard::Guard;
use crate::kit::SiteAddress;
use crate::opener::OpenedSite;
use crate::service::Host;

struct Reached {
    opened: OpenedSite,
    /// What everybody asks in its place.
    guard: Arc<Guard>,
    /// Reads that brought damaged, wrong or no bytes.
    reported: AtomicU64,
}

impl Reached {
    fn new(opened: OpenedSite) -> Self {
        let guard = Arc::new(Guard::new(Arc::clone(&opened.site)));
        Self { opened, guard, reported: AtomicU64::new(0) }
    }
}

/// All sites of the deployment.
pub(crate) struct Sites {
    topology: Topology,
    reached: BTreeMap<SiteId, Reached>,
    /// Sites whose directory is there and is not what it should be, and why.
    unopened: BTreeMap<SiteId, OpenSiteError>,
}

impl Sites {
    /// Opens what is there; creates nothing. A directory that is missing or
    /// damaged makes its site unreachable: one lost site must not cost the
    /// others. A site that another process has open, or that a newer program
    /// wrote, is an error: nothing is lost there.
    pub(crate) async fn open(
        host: &Host,
        data_dir: &Path,
        addresses: &[SiteAddress],
    ) -> Result<Self, OpenSiteError> {
        let (mut reached, mut unopened) = (BTreeMap::new(), BTreeMap::new());
        for address in addresses {
            match host.sites.open(data_dir, address).await {
                Ok(Some(opened)) => {
                    reached.insert(address.site.id, Reached::new(opened));
                }
                Ok(None) => {}
                Err(error @ (OpenSiteError::Locked { .. } | OpenSiteError::Format { .. })) => {
                    return Err(error);
                }
                Err(error) => {
                    unopened.insert(address.site.id, error);
                }
            }
        }
        Ok(Self { topology: topology(addresses), reached, unopened })
    }

    /// Creates every site; refuses one that exists.
    pub(crate) async fn create(
        host: &Host,
        data_dir: &Path,
        addresses: &[SiteAddress],
    ) -> Result<Self, OpenSiteError> {
        let mut reached = BTreeMap::new();
        for address in addresses {
            let opened = host.sites.create(data_dir, address).await?;
            reached.insert(address.site.id, Reached::new(opened));
        }
        Ok(Self { topology: topology(addresses), reached, unopened: BTreeMap::new() })
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The site, if it could be opened. It may still be dead, or quarantined.
    pub(crate) fn get(&self, id: SiteId) -> Option<Arc<dyn Site>> {
        self.reached.get(&id).map(|reached| Arc::clone(&reached.guard) as Arc<dyn Site>)
    }

    /// What stands before a site that could be opened.
    pub(crate) fn guard(&self, id: SiteId) -> Option<&Guard> {
        self.reached.get(&id).map(|reached| reached.guard.as_ref())
    }

    /// What stands before each site that could be opened.
    pub(crate) fn guards(&self) -> impl Iterator<Item = (SiteId, &Guard)> {
        self.reached.iter().map(|(id, reached)| (*id, reached.guard.as_ref()))
    }

    /// Whether a site is older than it was, and has not been refilled yet.
    pub(crate) fn is_quarantined(&self, id: SiteId) -> bool {
        self.guard(id).is_some_and(Guard::is_quarantined)
    }

    /// The simulated site of that name, for killing and reviving.
    pub(crate) fn simulated(&self, name: &str) -> Option<(&SiteDescription, Arc<SimulatedSite>)> {
        let description = self.topology.sites.iter().find(|site| site.name == name)?;
        let link = self.reached.get(&description.id)?.opened.link.as_ref()?;
        Some((description, Arc::clone(link)))
    }

    /// The sites that answered when last heard of.
    pub(crate) fn alive(&self) -> Vec<SiteId> {
        let answers = |id: &SiteId| self.reached.get(id).is_some_and(|reached| reached.guard.answers());
        self.topology.sites.iter().map(|site| site.id).filter(answers).collect()
    }

    /// The sites that a policy admits, dead or alive.
    pub(crate) fn admitted(&self, policy: &ResidencyPolicy) -> Vec<SiteId> {
        self.topology.sites.iter().filter(|site| policy.admits(site)).map(|site| site.id).collect()
    }

    /// The name of a site, for people.
    pub(crate) fn name(&self, id: SiteId) -> &str {
        self.topology.site(id).map_or("unknown", |site| site.name.as_str())
    }

    /// Puts a good record in the place of one that a read found damaged, wrong
    /// or missing; whether the site acknowledged it. What does not succeed is
    /// tried again by the next reader; it never holds this one up with an error.
    pub(crate) async fn replace(&self, id: SiteId, good: Record) -> bool {
        let Some(site) = self.get(id) else { return false };
        site.delete(vec![good.id()]).await.is_ok() && put_verified(Some(site), id, good).await.is_ok()
    }

    /// Notes that a read from `site` brought damaged, wrong or no bytes.
    pub(crate) fn report(&self, site: SiteId) {
        if let Some(reached) = self.reached.get(&site) {
            reached.reported.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads that were reported against a site; a site that is there and does
    /// not open counts as one.
    pub(crate) fn reported(&self, site: SiteId) -> u64 {
        let unopened = u64::from(self.unopened.contains_key(&site));
        self.reached.get(&site).map_or(unopened, |reached| reached.reported.load(Ordering::Relaxed))
    }

    /// Names of the sites that are there and do not open, and why.
    pub(crate) fn unopened(&self) -> Vec<(String, String)> {
        let in_order = self.topology.sites.iter();
        in_order
            .filter_map(|site| Some((site.name.clone(), self.unopened.get(&site.id)?.to_string())))
            .collect()
    }

    /// How a site is doing; a site without a directory is dead.
    pub(crate) async fn state(&self, site: SiteId) -> SiteState {
        match self.reached.get(&site) {
            Some(reached) => reached.guard.state().await,
            None => SiteState::DEAD,
        }
    }

    /// Writes one record to each of `sites` at once. Which sites answered
    /// with a receipt for exactly these bytes, and which did not.
    pub(crate) async fn put_everywhere(&self, sites: &[SiteId], record: &Record) -> Acknowledged {
        let calls = sites.iter().map(|id| async {
            let stored = put_verified(self.get(*id), *id, record.clone()).await;
            (*id, stored)
        });
        let mut answer = Acknowledged { by: Vec::new(), missing: Vec::new() };
        for (id, stored) in futures::future::join_all(calls).await {
            match stored {
                Ok(()) => answer.by.push(id),
                Err(_) => answer.missing.push(id),
            }
        }
        answer
    }
}

/// Who has fsynced a record, and who has not.
pub(crate) struct Acknowledged {
    pub(crate) by: Vec<SiteId>,
    pub(crate) missing: Vec<SiteId>,
}

/// Puts one record at one site and checks that the receipt is for it.
pub(crate) async fn put_verified(
    site: Option<Arc<dyn Site>>,
    id: SiteId,
    record: Record,
) -> Result<(), SiteError> {
    let site = site.ok_or(SiteError::Unreachable)?;
    let expected = Receipt { site: id, record: record.id(), digest: record.digest() };
    match site.put(vec![record]).await?.as_slice() {
        [receipt] if *receipt == expected => Ok(()),
        _ => Err(SiteError::Conflict),
    }
}

fn topology(addresses: &[SiteAddress]) -> Topology {
    Topology { sites: addresses.iter().map(|address| address.site.clone()).collect() }
}
