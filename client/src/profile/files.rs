//! Small files, replaced atomically.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of the profile")]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::ProfileError;

/// No file of a profile, kit or record comes near. In bytes.
const BYTES_MAX: u64 = 16 << 20;

fn disk(path: &Path) -> impl FnOnce(io::Error) -> ProfileError + use<> {
    let path = path.to_owned();
    move |source| ProfileError::Disk { path, source }
}

/// Writes a file of mode 0600 and makes its directories, of mode 0700: after
/// a crash either the old file or the whole new one is there.
///
/// # Errors
/// [`ProfileError::Disk`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), ProfileError> {
    write(path, bytes)
}

pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), ProfileError> {
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(disk(parent))?;
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        // A file in the place of a device or a pipe would destroy it.
        return Err(disk(path)(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = path.with_file_name(name);
    let written = write_synced(&new, bytes).and_then(|()| fs::rename(&new, path));
    if let Err(source) = written {
        // Half a file helps nobody; the old one is untouched.
        drop(fs::remove_file(&new));
        return Err(disk(path)(source));
    }
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(disk(parent))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// The text of a file that is there.
///
/// # Errors
/// [`ProfileError`].
pub fn read_text(path: &Path) -> Result<Zeroizing<String>, ProfileError> {
    let missing = || disk(path)(io::Error::from(io::ErrorKind::NotFound));
    read(path)?.ok_or_else(missing)
}

/// The text of a file, or `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, ProfileError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(disk(path))?,
    };
    let size = file.metadata().map_err(disk(path))?.len();
    if size > BYTES_MAX {
        return Err(ProfileError::Damaged(path.to_owned()));
    }
    // One buffer from the start: growing would leave copies of secrets behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(size).unwrap_or(0) + 1));
    match file.take(BYTES_MAX).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(ProfileError::Damaged(path.to_owned()))
        }
        read => read.map_err(disk(path)).map(|_| Some(text)),
    }
}

/// [`read`], refused if other users may read the file.
pub(super) fn read_secret(path: &Path) -> Result<Option<Zeroizing<String>>, ProfileError> {
    if let Ok(meta) = fs::metadata(path) {
        let mode = meta.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(ProfileError::Exposed { path: path.to_owned(), mode });
        }
    }
    read(path)
}

/// Removes a file that may be there.
pub(super) fn remove(path: &Path) -> Result<(), ProfileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(disk(path)),
    }
}

/// Makes a directory and its parents, of mode 0700.
pub(super) fn make_directory(path: &Path) -> Result<(), ProfileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(disk(path))
}

/// The directories in a directory that may be missing.
pub(super) fn directories(path: &Path) -> Result<Vec<PathBuf>, ProfileError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(disk(path))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(disk(path))?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    Ok(found)
}
