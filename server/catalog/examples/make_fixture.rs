//! Makes the fixture file of the newest catalogue format, with a known key
//! and known content: `make_fixture FILE`. Run once for each format, when it
//! is released; the file is then never made again.

use std::collections::BTreeMap;
use std::error::Error;

use coffer_catalog::{
    BucketRow, Catalog, ChallengeRow, Leaf, ManifestRow, NewChallenges, NewReservation, TombstoneRow,
};
use coffer_model::{
    BucketId, BucketName, CatalogKey, Degraded, Digest, Geometry, Layout, Manifest, ObjectId, ObjectKey,
    RecordId, ResidencyPolicy, SiteId, TenantId, Tier, Timestamp, VersionId,
};
use zeroize::Zeroizing;

const TENANT: TenantId = TenantId::from_bytes([0x7e; 16]);
const BUCKET: BucketId = BucketId::from_bytes([0xb0; 16]);

fn leaf(text: &str) -> Leaf {
    Leaf { body: text.as_bytes().to_vec(), hash: Digest([0x1f; 32]) }
}

fn reservation(number: u8, key: &str) -> Result<NewReservation, Box<dyn Error>> {
    Ok(NewReservation {
        version: VersionId::from_bytes([number; 16]),
        bucket: BUCKET,
        under: RecordId::from_bytes([0xb0; 16]),
        key: ObjectKey::new(key)?,
        object: ObjectId::from_bytes([number; 16]),
        created: Timestamp(1_700_000_000_000_000_000),
        record: RecordId::from_bytes([number; 16]),
        sites: (0..3).map(|i| SiteId::from_bytes([i; 16])).collect(),
        locator: [number; 32],
        striped: false,
        wrap: vec![number; 60],
    })
}

fn challenge(number: u8, site: u8) -> ChallengeRow {
    ChallengeRow {
        version: VersionId::from_bytes([number; 16]),
        site: SiteId::from_bytes([site; 16]),
        record: RecordId::from_bytes([number; 16]),
        nonce: [number; 8],
        answer: Digest([site; 32]),
    }
}

async fn put(catalog: &Catalog, number: u8, key: &str) -> Result<Manifest, Box<dyn Error>> {
    let new = reservation(number, key)?;
    let reserved = catalog.reserve(new.clone(), leaf("intent")).await?;
    let manifest = Manifest {
        tenant: TENANT,
        bucket: BUCKET,
        object: reserved.object,
        version: new.version,
        key: new.key,
        order: reserved.order,
        created: new.created,
        size: u64::from(number) * 10,
        sealed_size: u64::from(number) * 10 + 84,
        content: Digest([number; 32]),
        metadata: BTreeMap::from([("made".to_owned(), "for the tests".to_owned())]),
        layout: Layout::Inline { sites: new.sites },
        revision: 0,
    };
    let row = ManifestRow {
        record: new.record,
        manifest: manifest.clone(),
        wrap: new.wrap,
        reduced: 1,
        inline: true,
    };
    let challenges = NewChallenges { rows: (0..2).map(|i| challenge(number, i)).collect(), whole: true };
    catalog.commit_under(row, None, challenges, leaf("outcome")).await?;
    Ok(manifest)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("say where: make_fixture FILE")?;
    let key = CatalogKey::new(Zeroizing::new([1; 32]));
    let catalog = Catalog::create(path.into(), key, TENANT).await?;
    let policy = ResidencyPolicy {
        allow: vec!["EU".parse()?],
        deny: vec!["FR".parse()?],
        tier_min: Tier::II,
        geometry: Geometry::DEFAULT,
        degraded: Degraded::Accept,
    };
    let bucket = BucketRow {
        id: BUCKET,
        name: BucketName::new("fixture")?,
        policy,
        created: Timestamp(1_700_000_000_000_000_000),
        record: RecordId::from_bytes([0xbb; 16]),
    };
    catalog.insert_bucket(bucket, leaf("bucket")).await?;
    put(&catalog, 1, "docs/kept").await?;
    put(&catalog, 2, "docs/kept").await?;
    let gone = put(&catalog, 3, "docs/gone").await?;
    let tombstone = TombstoneRow {
        record: RecordId::from_bytes([0xdd; 16]),
        bucket: BUCKET,
        object: gone.object,
        version: gone.version,
        order: gone.order,
        created: gone.created,
    };
    catalog.tombstone(gone.version, tombstone, leaf("delete")).await?;
    catalog.reserve(reservation(4, "docs/under way")?, leaf("intent")).await?;
    catalog.set_replicated_size(5).await?;
    catalog.put_fact("principal", [4; 16], b"fact".to_vec()).await?;
    catalog.close().await;
    Ok(())
}
