//! The tree that a restore writes. Nothing outside it can be reached: every
//! entry is made by its single name in a directory that this run made itself
//! and holds open, and no link is ever followed.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use coffer_model::escape_bytes;
use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, fremovexattr, fsync, linkat, mkdirat, openat, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::entry::{Entry, Kind, split_path};
use super::plan::PlanError;
use super::problem::Problem;
use super::restore::RestoreError;
use super::target_file::TargetFile;
use super::target_metadata::{apply_to_fd, apply_to_name, make_special};

/// Name of the file in the target's root that is there while the restore is
/// not finished. A tree that has it is not whole; backups and manifests
/// refuse to treat it as an entry.
pub const UNFINISHED_MARKER: &[u8] = b".coffer-restore-unfinished";

/// Only the owner, until the real mode is set.
const PRIVATE_DIRECTORY: u32 = 0o700;
const OWNER_SEARCHES: u32 = 0o500;

/// A directory that is being filled.
struct OpenDirectory {
    entry: Entry,
    handle: OwnedFd,
}

/// A tree in the making.
pub(crate) struct Target {
    /// From the root down to the directory of the last entry.
    open: Vec<OpenDirectory>,
    root: OwnedFd,
    root_entry: Option<Entry>,
    file: Option<TargetFile>,
    /// Left directories whose mode would lock out a hard link that may still
    /// come; children before parents.
    locked_later: Vec<Entry>,
    entries: u64,
    problems: Vec<Problem>,
}

/// Refuses a target that is there and not an empty directory.
pub(crate) fn check_target(path: &Path) -> Result<(), PlanError> {
    let refused = |errno| PlanError::Target { path: path.to_owned(), errno };
    let root = match open_root(path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(refused)?,
    };
    if is_empty(&root).map_err(refused)? {
        Ok(())
    } else {
        Err(PlanError::TargetNotEmpty { path: path.to_owned() })
    }
}

fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn is_empty(directory: &OwnedFd) -> Result<bool, Errno> {
    for item in Dir::read_from(directory)? {
        if !matches!(item?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Names the step and entry that failed.
pub(crate) fn at<T>(step: &'static str, path: &[u8], result: Result<T, Errno>) -> Result<T, RestoreError> {
    result.map_err(|errno| RestoreError::Target { step, path: escape_bytes(path), errno })
}

/// A component as the system takes it; checked paths hold no zero byte.
fn component(name: &[u8]) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::INVAL)
}

impl Target {
    /// Makes the target directory, if it is not there, and marks it.
    pub(crate) fn create(path: &Path) -> Result<Self, RestoreError> {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(PRIVATE_DIRECTORY)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return at("create", b"", Err(errno)),
        }
        let root = at("open", b"", open_root(path))?;
        if !at("list", b"", is_empty(&root))? {
            return Err(RestoreError::TargetNotEmpty { path: path.to_owned() });
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let marker = openat(&root, UNFINISHED_MARKER, flags, Mode::RUSR | Mode::WUSR);
        let marker = at("mark", b"", marker)?;
        at("mark", b"", fsync(&marker).and_then(|()| fsync(&root)))?;
        // A list that new entries would inherit; the root's own comes at the end.
        match fremovexattr(&root, "system.posix_acl_default") {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return at("clear the access control list of", b"", Err(errno)),
        }
        Ok(Self {
            open: Vec::new(),
            root,
            root_entry: None,
            file: None,
            locked_later: Vec::new(),
            entries: 0,
            problems: Vec::new(),
        })
    }

    /// Makes the next entry; a file's bytes follow by [`Self::write`].
    pub(crate) fn place(&mut self, entry: Entry) -> Result<(), RestoreError> {
        self.finish_file()?;
        self.entries += 1;
        if entry.path.is_empty() {
            self.root_entry = Some(entry);
            return Ok(());
        }
        let (parent, name) = split_path(&entry.path);
        self.leave_until(parent)?;
        let name = at("name", &entry.path, component(name))?;
        if let Some(first) = &entry.hard_link_to {
            return self.link(first, &entry.path, &name);
        }
        let parent = self.open.last().map_or(&self.root, |open| &open.handle);
        match entry.kind {
            Kind::Directory => {
                let mode = Mode::from_raw_mode(PRIVATE_DIRECTORY);
                at("create", &entry.path, mkdirat(parent, &name, mode))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let handle = at("open", &entry.path, openat(parent, &name, flags, Mode::empty()))?;
                self.open.push(OpenDirectory { entry, handle });
            }
            Kind::File => {
                let file = TargetFile::create(parent, &name, entry)?;
                self.file = Some(file);
                // An empty file gets no bytes.
                if self.file.as_ref().is_some_and(TargetFile::is_complete) {
                    self.finish_file()?;
                }
            }
            _ => match make_special(parent, &name, &entry) {
                Ok(()) => apply_to_name(parent, &name, &entry, &mut self.problems),
                // Making a device needs privilege; its absence is reported.
                Err(errno @ (Errno::PERM | Errno::ACCESS)) => {
                    self.entries -= 1;
                    self.problems.push(Problem::restoring(&entry.path, "create", errno));
                }
                Err(errno) => return at("create", &entry.path, Err(errno)),
            },
        }
        Ok(())
    }

    /// The next bytes of the last file.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), RestoreError> {
        let Some(file) = &mut self.file else { return Err(RestoreError::Worker) };
        file.write(data)?;
        if file.is_complete() { self.finish_file() } else { Ok(()) }
    }

    /// Ends the tree: every directory gets its metadata, everything reaches
    /// the disk, and only then the marker goes.
    pub(crate) fn finish(mut self) -> Result<(u64, Vec<Problem>), RestoreError> {
        self.finish_file()?;
        self.leave_all()?;
        for entry in std::mem::take(&mut self.locked_later) {
            let handle = at("open", &entry.path, self.reopen(&entry.path))?;
            apply_to_fd(&handle, &entry, &mut self.problems);
        }
        at("sync", b"", syncfs(&self.root))?;
        at("unmark", b"", unlinkat(&self.root, UNFINISHED_MARKER, AtFlags::empty()))?;
        if let Some(entry) = self.root_entry.take() {
            apply_to_fd(&self.root, &entry, &mut self.problems);
        }
        at("sync", b"", fsync(&self.root))?;
        Ok((self.entries, self.problems))
    }

    fn finish_file(&mut self) -> Result<(), RestoreError> {
        match self.file.take() {
            Some(file) => file.finish(&mut self.problems),
            None => Ok(()),
        }
    }

    /// Leaves directories until the innermost open one is `parent`.
    fn leave_until(&mut self, parent: &[u8]) -> Result<(), RestoreError> {
        while let Some(open) = self.open.pop_if(|open| open.entry.path != parent) {
            self.leave(open);
        }
        if self.open.is_empty() && !parent.is_empty() {
            // The entry stream's own checks exclude it.
            return at("find the directory of", parent, Err(Errno::NOENT));
        }
        Ok(())
    }

    fn leave_all(&mut self) -> Result<(), RestoreError> {
        self.leave_until(b"")
    }

    fn leave(&mut self, open: OpenDirectory) {
        if open.entry.mode & OWNER_SEARCHES == OWNER_SEARCHES {
            apply_to_fd(&open.handle, &open.entry, &mut self.problems);
        } else {
            self.locked_later.push(open.entry);
        }
    }

    /// Gives a file that is there one more name.
    fn link(&mut self, first: &[u8], path: &[u8], name: &CString) -> Result<(), RestoreError> {
        let (directory, first_name) = split_path(first);
        let source = at("find the first name of", path, self.reopen(directory))?;
        let first_name = at("name", first, component(first_name))?;
        let parent = self.open.last().map_or(&self.root, |open| &open.handle);
        at("link", path, linkat(&source, &first_name, parent, name, AtFlags::empty()))
    }

    /// Opens a directory of this tree again, one component at a time.
    fn reopen(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut here = openat(&self.root, c".", flags, Mode::empty())?;
        for name in path.split(|b| *b == b'/').filter(|name| !name.is_empty()) {
            if matches!(name, b"." | b"..") {
                return Err(Errno::INVAL);
            }
            here = openat(&here, &component(name)?, flags, Mode::empty())?;
        }
        Ok(here)
    }
}
