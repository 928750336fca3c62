//! Walking a tree: bytewise order, parents before children, links never
//! followed, and whatever cannot be read is a problem instead of an end.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use coffer_model::Digest;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::entry::{Entry, Kind, join_path};
use super::manifest::{Manifest, ManifestError, ManifestWriter};
use super::metadata::{data_extents, entry_of, kind_of, proc_path, xattrs_of_fd, xattrs_of_path};
use super::problem::{Problem, Trouble};
use super::progress::Progress;
use super::source_file::ExtentReader;
use super::target::UNFINISHED_MARKER;

/// Why a tree could not be scanned at all.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The root is not a directory that can be opened.
    #[error("{} cannot be opened as a directory ({errno}); name an existing directory", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// The tree is what an interrupted restore left behind.
    #[error("{} is an unfinished restore; restore it again into an empty directory", path.display())]
    UnfinishedRestore {
        /// The root.
        path: PathBuf,
    },
    /// The manifest could not be written.
    #[error("the manifest could not be written: {0}")]
    Write(#[source] io::Error),
    /// The manifest that was just made does not read back; a defect.
    #[error("the manifest does not read back: {0}")]
    ReadBack(#[from] ManifestError),
}

/// Why a visitor did not take the content of a file.
pub(crate) enum ContentError {
    /// The file could not be read: a problem, the walk goes on.
    Read(io::Error),
    /// Nobody wants any more: the walk ends.
    Stopped,
}

/// The visitor ended the walk; it knows why.
pub(crate) struct Stopped;

/// What is done with a tree while it is walked.
pub(crate) trait Visitor {
    /// Reads the content of the file whose entry comes next, to its end.
    fn content(&mut self, reader: &mut ExtentReader<'_>, size: u64) -> Result<(), ContentError>;
    /// An entry, complete, after its content.
    fn entry(&mut self, entry: Entry) -> Result<(), Stopped>;
    /// Something went wrong with one entry.
    fn problem(&mut self, problem: Problem);
}

/// Why a walk ended early.
pub(crate) enum WalkError {
    Root(Errno),
    Stopped,
}

impl From<Stopped> for WalkError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// The first name of a file that has several.
struct FirstName {
    path: Vec<u8>,
    size: u64,
    content: Option<Digest>,
}

/// One open directory on the way down.
struct Frame {
    directory: OwnedFd,
    path: Vec<u8>,
    names: std::vec::IntoIter<CString>,
}

struct Walk<'v, V> {
    visitor: &'v mut V,
    first_names: HashMap<(u64, u64), FirstName>,
    stack: Vec<Frame>,
}

/// Walks the tree below `root`, which may itself be named by a link.
pub(crate) fn walk<V: Visitor>(root: &Path, visitor: &mut V) -> Result<(), WalkError> {
    let directory = open_quietly(CWD, root, DIRECTORY).map_err(WalkError::Root)?;
    let mut walk = Walk { visitor, first_names: HashMap::new(), stack: Vec::new() };
    walk.enter(directory, Vec::new())?;
    while let Some(frame) = walk.stack.last_mut() {
        let Some(name) = frame.names.next() else {
            walk.stack.pop();
            continue;
        };
        let path = join_path(&frame.path, name.to_bytes());
        if path == UNFINISHED_MARKER {
            walk.visitor.problem(Problem { path, trouble: Trouble::UnfinishedRestore });
            continue;
        }
        match walk.visit(&name, &path) {
            Ok(()) => {}
            Err(VisitError::Problem(step, errno)) => {
                walk.visitor.problem(Problem::reading(&path, step, errno));
            }
            Err(VisitError::Stopped) => return Err(WalkError::Stopped),
        }
    }
    Ok(())
}

enum VisitError {
    Problem(&'static str, Errno),
    Stopped,
}

impl From<Stopped> for VisitError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Names the step that failed.
fn step<T>(name: &'static str, result: Result<T, Errno>) -> Result<T, VisitError> {
    result.map_err(|errno| VisitError::Problem(name, errno))
}

impl<V: Visitor> Walk<'_, V> {
    fn visit(&mut self, name: &CString, path: &[u8]) -> Result<(), VisitError> {
        let Some(frame) = self.stack.last() else { return Ok(()) };
        let stat = step("stat", statat(&frame.directory, name, AtFlags::SYMLINK_NOFOLLOW))?;
        match kind_of(&stat) {
            None => {
                self.visitor.problem(Problem { path: path.to_vec(), trouble: Trouble::UnknownKind });
                Ok(())
            }
            Some(Kind::Directory) => match open_directory(&frame.directory, name.as_c_str()) {
                Ok(directory) => Ok(self.enter(directory, path.to_vec())?),
                Err(errno) => {
                    // What it is can still be kept, only not what is in it.
                    self.visitor.entry(entry_of(path, Kind::Directory, &stat))?;
                    Err(VisitError::Problem("open", errno))
                }
            },
            Some(Kind::File) => self.file(name, path),
            Some(kind) => self.special(name, path, kind, &stat),
        }
    }

    /// Emits a directory and goes down into it.
    fn enter(&mut self, directory: OwnedFd, path: Vec<u8>) -> Result<(), Stopped> {
        match fstat(&directory) {
            Ok(stat) => {
                let mut entry = entry_of(&path, Kind::Directory, &stat);
                match xattrs_of_fd(&directory) {
                    Ok(xattrs) => entry.xattrs = xattrs,
                    Err(errno) => self.visitor.problem(Problem::reading(&path, "extended attributes", errno)),
                }
                self.visitor.entry(entry)?;
            }
            Err(errno) => {
                self.visitor.problem(Problem::reading(&path, "stat", errno));
                return Ok(());
            }
        }
        let names = match list(&directory) {
            Ok(names) => names,
            Err(errno) => {
                self.visitor.problem(Problem::reading(&path, "list", errno));
                Vec::new()
            }
        };
        self.stack.push(Frame { directory, path, names: names.into_iter() });
        Ok(())
    }

    fn file(&mut self, name: &CString, path: &[u8]) -> Result<(), VisitError> {
        let Some(frame) = self.stack.last() else { return Ok(()) };
        let file = step("open", open_file(&frame.directory, name))?;
        let before = step("stat", fstat(&file))?;
        if kind_of(&before) != Some(Kind::File) {
            // Replaced by something else since it was listed.
            self.visitor.problem(Problem { path: path.to_vec(), trouble: Trouble::ChangedWhileRead });
            return Ok(());
        }
        let mut entry = entry_of(path, Kind::File, &before);
        entry.xattrs = step("extended attributes", xattrs_of_fd(&file))?;
        let inode = (before.st_dev, before.st_ino);
        if let Some(first) = self.first_names.get(&inode) {
            entry.hard_link_to = Some(first.path.clone());
            (entry.size, entry.content) = (first.size, first.content);
            return Ok(self.visitor.entry(entry)?);
        }
        self.read_content(&file, &mut entry)?;
        let after = step("stat", fstat(&file))?;
        if state(&before) != state(&after) || Ok(entry.size) != u64::try_from(before.st_size) {
            self.visitor.problem(Problem { path: path.to_vec(), trouble: Trouble::ChangedWhileRead });
        }
        if before.st_nlink > 1 {
            let first = FirstName { path: path.to_vec(), size: entry.size, content: entry.content };
            self.first_names.insert(inode, first);
        }
        Ok(self.visitor.entry(entry)?)
    }

    /// Hands the bytes to the visitor and notes what was read.
    fn read_content(&mut self, file: &OwnedFd, entry: &mut Entry) -> Result<(), VisitError> {
        entry.data = step("find holes", data_extents(file, entry.size))?;
        let mut reader = ExtentReader::new(file, &entry.data);
        self.visitor.content(&mut reader, entry.size).map_err(|error| match error {
            ContentError::Read(error) => {
                VisitError::Problem("read", Errno::from_io_error(&error).unwrap_or(Errno::IO))
            }
            ContentError::Stopped => VisitError::Stopped,
        })?;
        let read = reader.finish(entry.size);
        entry.content = Some(read.digest);
        if let Some(end) = read.cut_short_at {
            entry.size = end;
            entry.data.retain(|(offset, _)| *offset < end);
            if let Some((offset, length)) = entry.data.last_mut() {
                *length = (*length).min(end - *offset);
            }
        }
        Ok(())
    }

    fn special(&mut self, name: &CString, path: &[u8], kind: Kind, stat: &Stat) -> Result<(), VisitError> {
        let Some(frame) = self.stack.last() else { return Ok(()) };
        let mut entry = entry_of(path, kind, stat);
        if kind == Kind::Symlink {
            let target = step("read link", readlinkat(&frame.directory, name, Vec::new()))?;
            entry.symlink_target = Some(target.into_bytes());
        }
        let attributes = xattrs_of_path(&proc_path(&frame.directory, name));
        entry.xattrs = step("extended attributes", attributes)?;
        let inode = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.first_names.get(&inode) {
            entry.hard_link_to = Some(first.path.clone());
        } else if stat.st_nlink > 1 {
            let first = FirstName { path: path.to_vec(), size: 0, content: None };
            self.first_names.insert(inode, first);
        }
        Ok(self.visitor.entry(entry)?)
    }
}

/// What must not change while a file is read.
fn state(stat: &Stat) -> impl PartialEq + use<> {
    (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a directory below the root; a link that took its place is not followed.
fn open_directory(at: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    open_quietly(at, name, DIRECTORY | OFlags::NOFOLLOW)
}

fn open_file(at: impl AsFd, name: &CString) -> Result<OwnedFd, Errno> {
    // NONBLOCK: a named pipe that took the file's place must not hang us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open_quietly(at, name.as_c_str(), flags)
}

/// Opens without leaving a trace in the access time, where that is allowed.
fn open_quietly(at: impl AsFd, name: impl rustix::path::Arg + Copy, flags: OFlags) -> Result<OwnedFd, Errno> {
    match openat(at.as_fd(), name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(at, name, flags, Mode::empty()),
        other => other,
    }
}

fn list(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for item in Dir::read_from(directory)? {
        let item = item?;
        let name = item.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What [`manifest_of_tree`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeManifest {
    /// SHA-256 of the manifest's text.
    pub digest: Digest,
    /// Entries in it.
    pub entries: u64,
    /// Length of all files in bytes, holes included, hard links once.
    pub bytes: u64,
    /// What could not be read; not in the manifest.
    pub problems: Vec<Problem>,
}

/// Scans and hashes a tree with no regard to any backup, and writes its
/// manifest to `out`: the restored tree's side of a comparison.
///
/// # Errors
/// [`ScanError`]; an unfinished restore is refused.
pub fn manifest_of_tree(
    root: &Path,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<TreeManifest, ScanError> {
    progress.stage("read the tree", None, None);
    let mut hashing = Hashing {
        writer: ManifestWriter::new(),
        out,
        progress,
        buffer: vec![0; 1 << 20],
        bytes: 0,
        problems: Vec::new(),
        failed: None,
    };
    match walk(root, &mut hashing) {
        Ok(()) => {}
        Err(WalkError::Root(errno)) => return Err(ScanError::Root { path: root.to_owned(), errno }),
        Err(WalkError::Stopped) => {
            return Err(ScanError::Write(hashing.failed.unwrap_or_else(|| io::ErrorKind::Other.into())));
        }
    }
    let Hashing { writer, out, bytes, problems, .. } = hashing;
    if problems.iter().any(|problem| problem.trouble == Trouble::UnfinishedRestore) {
        return Err(ScanError::UnfinishedRestore { path: root.to_owned() });
    }
    let (rest, digest, entries) = writer.finish();
    out.write_all(&rest).and_then(|()| out.flush()).map_err(ScanError::Write)?;
    Ok(TreeManifest { digest, entries, bytes, problems })
}

/// [`manifest_of_tree`] into memory.
///
/// # Errors
/// [`ScanError`].
pub fn manifest_in_memory(root: &Path) -> Result<(Manifest, Vec<Problem>), ScanError> {
    let mut text = Vec::new();
    let made = manifest_of_tree(root, &mut text, &super::Quiet)?;
    Ok((Manifest::read(text.as_slice())?, made.problems))
}

struct Hashing<'a> {
    writer: ManifestWriter,
    out: &'a mut dyn Write,
    progress: &'a dyn Progress,
    buffer: Vec<u8>,
    bytes: u64,
    problems: Vec<Problem>,
    failed: Option<io::Error>,
}

impl Visitor for Hashing<'_> {
    fn content(&mut self, reader: &mut ExtentReader<'_>, size: u64) -> Result<(), ContentError> {
        loop {
            match reader.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => self.progress.advance(u64::try_from(read).unwrap_or(0), 0),
                Err(error) => return Err(ContentError::Read(error)),
            }
        }
        self.bytes += size;
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Stopped> {
        self.progress.advance(0, 1);
        self.writer.push(&entry);
        if self.writer.pending_bytes() >= 256 << 10 {
            self.out.write_all(&self.writer.take()).map_err(|error| {
                self.failed = Some(error);
                Stopped
            })?;
        }
        Ok(())
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}
