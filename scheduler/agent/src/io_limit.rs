//! The limit of operations on a disk: on which device it is, or why it cannot be
//! held here. Both runtimes ask here, so that neither leaves it out in silence.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::cgroup::{Controller, Device, Homes};
use crate::files;
use crate::runtime::Container;

/// Why operations a second are not limited.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotHeld {
    /// The kernel, or whoever gave the agent its groups, has no such controller for it.
    #[error("its operations on the disk are not limited: this machine has no control group for them")]
    Controller,
    /// There is nothing that could be limited.
    #[error("its operations on the disk are not limited: it has no volume that it writes to")]
    Volume,
    /// A directory in memory, on a network, or in layers.
    #[error("its operations on the disk are not limited: {0} lies on no block device")]
    NoDevice(PathBuf),
    /// The disk failed.
    #[error("its operations on the disk are not limited: {0}: {1}")]
    Disk(PathBuf, io::Error),
}

/// The device and how many operations a second it may do there; nothing where it is not limited.
pub(crate) fn of(container: &Container, homes: &Homes) -> Result<Option<(Device, u64)>, NotHeld> {
    let Some(iops) = container.limits.iops else { return Ok(None) };
    if !homes.of.contains_key(&Controller::Io) {
        return Err(NotHeld::Controller);
    }
    let data = container.volumes.iter().find(|volume| volume.writable).ok_or(NotHeld::Volume)?;
    let device = device(&data.source).map_err(|error| NotHeld::Disk(data.source.clone(), error))?;
    let device = device.ok_or_else(|| NotHeld::NoDevice(data.source.clone()))?;
    Ok(Some((device, iops)))
}

/// The whole disk that a directory lies on: the kernel limits no partitions.
fn device(directory: &Path) -> io::Result<Option<Device>> {
    let device = std::fs::metadata(directory)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    if major == 0 {
        return Ok(None);
    }
    let block = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let whole = if block.join("partition").exists() { block.join("../dev") } else { block.join("dev") };
    let text = files::read_text(&whole).unwrap_or_default();
    let numbers = text
        .trim()
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    Ok(Some(numbers.unwrap_or((major, minor))))
}
