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
    let making = image.with_extension("making");
    if fresh {
        make_image(&making, bytes)?;
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

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A file system in a new file, of which the disk has only what is used. A journal is a thousandth of a large
/// file system; written with zeros, which a new file has anyway, it would take its room from the beginning.
fn make_image(image: &Path, bytes: u64) -> Result<(), DiskError> {
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(image)?;
    options.set_len(bytes.max(SIZE_MIN))?;
    run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "nodiscard,lazy_journal_init=1", &text(image)])?;
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

/// Removes a directory with all that is in it, the file of its size, and what was left half made; nothing of it
/// comes back after a power loss. What is gone already is fine. Blocks.
///
/// # Errors
/// The machine refuses, as it does while somebody is in it.
pub(crate) fn discard(directory: &Path) -> Result<(), DiskError> {
    let there = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    if there(directory) {
        unmount_sized(directory)?;
        files::remove_tree(directory)?;
    }
    let image = image_of(directory);
    for file in [image.with_extension("making"), image] {
        if there(&file) {
            std::fs::remove_file(&file)?;
        }
    }
    match directory.parent().filter(|parent| there(parent)) {
        Some(parent) => Ok(files::open(parent)?.sync_all()?),
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_disk_of_a_tebibyte_takes_a_few_megabytes_of_the_nodes() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("sites-1.img");
        make_image(&image, 1 << 40).unwrap();
        let made = image.metadata().unwrap();
        assert_eq!(made.len(), 1 << 40);
        assert!(made.blocks() * 512 < 64 << 20, "{} bytes", made.blocks() * 512);
    }

    #[test]
    fn what_is_discarded_is_gone_with_its_image_and_neighbours_stay_and_a_second_time_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let (site, other) = (dir.path().join("sites-1"), dir.path().join("sites-10"));
        for path in [&site, &other] {
            files::make_dirs(&path.join("store/volumes"), 0o700).unwrap();
            files::replace(&path.join("store/volumes/1"), b"shards", 0o600).unwrap();
            files::replace(&image_of(path), b"a file system", 0o600).unwrap();
        }
        for _ in 0..2 {
            discard(&site).unwrap();
            assert!(!site.exists() && !image_of(&site).exists());
            assert!(other.join("store/volumes/1").exists() && image_of(&other).exists());
        }
        discard(&dir.path().join("never/there")).unwrap();
    }
}
