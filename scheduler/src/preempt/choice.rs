//! Who gives way on one node: of all that could, the fewest that make room enough, of as many those who hold the
//! least, and then those of the lowest priority.

use std::collections::BTreeSet;

use super::Victim;
use crate::{Resource, Resources, Runner};

/// Steps of the search on one node; beyond these what was found so far stands.
const STEPS_MAX: u32 = 20_000;

/// Somebody who could give way, and what he takes.
#[derive(Clone, Debug)]
pub(super) struct Yields {
    pub(super) victim: Victim,
    pub(super) needs: Resources,
}

/// Who does.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) cost: i128,
    pub(super) victims: Vec<Victim>,
}

/// One more victim is dearer than anything that victims hold, and that is dearer than any priority below the limit.
/// All of it together stays below what the assignment owes to a country.
fn cost(victim: &Victim, priorities: &BTreeSet<i32>) -> i128 {
    const HELD_MAX: u64 = 1 << 40;
    const RANK_MAX: usize = 1 << 8;
    let rank = priorities.range(..victim.priority).count().min(RANK_MAX);
    let rank = i128::try_from(rank).unwrap_or_default();
    (1 << 84) + (i128::from(victim.held.min(HELD_MAX)) << 20) + rank
}

/// Who gives way for a pod with such needs; nobody, at no cost, where there is room already. `room` is what is free
/// without some.
pub(super) fn choose(
    needs: &Resources,
    could: &[&Yields],
    priorities: &BTreeSet<i32>,
    room: impl Fn(&BTreeSet<&Runner>) -> Resources,
) -> Option<Chosen> {
    let free = room(&BTreeSet::new());
    if needs.lacking(&free).next().is_none() {
        return Some(Chosen { cost: 0, victims: Vec::new() });
    }
    let everybody: BTreeSet<&Runner> = could.iter().map(|one| &one.victim.runner).collect();
    if could.is_empty() || needs.lacking(&room(&everybody)).next().is_some() {
        return None;
    }
    // Who has nothing of what is lacking does not help.
    let lacking: Vec<Resource> = needs.lacking(&free).collect();
    let helps = |one: &&&Yields| lacking.iter().any(|resource| one.needs.of(*resource) > 0);
    let mut could: Vec<(i128, &Yields)> =
        could.iter().filter(helps).map(|one| (cost(&one.victim, priorities), *one)).collect();
    could.sort_by(|(cost, one), (other_cost, other)| (cost, &one.victim).cmp(&(other_cost, &other.victim)));
    let mut search = Search { needs, could: &could, room: &room, steps: STEPS_MAX, best: None };
    search.greedy();
    // The fewest first: what is found with so many is not beaten by more.
    for count in 1..=could.len() {
        if search.best.as_ref().is_some_and(|(_, best)| best.len() < count) || search.steps == 0 {
            break;
        }
        search.look(0, count, &mut Vec::new(), 0);
    }
    let (cost, who) = search.best?;
    let victims = who.into_iter().filter_map(|at| could.get(at)).map(|(_, one)| one.victim.clone());
    Some(Chosen { cost, victims: victims.collect() })
}

struct Search<'a, R> {
    needs: &'a Resources,
    could: &'a [(i128, &'a Yields)],
    room: &'a R,
    steps: u32,
    best: Option<(i128, Vec<usize>)>,
}

impl<R: Fn(&BTreeSet<&Runner>) -> Resources> Search<'_, R> {
    fn is_enough(&self, who: &[usize]) -> bool {
        let gone = who.iter().filter_map(|at| self.could.get(*at)).map(|(_, one)| &one.victim.runner);
        self.needs.lacking(&(self.room)(&gone.collect())).next().is_none()
    }

    /// A choice to begin with: everybody, and then each stays who can, the dearest first.
    fn greedy(&mut self) {
        let mut who: Vec<usize> = (0..self.could.len()).collect();
        for at in (0..self.could.len()).rev() {
            let without: Vec<usize> = who.iter().copied().filter(|other| *other != at).collect();
            if self.is_enough(&without) {
                who = without;
            }
        }
        let cost = who.iter().filter_map(|at| self.could.get(*at)).map(|(cost, _)| cost).sum();
        self.best = Some((cost, who));
    }

    /// Every choice of so many more, from the one at `from` on.
    fn look(&mut self, from: usize, more: usize, who: &mut Vec<usize>, so_far: i128) {
        if self.steps == 0 {
            return;
        }
        self.steps -= 1;
        if more == 0 {
            if self.is_enough(who) {
                self.best = Some((so_far, who.clone()));
            }
            return;
        }
        for at in from..self.could.len() {
            let Some((cost, _)) = self.could.get(at) else { return };
            let cost = so_far + cost;
            // Those behind cost no less.
            if self.best.as_ref().is_some_and(|(best, _)| cost >= *best) {
                return;
            }
            who.push(at);
            self.look(at + 1, more - 1, who, cost);
            who.pop();
        }
    }
}
