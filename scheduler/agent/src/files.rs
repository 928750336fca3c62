//! The agent's disk adapter: bounded reads, atomic durable writes, and the
//! pseudo files of the kernel. Everything the agent reads and writes by name
//! goes through here.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a small file may hold: state, plans, pseudo files of the kernel.
const SMALL_MAX: u64 = 4 << 20;

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// Reads a small file; one that is larger is refused.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, SMALL_MAX)
}

/// Reads a file of at most `max` bytes; one that is larger is refused.
pub(crate) fn read_at_most(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    whole(open(path)?, path, max)
}

fn whole(file: File, path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{} is too large", path.display())));
    }
    Ok(bytes)
}

/// Reads a file of at most `max` bytes that somebody else puts there: anything that is no plain file is refused, and
/// a pipe that nobody writes to is not waited for.
pub(crate) fn read_plain(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    whole(file, path, max)
}

/// Reads a small file as text.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads a small file as JSON; `None` where there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file by a durable one: a reader finds the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(path, bytes, mode)?.sync_all()?;
    std::fs::rename(beside(path), path)?;
    match path.parent() {
        Some(parent) => open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Replaces a file by one that need not outlive the machine: a reader finds the
/// old one or the new one.
pub(crate) fn swap(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    put(path, bytes, mode)?;
    std::fs::rename(beside(path), path)
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(beside(path));
    let mut file = options?;
    file.write_all(bytes)?;
    // The mask of the process is not what decides who reads it.
    file.set_permissions(PermissionsExt::from_mode(mode))?;
    Ok(file)
}

fn beside(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// Replaces a file by the JSON of `value`, for its owner only.
pub(crate) fn replace_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value)?, 0o600)
}

/// Writes to a pseudo file of the kernel, with one `write`.
pub(crate) fn set(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Takes the lock of a file. It is held as long as the file that is returned is
/// open anywhere, also in a process that inherited it.
pub(crate) fn lock(path: &Path) -> io::Result<File> {
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = options?;
    file.lock()?;
    Ok(file)
}

/// Whether somebody holds the lock of a file.
pub(crate) fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a directory and those above it, each with `mode`.
pub(crate) fn make_dirs(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Removes a tree, also where its directories are closed to their owner; that
/// it is not there is no error.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = std::fs::remove_dir_all(path).or_else(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => open_up(path).and_then(|()| std::fs::remove_dir_all(path)),
        _ => Err(error),
    });
    gone_is_done(removed)
}

/// Takes it for done that what was to be removed is not there any more.
pub(crate) fn gone_is_done(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Lets the owner write into every directory of a tree. No link is followed.
pub(crate) fn open_up(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// The names in a directory, sorted; none where there is no directory.
pub(crate) fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
