//! What a sealed message is bound to: opening it under any other context fails.

use coffer_model::{BucketId, ObjectId, RecordId, TenantId, VersionId};

use crate::fields;

/// Version of the encoding below, and with it of the object format.
const FORMAT_VERSION: u8 = 1;

/// The context of one message: format version byte, then length-prefixed
/// label and parts. Not secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context(Vec<u8>);

impl Context {
    /// The content of one object version.
    pub fn object(tenant: TenantId, bucket: BucketId, object: ObjectId, version: VersionId) -> Self {
        Self::labelled(
            b"object",
            &[tenant.as_bytes(), bucket.as_bytes(), object.as_bytes(), version.as_bytes()],
        )
    }

    /// The manifest of one object version, in the record that was made for it:
    /// under another record id, an older manifest would pass for a newer one.
    pub fn manifest(tenant: TenantId, version: VersionId, record: RecordId) -> Self {
        Self::labelled(b"manifest", &[tenant.as_bytes(), version.as_bytes(), record.as_bytes()])
    }

    /// Any other message. Distinct labels, and distinct lists of parts, give
    /// distinct contexts; none of them is ever an object's or a manifest's.
    pub fn named(label: &str, parts: &[&[u8]]) -> Self {
        Self::labelled(&[b"named/", label.as_bytes()].concat(), parts)
    }

    /// The bytes that enter the key derivation.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A context with these very bytes, for the vectors of other projects.
    #[doc(hidden)]
    pub fn danger_from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    fn labelled(label: &[u8], parts: &[&[u8]]) -> Self {
        let mut bytes = vec![FORMAT_VERSION];
        fields::append(&mut bytes, label);
        parts.iter().for_each(|part| fields::append(&mut bytes, part));
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_moves_between_parts_changes_the_context() {
        let contexts = [
            Context::named("a", &[b"bc", b"d"]),
            Context::named("a", &[b"b", b"cd"]),
            Context::named("ab", &[b"c", b"d"]),
            Context::named("a", &[b"bcd"]),
            Context::named("a", &[b"bcd", b""]),
        ];
        for (i, left) in contexts.iter().enumerate() {
            assert!(contexts[i + 1..].iter().all(|right| left != right), "{i}");
        }
    }

    #[test]
    fn a_named_context_is_never_a_manifest_or_an_object() {
        let (tenant, version) = (TenantId::from_bytes([1; 16]), VersionId::from_bytes([2; 16]));
        let record = RecordId::from_bytes([3; 16]);
        let parts: [&[u8]; 3] = [tenant.as_bytes(), version.as_bytes(), record.as_bytes()];
        assert_ne!(Context::manifest(tenant, version, record), Context::named("manifest", &parts));
    }
}
