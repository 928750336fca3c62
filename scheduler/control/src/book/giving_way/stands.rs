//! How a plan stands: under way while somebody is waited for, room for the pods once they have gone, and something
//! comes forward; else over.

use std::collections::BTreeSet;
use std::time::Duration;

use coffer_scheduler::{Pod, Runner, SetName, SiteSet, is_room};

use super::{Nomination, PATIENCE};
use crate::book::{Book, BookError};

impl Book {
    /// Those of a plan who are there still.
    pub(super) fn still_there(&self, known: &Nomination) -> BTreeSet<Runner> {
        let others = known.awaited.iter();
        let others = others.filter(|(name, uid)| self.foreign.get(*name).is_some_and(|one| one.uid == **uid));
        let others = others.map(|(name, _)| Runner::Neighbour(name.clone()));
        let sites = known.victims.iter().filter(|victim| match &victim.runner {
            Runner::Pod(id) => self.ledger.cluster().node_of(id).is_some_and(|node| node.name == victim.node),
            Runner::Neighbour(_) => false,
        });
        others.chain(sites.map(|victim| victim.runner.clone())).collect()
    }

    /// Whether the plan of a set that fits nowhere is under way. One that is over is undone; where it came to nothing
    /// the next one has to wait.
    pub(super) fn is_under_way(&mut self, wanted: &SiteSet, unbound: &[&Pod]) -> Result<bool, BookError> {
        let Some(known) = self.giving_way.nominations.get(&wanted.name) else { return Ok(false) };
        let ordinals = unbound.iter().map(|pod| pod.ordinal);
        if !known.claims.iter().map(|claim| claim.ordinal).eq(ordinals) {
            self.forget_claims(&wanted.name)?;
            return Ok(false);
        }
        let there = self.still_there(known);
        if there.is_empty() || !is_room(self.ledger.cluster(), wanted, &known.claims, &there) {
            let why = "others took the room that was kept for the set, or its node may not be had any more";
            self.undo(&wanted.name, why)?;
            return Ok(false);
        }
        let stays = |runner: &Runner| match runner {
            Runner::Neighbour(name) => self.foreign.get(name).is_some_and(|one| !one.ends),
            Runner::Pod(_) => true,
        };
        if self.giving_way.spared.waiting().any(|runner| there.contains(runner) && stays(runner)) {
            // He was asked, and said no: others are looked for at once. Each can say so once in a while.
            self.forget_claims(&wanted.name)?;
            return Ok(false);
        }
        Ok(true)
    }

    /// A plan came to nothing.
    fn undo(&mut self, set: &SetName, why: &str) -> Result<(), BookError> {
        self.giving_way.undone.again(set.clone(), self.clock.monotonic());
        if let Some((times, pause)) = self.giving_way.undone.of(set) {
            let news = format!(
                "{why}; nobody is asked to give way for {} s, after {times} plans in a row that came to nothing",
                pause.as_secs()
            );
            self.giving_way.news.insert(set.clone(), news);
        }
        self.forget_claims(set)
    }

    /// What is left to do of a plan: who has to go, and what has to move before.
    pub(super) fn left_to_do(&self, there: &BTreeSet<Runner>) -> u64 {
        let held = |runner: &Runner| match runner {
            Runner::Pod(id) => self.giving_way.told.of(&id.set).map_or(0, |told| told.held(id)),
            Runner::Neighbour(_) => 0,
        };
        there.iter().fold(0_u64, |sum, runner| sum.saturating_add(1).saturating_add(held(runner)))
    }

    /// Plans that do not come forward are undone, and who does not go is spared; waits end.
    ///
    /// # Errors
    /// [`BookError`].
    pub(in crate::book) fn plans_grow_old(&mut self, now: Duration) -> Result<(), BookError> {
        let names: Vec<SetName> = self.giving_way.nominations.keys().cloned().collect();
        for name in names {
            let Some(known) = self.giving_way.nominations.get(&name) else { continue };
            let there = self.still_there(known);
            let left = self.left_to_do(&there);
            let is_old = now.saturating_sub(known.since) > PATIENCE;
            if let Some(known) = self.giving_way.nominations.get_mut(&name)
                && left < known.least
            {
                (known.least, known.since) = (left, now);
            } else if is_old {
                there.into_iter().for_each(|runner| self.giving_way.spared.again(runner, now));
                self.undo(&name, "who had to give way did not go in time, or what lies there did not move")?;
            }
        }
        self.giving_way.going_on.retain(|_, until| *until > now);
        self.waits_end(now);
        Ok(())
    }

    /// Those who did not go are asked again after a while, and it is looked again for somebody.
    fn waits_end(&mut self, now: Duration) {
        let cluster = self.ledger.cluster();
        let foreign = &self.foreign;
        self.giving_way.spared.keep(|runner| match runner {
            Runner::Pod(id) => cluster.node_of(id).is_some(),
            Runner::Neighbour(name) => foreign.contains_key(name),
        });
        let asked = !self.giving_way.spared.over(now).is_empty();
        let looks = self.giving_way.looks.over(now).into_iter();
        for (set, asked) in looks.chain(self.giving_way.undone.over(now)) {
            if let Some((changes, _)) = self.stuck.get_mut(&set).filter(|_| asked) {
                // Whatever has changed since it was tried last, somebody may be found by now.
                *changes = u64::MAX;
                self.waiting.insert(set);
            }
        }
        if asked {
            self.somebody_may_go();
        }
    }
}
