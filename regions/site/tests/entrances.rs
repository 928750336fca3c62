//! Any bytes at all, through everything that bytes of others come in by:
//! refused or taken, never a panic, and never more memory than they are worth.

use coffer_site::entrances::ENTRANCES;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_bytes_panic_in_any_entrance(bytes in vec(any::<u8>(), 0..2048)) {
        for (_, enter) in ENTRANCES {
            enter(&bytes);
        }
    }

    #[test]
    fn a_length_that_promises_more_than_comes_is_refused(field in 1_u8..=15, length in (1_u64 << 20)..u64::MAX) {
        // A field of bytes, and a length that nothing follows.
        let mut bytes = vec![field << 3 | 2];
        let mut rest = length;
        while rest >= 0x80 {
            bytes.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
            rest >>= 7;
        }
        bytes.push(u8::try_from(rest).unwrap_or(0));
        for (name, enter) in ENTRANCES {
            prop_assert!(!enter(&bytes), "{}", name);
        }
    }
}
