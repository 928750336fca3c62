//! The disk as a drill sees it: manifests, its list of what came back, and the
//! files with which the disk is measured.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of drills")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_model::Clock;

use super::predict::Rates;

/// What the disk refused.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct DiskError {
    /// The path.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DiskError + use<> {
    let path = path.to_owned();
    move |source| DiskError { path, source }
}

/// A file for reading in small steps.
pub(super) fn reader(path: &Path) -> Result<BufReader<File>, DiskError> {
    File::open(path).map(|file| BufReader::with_capacity(1 << 20, file)).map_err(at(path))
}

/// A new file of mode 0600.
pub(super) fn writer(path: &Path) -> Result<BufWriter<File>, DiskError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.map(|file| BufWriter::with_capacity(1 << 20, file)).map_err(at(path))
}

/// A directory of mode 0700 and its parents.
pub(super) fn make_directory(path: &Path) -> Result<(), DiskError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Removes a directory with everything below it; one that is not there is gone.
pub(super) fn remove_tree(path: &Path) -> Result<(), DiskError> {
    crate::backup::remove_tree(path).map_err(at(path))
}

/// A list that grows by whole lines; a torn last line is not one.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(at(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Its whole lines.
    pub(super) fn lines(&self) -> Result<Vec<String>, DiskError> {
        let mut text = Vec::new();
        File::open(&self.path).and_then(|mut file| file.read_to_end(&mut text)).map_err(at(&self.path))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = String::from_utf8_lossy(text.get(..whole).unwrap_or_default()).into_owned();
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Adds a line.
    pub(super) fn add(&mut self, line: &str) -> Result<(), DiskError> {
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(at(&self.path))
    }
}

/// Files and bytes of the calibration: enough to see what each costs.
const FILES: u32 = 400;
const LARGE_BYTES: usize = 32 << 20;

/// Measures what files cost on the disk of `scratch`, which is made and
/// removed again.
pub(super) fn calibrate(scratch: &Path, clock: &Arc<dyn Clock>) -> Result<Rates, DiskError> {
    make_directory(scratch)?;
    let measured = measure(scratch, clock);
    remove_tree(scratch)?;
    measured
}

fn measure(scratch: &Path, clock: &Arc<dyn Clock>) -> Result<Rates, DiskError> {
    let timed = |work: &dyn Fn() -> Result<(), DiskError>| -> Result<u64, DiskError> {
        let begun = clock.monotonic();
        work()?;
        let took: Duration = clock.monotonic().saturating_sub(begun);
        Ok(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))
    };
    let small = |n: u32| scratch.join(format!("small-{n}"));
    let large = scratch.join("large");
    let noise = vec![0x5a; LARGE_BYTES];
    let write = |path: &Path, bytes: &[u8]| {
        let mut file = File::create(path).map_err(at(path))?;
        file.write_all(bytes).map_err(at(path))
    };
    let read = |path: &Path| -> Result<(), DiskError> {
        fs::metadata(path).map_err(at(path))?;
        let mut hasher = blake3::Hasher::new();
        let file = File::open(path).map_err(at(path))?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        io::copy(&mut file, &mut hasher).map_err(at(path)).map(|_| ())
    };
    let few = |each: &dyn Fn(u32) -> Result<(), DiskError>| (0..FILES).try_for_each(each);
    let root = File::open(scratch).map_err(at(scratch))?;
    let sync = || rustix::fs::syncfs(&root).map_err(io::Error::from).map_err(at(scratch));
    // What others have left to write is not this drill's.
    sync()?;
    let files_written = timed(&|| few(&|n| write(&small(n), b"x")))?;
    let files_flushed = timed(&sync)?;
    let large_written = timed(&|| write(&large, &noise))?;
    let large_flushed = timed(&sync)?;
    let idle = timed(&sync)?;
    let files_read = timed(&|| few(&|n| read(&small(n))))?;
    let large_read = timed(&|| read(&large))?;
    let mib = u64::try_from(LARGE_BYTES >> 20).unwrap_or(1).max(1);
    Ok(Rates {
        file_write_ns: files_written / u64::from(FILES),
        file_write_mib_ns: large_written / mib,
        file_flush_ns: files_flushed.saturating_sub(idle) / u64::from(FILES),
        file_flush_mib_ns: large_flushed.saturating_sub(idle) / mib,
        sync_ns: idle,
        file_read_ns: files_read / u64::from(FILES),
        file_read_mib_ns: large_read / mib,
        ..Rates::default()
    })
}

/// Lines as the text of a file: each with its line feed.
pub fn lines_of(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}
