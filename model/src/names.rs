//! Names that callers choose, checked once, and the escape by which bytes
//! that are not UTF-8 are shown and typed.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Bucket names: 3 to 63 of a-z, 0-9, '-', '.', starting and ending with a letter or digit.
    #[error("a bucket name has 3 to 63 of a-z, 0-9, '-' and '.', and starts and ends with a letter or digit")]
    Bucket,
    /// Object keys: 1 to 1024 bytes.
    #[error("an object key has 1 to 1024 bytes")]
    Key,
    /// A backslash that starts no known escape.
    #[error("a backslash must start \\\\ or \\xHH (two lower-case hexadecimal digits)")]
    Escape,
}

/// The name of a bucket, unique within its tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BucketName(String);

impl BucketName {
    /// Checks the rules of [`NameError::Bucket`].
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
        let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = name.as_bytes();
        let good = (3..=63).contains(&bytes.len())
            && bytes.iter().all(|b| inner(*b))
            && outer(bytes.first())
            && outer(bytes.last());
        if good { Ok(Self(name)) } else { Err(NameError::Bucket) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for BucketName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl From<BucketName> for String {
    fn from(name: BucketName) -> Self {
        name.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of an object within its bucket: any bytes, ordered bytewise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct ObjectKey(Vec<u8>);

impl ObjectKey {
    /// The longest key, in bytes.
    pub const BYTES_MAX: usize = 1024;

    /// Checks the length.
    pub fn new(key: impl Into<Vec<u8>>) -> Result<Self, NameError> {
        let key = key.into();
        if (1..=Self::BYTES_MAX).contains(&key.len()) { Ok(Self(key)) } else { Err(NameError::Key) }
    }

    /// The key as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for ObjectKey {
    type Error = NameError;
    fn try_from(key: Vec<u8>) -> Result<Self, NameError> {
        Self::new(key)
    }
}

impl From<ObjectKey> for Vec<u8> {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}

impl fmt::Display for ObjectKey {
    /// Escaped, see [`escape_bytes`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_bytes(&self.0))
    }
}

/// Shows bytes as text, reversibly: UTF-8 stands as it is, except that a
/// backslash becomes `\\`, and every byte that is not UTF-8 or is a control
/// character becomes `\xHH`. [`unescape_bytes`] gives the same bytes back.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    c.encode_utf8(&mut buffer).bytes().for_each(|b| push_hex(&mut text, b));
                }
                c => text.push(c),
            }
        }
        part.invalid().iter().for_each(|b| push_hex(&mut text, *b));
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    text.push_str(&format!("\\x{byte:02x}"));
}

/// The bytes that [`escape_bytes`] showed.
///
/// # Errors
/// [`NameError::Escape`] for a backslash that starts neither `\\` nor `\xHH`.
pub fn unescape_bytes(text: &str) -> Result<Vec<u8>, NameError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                out.push(b'\\');
                tail
            }
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let hex = |b: &u8| match b {
                    b'0'..=b'9' => Ok(b - b'0'),
                    b'a'..=b'f' => Ok(b - b'a' + 10),
                    _ => Err(NameError::Escape),
                };
                out.push(hex(high)? << 4 | hex(low)?);
                tail
            }
            (b'\\', _) => return Err(NameError::Escape),
            (byte, tail) => {
                out.push(*byte);
                tail
            }
        };
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_is_reversible_for_any_bytes() {
        for bytes in [
            &b"plain"[..],
            b"back\\slash",
            b"\xff\xfe",
            "caf\u{e9}".as_bytes(),
            b"a\nb\x00c",
            b"\xc3(",
            b"\\x41",
        ] {
            assert_eq!(unescape_bytes(&escape_bytes(bytes)).as_deref(), Ok(bytes));
        }
        assert_eq!(escape_bytes(b"a\xff\\"), "a\\xff\\\\");
    }

    #[test]
    fn a_lone_backslash_is_refused() {
        for text in ["\\", "\\n", "\\x4", "\\xZZ", "\\xFF"] {
            assert_eq!(unescape_bytes(text), Err(NameError::Escape), "{text}");
        }
    }

    #[test]
    fn bucket_names_outside_the_rules_are_refused() {
        for name in ["ab", "Abc", "-abc", "abc-", "a_b", "", &"a".repeat(64), "a/b/c", "añb"] {
            assert_eq!(BucketName::new(name), Err(NameError::Bucket), "{name}");
        }
        assert!(BucketName::new("a.b-c9").is_ok());
    }

    #[test]
    fn object_keys_are_bounded() {
        assert_eq!(ObjectKey::new(vec![]), Err(NameError::Key));
        assert_eq!(ObjectKey::new(vec![0; 1025]), Err(NameError::Key));
        assert!(ObjectKey::new(vec![0xff; 1024]).is_ok());
    }
}
