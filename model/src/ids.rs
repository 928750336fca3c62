//! Every id in the system, from one registry: sixteen random bytes with a
//! type of their own, printed as a kind prefix and lower-case hex, so that no
//! id can stand where another is expected, in code or on a command line.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Entropy;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The prefix names another kind of id, or none.
    #[error("expected an id that starts with \"{0}-\"")]
    Prefix(&'static str),
    /// The rest is not 32 lower-case hexadecimal digits.
    #[error("expected 32 lower-case hexadecimal digits after the prefix")]
    Digits,
}

fn digit(byte: u8) -> Result<u8, IdError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(IdError::Digits),
    }
}

fn parse(text: &str, prefix: &'static str) -> Result<[u8; 16], IdError> {
    let rest =
        text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).ok_or(IdError::Prefix(prefix))?;
    let (pairs, odd) = rest.as_bytes().as_chunks::<2>();
    if pairs.len() != 16 || !odd.is_empty() {
        return Err(IdError::Digits);
    }
    let mut out = [0; 16];
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(out)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A fresh random id.
            pub fn generate(entropy: &dyn Entropy) -> Self {
                Self(entropy.sixteen())
            }
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
            /// The sixteen bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!($prefix, "-"))?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text, $prefix).map(Self)
            }
        }
        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Digits)
            }
        }
    )*};
}

ids! {
    /// The owner of buckets, keys, catalogue and audit log.
    TenantId = "ten";
    /// A named collection of objects of one tenant.
    BucketId = "bkt";
    /// One object name in a bucket, whatever its versions.
    ObjectId = "obj";
    /// One immutable version of an object; minted before sealing.
    VersionId = "ver";
    /// One person or program that may call the service.
    PrincipalId = "pri";
    /// One place that stores shards.
    SiteId = "site";
    /// One record at a site; random, says nothing about its content.
    RecordId = "rec";
    /// One overwritable key slot at a site.
    SlotId = "slot";
    /// Whose owners' epochs a site keeps; opaque to the site.
    ScopeId = "scope";
    /// One legal hold.
    HoldId = "hold";
    /// One key in the hierarchy: a root version, a tenant root, a KEK epoch.
    KeyId = "key";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_what_it_prints() {
        let id = TenantId::from_bytes([0xa5; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let text = BucketId::from_bytes([1; 16]).to_string();
        assert_eq!(text.parse::<TenantId>(), Err(IdError::Prefix("ten")));
    }

    #[test]
    fn upper_case_short_and_long_digits_are_refused() {
        for rest in ["A5".repeat(16), "a5".repeat(15), "a5".repeat(17), "a5".repeat(15) + "a", "é".repeat(16)]
        {
            assert_eq!(format!("ten-{rest}").parse::<TenantId>(), Err(IdError::Digits), "{rest}");
        }
    }
}
