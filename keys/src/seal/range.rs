//! Where plaintext lies among sealed bytes: arithmetic only.

use core::ops::Range;

use super::{CHUNK_BYTES, HEADER_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES};

const CHUNK: u64 = CHUNK_BYTES as u64;
const SEALED_CHUNK: u64 = SEALED_CHUNK_BYTES as u64;
const HEADER: u64 = HEADER_BYTES as u64;
const TAG: u64 = TAG_BYTES as u64;

/// Sealed length in bytes of a plaintext of `plain` bytes; saturates far
/// above the 4 PiB that the format can hold.
pub fn sealed_size(plain: u64) -> u64 {
    let tags = (plain / CHUNK + 1).saturating_mul(TAG);
    plain.saturating_add(tags).saturating_add(HEADER)
}

/// Plaintext length in bytes of a message of `sealed` bytes, or `None` if no
/// message has that length.
pub fn plain_size(sealed: u64) -> Option<u64> {
    let body = sealed.checked_sub(HEADER)?;
    let last = (body % SEALED_CHUNK).checked_sub(TAG)?;
    Some(body / SEALED_CHUNK * CHUNK + last)
}

/// The sealed bytes of the whole chunks that hold `plain_len` bytes from
/// `plain_offset` on, of a plaintext of `plain_size` bytes. Clamped to the
/// message; empty when nothing of the request lies inside it, except that a
/// request of no bytes still yields the chunk it points into, whose
/// authentication proves the offset.
pub fn sealed_range(plain_offset: u64, plain_len: u64, plain_size: u64) -> Range<u64> {
    let end_of_message = sealed_size(plain_size);
    if plain_offset > plain_size || (plain_offset == plain_size && plain_len > 0) {
        return end_of_message..end_of_message;
    }
    let last_byte = plain_offset.saturating_add(plain_len.saturating_sub(1)).min(plain_size);
    let start = HEADER + plain_offset / CHUNK * SEALED_CHUNK;
    let end = (HEADER + (last_byte / CHUNK + 1).saturating_mul(SEALED_CHUNK)).min(end_of_message);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sizes_invert_each_other(plain in 0u64..(1 << 52)) {
            prop_assert_eq!(plain_size(sealed_size(plain)), Some(plain));
        }

        #[test]
        fn a_length_has_a_plaintext_size_only_if_some_message_has_that_length(sealed in 0u64..200_000) {
            if let Some(plain) = plain_size(sealed) {
                prop_assert_eq!(sealed_size(plain), sealed);
            } else {
                let near = sealed.saturating_sub(100)..=sealed;
                prop_assert!(near.clone().all(|plain| sealed_size(plain) != sealed));
            }
        }

        #[test]
        fn a_range_covers_whole_chunks_and_every_byte_asked_for(
            size in 0u64..100_000, offset in 0u64..110_000, len in 0u64..50_000
        ) {
            let range = sealed_range(offset, len, size);
            let end = (offset + len).min(size);
            prop_assert!(range.end <= sealed_size(size));
            for byte in [offset, end.saturating_sub(1)] {
                if byte >= offset && byte < end {
                    let at = HEADER + byte / CHUNK * SEALED_CHUNK + byte % CHUNK;
                    prop_assert!(range.contains(&at));
                }
            }
            if !range.is_empty() {
                prop_assert_eq!((range.start - HEADER) % SEALED_CHUNK, 0);
                prop_assert!(range.end == sealed_size(size) || (range.end - HEADER).is_multiple_of(SEALED_CHUNK));
            }
        }
    }

    #[test]
    fn a_request_beyond_the_end_covers_nothing() {
        assert!(sealed_range(11, 1, 10).is_empty());
        assert!(sealed_range(10, 1, 10).is_empty());
        assert!(sealed_range(u64::MAX, u64::MAX, 10).is_empty());
    }

    #[test]
    fn no_size_overflows() {
        assert_eq!(sealed_size(u64::MAX), u64::MAX);
        assert!(plain_size(u64::MAX).is_some_and(|plain| plain < u64::MAX));
    }
}
