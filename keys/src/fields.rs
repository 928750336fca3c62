//! Length-prefixed fields: the one encoding of everything that is bound into
//! a key derivation or into associated data. Because every field carries its
//! length, no two different lists of fields encode to the same bytes.

/// Appends `field` behind its length in bytes, eight bytes big-endian.
pub(crate) fn append(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u64).to_be_bytes());
    out.extend_from_slice(field);
}

/// The fields one after another.
pub(crate) fn encode(fields: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(fields.iter().map(|field| 8 + field.len()).sum());
    fields.iter().for_each(|field| append(&mut out, field));
    out
}
