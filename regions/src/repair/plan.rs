//! The plan of a round: the most urgent steps, as many as the budget pays,
//! and what is in trouble. Its size does not depend on how much is wrong.

use std::collections::BTreeMap;

use coffer_model::{SiteId, VersionId};

use super::{Action, Step, Trouble, Troubled, VersionInventory, VersionPlan};

/// The place of a step: least redundancy first; of equal ones what is seen
/// before what is hidden; the steps of one version together and in order.
type Place = (usize, bool, VersionId, u32);

/// Collects the steps of versions into a plan.
#[derive(Debug)]
pub struct PlanBuilder {
    budget_bytes: u64,
    steps_max: usize,
    steps: BTreeMap<Place, Step>,
    plan: Plan,
}

/// What is to be done in one round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps, most urgent first.
    pub steps: Vec<Step>,
    /// Bytes that they read and write.
    pub bytes: u64,
    /// Steps that the budget leaves for a later round.
    pub later_steps: u64,
    /// Bytes of those.
    pub later_bytes: u64,
    /// Versions that were looked at.
    pub versions: u64,
    /// Versions that are not as they should be.
    pub versions_short: u64,
    /// Records that lie where they should not.
    pub out_of_place: u64,
    /// Versions that the plan cannot make whole, at most as many as asked for.
    pub troubled: Vec<Troubled>,
    /// Versions beyond repair, all of them.
    pub beyond_repair: u64,
    /// Versions that wait for a site that does not answer, all of them.
    pub waiting: u64,
}

/// Versions in trouble that one plan names.
const TROUBLED_MAX: usize = 1 << 16;

impl PlanBuilder {
    /// A plan of steps that read and write about `budget_bytes`, at least one
    /// step, and at most `steps_max`.
    pub fn new(budget_bytes: u64, steps_max: usize) -> Self {
        Self { budget_bytes, steps_max: steps_max.max(1), steps: BTreeMap::new(), plan: Plan::default() }
    }

    /// Counts versions that were found to be as they should be.
    pub fn whole(&mut self, versions: u64) {
        self.plan.versions += versions;
    }

    /// Adds what one version needs.
    pub fn add(&mut self, found: &VersionInventory, version: VersionPlan) {
        self.plan.versions += 1;
        self.plan.versions_short += u64::from(!version.steps.is_empty() || !version.troubles.is_empty());
        self.plan.out_of_place += version.out_of_place;
        for trouble in version.troubles {
            match trouble {
                Trouble::BeyondRepair { .. } => self.plan.beyond_repair += 1,
                Trouble::Silent { .. } | Trouble::Waits { .. } => self.plan.waiting += 1,
                Trouble::NoPlace { .. } => {}
            }
            if self.plan.troubled.len() < TROUBLED_MAX {
                let (tenant, version) = (found.tenant, found.version);
                self.plan.troubled.push(Troubled { tenant, version, trouble });
            }
        }
        for (number, step) in (0_u32..).zip(version.steps) {
            self.steps.insert((step.redundancy, step.hidden, step.version, number), step);
            if self.steps.len() > self.steps_max
                && let Some((_, step)) = self.steps.pop_last()
            {
                self.plan.later_steps += 1;
                self.plan.later_bytes += step.bytes;
            }
        }
    }

    /// The plan.
    pub fn finish(self) -> Plan {
        let mut plan = self.plan;
        let mut cut = false;
        for step in self.steps.into_values() {
            let pays = plan.steps.is_empty() || plan.bytes.saturating_add(step.bytes) <= self.budget_bytes;
            // What comes after the first step that is too dear waits with it:
            // less urgent ones do not overtake.
            cut |= !pays;
            if cut {
                plan.later_steps += 1;
                plan.later_bytes += step.bytes;
            } else {
                plan.bytes += step.bytes;
                plan.steps.push(step);
            }
        }
        plan
    }
}

/// The name of a site, for people.
pub type SiteNames<'a> = &'a dyn Fn(SiteId) -> String;

impl Step {
    /// The step as a sentence.
    pub fn describe(&self, name: SiteNames<'_>) -> String {
        let list = |sites: &mut dyn Iterator<Item = SiteId>| sites.map(name).collect::<Vec<_>>().join(", ");
        match &self.action {
            Action::Stripe { stripe, reads, writes } => {
                let copied = |index: &u8| reads.iter().any(|(read, _)| read == index);
                let to = writes.iter().map(|(index, site)| {
                    let how = if copied(index) { "copy" } else { "rebuild" };
                    format!("{how} shard {index} to {}", name(*site))
                });
                let to = to.collect::<Vec<_>>().join(", ");
                format!("stripe {stripe}: {to}, from {}", list(&mut reads.iter().map(|(_, site)| *site)))
            }
            Action::Copies { from, to } => {
                let (to, from) = (list(&mut to.iter().copied()), list(&mut from.iter().copied()));
                format!("copy the record to {to}, from {from}")
            }
            Action::Manifest { sites, .. } => {
                format!("write a new manifest for {}", list(&mut sites.iter().copied()))
            }
            Action::Remove(stray) => {
                let what = match stray.shard {
                    Some((stripe, index)) => format!("shard {index} of stripe {stripe}"),
                    None => "the copy".to_owned(),
                };
                format!("remove {what} at {}, after its replacement was read back", name(stray.site))
            }
        }
    }
}

impl Trouble {
    /// The trouble as a sentence.
    pub fn describe(&self, name: SiteNames<'_>) -> String {
        let list = |sites: &[SiteId]| sites.iter().map(|id| name(*id)).collect::<Vec<_>>().join(", ");
        let part = |stripe: &Option<u32>| match stripe {
            Some(stripe) => format!("stripe {stripe}: "),
            None => String::new(),
        };
        match self {
            Self::BeyondRepair { stripe, have, need } => {
                format!(
                    "beyond repair: {}{have} of {need} are left, and no site can bring more",
                    part(stripe)
                )
            }
            Self::Silent { stripe, have, need } => {
                format!(
                    "cannot be read now: {}{have} of {need} answer; silent sites may bring more",
                    part(stripe)
                )
            }
            Self::Waits { sites } => format!("waits for {}", list(sites)),
            Self::NoPlace { sites } => {
                format!("should leave {}, and no legal site in a free failure domain answers", list(sites))
            }
        }
    }
}
