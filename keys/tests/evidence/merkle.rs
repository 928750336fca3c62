//! The tree against the definitions of RFC 6962, spelled out recursively.

use coffer_keys::{
    ProofError, Tree, consistency_proof, inclusion_proof, leaf_hash, root_of, verify_consistency,
    verify_inclusion,
};
use coffer_model::Digest;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

fn hash(parts: &[&[u8]]) -> Digest {
    Digest(Sha256::digest(parts.concat()).into())
}

fn split(n: usize) -> usize {
    (0..).map(|power| 1 << power).take_while(|k| *k < n).last().unwrap()
}

/// MTH of section 2.1.
fn naive_root(leaves: &[Vec<u8>]) -> Digest {
    match leaves {
        [] => hash(&[]),
        [leaf] => hash(&[&[0], leaf]),
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            hash(&[&[1], &naive_root(left).0, &naive_root(right).0])
        }
    }
}

/// PATH of section 2.1.1.
fn naive_path(m: usize, leaves: &[Vec<u8>]) -> Vec<Digest> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = if m < left.len() {
        (naive_path(m, left), naive_root(right))
    } else {
        (naive_path(m - left.len(), right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// SUBPROOF of section 2.1.2.
fn naive_subproof(m: usize, leaves: &[Vec<u8>], known: bool) -> Vec<Digest> {
    if m == leaves.len() {
        return if known { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut proof, sibling) = if m <= left.len() {
        (naive_subproof(m, left, known), naive_root(right))
    } else {
        (naive_subproof(m - left.len(), right, false), naive_root(left))
    };
    proof.push(sibling);
    proof
}

fn leaves(count: usize) -> (Vec<Vec<u8>>, Vec<Digest>) {
    let leaves: Vec<Vec<u8>> = (0..count).map(|i| format!("leaf {i}").into_bytes()).collect();
    let hashes = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    (leaves, hashes)
}

#[test]
fn the_root_is_the_definition_s_at_every_size() {
    let (all, hashes) = leaves(70);
    let mut tree = Tree::new();
    for size in 0..=70 {
        assert_eq!(tree.root(), naive_root(&all[..size]), "{size}");
        assert_eq!((tree.size(), root_of(&hashes[..size])), (size as u64, tree.root()));
        if size < 70 {
            tree.append(hashes[size]);
        }
    }
}

#[test]
fn every_inclusion_proof_is_the_definition_s_and_proves_its_leaf_only() {
    for size in 1..=33 {
        let (all, hashes) = leaves(size);
        let root = naive_root(&all);
        for index in 0..size {
            let proof = inclusion_proof(&hashes, index as u64).unwrap();
            assert_eq!(proof, naive_path(index, &all));
            for claimed in 0..=size as u64 {
                let verdict = verify_inclusion(hashes[index], claimed, size as u64, root, &proof);
                assert_eq!(verdict.is_ok(), claimed == index as u64, "{index} as {claimed} of {size}");
            }
        }
    }
}

#[test]
fn every_consistency_proof_is_the_definition_s_and_verifies() {
    for size in 1..=33 {
        let (all, hashes) = leaves(size);
        for old in 0..=size {
            let proof = consistency_proof(&hashes, old as u64).unwrap();
            if old > 0 {
                assert_eq!(proof, naive_subproof(old, &all, true));
            }
            let (old_root, root) = (naive_root(&all[..old]), naive_root(&all));
            assert_eq!(verify_consistency(old as u64, old_root, size as u64, root, &proof), Ok(()));
        }
    }
}

proptest! {
    #[test]
    fn a_rewritten_log_has_no_consistency_proof(
        old in 1usize..40, more in 0usize..40, rewritten: prop::sample::Index
    ) {
        let (_, before) = leaves(old);
        let (_, mut after) = leaves(old + more);
        after[rewritten.index(old)] = leaf_hash(b"another history");
        let proof = consistency_proof(&after, old as u64).unwrap();
        let (old, new) = ((old as u64, root_of(&before)), ((old + more) as u64, root_of(&after)));
        prop_assert_eq!(verify_consistency(old.0, old.1, new.0, new.1, &proof), Err(ProofError::OtherRoot));
    }

    #[test]
    fn a_proof_with_a_hash_changed_added_or_missing_is_refused(
        size in 2usize..60, index: prop::sample::Index, at: prop::sample::Index
    ) {
        let (_, hashes) = leaves(size);
        let (root, index) = (root_of(&hashes), index.index(size));
        let proof = inclusion_proof(&hashes, index as u64).unwrap();
        let check = |proof: &[Digest]| verify_inclusion(hashes[index], index as u64, size as u64, root, proof);
        prop_assert_eq!(check(&proof), Ok(()));
        let mut changed = proof.clone();
        changed[at.index(proof.len())].0[0] ^= 1;
        prop_assert_eq!(check(&changed), Err(ProofError::OtherRoot));
        prop_assert_eq!(check(&proof[1..]), Err(ProofError::Length));
        prop_assert_eq!(check(&[proof.as_slice(), &[root]].concat()), Err(ProofError::Length));
    }

    #[test]
    fn no_claim_however_large_makes_a_verifier_loop_or_overflow(
        index: u64, size: u64, count in 0usize..70
    ) {
        let proof = vec![leaf_hash(b"x"); count];
        let root = leaf_hash(b"root");
        let _ = verify_inclusion(root, index, size, root, &proof);
        let _ = verify_consistency(index, root, size, root, &proof);
    }
}

#[test]
fn a_log_that_shrank_or_changed_at_the_same_size_is_refused() {
    let (_, hashes) = leaves(5);
    let (three, five) = (root_of(&hashes[..3]), root_of(&hashes));
    assert_eq!(verify_consistency(5, five, 3, three, &[]), Err(ProofError::OutOfRange));
    assert_eq!(verify_consistency(5, five, 5, three, &[]), Err(ProofError::OtherRoot));
    assert_eq!(verify_consistency(0, five, 5, five, &[]), Err(ProofError::OtherRoot));
    assert_eq!(verify_consistency(5, five, 5, five, &[three]), Err(ProofError::Length));
    assert_eq!(inclusion_proof(&hashes, 5), Err(ProofError::OutOfRange));
    assert_eq!(consistency_proof(&hashes, 6), Err(ProofError::OutOfRange));
}
