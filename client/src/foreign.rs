//! Files that somebody else made, opened by who verifies them: a regular file
//! or nothing, never a link that leads elsewhere, a pipe that nobody writes to
//! or a device that never ends; and never more of it than is asked for. This
//! module is the disk adapter of verifiers.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading.
///
/// # Errors
/// What the disk says; [`io::ErrorKind::InvalidInput`] if it is something else.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // A pipe would be waited for, and a link could lead to one.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    let flags = i32::try_from(flags).map_err(|_| no_file())?;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => no_file(),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

/// The bytes of a regular file.
///
/// # Errors
/// As [`open_regular`]; [`io::ErrorKind::FileTooLarge`] if there are more than
/// `bytes_max` of them.
pub fn read_regular(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= bytes_max) {
        return Ok(bytes);
    }
    let what = format!("longer than {bytes_max} bytes");
    Err(io::Error::new(io::ErrorKind::FileTooLarge, what))
}
