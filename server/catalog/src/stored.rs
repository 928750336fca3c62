//! How typed values become columns: numbers within SQLite's 63 bits, and
//! blobs that begin with a version byte.

use coffer_model::{Digest, Manifest, ManifestV1, TenantId};
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::CatalogError;

/// Blob format 1: this byte, then the value in postcard's wire format.
const POSTCARD_1: u8 = 1;

/// Encodes a value with its version byte.
pub(crate) fn encode<T: Serialize>(value: &T, what: &'static str) -> Result<Vec<u8>, CatalogError> {
    postcard::to_extend(value, vec![POSTCARD_1]).map_err(|_| CatalogError::TooLarge(what))
}

/// Decodes what [`encode`] wrote; bytes left over are damage too.
pub(crate) fn decode<T: DeserializeOwned>(blob: &[u8], what: &'static str) -> Result<T, CatalogError> {
    match blob.split_first() {
        Some((&POSTCARD_1, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            _ => Err(CatalogError::Damaged(what)),
        },
        _ => Err(CatalogError::Damaged(what)),
    }
}

/// Blob format 2, of manifests only: with their revision.
const MANIFEST_2: u8 = 2;

/// Encodes a manifest in its newest format.
pub(crate) fn encode_manifest(manifest: &Manifest) -> Result<Vec<u8>, CatalogError> {
    postcard::to_extend(manifest, vec![MANIFEST_2]).map_err(|_| CatalogError::TooLarge("manifest"))
}

/// Decodes a manifest of any format.
pub(crate) fn decode_manifest(blob: &[u8]) -> Result<Manifest, CatalogError> {
    match blob.split_first() {
        Some((&MANIFEST_2, body)) => match postcard::take_from_bytes(body) {
            Ok((manifest, [])) => Ok(manifest),
            _ => Err(CatalogError::Damaged("manifest")),
        },
        _ => decode::<ManifestV1>(blob, "manifest").map(Manifest::from),
    }
}

/// A number as SQLite stores it.
pub(crate) fn integer(value: u64, what: &'static str) -> Result<i64, CatalogError> {
    i64::try_from(value).map_err(|_| CatalogError::TooLarge(what))
}

/// The number in a column.
pub(crate) fn number(row: &Row<'_>, column: usize, what: &'static str) -> Result<u64, CatalogError> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| CatalogError::Damaged(what))
}

/// The sixteen bytes in a column, as an id of some kind.
pub(crate) fn id<T: From16>(row: &Row<'_>, column: usize, what: &'static str) -> Result<T, CatalogError> {
    row.get::<_, [u8; 16]>(column).map(T::from_16).map_err(|_| CatalogError::Damaged(what))
}

/// The digest in a column.
pub(crate) fn digest(row: &Row<'_>, column: usize, what: &'static str) -> Result<Digest, CatalogError> {
    row.get::<_, [u8; 32]>(column).map(Digest).map_err(|_| CatalogError::Damaged(what))
}

/// Ids that are made of sixteen bytes.
pub(crate) trait From16 {
    fn from_16(bytes: [u8; 16]) -> Self;
}

macro_rules! from_16 {
    ($($id:ident),*) => {$(
        impl From16 for $id {
            fn from_16(bytes: [u8; 16]) -> Self {
                Self::from_bytes(bytes)
            }
        }
    )*};
}
use coffer_model::{BucketId, ObjectId, RecordId, SiteId, VersionId};
from_16!(BucketId, ObjectId, RecordId, SiteId, TenantId, VersionId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_of_another_version_cut_or_with_bytes_left_over_is_damage() {
        let blob = encode(&(7_u64, vec![1_u8, 2, 3]), "test").unwrap();
        assert_eq!(decode::<(u64, Vec<u8>)>(&blob, "test").unwrap(), (7, vec![1, 2, 3]));
        let mut other = blob.clone();
        other[0] = 2;
        let longer = [blob.as_slice(), &[0]].concat();
        for bad in [&other[..], &longer, &blob[..blob.len() - 1], &[], &[1, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
            assert!(matches!(decode::<(u64, Vec<u8>)>(bad, "test"), Err(CatalogError::Damaged("test"))));
        }
    }
}
