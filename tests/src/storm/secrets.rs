//! What no site may ever hold: words of the tenants, and keys. A search for
//! bytes, with no idea of any format.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes at the beginning of a pattern by which it is first recognised.
const HEAD: usize = 8;

/// What is looked for.
#[derive(Default)]
pub(crate) struct Patterns {
    inner: Mutex<Inner>,
}

struct Inner {
    /// Which first two bytes occur among the patterns.
    first: Vec<bool>,
    by_head: BTreeMap<[u8; HEAD], Vec<(Vec<u8>, &'static str)>>,
}

impl Default for Inner {
    fn default() -> Self {
        Self { first: vec![false; 1 << 16], by_head: BTreeMap::new() }
    }
}

fn two(bytes: &[u8]) -> usize {
    bytes.first().map_or(0, |high| usize::from(*high) << 8) | bytes.get(1).map_or(0, |low| usize::from(*low))
}

impl Patterns {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for this from now on; at least eight bytes.
    pub(crate) fn add(&self, bytes: &[u8], what: &'static str) {
        let Some(head) = bytes.first_chunk::<HEAD>() else { return };
        let mut inner = self.inner();
        inner.first[two(head)] = true;
        let list = inner.by_head.entry(*head).or_default();
        if !list.iter().any(|(known, _)| known == bytes) {
            list.push((bytes.to_vec(), what));
        }
    }

    /// What of it occurs in these bytes, and where.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<String> {
        let inner = self.inner();
        for (at, window) in bytes.windows(HEAD).enumerate() {
            if !inner.first[two(window)] {
                continue;
            }
            let Some(list) = window.first_chunk::<HEAD>().and_then(|head| inner.by_head.get(head)) else {
                continue;
            };
            let found = list.iter().find(|(pattern, _)| bytes[at..].starts_with(pattern));
            if let Some((_, what)) = found {
                return Some(format!("{what} at byte {at}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_wherever_it_stands_and_its_beginning_alone_is_not() {
        let patterns = Patterns::default();
        patterns.add(b"secret words", "a word");
        for at in 0..40 {
            let mut bytes = vec![b's'; at];
            bytes.extend_from_slice(b"secret words");
            assert_eq!(patterns.find(&bytes), Some(format!("a word at byte {at}")));
            bytes.truncate(at + 11);
            assert_eq!(patterns.find(&bytes), None);
        }
    }
}
