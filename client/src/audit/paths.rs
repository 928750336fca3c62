//! Names of the files of an export (C2SP tlog-tiles), and the form of a bundle
//! of entries.

use coffer_keys::TILE_WIDTH;

/// The signed checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";

/// The key that signed it, for people and other people's programs. A verifier
/// takes the key from elsewhere.
pub(super) const KEY: &str = "log.key";

/// A tile of hashes, or, at no level, a bundle of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// `None`: entries.
    pub(super) level: Option<usize>,
    pub(super) number: u64,
    /// Hashes or entries in it, 1 to 256.
    pub(super) width: u64,
}

impl Tile {
    /// `tile/L/xNNN/NNN`, with `.p/W` if it is not full.
    pub(super) fn path(self) -> String {
        let level = self.level.map_or_else(|| "entries".to_owned(), |level| level.to_string());
        let mut rest = self.number / 1000;
        let mut path = format!("{:03}", self.number % 1000);
        while rest > 0 {
            path = format!("x{:03}/{path}", rest % 1000);
            rest /= 1000;
        }
        let part = if self.width < TILE_WIDTH { format!(".p/{}", self.width) } else { String::new() };
        format!("tile/{level}/{path}{part}")
    }
}

/// The tiles that a level of a tree of `size` leaves has; level 0 also gives
/// the bundles.
pub(super) fn tiles_of(level: usize, size: u64) -> impl Iterator<Item = Tile> {
    let shift = u32::try_from(level).unwrap_or(u32::MAX).saturating_mul(8);
    let hashes = size.checked_shr(shift).unwrap_or(0);
    let full = (0..hashes / TILE_WIDTH).map(|number| (number, TILE_WIDTH));
    let rest = Some((hashes / TILE_WIDTH, hashes % TILE_WIDTH)).filter(|(_, width)| *width > 0);
    full.chain(rest).map(move |(number, width)| Tile { level: Some(level), number, width })
}

/// The leaf is longer than an entry of a bundle can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Entries with their lengths before them, two bytes big-endian.
pub(super) fn bundle(leaves: &[Vec<u8>]) -> Result<Vec<u8>, TooLong> {
    let mut out = Vec::with_capacity(leaves.iter().map(|leaf| leaf.len() + 2).sum());
    for leaf in leaves {
        out.extend_from_slice(&u16::try_from(leaf.len()).map_err(|_| TooLong)?.to_be_bytes());
        out.extend_from_slice(leaf);
    }
    Ok(out)
}

/// The entries of a bundle, and whether nothing is left over.
pub(super) fn entries(mut bundle: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((entry, rest)) = rest.split_at_checked(length) else { return (entries, false) };
        entries.push(entry);
        bundle = rest;
    }
    (entries, bundle.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_70_000_leaves_has_the_tiles_that_the_specification_counts() {
        let of = |level| tiles_of(level, 70_000).collect::<Vec<_>>();
        assert_eq!((of(0).len(), of(0).last().unwrap().width), (274, 112));
        let widths = |level| of(level).iter().map(|tile| tile.width).collect::<Vec<_>>();
        assert_eq!((widths(1), widths(2), widths(3)), (vec![256, 17], vec![1], vec![]));
        assert_eq!(tiles_of(1, 256).map(Tile::path).collect::<Vec<_>>(), ["tile/1/000.p/1"]);
        let tile = Tile { level: None, number: 1_234_067, width: 256 };
        assert_eq!(tile.path(), "tile/entries/x001/x234/067");
    }

    #[test]
    fn a_bundle_reads_back_and_one_that_is_cut_does_not() {
        let leaves = vec![b"one".to_vec(), vec![], b"three".to_vec()];
        let bytes = bundle(&leaves).unwrap();
        assert_eq!(entries(&bytes), (vec![&b"one"[..], b"", b"three"], true));
        assert!(!entries(&bytes[..bytes.len() - 1]).1);
        assert!(!entries(&bytes[..bytes.len() - 6]).1);
        assert_eq!(bundle(&[vec![0; 65_536]]), Err(TooLong));
    }
}
