//! A root key under a passphrase that lies in a file of its own: for one
//! machine, where the two files are kept on different media.

use std::path::{Path, PathBuf};

use coffer_keys::{PassphraseError, RootKey, open_under_passphrase, seal_under_passphrase};
use coffer_model::Entropy;
use zeroize::Zeroizing;

use crate::custodian::{Custodian, CustodyError};
use crate::files;

/// The alphabet of RFC 4648 base32, lower case: no letter that looks like a digit.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The custodian with a slot file and a passphrase file.
#[derive(Clone, Debug)]
pub struct PassphraseFile {
    slot_path: PathBuf,
    passphrase_path: PathBuf,
}

impl PassphraseFile {
    /// The custodian of these two files, which exist.
    pub fn new(slot_path: impl Into<PathBuf>, passphrase_path: impl Into<PathBuf>) -> Self {
        Self { slot_path: slot_path.into(), passphrase_path: passphrase_path.into() }
    }

    /// Stores `root` in a new slot file. The passphrase is that of the
    /// passphrase file or, where there is none, a new one of 256 bits. Both
    /// files are made with mode 0600 and are on the disk when this returns.
    ///
    /// # Errors
    /// [`CustodyError::Exists`] if the slot file exists, [`CustodyError`] else.
    pub fn create(
        slot_path: impl Into<PathBuf>,
        passphrase_path: impl Into<PathBuf>,
        root: &RootKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, CustodyError> {
        let this = Self::new(slot_path, passphrase_path);
        if files::exists(&this.slot_path)? {
            return Err(CustodyError::Exists { path: this.slot_path });
        }
        if !files::exists(&this.passphrase_path)? {
            files::create(&this.passphrase_path, fresh_passphrase(entropy).as_bytes())?;
        }
        let passphrase = read_passphrase(&this.passphrase_path)?;
        let slot = seal_under_passphrase(&passphrase, root.danger_expose(), entropy)
            .map_err(|source| this.refused(source))?;
        files::create(&this.slot_path, &slot)?;
        Ok(this)
    }

    fn refused(&self, source: PassphraseError) -> CustodyError {
        CustodyError::Passphrase { path: self.slot_path.clone(), source }
    }
}

impl Custodian for PassphraseFile {
    fn unlock(&self) -> Result<RootKey, CustodyError> {
        let slot = files::read_private(&self.slot_path)?;
        let passphrase = read_passphrase(&self.passphrase_path)?;
        let root = open_under_passphrase(&passphrase, &slot).map_err(|source| self.refused(source))?;
        Ok(RootKey::danger_from_bytes(root))
    }
}

/// The passphrase without the line ends that editors add.
fn read_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    let mut bytes = files::read_private(path)?;
    while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(CustodyError::NotThisKind { path: path.to_owned() });
    }
    Ok(bytes)
}

/// 256 random bits as 52 letters of base32 in groups of four.
fn fresh_passphrase(entropy: &dyn Entropy) -> Zeroizing<String> {
    let mut bits = Zeroizing::new([0; 33]);
    entropy.fill(&mut bits[..32]);
    let mut text = Zeroizing::new(String::with_capacity(66));
    for letter in 0..52 {
        if letter > 0 && letter % 4 == 0 {
            text.push('-');
        }
        let (byte, shift) = (letter * 5 / 8, 11 - letter * 5 % 8);
        let pair = u16::from_be_bytes([bits[byte], bits[byte + 1]]);
        text.push(char::from(ALPHABET[usize::from(pair >> shift & 31)]));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ones;
    impl Entropy for Ones {
        fn fill(&self, out: &mut [u8]) {
            out.fill(0xff);
        }
    }

    #[test]
    fn a_fresh_passphrase_carries_every_one_of_its_256_bits() {
        let text = fresh_passphrase(&Ones);
        let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
        // 51 letters of five ones, and one of a single one and four zeros.
        assert_eq!(letters, "7".repeat(51) + "q");
        assert_eq!(text.trim_end().len(), 64);
    }
}
