//! The one writer: a thread that owns the file and groups commits. It takes
//! whatever transactions wait, checks each against the present and those
//! before it, writes them in one SQLite transaction with one fsync, makes them
//! visible, and only then answers. A failure of the disk closes the store:
//! what is visible never differs from what is on the disk.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::draft::Draft;
use super::file::File;
use super::state::{Event, EventKind};
use super::{CommitError, Expect, Key, Limits, Operation, Shared, Stored};

/// Transactions that share one fsync at most.
const GROUP_MAX: usize = 256;
/// Revisions that are forgotten at a time, so that no writer waits long for it.
const STEP: u64 = 1024;
/// Transactions that may wait; more callers wait for room before they send.
const QUEUE_MAX: usize = 1024;

type Answer = Result<Vec<Arc<Stored>>, CommitError>;

enum Message {
    Commit(Vec<Change>, oneshot::Sender<Answer>),
    Compact(u64, oneshot::Sender<Result<(), CommitError>>),
}

/// An operation as the thread takes it.
pub(super) struct Change {
    key: Key,
    expect: Expect,
    what: What,
}

enum What {
    Put(Draft),
    Delete,
    Nothing,
}

impl Change {
    /// Serialises what is to be stored.
    pub(super) fn new(operation: Operation) -> Result<Self, CommitError> {
        Ok(match operation {
            Operation::Put { key, object, expect } => {
                Self { key, expect, what: What::Put(Draft::new(object)?) }
            }
            Operation::Delete { key, expect } => {
                Self { key, expect: Expect::Revision(expect), what: What::Delete }
            }
            Operation::Require { key, expect } => Self { key, expect, what: What::Nothing },
        })
    }
}

/// The way to the thread. Whoever drops it waits until the file is closed.
pub(super) struct Writer {
    /// `None` only while it is dropped.
    queue: Option<mpsc::Sender<Message>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(file: File, shared: Arc<Shared>, limits: Limits) -> std::io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let thread = thread::Builder::new().name("fleet-store".to_owned()).spawn(move || {
            let revision = shared.read().revision;
            let compacted = shared.read().compacted;
            Thread { file, shared, limits, revision, compacted }.serve(waiting);
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(super) async fn commit(&self, changes: Vec<Change>) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Commit(changes, answer)).await?;
        answered.await.map_err(|_| CommitError::Closed)?
    }

    pub(super) async fn compact(&self, revision: u64) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        self.send(Message::Compact(revision, answer)).await?;
        answered.await.map_err(|_| CommitError::Closed)?
    }

    async fn send(&self, message: Message) -> Result<(), CommitError> {
        let queue = self.queue.as_ref().ok_or(CommitError::Closed)?;
        queue.send(message).await.map_err(|_| CommitError::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has closed its file as well.
            drop(thread.join());
        }
    }
}

struct Thread {
    file: File,
    shared: Arc<Shared>,
    limits: Limits,
    /// The last revision that was given out and is on the disk.
    revision: u64,
    compacted: u64,
}

/// What a group will change, before any of it is on the disk.
#[derive(Default)]
struct Group {
    events: Vec<Event>,
    present: HashMap<Key, Option<Arc<Stored>>>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

impl Thread {
    fn serve(mut self, mut waiting: mpsc::Receiver<Message>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut group = Group::default();
            let mut compactions = Vec::new();
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Commit(changes, answer) => {
                        let outcome = self.plan(&mut group, changes);
                        group.answers.push((answer, outcome));
                    }
                    Message::Compact(revision, answer) => compactions.push((revision, answer)),
                }
                next = if group.answers.len() < GROUP_MAX { waiting.try_recv().ok() } else { None };
            }
            if self.write(group).is_err() || self.compact_all(compactions).is_err() {
                break;
            }
        }
        self.shared.state.write().unwrap_or_else(PoisonError::into_inner).close();
    }

    /// Checks a transaction and adds it to the group, whole or not at all.
    fn plan(&self, group: &mut Group, changes: Vec<Change>) -> Answer {
        let mut planned: Vec<Event> = Vec::with_capacity(changes.len());
        let mut touched: HashMap<Key, Option<Arc<Stored>>> = HashMap::new();
        let first = self.revision + u64::try_from(group.events.len()).unwrap_or(u64::MAX) + 1;
        for (at, change) in changes.into_iter().enumerate() {
            let key = change.key.clone();
            let found = touched
                .get(&key)
                .or_else(|| group.present.get(&key))
                .cloned()
                .unwrap_or_else(|| self.shared.read().get(&key).cloned());
            let holds = match change.expect {
                Expect::Absent => found.is_none(),
                Expect::Revision(expected) => found.as_ref().is_some_and(|found| found.revision == expected),
            };
            if !holds {
                let found = found.map(|found| found.revision);
                return Err(CommitError::Conflict { operation: at, key, found });
            }
            let revision = first + u64::try_from(planned.len()).unwrap_or(u64::MAX);
            let Some(event) = event_of(change, found, revision)? else { continue };
            let now = (event.kind != EventKind::Deleted).then(|| Arc::clone(&event.object));
            touched.insert(key, now);
            planned.push(event);
        }
        let stored = planned.iter().map(|event| Arc::clone(&event.object)).collect();
        group.events.append(&mut planned);
        group.present.extend(touched);
        Ok(stored)
    }

    /// One fsync for the group; then it is visible; then its callers hear of it.
    fn write(&mut self, group: Group) -> Result<(), CommitError> {
        let Group { events, answers, .. } = group;
        if !events.is_empty() {
            if self.write_events(&events).is_err() {
                for (answer, _) in answers {
                    // A caller that has gone away has lost its answer only.
                    drop(answer.send(Err(CommitError::Closed)));
                }
                return Err(CommitError::Closed);
            }
            let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
            let resources: BTreeSet<Arc<str>> =
                events.iter().map(|event| Arc::clone(&event.object.key.resource)).collect();
            state.figures.add(events.iter().map(|event| event.object.json.len()));
            for event in events {
                self.revision = event.object.revision;
                state.apply(event);
            }
            state.announce(resources.iter());
        }
        for (answer, outcome) in answers {
            drop(answer.send(outcome));
        }
        let due = self.compacted.saturating_add(self.limits.history.saturating_add(STEP));
        if self.revision > due { self.compact(self.revision - self.limits.history) } else { Ok(()) }
    }

    fn write_events(&self, events: &[Event]) -> rusqlite::Result<()> {
        self.file.begin()?;
        events.iter().try_for_each(|event| self.file.insert(event))?;
        self.file.commit()
    }

    fn compact_all(
        &mut self,
        compactions: Vec<(u64, oneshot::Sender<Result<(), CommitError>>)>,
    ) -> Result<(), CommitError> {
        for (revision, answer) in compactions {
            let outcome = self.compact(revision);
            if outcome.is_ok() {
                self.shared.state.write().unwrap_or_else(PoisonError::into_inner).forget(self.compacted);
            }
            let failed = outcome.is_err();
            drop(answer.send(outcome));
            if failed {
                return Err(CommitError::Closed);
            }
        }
        Ok(())
    }

    /// Forgets on the disk. The newest change always stays, and with it the counter.
    fn compact(&mut self, revision: u64) -> Result<(), CommitError> {
        let to = revision.min(self.revision.saturating_sub(1));
        if to > self.compacted {
            self.file.compact(self.compacted, to).map_err(|_| CommitError::Closed)?;
            self.compacted = to;
        }
        Ok(())
    }
}

fn event_of(change: Change, found: Option<Arc<Stored>>, revision: u64) -> Result<Option<Event>, CommitError> {
    let Change { key, what, .. } = change;
    let (kind, draft) = match (what, &found) {
        (What::Nothing, _) => return Ok(None),
        (What::Put(draft), None) => (EventKind::Added, draft),
        (What::Put(draft), Some(_)) => (EventKind::Modified, draft),
        (What::Delete, Some(found)) => (EventKind::Deleted, Draft::new(found.value())?),
        (What::Delete, None) => return Err(CommitError::Conflict { operation: 0, key, found: None }),
    };
    Ok(Some(Event { kind, object: Arc::new(draft.stored(key, revision)?), previous: found }))
}
