//! How far each log went, remembered beside the folder of the service. A log only ever grows; a catalogue whose
//! log is shorter, or another one, is of an earlier moment, put back by somebody. It lacks deletions, so that it
//! is not believed: it is set aside and made again from the sites.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use coffer_catalog::{Catalog, CatalogError};
use coffer_model::{Digest, TenantId};
use serde::{Deserialize, Serialize};

use crate::service::Service;

const FORMAT: u32 = 1;

/// Logs in one file; the next one begins where it is full. A line has 160 bytes at most, so that a full file is far
/// from what is read of one, and that what changes is written without all that does not.
const LINES_MAX: usize = 4096;

/// Why it was not written down how far the logs go. It is tried again every two seconds.
#[derive(Debug, thiserror::Error)]
pub enum LogSizesError {
    /// A log could not be looked at.
    #[error("how far a log goes could not be looked at: {0}")]
    Catalog(#[from] CatalogError),
    /// The disk did not take it.
    #[error(
        "how far the logs go cannot be written to {path}: {source}; until it can, do not put back a copy of a catalogue: it could not be told from the newest"
    )]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BookFile {
    format: u32,
    logs: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tenant: String,
    leaves: u64,
    /// The hash of the last of them, hexadecimal.
    last: String,
}

/// How far a log went: so many leaves, and the hash of the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    leaves: u64,
    last: Digest,
}

type Part = BTreeMap<TenantId, Head>;

/// The heads of all logs, as they lie in the files.
#[derive(Debug, Default)]
struct Heads {
    parts: Vec<Part>,
    /// In which of them a log is, or was: it comes there again.
    places: BTreeMap<TenantId, usize>,
    /// Those that are not on the disk as they are here.
    unwritten: BTreeSet<usize>,
}

impl Heads {
    fn get(&self, tenant: &TenantId) -> Option<&Head> {
        self.parts.get(*self.places.get(tenant)?)?.get(tenant)
    }

    /// Puts a head in the place of what was known, in the first file that has room.
    fn insert(&mut self, tenant: TenantId, head: Head, lines_max: usize) {
        let room = |part: &Part| part.len() < lines_max;
        let first = || self.parts.iter().position(room).unwrap_or(self.parts.len());
        let place = self.places.get(&tenant).copied().unwrap_or_else(first);
        if place >= self.parts.len() {
            self.parts.resize_with(place + 1, Part::new);
        }
        let Some(part) = self.parts.get_mut(place) else { return };
        if part.insert(tenant, head) != Some(head) {
            self.unwritten.insert(place);
        }
        self.places.insert(tenant, place);
    }

    fn remove(&mut self, tenant: &TenantId) {
        let Some(place) = self.places.get(tenant) else { return };
        if self.parts.get_mut(*place).is_some_and(|part| part.remove(tenant).is_some()) {
            self.unwritten.insert(*place);
        }
    }

    /// Enters what a file said. What is more than it may hold goes on to others; where two name one log, of which
    /// one was left by a crash, the longer one counts.
    fn enter(&mut self, place: usize, lines: Part, lines_max: usize) {
        if place >= self.parts.len() {
            self.parts.resize_with(place + 1, Part::new);
        }
        for (tenant, head) in lines {
            let known = self.get(&tenant).copied();
            let room = self.parts.get_mut(place).filter(|part| known.is_none() && part.len() < lines_max);
            if let Some(part) = room {
                part.insert(tenant, head);
                self.places.insert(tenant, place);
                continue;
            }
            self.unwritten.insert(place);
            if known.is_none_or(|known| known.leaves < head.leaves) {
                self.insert(tenant, head, lines_max);
            }
        }
    }
}

/// What is remembered.
#[derive(Debug)]
pub(crate) struct Book {
    heads: Heads,
    /// Operations of each catalogue when its log was last asked for: without new ones it is as long.
    operations: BTreeMap<TenantId, u64>,
    lines_max: usize,
}

/// Not within the folder of the service: who puts an older copy of that back does not put this back with it.
fn path(data_dir: &Path, part: usize) -> PathBuf {
    match part {
        0 => data_dir.join("log-sizes.json"),
        part => data_dir.join(format!("log-sizes-{part}.json")),
    }
}

fn line((tenant, head): (&TenantId, &Head)) -> Line {
    let last = head.last.0.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    Line { tenant: tenant.to_string(), leaves: head.leaves, last }
}

fn head(line: &Line) -> Option<(TenantId, Head)> {
    let mut last = [0; 32];
    if line.last.len() != 64 || !line.last.is_ascii() {
        return None;
    }
    for (place, byte) in last.iter_mut().enumerate() {
        *byte = u8::from_str_radix(line.last.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some((line.tenant.parse().ok()?, Head { leaves: line.leaves, last: Digest(last) }))
}

fn encode(part: &Part) -> Result<String, serde_json::Error> {
    serde_json::to_string(&BookFile { format: FORMAT, logs: part.iter().map(line).collect() })
}

fn decode(text: &[u8]) -> Option<Part> {
    let file: BookFile = serde_json::from_slice(text).ok()?;
    (file.format == FORMAT).then(|| file.logs.iter().map(head).collect()).flatten()
}

/// The newest leaf of a log that has so many.
async fn leaf_at(catalog: &Catalog, leaves: u64) -> Result<Option<Digest>, CatalogError> {
    let Some(last) = leaves.checked_sub(1) else { return Ok(None) };
    Ok(catalog.leaf_hashes(last, 1).await?.first().copied())
}

impl Book {
    /// The book of the last run. A file of it that is gone or cannot be read says nothing.
    pub(crate) fn read(data_dir: &Path) -> Self {
        Self::read_by(data_dir, LINES_MAX)
    }

    fn read_by(data_dir: &Path, lines_max: usize) -> Self {
        let mut heads = Heads::default();
        let mut place = 0;
        // They follow each other: a file begins when those before it are full.
        while let Ok(text) = crate::disk::read_bounded(&path(data_dir, place)) {
            heads.enter(place, decode(&text).unwrap_or_default(), lines_max);
            place += 1;
        }
        Self { heads, operations: BTreeMap::new(), lines_max }
    }

    fn insert(&mut self, tenant: TenantId, head: Head) {
        self.heads.insert(tenant, head, self.lines_max);
    }

    /// Writes what is not on the disk yet; what fails stays to be written.
    fn write(&mut self, data_dir: &Path) -> Result<(), LogSizesError> {
        // The last first: a log that goes on to a later file is in both, after a crash, and not in none.
        while let Some(place) = self.heads.unwritten.last().copied() {
            let path = path(data_dir, place);
            let nothing = Part::new();
            let written = encode(self.heads.parts.get(place).unwrap_or(&nothing))
                .map_err(io::Error::from)
                .and_then(|text| crate::disk::write_durably(&path, text.as_bytes()));
            written.map_err(|source| LogSizesError::Disk { path, source })?;
            self.heads.unwritten.remove(&place);
        }
        Ok(())
    }
}

impl Service {
    /// Whether this catalogue is not the one, or not as far, as when it was last looked at.
    pub(crate) async fn went_back(&self, tenant: TenantId, catalog: &Catalog) -> Result<bool, CatalogError> {
        let known = self.log_sizes.lock().await.heads.get(&tenant).copied();
        match known {
            Some(known) => Ok(leaf_at(catalog, known.leaves).await? != Some(known.last)),
            None => Ok(false),
        }
    }

    /// Forgets a log before its catalogue is made again: leaves that no checkpoint covered are not at the
    /// sites, so that it may become shorter.
    ///
    /// # Errors
    /// [`LogSizesError`]; what is made then would be taken for an older one by the next start.
    pub(crate) async fn forget_log_size(&self, tenant: TenantId) -> Result<(), LogSizesError> {
        let mut book = self.log_sizes.lock().await;
        book.heads.remove(&tenant);
        book.write(&self.data_dir)
    }

    /// Remembers on disk how far the logs go now, where one has grown.
    ///
    /// # Errors
    /// [`LogSizesError`], of the first log that could not be looked at; the others are remembered all the same.
    pub(crate) async fn note_log_sizes(&self) -> Result<(), LogSizesError> {
        let mut book = self.log_sizes.lock().await;
        let mut outcome = Ok(());
        for tenant in self.all_tenants() {
            // Counted after their commits: what these brought is there when the log is asked for.
            let operations = tenant.catalog.grouping().operations;
            if book.operations.get(&tenant.id) == Some(&operations) {
                continue;
            }
            // Only what is committed is read: nothing is remembered that a crash could take back.
            match head_of(&tenant.catalog).await {
                Ok(head) => {
                    book.operations.insert(tenant.id, operations);
                    head.into_iter().for_each(|head| book.insert(tenant.id, head));
                }
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
        let written = book.write(&self.data_dir);
        outcome.and(written)
    }
}

/// How far a log goes now; `None` for one without leaves.
async fn head_of(catalog: &Catalog) -> Result<Option<Head>, CatalogError> {
    let leaves = catalog.log_size().await?;
    Ok(leaf_at(catalog, leaves).await?.map(|last| Head { leaves, last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u16) -> TenantId {
        let mut id = [7; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        TenantId::from_bytes(id)
    }

    fn head(leaves: u64) -> Head {
        Head { leaves, last: Digest([0xab; 32]) }
    }

    fn all(book: &Book) -> BTreeMap<TenantId, u64> {
        book.heads.parts.iter().flatten().map(|(tenant, head)| (*tenant, head.leaves)).collect()
    }

    #[test]
    fn a_book_reads_back_and_another_format_or_a_cut_one_says_nothing() {
        let book = Part::from([(tenant(1), head(7)), (tenant(2), head(1))]);
        let text = encode(&book).unwrap();
        assert_eq!(decode(text.as_bytes()), Some(book));
        assert_eq!(decode(text.replace("\"format\":1", "\"format\":2").as_bytes()), None);
        assert_eq!(decode(text.replace("abab", "ab").as_bytes()), None);
        for end in 0..text.len() {
            assert_eq!(decode(&text.as_bytes()[..end]), None, "{end}");
        }
    }

    #[test]
    fn however_many_logs_there_are_each_is_remembered() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut book = Book::read_by(dir.path(), 3);
        for n in 0..10 {
            book.insert(tenant(n), head(1));
            book.write(dir.path()).unwrap();
        }
        // Those that were there keep their places.
        let (mut book, mut expected) = (Book::read_by(dir.path(), 3), BTreeMap::new());
        for n in 0..10 {
            book.insert(tenant(n), head(u64::from(n) + 2));
            expected.insert(tenant(n), u64::from(n) + 2);
        }
        book.heads.remove(&tenant(4));
        expected.remove(&tenant(4));
        book.write(dir.path()).unwrap();
        assert_eq!(all(&Book::read_by(dir.path(), 3)), expected);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_full_file_is_shorter_than_what_is_read_of_one() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut book = Book::read(dir.path());
        let logs = u16::try_from(LINES_MAX).unwrap() + 1;
        for n in 0..logs {
            book.insert(tenant(n), head(u64::MAX));
        }
        book.write(dir.path()).unwrap();
        let again = Book::read(dir.path());
        assert_eq!(all(&again).len(), usize::from(logs));
        assert_eq!(again.heads.parts.len(), 2);
    }

    #[test]
    fn a_file_that_was_filled_beyond_its_room_goes_on_in_others() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut one = Book::read_by(dir.path(), 100);
        (0..8).for_each(|n| one.insert(tenant(n), head(5)));
        one.write(dir.path()).unwrap();
        let mut book = Book::read_by(dir.path(), 3);
        book.write(dir.path()).unwrap();
        let again = Book::read_by(dir.path(), 3);
        assert_eq!(all(&again).len(), 8);
        assert!(again.heads.parts.iter().all(|part| part.len() <= 3) && again.heads.unwritten.is_empty());
        // A crash before the first of them was written left the same line in two.
        let line = encode(&Part::from([(tenant(0), head(6))])).unwrap();
        crate::disk::write_durably(&path(dir.path(), 2), line.as_bytes()).unwrap();
        let both = Book::read_by(dir.path(), 3);
        assert_eq!(both.heads.get(&tenant(0)), Some(&head(6)));
    }

    #[test]
    fn what_could_not_be_written_is_said_and_written_later_although_nothing_is_new() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut book = Book::read(dir.path());
        book.insert(tenant(1), head(1));
        book.write(dir.path()).unwrap();
        // In the way of the file that is written beside.
        let beside = dir.path().join("log-sizes.new");
        std::fs::create_dir(&beside).unwrap();
        book.insert(tenant(1), head(2));
        assert!(matches!(book.write(dir.path()), Err(LogSizesError::Disk { .. })));
        assert!(book.write(dir.path()).is_err(), "said as long as it is so");
        std::fs::remove_dir(&beside).unwrap();
        book.insert(tenant(1), head(2));
        book.write(dir.path()).unwrap();
        assert_eq!(Book::read(dir.path()).heads.get(&tenant(1)), Some(&head(2)));
    }
}
