//! The little that the service itself keeps on disk beside its catalogues:
//! the topology file, written durably and read with a bound.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of the service's own files")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// The largest file read here: a topology of 256 sites has far less.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Replaces a file: written beside it, fsynced, renamed, directory fsynced.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(parent)?.sync_all()
}

/// Reads a file of at most [`FILE_BYTES_MAX`].
pub(crate) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes a catalogue with what SQLite keeps beside it.
pub(crate) fn remove_catalogue(path: &Path) -> io::Result<()> {
    for suffix in ["-wal", "-shm", ""] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(Path::new(&name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Moves a catalogue that is not to be believed out of the way, under the first
/// free name that says `what` it is, so that somebody can still look at it.
pub(crate) fn set_aside(path: &Path, what: &str) -> io::Result<()> {
    let free = (1_u32..).map(|n| path.with_extension(format!("{what}-{n}"))).find(|aside| !aside.exists());
    fs::rename(path, free.ok_or(io::ErrorKind::AlreadyExists)?)?;
    // Without their file they mean nothing, and beside a new one they would be in the way.
    remove_catalogue(path)
}
