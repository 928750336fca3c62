//! The calls by which this crate changes a disk, behind a small port so that
//! tests can make them fail, and the few reads that everything shares.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter")]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The kernel takes at most this many slices in one call (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// What the writer does to a volume file.
pub(crate) trait Disk: Send + Sync {
    /// Writes all of `parts`, one after the other, from `offset` on.
    fn append(&self, file: &File, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Returns when data and length of the file are on the medium.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Cuts the file to `length`, durably.
    fn cut(&self, file: &File, length: u64) -> io::Result<()>;
}

/// The disk of this machine.
pub(crate) struct HostDisk;

impl Disk for HostDisk {
    fn append(&self, file: &File, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let now = parts.len().min(SLICES_MAX);
            let written = match rustix::io::pwritev(file, &parts[..now], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            offset = offset.saturating_add(u64::try_from(written).unwrap_or(u64::MAX));
            IoSlice::advance_slices(&mut parts, written);
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)?;
        file.sync_all()
    }
}

/// Whether an error says that there is no room, and nothing worse.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Opens a file for reading and, unless `read_only`, writing.
pub(crate) fn open_file(path: &Path, read_only: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(!read_only).open(path)
}

/// Makes entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a whole new file that either exists with all of `bytes`, durably, or
/// not at all: under a name that ends in `.new`, then renamed.
pub(crate) fn create_file(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    if let Some(parent) = path.parent() {
        sync_dir(parent)?;
    }
    Ok(file)
}

/// Reads a file of at most `limit` bytes; a longer one is an error.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= limit => Ok(bytes),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// Opens or makes the file whose lock keeps a second opener out.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}
