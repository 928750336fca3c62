//! What a restored tree differs in from its source, entry by entry and class
//! by class. Nothing is forgiven: a class that the file system cannot hold is
//! reported, and its reader decides.
//!
//! Holes are compared exactly as the two file systems reported them, merged.
//! Restored to a file system of the same block size, a sparse file has the
//! same map; on one with larger blocks its data grows into the holes, which is
//! a difference of class `Holes` although every byte is right.

use core::cmp::Ordering;
use core::fmt;
use std::io::BufRead;

use coffer_model::escape_bytes;

use super::entry::{Entry, Kind, path_order};
use super::manifest::{Manifest, ManifestError, ManifestReader};

/// In what two entries of one path differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DifferenceClass {
    /// In the source, not in the restored tree.
    Missing,
    /// In the restored tree, not in the source.
    Extra,
    /// File, directory, link and so on; nothing else is then compared.
    Kind,
    /// Size or bytes of a file.
    Content,
    /// Permission, set-id and sticky bits; not of symbolic links, which have none.
    Mode,
    /// User or group.
    Owner,
    /// Modification time, to the nanosecond.
    Mtime,
    /// Extended attributes other than access control lists.
    Xattr,
    /// Access control lists.
    Acl,
    /// Which names are one file.
    HardLink,
    /// Where a file has data and where holes.
    Holes,
    /// Where a symbolic link points.
    SymlinkTarget,
    /// Device numbers.
    Device,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Path of the entry, raw bytes; empty for the root.
    pub path: Vec<u8>,
    /// In what.
    pub class: DifferenceClass,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.class, escape_bytes(&self.path))
    }
}

/// All differences between two manifests, in path order.
pub fn compare(source: &Manifest, restored: &Manifest) -> Vec<Difference> {
    let mut found = Vec::new();
    let (mut source, mut restored) = (source.entries.iter().peekable(), restored.entries.iter().peekable());
    loop {
        match pair(source.peek().copied(), restored.peek().copied(), &mut found) {
            Step::End => return found,
            Step::Source => drop(source.next()),
            Step::Restored => drop(restored.next()),
            Step::Both => drop((source.next(), restored.next())),
        }
    }
}

/// The same over two manifests in text form, in little memory.
///
/// # Errors
/// [`ManifestError`] of either text.
pub fn compare_streams(
    source: impl BufRead,
    restored: impl BufRead,
) -> Result<Vec<Difference>, ManifestError> {
    let mut found = Vec::new();
    let mut source = ManifestReader::new(source)?;
    let mut restored = ManifestReader::new(restored)?;
    let (mut ours, mut theirs) = (source.next_entry()?, restored.next_entry()?);
    loop {
        let step = pair(ours.as_ref(), theirs.as_ref(), &mut found);
        if matches!(step, Step::End) {
            return Ok(found);
        }
        if matches!(step, Step::Source | Step::Both) {
            ours = source.next_entry()?;
        }
        if matches!(step, Step::Restored | Step::Both) {
            theirs = restored.next_entry()?;
        }
    }
}

/// Which side the merge goes on with.
enum Step {
    Source,
    Restored,
    Both,
    End,
}

fn pair(source: Option<&Entry>, restored: Option<&Entry>, found: &mut Vec<Difference>) -> Step {
    let order = match (source, restored) {
        (None, None) => return Step::End,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(s), Some(r)) => path_order(&s.path, &r.path),
    };
    let alone = |entry: Option<&Entry>, class| entry.map(|e| Difference { path: e.path.clone(), class });
    match order {
        Ordering::Less => {
            found.extend(alone(source, DifferenceClass::Missing));
            Step::Source
        }
        Ordering::Greater => {
            found.extend(alone(restored, DifferenceClass::Extra));
            Step::Restored
        }
        Ordering::Equal => {
            if let (Some(source), Some(restored)) = (source, restored) {
                compare_entries(source, restored, found);
            }
            Step::Both
        }
    }
}

fn compare_entries(source: &Entry, restored: &Entry, found: &mut Vec<Difference>) {
    let mut differ = |class, different: bool| {
        if different {
            found.push(Difference { path: source.path.clone(), class });
        }
    };
    if source.kind != restored.kind {
        return differ(DifferenceClass::Kind, true);
    }
    let same_content = (source.size, source.content) == (restored.size, restored.content);
    differ(DifferenceClass::Content, !same_content);
    differ(DifferenceClass::Mode, source.kind != Kind::Symlink && source.mode != restored.mode);
    differ(DifferenceClass::Owner, (source.uid, source.gid) != (restored.uid, restored.gid));
    differ(DifferenceClass::Mtime, source.mtime != restored.mtime);
    differ(DifferenceClass::Xattr, !same_xattrs(source, restored, false));
    differ(DifferenceClass::Acl, !same_xattrs(source, restored, true));
    let same_links = source.hard_link_to == restored.hard_link_to;
    differ(DifferenceClass::HardLink, !same_links);
    // A name that is a link on one side only has no map of its own there, and
    // another size has another map anyway: neither says anything new.
    let comparable = same_links && source.size == restored.size;
    differ(DifferenceClass::Holes, comparable && source.data != restored.data);
    differ(DifferenceClass::SymlinkTarget, source.symlink_target != restored.symlink_target);
    differ(DifferenceClass::Device, source.device != restored.device);
}

fn same_xattrs(source: &Entry, restored: &Entry, acl: bool) -> bool {
    let of = |entry: &'_ Entry| -> Vec<(Vec<u8>, Vec<u8>)> {
        let wanted = entry.xattrs.iter().filter(|(name, _)| is_acl(name) == acl);
        wanted.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    if source.xattrs == restored.xattrs { true } else { of(source) == of(restored) }
}

/// Whether an extended attribute is an access control list.
pub(crate) fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_") || name == b"system.nfs4_acl"
}
