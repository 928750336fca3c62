//! Data directories of a declared size: a file system in a file, for a kernel
//! without project quotas. A pod that fills it gets `ENOSPC`, and nobody else.

use std::fs::OpenOptions;
use std::io;
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
    let mounts = files::read_text(Path::new("/proc/self/mountinfo"))?;
    // A space is written \040 there; the agent's directories have none.
    Ok(mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|point| Path::new(point) == real))
}
