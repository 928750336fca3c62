//! What happens to the files of the catalogues when the service dies. Catalogues are written with
//! `synchronous=FULL`: a commit is answered after its fsync, so that no crash loses one. What a crash can leave
//! is what was not fsynced yet: the tail of the write-ahead log beyond its last commit, and the pages that a
//! checkpoint of SQLite was writing while the log still had them. Both are made up here. And somebody can put
//! back a copy of an earlier moment, which must not be taken for what there is.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::chance::Chance;
use super::stage::{Stage, copy, files_in};

/// The service remembers every two seconds how long its logs are.
const REMEMBERED_EVERY: Duration = Duration::from_millis(2_200);

/// How long each log was when the service last remembered it, by tenant.
type Sizes = BTreeMap<String, u64>;

/// Where a copy of the catalogues lies.
#[derive(Default)]
pub(crate) struct Shelf {
    copied: Mutex<Copied>,
}

#[derive(Default)]
struct Copied {
    number: u64,
    /// No log was longer when they were copied; `None`: not known yet.
    sizes: Option<Sizes>,
}

impl Shelf {
    fn copied(&self) -> MutexGuard<'_, Copied> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn catalogues(stage: &Stage) -> PathBuf {
    stage.data().join("service").join("catalogues")
}

fn shelf(stage: &Stage) -> PathBuf {
    stage.scratch().join("shelf")
}

/// What the service remembers now.
fn remembered(stage: &Stage) -> Sizes {
    let text = std::fs::read(stage.data().join("log-sizes.json")).unwrap_or_default();
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let logs = file.get("logs").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    let line = |line: &serde_json::Value| {
        Some((line.get("tenant")?.as_str()?.to_owned(), line.get("leaves")?.as_u64()?))
    };
    logs.iter().filter_map(line).collect()
}

/// Copies the catalogues in some cases, as somebody who makes backups may do.
pub(crate) fn copy_now_and_then(stage: &Arc<Stage>) {
    let chance = Chance::new(stage.seed, &format!("copy {}", stage.clock.elapsed_ms()));
    if !chance.permille(350) || !stage.is_up() {
        return;
    }
    stage.trace.fault("catalogues copied", "");
    let _ = std::fs::remove_dir_all(shelf(stage));
    copy(&catalogues(stage), &shelf(stage));
    let number = {
        let mut copied = stage.shelf.copied();
        *copied = Copied { number: copied.number + 1, sizes: None };
        copied.number
    };
    let stage = Arc::clone(stage);
    tokio::spawn(async move {
        sleep(REMEMBERED_EVERY).await;
        let mut copied = stage.shelf.copied();
        // One that runs has remembered them since, in its time or when it started.
        if copied.number == number && stage.is_up() {
            copied.sizes = Some(remembered(&stage));
        }
    });
}

/// Those on the shelf that are older than what the service remembers, in order.
fn older(stage: &Stage) -> Vec<PathBuf> {
    let copied = stage.shelf.copied();
    let Some(before) = &copied.sizes else { return Vec::new() };
    let now = remembered(stage);
    let mut paths = files_in(&shelf(stage));
    paths.retain(|path| {
        let tenant =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".db"));
        let sizes = tenant.and_then(|tenant| before.get(tenant).zip(now.get(tenant)));
        sizes.is_some_and(|(before, now)| now > before)
    });
    paths
}

/// Whether some are put back in this crash.
pub(crate) fn come_back(stage: &Stage) -> bool {
    let chance = Chance::new(stage.seed, &format!("put back {}", stage.clock.elapsed_ms()));
    chance.permille(500) && !older(stage).is_empty()
}

/// Puts one of those that are older in the place of what there is, or all of them.
pub(crate) fn put_back(stage: &Stage, catalogues: &Path) {
    let chance = Chance::new(stage.seed, &format!("which {}", stage.clock.elapsed_ms()));
    let mut paths = older(stage);
    if chance.permille(500) && !paths.is_empty() {
        paths = vec![paths.swap_remove(chance.index(paths.len()))];
    }
    for path in paths {
        for suffix in ["", "-wal", "-shm"] {
            let mut from = path.clone().into_os_string();
            from.push(suffix);
            let from = PathBuf::from(from);
            let Some(to) = from.file_name().map(|name| catalogues.join(name)) else { continue };
            let _ = std::fs::remove_file(&to);
            if from.exists() {
                let _ = std::fs::copy(&from, &to);
            }
        }
    }
}

/// Leaves of each catalogue what a power cut can leave.
pub(crate) fn tear(stage: &Stage, catalogues: &Path) {
    let chance = Chance::new(stage.seed, &format!("torn {}", stage.clock.elapsed_ms()));
    for path in files_in(catalogues) {
        if path.extension().is_none_or(|end| end != "db") {
            continue;
        }
        // Drawn for each file, whatever is in it.
        let (tail, pages) = (chance.permille(400), chance.permille(300));
        let mut noise = vec![0; 9_000];
        chance.fill(&mut noise);
        let mut wal = path.clone().into_os_string();
        wal.push("-wal");
        let Some(log) = Log::read(Path::new(&wal)) else { continue };
        if tail && log.tear_tail(Path::new(&wal), &noise).is_some() {
            stage.trace.fault("catalogue tail torn", "");
        }
        if pages && log.tear_pages(&path, &noise).is_some() {
            stage.trace.fault("catalogue pages torn", "");
        }
    }
}

/// Bytes before the first frame of a write-ahead log, and before the page of a
/// frame (sqlite.org/fileformat2.html, 4.1).
const LOG_HEAD: usize = 32;
const FRAME_HEAD: usize = 24;

/// A write-ahead log up to its last commit.
struct Log {
    page_bytes: usize,
    /// What the frames of this log have in common.
    salts: [u8; 8],
    /// The page of each frame.
    pages: Vec<u32>,
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Log {
    /// Nothing where there is none, or nothing is in it.
    fn read(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let page_bytes = usize::try_from(number(&bytes, 8)?).ok()?;
        let salts: [u8; 8] = *bytes.get(16..)?.first_chunk()?;
        let (mut pages, mut committed, mut at) = (Vec::new(), 0, LOG_HEAD);
        while let Some(frame) = bytes.get(at..at + FRAME_HEAD + page_bytes) {
            // Of the log before, whose place this one took.
            if frame.get(8..16) != Some(&salts) {
                break;
            }
            pages.push(number(frame, 0)?);
            if number(frame, 4)? != 0 {
                committed = pages.len();
            }
            at += FRAME_HEAD + page_bytes;
        }
        pages.truncate(committed);
        (committed > 0).then_some(Self { page_bytes, salts, pages })
    }

    /// A transaction that was being written: of its frame some bytes arrived.
    fn tear_tail(&self, path: &Path, noise: &[u8]) -> Option<()> {
        let end = LOG_HEAD + self.pages.len() * (FRAME_HEAD + self.page_bytes);
        let (kind, length) = (noise.first()? % 3, usize::from(*noise.get(1)?) * 32 + 1);
        let mut torn = match kind {
            0 => vec![0; length],
            _ => noise.get(..length)?.to_vec(),
        };
        if kind == 1 {
            // Its head looks like one of this log that ends a transaction.
            torn.resize(torn.len().max(FRAME_HEAD + self.page_bytes), 0);
            torn.splice(..8, [0, 0, 0, 1, 0, 0, 0, 9]);
            torn.splice(8..16, self.salts);
        }
        let file = File::options().write(true).open(path).ok()?;
        file.write_all_at(&torn, u64::try_from(end).ok()?).ok()
    }

    /// A checkpoint was being written: pages are half there that the log still
    /// has. The first page begins with what never changes, and is left alone.
    fn tear_pages(&self, path: &Path, noise: &[u8]) -> Option<()> {
        let file = File::options().write(true).open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let mut torn = None;
        for place in noise.chunks(2).take(3) {
            let place = place.iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte));
            let page = *self.pages.get(place % self.pages.len())?;
            let at = u64::from(page.saturating_sub(1)) * u64::try_from(self.page_bytes).ok()?;
            if page > 1 && at + u64::try_from(self.page_bytes).ok()? <= length {
                file.write_all_at(noise.get(..self.page_bytes / 2)?, at).ok()?;
                torn = Some(());
            }
        }
        torn
    }
}
