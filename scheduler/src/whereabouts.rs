//! Where pods are that terms over pods mean, and where those are that let others not near. Both are kept up to date
//! with each pod and node that comes, changes or goes, so that a decision looks up places, and does not go through
//! everything that runs. Who shuns whom is always kept; where pods are that a term means only for the terms that were
//! asked for last, and not in a copy: whoever has none goes through all, with the same answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Node, PodTerm, Runner, SetName, Traits};

/// Terms whose pods are kept: each costs a step for every pod that comes or goes.
const KEPT_MAX: usize = 32;

/// Who shuns others by one term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shunned {
    runners: BTreeSet<Runner>,
    /// By the value of the term's topology where they run; who is at no place is not among them.
    places: BTreeMap<String, BTreeSet<Runner>>,
}

impl Shunned {
    /// Everybody who does.
    pub(crate) fn runners(&self) -> impl Iterator<Item = &Runner> {
        self.runners.iter()
    }

    /// Those at a place that are none of the set's.
    pub(crate) fn at<'a>(
        &'a self,
        place: &str,
        set: &'a SetName,
    ) -> impl Iterator<Item = &'a Runner> + use<'a> {
        self.places.get(place).into_iter().flatten().filter(|runner| runner.set() != Some(set))
    }

    /// The places of those who are none of the set's.
    pub(crate) fn places<'a>(&'a self, set: &'a SetName) -> impl Iterator<Item = &'a str> {
        let of_others = |runners: &BTreeSet<Runner>| runners.iter().any(|runner| runner.set() != Some(set));
        self.places.iter().filter(move |(_, runners)| of_others(runners)).map(|(place, _)| place.as_str())
    }

    /// Whether anybody does who is none of the set's and at a place.
    pub(crate) fn is_anywhere(&self, set: &SetName) -> bool {
        self.places.values().flatten().any(|runner| runner.set() != Some(set))
    }
}

/// Where pods are that a term means, and how many of which set; `None`: of somebody else.
type Counted = BTreeMap<String, BTreeMap<Option<SetName>, u32>>;

/// Places where pods are that a term means, those of one set left aside.
#[derive(Debug)]
pub(crate) enum Places<'a> {
    /// As they were gone through.
    Listed(BTreeSet<String>),
    /// As they are kept, whatever the set.
    Kept(&'a Counted, &'a SetName),
}

impl Places<'_> {
    /// Adds all of them.
    pub(crate) fn add_to<'a>(&'a self, all: &mut BTreeSet<&'a str>) {
        match self {
            Self::Listed(places) => all.extend(places.iter().map(String::as_str)),
            Self::Kept(counted, set) => {
                let of_others = |whose: &BTreeMap<Option<SetName>, u32>| {
                    whose.keys().any(|one| one.as_ref() != Some(*set))
                };
                let places = counted.iter().filter(|(_, whose)| of_others(whose));
                all.extend(places.map(|(place, _)| place.as_str()));
            }
        }
    }

    /// Whether a place is one of them.
    pub(crate) fn has(&self, place: &str) -> bool {
        match self {
            Self::Listed(places) => places.contains(place),
            Self::Kept(counted, set) => {
                let mut whose = counted.get(place).into_iter().flat_map(BTreeMap::keys);
                whose.any(|one| one.as_ref() != Some(*set))
            }
        }
    }
}

/// The terms that were asked for last. A copy has none: whoever copies a cluster tries something out on it, once.
#[derive(Debug, Default)]
struct Meant(Vec<(PodTerm, Counted)>);

impl Clone for Meant {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Of everything that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whereabouts {
    shunning: BTreeMap<PodTerm, Shunned>,
    meant: Meant,
}

impl Whereabouts {
    /// A pod came to a node.
    pub(crate) fn arrive(&mut self, runner: &Runner, traits: &Traits, node: &Node) {
        for term in &traits.apart {
            let shunned = self.shunning.entry(term.clone()).or_default();
            shunned.runners.insert(runner.clone());
            if let Some(place) = term.topology.value(node) {
                shunned.places.entry(place.into_owned()).or_default().insert(runner.clone());
            }
        }
        for (term, counted) in &mut self.meant.0 {
            count(term, counted, runner, traits, node);
        }
    }

    /// A pod left a node, which is as it was.
    pub(crate) fn depart(&mut self, runner: &Runner, traits: &Traits, node: &Node) {
        for term in &traits.apart {
            let Some(shunned) = self.shunning.get_mut(term) else { continue };
            shunned.runners.remove(runner);
            if let Some(place) = term.topology.value(node)
                && let Some(runners) = shunned.places.get_mut(place.as_ref())
            {
                runners.remove(runner);
                if runners.is_empty() {
                    shunned.places.remove(place.as_ref());
                }
            }
            if shunned.runners.is_empty() {
                self.shunning.remove(term);
            }
        }
        for (term, counted) in &mut self.meant.0 {
            discount(term, counted, runner, traits, node);
        }
    }

    /// Whether it matters to anybody that a node is not what it was.
    pub(crate) fn tells_apart(&self, before: &Node, after: &Node) -> bool {
        let moved = |term: &PodTerm| term.topology.value(before) != term.topology.value(after);
        self.shunning.keys().any(moved) || self.meant.0.iter().any(|(term, _)| moved(term))
    }

    /// Terms by which somebody who runs lets others not near, and who.
    pub(crate) fn shunning(&self) -> &BTreeMap<PodTerm, Shunned> {
        &self.shunning
    }

    /// Keeps where pods are that a term means; `all` is everything that runs.
    pub(crate) fn note<'a>(
        &mut self,
        term: &PodTerm,
        all: impl Iterator<Item = (Runner, &'a Traits, &'a Node)>,
    ) {
        let kept = &mut self.meant.0;
        if let Some(at) = kept.iter().position(|(known, _)| known == term) {
            let asked = kept.remove(at);
            return kept.push(asked);
        }
        if kept.len() >= KEPT_MAX {
            kept.remove(0);
        }
        let mut counted = Counted::new();
        all.for_each(|(runner, traits, node)| count(term, &mut counted, &runner, traits, node));
        kept.push((term.clone(), counted));
    }

    /// Where pods are that a term means, as far as that is kept.
    pub(crate) fn places<'a>(&'a self, set: &'a SetName, term: &PodTerm) -> Option<Places<'a>> {
        let mut kept = self.meant.0.iter().rev();
        kept.find(|(known, _)| known == term).map(|(_, counted)| Places::Kept(counted, set))
    }
}

/// Where a term means a pod on a node, if it does.
fn place<'a>(
    term: &PodTerm,
    runner: &Runner,
    traits: &Traits,
    node: &'a Node,
) -> Option<std::borrow::Cow<'a, str>> {
    if term.means(runner, &traits.labels) { term.topology.value(node) } else { None }
}

fn count(term: &PodTerm, counted: &mut Counted, runner: &Runner, traits: &Traits, node: &Node) {
    if let Some(place) = place(term, runner, traits, node) {
        let whose = counted.entry(place.into_owned()).or_default();
        *whose.entry(runner.set().cloned()).or_default() += 1;
    }
}

fn discount(term: &PodTerm, counted: &mut Counted, runner: &Runner, traits: &Traits, node: &Node) {
    let Some(place) = place(term, runner, traits, node) else { return };
    let Some(whose) = counted.get_mut(place.as_ref()) else { return };
    let set = runner.set().cloned();
    if let Some(count) = whose.get_mut(&set) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            whose.remove(&set);
        }
    }
    if whose.is_empty() {
        counted.remove(place.as_ref());
    }
}
