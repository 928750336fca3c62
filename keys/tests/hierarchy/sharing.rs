//! Ceremonies that fail, and why; and that fewer shares tell nothing.

use coffer_keys::{Share, ShareError, combine, split, split_for};
use proptest::prelude::*;

use crate::seeded::Seeded;

fn taken(shares: &[Share], indices: &[usize]) -> Vec<Share> {
    indices.iter().map(|i| Share::from_text(&shares[*i].to_text()).unwrap()).collect()
}

#[test]
fn any_three_of_five_give_the_key_and_no_two_do() {
    let shares = split(&[7; 32], 3, 5, &Seeded::new(1)).unwrap();
    let set = shares[0].set();
    for a in 0..5 {
        for b in (0..5).filter(|b| *b != a) {
            let error = combine(&taken(&shares, &[a, b])).unwrap_err();
            let expected = ShareError::NotEnough { set: set.clone(), given: 2, threshold: 3, missing: 1 };
            assert_eq!(error, expected);
            for c in (0..5).filter(|c| *c != a && *c != b) {
                assert_eq!(*combine(&taken(&shares, &[a, b, c])).unwrap(), [7; 32]);
            }
        }
    }
    assert_eq!(*combine(&shares).unwrap(), [7; 32], "more than needed is welcome");
}

#[test]
fn a_missing_share_is_counted_in_words_a_person_can_act_on() {
    let shares = split(&[7; 32], 4, 5, &Seeded::new(1)).unwrap();
    let message = combine(&taken(&shares, &[3])).unwrap_err().to_string();
    assert_eq!(message, format!("3 more of set {} would suffice (1 given, 4 needed)", shares[0].set()));
    assert!(matches!(combine(&[]), Err(ShareError::NotEnough { given: 0, .. })));
}

#[test]
fn a_share_given_twice_counts_once_and_is_named() {
    let shares = split(&[7; 32], 3, 5, &Seeded::new(1)).unwrap();
    let error = combine(&taken(&shares, &[0, 1, 1])).unwrap_err();
    assert_eq!(error, ShareError::Duplicate { index: 2, set: shares[0].set() });
}

#[test]
fn shares_of_two_sets_are_refused_even_for_the_same_key() {
    let first = split(&[7; 32], 2, 3, &Seeded::new(1)).unwrap();
    let second = split(&[7; 32], 2, 3, &Seeded::new(2)).unwrap();
    let mixed = [taken(&first, &[0]), taken(&second, &[1])].concat_shares();
    let expected = ShareError::MixedSets { index: 2, found: second[0].set(), expected: first[0].set() };
    assert_eq!(combine(&mixed).unwrap_err(), expected);
}

trait ConcatShares {
    fn concat_shares(self) -> Vec<Share>;
}

impl ConcatShares for [Vec<Share>; 2] {
    fn concat_shares(self) -> Vec<Share> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn a_damaged_share_is_named_before_anything_is_combined() {
    let shares = split_for("root key", &[7; 32], 3, 5, &Seeded::new(1)).unwrap();
    let text = shares[3].to_text();
    let at = text.find("\"share\":\"").unwrap() + 9;
    let mut damaged = 0;
    for offset in 0..44 {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at + offset] = if bytes[at + offset] == b'A' { b'B' } else { b'A' };
        match Share::from_text(core::str::from_utf8(&bytes).unwrap()) {
            Err(ShareError::Damaged { index, set }) => {
                assert_eq!((index, set), (4, shares[3].set()));
                damaged += 1;
            }
            Err(other) => panic!("offset {offset}: {other}"),
            Ok(_) => panic!("offset {offset} was read"),
        }
    }
    assert_eq!(damaged, 44);
}

#[test]
fn no_single_changed_character_of_a_share_is_accepted() {
    let shares = split(&[7; 32], 3, 5, &Seeded::new(1)).unwrap();
    let text = shares[0].to_text();
    for at in 0..text.len() - 1 {
        for replacement in [b'0', b'1', b'f', b'Z', b'"', b' ', b'}'] {
            let mut bytes = text.as_bytes().to_vec();
            if bytes[at] == replacement {
                continue;
            }
            bytes[at] = replacement;
            let read = Share::from_text(core::str::from_utf8(&bytes).unwrap());
            assert!(read.is_err(), "byte {at} to {replacement}");
        }
    }
}

#[test]
fn impossible_sets_and_purposes_are_refused() {
    let entropy = Seeded::new(1);
    for (threshold, count) in [(0, 0), (0, 5), (1, 5), (6, 5), (2, 1)] {
        let error = split(&[7; 32], threshold, count, &entropy).err();
        assert_eq!(error, Some(ShareError::Parameters { threshold, count }));
    }
    let long = "x".repeat(65);
    for purpose in ["", "a\"b", "a\nb", "é", &long] {
        let error = split_for(purpose, &[7; 32], 2, 2, &entropy).err();
        assert_eq!(error, Some(ShareError::Purpose), "{purpose}");
    }
}

#[test]
fn texts_that_are_not_shares_are_refused() {
    let good = split(&[7; 32], 2, 2, &Seeded::new(1)).unwrap()[0].to_text();
    let newer = good.replace("\"version\":1", "\"version\":2");
    let extra = good.replace("{\"format\"", "{\"extra\":1,\"format\"");
    let endless = " ".repeat(1 << 20);
    for text in ["", "{}", "null", "[[[[", &newer, &extra, &endless] {
        assert_eq!(Share::from_text(text).err(), Some(ShareError::Format));
    }
}

#[test]
fn one_share_alone_takes_every_value_whatever_the_key() {
    // Of a coefficient that were never zero, one value of y would be missing.
    let entropy = Seeded::new(3);
    let mut seen = [false; 256];
    for _ in 0..200 {
        let shares = split(&[0; 32], 2, 2, &entropy).unwrap();
        shares[0].danger_point()[..32].iter().for_each(|y| seen[usize::from(*y)] = true);
    }
    assert!(seen.iter().all(|seen| *seen));
}

/// Multiplication in GF(2^8) with polynomial 0x11b, bit by bit.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = a << 1 ^ if a & 0x80 == 0 { 0 } else { 0x1b };
        b >>= 1;
    }
    product
}

fn inverse(a: u8) -> u8 {
    (1..=255).find(|b| times(a, *b) == 1).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn textbook_interpolation_at_zero_gives_the_key_from_y_and_x_as_stored(
        secret: [u8; 32], seed: u64, threshold in 2u8..7, more in 0u8..4
    ) {
        let shares = split(&secret, threshold, threshold + more, &Seeded::new(seed)).unwrap();
        let points: Vec<&[u8]> = shares[usize::from(more)..].iter().map(Share::danger_point).collect();
        for (byte, expected) in secret.iter().enumerate() {
            let mut sum = 0;
            for point in &points {
                let others = points.iter().map(|other| other[32]).filter(|x| *x != point[32]);
                let weight = others.fold(1, |w, x| times(w, times(x, inverse(x ^ point[32]))));
                sum ^= times(point[byte], weight);
            }
            prop_assert_eq!(sum, *expected);
        }
    }
}
