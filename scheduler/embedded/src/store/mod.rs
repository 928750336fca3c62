//! What the API remembers: objects by resource, namespace and name, each change
//! with a revision of its own. One SQLite file holds the history, memory holds
//! the present and the newest events of every resource. `STORE.md` draws the
//! file and argues why a crash loses nothing that was acknowledged.

mod draft;
mod figures;
mod file;
mod index;
mod page;
mod state;
mod watcher;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value;

pub use figures::Figures;
pub use index::Stored;
pub(crate) use index::{EVENT_FIELDS, NAMESPACE_FIELDS, NODE_FIELDS, POD_FIELDS, SECRET_FIELDS};
pub use page::{Page, PageRequest};
pub use state::{Event, EventKind};
pub use watcher::{Watched, Watcher};

use state::State;
use writer::{Change, Writer};

/// Where an object is: resource as the store calls it (`pods`,
/// `sitesets.fleet.coffer`), namespace (empty for what has none), name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Plural name, with the group behind a dot unless it is the core group.
    pub resource: Arc<str>,
    /// Namespace; empty for an object of the cluster.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of these three.
    pub fn new(resource: &Arc<str>, namespace: &str, name: &str) -> Self {
        Self { resource: Arc::clone(resource), namespace: namespace.into(), name: name.into() }
    }
}

/// What must hold for an operation of a transaction to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no such object.
    Absent,
    /// The object is there, and this is the revision of its last change.
    Revision(u64),
}

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Writes the object; its `metadata.resourceVersion` is filled in.
    Put {
        /// Where.
        key: Key,
        /// What; must have a `metadata` that is an object.
        object: Value,
        /// Under which condition.
        expect: Expect,
    },
    /// Removes the object; the event shows it as it was.
    Delete {
        /// Where.
        key: Key,
        /// The revision that is removed.
        expect: u64,
    },
    /// Changes nothing, and fails the transaction where the condition does not hold.
    Require {
        /// Where.
        key: Key,
        /// Which condition.
        expect: Expect,
    },
}

/// Why a transaction was not carried out; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another change came first.
    #[error("operation {operation} met revision {found:?} of {key:?}")]
    Conflict {
        /// Which operation of the transaction, from 0.
        operation: usize,
        /// Whose condition did not hold.
        key: Key,
        /// The revision that is there; none where there is no object.
        found: Option<u64>,
    },
    /// The object cannot be stored.
    #[error("an object without metadata cannot be stored")]
    Shapeless,
    /// The object is nested deeper than could be read back.
    #[error("an object may be nested {DEPTH_MAX} deep")]
    Deep,
    /// The object is too large.
    #[error("an object may have {OBJECT_BYTES_MAX} bytes")]
    Large,
    /// The disk failed; nothing is written any more until the store is opened again.
    #[error("the store is closed after its disk failed; open it again")]
    Closed,
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a store of this program.
    #[error("{path} is not a store of the fleet's API")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{path} has format {found}; this program knows {known}: use a newer one")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest known format.
        known: i64,
    },
    /// A row does not hold what it must.
    #[error("revision {revision} in {path} is damaged; restore the file from a copy")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The row.
        revision: u64,
    },
    /// SQLite failed.
    #[error("{path} cannot be opened: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file cannot be made.
    #[error("{path} cannot be made: {source}")]
    Make {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread that writes did not start.
    #[error("the writer did not start: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a page or a watch at a revision is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The events since then are gone.
    #[error("too old resource version: {asked} ({oldest})")]
    Expired {
        /// The revision that was asked for.
        asked: u64,
        /// The oldest that would have been answered.
        oldest: u64,
    },
    /// No such revision was ever given out by this store.
    #[error("the resource version {asked} is beyond the newest, {newest}")]
    Future {
        /// The revision that was asked for.
        asked: u64,
        /// The newest.
        newest: u64,
    },
}

/// How much a store remembers.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events of one resource that memory holds; older ones expire.
    pub ring: usize,
    /// Revisions that the file keeps beside the present, so that watches go on after a start.
    pub history: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ring: 8_192, history: 8_192 }
    }
}

struct Shared {
    state: RwLock<State>,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store. Clones share it; when the last is dropped the file is closed.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

impl Store {
    /// Opens the file, or makes it, and reads the present into memory.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, limits: Limits) -> Result<Self, OpenError> {
        let (file, state) = file::File::open(path, limits)?;
        let shared = Arc::new(Shared { state: RwLock::new(state) });
        let writer = Arc::new(Writer::start(file, Arc::clone(&shared), limits)?);
        Ok(Self { shared, writer })
    }

    /// Carries out all of it or nothing; returns once it is on the disk. Each
    /// operation that changes something gets a revision of its own, in order.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn commit(&self, operations: Vec<Operation>) -> Result<Vec<Arc<Stored>>, CommitError> {
        self.writer.commit(operations.into_iter().map(Change::new).collect::<Result<_, _>>()?).await
    }

    /// The object, if it is there.
    pub fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.shared.read().get(key).cloned()
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.shared.read().revision
    }

    /// What was written since the store was opened.
    pub fn figures(&self) -> Figures {
        self.shared.read().figures
    }

    /// Whether there is any object of the resource.
    pub fn any(&self, resource: &str) -> bool {
        self.shared.read().range(resource, None).next().is_some()
    }

    /// The objects of a resource as they are now, in one namespace or in all.
    pub fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Arc<Stored>> {
        self.shared.read().range(resource, namespace).cloned().collect()
    }

    /// The objects of a resource, in order of namespace and name, all as of one revision.
    ///
    /// # Errors
    /// [`HistoryError`] where the page asks for a revision that is not at hand.
    pub fn page(&self, request: &PageRequest<'_>) -> Result<Page, HistoryError> {
        page::read(&self.shared.read(), request)
    }

    /// The changes of a resource after `revision`.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn watch(&self, resource: &Arc<str>, revision: u64) -> Result<Watcher, HistoryError> {
        Watcher::start(&self.shared, resource, revision)
    }

    /// The present of a resource, and the changes from there on.
    pub fn snapshot(&self, resource: &Arc<str>, namespace: Option<&str>) -> (Vec<Arc<Stored>>, Watcher) {
        Watcher::snapshot(&self.shared, resource, namespace)
    }

    /// Forgets the history up to `revision`, in memory and on the disk; the
    /// present and everything newer stay.
    ///
    /// # Errors
    /// [`CommitError::Closed`].
    pub async fn compact(&self, revision: u64) -> Result<(), CommitError> {
        self.writer.compact(revision).await
    }
}

/// How deep an object may be nested: what is written must be read again, and
/// the parser stops at 128. Patches could pile up more than any body may have.
const DEPTH_MAX: usize = 100;
/// Bytes of one object, as in Kubernetes.
pub(crate) const OBJECT_BYTES_MAX: usize = 3 << 19;
