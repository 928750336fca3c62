//! What tenants do: each worker owns some keys, writes and deletes them one
//! step after the other, reads its own and others', lists, asks for
//! checkpoints; and holds every answer against the registers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coffer_client::{CallError, Client, GetError, LogError, LogWatch, ObjectInfo, PutError, PutOutcome};
use coffer_model::{BucketName, Degraded, Digest, ObjectKey, ResidencyPolicy, VersionId};
use tokio::time::{sleep, timeout};

use super::chance::Chance;
use super::estate::Estate;
use super::lawful::is_lawful;
use super::ledger::Owner;
use super::quorum::holders_needed;
use super::register::{Register, Value};
use super::stage::Stage;

/// How long a caller waits for one operation.
const PATIENCE: Duration = Duration::from_secs(300);

/// Keys of one worker.
const KEYS: u64 = 3;

/// Checkpoints by size and root.
type Checkpoints = Vec<(u64, [u8; 32])>;

/// One tenant's state, as its own people know it.
pub(crate) struct Tenant {
    pub(crate) owner: Owner,
    pub(crate) policy: ResidencyPolicy,
    pub(crate) bucket: BucketName,
    pub(crate) certificate_pem: String,
    pub(crate) registers: Mutex<BTreeMap<ObjectKey, Register>>,
    pub(crate) watch: Arc<tokio::sync::Mutex<LogWatch>>,
    /// Every checkpoint that was ever seen: size and root.
    pub(crate) checkpoints: Arc<Mutex<Checkpoints>>,
    /// A striped put is under way: its shards are counted.
    striping: Arc<tokio::sync::Mutex<()>>,
    /// The buckets of its second self, which come, go and change.
    pub(crate) estate: Option<Estate>,
}

impl Tenant {
    pub(crate) fn new(
        owner: Owner,
        policy: ResidencyPolicy,
        bucket: BucketName,
        certificate_pem: String,
        watch: LogWatch,
    ) -> Self {
        Self {
            owner,
            policy,
            bucket,
            certificate_pem,
            registers: Mutex::default(),
            watch: Arc::new(tokio::sync::Mutex::new(watch)),
            checkpoints: Arc::default(),
            striping: Arc::default(),
            estate: None,
        }
    }

    /// The same tenant at work in another bucket.
    pub(crate) fn second(&self, bucket: BucketName, estate: Estate) -> Self {
        Self {
            owner: self.owner,
            policy: self.policy.clone(),
            bucket,
            certificate_pem: self.certificate_pem.clone(),
            registers: Mutex::default(),
            watch: Arc::clone(&self.watch),
            checkpoints: Arc::clone(&self.checkpoints),
            striping: Arc::clone(&self.striping),
            estate: Some(estate),
        }
    }

    pub(crate) fn registers(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Register>> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, key: &ObjectKey, change: impl FnOnce(&mut Register) -> T) -> T {
        change(self.registers().entry(key.clone()).or_default())
    }
}

/// All contents of a storm, by number and by digest.
#[derive(Default)]
pub(crate) struct Contents {
    inner: Mutex<Numbered>,
}

type Numbered = (BTreeMap<u64, Bytes>, BTreeMap<[u8; 32], u64>);

impl Contents {
    fn inner(&self) -> MutexGuard<'_, Numbered> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A content that is not like another, unless it is too short for that:
    /// then it is the same content, under the same number. Its first and last
    /// words are looked for at every site.
    pub(crate) fn make(&self, stage: &Stage, chance: &Chance, length: usize) -> (u64, Bytes) {
        let mut body = vec![0; length];
        chance.fill(&mut body);
        let body = Bytes::from(body);
        let mut inner = self.inner();
        let digest = *blake3::hash(&body).as_bytes();
        if let Some(number) = inner.1.get(&digest) {
            return (*number, body);
        }
        let number = inner.0.len() as u64 + 1;
        if let (Some(first), Some(last)) = (body.first_chunk::<16>(), body.last_chunk::<16>()) {
            stage.patterns.add(first, "the beginning of a content");
            stage.patterns.add(last, "the end of a content");
        }
        inner.1.insert(digest, number);
        inner.0.insert(number, body.clone());
        (number, body)
    }

    fn number_of(&self, digest: &Digest) -> Option<u64> {
        self.inner().1.get(&digest.0).copied()
    }

    pub(crate) fn body(&self, number: u64) -> Bytes {
        self.inner().0.get(&number).cloned().unwrap_or_default()
    }
}

/// One worker.
pub(crate) struct Worker {
    pub(crate) stage: Arc<Stage>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) contents: Arc<Contents>,
    pub(crate) client: Client,
    pub(crate) number: u64,
    pub(crate) chance: Chance,
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Value(Value, Option<VersionId>),
    /// No answer, or one that says so.
    Nothing,
    /// Bytes that nobody ever wrote there.
    Wrong,
}

impl Worker {
    pub(crate) fn new(
        stage: &Arc<Stage>,
        tenant: &Arc<Tenant>,
        contents: &Arc<Contents>,
        number: u64,
    ) -> Option<Self> {
        let who = format!("tenant {} worker {number}", tenant.owner);
        let client = stage.client(&who, &tenant.certificate_pem)?;
        Some(Self {
            stage: Arc::clone(stage),
            tenant: Arc::clone(tenant),
            contents: Arc::clone(contents),
            client,
            number,
            chance: Chance::new(stage.seed, &who),
        })
    }

    pub(crate) async fn work(self) {
        for _ in 0..self.stage.plan.operations {
            if self.stage.trace.is_violated() {
                return;
            }
            sleep(self.chance.up_to(Duration::from_millis(1500))).await;
            if self.tenant.estate.is_some() && self.chance.permille(400) {
                self.manage().await;
                continue;
            }
            match self.chance.below(100) {
                0..=37 => self.put().await,
                38..=57 => self.get_own().await,
                58..=66 => self.get_other().await,
                67..=80 => self.delete().await,
                81..=88 => self.list().await,
                89..=93 => self.stat().await,
                _ => self.checkpoint().await,
            }
        }
    }

    fn key_of(&self, worker: u64) -> ObjectKey {
        let name = format!("the-name-of-{}-{worker}-{}", self.tenant.owner, self.chance.below(KEYS));
        // Not empty and short: a good key.
        ObjectKey::new(name.into_bytes()).unwrap_or_else(|_| unreachable!("a short key is a key"))
    }

    fn own_key(&self) -> ObjectKey {
        self.key_of(self.number)
    }

    pub(crate) fn done(&self, what: &str, ended: &str, detail: &str) {
        self.stage.trace.operation(what, ended);
        self.stage
            .trace
            .note(&format!("tenant {} worker {} {what} {ended}", self.tenant.owner, self.number), detail);
    }

    pub(crate) fn violated(&self, checker: &'static str, finding: String) {
        self.stage.trace.violated(checker, format!("tenant {}: {finding}", self.tenant.owner));
    }

    fn length(&self) -> usize {
        let (least, most) = match self.chance.below(100) {
            0..=5 => (0, 20),
            6..=69 => (20, 2000),
            70..=79 => (60_000, 64 << 10),
            80..=98 => ((64 << 10) + 1, 90_000),
            _ if self.stage.plan.large => (4 << 20, 5 << 20),
            _ => ((64 << 10) + 1, 90_000),
        };
        least + self.chance.index(most - least)
    }

    pub(crate) async fn put(&self) {
        let (key, length) = (self.own_key(), self.length());
        self.put_content(key, length).await;
    }

    /// Puts a content of that length and takes note of what came of it.
    pub(crate) async fn put_content(&self, key: ObjectKey, length: usize) {
        let striped = length > 64 << 10;
        // One striped put of a tenant at a time, so that shards tell whose they are.
        let _turn = if striped { Some(self.tenant.striping.lock().await) } else { None };
        let (number, body) = self.contents.make(&self.stage, &self.chance, length);
        if striped {
            self.stage.ledger.watch_shards(self.tenant.owner);
        }
        self.tenant.with(&key, |register| register.write_begins(Value::Content(number)));
        let what = if striped { "put striped" } else { "put small" };
        self.done(what, "begins", &format!("{key:?} content {number}"));
        let metadata = BTreeMap::from([("words".to_owned(), format!("a tenant's own words {number}"))]);
        let once = async {
            let pieces =
                body.chunks(30_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
            let put =
                self.client.put(&self.tenant.bucket, &key, metadata.clone(), futures::stream::iter(pieces));
            put.await.map_err(|error| match error {
                PutError::Call(error) => error,
                PutError::Source(error) => CallError::Internal(error.to_string()),
            })
        };
        let again = async { self.client.put_bytes(&self.tenant.bucket, &key, &metadata, body.clone()).await };
        let repeated = self.chance.permille(400);
        let call = async { if repeated { again.await } else { once.await } };
        match timeout(PATIENCE, call).await {
            Ok(Ok(outcome)) => self.put_stands(&key, striped, what, &outcome),
            Ok(Err(error)) if !repeated && was_withdrawn(&error) => {
                self.tenant.with(&key, Register::refused);
                self.done(what, "refused", &error.to_string());
            }
            Ok(Err(error)) => {
                self.tenant.with(&key, Register::unknown);
                self.done(what, "unknown", &error.to_string());
            }
            Err(_) => {
                self.tenant.with(&key, Register::unknown);
                self.done(what, "timed out", "");
            }
        }
    }

    fn put_stands(&self, key: &ObjectKey, striped: bool, what: &str, outcome: &PutOutcome) {
        let reduced = usize::try_from(outcome.reduced_by).unwrap_or(usize::MAX);
        let version = outcome.object.version;
        self.tenant.with(key, |register| register.acknowledged(version, reduced > 0));
        self.done(what, if reduced > 0 { "reduced" } else { "ok" }, &format!("{key:?} {version}"));
        self.check_receipts(striped, reduced, version);
    }

    /// Every recovery meets somebody who acknowledged: the receipts that
    /// sites gave, honest or not, at the moment of the answer.
    fn check_receipts(&self, striped: bool, reduced: usize, version: VersionId) {
        let geometry = self.tenant.policy.geometry;
        let (n, lowest) = if striped { (geometry.n(), geometry.k() + 1) } else { (geometry.m() + 1, 2) };
        if reduced > 0
            && (self.tenant.policy.degraded == Degraded::Refuse || n.saturating_sub(reduced) < lowest)
        {
            self.violated("receipts", format!("{version} was acknowledged, reduced by {reduced}"));
        }
        let needed = n.saturating_sub(reduced);
        let manifests = self.stage.ledger.manifest_holders(version).len();
        if manifests < needed {
            self.violated(
                "receipts",
                format!("{version} was acknowledged with {manifests} manifests of {needed}"),
            );
        }
        let shards = self.stage.ledger.shard_holders(self.tenant.owner);
        if striped && shards < needed {
            self.violated(
                "receipts",
                format!("{version} was acknowledged with shards at {shards} of {needed} sites"),
            );
        }
    }

    pub(crate) async fn delete(&self) {
        let key = self.own_key();
        self.delete_key(key).await;
    }

    pub(crate) async fn delete_key(&self, key: ObjectKey) {
        let known = self.tenant.with(&key, |register| {
            register.write_begins(Value::Absent);
            register.standing()
        });
        let seen = self.stage.ledger.tombstones_seen(self.tenant.owner);
        let policy = self.policy();
        match timeout(PATIENCE, self.client.delete(&self.tenant.bucket, &key)).await {
            Ok(Ok(removed)) => {
                self.tenant.with(&key, |register| register.deleted(removed.version));
                self.done("delete", "ok", &format!("{key:?} {}", removed.version));
                let content = known.filter(|(_, version)| *version == removed.version);
                let length = content.map(|(number, _)| self.contents.body(number).len());
                // Under which of two policies it was counted, nobody outside knows.
                let policy = policy.filter(|before| self.policy().as_ref() == Some(before));
                self.check_tombstone(removed.version, length.zip(policy), seen);
            }
            Ok(Err(CallError::NotFound(text))) if text.contains("no such object") => {
                self.tenant.with(&key, Register::refused);
                self.judge(&key, "delete", Seen::Value(Value::Absent, None));
            }
            Ok(Err(error)) => {
                self.tenant.with(&key, Register::unknown);
                self.done("delete", "unknown", &error.to_string());
            }
            Err(_) => {
                self.tenant.with(&key, Register::unknown);
                self.done("delete", "timed out", "");
            }
        }
    }

    /// The policy that holds for this tenant's objects, where that is certain.
    fn policy(&self) -> Option<ResidencyPolicy> {
        match &self.tenant.estate {
            None => Some(self.tenant.policy.clone()),
            Some(estate) => estate.certain().cloned(),
        }
    }

    /// Every recovery meets a tombstone, and so does every holder of a small
    /// object: the receipts that sites gave, honest or not. Length and policy
    /// are there where it is certain which content and which policy it was, from
    /// the beginning of the deletion to its end.
    fn check_tombstone(&self, version: VersionId, known: Option<(usize, ResidencyPolicy)>, seen: usize) {
        let ledger = &self.stage.ledger;
        let geometry = self.tenant.policy.geometry;
        let needed = geometry.m() + 1;
        let tombstones = ledger.tombstone_holders(self.tenant.owner, seen);
        let most = tombstones.iter().map(std::collections::BTreeSet::len).max().unwrap_or(0);
        if most < needed {
            let finding = format!("a deletion was acknowledged with tombstones at {most} of {needed} sites");
            return self.violated("receipts", finding);
        }
        let Some((length, policy)) = known else { return };
        let Some(sent) = ledger.manifest_sent_to(version) else { return };
        let mut places = sent.clone();
        for machine in self.stage.machines() {
            if !is_lawful(&policy, &machine.description) {
                places.remove(&machine.description.id);
            }
        }
        let needed = holders_needed(geometry, length > 64 << 10, sent.len(), places.len());
        let meets = tombstones.iter().map(|tombstone| tombstone.intersection(&places).count()).max();
        if meets.unwrap_or(0) < needed {
            let finding =
                format!("a deletion was acknowledged by {meets:?} sites of {version}, not by {needed}");
            self.violated("receipts", finding);
        }
    }

    /// Holds what the writer of a key itself read against the register.
    fn judge(&self, key: &ObjectKey, what: &str, seen: Seen) {
        match seen {
            Seen::Value(value, version) => {
                let before = self.tenant.with(key, |register| register.possible());
                let possible = self.tenant.with(key, |register| register.read_by_writer(value, version));
                self.done(what, "ok", &format!("{key:?} {value:?}"));
                if !possible {
                    self.violated(
                        "registers",
                        format!("{what} of {key:?} brought {value:?}; possible: {before:?}"),
                    );
                }
            }
            Seen::Nothing => self.done(what, "unavailable", &format!("{key:?}")),
            Seen::Wrong => {
                self.violated("registers", format!("{what} of {key:?} brought bytes that were never put"))
            }
        }
    }

    /// Keys that a change of unknown outcome may still change; none where no
    /// catalogue was lost.
    pub(crate) fn unsure_keys(&self, lossless: bool) -> std::collections::BTreeSet<ObjectKey> {
        let registers = self.tenant.registers();
        let unsure = registers.iter().filter(|(_, register)| !lossless && register.possible().len() > 1);
        unsure.map(|(key, _)| key.clone()).collect()
    }

    async fn get_own(&self) {
        self.read_and_judge(&self.own_key()).await;
    }

    pub(crate) async fn read_and_judge(&self, key: &ObjectKey) {
        let seen = self.read(key).await;
        self.judge(key, "get", seen);
    }

    async fn get_other(&self) {
        let key = self.key_of(self.chance.below(self.stage.plan.workers));
        let reader = self.number;
        self.tenant.with(&key, |register| register.read_begins(reader));
        let seen = self.read(&key).await;
        let value = if let Seen::Value(value, _) = seen { Some(value) } else { None };
        let possible = self.tenant.with(&key, |register| register.read_by_other(reader, value));
        self.done(
            "get of another's",
            if value.is_some() { "ok" } else { "unavailable" },
            &format!("{key:?}"),
        );
        if !possible || seen == Seen::Wrong {
            self.violated("registers", format!("a read of another's {key:?} brought {seen:?}"));
        }
    }

    /// Reads a key, whole or in part.
    pub(crate) async fn read(&self, key: &ObjectKey) -> Seen {
        let part = self.chance.permille(300);
        let call = async { if part { self.read_part(key).await } else { self.read_whole(key).await } };
        timeout(PATIENCE, call).await.unwrap_or(Seen::Nothing)
    }

    pub(crate) async fn read_whole(&self, key: &ObjectKey) -> Seen {
        let opened = self.client.get(&self.tenant.bucket, key, None).await;
        let (info, body) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.failed_read(&error),
        };
        match body.collect(info.size).await {
            Ok(bytes) => self.recognise(&info, &bytes, 0),
            Err(error) => self.failed_read(&error),
        }
    }

    async fn read_part(&self, key: &ObjectKey) -> Seen {
        let size = match self.client.stat(&self.tenant.bucket, key).await {
            Ok(placement) => placement.object.size,
            Err(error) => return self.failed_read(&GetError::Call(error)),
        };
        let start = self.chance.below(size + 1);
        let range = start..start + self.chance.below(size - start + 1);
        let opened = self.client.get(&self.tenant.bucket, key, Some(range.clone())).await;
        let (info, body) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.failed_read(&error),
        };
        match body.collect(5 << 20).await {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => {
                self.recognise(&info, &bytes, range.start)
            }
            // A shorter version meanwhile; the length is checked by the client.
            Ok(_) => Seen::Nothing,
            Err(error) => self.failed_read(&error),
        }
    }

    /// Which content these bytes are, or a part of.
    fn recognise(&self, info: &ObjectInfo, bytes: &Bytes, start: u64) -> Seen {
        let Some(number) = self.contents.number_of(&info.content_blake3) else { return Seen::Wrong };
        let body = self.contents.body(number);
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let same = body.get(start..start + bytes.len()).is_some_and(|part| part == bytes);
        let whole = info.size == body.len() as u64;
        if same && whole { Seen::Value(Value::Content(number), Some(info.version)) } else { Seen::Wrong }
    }

    fn failed_read(&self, error: &GetError) -> Seen {
        let text = error.to_string();
        self.stage.trace.note("a read failed", &text);
        match error {
            GetError::Call(CallError::NotFound(text)) if text.contains("no such object") => {
                Seen::Value(Value::Absent, None)
            }
            GetError::Digest => Seen::Wrong,
            GetError::Call(CallError::Damaged(_)) => {
                self.violated(
                    "registers",
                    format!("a read was told that bytes are damaged beyond repair: {text}"),
                );
                Seen::Nothing
            }
            _ => Seen::Nothing,
        }
    }

    async fn stat(&self) {
        let key = self.own_key();
        let seen = match timeout(PATIENCE, self.client.stat(&self.tenant.bucket, &key)).await {
            Ok(Ok(placement)) => match self.contents.number_of(&placement.object.content_blake3) {
                Some(number) => Seen::Value(Value::Content(number), Some(placement.object.version)),
                None => Seen::Wrong,
            },
            Ok(Err(error)) => self.failed_read(&GetError::Call(error)),
            Err(_) => Seen::Nothing,
        };
        self.judge(&key, "stat", seen);
    }

    /// A listing shows, for each key, what a read could have brought.
    pub(crate) async fn list(&self) {
        let reader = 1000 + self.number;
        self.tenant.registers().values_mut().for_each(|register| register.read_begins(reader));
        let listed = timeout(PATIENCE, self.client.list(&self.tenant.bucket, b"")).await;
        let Ok(Ok(listed)) = listed else {
            self.tenant
                .registers()
                .values_mut()
                .for_each(|register| _ = register.read_by_other(reader, None));
            return self.done("list", "unavailable", "");
        };
        let mut shown = BTreeMap::new();
        for info in &listed {
            match self.contents.number_of(&info.content_blake3) {
                Some(number) => drop(shown.insert(info.key.clone(), Value::Content(number))),
                None => self.violated(
                    "registers",
                    format!("the listing shows a content of {:?} that was never put", info.key),
                ),
            }
        }
        let mut wrong = Vec::new();
        for (key, register) in self.tenant.registers().iter_mut() {
            let value = shown.remove(key).unwrap_or(Value::Absent);
            // A key whose first write began after the listing was not watched.
            if register.was_watched(reader) && !register.read_by_other(reader, Some(value)) {
                wrong.push(format!("{key:?} as {value:?}; possible: {:?}", register.possible()));
            }
        }
        self.done("list", "ok", &format!("{} keys", listed.len()));
        if !wrong.is_empty() {
            self.violated("registers", format!("the listing shows {}", wrong.join(", ")));
        }
    }

    pub(crate) async fn checkpoint(&self) {
        let mut watch = self.tenant.watch.lock().await;
        match timeout(PATIENCE, watch.advance_once(&self.client)).await {
            Ok(Ok(checkpoint)) => {
                let seen = (checkpoint.size, checkpoint.root.0);
                self.tenant.checkpoints.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
                self.done("checkpoint", "ok", &format!("{} leaves", checkpoint.size));
            }
            Ok(Err(LogError::Call(error))) => self.done("checkpoint", "unavailable", &error.to_string()),
            Ok(Err(error)) => self.violated("log", error.to_string()),
            Err(_) => self.done("checkpoint", "timed out", ""),
        }
    }
}

/// Whether the service said that nothing of a put stands. Other errors may
/// come from anywhere between here and there.
fn was_withdrawn(error: &CallError) -> bool {
    let text = error.to_string();
    ["the version was withdrawn", "did not store their shards", "refused before any byte moved"]
        .iter()
        .any(|said| text.contains(said))
}
