//! A proof of one leaf in one file (C2SP tlog-proof): the leaf rides in it as
//! extra data, and counts only because its hash is proven.

use std::io;
use std::path::Path;

use coffer_keys::{
    Checkpoint, LeafTiles, NoteError, ProofError, TILE_WIDTH, TileError, Tiles, VerifierName, leaf_hash,
    open_checkpoint, verify_inclusion,
};
use coffer_model::Digest;

use super::disk;
use super::paths::{CHECKPOINT, Tile, entries, tiles_of};
use crate::tlog_proof::{self, Misread, TEXT_BYTES_MAX};

/// The longest proof that is looked at, in bytes.
pub const PROOF_BYTES_MAX: usize = TEXT_BYTES_MAX;

/// Why a text proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum ProofFileError {
    /// Not of the form.
    #[error("line {line} of the proof is not what a c2sp.org/tlog-proof@v1 has there")]
    Form {
        /// From 1.
        line: usize,
    },
    /// Another spelling than the one that is written.
    #[error("the proof is spelled otherwise than its maker would")]
    Spelling,
    /// The checkpoint in it.
    #[error("the checkpoint in the proof: {0}")]
    Note(#[from] NoteError),
    /// The hashes.
    #[error("leaf {index}: {reason}")]
    Inclusion {
        /// Which leaf.
        index: u64,
        /// What is wrong.
        reason: ProofError,
    },
    /// The export that it was to be made from.
    #[error("the export cannot be read: {0}")]
    Disk(#[from] io::Error),
    /// The export lacks what the proof needs.
    #[error("no proof can be made from the export: {0}")]
    Export(#[from] TileError),
}

/// A leaf, its place and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Its index.
    pub index: u64,
    /// Its bytes.
    pub leaf: Vec<u8>,
    /// From its sibling to the child of the root.
    pub path: Vec<Digest>,
    /// The signed note.
    pub checkpoint: String,
}

impl TlogProof {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        tlog_proof::write(Some(&self.leaf), self.index, &self.path, &self.checkpoint)
    }

    /// Reads the text of a file. Nothing is verified yet.
    ///
    /// # Errors
    /// [`ProofFileError::Form`], [`ProofFileError::Spelling`].
    pub fn parse(text: &str) -> Result<Self, ProofFileError> {
        let read = tlog_proof::read(text).map_err(|misread| match misread {
            Misread::Line(line) => ProofFileError::Form { line },
            Misread::Spelling => ProofFileError::Spelling,
        })?;
        let leaf = read.extra.ok_or(ProofFileError::Form { line: 2 })?;
        Ok(Self { index: read.index, leaf, path: read.hashes, checkpoint: read.note.to_owned() })
    }

    /// Verifies that the leaf is in the log of this key, and says in which
    /// state of it.
    ///
    /// # Errors
    /// [`ProofFileError`].
    pub fn verify(&self, key: &VerifierName) -> Result<Checkpoint, ProofFileError> {
        let checkpoint = open_checkpoint(&self.checkpoint, &key.name, &key.key)?;
        let hash = leaf_hash(&self.leaf);
        verify_inclusion(hash, self.index, checkpoint.size, checkpoint.root, &self.path)
            .map_err(|reason| ProofFileError::Inclusion { index: self.index, reason })?;
        Ok(checkpoint)
    }
}

/// The proof of a leaf of an export, without a service. Verify it: the export
/// itself is not.
///
/// # Errors
/// [`ProofFileError`].
pub fn prove_from_export(dir: &Path, key: &VerifierName, index: u64) -> Result<TlogProof, ProofFileError> {
    let note = String::from_utf8(disk::read(dir, CHECKPOINT)?).unwrap_or_default();
    let Checkpoint { size, .. } = open_checkpoint(&note, &key.name, &key.key)?;
    if index >= size {
        return Err(TileError::OutOfRange { size, asked: index }.into());
    }
    let mut tiles = Tiles::new();
    let mut kept = LeafTiles::new();
    let mut leaf = Vec::new();
    for tile in tiles_of(0, size) {
        let bytes = disk::read(dir, &tile.path())?;
        let hashes: Vec<Digest> = bytes.as_chunks::<32>().0.iter().map(|hash| Digest(*hash)).collect();
        if hashes.len() as u64 != tile.width {
            return Err(TileError::Missing { tile: tile.number }.into());
        }
        hashes.iter().for_each(|hash| tiles.append(*hash));
        if tile.number == index / TILE_WIDTH {
            let bundle = disk::read(dir, &Tile { level: None, ..tile }.path())?;
            let place = usize::try_from(index % TILE_WIDTH).unwrap_or(usize::MAX);
            leaf = entries(&bundle).0.get(place).map(|leaf| leaf.to_vec()).unwrap_or_default();
            kept.insert(tile.number, hashes);
        }
    }
    let path = tiles.inclusion(index, size, &kept)?;
    Ok(TlogProof { index, leaf, path, checkpoint: note })
}

#[cfg(test)]
mod tests {
    use coffer_keys::{SigningKey, Tree, inclusion_proof, sign_checkpoint};
    use zeroize::Zeroizing;

    use super::*;

    fn proof() -> (TlogProof, VerifierName) {
        let leaves: Vec<Vec<u8>> = (0..11_u8).map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
        let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let key = SigningKey::danger_from_seed(Zeroizing::new([7; 32]));
        let root = Tree::from_leaves(&hashes).root();
        let checkpoint = Checkpoint { origin: "coffer-1/log/t".to_owned(), size: 11, root };
        let checkpoint = sign_checkpoint(&key, "coffer-1", &checkpoint);
        let path = inclusion_proof(&hashes, 6).unwrap();
        let name = VerifierName { name: "coffer-1".to_owned(), key: key.verifying_key() };
        (TlogProof { index: 6, leaf: leaves[6].clone(), path, checkpoint }, name)
    }

    #[test]
    fn a_proof_reads_back_and_every_changed_character_of_it_is_refused() {
        let (proof, key) = proof();
        let text = proof.to_text();
        assert_eq!(TlogProof::parse(&text).unwrap(), proof);
        assert_eq!(proof.verify(&key).unwrap().size, 11);
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            for new in ["0", "A", "\n", " "] {
                let rest = text[at..].chars().next().unwrap().len_utf8();
                let changed = format!("{}{new}{}", &text[..at], &text[at + rest..]);
                let good = TlogProof::parse(&changed).is_ok_and(|proof| proof.verify(&key).is_ok());
                assert!(!good || changed == text, "byte {at} as {new:?}");
            }
        }
        let cut = TlogProof::parse(&text[..text.len() - 1]).unwrap();
        assert!(matches!(cut.verify(&key), Err(ProofFileError::Note(_))));
    }
}
