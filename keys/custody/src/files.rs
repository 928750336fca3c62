//! Small secret files: made once, mode 0600, fsynced with their directory;
//! read with a bound and refused when other users may read them.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter")]

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::custodian::CustodyError;

/// No slot, passphrase or share comes near.
const BYTES_MAX: usize = 64 * 1024;

fn disk(path: &Path) -> impl FnOnce(io::Error) -> CustodyError + use<> {
    let path = path.to_owned();
    move |source| CustodyError::Disk { path, source }
}

/// Writes a file that must not exist yet. When this returns, file and name
/// are on the disk. After a failed write nothing is left under the name.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<(), CustodyError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CustodyError::Exists { path: path.to_owned() },
        _ => disk(path)(source),
    })?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(source) = written {
        // Half a secret helps nobody and would block the next attempt.
        drop(std::fs::remove_file(path));
        return Err(disk(path)(source));
    }
    sync_directory_of(path)
}

fn sync_directory_of(path: &Path) -> Result<(), CustodyError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = parent.unwrap_or_else(|| Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(disk(directory))
}

/// Whether something lies at this path.
pub(crate) fn exists(path: &Path) -> Result<bool, CustodyError> {
    path.try_exists().map_err(disk(path))
}

/// Reads a file that only its owner may read.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let mut file = File::open(path).map_err(disk(path))?;
    let meta = file.metadata().map_err(disk(path))?;
    let mode = meta.permissions().mode() & 0o777;
    if !meta.is_file() {
        return Err(CustodyError::NotThisKind { path: path.to_owned() });
    }
    if mode & 0o077 != 0 {
        return Err(CustodyError::Exposed { path: path.to_owned(), mode });
    }
    // One buffer of the bound: growing would leave copies behind.
    let mut bytes = Zeroizing::new(vec![0; BYTES_MAX + 1]);
    let mut len = 0;
    while len < bytes.len() {
        match file.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(disk(path)(source)),
        }
    }
    if len > BYTES_MAX {
        return Err(CustodyError::NotThisKind { path: path.to_owned() });
    }
    bytes.truncate(len);
    Ok(bytes)
}
