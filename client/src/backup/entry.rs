//! One entry of a tree: everything about it but its bytes.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use coffer_model::Digest;
use serde::{Deserialize, Serialize};

use super::chunk::ChunkRef;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, never followed.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket; only its place can be restored.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A modification time, whole: before 1970 and after 2554 too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mtime {
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    pub seconds: i64,
    /// Nanoseconds of the second, below 1,000,000,000.
    pub nanos: u32,
}

/// One entry of a tree, as the source had it. The two forms of access control
/// list are the extended attributes `system.posix_acl_access` and `_default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Below the root of the tree, components separated by `/`, raw bytes;
    /// empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky: `0o7777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Mtime,
    /// Extended attributes, name to value.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// For the second and later names of one file: the path of the first,
    /// which holds the content.
    pub hard_link_to: Option<Vec<u8>>,
    /// Length of a file in bytes, holes included; zero for all else.
    pub size: u64,
    /// Where a file has data, as (offset, length) in bytes: ascending, merged,
    /// within the size; the rest are holes. Empty in a hard link.
    pub data: Vec<(u64, u64)>,
    /// BLAKE3 of a file's whole content, holes as zeros.
    pub content: Option<Digest>,
    /// Where a symbolic link points.
    pub symlink_target: Option<Vec<u8>>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
}

/// An entry with the chunks of its data, as a snapshot stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredEntry {
    pub(crate) entry: Entry,
    /// The chunks of the bytes of all data extents, one after the other.
    pub(crate) chunks: Vec<ChunkRef>,
}

/// Why a path of a snapshot or manifest is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Starts with a slash.
    #[error("it is absolute")]
    Absolute,
    /// Has an empty, `.` or `..` component.
    #[error("it has an empty, \".\" or \"..\" component")]
    Component,
    /// Has a component of more than 255 bytes, or a zero byte.
    #[error("it has a component that no file system can hold")]
    Name,
}

/// Checks that a path stays below the root that it is relative to, as far as
/// the text can say; symbolic links are the restore's own matter. The empty
/// path is the root.
///
/// # Errors
/// [`PathError`].
pub fn check_relative_path(path: &[u8]) -> Result<(), PathError> {
    if path.is_empty() {
        return Ok(());
    }
    if path.starts_with(b"/") {
        return Err(PathError::Absolute);
    }
    for component in path.split(|b| *b == b'/') {
        if matches!(component, b"" | b"." | b"..") {
            return Err(PathError::Component);
        }
        if component.len() > 255 || component.contains(&0) {
            return Err(PathError::Name);
        }
    }
    Ok(())
}

/// The order of entries in scans, snapshots and manifests: bytewise by
/// component, so that a directory comes before what is in it, and all of that
/// before its next sibling.
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    // A separator sorts below every other byte; the rest is bytewise.
    let key = |byte: &u8| if *byte == b'/' { 0 } else { u16::from(*byte) + 1 };
    a.iter().map(key).cmp(b.iter().map(key))
}

/// The directory part and the last component of a relative path.
pub(crate) fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// The path of `name` in `directory`.
pub(crate) fn join_path(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + name.len() + 1);
    if !directory.is_empty() {
        path.extend_from_slice(directory);
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Total length of extents; none if they are not ascending, merged, non-empty
/// and within `size`.
pub(crate) fn extents_length(extents: &[(u64, u64)], size: u64) -> Option<u64> {
    let mut end = None;
    let mut total: u64 = 0;
    for (offset, length) in extents {
        let beyond_last = end.is_none_or(|end| *offset > end);
        if !beyond_last || *length == 0 {
            return None;
        }
        let stop = offset.checked_add(*length)?;
        if stop > size {
            return None;
        }
        end = Some(stop);
        total += length;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_leave_its_root_is_refused() {
        for path in [&b"../x"[..], b"/abs", b"a/../../b", b"..", b".", b"a//b", b"a/", b"a/./b", b"a\0b"] {
            assert!(check_relative_path(path).is_err(), "{path:?}");
        }
        assert!(check_relative_path(&[b'a'; 256]).is_err());
        assert!(check_relative_path(b"").is_ok());
        assert!(check_relative_path(b"a/..b/\xff").is_ok());
    }

    #[test]
    fn a_directory_comes_before_its_content_and_that_before_its_sibling() {
        let mut paths = [&b"a-b"[..], b"a/b", b"a", b"", b"a/b/c", b"a\x01"];
        paths.sort_by(|a, b| path_order(a, b));
        assert_eq!(paths, [&b""[..], b"a", b"a/b", b"a/b/c", b"a\x01", b"a-b"]);
    }

    #[test]
    fn extents_that_overlap_touch_or_overrun_are_refused() {
        assert_eq!(extents_length(&[(0, 4), (8, 4)], 12), Some(8));
        for bad in [&[(0, 4), (4, 4)][..], &[(0, 4), (2, 4)], &[(4, 4), (0, 4)], &[(0, 0)], &[(8, 8)]] {
            assert_eq!(extents_length(bad, 12), None, "{bad:?}");
        }
        assert_eq!(extents_length(&[(u64::MAX, 2)], u64::MAX), None);
    }
}
