//! The directory of a witness.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of a witness")]

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::WitnessBookError;
use crate::digits::sha256_hex;
use crate::profile::{ProfileError, write_atomically};

/// Name and secret key: `key`, one line each, mode 0600.
const KEY: &str = "key";
/// One note for each log, named by the SHA-256 of its origin.
const STATES: &str = "states";
/// No note comes near, in bytes.
const BYTES_MAX: u64 = 128 << 10;

fn at(path: &Path) -> impl FnOnce(io::Error) -> WitnessBookError + use<> {
    let path = path.to_owned();
    move |source| WitnessBookError::Disk { path, source }
}

fn make(path: &Path) -> Result<(), WitnessBookError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

fn sync_dir(path: &Path) -> Result<(), WitnessBookError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(at(path))
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Zeroizing<String>, WitnessBookError> {
    let mut text = Zeroizing::new(String::with_capacity(1024));
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(WitnessBookError::Damaged(path.to_owned()))
        }
        read => read.map_err(at(path)).map(|_| text),
    }
}

/// Makes the directory, and in it the key, once.
pub(super) fn create(dir: &Path, name: &str, seed: &[u8; 32]) -> Result<(), WitnessBookError> {
    make(&dir.join(STATES))?;
    let path = dir.join(KEY);
    let text = Zeroizing::new(format!("{name}\n{}\n", STANDARD.encode(seed)));
    match write_new(&path, text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(WitnessBookError::Exists(dir.to_owned()))
        }
        written => {
            written.map_err(at(&path))?;
            sync_dir(dir)
        }
    }
}

/// The directory, while this process has it for itself.
pub(super) struct Directory {
    states: PathBuf,
    /// Locked until it is dropped.
    _lock: File,
}

/// Opens the directory: for one process at a time, since two would each
/// believe their own newest state.
pub(super) fn open(dir: &Path) -> Result<(Directory, String, Zeroizing<[u8; 32]>), WitnessBookError> {
    let path = dir.join(KEY);
    let damaged = || WitnessBookError::Damaged(path.clone());
    let text = read(&path).map_err(|error| match error {
        WitnessBookError::Disk { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            WitnessBookError::None(dir.to_owned())
        }
        error => error,
    })?;
    let (name, seed) = text.trim_end().split_once('\n').ok_or_else(damaged)?;
    let decoded = Zeroizing::new(STANDARD.decode(seed).map_err(|_| damaged())?);
    let mut seed = Zeroizing::new([0; 32]);
    if decoded.len() != seed.len() {
        return Err(damaged());
    }
    seed.copy_from_slice(&decoded);
    let lock = File::open(&path).map_err(at(&path))?;
    lock.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => WitnessBookError::Busy(dir.to_owned()),
        TryLockError::Error(source) => at(&path)(source),
    })?;
    Ok((Directory { states: dir.join(STATES), _lock: lock }, name.to_owned(), seed))
}

impl Directory {
    /// Every note that is kept, with its file. What a crash left half written
    /// has another name and is no note.
    pub(super) fn notes(&self) -> Result<Vec<(PathBuf, String)>, WitnessBookError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.states).map_err(at(&self.states))? {
            let path = entry.map_err(at(&self.states))?.path();
            if path.extension().is_some_and(|kind| kind == "checkpoint") {
                let note = read(&path)?.to_string();
                found.push((path, note));
            }
        }
        Ok(found)
    }

    /// Replaces the note of a log: after a crash the old one or the new one is
    /// there, and the new one once this has returned.
    pub(super) fn keep(&self, origin: &str, note: &str) -> Result<(), ProfileError> {
        let name = format!("{}.checkpoint", sha256_hex(origin.as_bytes()));
        write_atomically(&self.states.join(name), note.as_bytes())
    }
}
