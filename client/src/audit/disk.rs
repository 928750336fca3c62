//! The directory of an export, of a log or of a case.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of exports")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::foreign::{open_regular, read_regular};

/// The longest file of an export: 256 entries of 64 KiB. In bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 256 * (2 + 0xffff);

/// Writes a new file below `dir`, with the directories that it needs.
pub(crate) fn write_new(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    create(dir, name)?.write_all(bytes)
}

/// A new file below `dir`, for writing piece by piece.
pub(crate) fn create(dir: &Path, name: &str) -> io::Result<File> {
    let path = dir.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Length and SHA-256 of a file that should have `bytes` bytes: one that has
/// more is not read further.
pub(crate) fn digest(dir: &Path, name: &str, bytes: u64) -> io::Result<(u64, String)> {
    let mut file = open_regular(&dir.join(name))?.take(bytes.saturating_add(1));
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((bytes, crate::digits::hex(&hasher.finalize())));
        }
        bytes += read as u64;
        hasher.update(piece.get(..read).unwrap_or_default());
    }
}

/// Makes all that was written below `dir` durable as far as the names go, and
/// then writes the last file.
pub(crate) fn write_last(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_new(dir, name, bytes)?;
    File::open(dir.join(name))?.sync_all()?;
    File::open(dir)?.sync_all()
}

/// The bytes of a file, at most [`FILE_BYTES_MAX`].
pub(crate) fn read(dir: &Path, name: &str) -> io::Result<Vec<u8>> {
    read_regular(&dir.join(name), FILE_BYTES_MAX)
}

/// The names of all files below `dir`, in order; what is neither file nor
/// directory counts as a file.
pub(crate) fn names(dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![String::new()];
    while let Some(inner) = waiting.pop() {
        for entry in fs::read_dir(dir.join(&inner))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if inner.is_empty() { name } else { format!("{inner}/{name}") };
            if entry.file_type()?.is_dir() {
                waiting.push(name);
            } else {
                found.insert(name);
            }
        }
    }
    Ok(found)
}
