//! Challenges that only a holder of a record's bytes can answer, made while
//! the bytes are at hand and asked later, without them.

use coffer_model::{Digest, RecordId};
use serde::{Deserialize, Serialize};

/// A question about one record. Its key is random, and known to the site only
/// when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// The record.
    pub record: RecordId,
    /// Says which bytes are asked for, and keys the hash over them.
    pub key: [u8; 32],
}

/// The answer to a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer(pub Digest);

/// Blocks of the body that one challenge samples.
const BLOCKS: usize = 16;
/// Bytes of one block.
const BLOCK_BYTES: usize = 1024;

/// The answer that a body gives: BLAKE3, keyed with the challenge's key, over
/// `"coffer challenge v1" ‖ length ‖` sixteen blocks of 1 KiB that start where
/// an output stream of the same key says; the whole body where it is shorter
/// than they are together.
pub fn answer_of(key: &[u8; 32], body: &[u8]) -> Answer {
    let length = body.len() as u64;
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"coffer challenge v1");
    hasher.update(&length.to_le_bytes());
    match block_starts(key, length) {
        None => {
            hasher.update(body);
        }
        Some(starts) => {
            for start in starts {
                let from = usize::try_from(start).unwrap_or(usize::MAX);
                let to = from.saturating_add(BLOCK_BYTES);
                hasher.update(body.get(from..to).unwrap_or_default());
            }
        }
    }
    Answer(Digest(*hasher.finalize().as_bytes()))
}

/// Where the blocks start; `None` where the whole body is asked for.
fn block_starts(key: &[u8; 32], length: u64) -> Option<[u64; BLOCKS]> {
    if length <= (BLOCK_BYTES * BLOCKS) as u64 {
        return None;
    }
    let span = length - BLOCK_BYTES as u64 + 1;
    let mut stream = blake3::Hasher::new_keyed(key).update(b"coffer challenge blocks v1").finalize_xof();
    Some(std::array::from_fn(|_| {
        let mut bytes = [0; 8];
        stream.fill(&mut bytes);
        u64::from_le_bytes(bytes) % span
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_another_length_and_a_change_in_a_sampled_block_give_another_answer() {
        let body = vec![7; 100_000];
        let key = [1; 32];
        let right = answer_of(&key, &body);
        assert_ne!(right, answer_of(&[2; 32], &body));
        assert_ne!(right, answer_of(&key, &body[1..]));
        let starts = block_starts(&key, body.len() as u64).unwrap();
        for start in starts {
            let mut changed = body.clone();
            changed[usize::try_from(start).unwrap()] ^= 1;
            assert_ne!(right, answer_of(&key, &changed));
        }
    }

    #[test]
    fn every_byte_of_a_short_body_counts() {
        let body = vec![7; 300];
        let right = answer_of(&[1; 32], &body);
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] ^= 1;
            assert_ne!(right, answer_of(&[1; 32], &changed), "byte {at}");
        }
    }
}
