//! Data directories of a declared size: a file system in a file, for a kernel
//! without project quotas. A pod that fills it gets `ENOSPC`, and nobody else.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::files;
use crate::tool::{ToolError, run};

/// The smallest size that has room for a file system's own records.
pub(crate) const SIZE_MIN: u64 = 4 << 20;

/// Why a directory has no size.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It has files from a time when it had no size; mounting would hide them.
    #[error("{0} has files and no size; move them away, or let the pod go without a size")]
    Occupied(PathBuf),
    /// A program refused.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The disk failed.
    #[error("the disk failed: {0}")]
    Disk(#[from] io::Error),
}

/// Sees to it that `directory` is a file system of `bytes`; larger ones stay as
/// they are, smaller ones grow. Blocks.
///
/// # Errors
/// It has files and no size, or the machine refuses.
pub fn mount_sized(directory: &Path, bytes: u64) -> Result<(), DiskError> {
    let image = image_of(directory);
    files::make_dirs(directory, 0o711)?;
    if is_mounted(directory)? {
        return Ok(());
    }
    let fresh = !image.exists();
    if fresh && !files::names(directory)?.is_empty() {
        return Err(DiskError::Occupied(directory.to_owned()));
    }
    let text = |path: &Path| path.display().to_string();
    let making = image.with_extension("making");
    if fresh {
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&making)?;
        options.set_len(bytes.max(SIZE_MIN))?;
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "nodiscard", &text(&making)])?;
        std::fs::rename(&making, &image)?;
    } else if image.metadata()?.len() < bytes {
        OpenOptions::new().write(true).open(&image)?.set_len(bytes)?;
        run("e2fsck", &["-f", "-p", &text(&image)])?;
        run("resize2fs", &[&text(&image)])?;
    }
    run("mount", &["-o", "loop,nosuid,nodev,noexec", &text(&image), &text(directory)])?;
    if fresh {
        // A site's directory begins empty.
        std::fs::remove_dir(directory.join("lost+found"))?;
    }
    Ok(())
}

/// Takes the file system away; its file stays, and with it the bytes. Blocks.
///
/// # Errors
/// The machine refuses, as it does while somebody is in it.
pub fn unmount_sized(directory: &Path) -> Result<(), DiskError> {
    if is_mounted(directory)? {
        run("umount", &[&directory.display().to_string()])?;
    }
    Ok(())
}

fn image_of(directory: &Path) -> PathBuf {
    directory.with_added_extension("img")
}

fn is_mounted(directory: &Path) -> io::Result<bool> {
    let real = std::fs::canonicalize(directory)?;
    let mounts = files::read(Path::new("/proc/self/mountinfo"))?;
    let points =
        mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    Ok(points.map(unescaped).any(|point| point == real))
}

/// A path as the kernel lists it: space, tab, line feed and backslash are written
/// as a backslash and three octal digits there.
fn unescaped(listed: &[u8]) -> PathBuf {
    let (mut path, mut rest) = (Vec::with_capacity(listed.len()), listed);
    while let Some((first, after)) = rest.split_first() {
        let (byte, next) = octal(rest).unwrap_or((*first, after));
        path.push(byte);
        rest = next;
    }
    OsString::from_vec(path).into()
}

/// The byte that an escape at the front stands for, and what comes after it.
fn octal(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.strip_prefix(b"\\")?.split_at_checked(3)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    Some((u8::from_str_radix(digits, 8).ok()?, rest))
}
