//! Who gives way to sets of a higher priority that fit nowhere. The plan is the ledger's; here is kept what of it is
//! under way, and when it is over. Pods of others are told to end by whoever looks after the set; a pod of a set
//! leaves by its own set's plan, after what lies on it.
//!
//! Every plan ends: its set is placed, or it is undone once who is waited for has gone and there is no room all the
//! same, once the room is lost, or once nothing has come forward for [`PATIENCE`]. A plan that was undone is not made
//! anew before a pause, which doubles each time.

mod stands;
mod successors;
mod told;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coffer_scheduler::{
    Claim, Line, NeighbourName, NodeName, Pod, PodId, Runner, SetName, SiteSet, Victim, Way, Yielding,
};

use super::{Book, BookError};
use crate::shards::Shards;
use crate::translate::{Phase, SeenPod, SeenSet};
use told::Told;
use waits::Waits;

/// For how long somebody is not asked again who did not go; each time twice as long.
const SPARED: Duration = Duration::from_secs(60);
const SPARED_MAX: Duration = Duration::from_secs(3600);
/// How long it takes until it is looked again for somebody, where nobody was found.
const LOOKS: Duration = Duration::from_secs(1);
const LOOKS_MAX: Duration = Duration::from_secs(30);
/// How long it takes after a plan that came to nothing until there is another one.
const UNDONE: Duration = Duration::from_secs(1);
const UNDONE_MAX: Duration = Duration::from_secs(600);
/// For how long a plan may not come forward: nobody has gone, and nothing has moved.
const PATIENCE: Duration = Duration::from_secs(600);
/// For how long who was giving way before this book began goes on with it, until the plan is made again.
const GOES_ON: Duration = Duration::from_secs(120);
/// Plans that are tried where what lies on who would go could move nowhere.
const TRIES: u32 = 8;

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
    /// The uids of pods of others that are waited for: those who give way, and those who ended already.
    awaited: BTreeMap<NeighbourName, String>,
    /// Whether the ledger has it.
    written: bool,
    /// The least that was left to do so far, and since when.
    least: u64,
    since: Duration,
}

/// What the book knows of pods that give way.
pub(super) struct GivingWay {
    /// Whether anybody carries such plans out.
    is_done: bool,
    nominations: BTreeMap<SetName, Nomination>,
    told: Told,
    /// Who is not asked.
    spared: Waits<Runner>,
    /// For whom nobody was found.
    looks: Waits<SetName>,
    /// Whose plans came to nothing.
    undone: Waits<SetName>,
    /// What is to be told of that.
    news: BTreeMap<SetName, String>,
    /// Sets for which somebody was looked for in this book, and those for which room was kept before it.
    begun: BTreeSet<SetName>,
    returning: BTreeSet<SetName>,
    /// Pods that were giving way before this book began, and until when they go on.
    going_on: BTreeMap<PodId, Duration>,
}

impl Default for GivingWay {
    fn default() -> Self {
        Self {
            is_done: false,
            nominations: BTreeMap::new(),
            told: Told::default(),
            spared: Waits::new(SPARED, SPARED_MAX),
            looks: Waits::new(LOOKS, LOOKS_MAX),
            undone: Waits::new(UNDONE, UNDONE_MAX),
            news: BTreeMap::new(),
            begun: BTreeSet::new(),
            returning: BTreeSet::new(),
            going_on: BTreeMap::new(),
        }
    }
}

impl GivingWay {
    /// Sets that wait for somebody to go.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &SetName> {
        self.nominations.keys()
    }

    /// Whether room was kept for a set before this book began: it comes before others.
    pub(super) fn returns(&self, set: &SetName) -> bool {
        self.returning.contains(set)
    }

    /// Takes note of a pod of a set.
    pub(super) fn meets_pod(&mut self, id: &PodId, seen: &SeenPod) {
        let waits = seen.node.is_none() && seen.nominated.is_some();
        if self.is_done && waits && !self.begun.contains(&id.set) {
            self.returning.insert(id.set.clone());
        }
    }

    /// Takes note of a set; `before`: as it was.
    pub(super) fn meets_set(&mut self, before: Option<&SeenSet>, seen: &SeenSet, now: Duration) {
        match before {
            None if self.is_done => {
                let ids =
                    seen.giving_way.iter().map(|ordinal| PodId { set: seen.name.clone(), ordinal: *ordinal });
                self.going_on.extend(ids.map(|id| (id, now.saturating_add(GOES_ON))));
            }
            // Something else is wanted.
            Some(before) if (before.version, before.replicas) != (seen.version, seen.replicas) => {
                self.undone.forget(&seen.name);
                self.looks.forget(&seen.name);
            }
            _ => {}
        }
    }

    /// Forgets a set that is no more.
    pub(super) fn loses_set(&mut self, name: &SetName) {
        self.told.forget(name);
        self.undone.forget(name);
        self.looks.forget(name);
        self.news.remove(name);
        self.begun.remove(name);
        self.returning.remove(name);
        self.going_on.retain(|id, _| id.set != *name);
    }
}

impl Book {
    /// From now on somebody looks after sets, and carries out what is planned.
    pub(crate) fn let_give_way(&mut self) {
        self.giving_way.is_done = true;
    }

    /// Takes note of what the ledger of shards says.
    pub(crate) fn see_shards(&mut self, set: &SetName, members: &BTreeSet<PodId>, shards: &Shards) {
        if self.giving_way.is_done && self.giving_way.told.note(set, members, shards) {
            self.somebody_may_go();
        }
    }

    /// What did not fit before is looked at once more.
    fn somebody_may_go(&mut self) {
        self.changes += 1;
        self.giving_way.looks.keep(|_| false);
        self.waiting.extend(self.stuck.keys().cloned());
        self.waiting.extend(self.giving_way.waiting().cloned());
    }

    /// How a set gets its room, once that is written down.
    pub(crate) fn nomination(&self, set: &SetName) -> Option<&Nomination> {
        self.giving_way.nominations.get(set).filter(|one| one.written)
    }

    /// Pods of others that have to be told to end for a set: those that were found, as they were found.
    pub(crate) fn evicted_for(&self, set: &SetName) -> Vec<Evicted> {
        let Some(nomination) = self.nomination(set) else { return Vec::new() };
        let evicted = nomination.victims.iter().filter_map(|victim| {
            let Runner::Neighbour(name) = &victim.runner else { return None };
            let known = self.foreign.get(name).filter(|known| !known.ends)?;
            let same =
                nomination.awaited.get(name) == Some(&known.uid) && known.neighbour.node == victim.node;
            let lower = nomination.is_above(&victim.node, known.neighbour.traits.priority);
            (same && lower).then(|| Evicted {
                victim: name.clone(),
                namespace: known.namespace.clone(),
                uid: known.uid.clone(),
                node: victim.node.clone(),
                priority: known.neighbour.traits.priority,
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
        let now = self.clock.monotonic();
        self.giving_way.spared.again(Runner::Neighbour(name), now);
        self.somebody_may_go();
    }

    /// Pods of a set that give way to others.
    pub(super) fn gives_way(&self, set: &SetName) -> BTreeSet<PodId> {
        let written = self.giving_way.nominations.values().filter(|one| one.written);
        let victims = written.flat_map(|one| one.victims.iter().map(move |victim| (one, victim)));
        let victims = victims.filter_map(|(one, victim)| {
            let Runner::Pod(id) = &victim.runner else { return None };
            let priority = self.ledger.cluster().traits(id)?.priority;
            let there = self.ledger.cluster().node_of(id).is_some_and(|node| node.name == victim.node);
            (id.set == *set && there && one.is_above(&victim.node, priority)).then(|| id.clone())
        });
        let going_on = self.giving_way.going_on.keys().filter(|id| id.set == *set).cloned();
        victims.chain(going_on).collect()
    }

    /// Who is waited for, for people; or that nobody is asked now.
    pub(super) fn waits_for(&self, set: &SetName) -> Option<String> {
        let Some(one) = self.giving_way.nominations.get(set) else {
            let (times, pause) = self.giving_way.undone.of(set)?;
            return Some(format!(
                "room that was kept for the set was taken by others, was lost with its node, or did not come free, {times} times in a row; nobody is asked to give way for {} s",
                pause.as_secs()
            ));
        };
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

    /// What is to be told of a plan that came to nothing; once.
    pub(crate) fn undone_for(&mut self, set: &SetName) -> Option<String> {
        self.giving_way.news.remove(set)
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
        self.giving_way.undone.forget(set);
        self.giving_way.looks.forget(set);
    }

    /// Looks for somebody who gives way to a set that fits nowhere; whether it waits for somebody.
    ///
    /// # Errors
    /// [`BookError`].
    pub(super) fn make_way(&mut self, wanted: &SiteSet) -> Result<bool, BookError> {
        if !self.giving_way.is_done {
            return Ok(false);
        }
        let name = &wanted.name;
        let node_of = |pod: &Pod| self.ledger.cluster().node_of(&wanted.id(pod));
        let unbound: Vec<&Pod> = wanted.pods.iter().filter(|pod| node_of(pod).is_none()).collect();
        if self.is_under_way(wanted, &unbound)? {
            return Ok(true);
        }
        let highest = unbound.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
        let now = self.clock.monotonic();
        // Each of them is asked, so that it is known to be looked at once its wait is over.
        let (undone, looks) = (self.giving_way.undone.holds(name), self.giving_way.looks.holds(name));
        if !self.priorities.has_below(highest) || undone || looks {
            return Ok(false);
        }
        let found = self.find_way(wanted, &unbound, highest);
        self.giving_way.begun.insert(name.clone());
        self.giving_way.returning.remove(name);
        let Some((way, awaited)) = found else {
            self.giving_way.looks.again(name.clone(), now);
            return Ok(false);
        };
        let (claims, victims) = (way.preemption.claims.clone(), way.preemption.victims.clone());
        self.lines.push(self.ledger.make_way(wanted, &self.costs, way)?);
        self.changes += 1;
        self.stuck.remove(name);
        self.giving_way.looks.forget(name);
        let mut nomination = Nomination { claims, victims, awaited, written: false, least: 0, since: now };
        nomination.least = self.left_to_do(&self.still_there(&nomination));
        self.giving_way.nominations.insert(name.clone(), nomination);
        // Those who give way are looked at by their own sets.
        Ok(true)
    }

    /// Who gives way, and the uids of pods of others that are waited for.
    fn find_way(
        &self,
        wanted: &SiteSet,
        unbound: &[&Pod],
        highest: i32,
    ) -> Option<(Way, BTreeMap<NeighbourName, String>)> {
        let yielding = self.yielding(wanted, highest);
        let is_new = !self.giving_way.begun.contains(&wanted.name);
        let kept = |pod: &&Pod| Some((pod.ordinal, self.pods.get(&wanted.id(pod))?.nominated.clone()?));
        let kept: Option<BTreeMap<u32, NodeName>> = unbound.iter().map(kept).collect();
        // What was under way before this book began goes on where it was.
        let before = kept.filter(|_| is_new).map(|kept| Yielding { kept, ..yielding.clone() });
        let mut all = before.into_iter().chain([yielding]);
        all.find_map(|yielding| self.way_with(wanted, yielding))
    }

    fn way_with(
        &self,
        wanted: &SiteSet,
        mut yielding: Yielding,
    ) -> Option<(Way, BTreeMap<NeighbourName, String>)> {
        for _ in 0..TRIES {
            let way = self.ledger.find_way(wanted, &self.costs, yielding.clone())?;
            let Some(stays) = self.who_cannot_move(&wanted.name, &way.preemption) else {
                let awaited = self.awaited(&way);
                let sites = way.preemption.victims.iter().any(|one| matches!(one.runner, Runner::Pod(_)));
                // Of a plan that waits for nobody nobody would know when it is over.
                return (sites || !awaited.is_empty()).then_some((way, awaited));
            };
            yielding.sites.remove(&stays);
        }
        None
    }

    /// Pods of others whose room is counted on: who gives way, and who ends already where room is kept.
    fn awaited(&self, way: &Way) -> BTreeMap<NeighbourName, String> {
        let victims = way.preemption.victims.iter().map(|victim| &victim.runner);
        let nodes: BTreeSet<&NodeName> = way.preemption.claims.iter().map(|claim| &claim.node).collect();
        let known = victims.chain(&way.yielding.ending).filter_map(|runner| match runner {
            Runner::Neighbour(name) => Some((name, self.foreign.get(name)?)),
            Runner::Pod(_) => None,
        });
        let there = known.filter(|(_, one)| nodes.contains(&one.neighbour.node));
        there.map(|(name, one)| (name.clone(), one.uid.clone())).collect()
    }

    /// Who could give way to a set, beside pods of others. Whether their data can move is asked of those who are found.
    fn yielding(&self, wanted: &SiteSet, highest: i32) -> Yielding {
        let mut yielding = Yielding::default();
        let spared: BTreeSet<&Runner> = self.giving_way.spared.waiting().collect();
        let could = |id: &PodId| {
            let is_member = self.sets.get(&id.set).is_some_and(|set| set.members.contains(&id.ordinal));
            let alive = self.pods.get(id).is_some_and(|pod| {
                pod.phase == Phase::Alive && pod.node.is_some() && pod.pod.priority < highest
            });
            id.set != wanted.name && is_member && alive && !spared.contains(&Runner::Pod(id.clone()))
        };
        for told in self.giving_way.told.all() {
            let free = told.free.iter().filter(|id| could(id));
            yielding.sites.extend(free.map(|id| (id.clone(), told.held(id))));
        }
        let groups = self.giving_way.told.all().flat_map(|told| &told.shards.groups);
        yielding.groups = told::worst(groups, &yielding.sites);
        // Who was giving way goes on before anything is heard of its shards: the ledger is asked again before it goes.
        let going_on =
            self.giving_way.going_on.keys().filter(|id| self.giving_way.told.of(&id.set).is_none());
        yielding.sites.extend(going_on.filter(|id| could(id)).map(|id| (id.clone(), 0)));
        for (name, one) in &self.foreign {
            let runner = Runner::Neighbour(name.clone());
            // Of one that does not end nobody knows when its room will be free.
            if spared.contains(&runner) || (one.is_site && !one.ends) {
                yielding.spared.insert(runner);
            } else if one.ends {
                yielding.ending.insert(runner);
            }
        }
        yielding
    }
}

impl Nomination {
    /// Whether what is kept on a node is kept for a higher priority than this.
    fn is_above(&self, node: &NodeName, priority: i32) -> bool {
        let mut there = self.claims.iter().filter(|claim| claim.node == *node);
        there.any(|claim| priority < claim.priority)
    }
}
