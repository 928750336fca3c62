//! Shares of a key among people: Shamir over GF(2^8) with polynomial 0x11b
//! (`vsss-rs`), in the byte layout y‖x of Vault and OpenBao. A share names its
//! set, says how many are needed, and carries a checksum of itself and a
//! commitment to the key, so that a wrong ceremony is explained, not guessed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_model::Entropy;
use serde::Deserialize;
use vsss_rs::Gf256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::chance::EntropyRng;
use crate::engine;
use crate::fields;

/// How many of a default set suffice.
pub const DEFAULT_THRESHOLD: u8 = 3;
/// How many shares a default set has.
pub const DEFAULT_COUNT: u8 = 5;

const FORMAT: &str = "coffer-share";
const VERSION: u8 = 1;
/// y (32 bytes) and x.
const POINT_BYTES: usize = 33;
const CHECKSUM_BYTES: usize = 8;
const PURPOSE_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 2048;

/// Why a key was not split, or shares do not combine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Thresholds run from 2 to the count, counts to 255.
    #[error("a set has 2 to 255 shares of which 2 to all are needed, not {threshold} of {count}")]
    Parameters {
        /// Shares needed.
        threshold: u8,
        /// Shares made.
        count: u8,
    },
    /// Purposes have 1 to 64 of a-z, A-Z, 0-9, space and `-_./:`.
    #[error("a purpose has 1 to 64 of a-z, A-Z, 0-9, space and -_./:")]
    Purpose,
    /// The text is not a share.
    #[error("not a share, or not one of a format that this release knows")]
    Format,
    /// The share was damaged in keeping or typed wrongly.
    #[error("share {index} of set {set} is damaged (its checksum is wrong); read it again or use another")]
    Damaged {
        /// Which share it says it is.
        index: u8,
        /// Its set, hexadecimal.
        set: String,
    },
    /// Shares of two sets.
    #[error("share {index} belongs to set {found}, the first share to set {expected}; use shares of one set")]
    MixedSets {
        /// Which share.
        index: u8,
        /// Its set.
        found: String,
        /// The set of the first share.
        expected: String,
    },
    /// The same share twice.
    #[error("share {index} of set {set} was given twice; each counts once")]
    Duplicate {
        /// Which share.
        index: u8,
        /// Its set.
        set: String,
    },
    /// Too few.
    #[error("{missing} more of set {set} would suffice ({given} given, {threshold} needed)")]
    NotEnough {
        /// The set; empty when no share was given.
        set: String,
        /// How many were given.
        given: u8,
        /// How many are needed; zero when no share was given.
        threshold: u8,
        /// How many more are needed.
        missing: u8,
    },
    /// Sound checksums, yet another key: somebody made a false share.
    #[error("the shares of set {set} are whole but do not give the key they commit to; one of them is false")]
    WrongSecret {
        /// The set.
        set: String,
    },
    /// The field arithmetic refused.
    #[error("splitting or combining failed; nothing was made")]
    Engine,
}

/// One share. Secret: it cannot be printed or copied, only written out as text.
pub struct Share {
    set: [u8; 16],
    purpose: String,
    threshold: u8,
    /// y‖x.
    point: Box<Zeroizing<[u8; POINT_BYTES]>>,
    commitment: [u8; 32],
}

/// The share file as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareText {
    format: String,
    version: u8,
    set: String,
    purpose: String,
    index: u8,
    threshold: u8,
    share: String,
    commitment: String,
    checksum: String,
}

impl Drop for ShareText {
    fn drop(&mut self) {
        self.share.zeroize();
    }
}

impl Share {
    /// Which of the set, from 1.
    pub fn index(&self) -> u8 {
        self.point[POINT_BYTES - 1]
    }

    /// How many of the set are needed.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// What the key is for.
    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    /// The set, 32 hexadecimal digits.
    pub fn set(&self) -> String {
        hex(&self.set)
    }

    /// The bytes y‖x, as other implementations of the layout take them.
    pub fn danger_point(&self) -> &[u8] {
        self.point.as_slice()
    }

    /// One line of JSON.
    pub fn to_text(&self) -> Zeroizing<String> {
        let point = Zeroizing::new(STANDARD.encode(self.point.as_slice()));
        // Room for all of it at once: growing would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX));
        let pieces = [
            "{\"format\":\"coffer-share\",\"version\":1,\"set\":\"",
            &self.set(),
            "\",\"purpose\":\"",
            &self.purpose,
            "\",\"index\":",
            &self.index().to_string(),
            ",\"threshold\":",
            &self.threshold.to_string(),
            ",\"share\":\"",
            &point,
            "\",\"commitment\":\"",
            &STANDARD.encode(self.commitment),
            "\",\"checksum\":\"",
            &hex(&self.checksum()),
            "\"}\n",
        ];
        pieces.iter().for_each(|piece| text.push_str(piece));
        text
    }

    /// Reads what [`Self::to_text`] wrote, and checks its checksum.
    ///
    /// # Errors
    /// [`ShareError::Format`], [`ShareError::Damaged`].
    pub fn from_text(text: &str) -> Result<Self, ShareError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ShareError::Format);
        }
        let parsed: ShareText = serde_json::from_str(text).map_err(|_| ShareError::Format)?;
        if parsed.format != FORMAT || parsed.version != VERSION || !purpose_is_good(&parsed.purpose) {
            return Err(ShareError::Format);
        }
        let set = unhex::<16>(&parsed.set).ok_or(ShareError::Format)?;
        let checksum = unhex::<CHECKSUM_BYTES>(&parsed.checksum).ok_or(ShareError::Format)?;
        let damaged = || ShareError::Damaged { index: parsed.index, set: parsed.set.clone() };
        let point = Zeroizing::new(STANDARD.decode(&parsed.share).map_err(|_| damaged())?);
        let commitment = STANDARD.decode(&parsed.commitment).map_err(|_| damaged())?;
        let share = Self {
            set,
            purpose: parsed.purpose.clone(),
            threshold: parsed.threshold,
            point: Box::new(Zeroizing::new(point.as_slice().try_into().map_err(|_| damaged())?)),
            commitment: commitment.try_into().map_err(|_| damaged())?,
        };
        let whole = share.checksum() == checksum && share.index() == parsed.index;
        if !whole {
            return Err(damaged());
        }
        if share.index() == 0 || share.threshold < 2 {
            return Err(ShareError::Format);
        }
        Ok(share)
    }

    fn checksum(&self) -> [u8; CHECKSUM_BYTES] {
        let body = Zeroizing::new(fields::encode(&[
            &self.set,
            self.purpose.as_bytes(),
            &[self.threshold],
            self.point.as_slice(),
            &self.commitment,
        ]));
        let digest = engine::sha256(&[b"coffer/share/checksum/v1\0", &body]);
        let mut checksum = [0; CHECKSUM_BYTES];
        checksum.copy_from_slice(&digest[..CHECKSUM_BYTES]);
        checksum
    }
}

/// Splits a uniformly random 256-bit key into `count` shares of which
/// `threshold` suffice, labelled with the purpose `key`.
///
/// # Errors
/// [`ShareError::Parameters`].
pub fn split(
    secret: &[u8; 32],
    threshold: u8,
    count: u8,
    entropy: &dyn Entropy,
) -> Result<Vec<Share>, ShareError> {
    split_for("key", secret, threshold, count, entropy)
}

/// As [`split`], with a purpose for the people who keep the shares, such as
/// `root key` or `recovery of ten-…`.
///
/// # Errors
/// [`ShareError::Parameters`], [`ShareError::Purpose`].
pub fn split_for(
    purpose: &str,
    secret: &[u8; 32],
    threshold: u8,
    count: u8,
    entropy: &dyn Entropy,
) -> Result<Vec<Share>, ShareError> {
    if threshold < 2 || threshold > count {
        return Err(ShareError::Parameters { threshold, count });
    }
    if !purpose_is_good(purpose) {
        return Err(ShareError::Purpose);
    }
    let set = entropy.sixteen();
    let commitment = commitment(&set, purpose, secret);
    let points: Vec<Zeroizing<Vec<u8>>> =
        Gf256::split_bytes(usize::from(threshold), usize::from(count), secret, EntropyRng(entropy))
            .map_err(|_| ShareError::Engine)?
            .into_iter()
            .map(Zeroizing::new)
            .collect();
    points
        .into_iter()
        .map(|mut point| {
            // vsss-rs puts x first, the layout puts it last.
            point.rotate_left(1);
            let point = point.as_slice().try_into().map_err(|_| ShareError::Engine)?;
            let point = Box::new(Zeroizing::new(point));
            Ok(Share { set, purpose: purpose.to_owned(), threshold, point, commitment })
        })
        .collect()
}

/// The key that the shares were made of. Takes as many as are needed, or
/// more, in any order.
///
/// # Errors
/// [`ShareError`], which names the share at fault or how many are missing.
pub fn combine(shares: &[Share]) -> Result<Zeroizing<[u8; 32]>, ShareError> {
    let Some(first) = shares.first() else {
        return Err(ShareError::NotEnough { set: String::new(), given: 0, threshold: 0, missing: 1 });
    };
    let set = first.set();
    let mut seen = [false; 256];
    let mut given: u8 = 0;
    for share in shares {
        let index = share.index();
        let same = (share.set, &share.purpose, share.threshold, share.commitment)
            == (first.set, &first.purpose, first.threshold, first.commitment);
        if !same {
            return Err(ShareError::MixedSets { index, found: share.set(), expected: set });
        }
        if core::mem::replace(&mut seen[usize::from(index)], true) {
            return Err(ShareError::Duplicate { index, set });
        }
        given = given.saturating_add(1);
    }
    let threshold = first.threshold;
    if given < threshold {
        return Err(ShareError::NotEnough { set, given, threshold, missing: threshold - given });
    }
    let mut points: Vec<Vec<u8>> = shares.iter().map(|share| share.point.to_vec()).collect();
    points.iter_mut().for_each(|point| point.rotate_right(1));
    let combined = Gf256::combine_bytes(&points).map(Zeroizing::new);
    points.iter_mut().for_each(|point| point.zeroize());
    let secret = combined.ok().and_then(|bytes| engine::thirty_two(&bytes)).ok_or(ShareError::Engine)?;
    if commitment(&first.set, &first.purpose, &secret) != first.commitment {
        return Err(ShareError::WrongSecret { set });
    }
    Ok(secret)
}

/// A digest of the key that reveals nothing of it, since the key has 256
/// random bits.
fn commitment(set: &[u8; 16], purpose: &str, secret: &[u8; 32]) -> [u8; 32] {
    let body = Zeroizing::new(fields::encode(&[set, purpose.as_bytes(), secret]));
    engine::sha256(&[b"coffer/share/commitment/v1\0", &body])
}

fn purpose_is_good(purpose: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b" -_./:".contains(&b);
    (1..=PURPOSE_BYTES_MAX).contains(&purpose.len()) && purpose.bytes().all(good)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !odd.is_empty() {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(pairs) {
        let lower = pair.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let text = core::str::from_utf8(pair).ok().filter(|_| lower)?;
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(out)
}
