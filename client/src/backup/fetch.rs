//! Fetching for a restore: the entry stream a few chunks ahead, and packs in
//! the order in which their chunks are needed, each as the one range of it
//! that is.
//!
//! The plan walks the chunks once against a [`PackCache`] and notes what it
//! would have had to fetch; the restore walks the same chunks against the same
//! cache, so the fetches come in exactly the order of the notes and can run
//! ahead without anybody asking.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;

use super::blob_store::{BlobStore, BlobStoreError};
use super::chunk::{ChunkError, ChunkId, ChunkRef, open_chunk};
use super::entry::StoredEntry;
use super::entry_stream::{EntryDecoder, EntryError};
use super::index::{Index, Location};
use super::keyring::Keyring;
use super::snapshot::Snapshot;

/// Packs kept for chunks that come back, and fetches under way; together a
/// hundred MiB and some.
const CACHED_PACKS: usize = 2;
const FETCHES: usize = 2;
const ENTRY_FETCHES: usize = 4;

/// Why stored data could not be had back.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The store.
    #[error(transparent)]
    Store(#[from] BlobStoreError),
    /// The store answered with another number of bytes than was asked for.
    #[error("the store returned {found} instead of {wanted} bytes of \"{name}\"")]
    Length {
        /// The blob.
        name: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes received.
        found: u64,
    },
    /// A chunk is in no pack of the store.
    #[error(
        "the chunk {id} is in no pack that the store holds; rebuild the index, or restore an older snapshot"
    )]
    NoChunk {
        /// The chunk.
        id: ChunkId,
    },
    /// A chunk does not open.
    #[error("the chunk {id} in \"{pack}\" is damaged ({cause}); scrub and repair that blob in the store")]
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// The blob of its pack.
        pack: String,
        /// What is wrong.
        cause: ChunkError,
    },
    /// The entry stream breaks its rules.
    #[error("the snapshot is refused: {0}")]
    Entries(#[from] EntryError),
    /// The fetching task ended without a word.
    #[error("a worker ended early; this is a defect")]
    Worker,
}

/// The few packs that are at hand, most recently used last.
pub(crate) struct PackCache<T> {
    held: Vec<(u32, T)>,
}

impl<T> PackCache<T> {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self { held: Vec::with_capacity(CACHED_PACKS) }
    }

    /// What is held for a pack, which becomes the most recently used.
    pub(crate) fn get(&mut self, pack: u32) -> Option<&mut T> {
        let at = self.held.iter().position(|(held, _)| *held == pack)?;
        let held = self.held.remove(at);
        self.held.push(held);
        self.held.last_mut().map(|(_, value)| value)
    }

    /// Takes something in, at the cost of the least recently used.
    pub(crate) fn put(&mut self, pack: u32, value: T) {
        if self.held.len() == CACHED_PACKS {
            self.held.remove(0);
        }
        self.held.push((pack, value));
    }
}

/// One fetch: the bytes of a pack that are needed while it is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) pack: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// Notes the fetches that a walk over chunks will need.
pub(crate) struct FetchPlanner {
    cache: PackCache<usize>,
    pub(crate) fetches: Vec<Fetch>,
}

impl FetchPlanner {
    /// Before the first chunk.
    pub(crate) fn new() -> Self {
        Self { cache: PackCache::new(), fetches: Vec::new() }
    }

    /// The next chunk that will be needed.
    pub(crate) fn need(&mut self, location: Location) {
        let (from, to) = (location.offset, location.offset.saturating_add(location.bytes));
        let noted = self.cache.get(location.pack).and_then(|at| self.fetches.get_mut(*at));
        if let Some(fetch) = noted {
            fetch.from = fetch.from.min(from);
            fetch.to = fetch.to.max(to);
            return;
        }
        self.cache.put(location.pack, self.fetches.len());
        self.fetches.push(Fetch { pack: location.pack, from, to });
    }
}

/// Fetches one range, all of it or an error.
async fn fetch_range(store: &dyn BlobStore, name: String, from: u32, to: u32) -> Result<Bytes, FetchError> {
    let bytes = store.get_range(&name, u64::from(from)..u64::from(to)).await?;
    let (wanted, found) = (u64::from(to - from), u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    if wanted == found { Ok(bytes) } else { Err(FetchError::Length { name, wanted, found }) }
}

/// What is fetched, with where it begins in its pack.
pub(crate) type Fetched = Result<(Fetch, Bytes), FetchError>;

/// Runs the fetches in order, some ahead of the reader.
pub(crate) fn fetch_ahead(
    store: Arc<dyn BlobStore>,
    index: Arc<Index>,
    fetches: Vec<Fetch>,
) -> mpsc::Receiver<Fetched> {
    let (sender, receiver) = mpsc::channel(1);
    let one = move |fetch: Fetch| {
        let (store, index) = (Arc::clone(&store), Arc::clone(&index));
        async move {
            let name = index.blob(fetch.pack).ok_or(FetchError::Worker)?;
            Ok((fetch, fetch_range(&*store, name, fetch.from, fetch.to).await?))
        }
    };
    run_ahead(stream::iter(fetches).map(one).buffered(FETCHES), sender);
    receiver
}

/// Sends what a stream yields until it ends or nobody listens.
fn run_ahead<T: Send + 'static>(
    fetches: impl stream::Stream<Item = T> + Send + 'static,
    sender: mpsc::Sender<T>,
) {
    tokio::spawn(async move {
        let mut fetches = std::pin::pin!(fetches);
        while let Some(fetched) = fetches.next().await {
            if sender.send(fetched).await.is_err() {
                return;
            }
        }
    });
}

/// The chunks of files, in the planned order. Blocks: for a worker thread.
pub(crate) struct ChunkSource {
    index: Arc<Index>,
    keyring: Arc<Keyring>,
    fetched: mpsc::Receiver<Fetched>,
    cache: PackCache<(u32, Bytes)>,
}

impl ChunkSource {
    /// Over fetches that run ahead.
    pub(crate) fn new(index: Arc<Index>, keyring: Arc<Keyring>, fetched: mpsc::Receiver<Fetched>) -> Self {
        Self { index, keyring, fetched, cache: PackCache::new() }
    }

    /// The plaintext of the next chunk.
    pub(crate) fn read(&mut self, chunk: &ChunkRef) -> Result<Vec<u8>, FetchError> {
        let location = self.index.find(&chunk.id).ok_or(FetchError::NoChunk { id: chunk.id })?;
        let damaged = |cause| FetchError::Chunk {
            id: chunk.id,
            pack: self.index.blob(location.pack).unwrap_or_default(),
            cause,
        };
        if self.cache.get(location.pack).is_none() {
            let (fetch, bytes) = self.fetched.blocking_recv().ok_or(FetchError::Worker)??;
            if fetch.pack != location.pack {
                return Err(FetchError::Worker);
            }
            self.cache.put(fetch.pack, (fetch.from, bytes));
        }
        let (from, bytes) = self.cache.get(location.pack).ok_or(FetchError::Worker)?;
        let sealed = slice(bytes, *from, location).ok_or(FetchError::Worker)?;
        let data = open_chunk(&self.keyring.chunks, self.keyring.chunk_id_key(), &chunk.id, sealed)
            .map_err(damaged)?;
        // The length comes from the snapshot, the id from the content.
        if u32::try_from(data.len()) == Ok(chunk.bytes) {
            Ok(data)
        } else {
            Err(damaged(ChunkError::Content))
        }
    }
}

fn slice(bytes: &[u8], from: u32, location: Location) -> Option<&[u8]> {
    let start = usize::try_from(location.offset.checked_sub(from)?).ok()?;
    let length = usize::try_from(location.bytes).ok()?;
    bytes.get(start..start.checked_add(length)?)
}

/// The entries of a snapshot, checked. Blocks: for a worker thread.
pub(crate) struct EntrySource {
    keyring: Arc<Keyring>,
    fetched: mpsc::Receiver<Result<(ChunkRef, String, Bytes), FetchError>>,
    decoder: EntryDecoder,
    entries: u64,
}

impl EntrySource {
    /// Begins to fetch the entry stream of a snapshot.
    pub(crate) fn start(
        store: Arc<dyn BlobStore>,
        index: Arc<Index>,
        keyring: Arc<Keyring>,
        snapshot: &Snapshot,
    ) -> Self {
        let (sender, fetched) = mpsc::channel(1);
        let one = move |chunk: ChunkRef| {
            let (store, index) = (Arc::clone(&store), Arc::clone(&index));
            async move {
                let at = index.find(&chunk.id).ok_or(FetchError::NoChunk { id: chunk.id })?;
                let name = index.blob(at.pack).ok_or(FetchError::Worker)?;
                let to = at.offset.saturating_add(at.bytes);
                let bytes = fetch_range(&*store, name.clone(), at.offset, to).await?;
                Ok((chunk, name, bytes))
            }
        };
        let chunks = snapshot.stream.chunks.clone();
        run_ahead(stream::iter(chunks).map(one).buffered(ENTRY_FETCHES), sender);
        Self { keyring, fetched, decoder: EntryDecoder::default(), entries: snapshot.stream.entries }
    }

    /// The next entry, none after the last.
    pub(crate) fn next(&mut self) -> Result<Option<StoredEntry>, FetchError> {
        loop {
            if let Some(entry) = self.decoder.next()? {
                return Ok(Some(entry));
            }
            let Some(fetched) = self.fetched.blocking_recv() else {
                self.decoder.finish(self.entries)?;
                return Ok(None);
            };
            let (chunk, pack, sealed) = fetched?;
            let opened = open_chunk(&self.keyring.chunks, self.keyring.chunk_id_key(), &chunk.id, &sealed);
            let data = opened.map_err(|cause| FetchError::Chunk { id: chunk.id, pack, cause })?;
            self.decoder.feed(&data);
        }
    }
}
