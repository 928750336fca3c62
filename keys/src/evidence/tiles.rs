//! The hashes of a log kept by tiles of 256 (C2SP tlog-tiles): one hash in
//! memory for each full tile, so that a proof costs a few tiles of leaf hashes
//! and some hundred steps, however many leaves there are.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::Digest;

use super::merkle::{Tree, consistency_walk, inclusion_walk, node_hash, root_of, split_point};

/// Hashes in a full tile.
pub const TILE_WIDTH: u64 = 256;

/// log2 of [`TILE_WIDTH`].
const TILE_HEIGHT: u32 = 8;

/// Why no proof was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The leaf, or the older tree, lies outside the tree.
    #[error("the log has {size} leaves, not {asked}")]
    OutOfRange {
        /// Leaves of the tree.
        size: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The caller did not bring the leaf hashes of a tile that it was told of.
    #[error("the leaf hashes of tile {tile} are missing or not {TILE_WIDTH}")]
    Missing {
        /// Its number at level 0.
        tile: u64,
    },
}

/// Full tiles of leaf hashes, by their number at level 0.
pub type LeafTiles = BTreeMap<u64, Vec<Digest>>;

/// The tiles of a tree that grows, but for the leaf hashes of full tiles:
/// those are stored elsewhere, and brought by whoever asks for a proof.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tiles {
    /// Hashes of full tiles: `levels[0]` of those at level 0, and so on.
    levels: Vec<Vec<Digest>>,
    /// Leaf hashes of the tile that is not full yet.
    open: Vec<Digest>,
    tree: Tree,
}

impl Tiles {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root; of the empty tree, SHA-256 of nothing.
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// Hashes that are kept in memory.
    pub fn kept(&self) -> usize {
        self.open.len() + self.levels.iter().map(Vec::len).sum::<usize>()
    }

    /// Appends a leaf by its hash.
    pub fn append(&mut self, leaf: Digest) {
        self.tree.append(leaf);
        self.open.push(leaf);
        if self.open.len() as u64 == TILE_WIDTH {
            let mut hash = root_of(&self.open);
            self.open.clear();
            for level in 0.. {
                if self.levels.len() == level {
                    self.levels.push(Vec::new());
                }
                let Some(hashes) = self.levels.get_mut(level) else { break };
                hashes.push(hash);
                if !(hashes.len() as u64).is_multiple_of(TILE_WIDTH) {
                    break;
                }
                let last = hashes.len().saturating_sub(1 << TILE_HEIGHT);
                hash = root_of(hashes.get(last..).unwrap_or_default());
            }
        }
    }

    /// The hash of the full tile with this number at `level`, from 0.
    pub fn tile_hash(&self, level: usize, number: u64) -> Option<Digest> {
        self.levels.get(level)?.get(usize::try_from(number).ok()?).copied()
    }

    /// The full tiles of leaf hashes that proofs about these positions, leaves
    /// or sizes, need.
    pub fn needed(&self, positions: &[u64]) -> BTreeSet<u64> {
        let full = self.size() / TILE_WIDTH;
        positions.iter().map(|at| at / TILE_WIDTH).filter(|tile| *tile < full).collect()
    }

    /// The hashes that prove that leaf `index` is in the tree of the first
    /// `size` leaves, as [`super::inclusion_proof`] gives them. `leaves` are
    /// the tiles [`Self::needed`] for index and size.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn inclusion(&self, index: u64, size: u64, leaves: &LeafTiles) -> Result<Vec<Digest>, TileError> {
        self.check(size)?;
        if index >= size {
            return Err(TileError::OutOfRange { size, asked: index });
        }
        inclusion_walk(index, size, |start, count| self.hash(start, count, leaves))
    }

    /// The hashes that prove that the first `old` leaves are an earlier state
    /// of the first `size`, as [`super::consistency_proof`] gives them.
    /// `leaves` are the tiles [`Self::needed`] for both sizes.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn consistency(&self, old: u64, size: u64, leaves: &LeafTiles) -> Result<Vec<Digest>, TileError> {
        self.check(size)?;
        if old > size {
            return Err(TileError::OutOfRange { size, asked: old });
        }
        consistency_walk(old, size, |start, count| self.hash(start, count, leaves))
    }

    /// The tree as it was at `size`, to go on from there. `leaves` are the
    /// tiles [`Self::needed`] for it.
    ///
    /// # Errors
    /// [`TileError`].
    pub fn tree_at(&self, size: u64, leaves: &LeafTiles) -> Result<Tree, TileError> {
        self.check(size)?;
        let mut subtrees = Vec::new();
        let mut start = 0;
        for bit in (0..u64::BITS).rev().map(|bit| 1 << bit).filter(|bit| size & bit != 0) {
            subtrees.push(self.hash(start, bit, leaves)?);
            start += bit;
        }
        Tree::from_subtrees(size, subtrees)
            .ok_or_else(|| TileError::OutOfRange { size: self.size(), asked: size })
    }

    fn check(&self, size: u64) -> Result<(), TileError> {
        if size > self.size() {
            return Err(TileError::OutOfRange { size: self.size(), asked: size });
        }
        Ok(())
    }

    /// The hash over `count` leaves from `start`, a subtree of some tree.
    fn hash(&self, start: u64, count: u64, leaves: &LeafTiles) -> Result<Digest, TileError> {
        if count.is_power_of_two() {
            return self.perfect(start, count, leaves);
        }
        let left = split_point(count);
        let right = self.hash(start + left, count - left, leaves)?;
        Ok(node_hash(&self.hash(start, left, leaves)?, &right))
    }

    /// The same for a perfect subtree: over the stored hashes of the highest
    /// level that has any of it.
    fn perfect(&self, start: u64, count: u64, leaves: &LeafTiles) -> Result<Digest, TileError> {
        let tile = start / TILE_WIDTH;
        let missing = TileError::Missing { tile };
        if count < TILE_WIDTH {
            let hashes = if tile == self.size() / TILE_WIDTH {
                &self.open
            } else {
                leaves.get(&tile).filter(|hashes| hashes.len() as u64 == TILE_WIDTH).ok_or(missing)?
            };
            return part(hashes, start % TILE_WIDTH, count).map(root_of).ok_or(missing);
        }
        let level = count.trailing_zeros() / TILE_HEIGHT;
        let shift = level * TILE_HEIGHT;
        let stored = usize::try_from(level).ok().and_then(|level| self.levels.get(level.checked_sub(1)?));
        let hashes = stored.map(Vec::as_slice).unwrap_or_default();
        part(hashes, start >> shift, count >> shift).map(root_of).ok_or(missing)
    }
}

fn part(hashes: &[Digest], start: u64, count: u64) -> Option<&[Digest]> {
    let (start, count) = (usize::try_from(start).ok()?, usize::try_from(count).ok()?);
    hashes.get(start..start.checked_add(count)?)
}

#[cfg(test)]
mod tests {
    use super::super::merkle::{consistency_proof, inclusion_proof, leaf_hash};
    use super::*;

    fn log(size: u64) -> (Tiles, Vec<Digest>) {
        let hashes: Vec<Digest> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut tiles = Tiles::new();
        hashes.iter().for_each(|hash| tiles.append(*hash));
        (tiles, hashes)
    }

    fn load(tiles: &Tiles, hashes: &[Digest], positions: &[u64]) -> LeafTiles {
        let load = |tile: u64| {
            let start = usize::try_from(tile * TILE_WIDTH).unwrap();
            (tile, hashes[start..start + 256].to_vec())
        };
        tiles.needed(positions).into_iter().map(load).collect()
    }

    #[test]
    fn proofs_from_tiles_are_those_of_the_slow_and_obvious_way() {
        let sizes = [1, 2, 3, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 70_000, 131_073];
        let (tiles, hashes) = log(140_000);
        for size in sizes {
            let all = &hashes[..usize::try_from(size).unwrap()];
            for at in [0, 1, 100, 255, 256, 511, 512, 65_535, 65_536, 69_999, size - 1] {
                if at >= size {
                    continue;
                }
                let leaves = load(&tiles, &hashes, &[at, size]);
                assert_eq!(tiles.inclusion(at, size, &leaves).unwrap(), inclusion_proof(all, at).unwrap());
                assert_eq!(
                    tiles.consistency(at, size, &leaves).unwrap(),
                    consistency_proof(all, at).unwrap()
                );
            }
            let leaves = load(&tiles, &hashes, &[size]);
            assert_eq!(tiles.tree_at(size, &leaves).unwrap(), Tree::from_leaves(all));
            assert!(leaves.len() <= 1, "a size needs one tile");
        }
        assert_eq!(tiles.root(), root_of(&hashes));
        assert!(tiles.kept() < 140_000 / 256 + 256 + 3, "{} hashes are kept", tiles.kept());
    }

    #[test]
    fn what_lies_outside_and_tiles_that_were_not_brought_are_refused() {
        let (tiles, hashes) = log(1000);
        let none = LeafTiles::new();
        let beyond = |asked| Err(TileError::OutOfRange { size: 1000, asked });
        assert_eq!(tiles.inclusion(1000, 1000, &none), beyond(1000));
        assert_eq!(tiles.inclusion(0, 1001, &none), beyond(1001));
        assert_eq!(tiles.consistency(0, 1001, &none), beyond(1001));
        assert_eq!(tiles.inclusion(300, 1000, &none), Err(TileError::Missing { tile: 1 }));
        let short = LeafTiles::from([(1, hashes[256..511].to_vec())]);
        assert_eq!(tiles.inclusion(300, 1000, &short), Err(TileError::Missing { tile: 1 }));
        assert!(tiles.tree_at(1001, &none).is_err());
        assert_eq!(tiles.tree_at(0, &none).unwrap(), Tree::new());
    }
}
