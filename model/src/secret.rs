//! The one secret that rooms without cryptography hand on: the key of a
//! catalogue file, opaque to everybody but its maker and its file.

use zeroize::Zeroizing;

/// The random key of one tenant's SQLCipher file. Boxed and wiped when
/// dropped; it cannot be printed, copied, compared or serialised.
pub struct CatalogKey(Box<Zeroizing<[u8; 32]>>);

impl CatalogKey {
    /// Takes the key; the caller's copy is the caller's to wipe.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Box::new(bytes))
    }

    /// The bytes, for the `PRAGMA key` of the catalogue adapter and for the
    /// wrap that stores it; nobody else has a reason to call this.
    pub fn danger_expose(&self) -> &[u8; 32] {
        &self.0
    }
}
