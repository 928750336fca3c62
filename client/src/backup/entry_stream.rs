//! The entry stream: all entries of a snapshot, one after the other, each as a
//! length (u32, little endian) and its postcard form; cut into chunks like any
//! content. Read back with every rule checked that a hostile stream could
//! break.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::chunk::ChunkRef;
use super::chunker::{CHUNK_BYTES_MAX, Cutter};
use super::entry::{
    Kind, PathError, StoredEntry, check_relative_path, extents_length, path_order, split_path,
};
use super::metadata::MODE_BITS;
use super::target::UNFINISHED_MARKER;

/// No entry is longer in its stored form. It bounds the chunk list of the
/// largest file to some 14 million, about 14 TiB of data.
const ENTRY_BYTES_MAX: usize = 512 << 20;

/// Why an entry stream is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The bytes are not entries.
    #[error("the entry stream is not in the format of version 1")]
    Format,
    /// It stops within an entry, or has another number of entries than the
    /// snapshot says.
    #[error("the entry stream is cut short")]
    Short,
    /// A path that could leave the tree, or that no tree can hold.
    #[error("the path {path:?} is refused: {cause}")]
    Path {
        /// Escaped.
        path: String,
        /// Why.
        cause: PathError,
    },
    /// An entry does not follow the one before it, or its parent is no
    /// directory of the snapshot.
    #[error("the entry {path:?} is out of order, repeated, or below something that is no directory")]
    Order {
        /// Escaped.
        path: String,
    },
    /// The parts of an entry do not fit together.
    #[error("the entry {path:?} contradicts itself")]
    Contradiction {
        /// Escaped.
        path: String,
    },
}

/// The stored form of an entry, appended to `out`; false if it is over the
/// limit.
pub(crate) fn encode(entry: &impl Serialize, out: &mut Vec<u8>) -> bool {
    let Ok(bytes) = postcard::to_allocvec(entry) else { return false };
    let Some(length) = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= ENTRY_BYTES_MAX) else {
        return false;
    };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&bytes);
    true
}

/// Cuts the stream while it is written.
#[derive(Default)]
pub(crate) struct StreamCutter {
    pub(crate) pending: Vec<u8>,
}

impl StreamCutter {
    /// Whole chunks that are ready; with `end` everything that is left.
    pub(crate) fn chunks(&mut self, cutter: &Cutter, end: bool, mut chunk: impl FnMut(&[u8])) {
        let mut from = 0;
        while self.pending.len() - from >= CHUNK_BYTES_MAX || (end && from < self.pending.len()) {
            let length = cutter.cut(&self.pending[from..]);
            chunk(&self.pending[from..from + length]);
            from += length;
        }
        self.pending.drain(..from);
    }
}

/// Turns the bytes of an entry stream back into entries that obey the rules:
/// paths stay below the root, come in [`path_order`], each below a directory
/// that came before; extents and chunks fit the size.
#[derive(Default)]
pub(crate) struct EntryDecoder {
    pending: VecDeque<u8>,
    last: Option<Vec<u8>>,
    /// Paths of the directories that the next entry may lie in.
    open: Vec<Vec<u8>>,
    entries: u64,
}

impl EntryDecoder {
    /// More bytes of the stream.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend(bytes);
    }

    /// The next entry; none while more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<StoredEntry>, EntryError> {
        if self.pending.len() < 4 {
            return Ok(None);
        }
        let mut length = [0; 4];
        length.iter_mut().zip(&self.pending).for_each(|(to, from)| *to = *from);
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > ENTRY_BYTES_MAX {
            return Err(EntryError::Format);
        }
        if self.pending.len() - 4 < length {
            return Ok(None);
        }
        self.pending.drain(..4);
        let bytes: Vec<u8> = self.pending.drain(..length).collect();
        let stored = match postcard::take_from_bytes::<StoredEntry>(&bytes) {
            Ok((stored, [])) => stored,
            _ => return Err(EntryError::Format),
        };
        self.check(&stored)?;
        self.entries += 1;
        Ok(Some(stored))
    }

    /// At the end: nothing is left over and all entries came.
    pub(crate) fn finish(&self, entries: u64) -> Result<(), EntryError> {
        if self.pending.is_empty() && self.entries == entries { Ok(()) } else { Err(EntryError::Short) }
    }

    fn check(&mut self, stored: &StoredEntry) -> Result<(), EntryError> {
        let path = &stored.entry.path;
        let text = || coffer_model::escape_bytes(path);
        check_relative_path(path).map_err(|cause| EntryError::Path { path: text(), cause })?;
        let is_root = path.is_empty();
        if is_root != self.last.is_none() || (is_root && stored.entry.kind != Kind::Directory) {
            return Err(EntryError::Order { path: text() });
        }
        if let Some(last) = &self.last {
            if path_order(last, path).is_ge() || path == UNFINISHED_MARKER {
                return Err(EntryError::Order { path: text() });
            }
            let (parent, _) = split_path(path);
            while self.open.last().is_some_and(|open| open.as_slice() != parent) {
                self.open.pop();
            }
            if self.open.is_empty() {
                return Err(EntryError::Order { path: text() });
            }
        }
        if !agrees(stored) {
            return Err(EntryError::Contradiction { path: text() });
        }
        if stored.entry.kind == Kind::Directory {
            self.open.push(path.clone());
        }
        self.last = Some(path.clone());
        Ok(())
    }
}

fn agrees(stored: &StoredEntry) -> bool {
    let entry = &stored.entry;
    let chunk_bytes: u64 = stored.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
    let chunks_fit = stored
        .chunks
        .iter()
        .all(|chunk| usize::try_from(chunk.bytes).is_ok_and(|bytes| (1..=CHUNK_BYTES_MAX).contains(&bytes)));
    let link_fits = entry.hard_link_to.as_deref().is_none_or(|first| {
        check_relative_path(first).is_ok()
            && path_order(first, &entry.path).is_lt()
            && entry.kind != Kind::Directory
            && entry.data.is_empty()
    });
    chunks_fit
        && link_fits
        && extents_length(&entry.data, entry.size) == Some(chunk_bytes)
        && entry.mode <= MODE_BITS
        && entry.mtime.nanos < 1_000_000_000
        && entry.content.is_some() == (entry.kind == Kind::File)
        && (entry.kind == Kind::File || entry.size == 0)
        && entry.symlink_target.is_some() == (entry.kind == Kind::Symlink)
        && entry.device.is_some() == matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice)
}

/// The chunks of an entry stream, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamRef {
    pub(crate) chunks: Vec<ChunkRef>,
    pub(crate) entries: u64,
}
