//! The source-time manifest: canonical text that says what a tree was, one
//! line for each entry, and the digest by which it is known.
//!
//! ```text
//! {"coffer":"tree manifest","version":1}
//! {"gid":0,"kind":"directory","mode":"0755","mtime":[1700000000,0],"path":"","uid":0}
//! {"content":"…","data":[[0,5]],"gid":0,"kind":"file",…,"path":"a","size":5,"uid":0}
//! {"entries":2}
//! ```
//! The first line names the format, the last counts the entries, so that a
//! manifest cut short is no manifest. The digest is SHA-256 of all bytes of
//! the text, what `sha256sum` prints.

use std::io::{self, BufRead, Read, Write};

use coffer_model::{Digest, escape_bytes};
use sha2::{Digest as _, Sha256};

use super::entry::{Entry, path_order};
use super::manifest_line::{read_line, write_line};

const HEADER: &[u8] = b"{\"coffer\":\"tree manifest\",\"version\":1}\n";

/// No line of a manifest is longer: paths and 64 KiB attributes escape to a
/// few times their size, extents of a badly fragmented file to some MiB.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It could not be read.
    #[error("the manifest could not be read: {0}")]
    Read(#[from] io::Error),
    /// The first line is another one.
    #[error("this is not a tree manifest of version 1")]
    Header,
    /// A line is not exactly one that this format writes.
    #[error("line {line} of the manifest is not canonical; it was altered or made by something else")]
    Line {
        /// Counted from 1.
        line: u64,
    },
    /// An entry does not come after the one before it.
    #[error("line {line} of the manifest is out of order or a repetition")]
    Order {
        /// Counted from 1.
        line: u64,
    },
    /// The last line is missing or counts other entries, or something follows.
    #[error("the manifest is cut short or its last line does not count its entries")]
    Incomplete,
}

/// Writes a manifest line by line and digests what it writes.
pub struct ManifestWriter {
    hasher: Sha256,
    entries: u64,
    pending: Vec<u8>,
}

impl ManifestWriter {
    /// At the header; take the text with [`Self::take`].
    pub fn new() -> Self {
        Self { hasher: Sha256::new(), entries: 0, pending: HEADER.to_vec() }
    }

    /// Adds an entry; the caller keeps [`path_order`].
    pub fn push(&mut self, entry: &Entry) {
        if let Some(line) = write_line(entry) {
            self.pending.extend_from_slice(&line);
            self.pending.push(b'\n');
            self.entries += 1;
        }
    }

    /// Bytes of text that wait to be taken.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// The text since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        self.hasher.update(&self.pending);
        std::mem::take(&mut self.pending)
    }

    /// The rest of the text, the digest of all of it, and the count.
    pub fn finish(mut self) -> (Vec<u8>, Digest, u64) {
        let last = format!("{{\"entries\":{}}}\n", self.entries);
        self.pending.extend_from_slice(last.as_bytes());
        let rest = self.take();
        (rest, Digest(self.hasher.finalize().into()), self.entries)
    }
}

impl Default for ManifestWriter {
    fn default() -> Self {
        Self::new()
    }
}

/// What a manifest was found to be once it was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// SHA-256 of the text.
    pub digest: Digest,
    /// Entries in it.
    pub entries: u64,
}

/// Reads a manifest strictly, entry by entry.
pub struct ManifestReader<R> {
    reader: R,
    hasher: Sha256,
    entries: u64,
    last_path: Option<Vec<u8>>,
    done: Option<ReadBack>,
}

impl<R: BufRead> ManifestReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`ManifestError::Header`], [`ManifestError::Read`].
    pub fn new(mut reader: R) -> Result<Self, ManifestError> {
        let mut hasher = Sha256::new();
        if read_text_line(&mut reader, &mut hasher)? != HEADER {
            return Err(ManifestError::Header);
        }
        Ok(Self { reader, hasher, entries: 0, last_path: None, done: None })
    }

    /// The next entry, none after the last.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ManifestError> {
        if self.done.is_some() {
            return Ok(None);
        }
        let text = read_text_line(&mut self.reader, &mut self.hasher)?;
        let line = self.entries + 2;
        let Some(text) = text.strip_suffix(b"\n") else { return Err(ManifestError::Incomplete) };
        if text.starts_with(b"{\"entries\":") {
            return self.end(text).map(|()| None);
        }
        let entry = read_line(text).ok_or(ManifestError::Line { line })?;
        if self.last_path.as_deref().is_some_and(|last| path_order(last, &entry.path).is_ge()) {
            return Err(ManifestError::Order { line });
        }
        self.last_path = Some(entry.path.clone());
        self.entries += 1;
        Ok(Some(entry))
    }

    /// Digest and count, known once [`Self::next_entry`] has returned none.
    pub fn read_back(&self) -> Option<ReadBack> {
        self.done
    }

    fn end(&mut self, text: &[u8]) -> Result<(), ManifestError> {
        let nothing_follows = self.reader.fill_buf()?.is_empty();
        if text != format!("{{\"entries\":{}}}", self.entries).as_bytes() || !nothing_follows {
            return Err(ManifestError::Incomplete);
        }
        let digest = Digest(self.hasher.clone().finalize().into());
        self.done = Some(ReadBack { digest, entries: self.entries });
        Ok(())
    }
}

fn read_text_line<R: BufRead>(reader: &mut R, hasher: &mut Sha256) -> Result<Vec<u8>, ManifestError> {
    let mut line = Vec::new();
    reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    hasher.update(&line);
    Ok(line)
}

/// A whole manifest in memory; for trees of millions of entries use
/// [`ManifestWriter`], [`ManifestReader`] and
/// [`compare_streams`](super::compare_streams).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Manifest {
    /// In [`path_order`].
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// Reads one strictly: canonical lines, in order, complete.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn read(reader: impl BufRead) -> Result<Self, ManifestError> {
        let mut reader = ManifestReader::new(reader)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// Writes the text and returns its digest.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<Digest> {
        let mut writer = ManifestWriter::new();
        for entry in &self.entries {
            writer.push(entry);
            if writer.pending_bytes() >= 64 << 10 {
                out.write_all(&writer.take())?;
            }
        }
        let (rest, digest, _) = writer.finish();
        out.write_all(&rest)?;
        Ok(digest)
    }

    /// SHA-256 of the text.
    ///
    /// # Errors
    /// None in practice: nothing is written anywhere.
    pub fn digest(&self) -> io::Result<Digest> {
        self.write(&mut io::sink())
    }

    /// The entry with this path.
    pub fn find(&self, path: &[u8]) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| path_order(&entry.path, path)).ok()?;
        self.entries.get(at)
    }

    /// The paths, escaped for people.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        self.entries.iter().map(|entry| escape_bytes(&entry.path))
    }
}
