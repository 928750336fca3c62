//! Reading what the file system says about one entry: kind, mode, owner,
//! times, extended attributes, and where a file has data.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{FileType, SeekFrom, Stat, flistxattr, lgetxattr, llistxattr, major, minor, seek};
use rustix::io::Errno;

use super::entry::{Entry, Kind, Mtime};

/// Mode bits that are restored.
pub(crate) const MODE_BITS: u32 = 0o7777;

/// The kind that `stat` names; none for one that does not exist on Linux.
pub(crate) fn kind_of(stat: &Stat) -> Option<Kind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::Socket => Some(Kind::Socket),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        FileType::Unknown => None,
    }
}

/// The modification time that `stat` names.
pub(crate) fn mtime_of(stat: &Stat) -> Mtime {
    Mtime { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// The entry that `stat` describes, without attributes and content.
pub(crate) fn entry_of(path: &[u8], kind: Kind, stat: &Stat) -> Entry {
    let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice)
        .then(|| (major(stat.st_rdev), minor(stat.st_rdev)));
    let size = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
    Entry {
        path: path.to_vec(),
        kind,
        mode: stat.st_mode & MODE_BITS,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime_of(stat),
        xattrs: BTreeMap::new(),
        hard_link_to: None,
        size,
        data: Vec::new(),
        content: None,
        symlink_target: None,
        device,
    }
}

/// A path to `name` in an open directory, for the calls that know no `at`
/// form. The last component is never followed by the `l` calls.
pub(crate) fn proc_path(directory: impl AsFd, name: &CStr) -> CString {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    // Neither part can hold a zero byte; an empty path would fail with ENOENT.
    CString::new(path).unwrap_or_default()
}

/// The magic link to an open file.
pub(crate) fn proc_self(file: impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Extended attributes of an open file or directory.
pub(crate) fn xattrs_of_fd(file: impl AsFd) -> Result<Xattrs, Errno> {
    let names = growing(|buffer| flistxattr(file.as_fd(), buffer))?;
    collect(&names, |name, buffer| rustix::fs::fgetxattr(file.as_fd(), name, buffer))
}

/// Extended attributes of something that cannot be opened, by
/// [`proc_path`], not following it.
pub(crate) fn xattrs_of_path(path: &CStr) -> Result<Xattrs, Errno> {
    let names = growing(|buffer| llistxattr(path, buffer))?;
    collect(&names, |name, buffer| lgetxattr(path, name, buffer))
}

fn collect(
    names: &[u8],
    mut get: impl FnMut(&CStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<Xattrs, Errno> {
    let mut found = BTreeMap::new();
    for name in names.split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        match growing(|buffer| get(name, buffer)) {
            Ok(value) => {
                found.insert(name.to_bytes().to_vec(), value);
            }
            // Removed between the listing and the reading: it is not there.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

/// Runs a call that fails with ERANGE while its buffer is too small; what it
/// fills may grow between two calls. The kernel's own limit is 64 KiB.
fn growing(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut stack = [0; 256];
    match call(&mut stack) {
        Ok(length) => return Ok(stack.get(..length).unwrap_or_default().to_vec()),
        // The file system has no attributes at all.
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut buffer = vec![0; 64 << 10];
    let length = call(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Where an open file has data, up to `size`: ascending and merged. A file
/// system without holes answers with one extent.
pub(crate) fn data_extents(file: impl AsFd, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file.as_fd(), SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(vec![(0, size)]),
            Err(errno) => return Err(errno),
        };
        // A file that grows meanwhile: the rest is the next backup's.
        if start >= size {
            break;
        }
        let stop = match seek(file.as_fd(), SeekFrom::Hole(start)) {
            // Cut short between the two calls.
            Err(Errno::NXIO) => break,
            other => other?.min(size),
        };
        match extents.last_mut() {
            Some((offset, length)) if *offset + *length == start => *length += stop - start,
            _ => extents.push((start, stop - start)),
        }
        if stop <= at {
            break;
        }
        at = stop;
    }
    Ok(extents)
}
