//! Who gives way on one node: of all that could, the fewest that make room enough, of as many those who hold the
//! least, and then those of the lowest priority. Pods that are alike are one question, sums say what is free without
//! some, and what cannot be better than the best so far is not looked into. Beyond a number of steps the best so far
//! stands: it depends on what was asked alone, and on no clock.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::{Steps, Victim};
use crate::takings::{Amounts, Takings, amounts};
use crate::{Resources, Runner};

/// Steps of the search on one node.
const STEPS_MAX: u64 = 4_000;

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

/// Pods that cost and take the same: which of them goes makes no difference.
struct Kind<'a> {
    cost: i128,
    takes: Amounts,
    /// Pods of others: these a node may have too many of.
    others: bool,
    members: Vec<&'a Yields>,
}

impl Kind<'_> {
    fn is_of(&self, cost: i128, one: &Yields) -> bool {
        self.cost == cost && self.takes == amounts(&one.needs) && self.others == is_other(one)
    }
}

fn is_other(one: &Yields) -> bool {
    matches!(one.victim.runner, Runner::Neighbour(_))
}

/// The kinds, the cheapest first; in each those who come first by name.
fn kinds<'a>(could: &[&'a Yields], priorities: &BTreeSet<i32>) -> Vec<Kind<'a>> {
    let mut all: Vec<(i128, &Yields)> =
        could.iter().map(|one| (cost(&one.victim, priorities), *one)).collect();
    all.sort_by(|(cost, one), (other_cost, other)| (cost, &one.victim).cmp(&(other_cost, &other.victim)));
    let mut kinds: Vec<Kind<'_>> = Vec::new();
    for (cost, one) in all {
        match kinds.iter_mut().find(|kind| kind.is_of(cost, one)) {
            Some(kind) => kind.members.push(one),
            None => {
                let (takes, others) = (amounts(&one.needs), is_other(one));
                kinds.push(Kind { cost, takes, others, members: vec![one] });
            }
        }
    }
    kinds
}

/// Who gives way for a pod with such needs; nobody, at no cost, where there is room already. `takings` is what is
/// taken of the node, by these among others.
pub(super) fn choose(
    needs: &Resources,
    could: &[&Yields],
    priorities: &BTreeSet<i32>,
    takings: &Takings,
    steps: &Steps,
) -> Option<Chosen> {
    if takings.has_room_for(needs) {
        return Some(Chosen { cost: 0, victims: Vec::new() });
    }
    // Who has nothing of what is lacking does not help.
    let lacking = takings.lacking_for(needs);
    let helps = |one: &&&Yields| {
        amounts(&one.needs).iter().zip(&lacking).any(|(takes, lacking)| *takes > 0 && *lacking > 0)
    };
    let could: Vec<&Yields> = could.iter().filter(helps).copied().collect();
    let mut everybody = *takings;
    could.iter().for_each(|one| everybody.give_back(is_other(one), &amounts(&one.needs), 1));
    if !everybody.has_room_for(needs) {
        return None;
    }
    let kinds = kinds(&could, priorities);
    let mut search = Search {
        needs,
        kinds: &kinds,
        left: Cell::new(STEPS_MAX),
        steps,
        best: greedy(needs, &kinds, everybody),
    };
    search.look(0, *takings, 0, &mut Vec::new());
    let (cost, counts) = search.best;
    let chosen = kinds.iter().zip(counts).flat_map(|(kind, count)| kind.members.iter().take(count));
    Some(Chosen { cost, victims: chosen.map(|one| one.victim.clone()).collect() })
}

/// A choice to begin with: everybody, and then as many stay as can, the dearest first.
fn greedy(needs: &Resources, kinds: &[Kind<'_>], everybody: Takings) -> (i128, Vec<usize>) {
    let mut counts: Vec<usize> = kinds.iter().map(|kind| kind.members.len()).collect();
    let mut takings = everybody;
    for (kind, count) in kinds.iter().zip(&mut counts).rev() {
        while *count > 0 {
            let mut with_one = takings;
            with_one.take(kind.others, &kind.takes);
            if !with_one.has_room_for(needs) {
                break;
            }
            takings = with_one;
            *count -= 1;
        }
    }
    let cost = kinds.iter().zip(&counts).map(|(kind, count)| kind.cost * to_i128(*count)).sum();
    (cost, counts)
}

fn to_i128(count: usize) -> i128 {
    i128::try_from(count).unwrap_or(i128::MAX)
}

struct Search<'a> {
    needs: &'a Resources,
    kinds: &'a [Kind<'a>],
    left: Cell<u64>,
    steps: &'a Steps,
    best: (i128, Vec<usize>),
}

impl Search<'_> {
    /// Whether there is a step left, here and in all.
    fn step(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0 && self.steps.take(1)
    }

    /// Every choice of those from the kind at `from` on that could be better than the best so far.
    fn look(&mut self, from: usize, takings: Takings, so_far: i128, counts: &mut Vec<usize>) {
        if so_far >= self.best.0 {
            return;
        }
        if takings.has_room_for(self.needs) {
            self.best = (so_far, counts.clone());
            return;
        }
        let Some(kind) = self.kinds.get(from).filter(|_| self.step()) else { return };
        let lacking = takings.lacking_for(self.needs);
        // Those behind cost no less than this kind.
        match self.fewest(from, &lacking) {
            Some(more) if so_far.saturating_add(kind.cost * to_i128(more)) < self.best.0 => {}
            _ => return,
        }
        let useful = useful(&amounts(self.needs), &kind.takes, &lacking);
        for count in (0..=kind.members.len().min(useful)).rev() {
            let mut without = takings;
            without.give_back(kind.others, &kind.takes, count);
            counts.push(count);
            self.look(from + 1, without, so_far + kind.cost * to_i128(count), counts);
            counts.pop();
        }
    }

    /// How many at least have to go of the kinds from this one on, by the resource that lacks most; `None` where all
    /// of them are not enough.
    fn fewest(&self, from: usize, lacking: &Amounts) -> Option<usize> {
        let kinds = self.kinds.get(from..).unwrap_or_default();
        let mut most = 1;
        for (at, lacking) in lacking.iter().enumerate().filter(|(_, lacking)| **lacking > 0) {
            let of = |kind: &Kind<'_>| kind.takes.get(at).copied().unwrap_or(0);
            let mut takes: Vec<(u128, usize)> =
                kinds.iter().map(|kind| (of(kind), kind.members.len())).collect();
            takes.sort_unstable_by_key(|(takes, _)| std::cmp::Reverse(*takes));
            let (mut left, mut count) = (*lacking, 0_usize);
            for (takes, members) in takes.into_iter().filter(|(takes, _)| *takes > 0) {
                let wanted = usize::try_from(left.div_ceil(takes)).unwrap_or(usize::MAX).min(members);
                count = count.saturating_add(wanted);
                left = left.saturating_sub(takes.saturating_mul(wanted as u128));
                if left == 0 {
                    break;
                }
            }
            if left > 0 {
                return None;
            }
            most = most.max(count);
        }
        Some(most)
    }
}

/// Of how many of a kind the last one helps still. Where there is too little for those who are there already, more may
/// help than what is lacking at least.
fn useful(needs: &Amounts, takes: &Amounts, lacking: &Amounts) -> usize {
    let each =
        takes.iter().zip(lacking).zip(needs).filter(|((takes, lacking), _)| **takes > 0 && **lacking > 0);
    let each = each.map(|((takes, lacking), needs)| match needs {
        0 => usize::MAX,
        _ => usize::try_from(lacking.div_ceil(*takes)).unwrap_or(usize::MAX),
    });
    each.max().unwrap_or(0)
}
