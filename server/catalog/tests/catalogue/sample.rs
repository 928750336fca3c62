//! Rows to put in, made from small numbers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffer_catalog::{BucketRow, Catalog, Leaf, ManifestRow, NewReservation, Reserved, TombstoneRow};
use coffer_model::{
    BucketId, BucketName, CatalogKey, Degraded, Digest, Geometry, Layout, Manifest, ObjectId, ObjectKey,
    RecordId, ResidencyPolicy, SiteId, TenantId, Tier, Timestamp, VersionId,
};
use tempfile::TempDir;
use zeroize::Zeroizing;

pub(crate) const TENANT: TenantId = TenantId::from_bytes([0x7e; 16]);
pub(crate) const BUCKET: BucketId = BucketId::from_bytes([0xb0; 16]);

pub(crate) fn key(byte: u8) -> CatalogKey {
    CatalogKey::new(Zeroizing::new([byte; 32]))
}

/// Sixteen bytes that begin with a number.
pub(crate) fn sixteen(number: u64) -> [u8; 16] {
    (u128::from(number) << 64 | 0x5a).to_be_bytes()
}

pub(crate) fn version(number: u64) -> VersionId {
    VersionId::from_bytes(sixteen(number))
}

pub(crate) fn object_key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

pub(crate) fn leaf(text: &str) -> Leaf {
    let mut hash = [0; 32];
    for (byte, from) in hash.iter_mut().zip(text.bytes()) {
        *byte = from;
    }
    Leaf { body: text.as_bytes().to_vec(), hash: Digest(hash) }
}

pub(crate) fn bucket(id: BucketId, name: &str) -> BucketRow {
    BucketRow {
        id,
        name: BucketName::new(name).unwrap(),
        policy: ResidencyPolicy {
            allow: vec!["EU".parse().unwrap()],
            deny: vec!["FR".parse().unwrap()],
            tier_min: Tier::II,
            geometry: Geometry::DEFAULT,
            degraded: Degraded::Accept,
        },
        created: Timestamp(1_700_000_000_000_000_000),
        record: RecordId::from_bytes([0xbb; 16]),
    }
}

/// The reservation of version `number` of a key in the first bucket.
pub(crate) fn reservation(number: u64, key: &str) -> NewReservation {
    NewReservation {
        version: version(number),
        bucket: BUCKET,
        under: RecordId::from_bytes([0xbb; 16]),
        key: object_key(key),
        object: ObjectId::from_bytes(sixteen(number | 1 << 40)),
        created: Timestamp(1_700_000_000_000_000_000 + number),
        record: RecordId::from_bytes(sixteen(number | 1 << 41)),
        sites: (0..6).map(|i| SiteId::from_bytes([i; 16])).collect(),
        locator: [3; 32],
        striped: true,
        wrap: vec![9; 60],
    }
}

/// The manifest that fits a reservation.
pub(crate) fn manifest(new: &NewReservation, reserved: Reserved) -> ManifestRow {
    ManifestRow {
        record: new.record,
        manifest: Manifest {
            tenant: TENANT,
            bucket: new.bucket,
            object: reserved.object,
            version: new.version,
            key: new.key.clone(),
            order: reserved.order,
            created: new.created,
            size: 70_000,
            sealed_size: 70_100,
            content: Digest([0xc0; 32]),
            metadata: BTreeMap::from([("colour".to_owned(), "gray".to_owned())]),
            layout: Layout::Striped {
                geometry: Geometry::DEFAULT,
                sites: new.sites.clone(),
                stripe_bytes: 1 << 20,
                locator: new.locator,
                digests: vec![vec![Digest([1; 32]); 6]],
            },
            revision: 0,
        },
        wrap: new.wrap.clone(),
        reduced: 1,
        inline: false,
    }
}

/// The tombstone that hides a version.
pub(crate) fn tombstone(row: &ManifestRow) -> TombstoneRow {
    let manifest = &row.manifest;
    TombstoneRow {
        record: RecordId::from_bytes(sixteen(manifest.order | 1 << 42)),
        bucket: manifest.bucket,
        object: manifest.object,
        version: manifest.version,
        order: manifest.order,
        created: Timestamp(1_800_000_000_000_000_000),
    }
}

/// A catalogue in a directory of its own, with the first bucket in it.
pub(crate) async fn fresh() -> (TempDir, Catalog) {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::create(path(folder.path()), key(1), TENANT).await.unwrap();
    assert_eq!(catalog.insert_bucket(bucket(BUCKET, "first"), leaf("bucket")).await.unwrap(), 0);
    (folder, catalog)
}

pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("tenant.catalogue")
}

/// Reserves and commits one version.
pub(crate) async fn put(catalog: &Catalog, number: u64, key: &str) -> ManifestRow {
    let new = reservation(number, key);
    let reserved = catalog.reserve(new.clone(), leaf("intent")).await.unwrap();
    let row = manifest(&new, reserved);
    catalog.commit(row.clone(), leaf("outcome")).await.unwrap();
    row
}

pub(crate) async fn delete(catalog: &Catalog, row: &ManifestRow) {
    catalog.tombstone(row.manifest.version, tombstone(row), leaf("delete")).await.unwrap();
}

/// The keys that a listing of the first bucket shows.
pub(crate) async fn keys(catalog: &Catalog, prefix: &[u8]) -> Vec<String> {
    let rows = catalog.list(BUCKET, prefix, None, 1000).await.unwrap();
    rows.into_iter().map(|row| row.key.to_string()).collect()
}
