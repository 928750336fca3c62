//! Scrub: every site is read from its first record to its last, without a key,
//! in passes that survive a restart, and a ledger says how far. What is read
//! next is what was verified longest ago.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use coffer_model::{Operation, Outcome, SiteDescription, SiteId, Timestamp};
use coffer_regions::{ScrubFinding, ScrubStep, Site, SiteError};
use tokio::sync::{MappedMutexGuard, MutexGuard};
use tokio::task::JoinSet;

use super::coverage::{CompletedPass, Coverage, Pace, Progress, RunningPass, SiteLedger, Time, Turn};
use super::{Job, JobError, JobSettings};
use crate::damage::place_of_slot;
use crate::service::Service;

/// The kind of the facts that hold the ledgers, in the service's own realm.
const FACT: &str = "scrub";

/// A ledger is stored at the latest after so many bytes, or so much time: what
/// a crash makes the next run read again.
const SAVE_BYTES: u64 = 64 << 20;
const SAVE_AFTER: Duration = Duration::from_secs(30);

/// A ledger that does not change is stored so often, for the time in it.
const SEEN_EVERY: Duration = Duration::from_secs(3600);

/// How long a loop waits for a site that is silent, and when nothing is due.
const SILENCE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);

/// How often it is looked which sites there are.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Leaves that one step may write; what it finds beyond is only in the book.
const LEAVES_MAX: usize = 64;

/// A step that goes on before it has read so much, or what was asked for, is a
/// short one: the end of a part, or a record that could not be read.
const SHORT_BYTES: u64 = 64 << 10;

/// Short steps that one pass may have, however many there are to take: a site
/// that sends the scrub on and on without reading would never come to an end.
const SHORT_MAX: u32 = 1 << 14;

struct Entry {
    ledger: SiteLedger,
    /// Short steps of the pass under way, as far as this run took them.
    short: u32,
    /// When this run last stepped, by the monotonic clock.
    stepped: Option<Duration>,
    /// Bytes of the pass, and the moment, when it was stored.
    saved_bytes: u64,
    saved_at: Duration,
}

impl Entry {
    fn of(ledger: SiteLedger, monotonic: Duration) -> Self {
        Self { ledger, short: 0, stepped: None, saved_bytes: 0, saved_at: monotonic }
    }
}

/// The ledgers of all sites, and the time that they are kept in.
pub(super) struct Books {
    time: Time,
    sites: BTreeMap<SiteId, Entry>,
}

/// What a call of [`Service::scrub_once`] did at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteScrubbed {
    /// Which.
    pub site: SiteId,
    /// Bytes of bodies, read and verified.
    pub bytes: u64,
    /// Damage found.
    pub findings: u64,
    /// Whether it answered to the end.
    pub answered: bool,
    /// Whether a pass ended.
    pub pass_ended: bool,
}

/// How the promise stands at one site.
#[derive(Clone, Debug)]
pub struct SiteScrub {
    /// Which.
    pub site: SiteDescription,
    /// Whether every byte was verified in time.
    pub coverage: Coverage,
    /// The last whole pass.
    pub last: Option<CompletedPass>,
    /// The pass under way.
    pub running: Option<RunningPass>,
    /// Bytes of bodies that there are to read.
    pub bytes_total: u64,
    /// When the pass under way ends at the rate that it had.
    pub predicted_end: Option<Timestamp>,
    /// Whether that will be too late for what was promised.
    pub at_risk: bool,
    /// Records at this site that are known to be wrong.
    pub damaged: u64,
}

impl SiteScrub {
    /// Whether the promise is shown to be kept.
    pub fn is_kept(&self) -> bool {
        matches!(self.coverage, Coverage::Kept(_))
    }
}

/// What one step came to.
pub(super) enum Stepped {
    Read { bytes: u64, findings: u64, took: Duration, ended: bool },
    Silent,
}

impl Service {
    /// The ledgers, read from the catalogue at the first call.
    async fn books(&self) -> Result<MappedMutexGuard<'_, Books>, JobError> {
        let mut books = self.watch.scrub.lock().await;
        if books.is_none() {
            *books = Some(self.load_books().await?);
        }
        let mut books = MutexGuard::try_map(books, Option::as_mut).map_err(|_| JobError::NoRealm)?;
        self.follow_sites(&mut books);
        Ok(books)
    }

    /// A site that came since has a ledger of its own; one that was retired
    /// has none, and nobody promises anything of it any more.
    fn follow_sites(&self, books: &mut Books) {
        let topology = self.sites.topology();
        let monotonic = self.host.clock.monotonic();
        if topology.sites.iter().any(|site| !books.sites.contains_key(&site.id)) {
            let (now, _) = books.time.read(self.host.clock.now(), monotonic);
            for site in &topology.sites {
                let entry = || Entry::of(SiteLedger::unknown(now), monotonic);
                books.sites.entry(site.id).or_insert_with(entry);
            }
        }
        books.sites.retain(|id, _| topology.site(*id).is_some());
    }

    async fn load_books(&self) -> Result<Books, JobError> {
        let realm = self.service_realm().ok_or(JobError::NoRealm)?;
        let stored: BTreeMap<[u8; 16], Option<SiteLedger>> = realm
            .catalog
            .facts(FACT)
            .await?
            .into_iter()
            .map(|(id, body)| (id, SiteLedger::parse(&body)))
            .collect();
        let seen = stored.values().flatten().map(|ledger| ledger.seen).max();
        let (wall, monotonic) = (self.host.clock.now(), self.host.clock.monotonic());
        let (mut time, turn) = Time::start(wall, monotonic, seen);
        let (now, _) = time.read(wall, monotonic);
        let ledger_of = |site: &SiteDescription| {
            let known = stored.get(site.id.as_bytes()).copied().flatten();
            let ledger = known.unwrap_or_else(|| SiteLedger::unknown(now));
            (site.id, Entry::of(ledger, monotonic))
        };
        let sites = self.sites.topology().sites.iter().map(ledger_of).collect();
        let mut books = Books { time, sites };
        if turn == Turn::Back {
            self.forget(&mut books, now).await?;
        }
        Ok(books)
    }

    /// The time now; where the clock went back, every pass begins anew.
    async fn time_of(&self, books: &mut Books) -> Result<Timestamp, JobError> {
        let (now, turn) = books.time.read(self.host.clock.now(), self.host.clock.monotonic());
        if turn == Turn::Back {
            self.forget(books, now).await?;
        }
        Ok(now)
    }

    async fn forget(&self, books: &mut Books, now: Timestamp) -> Result<(), JobError> {
        let ids: Vec<SiteId> = books.sites.keys().copied().collect();
        for entry in books.sites.values_mut() {
            entry.ledger.forget(now);
            entry.stepped = None;
        }
        for id in ids {
            self.save(books, id, now).await?;
        }
        self.note_job(Operation::Scrub, "clock".to_owned(), Outcome::Failed).await
    }

    async fn save(&self, books: &mut Books, site: SiteId, now: Timestamp) -> Result<(), JobError> {
        let Some(entry) = books.sites.get_mut(&site) else { return Ok(()) };
        entry.ledger.seen = now;
        let realm = self.service_realm().ok_or(JobError::NoRealm)?;
        let body = serde_json::to_vec(&entry.ledger).map_err(|_| JobError::Serialise)?;
        realm.catalog.put_fact(FACT, *site.as_bytes(), body).await?;
        entry.saved_at = self.host.clock.monotonic();
        entry.saved_bytes = entry.ledger.running.map_or(0, |pass| pass.bytes);
        Ok(())
    }

    /// Stores every ledger as it is. Without effect before the first step.
    pub(crate) async fn save_ledgers(&self) -> Result<(), JobError> {
        if self.watch.scrub.lock().await.is_none() {
            return Ok(());
        }
        let mut books = self.books().await?;
        let now = self.time_of(&mut books).await?;
        let ids: Vec<SiteId> = books.sites.keys().copied().collect();
        for id in ids {
            self.save(&mut books, id, now).await?;
        }
        Ok(())
    }

    /// Reads a step's worth at one site, beginning a pass where none runs.
    pub(super) async fn scrub_step(&self, site: SiteId, bytes_max: u64) -> Result<Stepped, JobError> {
        let from = {
            let mut books = self.books().await?;
            let now = self.time_of(&mut books).await?;
            match books.sites.get_mut(&site) {
                Some(entry) => entry.ledger.run(now).cursor,
                None => return Ok(Stepped::Silent),
            }
        };
        let started = self.host.clock.monotonic();
        let Some(adapter) = self.sites.get(site) else { return Ok(Stepped::Silent) };
        let Ok(step) = adapter.scrub_step(from, bytes_max).await else { return Ok(Stepped::Silent) };
        // A site that sends the scrub in a circle gets no pass for it.
        if step.next.is_some_and(|next| from.is_some_and(|from| next <= from)) {
            self.sites.report(site);
            return Ok(Stepped::Silent);
        }
        if self.leads_on(site, (from, bytes_max), &step).await? {
            self.sites.report(site);
            return Ok(Stepped::Silent);
        }
        let mut findings = step.findings.clone();
        if step.next.is_none() {
            match damaged_slots(adapter.as_ref()).await {
                Ok(slots) => findings.extend(slots),
                Err(_) => return Ok(Stepped::Silent),
            }
        }
        self.note_findings(site, &findings).await?;
        let count = u64::try_from(findings.len()).unwrap_or(u64::MAX);
        let took = self.host.clock.monotonic().saturating_sub(started);
        let ended = self.enter(site, &step, count, started, from).await?;
        Ok(Stepped::Read { bytes: step.bytes, findings: count, took, ended })
    }

    /// Counts short steps; whether there were too many of them for one pass,
    /// which begins anew then: nothing shows that anything was read.
    async fn leads_on(
        &self,
        site: SiteId,
        (from, asked): (Option<coffer_regions::ScrubCursor>, u64),
        step: &ScrubStep,
    ) -> Result<bool, JobError> {
        let short = step.next.is_some() && step.bytes < asked.min(SHORT_BYTES);
        let mut books = self.books().await?;
        let now = self.time_of(&mut books).await?;
        let Some(entry) = books.sites.get_mut(&site) else { return Ok(false) };
        let before = if from.is_none() { 0 } else { entry.short };
        entry.short = before.saturating_add(u32::from(short));
        if entry.short <= SHORT_MAX {
            return Ok(false);
        }
        entry.short = 0;
        entry.ledger.running = None;
        entry.ledger.run(now);
        Ok(true)
    }

    /// Enters a step into the ledger; whether the pass ended with it.
    async fn enter(
        &self,
        site: SiteId,
        step: &ScrubStep,
        findings: u64,
        started: Duration,
        from: Option<coffer_regions::ScrubCursor>,
    ) -> Result<bool, JobError> {
        let mut books = self.books().await?;
        let now = self.time_of(&mut books).await?;
        let monotonic = self.host.clock.monotonic();
        let Some(entry) = books.sites.get_mut(&site) else { return Ok(false) };
        let since = if from.is_none() { started } else { entry.stepped.unwrap_or(started) };
        let (bytes, records, next) = (step.bytes, step.records, step.next);
        let at_work = monotonic.saturating_sub(since);
        let ended = entry.ledger.advance(from, Progress { bytes, records, findings, next, at_work }, now);
        entry.stepped = Some(monotonic);
        let unsaved = entry.ledger.running.map_or(0, |pass| pass.bytes).saturating_sub(entry.saved_bytes);
        let late = monotonic.saturating_sub(entry.saved_at) >= SAVE_AFTER;
        if ended || from.is_none() || unsaved >= SAVE_BYTES || late {
            self.save(&mut books, site, now).await?;
        }
        drop(books);
        if ended {
            self.note_job(Operation::Scrub, site.to_string(), Outcome::Done).await?;
        }
        Ok(ended)
    }

    async fn note_findings(&self, site: SiteId, findings: &[ScrubFinding]) -> Result<(), JobError> {
        for (n, finding) in findings.iter().enumerate() {
            match finding.record {
                Some(record) if n < LEAVES_MAX => {
                    self.note_damage(Operation::Scrub, site, record).await?;
                }
                Some(record) => drop(self.damage.note(site, record)),
                // What every pass meets again is told once.
                None if self.damage.note_place(site, &finding.place) => {
                    self.sites.report(site);
                    if n < LEAVES_MAX {
                        self.note_job(Operation::Scrub, format!("{site}/{}", finding.place), Outcome::Failed)
                            .await?;
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Raises the alarm where the promise has slipped, or nothing was ever known
    /// to be verified for as long, and takes it back where it is kept again;
    /// keeps the time of idle ledgers.
    pub(super) async fn check_coverage(&self) -> Result<(), JobError> {
        let promised = self.watch.settings().scrub_within;
        let mut books = self.books().await?;
        let now = self.time_of(&mut books).await?;
        let ids: Vec<SiteId> = books.sites.keys().copied().collect();
        for id in ids {
            let Some(entry) = books.sites.get_mut(&id) else { continue };
            let turned = match entry.ledger.coverage(now, promised) {
                Coverage::Kept(_) if entry.ledger.alarmed => Some(Outcome::Done),
                Coverage::Slipped(_) | Coverage::Unknown
                    if entry.ledger.is_late(now, promised) && !entry.ledger.alarmed =>
                {
                    Some(Outcome::Failed)
                }
                _ => None,
            };
            let old = now.since(entry.ledger.seen) >= SEEN_EVERY;
            if let Some(outcome) = turned {
                entry.ledger.alarmed = outcome == Outcome::Failed;
                // The leaf first: an alarm that is only in the ledger was never given.
                self.note_job(Operation::Scrub, format!("{id}/coverage"), outcome).await?;
            }
            if old || turned.is_some() {
                self.save(&mut books, id, now).await?;
            }
        }
        Ok(())
    }

    /// Reads on at every site until `bytes_max` bytes are read there or a pass
    /// has ended, one site after the other in the order of the topology, without
    /// pause; then looks whether the promise is kept. A site that does not answer keeps
    /// its place.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn scrub_once(&self, bytes_max: u64) -> Result<Vec<SiteScrubbed>, JobError> {
        let mut all = Vec::new();
        for site in self.sites.topology().sites.iter().map(|site| site.id) {
            all.push(self.scrub_site(site, bytes_max).await?);
        }
        self.check_coverage().await?;
        Ok(all)
    }

    /// As [`Self::scrub_once`], at one site.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn scrub_site(&self, site: SiteId, bytes_max: u64) -> Result<SiteScrubbed, JobError> {
        let (mut bytes, mut findings, mut pass_ended) = (0_u64, 0, false);
        let (mut answered, mut left) = (true, bytes_max);
        while left > 0 && !pass_ended && answered {
            match self.scrub_step(site, left).await? {
                Stepped::Silent => answered = false,
                Stepped::Read { bytes: read, findings: found, ended, .. } => {
                    // A step that reads nothing is paid for too, so that there is an end.
                    left = left.saturating_sub(read.max(1));
                    bytes = bytes.saturating_add(read);
                    findings += found;
                    pass_ended = ended;
                }
            }
        }
        Ok(SiteScrubbed { site, bytes, findings, answered, pass_ended })
    }

    /// How the promise stands at every site, in the order of the topology.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn scrub_status(&self) -> Result<Vec<SiteScrub>, JobError> {
        let promised = self.watch.settings().scrub_within;
        let mut all = Vec::new();
        for site in &self.sites.topology().sites {
            let state = self.sites.state(site.id).await;
            let mut books = self.books().await?;
            let now = self.time_of(&mut books).await?;
            let Some(entry) = books.sites.get(&site.id) else { continue };
            let bytes_total = state.volume_bytes.saturating_sub(state.dead_bytes);
            let ledger = entry.ledger;
            let predicted_end = ledger.predicted_end(now, bytes_total);
            let last_started = ledger.last.map(|last| last.started);
            all.push(SiteScrub {
                site: site.clone(),
                coverage: ledger.coverage(now, promised),
                last: ledger.last,
                running: ledger.running,
                bytes_total,
                predicted_end,
                at_risk: predicted_end
                    .zip(last_started)
                    .is_some_and(|(end, last)| end.since(last) > promised),
                damaged: u64::try_from(self.damage.count(site.id)).unwrap_or(u64::MAX),
            });
        }
        Ok(all)
    }

    /// Begins the pass of a site anew.
    pub(crate) async fn restart_pass(&self, site: SiteId) -> Result<(), JobError> {
        let mut books = self.books().await?;
        let now = self.time_of(&mut books).await?;
        if let Some(entry) = books.sites.get_mut(&site) {
            entry.ledger.running = None;
            entry.ledger.run(now);
        }
        Ok(())
    }

    async fn is_due(&self, site: SiteId) -> Result<bool, JobError> {
        let promised = self.watch.settings().scrub_within;
        let mut books = self.books().await?;
        let now = self.time_of(&mut books).await?;
        Ok(books.sites.get(&site).is_some_and(|entry| entry.ledger.due(now, promised)))
    }
}

/// The slots whose keys cannot be read back.
async fn damaged_slots(site: &dyn Site) -> Result<Vec<ScrubFinding>, SiteError> {
    let mut findings = Vec::new();
    for line in site.list_slots().await? {
        match site.read_slot(line.slot).await {
            Err(SiteError::Damaged) => {
                findings.push(ScrubFinding { record: None, place: place_of_slot(line.slot) });
            }
            Err(SiteError::Unreachable) => return Err(SiteError::Unreachable),
            Err(_) | Ok(_) => {}
        }
    }
    Ok(findings)
}

/// One loop for each site, at its pace, and one that watches the promise.
pub(super) fn spawn(tasks: &mut JoinSet<()>, service: &Arc<Service>, settings: JobSettings) {
    let Some(rate) = settings.scrub_rate else { return };
    let reading = Arc::clone(service);
    tasks.spawn(async move { read_everywhere(&reading, rate).await });
    let service = Arc::clone(service);
    tasks.spawn(async move {
        loop {
            let checked = service.check_coverage().await;
            service.watch.settle(Job::Coverage, checked);
            tokio::time::sleep(IDLE).await;
        }
    });
}

/// A loop for each site that there is, from when it comes until it goes.
async fn read_everywhere(service: &Arc<Service>, rate: NonZeroU64) {
    let mut loops = JoinSet::new();
    let mut read: BTreeSet<SiteId> = BTreeSet::new();
    loop {
        let there: Vec<SiteId> = service.sites.topology().sites.iter().map(|site| site.id).collect();
        read.retain(|site| there.contains(site));
        for site in there.into_iter().filter(|site| read.insert(*site)) {
            let service = Arc::clone(service);
            loops.spawn(async move { read_on(&service, site, rate).await });
        }
        while loops.try_join_next().is_some() {}
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn read_on(service: &Service, site: SiteId, rate: NonZeroU64) {
    let pace = Pace(rate);
    while service.sites.topology().site(site).is_some() {
        let stepped = step_when_due(service, site, pace).await;
        let pause = match &stepped {
            Ok(Some(Stepped::Read { bytes, took, .. })) => pace.pause(*bytes, *took),
            Ok(Some(Stepped::Silent)) => SILENCE,
            Ok(None) | Err(_) => IDLE,
        };
        service.watch.settle(Job::Scrub(site), stepped.map(drop));
        tokio::time::sleep(pause).await;
    }
    // Nobody reads it any more.
    service.watch.settle(Job::Scrub(site), Ok::<(), JobError>(()));
}

async fn step_when_due(service: &Service, site: SiteId, pace: Pace) -> Result<Option<Stepped>, JobError> {
    if !service.is_due(site).await? {
        return Ok(None);
    }
    service.scrub_step(site, pace.step_bytes()).await.map(Some)
}
