//! An export of a log: its leaves, tiles and checkpoint as files, written as
//! they come, so that memory does not depend on the length of the log.

use std::io;
use std::path::Path;

use coffer_keys::{Checkpoint, TILE_WIDTH, Tiles, VerifierName, WitnessPolicy, leaf_hash};
use coffer_model::Digest;

use super::disk;
use super::paths::{CHECKPOINT, KEY, Tile, TooLong, bundle, tiles_of};
use super::range::LeafRange;
use crate::connect::Client;
use crate::log::{LogError, LogWatch};

/// Why there is no export. What was written lacks its checkpoint and is none.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log is not believed, or not had.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The disk.
    #[error("the export cannot be written: {0}")]
    Disk(#[from] io::Error),
    /// A leaf that no bundle takes.
    #[error("leaf {0} is longer than 65535 bytes, the most that an entry of a bundle may have")]
    LeafTooLong(u64),
    /// The leaves, each proven, do not add up to the checkpoint: a fault here.
    #[error("the leaves do not add up to the checkpoint")]
    Root,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The log's state.
    pub checkpoint: Checkpoint,
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes the whole log, as it is now, into an empty directory. `told` hears
/// of each leaf, in order. With a policy the checkpoint is one that its
/// witnesses cosigned, and there is no export without their quorum.
///
/// # Errors
/// [`ExportError`].
pub async fn export_log(
    client: &Client,
    watch: &mut LogWatch,
    key: &VerifierName,
    dir: &Path,
    policy: Option<&WitnessPolicy>,
    told: &mut dyn FnMut(u64, &[u8]),
) -> Result<Exported, ExportError> {
    let mut writer = Writer::new(dir);
    let take = |range: LeafRange| {
        for (index, leaf) in (range.first..).zip(range.leaves) {
            told(index, &leaf);
            writer.leaf(leaf)?;
        }
        Ok::<_, ExportError>(())
    };
    let checkpoint = watch.read_from(client, policy, 0, take).await?;
    let note = watch.remembered().unwrap_or_default().to_owned();
    writer.finish(&checkpoint, &note, key)
}

/// Writes leaves as they come.
struct Writer<'a> {
    dir: &'a Path,
    tiles: Tiles,
    /// Of the tile that is not full yet.
    leaves: Vec<Vec<u8>>,
    hashes: Vec<Digest>,
    files: u64,
    bytes: u64,
}

impl<'a> Writer<'a> {
    fn new(dir: &'a Path) -> Self {
        Self { dir, tiles: Tiles::new(), leaves: Vec::new(), hashes: Vec::new(), files: 0, bytes: 0 }
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.files += 1;
        self.bytes += bytes.len() as u64;
        disk::write_new(self.dir, name, bytes)
    }

    fn leaf(&mut self, leaf: Vec<u8>) -> Result<(), ExportError> {
        let hash = leaf_hash(&leaf);
        self.tiles.append(hash);
        self.hashes.push(hash);
        self.leaves.push(leaf);
        if self.leaves.len() as u64 == TILE_WIDTH { self.tile() } else { Ok(()) }
    }

    /// The bundle and the tile of the leaves that wait.
    fn tile(&mut self) -> Result<(), ExportError> {
        let (leaves, hashes) = (std::mem::take(&mut self.leaves), std::mem::take(&mut self.hashes));
        let width = leaves.len() as u64;
        let first = self.tiles.size() - width;
        let tile = Tile { level: Some(0), number: first / TILE_WIDTH, width };
        let entries = bundle(&leaves).map_err(|TooLong| {
            let long = leaves.iter().position(|leaf| leaf.len() > usize::from(u16::MAX)).unwrap_or(0);
            ExportError::LeafTooLong(first + long as u64)
        })?;
        self.file(&Tile { level: None, ..tile }.path(), &entries)?;
        Ok(self.file(&tile.path(), &joined(hashes.iter().copied()))?)
    }

    /// The rest: the tile that is not full, the levels above, and, last of
    /// all, the checkpoint that makes it an export.
    fn finish(
        mut self,
        checkpoint: &Checkpoint,
        note: &str,
        key: &VerifierName,
    ) -> Result<Exported, ExportError> {
        if !self.leaves.is_empty() {
            self.tile()?;
        }
        let size = self.tiles.size();
        if (size, self.tiles.root()) != (checkpoint.size, checkpoint.root) {
            return Err(ExportError::Root);
        }
        for level in 1..8 {
            for tile in tiles_of(level, size) {
                let first = tile.number * TILE_WIDTH;
                let hashes = (first..first + tile.width).map_while(|at| self.tiles.tile_hash(level - 1, at));
                let bytes = joined(hashes);
                self.file(&tile.path(), &bytes)?;
            }
        }
        self.file(KEY, format!("{key}\n").as_bytes())?;
        self.files += 1;
        self.bytes += note.len() as u64;
        disk::write_last(self.dir, CHECKPOINT, note.as_bytes())?;
        Ok(Exported { checkpoint: checkpoint.clone(), files: self.files, bytes: self.bytes })
    }
}

/// Hashes, one after the other.
pub(super) fn joined(hashes: impl Iterator<Item = Digest>) -> Vec<u8> {
    hashes.flat_map(|hash| hash.0).collect()
}
