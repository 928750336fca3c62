//! Removing a tree, however deep it is.
//!
//! A restored tree may be nested deeper than a path can name and than a
//! process may hold files open, and its directories may be read-only. So every
//! step is relative to an open directory, and nothing descends: directories
//! that are found inside are moved up, directly below the root of the tree,
//! until none is left.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter that removes trees")]

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, chmodat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Removes a tree, also where its directories were restored read-only; what is
/// not there is gone.
///
/// # Errors
/// What the system says of the first entry that stays.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.is_dir() => remove_directory(path),
        Ok(_) => fs::remove_file(path),
    }
}

fn remove_directory(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    let root = fs::File::open(path)?;
    let mut waiting = clear(root.as_fd())?;
    let taken: BTreeSet<CString> = waiting.iter().cloned().collect();
    let mut fresh = (0_u64..).map(|n| n.to_string()).filter_map(|name| CString::new(name).ok());
    while let Some(name) = waiting.pop() {
        let dir = open_writable(root.as_fd(), &name)?;
        for inner in clear(dir.as_fd())? {
            // A directory that moves must itself be writable: its ".." changes.
            chmodat(&dir, &inner, Mode::RWXU, AtFlags::empty())?;
            let Some(moved) = fresh.find(|name| !taken.contains(name)) else { break };
            renameat(&dir, &inner, &root, &moved)?;
            waiting.push(moved);
        }
        unlinkat(&root, &name, AtFlags::REMOVEDIR)?;
    }
    fs::remove_dir(path)
}

fn open_writable(parent: BorrowedFd<'_>, name: &CString) -> io::Result<std::os::fd::OwnedFd> {
    chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// Unlinks everything in a directory but directories; these are returned.
fn clear(dir: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut directories = Vec::new();
    let mut others = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        match entry.file_type() {
            _ if [c".", c".."].contains(&name.as_c_str()) => {}
            FileType::Directory => directories.push(name),
            _ => others.push(name),
        }
    }
    for name in others {
        match unlinkat(dir, &name, AtFlags::empty()) {
            // A file system that does not tell kinds in its listings.
            Err(Errno::ISDIR) => directories.push(name),
            result => result?,
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    #[test]
    fn a_tree_too_deep_for_a_path_and_read_only_is_removed_and_nothing_beside_it() {
        let outer = tempfile::tempdir().unwrap();
        let (root, beside) = (outer.path().join("tree"), outer.path().join("beside"));
        fs::create_dir_all(root.join("0")).unwrap();
        fs::write(root.join("0/file"), "x").unwrap();
        fs::create_dir(&beside).unwrap();
        fs::write(beside.join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(&beside, root.join("link")).unwrap();
        let name = CString::new("n".repeat(250)).unwrap();
        let mut dir = std::os::fd::OwnedFd::from(fs::File::open(&root).unwrap());
        for _ in 0..1500 {
            mkdirat(&dir, &name, Mode::RWXU).unwrap();
            let inner = open_writable(dir.as_fd(), &name).unwrap();
            chmodat(&dir, &name, Mode::RUSR | Mode::XUSR, AtFlags::empty()).unwrap();
            dir = inner;
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert!(beside.join("kept").exists());
        remove_tree(&root).unwrap();
    }
}
