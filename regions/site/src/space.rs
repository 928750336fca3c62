//! How much room a site has, and what of it is kept for work that makes room:
//! deletes, slots and compaction go on when puts are already refused.

use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, Room};
use crate::options::SiteOptions;

/// Largest volume, and the smallest on a tiny file system.
const VOLUME_BYTES_MAX: u64 = 1 << 30;
const VOLUME_BYTES_MIN: u64 = 256 << 10;
/// Volumes that fit a file system, at least.
const VOLUMES_MIN: u64 = 64;
/// Kept beside one whole volume: slots, removals, the ledger.
const RESERVE_BESIDE: u64 = 256 << 10;
/// Blocks are reserved in steps of this many bytes, or a quarter of a volume.
const PREALLOCATE_BYTES: u64 = 16 << 20;

/// The room of one site.
pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    capacity: Option<u64>,
    /// A volume that has reached this length takes no further batch.
    pub(crate) volume_bytes: u64,
    /// Free bytes below which puts are refused.
    pub(crate) reserve: u64,
}

impl Space {
    pub(crate) fn new(root: PathBuf, options: &SiteOptions) -> Self {
        let total = options.disk.room(&root).map_or(u64::MAX, |room| room.total);
        let total = total.min(options.capacity_bytes.unwrap_or(u64::MAX));
        let fitting = (total / VOLUMES_MIN).clamp(VOLUME_BYTES_MIN, VOLUME_BYTES_MAX);
        let volume_bytes = options.volume_bytes.unwrap_or(fitting).clamp(1, VOLUME_BYTES_MAX);
        // Compaction copies at most one volume before it removes one.
        let reserve = (volume_bytes + volume_bytes / 8 + RESERVE_BESIDE).min(total / 4);
        Self { disk: options.disk.clone(), root, capacity: options.capacity_bytes, volume_bytes, reserve }
    }

    /// Bytes that may still be written, while `used` are; `None` where nobody knows.
    pub(crate) fn free(&self, used: u64) -> Option<u64> {
        let of_disk = self.disk.room(&self.root).ok().map(|Room { free, .. }| free);
        let of_capacity = self.capacity.map(|capacity| capacity.saturating_sub(used));
        of_disk.into_iter().chain(of_capacity).min()
    }

    /// Bytes that puts may still write.
    pub(crate) fn free_for_puts(&self, used: u64) -> Option<u64> {
        self.free(used).map(|free| free.saturating_sub(self.reserve))
    }

    /// Whether so few free bytes are so few that compaction should not wait
    /// for more dead ones.
    pub(crate) fn is_short(&self, free: Option<u64>) -> bool {
        free.is_some_and(|free| free < self.reserve.saturating_mul(2))
    }

    /// How far to reserve blocks behind the end of a volume; none where that
    /// would take what others need.
    pub(crate) fn preallocation(&self, used: u64) -> Option<u64> {
        let step = PREALLOCATE_BYTES.min(self.volume_bytes / 4);
        self.free_for_puts(used).is_some_and(|free| free / 4 > step).then_some(step)
    }
}
