//! The directory of an export.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of exports")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// The longest file of an export: 256 entries of 64 KiB. In bytes.
pub(super) const FILE_BYTES_MAX: u64 = 256 * (2 + 0xffff);

/// Writes a new file below `dir`, with the directories that it needs.
pub(super) fn write_new(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = dir.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)
}

/// Makes all that was written below `dir` durable as far as the names go, and
/// then writes the last file.
pub(super) fn write_last(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    write_new(dir, name, bytes)?;
    File::open(dir.join(name))?.sync_all()?;
    File::open(dir)?.sync_all()
}

/// The bytes of a file, at most [`FILE_BYTES_MAX`] and one more.
pub(super) fn read(dir: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(dir.join(name))?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The names of all files below `dir`, in order; what is neither file nor
/// directory counts as a file.
pub(super) fn names(dir: &Path) -> io::Result<BTreeSet<String>> {
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
