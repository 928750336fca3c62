//! Unpacking a layer so that nothing in it can name a place outside: every path
//! is resolved by the kernel as if the image were the root of everything
//! (`openat2` with `RESOLVE_IN_ROOT`), and the last part is never followed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

/// Bytes that an image may have when unpacked.
const BYTES_MAX: u64 = 8 << 30;
/// Entries that an image may have.
const ENTRIES_MAX: u64 = 500_000;
/// Directories that one path may go through.
const DEPTH_MAX: usize = 64;

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A path leads out of the image, or is none.
    #[error("the layer names the path {0:?}, which leads out of the image or nowhere")]
    Path(PathBuf),
    /// A kind of entry that an image of a storage pod has no use for.
    #[error("the layer has a device, pipe or other special file at {0:?}; these are refused")]
    Special(PathBuf),
    /// Larger than allowed.
    #[error("the image is larger than {BYTES_MAX} bytes or {ENTRIES_MAX} entries when unpacked")]
    TooLarge,
    /// Compressed in a way that is not known here.
    #[error("layers of the type {0:?} are not understood; tar, tar+gzip and tar+zstd are")]
    MediaType(String),
    /// Not an archive, or the disk failed.
    #[error("reading the archive or writing its files: {0}")]
    Io(#[from] io::Error),
}

impl From<Errno> for UnpackError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// What may still be unpacked.
pub(super) struct Budget {
    bytes: u64,
    entries: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { bytes: BYTES_MAX, entries: ENTRIES_MAX }
    }
}

impl Budget {
    fn take(&mut self, bytes: u64) -> Result<(), UnpackError> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(UnpackError::TooLarge)?;
        self.entries = self.entries.checked_sub(1).ok_or(UnpackError::TooLarge)?;
        Ok(())
    }
}

/// Unpacks one layer over those below it.
pub(super) fn unpack(archive: &mut dyn Read, into: &Path, budget: &mut Budget) -> Result<(), UnpackError> {
    let root = openat(CWD, into, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut layer = Layer { root, made: BTreeSet::new() };
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry?;
        budget.take(entry.size())?;
        layer.entry(&mut entry)?;
    }
    Ok(())
}

struct Layer {
    root: OwnedFd,
    /// What this layer made: its whiteouts hide only what lies below.
    made: BTreeSet<PathBuf>,
}

impl Layer {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let path = normal(&entry.path()?)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else { return Ok(()) };
        let parent_path = path.parent().map(Path::to_owned).unwrap_or_default();
        let parent = self.directory(&parent_path)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return if hidden == b".wh..opq" {
                self.empty(parent.as_fd(), &parent_path)
            } else {
                remove(parent.as_fd(), OsStr::from_bytes(hidden))
            };
        }
        let kind = entry.header().entry_type();
        if kind != EntryType::Directory {
            remove(parent.as_fd(), &name)?;
        }
        let executable = entry.header().mode()? & 0o111 != 0;
        match kind {
            EntryType::Directory => make_directory(parent.as_fd(), &name)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                // Owner, group and set-id bits do not matter to a pod that has a user of
                // its own: all of its image is its to read, and none to write.
                let mode = Mode::from_raw_mode(if executable { 0o555 } else { 0o444 });
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(&parent, &name, flags, mode)?);
                io::copy(entry, &mut file)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| UnpackError::Path(path.clone()))?;
                symlinkat(target.as_ref(), &parent, &name)?;
            }
            EntryType::Link => self.link(entry, parent.as_fd(), &name)?,
            EntryType::XGlobalHeader => return Ok(()),
            _ => return Err(UnpackError::Special(path)),
        }
        self.made.insert(path);
        Ok(())
    }

    fn link(
        &self,
        entry: &Entry<'_, impl Read>,
        parent: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), UnpackError> {
        let target = entry.link_name()?.ok_or_else(|| UnpackError::Path(name.into()))?;
        let target = normal(&target)?;
        let from = self.resolve(target.parent().unwrap_or_else(|| Path::new("")))?;
        let Some(last) = target.file_name() else { return Err(UnpackError::Path(target)) };
        Ok(rustix::fs::linkat(&from, last, parent, name, AtFlags::empty())?)
    }

    /// Opens a directory of the image, and makes it where it is missing.
    fn directory(&self, path: &Path) -> Result<OwnedFd, UnpackError> {
        match self.resolve(path) {
            Err(UnpackError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let Some((parent, name)) = path.parent().zip(path.file_name()) else {
            return Err(UnpackError::Path(path.to_owned()));
        };
        make_directory(self.directory(parent)?.as_fd(), name)?;
        self.resolve(path)
    }

    fn resolve(&self, path: &Path) -> Result<OwnedFd, UnpackError> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.root, path, flags, Mode::empty(), resolve)?)
    }

    /// Hides what the layers below have in a directory.
    fn empty(&self, directory: BorrowedFd<'_>, path: &Path) -> Result<(), UnpackError> {
        for name in names_in(directory)? {
            if !self.made.contains(&path.join(&name)) {
                remove(directory, &name)?;
            }
        }
        Ok(())
    }
}

/// The path as parts below the image's root.
fn normal(path: &Path) -> Result<PathBuf, UnpackError> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(UnpackError::Path(path.to_owned())),
        }
    }
    if normal.components().count() > DEPTH_MAX {
        return Err(UnpackError::Path(path.to_owned()));
    }
    Ok(normal)
}

fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), UnpackError> {
    match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
        // A layer may turn a file of one below into a directory; a link to a directory stays one.
        Err(Errno::EXIST) => match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                unlinkat(parent, name, AtFlags::empty())?;
                Ok(mkdirat(parent, name, Mode::from_raw_mode(0o755))?)
            }
            _ => Ok(()),
        },
        other => Ok(other?),
    }
}

/// Removes a name, and all beneath it if it is a directory.
fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), UnpackError> {
    if name.is_empty() || name == "." || name == ".." {
        return Err(UnpackError::Path(name.into()));
    }
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let directory = openat(parent, name, flags, Mode::empty())?;
            for inner in names_in(directory.as_fd())? {
                remove(directory.as_fd(), &inner)?;
            }
            Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<std::ffi::OsString>, UnpackError> {
    let listing =
        openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::new(listing)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
