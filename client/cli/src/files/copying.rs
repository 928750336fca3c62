//! Copying a site's directory while its site is at work, and the digest of a
//! program that a record names.
//!
//! Volumes only grow, so that a copy of one is at worst cut short, as after a
//! crash. They are copied in order of their numbers, behind the ledger of those
//! that compaction removed: what moves meanwhile moves to a volume that is
//! still to come (`regions/LAYOUT.md`).
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of the command line")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{at, make_directory};
use crate::exit::Failure;

/// What is never taken along: the lock of a living process; and an index that
/// is older than what it would be the index of.
const LEFT_BEHIND: [&str; 3] = ["LOCK", "CHECKPOINT", "quarantine"];

/// Names in a directory in the order in which they are copied.
fn in_order(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(at(directory))? {
        paths.push(entry.map_err(at(directory))?.path());
    }
    // Upper case first: `RETIRED` before `volumes`.
    paths.sort();
    Ok(paths)
}

/// Copies the directory of a site; how many bytes.
pub(crate) fn copy_site(from: &Path, to: &Path) -> Result<u64, Failure> {
    make_directory(to)?;
    let mut bytes = 0;
    for path in in_order(from)? {
        let Some(name) = path.file_name() else { continue };
        if LEFT_BEHIND.iter().any(|left| name == *left) || name.to_string_lossy().ends_with(".new") {
            continue;
        }
        let copy = to.join(name);
        bytes += match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => copy_site(&path, &copy)?,
            Ok(meta) if meta.is_file() => match fs::copy(&path, &copy) {
                // Compaction was quicker: its records lie in a later volume.
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                copied => copied.map_err(at(&path))?,
            },
            Ok(_) => return Err(Failure::new(format!("{}: not a site's", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(at(&path)(error)),
        };
    }
    Ok(bytes)
}

/// BLAKE3 over the files of a program: a file, or the Python files of a
/// directory in order of their names.
pub(crate) fn digest_of(program: &Path) -> Result<String, Failure> {
    let mut hasher = blake3::Hasher::new();
    let mut files = if program.is_dir() { in_order(program)? } else { vec![program.to_owned()] };
    if program.is_dir() {
        files.retain(|path| path.extension().is_some_and(|end| end == "py"));
    }
    for file in files {
        hasher.update(&fs::read(&file).map_err(at(&file))?);
    }
    Ok(hasher.finalize().to_hex().to_string())
}
