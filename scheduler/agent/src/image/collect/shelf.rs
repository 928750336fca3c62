//! The disk of the image store, as a collection touches it: a port, so that it
//! can be cut off between any two steps.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::files;

/// How full a disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes of it.
    pub(crate) capacity: u64,
    /// Bytes that are still to be had, by those without privileges.
    pub(crate) available: u64,
}

/// The disk.
pub(crate) trait Shelf: Send + Sync {
    /// How full the disk of a directory is.
    fn room(&self, directory: &Path) -> io::Result<Room>;
    /// Gives a file or a directory another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory outlive the machine.
    fn sync(&self, directory: &Path) -> io::Result<()>;
    /// Removes a file, or a directory with all that is in it.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The kernel's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KernelShelf;

impl Shelf for KernelShelf {
    fn room(&self, directory: &Path) -> io::Result<Room> {
        let stat = rustix::fs::statvfs(directory)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Room { capacity: bytes(stat.f_blocks), available: bytes(stat.f_bavail) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync(&self, directory: &Path) -> io::Result<()> {
        files::open(directory)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => files::remove_tree(path),
            Ok(_) => std::fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Room {
    /// Whether so many percent of the disk are used.
    pub(crate) fn is_used(self, percent: u8) -> bool {
        let used = u128::from(self.capacity.saturating_sub(self.available));
        self.capacity > 0 && used * 100 >= u128::from(self.capacity) * u128::from(percent)
    }

    /// How many bytes have to become free until no more than so many percent are used.
    pub(crate) fn missing(self, percent: u8) -> u64 {
        let free = u128::from(self.capacity) * u128::from(100_u8.saturating_sub(percent)) / 100;
        u64::try_from(free).unwrap_or(u64::MAX).saturating_sub(self.available)
    }

    /// Percent of it that are used.
    pub(crate) fn percent(self) -> u64 {
        let used = u128::from(self.capacity.saturating_sub(self.available));
        u64::try_from(used * 100 / u128::from(self.capacity.max(1))).unwrap_or(100)
    }
}

/// Bytes that a file or a directory takes on the disk. A file with several names counts once for all of them.
pub(crate) fn taken(path: &Path) -> io::Result<u64> {
    let found = std::fs::symlink_metadata(path)?;
    let blocks = found.blocks().saturating_mul(512);
    if !found.is_dir() {
        return Ok(blocks / found.nlink().max(1));
    }
    let mut sum = blocks;
    for entry in std::fs::read_dir(path)? {
        sum = sum.saturating_add(taken(&entry?.path())?);
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_reached_at_its_percent_and_what_is_to_be_freed_leads_to_the_other_one() {
        let room = |available| Room { capacity: 1000, available };
        assert!(!room(151).is_used(85) && room(150).is_used(85) && room(0).is_used(100));
        assert_eq!((room(100).missing(80), room(200).missing(80), room(900).missing(80)), (100, 0, 0));
        assert_eq!((room(100).percent(), room(1000).percent()), (90, 0));
        // A file system that has no size says nothing.
        assert!(!Room { capacity: 0, available: 0 }.is_used(0));
        let huge = Room { capacity: u64::MAX, available: 0 };
        assert!(huge.is_used(100) && huge.missing(0) == u64::MAX);
    }
}
