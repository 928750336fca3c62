//! The calls by which this crate changes a disk, behind a port, so that a test
//! or a simulation can make them fail and lose what was not fsynced; and the
//! few reads that everything shares.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter")]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

/// The kernel takes at most this many slices in one call (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// Every change that a [`DirectorySite`](crate::DirectorySite) makes to its
/// directory. Files are files of this machine also where an implementation
/// keeps a journal of them, so reading needs no port.
pub trait Disk: Send + Sync {
    /// Makes an empty file, or empties the one that is there; open for both
    /// reading and writing. Its name is durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the system says.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Writes all of `parts`, one after the other, from `offset` on.
    ///
    /// # Errors
    /// What the system says; then a part of it may have been written.
    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Returns when data and length of the file are on the medium.
    ///
    /// # Errors
    /// What the system says; then nobody knows what is on the medium.
    fn sync_data(&self, file: &File) -> io::Result<()>;

    /// As [`Disk::sync_data`], with everything else about the file.
    ///
    /// # Errors
    /// As [`Disk::sync_data`].
    fn sync_all(&self, file: &File) -> io::Result<()>;

    /// Sets the length of the file, and gives back blocks reserved behind it.
    ///
    /// # Errors
    /// What the system says.
    fn cut(&self, file: &File, length: u64) -> io::Result<()>;

    /// Reserves blocks for `bytes` bytes from `offset` on. The length of the
    /// file stays as it is.
    ///
    /// # Errors
    /// What the system says; not every file system can do this.
    fn reserve(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()>;

    /// Makes a directory and those above it, where they are missing.
    ///
    /// # Errors
    /// What the system says.
    fn make_dir(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of a file that has it.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes the name of a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Returns when the names in a directory are on the medium.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Lets go of cached pages, so that what is read next comes from the
    /// medium. Best effort: an operating system may keep them.
    fn forget_cached(&self, file: &File);

    /// Bytes of the file system under `path`: in all, and free for this user.
    ///
    /// # Errors
    /// What the system says.
    fn room(&self, path: &Path) -> io::Result<Room>;
}

/// How much a file system holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that this user may still write.
    pub free: u64,
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostDisk;

impl Disk for HostDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn write(&self, file: &File, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
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

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn reserve(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, bytes)?)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn forget_cached(&self, file: &File) {
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn room(&self, path: &Path) -> io::Result<Room> {
        let held = rustix::fs::statvfs(path)?;
        Ok(Room {
            total: held.f_blocks.saturating_mul(held.f_frsize),
            free: held.f_bavail.saturating_mul(held.f_frsize),
        })
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

/// Writes a whole new file that either exists with all of `bytes`, durably, or
/// not at all: under a name that ends in `.new`, then renamed.
pub(crate) fn create_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let made = || {
        let file = disk.create(temporary.as_ref())?;
        disk.write(&file, &mut [IoSlice::new(bytes)], 0)?;
        disk.sync_all(&file)?;
        disk.rename(temporary.as_ref(), path)?;
        Ok(file)
    };
    let file = made().inspect_err(|_: &io::Error| {
        // A full disk gets its room back; what stays is removed by an opening.
        let _ = disk.remove(temporary.as_ref());
    })?;
    if let Some(parent) = path.parent() {
        disk.sync_dir(parent)?;
    }
    Ok(file)
}

/// The files of `dir` that a crash left under their temporary names; nothing
/// in them was ever acknowledged.
pub(crate) fn leftovers(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "new") {
            found.push(path);
        }
    }
    Ok(found)
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

/// Opens or makes the file whose lock keeps a second opener out. It holds
/// nothing, so that losing it loses nothing.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}
