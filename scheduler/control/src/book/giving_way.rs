//! Who gives way to sets of a higher priority that fit nowhere. The plan is the ledger's; here is kept what of it is
//! under way, and when it is over. Pods of others are told to end by whoever looks after the set; a pod of a set
//! leaves by its own set's plan, after what lies on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coffer_scheduler::{
    Claim, Line, NeighbourName, NodeName, Pod, PodId, Runner, SetName, SiteSet, Victim, Yielding, decide,
};

use super::{Book, BookError};
use crate::shards::Shards;
use crate::translate::Phase;

/// For how long somebody is not asked again who did not go.
const SPARED: Duration = Duration::from_secs(60);

/// What the ledger of shards last said of a set.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    shards: Shards,
    members: BTreeSet<PodId>,
}

/// A pod of somebody else that is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evicted {
    pub(crate) victim: NeighbourName,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) node: NodeName,
    pub(crate) priority: i32,
}

/// How a set gets its room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nomination {
    /// Where room is kept for its pods.
    pub(crate) claims: Vec<Claim>,
    /// Who gives way.
    pub(crate) victims: BTreeSet<Victim>,
    /// The uids of those that are pods of others.
    uids: BTreeMap<NeighbourName, String>,
    /// Whether the ledger has it.
    written: bool,
}

/// What the book knows of pods that give way.
#[derive(Default)]
pub(super) struct GivingWay {
    /// Whether anybody carries such plans out.
    is_done: bool,
    nominations: BTreeMap<SetName, Nomination>,
    told: BTreeMap<SetName, Told>,
    /// Who is not asked, and until when.
    spared: BTreeMap<Runner, Duration>,
}

impl GivingWay {
    /// Sets that wait for somebody to go.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &SetName> {
        self.nominations.keys()
    }
}

impl Book {
    /// From now on somebody looks after sets, and carries out what is planned.
    pub(crate) fn let_give_way(&mut self) {
        self.giving_way.is_done = true;
    }

    /// Takes note of what the ledger of shards says.
    pub(crate) fn see_shards(&mut self, set: &SetName, members: &BTreeSet<PodId>, shards: &Shards) {
        let told = Told { shards: shards.clone(), members: members.clone() };
        if self.giving_way.told.get(set) != Some(&told) {
            self.giving_way.told.insert(set.clone(), told);
            self.somebody_may_go();
        }
    }

    /// What did not fit before is looked at once more.
    fn somebody_may_go(&mut self) {
        self.changes += 1;
        self.waiting.extend(self.stuck.keys().cloned());
        self.waiting.extend(self.giving_way.waiting().cloned());
    }

    /// How a set gets its room, once that is written down.
    pub(crate) fn nomination(&self, set: &SetName) -> Option<&Nomination> {
        self.giving_way.nominations.get(set).filter(|one| one.written)
    }

    /// Pods of others that have to be told to end for a set.
    pub(crate) fn evicted_for(&self, set: &SetName) -> Vec<Evicted> {
        let victims = self.nomination(set).into_iter().flat_map(|one| &one.victims);
        let evicted = victims.filter_map(|victim| {
            let Runner::Neighbour(name) = &victim.runner else { return None };
            let known = self.foreign.get(name).filter(|known| !known.ends)?;
            Some(Evicted {
                victim: name.clone(),
                namespace: known.namespace.clone(),
                uid: known.uid.clone(),
                node: victim.node.clone(),
                priority: victim.priority,
            })
        });
        evicted.collect()
    }

    /// The lines that there were are written down.
    pub(crate) fn lines_are_written(&mut self) {
        self.giving_way.nominations.values_mut().for_each(|one| one.written = true);
    }

    /// Somebody was told to end, and did not: others are looked for.
    pub(crate) fn does_not_go(&mut self, name: NeighbourName) {
        let until = self.clock.monotonic().saturating_add(SPARED);
        self.giving_way.spared.insert(Runner::Neighbour(name), until);
        self.somebody_may_go();
    }

    /// Those who did not go are asked again after a while.
    pub(super) fn ask_again(&mut self, now: Duration) {
        let before = self.giving_way.spared.len();
        self.giving_way.spared.retain(|_, until| *until > now);
        if self.giving_way.spared.len() < before {
            self.somebody_may_go();
        }
    }

    /// Pods of a set that give way to others.
    pub(super) fn gives_way(&self, set: &SetName) -> BTreeSet<PodId> {
        let nominations = self.giving_way.nominations.values().filter(|one| one.written);
        let victims = nominations.flat_map(|one| &one.victims).filter_map(|victim| match &victim.runner {
            Runner::Pod(id) if id.set == *set => Some(id.clone()),
            _ => None,
        });
        victims.collect()
    }

    /// Who is waited for, for people.
    pub(super) fn waits_for(&self, set: &SetName) -> Option<String> {
        let one = self.giving_way.nominations.get(set)?;
        let names: Vec<String> = one.victims.iter().map(|victim| victim.runner.to_string()).collect();
        Some(match names.first() {
            None => "room is kept for the set; it comes free by itself".to_owned(),
            Some(_) => {
                format!(
                    "room is kept for the set where these give way, which have a lower priority: {}",
                    names.join(", ")
                )
            }
        })
    }

    /// Room is not kept for a set any more, if it was.
    ///
    /// # Errors
    /// [`BookError`].
    pub(super) fn forget_claims(&mut self, set: &SetName) -> Result<(), BookError> {
        match self.giving_way.nominations.remove(set) {
            Some(_) => self.change(Line::Unclaimed(set.clone())),
            None => Ok(()),
        }
    }

    /// The set was placed.
    pub(super) fn has_its_room(&mut self, set: &SetName) {
        self.giving_way.nominations.remove(set);
    }

    /// Looks for somebody who gives way to a set that fits nowhere; whether it waits for somebody.
    ///
    /// # Errors
    /// [`BookError`].
    pub(super) fn make_way(&mut self, wanted: &SiteSet) -> Result<bool, BookError> {
        if !self.giving_way.is_done {
            return Ok(false);
        }
        let unbound: Vec<&Pod> = wanted
            .pods
            .iter()
            .filter(|pod| self.ledger.cluster().node_of(&wanted.id(pod)).is_none())
            .collect();
        let highest = unbound.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
        let known = self.giving_way.nominations.get(&wanted.name);
        if known.is_none() && !self.somebody_is_below(highest) {
            return Ok(false);
        }
        let yielding = self.yielding(wanted, highest);
        if let Some(known) = known {
            let same =
                known.claims.iter().map(|claim| claim.ordinal).eq(unbound.iter().map(|pod| pod.ordinal));
            if same && self.is_under_way(known, &yielding) {
                return Ok(true);
            }
            self.forget_claims(&wanted.name)?;
        }
        let Some((plan, line)) = self.ledger.preempt(wanted, &self.costs, yielding)? else {
            return Ok(false);
        };
        self.lines.push(line);
        self.changes += 1;
        self.stuck.remove(&wanted.name);
        let uid = |victim: &Victim| match &victim.runner {
            Runner::Neighbour(name) => Some((name.clone(), self.foreign.get(name)?.uid.clone())),
            Runner::Pod(_) => None,
        };
        let uids = plan.victims.iter().filter_map(uid).collect();
        let nomination = Nomination { claims: plan.claims, victims: plan.victims, uids, written: false };
        self.giving_way.nominations.insert(wanted.name.clone(), nomination);
        // Those who give way are looked at by their own sets.
        Ok(true)
    }

    fn somebody_is_below(&self, priority: i32) -> bool {
        let others = self.foreign.values().map(|one| one.neighbour.traits.priority);
        let ours = self.pods.values().map(|one| one.pod.priority);
        others.chain(ours).any(|other| other < priority)
    }

    /// Whether somebody is still there who goes, and nobody who does not.
    fn is_under_way(&self, known: &Nomination, yielding: &Yielding) -> bool {
        let mut waits = false;
        for victim in &known.victims {
            match &victim.runner {
                Runner::Neighbour(name) => {
                    let there = self.foreign.get(name).filter(|one| known.uids.get(name) == Some(&one.uid));
                    let Some(there) = there else { continue };
                    if !there.ends && yielding.spared.contains(&victim.runner) {
                        return false;
                    }
                }
                Runner::Pod(id) => {
                    let at = self.ledger.cluster().node_of(id).map(|node| &node.name);
                    if at != Some(&victim.node) {
                        continue;
                    }
                    let is_member =
                        self.sets.get(&id.set).is_some_and(|set| set.members.contains(&id.ordinal));
                    if is_member && !yielding.sites.contains_key(id) {
                        return false;
                    }
                }
            }
            waits = true;
        }
        waits
    }

    /// Who could give way to a set, beside pods of others.
    fn yielding(&self, wanted: &SiteSet, highest: i32) -> Yielding {
        let mut yielding = Yielding::default();
        for (set, told) in self.giving_way.told.iter().filter(|(set, _)| **set != wanted.name) {
            let Some(seen) = self.sets.get(set) else { continue };
            for (id, pod) in self.pods_of(set) {
                let is_known = seen.members.contains(&id.ordinal) && told.members.contains(id);
                if !is_known || pod.phase != Phase::Alive || pod.pod.priority >= highest {
                    continue;
                }
                // One that the ledger does not list although it is known to have been asked for it never was a site.
                let held = told.shards.held.get(id).copied().unwrap_or(0);
                if held == 0 || self.another_could_come(set, id) {
                    yielding.sites.insert(id.clone(), held);
                }
            }
            let names_one = |ids: &BTreeSet<PodId>| ids.iter().any(|id| yielding.sites.contains_key(id));
            let groups = told.shards.groups.iter().filter(|group| names_one(&group.readable)).cloned();
            let groups: Vec<_> = groups.collect();
            yielding.groups.extend(groups);
        }
        let ending = self.foreign.iter().filter(|(_, one)| one.ends);
        yielding.ending = ending.map(|(name, _)| Runner::Neighbour(name.clone())).collect();
        let sites = self.foreign.iter().filter(|(_, one)| one.is_site);
        let sites = sites.map(|(name, _)| Runner::Neighbour(name.clone()));
        let spared = self.giving_way.spared.keys().cloned().chain(sites);
        yielding.spared = spared.filter(|one| !yielding.ending.contains(one)).collect();
        yielding
    }

    /// Whether another pod of its set finds a node while this one is still there: only then what lies on it can move.
    fn another_could_come(&self, set: &SetName, id: &PodId) -> bool {
        let Some(managed) = self.managed(set) else { return false };
        let mut without = self.staying(&managed, &self.standing(set));
        without.pods.retain(|pod| pod.ordinal != id.ordinal);
        if without.pods.len() < managed.size {
            let ordinal = managed.set.pods.iter().map(|pod| pod.ordinal.saturating_add(1)).max().unwrap_or(0);
            without.pods.push(Pod { ordinal, ..managed.template });
        }
        decide(self.ledger.cluster(), &without, &self.costs).is_ok()
    }
}
