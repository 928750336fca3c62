//! The Merkle tree of RFC 6962 (section 2.1; proofs as verified in RFC 9162,
//! section 2.1) over SHA-256.

use coffer_model::Digest;

use crate::engine::sha256;

/// Why a proof is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf, or the older tree, lies outside the tree.
    #[error("the proof speaks of a leaf or tree that is larger than the tree it is checked against")]
    OutOfRange,
    /// More or fewer hashes than the shape of the tree has.
    #[error("the proof has another number of hashes than this tree's shape needs")]
    Length,
    /// The hashes lead to another root.
    #[error("the proof leads to another root: the log was rewritten, or the proof is for another tree")]
    OtherRoot,
}

/// The hash of one leaf: SHA-256 over 0x00 and its bytes.
pub fn leaf_hash(leaf: &[u8]) -> Digest {
    Digest(sha256(&[&[0], leaf]))
}

pub(super) fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Digest(sha256(&[&[1], &left.0, &right.0]))
}

/// The root of a tree that grows: keeps one hash for each perfect subtree, so
/// that a million leaves take twenty hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// Roots of the perfect subtrees, largest first; one for each 1 bit of `size`.
    subtrees: Vec<Digest>,
}

impl Tree {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree of these leaf hashes.
    pub fn from_leaves(leaves: &[Digest]) -> Self {
        let mut tree = Self::new();
        leaves.iter().for_each(|leaf| tree.append(*leaf));
        tree
    }

    /// The tree of this size with these roots of perfect subtrees, largest
    /// first; nothing if that size has another number of them.
    pub fn from_subtrees(size: u64, subtrees: Vec<Digest>) -> Option<Self> {
        let wanted = usize::try_from(size.count_ones()).ok()?;
        (subtrees.len() == wanted).then_some(Self { size, subtrees })
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn subtrees(&self) -> &[Digest] {
        &self.subtrees
    }

    /// Appends a leaf by its [`leaf_hash`].
    pub fn append(&mut self, leaf: Digest) {
        let mut hash = leaf;
        // Each trailing 1 bit of the old size is a perfect subtree that the
        // new leaf completes to one twice as large.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root; of the empty tree, SHA-256 of nothing.
    pub fn root(&self) -> Digest {
        let mut rest = self.subtrees.iter().rev();
        let Some(last) = rest.next() else { return Digest(sha256(&[])) };
        rest.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The root over these leaf hashes.
pub fn root_of(leaves: &[Digest]) -> Digest {
    Tree::from_leaves(leaves).root()
}

/// The largest power of two below `count` > 1, where a tree of that many
/// leaves splits.
pub(super) fn split_point(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// The way from the root of a tree of `size` leaves to leaf `index`, turned
/// round: `hash` gives the hash over so many leaves from there on.
pub(super) fn inclusion_walk<E>(
    index: u64,
    size: u64,
    mut hash: impl FnMut(u64, u64) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    let mut proof = Vec::new();
    let (mut start, mut count) = (0, size);
    while count > 1 {
        let left = split_point(count);
        if index < start + left {
            proof.push(hash(start + left, count - left)?);
            count = left;
        } else {
            proof.push(hash(start, left)?);
            (start, count) = (start + left, count - left);
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The way to where the first `old` of `size` leaves end, turned round.
pub(super) fn consistency_walk<E>(
    old: u64,
    size: u64,
    mut hash: impl FnMut(u64, u64) -> Result<Digest, E>,
) -> Result<Vec<Digest>, E> {
    let mut proof = Vec::new();
    if old == 0 {
        return Ok(proof);
    }
    let (mut start, mut count) = (0, size);
    while old != start + count {
        let left = split_point(count);
        if old <= start + left {
            proof.push(hash(start + left, count - left)?);
            count = left;
        } else {
            proof.push(hash(start, left)?);
            (start, count) = (start + left, count - left);
        }
    }
    // The verifier knows the old root: only a part of it is told.
    if start > 0 {
        proof.push(hash(start, count)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root over some of these leaves.
fn root_within(leaves: &[Digest], start: u64, count: u64) -> Result<Digest, ProofError> {
    let at = |number: u64| usize::try_from(number).map_err(|_| ProofError::OutOfRange);
    let range = at(start)?..at(start.saturating_add(count))?;
    leaves.get(range).map(root_of).ok_or(ProofError::OutOfRange)
}

/// The hashes that prove that leaf `index` is in the tree of these leaves; of
/// many leaves [`super::Tiles`] makes them with less work.
///
/// # Errors
/// [`ProofError::OutOfRange`].
pub fn inclusion_proof(leaves: &[Digest], index: u64) -> Result<Vec<Digest>, ProofError> {
    let size = leaves.len() as u64;
    if index >= size {
        return Err(ProofError::OutOfRange);
    }
    inclusion_walk(index, size, |start, count| root_within(leaves, start, count))
}

/// Checks that the leaf with this hash is leaf `index` of the tree with this
/// size and root.
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(
    leaf: Digest,
    index: u64,
    size: u64,
    root: Digest,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange);
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if at % 2 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    match (last, hash == root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::OtherRoot),
        _ => Err(ProofError::Length),
    }
}

/// The hashes that prove that the first `old_size` of these leaves are an
/// earlier state of the same tree. Empty for an old size of zero or all.
///
/// # Errors
/// [`ProofError::OutOfRange`].
pub fn consistency_proof(leaves: &[Digest], old_size: u64) -> Result<Vec<Digest>, ProofError> {
    let size = leaves.len() as u64;
    if old_size > size {
        return Err(ProofError::OutOfRange);
    }
    consistency_walk(old_size, size, |start, count| root_within(leaves, start, count))
}

/// Checks that the tree `(old_size, old_root)` is an earlier state of the tree
/// `(new_size, new_root)`. Every tree extends the empty one.
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(
    old_size: u64,
    old_root: Digest,
    new_size: u64,
    new_root: Digest,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::OutOfRange);
    }
    if old_size == new_size || old_size == 0 {
        let empty = old_size == 0 && old_root != root_of(&[]);
        let changed = old_size == new_size && old_root != new_root;
        return match (proof.is_empty(), empty || changed) {
            (false, _) => Err(ProofError::Length),
            (true, true) => Err(ProofError::OtherRoot),
            (true, false) => Ok(()),
        };
    }
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    while at % 2 == 1 {
        (at, last) = (at / 2, last / 2);
    }
    // An old tree that is one perfect subtree starts the proof itself.
    let (start, rest) = if at == 0 {
        (old_root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(ProofError::Length)?;
        (*first, rest)
    };
    let (mut old, mut new) = (start, start);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Length);
        }
        if at % 2 == 1 || at == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while at % 2 == 0 && at != 0 {
                (at, last) = (at / 2, last / 2);
            }
        } else {
            new = node_hash(&new, sibling);
        }
        (at, last) = (at / 2, last / 2);
    }
    match (last, old == old_root && new == new_root) {
        (0, true) => Ok(()),
        (0, false) => Err(ProofError::OtherRoot),
        _ => Err(ProofError::Length),
    }
}
