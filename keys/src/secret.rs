//! The secrets of the hierarchy, each with a type of its own, so that no key
//! can be used in another's place. Boxed, wiped when dropped; they cannot be
//! printed, copied, compared or serialised.

use coffer_model::Entropy;
use zeroize::Zeroizing;

use crate::derive::expand;

macro_rules! secrets {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name(Box<Zeroizing<[u8; 32]>>);

        impl $name {
            /// A fresh random key.
            pub fn generate(entropy: &dyn Entropy) -> Self {
                let mut bytes = Box::new(Zeroizing::new([0; 32]));
                entropy.fill(bytes.as_mut().as_mut());
                Self(bytes)
            }

            /// The key with these bytes, which must be uniformly random: out
            /// of a wrap, a quorum of shares or a vector.
            pub fn danger_from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
                Self(Box::new(bytes))
            }

            /// The bytes, for whoever wraps or splits the key; whoever copies
            /// them must wipe the copy.
            pub fn danger_expose(&self) -> &[u8; 32] {
                &self.0
            }
        }
    )*};
}

secrets! {
    /// The root wrapping key of one deployment and jurisdiction group; kept by a custodian.
    RootKey;
    /// The root of one tenant: generated, never derived from the deployment's root.
    TenantRoot;
    /// One epoch of a tenant's key-encryption key.
    Kek;
    /// The data-encryption key of one object version; used once.
    Dek;
    /// The seed of a recovery key pair (X-Wing); 32 random bytes.
    RecoverySecret;
    /// The master key of a client's backup repository; the service never sees it.
    RepositoryKey;
}

/// The sub-key of `key` for `role` and `label`. Roles are constants of this
/// crate without a NUL, so that role and label cannot run into each other.
fn derived(key: &[u8; 32], role: &str, label: &str) -> Zeroizing<[u8; 32]> {
    expand(key, &[b"coffer/v1/", role.as_bytes(), b"\0", label.as_bytes()])
}

impl Dek {
    /// The sub-key for one use, such as `content` or `manifest`: one version
    /// never seals two things under the same key.
    pub fn subkey(&self, label: &str) -> Self {
        Self::danger_from_bytes(derived(&self.0, "dek/subkey", label))
    }
}

impl RootKey {
    /// The key under which the deployment seals its own records called `label`.
    pub fn sealing_key(&self, label: &str) -> Dek {
        Dek::danger_from_bytes(derived(&self.0, "root/sealing", label))
    }

    /// The key under which the deployment wraps `label`; other than every sealing key.
    pub(crate) fn wrapping_key(&self, label: &str) -> Zeroizing<[u8; 32]> {
        derived(&self.0, "root/wrapping", label)
    }
}

impl TenantRoot {
    /// The key under which the tenant's registry, log or tombstones (`label`) are sealed.
    pub fn sealing_key(&self, label: &str) -> Dek {
        Dek::danger_from_bytes(derived(&self.0, "tenant-root/sealing", label))
    }

    /// The key under which the tenant's KEKs are wrapped.
    pub(crate) fn wrapping_key(&self) -> Zeroizing<[u8; 32]> {
        derived(&self.0, "tenant-root/wrapping", "kek")
    }
}

impl RepositoryKey {
    /// The key under which the backup client seals its records called `label`.
    pub fn sealing_key(&self, label: &str) -> Dek {
        Dek::danger_from_bytes(derived(&self.0, "repository/sealing", label))
    }
}
