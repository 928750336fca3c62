//! How far each site was seen to reach, remembered where a restart and where a
//! recovery find it: in a file beside the catalogues every few seconds, and as
//! a leaf of the service's own log whenever a kit is made or the service stops.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffer_catalog::CatalogError;
use coffer_model::{Digest, Operation, Outcome, SiteId};
use coffer_regions::{Reach, SiteError};
use serde::{Deserialize, Serialize};

use crate::audit::AuditError;
use crate::leaf::operation_name;
use crate::leaf_text::LeafText;
use crate::service::Service;
use crate::tenant::Tenant;

/// What is remembered of one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) reach: Reach,
    /// It is older than it was, and nobody has brought it what it lacks.
    pub(crate) quarantined: bool,
}

/// What is remembered of all sites.
pub(crate) type Book = BTreeMap<SiteId, Remembered>;

/// Why a site was not released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is no such site, or its directory is gone.
    #[error("there is no site {0} that could be opened")]
    NoSite(SiteId),
    /// It does not answer.
    #[error("the site is not released: {0}")]
    Site(#[from] SiteError),
    /// The log did not take it, so that it stays quarantined.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BookFile {
    format: u32,
    sites: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    site: String,
    sequence: u64,
    /// Hexadecimal.
    digest: String,
    quarantined: bool,
}

fn line((site, Remembered { reach, quarantined }): (&SiteId, &Remembered)) -> Line {
    let digest = reach.digest.0.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    Line { site: site.to_string(), sequence: reach.sequence, digest, quarantined: *quarantined }
}

fn remembered(line: &Line) -> Option<(SiteId, Remembered)> {
    let mut digest = [0; 32];
    if line.digest.len() != 64 || !line.digest.is_ascii() {
        return None;
    }
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(line.digest.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    let reach = Reach { sequence: line.sequence, digest: Digest(digest) };
    Some((line.site.parse().ok()?, Remembered { reach, quarantined: line.quarantined }))
}

/// The text of a book: the file, and the subject of the leaf.
fn encode(book: &Book) -> Option<String> {
    serde_json::to_string(&BookFile { format: FORMAT, sites: book.iter().map(line).collect() }).ok()
}

fn decode(text: &[u8]) -> Option<Book> {
    let file: BookFile = serde_json::from_slice(text).ok()?;
    (file.format == FORMAT).then(|| file.sites.iter().map(remembered).collect()).flatten()
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("service").join("reach.json")
}

/// The book of the last run. One that is gone or cannot be read is none: then
/// the log tells, of an earlier moment.
pub(crate) fn read(data_dir: &Path) -> Option<Book> {
    decode(&crate::disk::read_bounded(&path(data_dir)).ok()?)
}

/// Leaves that are looked through at a time, from the end.
const LEAVES: usize = 1024;

/// The newest book in the service's own log.
pub(crate) async fn from_log(realm: &Tenant) -> Result<Option<Book>, CatalogError> {
    let mut end = realm.catalog.log_size().await?;
    while end > 0 {
        let start = end.saturating_sub(LEAVES as u64);
        let leaves = realm.catalog.leaves(start, LEAVES).await?;
        if let Some(book) = leaves.iter().rev().find_map(|leaf| book_of(leaf)) {
            return Ok(Some(book));
        }
        end = start;
    }
    Ok(None)
}

fn book_of(leaf: &[u8]) -> Option<Book> {
    let leaf = LeafText::read(leaf)?;
    let named = leaf.operation() == operation_name(Operation::SiteReach);
    named.then(|| decode(leaf.subject().as_bytes())).flatten()
}

impl Service {
    /// Quarantines the sites that are older than the last run of the service
    /// remembered; whether it left a memory.
    pub(crate) async fn hold_sites_against_the_last_run(&self) -> bool {
        match read(&self.data_dir) {
            Some(book) => {
                self.hold_sites_against(book).await;
                true
            }
            None => false,
        }
    }

    /// Quarantines the sites that are older than the service's log last saw them.
    pub(crate) async fn hold_sites_against_the_log(&self) -> Result<(), CatalogError> {
        let book = match self.service_realm() {
            Some(realm) => from_log(&realm).await?.unwrap_or_default(),
            None => Book::new(),
        };
        self.write_book(&book);
        self.hold_sites_against(book).await;
        Ok(())
    }

    async fn hold_sites_against(&self, book: Book) {
        for (id, remembered) in &book {
            if let Some(guard) = self.sites.guard(*id) {
                guard.hold_against(remembered.reach).await;
                if remembered.quarantined {
                    guard.quarantine();
                }
            }
        }
        *self.reach_noted.lock().await = book;
    }

    /// Looks how far the sites reach now, and remembers it on disk if that has
    /// changed; notes in the log which sites were quarantined since the last time.
    pub(crate) async fn note_reach(&self) -> Result<(), AuditError> {
        let mut noted = self.reach_noted.lock().await;
        let book = self.observe_sites(&noted).await;
        if *noted == book {
            return Ok(());
        }
        let fresh = book
            .iter()
            .filter(|(id, now)| now.quarantined && !noted.get(id).is_some_and(|before| before.quarantined));
        for (id, _) in fresh {
            self.note_site(Operation::SiteQuarantine, id.to_string()).await?;
        }
        self.write_book(&book);
        *noted = book;
        Ok(())
    }

    /// What cannot be written now is written after the next change; the log
    /// has an earlier book.
    fn write_book(&self, book: &Book) {
        if let Some(text) = encode(book) {
            let _ = crate::disk::write_durably(&path(&self.data_dir), text.as_bytes());
        }
    }

    /// Puts the book into the service's own log, where a recovery finds it
    /// under the checkpoint that the kit pins.
    pub(crate) async fn pin_reach(&self) -> Result<(), AuditError> {
        let book = self.observe_sites(&*self.reach_noted.lock().await).await;
        match encode(&book) {
            Some(text) if !book.is_empty() => self.note_site(Operation::SiteReach, text).await,
            _ => Ok(()),
        }
    }

    /// How far every site reaches now; of one that is not there, what was
    /// known before.
    async fn observe_sites(&self, before: &Book) -> Book {
        let mut book = before.clone();
        for (id, guard) in self.sites.guards() {
            guard.observe().await;
            let quarantined = guard.is_quarantined();
            if let Some(reach) = guard.known() {
                book.insert(id, Remembered { reach, quarantined });
            }
        }
        book
    }

    /// Ends the quarantine of a site that a repair has compared with the
    /// others and brought everything that it lacked.
    ///
    /// # Errors
    /// [`ReleaseError`]; it stays quarantined.
    pub async fn release_site(&self, id: SiteId) -> Result<(), ReleaseError> {
        let guard = self.sites.guard(id).ok_or(ReleaseError::NoSite(id))?;
        self.note_site(Operation::SiteRelease, id.to_string()).await?;
        guard.release().await?;
        Ok(self.note_reach().await?)
    }

    async fn note_site(&self, operation: Operation, subject: String) -> Result<(), AuditError> {
        let Some(realm) = self.service_realm() else { return Ok(()) };
        let event = self.own_event(Some(realm.id), operation, subject, Outcome::Done);
        realm.note(&event).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_reads_back_and_another_format_or_a_cut_one_is_none() {
        let reach = Reach { sequence: 7, digest: Digest([0xab; 32]) };
        let book: Book = [(SiteId::from_bytes([1; 16]), Remembered { reach, quarantined: true })].into();
        let text = encode(&book).unwrap();
        assert_eq!(decode(text.as_bytes()), Some(book));
        assert_eq!(decode(text.replace("\"format\":1", "\"format\":2").as_bytes()), None);
        assert_eq!(decode(text.replace("abab", "ab").as_bytes()), None);
        for end in 0..text.len() {
            assert_eq!(decode(&text.as_bytes()[..end]), None, "{end}");
        }
    }
}
