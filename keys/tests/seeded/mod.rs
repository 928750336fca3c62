//! Entropy that repeats itself: the bytes follow from a seed.

use std::sync::Mutex;

use coffer_model::Entropy;
use sha2::{Digest as _, Sha256};

/// SHA-256 of a counter under a seed.
pub(crate) struct Seeded(Mutex<(u64, u64)>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new((seed, 0)))
    }
}

impl Entropy for Seeded {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for block in out.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(state.0.to_be_bytes());
            hash.update(state.1.to_be_bytes());
            block.copy_from_slice(&hash.finalize()[..block.len()]);
            state.1 += 1;
        }
    }
}
