//! From which sites the versions can be read, counted: what whoever takes sites
//! down has to know first. The count is a look at everything that the sites list,
//! as repair's is; what was written or moved after it began is noted beside it. What
//! is not known is not counted as readable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_model::{Layout, SiteId};
use coffer_regions::{Coding, Standing};

use crate::inventory::{Census, Found, Superseded, walk};
use crate::repair::RepairError;
use crate::service::Service;

/// Different sets of sites that are told apart. What is beyond them counts as readable only where all of
/// it is.
const SETS_MAX: usize = 1 << 16;

/// Sites from which something can be read, and how many of them it takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Readable {
    needed: usize,
    sites: Vec<SiteId>,
}

/// How many versions can be read from each set of sites.
#[derive(Clone, Debug, Default)]
struct Sets {
    counted: BTreeMap<Readable, u64>,
    /// Those for which there was no room, by how many shards they need.
    beyond: BTreeMap<usize, (BTreeSet<SiteId>, u64)>,
}

impl Sets {
    fn add(&mut self, readable: Readable, versions: u64) {
        if self.counted.len() < SETS_MAX || self.counted.contains_key(&readable) {
            *self.counted.entry(readable).or_default() += versions;
            return;
        }
        let sites: BTreeSet<SiteId> = readable.sites.into_iter().collect();
        let (common, count) = self.beyond.entry(readable.needed).or_insert_with(|| (sites.clone(), 0));
        common.retain(|site| sites.contains(site));
        *count += versions;
    }

    fn each(&self) -> impl Iterator<Item = (usize, Vec<SiteId>, u64)> {
        let counted = self.counted.iter().map(|(one, count)| (one.needed, one.sites.clone(), *count));
        let beyond = self
            .beyond
            .iter()
            .map(|(needed, (sites, count))| (*needed, sites.iter().copied().collect(), *count));
        counted.chain(beyond)
    }
}

/// A count that ended.
struct Count {
    /// Monotonic time at which it began.
    began: Duration,
    took: Duration,
    /// What was known to be damaged by then, and which disks there were.
    news: u64,
    sets: Sets,
    /// Versions that have a place at a site, or something readable there.
    held: BTreeMap<SiteId, u64>,
}

/// What is remembered between counts.
#[derive(Default)]
pub(crate) struct HolderBook {
    known: Mutex<Known>,
    /// One count at a time: what is noted meanwhile belongs to one of them.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    last: Option<Count>,
    /// Versions committed or moved since the last count began.
    since: Sets,
    /// Those from before the count that is under way began.
    before: Sets,
    /// Whether anybody ever counted: before that nothing has to be noted beside it.
    counts: bool,
}

impl HolderBook {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A version can be read from these sites of its layout now, whatever was counted.
    pub(crate) fn note(&self, layout: &Layout, missed: &[SiteId]) {
        let mut known = self.known();
        if !known.counts {
            return;
        }
        let mut sites: Vec<SiteId> =
            layout.sites().iter().filter(|site| !missed.contains(site)).copied().collect();
        sites.sort_unstable();
        let needed = match layout {
            Layout::Inline { .. } => 1,
            Layout::Striped { geometry, .. } => geometry.k(),
        };
        known.since.add(Readable { needed, sites }, 1);
    }
}

/// Versions that can be read from the same sites now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderGroup {
    /// How many of the sites it takes to read one.
    pub needed: usize,
    /// The sites by their names: those that answer and hold what they should.
    pub sites: BTreeSet<String>,
    /// How many versions; one whose stripes lie differently counts with each. The service's own records
    /// count as one.
    pub versions: u64,
}

/// A site, as far as taking it down is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderSite {
    /// Its name.
    pub name: String,
    /// What is wanted of it.
    pub standing: Standing,
    /// Whether it answers and is believed.
    pub answers: bool,
    /// Versions that have a place there, or something that can be read there.
    pub held: u64,
}

/// From which sites the versions can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// How long ago the count began.
    pub age: Duration,
    /// How long the count took.
    pub took: Duration,
    /// Versions by where they can be read.
    pub groups: Vec<HolderGroup>,
    /// Every site, those that are retired too: one that is not listed is not known here at all.
    pub sites: Vec<HolderSite>,
}

impl Holders {
    /// Whether this is an answer to somebody who asked `waited` ago for what was counted `age` before that at
    /// most. Where some age will do, a count is as old as its end: what was written meanwhile is noted beside
    /// it, and one that takes long would never be new enough.
    fn answers(&self, waited: Duration, age: Duration) -> bool {
        let took = if age.is_zero() { Duration::ZERO } else { self.took };
        self.age <= waited.saturating_add(age).saturating_add(took)
    }
}

impl Service {
    /// Counts, unless what was counted already is no older than `age` before `asked`, a monotonic time:
    /// whoever waited while another one counted takes that count.
    pub(crate) async fn holders_of(
        &self,
        asked: Duration,
        age: Duration,
    ) -> Result<Option<Holders>, RepairError> {
        let known = || {
            let waited = self.host.clock.monotonic().saturating_sub(asked);
            self.holders().filter(|known| known.answers(waited, age))
        };
        if let Some(known) = known() {
            return Ok(Some(known));
        }
        let turn = self.holders.turn.lock().await;
        if let Some(known) = known() {
            return Ok(Some(known));
        }
        self.count(turn).await?;
        Ok(self.holders())
    }

    /// Counts anew: a look at every version and at the lists of every site.
    ///
    /// # Errors
    /// [`RepairError`]; then what was counted before stands.
    pub async fn count_holders(&self) -> Result<(), RepairError> {
        let turn = self.holders.turn.lock().await;
        self.count(turn).await
    }

    async fn count(&self, _turn: tokio::sync::MutexGuard<'_, ()>) -> Result<(), RepairError> {
        let began = self.host.clock.monotonic();
        let news = {
            let mut known = self.holders.known();
            known.counts = true;
            // Beside those that a count which failed has left there.
            let since = std::mem::take(&mut known.since);
            for (needed, sites, versions) in since.each() {
                known.before.add(Readable { needed, sites }, versions);
            }
            self.damage.news()
        };
        let mut census = Census::new(self);
        let (mut sets, mut held) = (Sets::default(), BTreeMap::new());
        let tenants = self.all_tenants();
        let nothing = Superseded::new();
        let walked = walk(self, &tenants, &mut census, &nothing, |census, found| {
            let readable = readable(census, &found);
            let mut at: BTreeSet<SiteId> = found.inventory.sites.iter().copied().collect();
            at.extend(readable.iter().flat_map(|one| one.sites.iter().copied()));
            at.into_iter().for_each(|site| *held.entry(site).or_default() += 1);
            readable.into_iter().for_each(|one| sets.add(one, 1));
        });
        tokio::select! {
            biased;
            () = self.watch.until_leaving() => return Err(RepairError::Stopped),
            walked = walked => walked?,
        }
        for tenant in &tenants {
            for row in tenant.catalog.reservations().await? {
                row.sites.into_iter().for_each(|site| *held.entry(site).or_default() += 1);
            }
        }
        let took = self.host.clock.monotonic().saturating_sub(began);
        let mut known = self.holders.known();
        known.before = Sets::default();
        known.last = Some(Count { began, took, news, sets, held });
        Ok(())
    }

    /// What the last count found, with all that was written since, as far as its sites answer
    /// now; `None` if there was none yet, or what it found is not so any more.
    pub fn holders(&self) -> Option<Holders> {
        // Before the book is opened: every put waits for it.
        let mut counts: BTreeSet<SiteId> = self.sites.alive().into_iter().collect();
        counts.retain(|id| {
            matches!(self.sites.standing(*id), Standing::Active | Standing::Draining)
                && !self.sites.is_quarantined(*id)
        });
        let known = self.holders.known();
        let last = known.last.as_ref()?;
        if last.news != self.damage.news() {
            return None;
        }
        let mut groups: BTreeMap<(usize, Vec<SiteId>), u64> = BTreeMap::new();
        let all = last.sets.each().chain(known.before.each()).chain(known.since.each());
        for (needed, mut sites, versions) in all.chain(self.own_records()) {
            sites.retain(|site| counts.contains(site));
            *groups.entry((needed, sites)).or_default() += versions;
        }
        let name = |id: &SiteId| self.sites.name(*id).to_owned();
        let groups = groups.into_iter().map(|((needed, sites), versions)| HolderGroup {
            needed,
            sites: sites.iter().map(name).collect(),
            versions,
        });
        let mut held = last.held.clone();
        for (_, sites, versions) in known.since.each().chain(known.before.each()) {
            sites.into_iter().for_each(|site| *held.entry(site).or_default() += versions);
        }
        let sites = self.sites.listed().iter().map(|site| {
            let id = site.address.site.id;
            HolderSite {
                name: site.address.site.name.clone(),
                standing: site.standing,
                answers: counts.contains(&id),
                // Before it went nothing had a place there any more, whatever was counted earlier.
                held: match site.standing {
                    Standing::Retired => 0,
                    _ => held.get(&id).copied().unwrap_or(0),
                },
            }
        });
        let age = self.host.clock.monotonic().saturating_sub(last.began);
        Some(Holders { age, took: last.took, groups: groups.collect(), sites: sites.collect() })
    }

    /// Logs, keys and facts lie at every site and need as many as the objects of the service's realm would.
    fn own_records(&self) -> Option<(usize, Vec<SiteId>, u64)> {
        let realm = self.service_realm()?;
        let sites = self.sites.topology().sites.iter().map(|site| site.id).collect();
        Some((realm.policy.geometry.k(), sites, 1))
    }
}

/// From which sites one version can be read: for each way in which its stripes lie, one site for each
/// different shard.
fn readable(census: &Census, found: &Found) -> Vec<Readable> {
    let inventory = &found.inventory;
    let sorted = |sites: BTreeSet<SiteId>| sites.into_iter().collect::<Vec<SiteId>>();
    let copies: BTreeSet<SiteId> = inventory.copies.iter().copied().collect();
    let Coding::Striped { geometry, .. } = inventory.coding else {
        return vec![Readable { needed: 1, sites: sorted(copies) }];
    };
    let mut ways: BTreeSet<Vec<SiteId>> = BTreeSet::new();
    for holdings in inventory.odd.values() {
        let homes = holdings.iter().zip(&inventory.sites);
        let one = homes.filter_map(|(at, home)| at.iter().find(|site| *site == home).or_else(|| at.first()));
        ways.insert(sorted(one.copied().collect()));
    }
    if inventory.odd.len() < usize::try_from(inventory.coding.stripes()).unwrap_or(usize::MAX) {
        let counts = |id: &&SiteId| census.sites.iter().any(|site| site.site.id == **id && site.counts());
        ways.insert(sorted(inventory.sites.iter().filter(counts).copied().collect()));
    }
    // Its manifest has to be readable too.
    let fewer = ways.iter().any(|way| way.iter().any(|site| !copies.contains(site)));
    let mut all: Vec<Readable> =
        ways.into_iter().map(|sites| Readable { needed: geometry.k(), sites }).collect();
    if fewer {
        all.push(Readable { needed: 1, sites: sorted(copies) });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(needed: usize, sites: impl IntoIterator<Item = u8>) -> Readable {
        Readable { needed, sites: sites.into_iter().map(|n| SiteId::from_bytes([n; 16])).collect() }
    }

    #[test]
    fn a_count_that_took_longer_than_it_may_be_old_answers_those_who_asked_meanwhile() {
        let seconds = Duration::from_secs;
        let known = |age, took| Holders {
            age: seconds(age),
            took: seconds(took),
            groups: Vec::new(),
            sites: Vec::new(),
        };
        assert!(known(135, 130).answers(seconds(0), seconds(10)), "it ended five seconds ago");
        assert!(!known(145, 130).answers(seconds(0), seconds(10)));
        assert!(known(145, 130).answers(seconds(30), seconds(10)), "it ended while that was waited for");
        assert!(!known(1, 1).answers(seconds(0), seconds(0)), "it began before it was asked for");
        assert!(known(20, 20).answers(seconds(30), seconds(0)));
    }

    #[test]
    fn what_does_not_fit_is_readable_only_where_all_of_it_is() {
        let mut sets = Sets::default();
        for n in 0..SETS_MAX {
            let [a, b] = u16::try_from(n).unwrap().to_be_bytes();
            let mut site = [0; 16];
            (site[0], site[1]) = (a, b);
            sets.add(Readable { needed: 9, sites: vec![SiteId::from_bytes(site)] }, 1);
        }
        sets.add(at(4, [1, 2, 3, 4, 5, 6]), 1);
        sets.add(at(4, [2, 3, 4, 5, 6, 7]), 2);
        let beyond = sets.each().find(|(needed, _, _)| *needed == 4);
        assert_eq!(beyond, Some((4, at(4, 2..=6).sites, 3)));
    }
}
