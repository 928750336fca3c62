//! Rounds of challenges: each site is asked about shards that chance chose
//! when they were written. A wrong or missing answer is damage; a late one is
//! a question to an operator. Versions without challenges get new ones from
//! shards that are read back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coffer_catalog::{ChallengeRow, DrawnChallenge};
use coffer_model::{Digest, Layout, Operation, Outcome, RecordId, SiteId, VersionId};
use coffer_regions::{Challenge, Site, SiteError, shard_record_id};
use tokio::task::JoinSet;

use super::challenge_delay::DelayState;
use super::challenge_sample::{Sampler, key_of};
use super::{Job, JobError, JobSettings};
use crate::service::Service;
use crate::tenant::Tenant;

/// Questions of a round, where a site's own plan does not take more.
const ANSWERS: usize = 16;

/// Versions without challenges that one round gives new ones.
const RENEWED_MAX: usize = 16;

/// What a round brought at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteChallenges {
    /// Which.
    pub site: SiteId,
    /// Right answers.
    pub right: u64,
    /// Records that the site could not answer for, or answered wrongly for.
    pub failed: BTreeSet<RecordId>,
    /// Questions that it had seen before, because no new ones were left.
    pub repeated: u64,
    /// Whether it answered at all, where it was asked.
    pub answered: bool,
    /// How its delays stand.
    pub delay: DelayState,
}

/// A question with its tenant.
struct Question {
    tenant: Arc<Tenant>,
    drawn: DrawnChallenge,
}

/// How one question ended.
enum Answered {
    Right(Duration),
    Wrong,
    Silent,
}

/// What the questions of one site came to.
#[derive(Default)]
struct Tally {
    delays: Vec<Duration>,
    failed: BTreeSet<RecordId>,
    repeated: u64,
    silent: bool,
    /// Versions with nothing new left at this site.
    spent: BTreeMap<VersionId, Arc<Tenant>>,
}

impl Service {
    /// Asks every site that answers at least `least` questions, where it has as
    /// many, and gives versions without challenges new ones. No timer, one site after
    /// the other.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn challenge_round(&self, least: usize) -> Result<Vec<SiteChallenges>, JobError> {
        let mut all = Vec::new();
        for site in self.sites.topology().sites.iter().map(|site| site.id) {
            all.push(self.challenge_site(site, least).await?);
        }
        self.renew_bare().await?;
        Ok(all)
    }

    /// One round at one site.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn challenge_site(&self, site: SiteId, least: usize) -> Result<SiteChallenges, JobError> {
        let adapter = self.sites.get(site).filter(|site| site.answers());
        let mut tally = Tally::default();
        if let Some(adapter) = &adapter {
            let wanted = self.answers_wanted(site, least).await?;
            let questions = self.draw(site, wanted).await?;
            tally = self.ask_all(adapter.as_ref(), questions).await?;
        }
        for record in &tally.failed {
            self.note_damage(Operation::Challenge, site, *record).await?;
        }
        let (verdict, delay) = self.take_delays(site, &tally.delays).await?;
        if verdict.is_some() && delay == DelayState::Later {
            self.note_job(Operation::Challenge, format!("{site}/delay"), Outcome::Failed).await?;
        }
        for (version, tenant) in &tally.spent {
            self.renew(tenant, *version, Some(site)).await?;
        }
        let right = u64::try_from(tally.delays.len()).unwrap_or(u64::MAX);
        let answered = adapter.is_some() && !tally.silent;
        Ok(SiteChallenges { site, right, failed: tally.failed, repeated: tally.repeated, answered, delay })
    }

    /// Questions for a site, from the tenants in turn, beginning anywhere.
    async fn draw(&self, site: SiteId, wanted: usize) -> Result<Vec<Question>, JobError> {
        let mut tenants: Vec<Arc<Tenant>> =
            self.all_tenants().into_iter().filter(|tenant| !tenant.service).collect();
        if tenants.is_empty() {
            return Ok(Vec::new());
        }
        let first = usize::try_from(self.chance() % tenants.len() as u64).unwrap_or(0);
        tenants.rotate_left(first);
        let mut questions: Vec<Question> = Vec::new();
        let mut seen = BTreeSet::new();
        // What the first turn leaves, because a tenant has little, the second one takes.
        for share in [wanted.div_ceil(tenants.len()), wanted] {
            for tenant in &tenants {
                let left = wanted.saturating_sub(questions.len());
                let chance = (0..share.min(left)).map(|_| self.chance()).collect();
                for drawn in tenant.catalog.draw_challenges(site, chance).await? {
                    if seen.insert((tenant.id, drawn.id)) {
                        questions.push(Question { tenant: Arc::clone(tenant), drawn });
                    }
                }
            }
        }
        Ok(questions)
    }

    fn chance(&self) -> u64 {
        let mut bytes = [0; 8];
        self.host.entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    async fn ask_all(&self, site: &dyn Site, questions: Vec<Question>) -> Result<Tally, JobError> {
        let mut tally = Tally::default();
        let mut unanswered = Vec::new();
        for question in questions {
            if !self.still_there(&question).await? {
                question.tenant.catalog.drop_challenges(vec![question.drawn.id]).await?;
                continue;
            }
            let row = &question.drawn.row;
            tally.repeated += u64::from(question.drawn.repeated);
            if question.drawn.last {
                tally.spent.insert(row.version, Arc::clone(&question.tenant));
            }
            match self.ask(site, &question.tenant, row).await {
                Answered::Right(delay) => tally.delays.push(delay),
                Answered::Wrong => drop(tally.failed.insert(row.record)),
                Answered::Silent => unanswered.push(question),
            }
            // A site that is down is not asked on, and keeps its questions.
            if unanswered.len() > 1 && tally.delays.is_empty() && tally.failed.is_empty() {
                break;
            }
        }
        self.ask_again(site, &unanswered, &mut tally).await;
        Ok(tally)
    }

    /// A site that is up, but does not answer these questions, is asked once
    /// more; then its silence is an answer. One that is down says nothing about its shards.
    async fn ask_again(&self, site: &dyn Site, unanswered: &[Question], tally: &mut Tally) {
        for question in unanswered {
            let row = &question.drawn.row;
            match self.ask(site, &question.tenant, row).await {
                Answered::Right(delay) => tally.delays.push(delay),
                Answered::Wrong => drop(tally.failed.insert(row.record)),
                Answered::Silent if site.state().await.alive => drop(tally.failed.insert(row.record)),
                Answered::Silent => tally.silent = true,
            }
        }
    }

    async fn ask(&self, site: &dyn Site, tenant: &Tenant, row: &ChallengeRow) -> Answered {
        let key = key_of(&tenant.secrets.challenge_key(), row.record, row.nonce);
        let asked = self.host.clock.monotonic();
        let answer = site.answer(Challenge { record: row.record, key }).await;
        let took = self.host.clock.monotonic().saturating_sub(asked);
        match answer {
            Ok(answer) if answer.0 == row.answer => Answered::Right(took),
            Ok(_) | Err(SiteError::Missing | SiteError::Damaged) => Answered::Wrong,
            Err(_) => Answered::Silent,
        }
    }

    /// Whether the record is where the question says, by the version's newest
    /// manifest: a repair may have moved it, retention ended it.
    async fn still_there(&self, question: &Question) -> Result<bool, JobError> {
        let row = &question.drawn.row;
        let Some(found) = question.tenant.catalog.version(row.version).await? else { return Ok(false) };
        let Layout::Striped { sites, locator, digests, .. } = &found.manifest.layout else {
            return Ok(false);
        };
        let stripes = u32::try_from(digests.len()).unwrap_or(u32::MAX);
        let mut at_site = (0_u8..).zip(sites).filter(|(_, site)| **site == row.site);
        Ok(at_site.any(|(index, _)| {
            (0..stripes).any(|stripe| shard_record_id(locator, stripe, index) == row.record)
        }))
    }

    /// Gives some versions without challenges new ones.
    async fn renew_bare(&self) -> Result<(), JobError> {
        for tenant in self.all_tenants().into_iter().filter(|tenant| !tenant.service) {
            // From anywhere, so that one whose shards cannot be read holds up no other.
            let mut after = VersionId::generate(self.host.entropy.as_ref());
            for _ in 0..2 {
                let bare = tenant.catalog.unchallenged(Some(after), RENEWED_MAX).await?;
                for version in &bare {
                    self.renew(&tenant, *version, None).await?;
                }
                if bare.len() >= RENEWED_MAX {
                    break;
                }
                after = VersionId::from_bytes([0; 16]);
            }
        }
        Ok(())
    }

    /// Reads some shards of a version back, at one site or at all, and makes
    /// new challenges of those that are what the manifest signs.
    pub(crate) async fn renew(
        &self,
        tenant: &Tenant,
        version: VersionId,
        only: Option<SiteId>,
    ) -> Result<(), JobError> {
        let Some(row) = tenant.catalog.version(version).await? else { return Ok(()) };
        let Layout::Striped { sites, locator, digests, .. } = &row.manifest.layout else { return Ok(()) };
        let mut sampler = Sampler::new(tenant.secrets.challenge_key(), version, self.host.entropy.as_ref());
        for (index, site) in (0_u8..).zip(sites).filter(|(_, site)| only.is_none_or(|only| only == **site)) {
            let ids = (0_u32..).zip(digests).map(|(stripe, _)| shard_record_id(locator, stripe, index));
            let signed: BTreeMap<RecordId, Digest> = ids
                .zip(digests)
                .filter_map(|(id, stripe)| Some((id, *stripe.get(usize::from(index))?)))
                .collect();
            signed.keys().for_each(|id| sampler.consider(index, *id));
            for id in sampler.unanswered(index) {
                self.read_back(&mut sampler, index, *site, id, signed.get(&id)).await?;
            }
        }
        let mut made = sampler.finish(sites, &[]);
        made.whole &= only.is_none();
        Ok(tenant.catalog.add_challenges(version, made).await?)
    }

    async fn read_back(
        &self,
        sampler: &mut Sampler,
        index: u8,
        site: SiteId,
        id: RecordId,
        signed: Option<&Digest>,
    ) -> Result<(), JobError> {
        let Some(adapter) = self.sites.get(site) else { return Ok(()) };
        match adapter.get(id).await {
            Ok(record) if Some(&record.digest()) == signed => sampler.answer(index, &record),
            Ok(_) | Err(SiteError::Missing | SiteError::Damaged) => {
                self.note_damage(Operation::Challenge, site, id).await?;
            }
            Err(_) => {}
        }
        Ok(())
    }
}

/// A round, every so often.
pub(super) fn spawn(tasks: &mut JoinSet<()>, service: &Arc<Service>, settings: JobSettings) {
    let Some(every) = settings.challenge_every else { return };
    let service = Arc::clone(service);
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            let round = service.challenge_round(ANSWERS).await;
            service.watch.settle(Job::Challenge, round.map(drop));
        }
    });
}
