//! The one writer of a catalogue: a thread that owns the write connection and
//! groups commits. It takes whatever operations wait, runs each in its own
//! savepoint inside one transaction, commits, and only then answers them all;
//! so one fsync carries many operations, and one that fails takes no other
//! with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

use crate::CatalogError;

/// Operations in one transaction at most; bounds what one failure of the disk
/// takes back and how long the first of a group waits.
const GROUP_MAX: usize = 256;

/// Operations that may wait; more callers wait for room before they send.
const QUEUE_MAX: usize = 1024;

/// How well commits are grouped: operations for each commit is what one fsync carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    /// Operations that were run, each counted when its fate is sealed and before
    /// its caller is answered: what was counted is seen by whoever reads after that.
    pub operations: u64,
    /// Transactions that were committed.
    pub commits: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    operations: AtomicU64,
    commits: AtomicU64,
}

/// One operation on its way through the writer.
pub(crate) trait Job: Send {
    /// Does the work inside a savepoint; whether to keep it.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Answers the caller: with the work's result, or with why it does not stand.
    fn answer(self: Box<Self>, fate: Result<(), CatalogError>);
}

struct Operation<F, T, E> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Job for Operation<F, T, E>
where
    F: FnOnce(&Connection) -> Result<T, E> + Send,
    T: Send,
    E: From<CatalogError> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        self.result = self.work.take().map(|work| work(connection));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, fate: Result<(), CatalogError>) {
        let answer = match (self.result, fate) {
            (Some(Err(refused)), _) => Err(refused),
            (_, Err(fate)) => Err(fate.into()),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(CatalogError::Closed.into()),
        };
        // A caller that has gone away has lost its answer, not its effect.
        let _ = self.reply.send(answer);
    }
}

/// What the writer thread is sent.
pub(crate) enum Message {
    /// Work for the next group.
    Do(Box<dyn Job>),
    /// Work outside any transaction, after the group before it.
    Alone(Box<dyn Job>),
    /// Nothing comes any more.
    Close(oneshot::Sender<()>),
}

/// The way to the write connection. When the last one is dropped, what waits
/// is finished and the connection closed.
#[derive(Clone)]
pub(crate) enum Writer {
    /// A thread owns the connection and groups what waits for it.
    Thread(Arc<WriterThread>),
    /// Each operation is a group of its own, on the task that asks.
    Inline(Arc<Mutex<Inline>>),
}

/// The thread that owns the write connection. Whoever drops the last handle
/// waits until it has ended: a process that left while its thread was still
/// closing the file would tear the library's memory down under it.
pub(crate) struct WriterThread {
    /// `None` only while it is dropped.
    queue: Option<mpsc::Sender<Message>>,
    counters: Arc<Counters>,
    thread: Option<thread::JoinHandle<()>>,
}

impl WriterThread {
    async fn send(&self, message: Message) -> Result<(), CatalogError> {
        let queue = self.queue.as_ref().ok_or(CatalogError::Closed)?;
        queue.send(message).await.map_err(|_| CatalogError::Closed)
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has closed its connection as well.
            drop(thread.join());
        }
    }
}

/// The write connection without a thread; none once it is closed.
pub(crate) struct Inline {
    connection: Option<Connection>,
    poisoned: bool,
    operations: u64,
}

impl Writer {
    /// Starts the thread, which takes over the connection.
    pub(crate) fn start(connection: Connection) -> std::io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let thread = thread::Builder::new()
            .name("catalogue-writer".to_owned())
            .spawn(move || serve(connection, waiting, &counted))?;
        let (queue, thread) = (Some(queue), Some(thread));
        Ok(Self::Thread(Arc::new(WriterThread { queue, counters, thread })))
    }

    /// Takes over the connection, and starts nothing.
    pub(crate) fn inline(connection: Connection) -> Self {
        let inline = Inline { connection: Some(connection), poisoned: false, operations: 0 };
        Self::Inline(Arc::new(Mutex::new(inline)))
    }

    /// What was grouped so far.
    pub(crate) fn grouping(&self) -> Grouping {
        match self {
            Self::Thread(writer) => Grouping {
                operations: writer.counters.operations.load(Ordering::Acquire),
                commits: writer.counters.commits.load(Ordering::Acquire),
            },
            Self::Inline(inline) => {
                let operations = lock(inline).operations;
                Grouping { operations, commits: operations }
            }
        }
    }

    /// Runs `work` in the next group; returns when it is fsynced. An answer
    /// that is not waited for does not take the work back.
    pub(crate) async fn write<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
    {
        self.run(Message::Do, work).await
    }

    /// Runs `work` outside any transaction, for what SQLite does only there.
    pub(crate) async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, CatalogError> {
        self.run(Message::Alone, work).await
    }

    async fn run<T, E>(
        &self,
        message: fn(Box<dyn Job>) -> Message,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let message = message(Box::new(Operation { work: Some(work), result: None, reply }));
        match self {
            Self::Thread(writer) => writer.send(message).await?,
            Self::Inline(inline) => {
                // Others go first, as they do before a queue.
                yield_now().await;
                lock(inline).run(message);
            }
        }
        answer.await.map_err(|_| CatalogError::Closed)?
    }

    /// Lets what waits finish, then ends the thread; returns when the
    /// connection is closed.
    pub(crate) async fn close(&self) {
        match self {
            Self::Thread(writer) => {
                let (reply, closed) = oneshot::channel();
                if writer.send(Message::Close(reply)).await.is_ok() {
                    let _ = closed.await;
                }
            }
            Self::Inline(inline) => drop(lock(inline).connection.take()),
        }
    }
}

fn lock(inline: &Mutex<Inline>) -> MutexGuard<'_, Inline> {
    inline.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inline {
    fn run(&mut self, message: Message) {
        let (job, is_alone) = match message {
            Message::Do(job) => (job, false),
            Message::Alone(job) => (job, true),
            Message::Close(_) => {
                self.connection = None;
                return;
            }
        };
        match &self.connection {
            None => job.answer(Err(CatalogError::Closed)),
            Some(_) if self.poisoned => job.answer(Err(CatalogError::ReadOnly)),
            Some(connection) => {
                // Under the lock that whoever reads the count takes as well.
                self.operations += 1;
                let trusted = match is_alone {
                    true => run_alone(connection, job),
                    false => commit_group(connection, vec![job], || ()),
                };
                self.poisoned = !trusted;
            }
        }
    }
}

fn serve(connection: Connection, mut waiting: mpsc::Receiver<Message>, counters: &Counters) {
    let mut poisoned = false;
    while let Some(first) = waiting.blocking_recv() {
        let mut group = Vec::new();
        let (mut closing, mut alone) = (None, None);
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Do(job) => group.push(job),
                Message::Alone(job) => alone = Some(job),
                Message::Close(reply) => closing = Some(reply),
            }
            if closing.is_none() && alone.is_none() && group.len() < GROUP_MAX {
                next = waiting.try_recv().ok();
            }
        }
        if poisoned {
            group.into_iter().for_each(|job| job.answer(Err(CatalogError::ReadOnly)));
        } else if !group.is_empty() {
            let operations = group.len() as u64;
            poisoned = !commit_group(&connection, group, || {
                counters.operations.fetch_add(operations, Ordering::Release);
                counters.commits.fetch_add(1, Ordering::Release);
            });
        }
        if let Some(job) = alone {
            if poisoned {
                job.answer(Err(CatalogError::ReadOnly));
            } else {
                poisoned = !run_alone(&connection, job);
            }
        }
        if let Some(reply) = closing {
            waiting.close();
            drop(connection);
            let _ = reply.send(());
            return;
        }
    }
}

/// Runs and commits a group; whether the connection can still be trusted. A
/// COMMIT that failed may stand or not, as after any failed fsync: only a
/// reopen, which reads the log again from the disk, tells. `settled` is called
/// between the end of the transaction and the answers.
fn commit_group(connection: &Connection, mut group: Vec<Box<dyn Job>>, settled: impl FnOnce()) -> bool {
    let begun = execute(connection, "BEGIN IMMEDIATE");
    let (fate, trusted) = match begun.and_then(|()| run_group(connection, &mut group)) {
        Err(failed) => (Err(failed), true),
        Ok(Kept::Nothing) => (execute(connection, "ROLLBACK"), true),
        // The operation ended the transaction: nothing of it stands, and this says so.
        Ok(Kept::Something) if connection.is_autocommit() => (execute(connection, "COMMIT"), true),
        Ok(Kept::Something) => match execute(connection, "COMMIT") {
            Ok(()) => (Ok(()), true),
            Err(failed) => (Err(failed), false),
        },
    };
    if !connection.is_autocommit() {
        // Nothing to add if this fails as well: the group's answer says why.
        let _ = execute(connection, "ROLLBACK");
    }
    let trusted = trusted && connection.is_autocommit();
    settled();
    group.into_iter().for_each(|job| job.answer(fate.clone()));
    trusted
}

/// Runs what is no part of a transaction; whether the connection is still to
/// be trusted, which it is unless a transaction was left open.
fn run_alone(connection: &Connection, mut job: Box<dyn Job>) -> bool {
    job.run(connection);
    job.answer(Ok(()));
    connection.is_autocommit()
}

/// What a group leaves to be committed.
enum Kept {
    Something,
    Nothing,
}

fn run_group(connection: &Connection, group: &mut [Box<dyn Job>]) -> Result<Kept, CatalogError> {
    // One alone is taken back with its transaction. A savepoint around it would
    // keep every page that it touches, and each of its statements would walk
    // along all of them: what loads much would take the square of its time.
    if let [job] = group {
        return Ok(if job.run(connection) { Kept::Something } else { Kept::Nothing });
    }
    for job in group {
        execute(connection, "SAVEPOINT operation")?;
        if !job.run(connection) {
            execute(connection, "ROLLBACK TO operation")?;
        }
        // Some failures (disk full, no memory) end the whole transaction; then
        // this fails too, and with it the group, instead of a half of it.
        execute(connection, "RELEASE operation")?;
    }
    Ok(Kept::Something)
}

fn execute(connection: &Connection, sql: &str) -> Result<(), CatalogError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> Writer {
        let connection = Connection::open_in_memory().unwrap();
        let tables = "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);
            CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);";
        connection.execute_batch(tables).unwrap();
        Writer::start(connection).unwrap()
    }

    fn insert(connection: &Connection, sql: &str) -> Result<(), CatalogError> {
        execute(connection, sql)
    }

    #[tokio::test]
    async fn after_a_commit_that_failed_nothing_is_written_and_nobody_was_told_otherwise() {
        let writer = writer();
        writer.write(|db| insert(db, "INSERT INTO parent VALUES (1)")).await.unwrap();
        // Accepted as an operation, refused at COMMIT: a stand-in for a disk that fails then.
        let good = writer.write(|db| insert(db, "INSERT INTO parent VALUES (2)"));
        let bad = writer.write(|db| insert(db, "INSERT INTO child VALUES (9)"));
        let (bad, _) = tokio::join!(bad, good);
        assert!(matches!(bad, Err(CatalogError::Storage(_))));
        let late = writer.write(|db| insert(db, "INSERT INTO parent VALUES (3)")).await;
        assert!(matches!(late, Err(CatalogError::ReadOnly)));
        writer.close().await;
    }

    #[tokio::test]
    async fn an_operation_is_counted_after_its_commit_and_before_its_answer() {
        let writer = writer();
        let asked = writer.clone();
        let during = writer.write(move |db| {
            insert(db, "INSERT INTO parent VALUES (1)")?;
            Ok::<_, CatalogError>(asked.grouping())
        });
        assert_eq!(during.await.unwrap(), Grouping::default(), "counted before it was committed");
        assert_eq!(writer.grouping(), Grouping { operations: 1, commits: 1 });
    }

    #[tokio::test]
    async fn an_operation_that_fails_half_way_leaves_nothing_alone_or_in_a_group() {
        let writer = writer();
        let half = |db: &Connection| {
            insert(db, "INSERT INTO parent VALUES (1)")?;
            insert(db, "INSERT INTO parent VALUES (1)")
        };
        assert!(writer.write(half).await.is_err());
        let (bad, good) =
            tokio::join!(writer.write(half), writer.write(|db| insert(db, "INSERT INTO parent VALUES (2)")));
        assert!(bad.is_err() && good.is_ok());
        let count = "INSERT INTO parent SELECT 100 + count(*) FROM parent";
        writer.write(|db| insert(db, count)).await.unwrap();
        writer.write(|db| insert(db, "DELETE FROM parent WHERE id = 101")).await.unwrap();
        // One row was there, and was counted.
        writer.write(|db| insert(db, "INSERT INTO parent VALUES (101)")).await.unwrap();
    }

    #[tokio::test]
    async fn an_operation_that_ends_the_transaction_fails_its_group_and_not_the_next() {
        let writer = writer();
        let rude = writer.write(|db| insert(db, "ROLLBACK")).await;
        assert!(matches!(rude, Err(CatalogError::Storage(_))));
        writer.write(|db| insert(db, "INSERT INTO parent VALUES (1)")).await.unwrap();
    }
}
