//! HKDF-Expand with SHA-512 (RFC 5869, section 2.3), the only derivation here.
//! The extract step is left out: every input key is uniformly random already.

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// Bytes of one HMAC-SHA-512 block.
const BLOCK: usize = 64;

/// `N` bytes (at most 255 blocks of 64) derived from `key` for the purpose
/// `info`, whose parts are joined without separator: the caller makes them
/// unambiguous.
pub(crate) fn expand<const N: usize>(key: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 255 * BLOCK) }
    let key = hmac::Key::new(hmac::HMAC_SHA512, key);
    let mut out = Zeroizing::new([0; N]);
    let mut previous: Option<hmac::Tag> = None;
    for (block, counter) in out.chunks_mut(BLOCK).zip(1u8..) {
        let mut context = hmac::Context::with_key(&key);
        if let Some(tag) = &previous {
            context.update(tag.as_ref());
        }
        info.iter().for_each(|part| context.update(part));
        context.update(&[counter]);
        let tag = context.sign();
        block.copy_from_slice(&tag.as_ref()[..block.len()]);
        previous = Some(tag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_another_implementation_of_rfc_5869() {
        let key = [0x5c; 32];
        // The other crate insists on a key as long as the hash. HMAC pads its
        // key with zeros, so that the padded key is the same key.
        let mut padded = [0; 64];
        padded[..32].copy_from_slice(&key);
        let other = hkdf::Hkdf::<sha2::Sha512>::from_prk(&padded).unwrap();
        let mut expected = [0; 200];
        other.expand(b"one two", &mut expected).unwrap();
        assert_eq!(*expand::<200>(&key, &[b"one", b" two"]), expected);
    }
}
