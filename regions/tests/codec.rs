//! The erasure code against a slow oracle: shard i is the value at x = i of
//! the polynomial of degree below k that takes the data's values at 0 to k - 1,
//! over GF(2^8) with the polynomial 0x11d. Nothing of it is shared with the codec.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly, in its helpers too")]

use bytes::Bytes;
use coffer_model::Geometry;
use coffer_regions::{Codec, CodecError, Record, Stripe, join, shard_bytes};
use proptest::prelude::*;
use proptest::sample::subsequence;

fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = if a & 0x80 == 0 { a << 1 } else { (a << 1) ^ 0x1d };
        b >>= 1;
    }
    product
}

fn inverse(a: u8) -> u8 {
    (1..=255).find(|b| multiply(a, *b) == 1).unwrap()
}

/// The value at `x` of the polynomial through `points`, after Lagrange.
fn interpolate(points: &[(u8, u8)], x: u8) -> u8 {
    points.iter().fold(0, |sum, (own, value)| {
        let others = points.iter().filter(|(other, _)| other != own);
        let term =
            others.fold(*value, |term, (other, _)| multiply(multiply(term, x ^ other), inverse(own ^ other)));
        sum ^ term
    })
}

fn geometry(k: u8, m: u8) -> Geometry {
    Geometry::new(k, m).unwrap()
}

fn joined(data: &[Bytes], sealed_bytes: usize) -> Vec<u8> {
    join(data, sealed_bytes).collect::<Vec<_>>().concat()
}

/// Only these shards of a stripe.
fn only(stripe: &Stripe, kept: &[usize]) -> Vec<Option<Bytes>> {
    stripe.shards.iter().enumerate().map(|(i, shard)| kept.contains(&i).then(|| shard.clone())).collect()
}

/// A geometry, bytes of a telling length, and a set of k shards that survive.
fn cases() -> impl Strategy<Value = (Geometry, Vec<u8>, Vec<usize>)> {
    (1..=32_u8, 1..=16_u8).prop_flat_map(|(k, m)| {
        let (geometry, k) = (geometry(k, m), usize::from(k));
        let lengths =
            prop_oneof![Just(0), Just(1), Just(k - 1), Just(k), Just(k + 1), Just(3 * k), 0..2000_usize,];
        let bytes = lengths.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length));
        (Just(geometry), bytes, subsequence((0..geometry.n()).collect::<Vec<_>>(), k))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_k_shards_give_the_stripe_back((geometry, sealed, kept) in cases()) {
        let codec = Codec::new(geometry).unwrap();
        let stripe = codec.encode(&sealed).unwrap();
        prop_assert_eq!(stripe.shards.len(), geometry.n());
        prop_assert!(stripe.shards.iter().all(|s| s.len() == shard_bytes(sealed.len(), geometry)));
        let data = codec.decode(only(&stripe, &kept), sealed.len()).unwrap();
        prop_assert_eq!(data.len(), geometry.k());
        prop_assert_eq!(joined(&data, sealed.len()), sealed);
    }

    #[test]
    fn one_shard_less_than_k_is_refused((geometry, sealed, mut kept) in cases()) {
        let codec = Codec::new(geometry).unwrap();
        let stripe = codec.encode(&sealed).unwrap();
        kept.pop();
        let need = geometry.k();
        let refused = CodecError::TooFew { have: need - 1, need };
        prop_assert_eq!(codec.decode(only(&stripe, &kept), sealed.len()), Err(refused));
        prop_assert_eq!(codec.rebuild(only(&stripe, &kept), &[0]), Err(refused));
    }

    #[test]
    fn rebuilt_shards_are_the_very_shards_that_were_lost((geometry, sealed, kept) in cases()) {
        let codec = Codec::new(geometry).unwrap();
        let stripe = codec.encode(&sealed).unwrap();
        let wanted: Vec<u8> = (0..geometry.n()).rev().map(|i| u8::try_from(i).unwrap()).collect();
        let expected: Vec<Bytes> = stripe.shards.iter().rev().cloned().collect();
        prop_assert_eq!(codec.rebuild(only(&stripe, &kept), &wanted).unwrap(), expected);
    }

    #[test]
    fn an_owned_buffer_codes_to_the_same_shards((geometry, sealed, _) in cases()) {
        let codec = Codec::new(geometry).unwrap();
        let mut owned = Vec::with_capacity(codec.buffer_bytes(sealed.len()));
        owned.extend_from_slice(&sealed);
        let place = owned.as_ptr();
        let stripe = codec.encode_owned(owned).unwrap();
        prop_assert_eq!(stripe.shards[0].as_ptr(), place, "the buffer was copied");
        prop_assert_eq!(stripe, codec.encode(&sealed).unwrap());
    }
}

#[test]
fn every_shard_is_what_interpolation_over_the_data_says() {
    for (k, m) in [(1, 1), (2, 1), (3, 2), (4, 2), (10, 4), (32, 16)] {
        let codec = Codec::new(geometry(k, m)).unwrap();
        let sealed: Vec<u8> = (0..usize::from(k) * 5 - 2).map(|i| (i * 37 + 11).to_le_bytes()[0]).collect();
        let stripe = codec.encode(&sealed).unwrap();
        for column in 0..stripe.shards[0].len() {
            let points: Vec<(u8, u8)> = (0..k).map(|x| (x, stripe.shards[usize::from(x)][column])).collect();
            for x in 0..k + m {
                let expected = interpolate(&points, x);
                assert_eq!(stripe.shards[usize::from(x)][column], expected, "{k}+{m} shard {x}");
            }
        }
    }
}

#[test]
fn with_all_data_shards_nothing_is_decoded_and_nothing_copied() {
    let codec = Codec::new(Geometry::DEFAULT).unwrap();
    let stripe = codec.encode(&[5; 4001]).unwrap();
    let data = codec.decode(stripe.shards.iter().cloned().map(Some).collect(), 4001).unwrap();
    for (given, returned) in stripe.shards.iter().zip(&data) {
        assert_eq!(given.as_ptr(), returned.as_ptr());
    }
}

#[test]
fn shards_of_another_length_than_the_stripes_are_refused() {
    let codec = Codec::new(Geometry::DEFAULT).unwrap();
    let stripe = codec.encode(&[5; 400]).unwrap();
    let all = || only(&stripe, &[0, 1, 2, 3, 4, 5]);
    for sealed_bytes in [0, 396, 401, 404 + 1] {
        let refused = codec.decode(all(), sealed_bytes);
        assert!(
            matches!(refused, Err(CodecError::ShardLength { index: 0, have: 100, .. })),
            "{sealed_bytes}"
        );
    }
    let mut short = all();
    short[3] = Some(Bytes::from_static(&[5; 99]));
    let refused = CodecError::ShardLength { index: 3, have: 99, need: 100 };
    assert_eq!(codec.decode(short.clone(), 400), Err(refused));
    assert_eq!(codec.rebuild(short, &[5]), Err(refused));
    let empty = vec![Some(Bytes::new()); 6];
    assert!(matches!(codec.rebuild(empty, &[5]), Err(CodecError::ShardLength { have: 0, .. })));
}

#[test]
fn a_list_without_a_place_for_each_shard_is_refused() {
    let codec = Codec::new(Geometry::DEFAULT).unwrap();
    let shards = codec.encode(&[5; 400]).unwrap().shards;
    for places in [0, 5, 7] {
        let given: Vec<_> = shards.iter().cycle().take(places).cloned().map(Some).collect();
        let refused = Err(CodecError::Places { have: places, need: 6 });
        assert_eq!(codec.decode(given.clone(), 400), refused);
        assert_eq!(codec.rebuild(given, &[0]), refused);
    }
}

#[test]
fn a_shard_that_the_geometry_lacks_cannot_be_rebuilt() {
    let codec = Codec::new(Geometry::DEFAULT).unwrap();
    let shards = codec.encode(&[5; 400]).unwrap().shards;
    let given = shards.into_iter().map(Some).collect();
    assert_eq!(codec.rebuild(given, &[0, 6]), Err(CodecError::NoSuchShard { index: 6 }));
}

#[test]
fn a_stripe_whose_shards_no_record_could_carry_is_refused_before_any_allocation() {
    let codec = Codec::new(geometry(1, 1)).unwrap();
    let too_long = Record::BODY_BYTES_MAX + 1;
    assert_eq!(codec.encode_owned(vec![0; too_long]), Err(CodecError::TooLong));
    for sealed_bytes in [too_long, usize::MAX] {
        assert_eq!(codec.decode(vec![None, None], sealed_bytes), Err(CodecError::TooLong));
    }
}

#[test]
fn joining_cuts_the_padding_wherever_it_begins() {
    let data = [Bytes::from_static(b"abc"), Bytes::from_static(b"def"), Bytes::from_static(b"g\0\0")];
    for length in 0..=7 {
        assert_eq!(joined(&data, length), b"abcdefg"[..length]);
    }
    assert_eq!(joined(&data, 100), b"abcdefg\0\0");
}
