//! Sites that come and go: added, drained, retired, their disks replaced. The
//! list is a sealed fact in the realm of the service, at more sites than may
//! be lost; the topology file says only where to begin to look.

use coffer_catalog::CatalogError;
use coffer_model::{
    BucketId, CERTIFICATE_TEXT_MAX, ResidencyPolicy, SiteDescription, SiteId, TenantId, TierCertificate,
};
use coffer_regions::{Standing, Unmet, satisfiable};
use coffer_site::OpenSiteError;
use serde::{Deserialize, Serialize};

use crate::audit::AuditError;
use crate::inventory::go_on;
use crate::opener::OpenedSite;
use crate::registry::{RegistryError, write_fact_without};
use crate::repair::{Needing, RepairError};
use crate::service::{Service, write_topology};
use crate::site_file::{SiteFile, SiteFileError};
use crate::sites::ListedSite;
use crate::stored::Fact;

mod replaced;
mod wishes;

pub use wishes::SiteWish;
pub(crate) use wishes::anyway;

/// The kind of fact in the catalogue of the service's realm.
pub(crate) const SITES: &str = "sites";

/// A site in the fact. The address is JSON, as in the topology file, so that
/// it can grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SiteLine {
    address: String,
    standing: u8,
}

/// The id of the fact of a generation: in order of generations.
pub(crate) fn generation_id(generation: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&generation.to_be_bytes());
    id
}

/// Why the sites are as they were.
#[derive(Debug, thiserror::Error)]
pub enum SiteChangeError {
    /// No site of that name.
    #[error("there is no site {0:?}")]
    NoSite(String),
    /// The site of that name has gone for good.
    #[error("{0} is retired; a site's name is for life")]
    Retired(String),
    /// There is, or was, a site of that name: names are for life.
    #[error("there is a site {0:?} already, or there was")]
    NameTaken(String),
    /// The site file has nothing new.
    #[error("every site of the site file is there already, or was")]
    NoneNew,
    /// The site file does not have what was named.
    #[error("the site file describes no site {0:?}")]
    NotInFile(String),
    /// The site file has several new sites.
    #[error("the site file describes {} sites that are not there yet; name one of them: {}", .0.len(), .0.join(", "))]
    Several(Vec<String>),
    /// The site file cannot be read.
    #[error(transparent)]
    Form(#[from] SiteFileError),
    /// The log of the service does not take what is about to be done.
    #[error("not changed, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    /// Its standing does not allow it.
    #[error("{name} is {}, and must be {} for that", have.name(), need.name())]
    Standing {
        /// Which site.
        name: String,
        /// What it is.
        have: Standing,
        /// What it must be.
        need: Standing,
    },
    /// Without it, a policy could not be satisfied any more.
    #[error("without {name}, the policy of {bucket} of {tenant} could not be satisfied: {unmet}")]
    Needed {
        /// Which site.
        name: String,
        /// Whose policy.
        tenant: TenantId,
        /// Which bucket's.
        bucket: BucketId,
        /// What would be missing.
        unmet: Unmet,
    },
    /// Without it, what a tenant was made with could not be satisfied any more: its own records, and buckets that it
    /// makes without a policy of theirs, lie by that.
    #[error("without {name}, the policy of tenant {tenant} could not be satisfied: {unmet}")]
    NeededByTenant {
        /// Which site.
        name: String,
        /// Whose policy.
        tenant: TenantId,
        /// What would be missing.
        unmet: Unmet,
    },
    /// Without it, what a removed bucket left could lie nowhere any more. Nothing collects hidden versions.
    #[error(
        "without {name}, hidden versions of the bucket {bucket} of {tenant}, which was removed, could not lie where its policy admits them: {unmet}; they are kept, so add a site for them first, `coffer site add`"
    )]
    NeededByHidden {
        /// Which site.
        name: String,
        /// Whose bucket.
        tenant: TenantId,
        /// Which bucket it was.
        bucket: BucketId,
        /// What would be missing.
        unmet: Unmet,
    },
    /// It still has a place in versions.
    #[error(
        "{versions} versions still have a place at {name}; repair moves them, `coffer repair run`, where their policies admit another site that takes data: for those that stay, add one, `coffer site add`"
    )]
    Occupied {
        /// Which site.
        name: String,
        /// How many.
        versions: u64,
    },
    /// Records that are no versions would have too few copies without it.
    #[error(
        "{records} tombstones, facts and runs of leaves would have too few copies without {name}; ask again when the sites that stay answer"
    )]
    Needing {
        /// Which site.
        name: String,
        /// How many.
        records: u64,
    },
    /// Records that are listed and that no site gives back: what they say, and whether it stands, is not known.
    #[error(
        "{records} tombstones, facts or runs of leaves are listed by {name} and damaged or out of reach there, and no other site gives them back, so that nobody knows what would go with it; ask again when all sites answer. If what it has is to be given up, whatever it is, stop {name} or cut it off, and retire it again while it is silent: then only what the other sites list must have enough copies there"
    )]
    Unread {
        /// Which site.
        name: String,
        /// How many.
        records: u64,
    },
    /// What it holds could not be looked at.
    #[error("what {name} holds could not be looked at: {source}")]
    Unseen {
        /// Which site.
        name: String,
        /// Why.
        source: RepairError,
    },
    /// What was declared is none.
    #[error(
        "a certificate has an issuer and a number of 1 to {CERTIFICATE_TEXT_MAX} plain characters, and ends no earlier than it begins"
    )]
    Certificate,
    /// A store could not be made or opened.
    #[error(transparent)]
    Store(#[from] OpenSiteError),
    /// The list could not be written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An address could not be written down, or a list not read.
    #[error("the list of sites cannot be encoded")]
    Encode,
    /// The topology file could not be written; the change stands.
    #[error("the change stands, but the topology file could not be written: {0}")]
    Disk(#[from] std::io::Error),
    /// A catalogue failed.
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
}

fn line(site: &ListedSite) -> Result<SiteLine, SiteChangeError> {
    let address = serde_json::to_string(&site.address).map_err(|_| SiteChangeError::Encode)?;
    let number = Standing::NAMES.iter().position(|(standing, _)| *standing == site.standing);
    Ok(SiteLine { address, standing: number.and_then(|n| u8::try_from(n).ok()).unwrap_or(0) })
}

fn listed(line: &SiteLine) -> Result<ListedSite, SiteChangeError> {
    let address = serde_json::from_str(&line.address).map_err(|_| SiteChangeError::Encode)?;
    let standing = Standing::NAMES.get(usize::from(line.standing)).ok_or(SiteChangeError::Encode)?.0;
    Ok(ListedSite { address, standing })
}

impl Service {
    /// Adds a site of a site file: the one of that name, or the only new one.
    ///
    /// # Errors
    /// [`SiteChangeError`].
    pub async fn add_site(&self, file: &str, name: Option<&str>) -> Result<SiteDescription, SiteChangeError> {
        let _turn = self.changing_sites.write().await;
        let file = SiteFile::parse_unplaced(file)?;
        let mut list = self.sites.listed().to_vec();
        let taken = |name: &str| list.iter().any(|site| site.address.site.name == name);
        let mut new: Vec<_> = file.sites.iter().filter(|entry| !taken(&entry.name)).collect();
        if let Some(name) = name {
            if taken(name) {
                return Err(SiteChangeError::NameTaken(name.to_owned()));
            }
            new.retain(|entry| entry.name == name);
        }
        let entry = match (new.as_slice(), name) {
            ([entry], _) => entry,
            ([], Some(name)) => return Err(SiteChangeError::NotInFile(name.to_owned())),
            ([], None) => return Err(SiteChangeError::NoneNew),
            (several, _) => {
                return Err(SiteChangeError::Several(
                    several.iter().map(|entry| entry.name.clone()).collect(),
                ));
            }
        };
        entry.check_place()?;
        let address = entry.mint(self.host.entropy.as_ref());
        let opened = self.host.sites.create(&self.data_dir, &address).await?;
        let description = address.site.clone();
        list.push(ListedSite { address, standing: Standing::Active });
        self.write_sites(list, Some((description.id, opened))).await?;
        // Keys first: without them the new site is no help in a recovery.
        crate::repair::heal_slots(self).await;
        Ok(description)
    }

    /// A site takes no new data from now on, and repair moves away what it
    /// holds; or, with `back`, it takes data again.
    ///
    /// # Errors
    /// [`SiteChangeError::Needed`] if a policy needs it.
    pub async fn drain_site(&self, name: &str, back: bool) -> Result<SiteId, SiteChangeError> {
        self.drain(name, back, false, None).await
    }

    /// The same; with `anyway` a site goes on draining although a policy needs it: what that policy asks
    /// for is refused from then on, rather than written where it may not lie. `wish` is the subject of its
    /// leaves, where nobody else writes them.
    pub(crate) async fn drain(
        &self,
        name: &str,
        back: bool,
        anyway: bool,
        wish: Option<&str>,
    ) -> Result<SiteId, SiteChangeError> {
        let _turn = self.changing_sites.write().await;
        let (mut list, at) = self.find(name)?;
        let site = list.get_mut(at).ok_or(SiteChangeError::Encode)?;
        let id = site.address.site.id;
        let (need, next) = match back {
            false => (Standing::Active, Standing::Draining),
            true => (Standing::Draining, Standing::Active),
        };
        require(site, need)?;
        site.standing = next;
        if !back && !anyway {
            self.refuse_if_needed(id, name).await?;
        }
        self.write_as_wished(list, wish).await?;
        Ok(id)
    }

    /// A drained site goes for good.
    ///
    /// # Errors
    /// [`SiteChangeError::Occupied`] while a version has a place there.
    pub async fn retire_site(&self, name: &str) -> Result<SiteId, SiteChangeError> {
        self.retire(name, None).await
    }

    pub(crate) async fn retire(&self, name: &str, wish: Option<&str>) -> Result<SiteId, SiteChangeError> {
        let _turn = self.changing_sites.write().await;
        let (mut list, at) = self.find(name)?;
        let site = list.get_mut(at).ok_or(SiteChangeError::Encode)?;
        let id = site.address.site.id;
        require(site, Standing::Draining)?;
        site.standing = Standing::Retired;
        self.refuse_if_occupied(id, name).await?;
        self.refuse_if_records_need_it(id, name).await?;
        self.write_as_wished(list, wish).await?;
        self.forget_disk(id).await;
        Ok(id)
    }

    /// What was known of a disk that is not there any more.
    async fn forget_disk(&self, id: SiteId) {
        self.damage.forget(id);
        self.repairs.forget(id);
        self.reach_noted.lock().await.remove(&id);
    }

    /// Keeps what an operator declares about the certificate of the tier of a
    /// site's building.
    ///
    /// # Errors
    /// [`SiteChangeError`].
    pub async fn certify_site(
        &self,
        name: &str,
        certificate: TierCertificate,
    ) -> Result<SiteId, SiteChangeError> {
        if !certificate.is_sound() {
            return Err(SiteChangeError::Certificate);
        }
        let _turn = self.changing_sites.write().await;
        let (mut list, at) = self.find(name)?;
        let site = list.get_mut(at).ok_or(SiteChangeError::Encode)?;
        let id = site.address.site.id;
        site.address.certificate = Some(certificate);
        self.write_sites(list, None).await?;
        Ok(id)
    }

    fn find(&self, name: &str) -> Result<(Vec<ListedSite>, usize), SiteChangeError> {
        let list = self.sites.listed().to_vec();
        let found = list.iter().enumerate().find(|(_, site)| site.address.site.name == name);
        match found.map(|(at, site)| (at, site.standing)) {
            None => Err(SiteChangeError::NoSite(name.to_owned())),
            Some((_, Standing::Retired)) => Err(SiteChangeError::Retired(name.to_owned())),
            Some((at, _)) => Ok((list, at)),
        }
    }

    /// Nothing may have a place at a site that goes.
    async fn refuse_if_occupied(&self, id: SiteId, name: &str) -> Result<(), SiteChangeError> {
        match self.versions_at(id).await? {
            0 => Ok(()),
            versions => Err(SiteChangeError::Occupied { name: name.to_owned(), versions }),
        }
    }

    /// Nor may it take the copies with it by which something else stands.
    async fn refuse_if_records_need_it(&self, id: SiteId, name: &str) -> Result<(), SiteChangeError> {
        let short = crate::repair::short_without(self, id).await;
        let name = name.to_owned();
        match short {
            Ok(Needing { unread: records @ 1.., .. }) => Err(SiteChangeError::Unread { name, records }),
            Ok(Needing { short: 0, .. }) => Ok(()),
            Ok(Needing { short, .. }) => Err(SiteChangeError::Needing { name, records: short }),
            Err(source) => Err(SiteChangeError::Unseen { name, source }),
        }
    }

    /// Every policy that admits this site must have enough sites without it.
    async fn refuse_if_needed(&self, id: SiteId, name: &str) -> Result<(), SiteChangeError> {
        let mut left = self.sites.taking().clone();
        left.sites.retain(|site| site.id != id);
        // Of one that does not admit it, whatever that lacks, it takes nothing.
        let without = |policy: &ResidencyPolicy| match self.sites.topology().site(id) {
            Some(site) if policy.admits(site) => satisfiable(&left, policy),
            _ => Ok(()),
        };
        for tenant in self.all_tenants().iter().filter(|tenant| !tenant.service) {
            for bucket in tenant.catalog.buckets().await? {
                without(&tenant.confined(&bucket.policy)).map_err(|unmet| SiteChangeError::Needed {
                    name: name.to_owned(),
                    tenant: tenant.id,
                    bucket: bucket.id,
                    unmet,
                })?;
            }
            without(&tenant.policy).map_err(|unmet| SiteChangeError::NeededByTenant {
                name: name.to_owned(),
                tenant: tenant.id,
                unmet,
            })?;
            for (bucket, policy) in tenant.catalog.removed_policies().await? {
                let Some(policy) = tenant.asked_by_hidden(bucket, &policy).await? else { continue };
                without(&policy).map_err(|unmet| SiteChangeError::NeededByHidden {
                    name: name.to_owned(),
                    tenant: tenant.id,
                    bucket,
                    unmet,
                })?;
            }
        }
        Ok(())
    }

    /// Whether a site goes for good with the list in which it stands so.
    fn leaves(&self, site: &ListedSite) -> bool {
        let (old, new) = (self.sites.standing(site.address.site.id), site.standing);
        old != Standing::Retired && new == Standing::Retired
    }

    /// Versions, and puts under way, that have a place at a site.
    async fn versions_at(&self, id: SiteId) -> Result<u64, SiteChangeError> {
        let mut versions = 0;
        for tenant in self.all_tenants() {
            let reserved = tenant.catalog.reservations().await?;
            versions += reserved.iter().filter(|row| row.sites.contains(&id)).count() as u64;
            let mut after = None;
            loop {
                let name = || self.sites.name(id).to_owned();
                go_on(self).map_err(|source| SiteChangeError::Unseen { name: name(), source })?;
                let page = tenant.catalog.versions(after, 512).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.manifest.manifest.version);
                let there = page.iter().filter(|row| row.manifest.manifest.layout.sites().contains(&id));
                versions += there.count() as u64;
            }
        }
        Ok(versions)
    }

    /// Writes another list: the fact at the sites, then its index, then what
    /// is in memory, then the topology file. A crash between any two leaves
    /// the old list or the new one.
    async fn write_sites(
        &self,
        list: Vec<ListedSite>,
        opened: Option<(SiteId, OpenedSite)>,
    ) -> Result<(), SiteChangeError> {
        let realm = self.service_realm().ok_or(SiteChangeError::Encode)?;
        let known = realm.catalog.facts(SITES).await?;
        let newest = known.last().map_or(0, |(id, _)| generation_of(id));
        // Never one that was given before, whatever became of it.
        let generation = self.host.clock.now().0.max(newest + 1);
        let lines: Vec<SiteLine> = list.iter().map(line).collect::<Result<_, _>>()?;
        let body = postcard::to_allocvec(&lines).map_err(|_| SiteChangeError::Encode)?;
        let fact = Fact::Sites { generation, sites: lines };
        let leaving: Vec<SiteId> =
            list.iter().filter(|site| self.leaves(site)).map(|site| site.address.site.id).collect();
        write_fact_without(&self.host, &self.sites, &realm, &fact, &leaving).await?;
        realm.catalog.put_fact(SITES, generation_id(generation), body).await?;
        self.sites.change(&self.host, &self.data_dir, list, opened).await?;
        write_topology(&self.data_dir, &self.sites.addresses())?;
        Ok(())
    }

    /// Takes the newest list that the realm of the service knows, where it
    /// differs from what the topology file, or the kit, said; whether it did.
    /// With `local` the topology file may know of a new disk that no list told.
    pub(crate) async fn adopt_sites(&self, local: bool) -> Result<bool, SiteChangeError> {
        let Some(realm) = self.service_realm() else { return Ok(false) };
        let known = realm.catalog.facts(SITES).await?;
        let Some((_, body)) = known.last() else { return Ok(false) };
        let lines: Vec<SiteLine> = postcard::from_bytes(body).map_err(|_| SiteChangeError::Encode)?;
        let mut list: Vec<ListedSite> = lines.iter().map(listed).collect::<Result<_, _>>()?;
        for site in &mut list {
            site.address.refilling |= local && self.sites.is_refilling(site.address.site.id);
        }
        let others = list != self.sites.listed();
        if others {
            self.sites.change(&self.host, &self.data_dir, list, None).await?;
        }
        Ok(others)
    }
}

fn generation_of(id: &[u8; 16]) -> u64 {
    id.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn require(site: &ListedSite, need: Standing) -> Result<(), SiteChangeError> {
    let (name, have) = (site.address.site.name.clone(), site.standing);
    if have == need { Ok(()) } else { Err(SiteChangeError::Standing { name, have, need }) }
}

/// The body of the fact in a catalogue, for a rebuild.
pub(crate) fn index(generation: u64, sites: &[SiteLine]) -> Result<([u8; 16], Vec<u8>), postcard::Error> {
    Ok((generation_id(generation), postcard::to_allocvec(sites)?))
}

/// Checks that what `SiteAddress` reads is what it wrote.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::SiteAddress;

    #[test]
    fn a_list_of_sites_reads_back_whatever_their_standing() {
        let site = SiteFile::shipped().unwrap().sites.remove(0).mint(&coffer_custody::OsEntropy);
        for (standing, _) in Standing::NAMES {
            let before = ListedSite { address: SiteAddress { latency_ms: 7, ..site.clone() }, standing };
            assert_eq!(listed(&line(&before).unwrap()).unwrap(), before);
        }
    }
}
