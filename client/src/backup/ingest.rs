//! The reading half of a backup, on one thread: walk, read, cut, name and
//! deduplicate. What is new goes to the storing half in batches; manifest and
//! entry stream are made from the same pass over the bytes.

use std::path::Path;
use std::sync::Arc;

use coffer_model::Digest;
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::chunk::{ChunkId, ChunkRef};
use super::chunker::{ChunkBuffer, Chunker, Cutter};
use super::entry::{Entry, Kind, StoredEntry};
use super::entry_stream::{StreamCutter, StreamRef, encode};
use super::index::KnownChunks;
use super::keyring::Keyring;
use super::manifest::ManifestWriter;
use super::pack::PackKind;
use super::problem::{Problem, Trouble};
use super::progress::Progress;
use super::scan::{ContentError, Stopped, Visitor, WalkError, walk};
use super::snapshot::SnapshotStats;
use super::source_file::ExtentReader;

/// A batch is sent once it has this many bytes: enough work for a thread,
/// few enough to hold several.
const BATCH_BYTES: usize = 2 << 20;
const MANIFEST_BYTES: usize = 256 << 10;

/// New chunks, in plain.
pub(crate) struct Batch {
    pub(crate) kind: PackKind,
    pub(crate) data: Vec<u8>,
    /// Id and length, in the order of the data.
    pub(crate) chunks: Vec<(ChunkId, usize)>,
}

/// From the reading to the storing half.
pub(crate) enum Message {
    /// Seal and store these.
    Batch(Batch),
    /// The next part of the manifest's text.
    Manifest(Vec<u8>),
}

/// What the reading half leaves for the snapshot.
pub(crate) struct Ingested {
    pub(crate) stream: StreamRef,
    pub(crate) stats: SnapshotStats,
    pub(crate) problems: Vec<Problem>,
    pub(crate) manifest_digest: Digest,
}

/// Why the reading half ended early.
pub(crate) enum IngestError {
    /// The root cannot be opened.
    Root(Errno),
    /// The storing half is gone and knows why.
    Stopped,
}

/// Reads the tree below `root`; returns when all of it is sent.
pub(crate) fn ingest(
    root: &Path,
    keyring: Arc<Keyring>,
    known: KnownChunks,
    sender: mpsc::Sender<Message>,
    progress: Arc<dyn Progress>,
) -> Result<Ingested, IngestError> {
    let cutter = Cutter::new(keyring.cut_seed());
    let mut reading = Reading {
        chunks: NewChunks { keyring, known, sender, data: None, entries: None, new_bytes: 0 },
        cutter: &cutter,
        buffer: ChunkBuffer::new(),
        content: Vec::new(),
        stream: StreamCutter::default(),
        stream_chunks: Vec::new(),
        manifest: ManifestWriter::new(),
        stats: SnapshotStats::default(),
        problems: Vec::new(),
        progress,
    };
    walk(root, &mut reading).map_err(|error| match error {
        WalkError::Root(errno) => IngestError::Root(errno),
        WalkError::Stopped => IngestError::Stopped,
    })?;
    reading.finish().map_err(|Stopped| IngestError::Stopped)
}

/// Names chunks, drops the known, and gathers the rest into batches.
struct NewChunks {
    keyring: Arc<Keyring>,
    known: KnownChunks,
    sender: mpsc::Sender<Message>,
    data: Option<Batch>,
    entries: Option<Batch>,
    new_bytes: u64,
}

impl NewChunks {
    fn add(&mut self, kind: PackKind, bytes: &[u8]) -> Result<ChunkRef, Stopped> {
        let id = self.keyring.chunk_id(bytes);
        let length = u32::try_from(bytes.len()).map_err(|_| Stopped)?;
        if self.known.insert(id) {
            self.new_bytes += u64::from(length);
            let slot = match kind {
                PackKind::Data => &mut self.data,
                PackKind::Entries => &mut self.entries,
            };
            let batch = slot.get_or_insert_with(|| Batch { kind, data: Vec::new(), chunks: Vec::new() });
            batch.data.extend_from_slice(bytes);
            batch.chunks.push((id, bytes.len()));
            if batch.data.len() >= BATCH_BYTES {
                let full = slot.take();
                self.send(full.map(Message::Batch))?;
            }
        }
        Ok(ChunkRef { id, bytes: length })
    }

    fn send(&self, message: Option<Message>) -> Result<(), Stopped> {
        message.map_or(Ok(()), |message| self.sender.blocking_send(message).map_err(|_| Stopped))
    }

    fn flush(&mut self) -> Result<(), Stopped> {
        let (data, entries) = (self.data.take(), self.entries.take());
        self.send(data.map(Message::Batch))?;
        self.send(entries.map(Message::Batch))
    }
}

struct Reading<'a> {
    chunks: NewChunks,
    cutter: &'a Cutter,
    buffer: ChunkBuffer,
    /// Chunks of the file whose entry comes next.
    content: Vec<ChunkRef>,
    stream: StreamCutter,
    stream_chunks: Vec<ChunkRef>,
    manifest: ManifestWriter,
    stats: SnapshotStats,
    problems: Vec<Problem>,
    progress: Arc<dyn Progress>,
}

impl Reading<'_> {
    fn store_stream(&mut self, end: bool) -> Result<(), Stopped> {
        let Self { stream, cutter, chunks, stream_chunks, .. } = self;
        let mut result = Ok(());
        stream.chunks(cutter, end, |bytes| {
            if result.is_ok() {
                result = chunks.add(PackKind::Entries, bytes).map(|chunk| stream_chunks.push(chunk));
            }
        });
        result
    }

    fn finish(mut self) -> Result<Ingested, Stopped> {
        // Counted before the stream itself is stored: these are file bytes.
        self.stats.new_bytes = self.chunks.new_bytes;
        self.store_stream(true)?;
        self.chunks.flush()?;
        let (text, manifest_digest, entries) = self.manifest.finish();
        self.chunks.send(Some(Message::Manifest(text)))?;
        self.stats.entries = entries;
        self.stats.problems = u64::try_from(self.problems.len()).unwrap_or(u64::MAX);
        let stream = StreamRef { chunks: self.stream_chunks, entries };
        Ok(Ingested { stream, stats: self.stats, problems: self.problems, manifest_digest })
    }
}

impl Visitor for Reading<'_> {
    fn content(&mut self, reader: &mut ExtentReader<'_>, _size: u64) -> Result<(), ContentError> {
        self.content.clear();
        let mut chunker = Chunker::with_buffer(self.cutter, reader, &mut self.buffer);
        while let Some(bytes) = chunker.next_chunk().map_err(ContentError::Read)? {
            let chunk = self.chunks.add(PackKind::Data, bytes).map_err(|Stopped| ContentError::Stopped)?;
            self.progress.advance(u64::from(chunk.bytes), 0);
            self.stats.bytes += u64::from(chunk.bytes);
            self.content.push(chunk);
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Stopped> {
        let is_content = entry.kind == Kind::File && entry.hard_link_to.is_none();
        let chunks = if is_content { std::mem::take(&mut self.content) } else { Vec::new() };
        let path = entry.path.clone();
        let (is_file, is_directory) = (is_content, entry.kind == Kind::Directory);
        let stored = StoredEntry { entry, chunks };
        if !encode(&stored, &mut self.stream.pending) {
            self.problem(Problem::reading(&path, "describe (too many chunks)", Errno::FBIG));
            return Ok(());
        }
        self.manifest.push(&stored.entry);
        self.stats.files += u64::from(is_file);
        self.stats.directories += u64::from(is_directory);
        self.progress.advance(0, 1);
        self.store_stream(false)?;
        if self.manifest.pending_bytes() >= MANIFEST_BYTES {
            let text = self.manifest.take();
            self.chunks.send(Some(Message::Manifest(text)))?;
        }
        Ok(())
    }

    fn problem(&mut self, problem: Problem) {
        debug_assert!(!matches!(problem.trouble, Trouble::NotRestored { .. }));
        self.problems.push(problem);
    }
}
