//! Repair, one round after the other: look at what lies where, plan, act. A
//! shard counts when it was read back, not when it was acknowledged. Nothing
//! is remembered that the next round could not find again, so that a crash at
//! any moment costs the round and nothing else.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};

use coffer_catalog::CatalogError;
use coffer_model::{AuditEvent, BucketId, Operation, Outcome, RecordId, SiteId, TenantId, VersionId};
use coffer_regions::{Plan, PlanBuilder, SiteTable, Step, Trouble, Troubled, plan_version};
use futures::StreamExt as _;
use tokio::sync::{Mutex, Semaphore};

use crate::audit::AuditError;
use crate::inventory::{Amount, Census, Superseded, go_on, superseded, walk};
use crate::leaf::leaf;
use crate::service::Service;
use crate::tenant::Tenant;

mod execute;
mod leaving;
mod leftover;
mod marks;
mod pace;
mod rebalance;
mod release;
mod rounds;
mod slots;
mod small;

use marks::Marks;
use release::Unbelieved;

pub(crate) use execute::{Done, Shards, StepError, confirm_shard, first_copy, put_and_read_back};
pub(crate) use leaving::{Needing, short_without};
pub(crate) use pace::{Foreground, InFlight};
pub use rebalance::{Rebalance, SiteShare};
pub(crate) use rounds::Status;
pub use rounds::{RepairProgress, RepairRun, repair_in_background};

/// Brings sites the key slots that they have missed.
pub(crate) async fn heal_slots(service: &Service) -> small::Healed {
    slots::heal(service, &mut Marks::default()).await
}

/// Why a round did not take place, or ended early. What was done stands.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A catalogue failed.
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    /// The service leaves.
    #[error("the repair ends with the service; what was done stands, and the next one goes on")]
    Stopped,
    /// A site fell silent while what it alone may have was looked for.
    #[error("the site stopped answering while its records were listed; nothing was changed: try again")]
    Unlisted,
    /// A log did not take a leaf.
    #[error("not repaired, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
}

/// How much one round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairBudget {
    /// About how many bytes are read and written; one step is always taken.
    pub bytes: u64,
    /// The most steps.
    pub steps: usize,
    /// The most steps under way at once; fewer where they are long, so that
    /// what they hold in memory stays bounded.
    pub at_once: usize,
}

impl Default for RepairBudget {
    fn default() -> Self {
        Self { bytes: 1 << 30, steps: 1 << 14, at_once: 64 }
    }
}

/// What one round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Steps that were taken to their end.
    pub done: u64,
    /// Steps, and small records and slots, that were not, with the reason of
    /// the first few.
    pub failed: u64,
    /// Reasons, at most sixteen.
    pub reasons: Vec<String>,
    /// Shards written; each was read back.
    pub shards: u64,
    /// Shards and copies that were read back and found right.
    pub read_back: u64,
    /// Manifest records written, new ones included.
    pub copies: u64,
    /// Versions that have a new layout.
    pub moved: u64,
    /// Records removed from where they should not lie.
    pub removed: u64,
    /// Tombstones, facts and log runs that sites had missed.
    pub small: u64,
    /// Key slots that sites had missed.
    pub slots: u64,
    /// Bytes read from sites, what was read back left out.
    pub bytes_read: u64,
    /// Bytes written to sites.
    pub bytes_written: u64,
    /// The plan that was carried out.
    pub plan: Plan,
}

impl RepairReport {
    /// Whether anything was put right.
    pub fn progressed(&self) -> bool {
        self.done + self.small + self.slots > 0
    }

    /// Whether nothing is left: neither for another round, nor for a later one. What is beyond repair is not.
    pub fn is_whole(&self) -> bool {
        let may_end = |of: &Troubled| !matches!(of.trouble, Trouble::BeyondRepair { .. });
        self.is_over() && self.failed == 0 && !self.plan.troubled.iter().any(may_end)
    }

    /// Whether another round could do more now.
    pub fn is_over(&self) -> bool {
        self.plan.steps.is_empty() && self.small + self.slots == 0
    }
}

/// Records that belong to nobody, or whose owner was looked up; more than
/// this many are looked up again.
const REMEMBERED_MAX: usize = 1 << 20;

/// Whose a small record is, and for a tombstone in which bucket.
type Owner = (TenantId, Option<BucketId>);

/// What repair keeps in memory between its rounds.
#[derive(Default)]
pub(crate) struct Repairs {
    /// One round at a time.
    pub(crate) turn: Mutex<()>,
    pub(crate) status: StdMutex<Status>,
    memory: StdMutex<Memory>,
}

#[derive(Default)]
struct Memory {
    nobodys: BTreeSet<RecordId>,
    owners: BTreeMap<RecordId, Owner>,
    verified: BTreeSet<(SiteId, RecordId)>,
    /// Shards that no version named, by site, when last everything was looked at.
    unnamed: BTreeMap<SiteId, Amount>,
    /// How often the disk of each site became a new one.
    replacements: BTreeMap<SiteId, u64>,
}

impl Repairs {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_nobodys(&self, record: RecordId) -> bool {
        self.memory().nobodys.contains(&record)
    }

    pub(crate) fn note_nobodys(&self, record: RecordId) {
        let mut memory = self.memory();
        if memory.nobodys.len() < REMEMBERED_MAX {
            memory.nobodys.insert(record);
        }
    }

    fn owner(&self, record: RecordId) -> Option<Owner> {
        self.memory().owners.get(&record).copied()
    }

    fn note_owner(&self, record: RecordId, owner: Owner) {
        let mut memory = self.memory();
        if memory.owners.len() < REMEMBERED_MAX {
            memory.owners.insert(record, owner);
        }
    }

    /// Whether this process has read the record back from there.
    fn was_verified(&self, site: SiteId, record: RecordId) -> bool {
        self.memory().verified.contains(&(site, record))
    }

    fn note_verified(&self, site: SiteId, record: RecordId) {
        let mut memory = self.memory();
        if memory.verified.len() < REMEMBERED_MAX {
            memory.verified.insert((site, record));
        }
    }

    /// Shards at a site that no version named when last everything was looked
    /// at; `None` where nobody has looked, or the site was silent.
    pub(crate) fn unnamed_shards(&self, site: SiteId) -> Option<Amount> {
        self.memory().unnamed.get(&site).copied()
    }

    /// Forgets what was read back from a site whose disk is a new one.
    pub(crate) fn forget(&self, site: SiteId) {
        let mut memory = self.memory();
        memory.verified.retain(|(verified, _)| *verified != site);
        *memory.replacements.entry(site).or_default() += 1;
    }

    /// How often the disk of a site became a new one.
    pub(crate) fn replacements_of(&self, site: SiteId) -> u64 {
        self.memory().replacements.get(&site).copied().unwrap_or(0)
    }

    fn replacements(&self) -> BTreeMap<SiteId, u64> {
        self.memory().replacements.clone()
    }
}

/// A version that has less than was promised, or something elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    /// Whose.
    pub tenant: TenantId,
    /// Which version.
    pub version: VersionId,
    /// Losses that it survives as it was found.
    pub redundancy: usize,
    /// Losses that it was promised to survive.
    pub promised: usize,
    /// What keeps it from being whole, as sentences.
    pub why: Vec<String>,
}

/// What the steps under way may read and write together, in KiB: that much is
/// in memory at most.
const MEMORY_KIB: usize = 48 << 10;

/// Versions that one survey lists; it counts all.
const SHORT_MAX: usize = 10_000;

/// What a round tells while it goes on.
pub(crate) enum Told<'a> {
    Planned(&'a Plan),
    /// A step, and the bytes that were planned for it.
    Done(&'a Done, u64),
    Failed,
}

/// What a look at everything brought.
#[derive(Default)]
pub(crate) struct Survey {
    pub(crate) plan: Plan,
    pub(crate) short: Vec<Short>,
    /// Sites that failed while it looked at them. It is this look's alone: a
    /// tenant's own look, which goes on beside a round, has another answer.
    silent: BTreeSet<SiteId>,
    /// Sites that are not believed, and what they lack.
    unbelieved: Unbelieved,
    /// Versions that were accepted below their promise and are whole now.
    whole_again: BTreeMap<TenantId, Vec<(VersionId, RecordId, u8)>>,
}

impl Service {
    /// What a round would do now. Sites and catalogues are only read.
    ///
    /// # Errors
    /// [`RepairError`].
    pub async fn plan_repair(&self, budget: RepairBudget) -> Result<Plan, RepairError> {
        Ok(self.survey(&self.all_tenants(), budget, true, None).await?.plan)
    }

    /// One round, without timers and without regard for others: what sites
    /// have missed first, tombstones before all; then the plan.
    ///
    /// # Errors
    /// [`RepairError`].
    pub async fn repair_once(&self, budget: RepairBudget) -> Result<RepairReport, RepairError> {
        self.round(budget, &pace::Pace::unbounded(), &mut Marks::default(), &|_| ()).await
    }

    /// Looks at every version of these tenants.
    pub(crate) async fn survey(
        &self,
        tenants: &[Arc<Tenant>],
        budget: RepairBudget,
        everywhere: bool,
        foreground: Option<Arc<Foreground>>,
    ) -> Result<Survey, RepairError> {
        self.survey_into(Survey::default(), tenants, budget, everywhere, foreground).await
    }

    async fn survey_into(
        &self,
        mut survey: Survey,
        tenants: &[Arc<Tenant>],
        budget: RepairBudget,
        everywhere: bool,
        foreground: Option<Arc<Foreground>>,
    ) -> Result<Survey, RepairError> {
        let mut census = Census::new(self).giving_way(foreground);
        let older = match everywhere {
            true => superseded(self, &mut census).await?,
            false => Superseded::new(),
        };
        let mut builder = PlanBuilder::new(budget.bytes, budget.steps);
        walk(self, tenants, &mut census, &older, |census, found| {
            let plan = plan_version(&found.inventory, &SiteTable::new(&census.sites));
            survey.unbelieved.add(&found, &plan);
            if plan.steps.is_empty() && plan.troubles.is_empty() {
                builder.whole(1);
                if found.row.reduced > 0 {
                    let line = (found.row.manifest.version, found.row.record, 0);
                    survey.whole_again.entry(found.tenant.id).or_default().push(line);
                }
                return;
            }
            if survey.short.len() < SHORT_MAX {
                let name = |id| self.sites.name(id).to_owned();
                survey.short.push(Short {
                    tenant: found.tenant.id,
                    version: found.row.manifest.version,
                    redundancy: plan.redundancy,
                    promised: found.inventory.promised(),
                    why: plan.troubles.iter().map(|trouble| trouble.describe(&name)).collect(),
                });
            }
            builder.add(&found.inventory, plan);
        })
        .await?;
        survey.plan = builder.finish();
        if everywhere {
            let unnamed = census.unnamed_shards(self).await;
            go_on(self)?;
            self.repairs.memory().unnamed = unnamed;
        }
        let silent = census.sites.iter().filter(|site| !site.alive).map(|site| site.site.id);
        survey.silent = silent.collect();
        Ok(survey)
    }

    async fn round(
        &self,
        budget: RepairBudget,
        pace: &pace::Pace<'_>,
        marks: &mut Marks,
        told: &(dyn Fn(Told<'_>) + Sync),
    ) -> Result<RepairReport, RepairError> {
        let _turn = self.repairs.turn.lock().await;
        marks.forget_replaced(self.repairs.replacements());
        let tenants = self.all_tenants();
        let unbelieved = Unbelieved::begin(self, &tenants, &mut marks.floors).await?;
        let slots = slots::heal(self, marks).await;
        let small = small::heal(self, &tenants, marks).await?;
        let mut report =
            RepairReport { slots: slots.written, small: small.written, ..RepairReport::default() };
        report.fail(slots.failed);
        report.fail(small.failed);
        let survey = Survey { unbelieved, ..Survey::default() };
        let Survey { plan, whole_again, silent, mut unbelieved, .. } =
            self.survey_into(survey, &tenants, budget, true, pace.gives_way_to()).await?;
        unbelieved.lack(&(&slots.lacking | &small.lacking));
        let heard = &(&slots.heard & &small.heard) - &silent;
        for site in self.believe_again(&unbelieved, &heard, &tenants).await? {
            marks.floors.forget(site);
        }
        self.note_whole(whole_again).await?;
        self.name_beyond_repair(&plan).await?;
        told(Told::Planned(&plan));
        let mut failures = Failures::default();
        let mut steps = plan.steps.clone();
        steps.retain(|step| match marks.undone(step.version, &step.action) {
            None => true,
            Some(site) => {
                failures.add(format!("{}: {}", step.version, self.undone(site)));
                told(Told::Failed);
                false
            }
        });
        report.fail(failures);
        let by_tenant = steps_by_tenant(&steps);
        for (tenant, steps) in &by_tenant {
            self.note_repair(*tenant, format!("{steps} steps"), Outcome::Intent).await?;
        }
        let mut done_of = self.carry_out(steps, budget, pace, marks, told, &mut report).await;
        for (tenant, steps) in by_tenant {
            let done = done_of.remove(&tenant).unwrap_or_default();
            let outcome = if done == Done::default() { Outcome::Failed } else { Outcome::Done };
            self.note_repair(tenant, format!("{done} of {steps} steps"), outcome).await?;
            report.add(&done);
        }
        report.plan = plan;
        if report.is_over() {
            report.fail(leftover::settle(self).await);
        }
        Ok(report)
    }

    /// Carries out these steps; what it came to for each tenant.
    async fn carry_out(
        &self,
        steps: Vec<Step>,
        budget: RepairBudget,
        pace: &pace::Pace<'_>,
        marks: &mut Marks,
        told: &(dyn Fn(Told<'_>) + Sync),
        report: &mut RepairReport,
    ) -> BTreeMap<TenantId, Done> {
        let memory = &Semaphore::new(MEMORY_KIB);
        let acts = steps.into_iter().map(|step| async move {
            let kib = usize::try_from(step.bytes >> 10).unwrap_or(MEMORY_KIB).clamp(1, MEMORY_KIB);
            // Never closed, so that this is always a permit.
            let _room = memory.acquire_many(u32::try_from(kib).unwrap_or(1)).await;
            let turn = pace.turn(step.bytes).await;
            let done = execute::act(self, step.tenant, step.version, &step.action).await;
            pace.end(turn).await;
            (step, done)
        });
        // In order, so that one seed always acts in one way.
        let mut acts = futures::stream::iter(acts).buffered(budget.at_once.max(1));
        let (mut done_of, mut failures) = (BTreeMap::<TenantId, Done>::new(), Failures::default());
        while let Some((step, outcome)) = acts.next().await {
            match outcome {
                Ok(done) => {
                    report.done += 1;
                    marks.done(step.version, &step.action);
                    told(Told::Done(&done, step.bytes));
                    done_of.entry(step.tenant).or_default().add(&done);
                }
                Err(failure) => {
                    told(Told::Failed);
                    failures.add(format!("{}: {failure}", step.version));
                }
            }
        }
        report.fail(failures);
        done_of
    }

    /// The count of what is missing goes to zero where nothing is missing.
    async fn note_whole(
        &self,
        whole: BTreeMap<TenantId, Vec<(VersionId, RecordId, u8)>>,
    ) -> Result<(), RepairError> {
        for (id, versions) in whole {
            let Some(tenant) = self.tenant(id) else { continue };
            let subject = format!("{} versions whole again", versions.len());
            let event = leaf(&self.repair_event(id, subject, Outcome::Done)).map_err(AuditError::from)?;
            tenant.catalog.set_reduced(versions, event).await?;
        }
        Ok(())
    }

    /// A leaf for each version that is beyond repair, once and for all.
    async fn name_beyond_repair(&self, plan: &Plan) -> Result<(), RepairError> {
        let mut named: BTreeMap<TenantId, BTreeSet<[u8; 16]>> = BTreeMap::new();
        for troubled in &plan.troubled {
            let Trouble::BeyondRepair { .. } = troubled.trouble else { continue };
            let Some(tenant) = self.tenant(troubled.tenant) else { continue };
            let named = match named.entry(tenant.id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let facts = tenant.catalog.facts(BEYOND_REPAIR).await?;
                    place.insert(facts.into_iter().map(|(id, _)| id).collect())
                }
            };
            let id = *troubled.version.as_bytes();
            if named.insert(id) {
                let subject = format!("{} is beyond repair", troubled.version);
                self.note_repair(tenant.id, subject, Outcome::Failed).await?;
                tenant.catalog.put_fact(BEYOND_REPAIR, id, Vec::new()).await?;
            }
        }
        Ok(())
    }

    async fn note_repair(
        &self,
        tenant: TenantId,
        subject: String,
        outcome: Outcome,
    ) -> Result<(), RepairError> {
        if let Some(tenant) = self.tenant(tenant) {
            tenant.note(&self.repair_event(tenant.id, subject, outcome)).await?;
        }
        Ok(())
    }

    pub(crate) fn repair_event(&self, tenant: TenantId, subject: String, outcome: Outcome) -> AuditEvent {
        self.own_event(Some(tenant), Operation::Repair, subject, outcome)
    }
}

/// The fact by which a catalogue knows that a version was named.
const BEYOND_REPAIR: &str = "beyond-repair";

fn steps_by_tenant(steps: &[Step]) -> BTreeMap<TenantId, u64> {
    let mut by_tenant = BTreeMap::new();
    steps.iter().for_each(|step| *by_tenant.entry(step.tenant).or_default() += 1);
    by_tenant
}

/// What did not come to its end, and why, for the first few.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    count: u64,
    reasons: Vec<String>,
}

/// Reasons that are kept.
const REASONS_MAX: usize = 16;

/// Keeps a reason, if it is one of the first.
fn keep_reason(reasons: &mut Vec<String>, reason: String) {
    if reasons.len() < REASONS_MAX {
        reasons.push(reason);
    }
}

impl Failures {
    pub(crate) fn add(&mut self, reason: String) {
        self.count += 1;
        keep_reason(&mut self.reasons, reason);
    }
}

impl RepairReport {
    fn fail(&mut self, failures: Failures) {
        self.failed += failures.count;
        failures.reasons.into_iter().for_each(|reason| keep_reason(&mut self.reasons, reason));
    }

    fn add(&mut self, done: &Done) {
        self.shards += done.shards;
        self.read_back += done.read_back;
        self.copies += done.copies;
        self.moved += done.moved;
        self.removed += done.removed;
        self.bytes_read += done.bytes_read;
        self.bytes_written += done.bytes_written;
    }
}
