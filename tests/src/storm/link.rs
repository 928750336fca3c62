//! The way from one start of the service to one site's machine: requests are
//! lost, late, doubled, answers are lost, a site of the loss budget lies. Real
//! below it: the adapter, its disk. When the service dies, its links go dead.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use coffer_model::{Digest, RecordId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor, ScrubFinding,
    ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
};
use futures::future::BoxFuture;
use tokio::time::sleep;

use super::chance::Chance;
use super::ledger::Ledger;
use super::machine::Machine;
use super::trace::Trace;
use super::weather::Weather;

/// How long somebody waits for a request that is lost.
const GIVE_UP: Duration = Duration::from_secs(5);

/// What all links of a storm share.
pub(crate) struct Network {
    pub(crate) weather: Arc<Weather>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) trace: Arc<Trace>,
}

/// One link.
pub(crate) struct Link {
    machine: Arc<Machine>,
    network: Arc<Network>,
    chance: Arc<Chance>,
    /// Set when the service at this end is gone.
    severed: Arc<AtomicBool>,
}

type Work<T> = Arc<dyn Fn(Arc<dyn Site>) -> BoxFuture<'static, Result<T, SiteError>> + Send + Sync>;

impl Link {
    pub(crate) fn new(
        machine: Arc<Machine>,
        network: Arc<Network>,
        chance: Arc<Chance>,
        severed: Arc<AtomicBool>,
    ) -> Self {
        Self { machine, network, chance, severed }
    }

    fn note<T>(&self, what: &str, outcome: &Result<T, SiteError>) {
        let outcome = match outcome {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("{error:?}"),
        };
        self.network.trace.note(&format!("{} {what} {outcome}", self.machine.name()), "");
    }

    fn fault(&self, kind: &str, what: &str) {
        self.network.trace.fault(kind, &format!("{} {what}", self.machine.name()));
    }

    fn alive(&self) -> Result<(), SiteError> {
        if self.severed.load(Ordering::Relaxed) { Err(SiteError::Unreachable) } else { Ok(()) }
    }

    /// A lie is due: this call, at this site, now.
    fn lies(&self, what: &str) -> bool {
        let lies = self.machine.is_lying() && self.chance.permille(self.network.weather.rates().lie);
        if lies {
            self.fault("lie", what);
        }
        lies
    }

    /// The machine acknowledges what it does not store.
    fn forgets(&self, what: &str) -> bool {
        let forgets = self.machine.is_forgetful() && self.machine.is_reachable();
        if forgets {
            self.fault("acknowledged and forgotten", what);
        }
        forgets
    }

    /// Carries the request to the machine, as it is then, and its answer back.
    async fn deliver<T>(machine: &Machine, trace: &Trace, work: &Work<T>) -> Result<T, SiteError> {
        if let Some(until) = machine.stalled_until() {
            tokio::time::sleep_until(until).await;
        }
        let (site, start) = machine.reach().ok_or(SiteError::Unreachable)?;
        let answer = work(site).await;
        for did in machine.storage.tend() {
            trace.operation("upkeep", did);
            trace.note(&format!("{} upkeep {did}", machine.name()), "");
        }
        if machine.still(start) { answer } else { Err(SiteError::Unreachable) }
    }

    fn deliver_later<T: Send + 'static>(&self, work: &Work<T>) {
        let (machine, work) = (Arc::clone(&self.machine), Arc::clone(work));
        let trace = Arc::clone(&self.network.trace);
        let after = self.chance.between(Duration::from_millis(1), Duration::from_secs(20));
        tokio::spawn(async move {
            sleep(after).await;
            let _ = Self::deliver(&machine, &trace, &work).await;
        });
    }

    async fn request<T: Send + 'static>(&self, what: String, work: Work<T>) -> Result<T, SiteError> {
        let answer = self.attempt(&what, work).await;
        self.note(&what, &answer);
        answer
    }

    async fn attempt<T: Send + 'static>(&self, what: &str, work: Work<T>) -> Result<T, SiteError> {
        self.alive()?;
        let rates = self.network.weather.rates();
        let slow = self.chance.permille(rates.slow);
        let latency = self.chance.up_to(Duration::from_millis(if slow { 3000 } else { 5 }));
        if slow {
            self.fault("slow call", what);
        }
        sleep(latency).await;
        self.alive()?;
        if self.chance.permille(rates.lost_request) {
            self.fault("lost request", what);
            sleep(GIVE_UP).await;
            return Err(SiteError::Unreachable);
        }
        if self.chance.permille(rates.late) {
            self.fault("late request", what);
            self.deliver_later(&work);
            sleep(self.chance.up_to(GIVE_UP)).await;
            return Err(SiteError::Unreachable);
        }
        if self.chance.permille(rates.twice) {
            self.fault("doubled request", what);
            self.deliver_later(&work);
        }
        // On a task of its own: what has arrived is carried out, even if the
        // service at this end dies meanwhile.
        let (machine, trace) = (Arc::clone(&self.machine), Arc::clone(&self.network.trace));
        let delivered = tokio::spawn(async move { Self::deliver(&machine, &trace, &work).await });
        let answer = delivered.await.unwrap_or(Err(SiteError::Unreachable));
        sleep(self.chance.up_to(Duration::from_millis(3))).await;
        self.alive()?;
        if self.chance.permille(rates.lost_answer) {
            self.fault("lost answer", what);
            sleep(GIVE_UP).await;
            return Err(SiteError::Unreachable);
        }
        answer
    }

    /// The same record with one bit of its body changed, and a digest that fits.
    fn forged(&self, record: &Record) -> Option<Record> {
        let mut body = record.body().to_vec();
        let at = self.chance.index(body.len());
        *body.get_mut(at)? ^= 1 << self.chance.below(8);
        Record::new(record.kind(), record.id(), record.geometry(), Bytes::from(body)).ok()
    }

    /// Says that it stored records; what it had before is no lie.
    async fn claim(&self, records: &[Record]) {
        let (ledger, id) = (&self.network.ledger, self.machine.description.id);
        ledger.claimed(id, records);
        let Some((site, _)) = self.machine.reach() else { return };
        for record in records {
            if site.get(record.id()).await.as_ref() == Ok(record) {
                ledger.has(record);
            }
        }
    }

    fn receipts(&self, records: &[Record]) -> Vec<Receipt> {
        let site = self.machine.description.id;
        records.iter().map(|record| Receipt::of(site, record)).collect()
    }
}

fn work<T, F, Fut>(work: F) -> Work<T>
where
    F: Fn(Arc<dyn Site>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, SiteError>> + Send + 'static,
{
    Arc::new(move |site| Box::pin(work(site)))
}

/// The first bytes of an id: enough to follow a record through a trace.
fn short(id: RecordId) -> String {
    id.as_bytes()[..4].iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn described(records: &[Record]) -> String {
    records
        .iter()
        .fold(String::new(), |text, record| text + &format!(" {:?} {}", record.kind(), short(record.id())))
}

#[async_trait]
impl Site for Link {
    fn description(&self) -> &SiteDescription {
        &self.machine.description
    }

    fn answers(&self) -> bool {
        let hearsay = self.chance.permille(self.network.weather.rates().hearsay);
        if hearsay {
            self.fault("answers although it does not, or the reverse", "");
        }
        self.machine.is_reachable() != hearsay
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let what = format!("put{}", described(&records));
        self.network.ledger.sent(self.machine.description.id, &records);
        if self.forgets(&what) || self.lies(&what) {
            self.claim(&records).await;
            return Ok(self.receipts(&records));
        }
        let (machine, network) = (Arc::clone(&self.machine), Arc::clone(&self.network));
        let put = work(move |site: Arc<dyn Site>| {
            let (records, machine, network) = (records.clone(), Arc::clone(&machine), Arc::clone(&network));
            async move {
                let id = machine.description.id;
                for record in &records {
                    network.ledger.arrives(id, machine.name(), record);
                }
                let answer = site.put(records.clone()).await;
                if answer.is_ok() {
                    network.ledger.acknowledged(id, &records);
                }
                answer
            }
        });
        self.request(what, put).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        let what = format!("get {}", short(id));
        let truth = self.request(what.clone(), work(move |site| async move { site.get(id).await })).await;
        if !self.lies(&what) {
            return truth;
        }
        let record = truth?;
        match self.chance.below(4) {
            0 => Err(SiteError::Missing),
            1 => Err(SiteError::Damaged),
            2 => Record::new(record.kind(), id, record.geometry(), Bytes::from_static(b"something else"))
                .map_err(|_| SiteError::Damaged),
            _ => self.forged(&record).ok_or(SiteError::Damaged),
        }
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        let what = format!("get {} {}..{}", short(id), range.start, range.end);
        let wanted = range.clone();
        let truth = self.request(
            what.clone(),
            work(move |site| {
                let range = wanted.clone();
                async move { site.get_range(id, range).await }
            }),
        );
        let truth = truth.await?;
        if !self.lies(&what) {
            return Ok(truth);
        }
        let mut bytes = truth.0.to_vec();
        let at = self.chance.index(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x10;
        }
        Ok(UnverifiedBytes(bytes.into()))
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        let what = format!("answer {}", short(challenge.record));
        let truth =
            self.request(what.clone(), work(move |site| async move { site.answer(challenge).await })).await?;
        if !self.lies(&what) {
            return Ok(truth);
        }
        let mut made_up = [0; 32];
        self.chance.fill(&mut made_up);
        Ok(Answer(Digest(made_up)))
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        let what = format!("list {kind:?}");
        let truth = self
            .request(what.clone(), work(move |site| async move { site.list(kind, after, limit).await }))
            .await?;
        if !self.lies(&what) {
            return Ok(truth);
        }
        // What it leaves out must not end the listing early for an honest reader.
        Ok(truth.into_iter().filter(|_| self.chance.permille(500)).collect())
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        let what = ids.iter().fold("delete".to_owned(), |text, id| text + " " + &short(*id));
        if self.lies(&what) {
            return Ok(ids.len() as u64);
        }
        let (machine, network) = (Arc::clone(&self.machine), Arc::clone(&self.network));
        let delete = work(move |site: Arc<dyn Site>| {
            let (ids, machine, network) = (ids.clone(), Arc::clone(&machine), Arc::clone(&network));
            async move {
                let id = machine.description.id;
                network.ledger.deletion_begins(id, &ids);
                let answer = site.delete(ids.clone()).await;
                network.ledger.deletion_ends(id, &ids, answer.is_ok());
                answer
            }
        });
        self.request(what, delete).await
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.request("scrub".to_owned(), work(|site: Arc<dyn Site>| async move { site.scrub().await })).await
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        let step = work(move |site: Arc<dyn Site>| async move { site.scrub_step(from, bytes_max).await });
        let truth = self.request("scrub step".to_owned(), step).await?;
        // It was all read, and all is well.
        Ok(if self.lies("scrub step") { ScrubStep { findings: Vec::new(), ..truth } } else { truth })
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        if self.lies("reaches") {
            return Ok(true);
        }
        self.request("reaches".to_owned(), work(move |site| async move { site.reaches(reach).await })).await
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        if self.lies("write slot") {
            return Ok(());
        }
        let (machine, network) = (Arc::clone(&self.machine), Arc::clone(&self.network));
        let write = work(move |site: Arc<dyn Site>| {
            let (content, machine, network) = (content.clone(), Arc::clone(&machine), Arc::clone(&network));
            async move {
                network.ledger.slot_arrives(machine.description.id, machine.name(), slot, &content.body);
                site.write_slot(slot, content).await
            }
        });
        self.request("write slot".to_owned(), write).await
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        let read = work(move |site: Arc<dyn Site>| async move { site.read_slot(slot).await });
        let truth = self.request("read slot".to_owned(), read).await;
        if !self.lies("read slot") {
            return truth;
        }
        match (truth, self.chance.below(3)) {
            (Ok(truth), 0) => {
                let body = Bytes::from(truth.body.iter().rev().copied().collect::<Vec<_>>());
                Ok(SlotContent { generation: truth.generation + 1, body })
            }
            (_, 1) => Err(SiteError::Damaged),
            _ => Err(SiteError::Missing),
        }
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        let wipe = work(move |site: Arc<dyn Site>| async move { site.wipe_superseded(slot).await });
        self.request("wipe slot".to_owned(), wipe).await
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        let list = work(|site: Arc<dyn Site>| async move { site.list_slots().await });
        let truth = self.request("list slots".to_owned(), list).await?;
        if self.lies("list slots") { Ok(Vec::new()) } else { Ok(truth) }
    }

    async fn state(&self) -> SiteState {
        let state = work(|site: Arc<dyn Site>| async move { Ok(site.state().await) });
        self.request("state".to_owned(), state).await.unwrap_or(SiteState::DEAD)
    }
}
