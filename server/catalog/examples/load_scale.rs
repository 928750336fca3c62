//! What loading one version into a catalogue costs as it grows: loads versions
//! with random ids, in batches as a rebuild does, and prints the time of each
//! tenth. `cargo run --release -p coffer-catalog --example load_scale -- 1000000`
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]
#![expect(clippy::disallowed_methods, reason = "a measurement looks at the clock")]

use std::error::Error;
use std::time::Instant;

use coffer_catalog::{BucketRow, Catalog, ManifestRow, RebuildBatch};
use coffer_model::{
    BucketId, BucketName, CatalogKey, Degraded, Digest, Geometry, Layout, Manifest, ObjectId, ObjectKey,
    RecordId, ResidencyPolicy, SiteId, TenantId, Tier, Timestamp, VersionId,
};
use zeroize::Zeroizing;

const TENANT: TenantId = TenantId::from_bytes([0x7e; 16]);
const BUCKET: BucketId = BucketId::from_bytes([0xb0; 16]);
/// As many rows as a rebuild loads at once, and as much cache as it asks for.
const BATCH: u64 = 16_384;
const CACHE_MIB: u16 = 128;

/// An id without order, the same in each run.
fn id(number: u64, salt: u8) -> [u8; 16] {
    let mut hash = number.wrapping_add(u64::from(salt) << 56);
    let mut id = [0; 16];
    for half in id.chunks_mut(8) {
        // SplitMix64 (Steele, Lea, Flood 2014).
        hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = hash;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        half.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    id
}

fn row(number: u64) -> Result<ManifestRow, Box<dyn Error>> {
    let sites = (0..3).map(|i| SiteId::from_bytes([i; 16])).collect();
    let manifest = Manifest {
        tenant: TENANT,
        bucket: BUCKET,
        object: ObjectId::from_bytes(id(number, 1)),
        version: VersionId::from_bytes(id(number, 2)),
        key: ObjectKey::new(format!("{:02x}/object-{number:09}", id(number, 4)[0]))?,
        order: number + 1,
        created: Timestamp(1_700_000_000_000_000_000),
        size: 1024,
        sealed_size: 1108,
        content: Digest([7; 32]),
        metadata: std::collections::BTreeMap::new(),
        layout: Layout::Inline { sites },
        revision: 0,
    };
    let record = RecordId::from_bytes(id(number, 3));
    Ok(ManifestRow { record, manifest, wrap: vec![9; 110], reduced: 0, inline: true })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let total: u64 = std::env::args().nth(1).map_or(Ok(100_000), |count| count.parse())?;
    let scratch = tempfile::tempdir()?;
    let key = CatalogKey::new(Zeroizing::new([1; 32]));
    let catalog = Catalog::create(scratch.path().join("catalogue"), key, TENANT).await?;
    let policy = ResidencyPolicy {
        allow: vec!["EU".parse()?],
        deny: Vec::new(),
        tier_min: Tier::II,
        geometry: Geometry::DEFAULT,
        degraded: Degraded::Accept,
    };
    let (name, created) = (BucketName::new("scale")?, Timestamp(1));
    let record = RecordId::from_bytes([0xbb; 16]);
    let bucket = BucketRow { id: BUCKET, name, policy, created, record };
    catalog.load(RebuildBatch { buckets: vec![bucket], ..RebuildBatch::default() }).await?;
    catalog.begin_loading(CACHE_MIB).await?;
    let (mut loaded, mut shown, mut since, begin) = (0, 0, Instant::now(), Instant::now());
    while loaded < total {
        let end = (loaded + BATCH).min(total);
        let manifests = (loaded..end).map(row).collect::<Result<Vec<_>, _>>()?;
        let batch = RebuildBatch { manifests, order_floor: end, ..RebuildBatch::default() };
        catalog.load(batch).await?;
        loaded = end;
        if loaded - shown >= total / 10 || loaded == total {
            let spent = begin.elapsed();
            println!(
                "{loaded:>9} loaded: {:6.1} us each since {shown}",
                since.elapsed().as_micros() as f64 / (loaded - shown) as f64
            );
            println!("          in {:.1} s in all", spent.as_secs_f64());
            (shown, since) = (loaded, Instant::now());
        }
    }
    catalog.finish_loading().await?;
    catalog.close().await;
    Ok(())
}
