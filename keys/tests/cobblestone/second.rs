//! A second implementation of Cobblestone-256, written from the
//! specification alone on crates that the first one does not use.

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use hkdf::Hkdf;
use sha2::Sha512;

struct Message {
    cipher: Aes256Gcm,
    base_nonce: [u8; 12],
    commitment: [u8; 32],
}

fn message(key: &[u8; 32], context: &[u8], salt: &[u8]) -> Message {
    let mut prk = [0; 64];
    prk[..32].copy_from_slice(key);
    let mut info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM".to_vec();
    info.push(0);
    info.extend_from_slice(salt);
    info.extend_from_slice(context);
    let mut okm = [0; 76];
    Hkdf::<Sha512>::from_prk(&prk).unwrap().expand(&info, &mut okm).unwrap();
    let aead_key: [u8; 32] = okm[..32].try_into().unwrap();
    Message {
        cipher: Aes256Gcm::new(&Key::<Aes256Gcm>::from(aead_key)),
        base_nonce: okm[32..44].try_into().unwrap(),
        commitment: okm[44..].try_into().unwrap(),
    }
}

impl Message {
    fn nonce(&self, chunk: u64) -> Nonce<aes_gcm::aead::consts::U12> {
        let base = self.base_nonce.iter().fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
        let bytes = (base ^ u128::from(chunk)).to_be_bytes();
        Nonce::try_from(&bytes[4..]).unwrap()
    }
}

pub(crate) fn seal(key: &[u8; 32], context: &[u8], salt: &[u8; 24], plaintext: &[u8]) -> Vec<u8> {
    let message = message(key, context, salt);
    let mut out = [salt.as_slice(), &message.commitment].concat();
    let full = plaintext.len() / 16384;
    for chunk in 0..=full {
        let end = plaintext.len().min((chunk + 1) * 16384);
        let sealed =
            message.cipher.encrypt(&message.nonce(chunk as u64), &plaintext[chunk * 16384..end]).unwrap();
        out.extend(sealed);
    }
    out
}

pub(crate) fn open(key: &[u8; 32], context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (header, body) = sealed.split_at_checked(56)?;
    let message = message(key, context, &header[..24]);
    if header[24..] != message.commitment {
        return None;
    }
    let mut out = Vec::new();
    let mut chunks: Vec<&[u8]> = body.chunks(16400).collect();
    if chunks.last().is_none_or(|last| last.len() == 16400) {
        chunks.push(&[]);
    }
    for (number, chunk) in (0u64..).zip(chunks) {
        out.extend(message.cipher.decrypt(&message.nonce(number), chunk).ok()?);
    }
    Some(out)
}
