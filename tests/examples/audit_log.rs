//! What the audit log costs: appending a leaf, proving it and verifying the
//! proof with ten thousand and ten million leaves; the same through a
//! catalogue; and the log's share of a put.
//!
//! `cargo run --release -p coffer-tests --example audit_log [-- tree | catalogue | puts]`
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::sync::Arc;

use coffer_catalog::{Catalog, Leaf};
use coffer_keys::{
    LeafTiles, TILE_WIDTH, Tiles, leaf_hash, parse_canonical, verify_consistency, verify_inclusion,
};
use coffer_model::{CatalogKey, TenantId};
use coffer_tests::{Deployment, bucket_name, elapsed, object_key, pattern, seconds};
use zeroize::Zeroizing;

/// A leaf of the usual length, another one for each number.
fn body(n: u64) -> Vec<u8> {
    format!(
        concat!(
            r#"{{"activity_id":1,"actor":{{"user":{{"uid":"pri-{0:032x}"}}}},"api":{{"operation":"object_put"}},"#,
            r#""category_uid":6,"class_uid":6003,"metadata":{{"product":{{"name":"Coffer","vendor_name":"Coffer"}},"#,
            r#""tenant_uid":"ten-{1:032x}","version":"1.5.0"}},"resources":[{{"uid":"ver-{0:032x}"}}],"severity_id":1,"#,
            r#""src_endpoint":{{"uid":"pri-{1:032x}"}},"status_detail":"done","status_id":1,"time":1764000000123,"type_uid":600301}}"#
        ),
        n, 7
    )
    .into_bytes()
}

/// The leaf hashes of the tiles that proofs about these positions need.
fn load(tiles: &Tiles, positions: &[u64]) -> LeafTiles {
    let of = |tile: u64| (tile * TILE_WIDTH..(tile + 1) * TILE_WIDTH).map(|n| leaf_hash(&body(n))).collect();
    tiles.needed(positions).into_iter().map(|tile| (tile, of(tile))).collect()
}

/// Positions all over a log.
fn spread(size: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size)
}

const PROOFS: u64 = 500;

/// The tree alone: no disk, no service.
fn tree(size: u64) {
    let mut tiles = Tiles::new();
    let append = seconds(|| (0..size).for_each(|n| tiles.append(leaf_hash(&body(n)))));
    println!(
        "{size} leaves: appended in {:.2} us each, {} hashes kept",
        append * 1e6 / size as f64,
        tiles.kept()
    );
    let (mut proving, mut verifying, mut consistent) = (0.0, 0.0, 0.0);
    for at in spread(size, PROOFS) {
        let leaves = load(&tiles, &[at, size]);
        let mut path = Vec::new();
        proving += seconds(|| path = tiles.inclusion(at, size, &leaves).unwrap());
        let hash = leaf_hash(&body(at));
        verifying += seconds(|| verify_inclusion(hash, at, size, tiles.root(), &path).unwrap());
        let leaves = load(&tiles, &[at, size]);
        let old = tiles.tree_at(at, &leaves).unwrap();
        let mut proof = Vec::new();
        consistent += seconds(|| proof = tiles.consistency(at, size, &leaves).unwrap());
        verify_consistency(at, old.root(), size, tiles.root(), &proof).unwrap();
    }
    let micro = |total: f64| total * 1e6 / PROOFS as f64;
    println!(
        "  inclusion: made in {:.1} us, verified in {:.1} us; consistency: made in {:.1} us (leaf hashes at hand)",
        micro(proving),
        micro(verifying),
        micro(consistent)
    );
    let some = 20_000.min(size);
    let reading = seconds(|| (0..some).for_each(|n| drop(parse_canonical(&body(n)).unwrap())));
    println!("  an auditor's reading of a leaf as canonical JSON: {:.2} us", reading * 1e6 / some as f64);
}

fn key() -> CatalogKey {
    CatalogKey::new(Zeroizing::new([7; 32]))
}

/// Leaves through a catalogue: committed, and read back for proofs.
async fn catalogue(size: u64) {
    let dir = tempfile::tempdir().unwrap();
    let tenant = TenantId::from_bytes([7; 16]);
    let catalog = Arc::new(Catalog::create(dir.path().join("log.db"), key(), tenant).await.unwrap());
    let leaf = |n| Leaf { hash: leaf_hash(&body(n)), body: body(n) };
    let filling = elapsed(async {
        let mut at = 0;
        while at < size {
            let end = (at + 4096).min(size);
            catalog.append_leaves((at..end).map(leaf).collect()).await.unwrap();
            at = end;
        }
    });
    let filling = filling.await.0;
    println!("{size} leaves in a catalogue: {:.1} us each in runs of 4096", filling * 1e6 / size as f64);
    // As calls do it: one leaf each, many at once, grouped by the writer.
    const CALLS: u64 = 4000;
    const AT_ONCE: usize = 64;
    let one_each = |with_leaf: bool| {
        let catalog = Arc::clone(&catalog);
        async move {
            use futures::StreamExt as _;
            let calls = futures::stream::iter(0..CALLS).map(|n| {
                let catalog = Arc::clone(&catalog);
                async move {
                    if with_leaf {
                        catalog.append_leaf(leaf(n)).await.map(drop).unwrap();
                    } else {
                        catalog.put_fact("nothing", [7; 16], vec![7]).await.unwrap();
                    }
                }
            });
            calls.buffer_unordered(AT_ONCE).collect::<()>().await;
        }
    };
    let (without, with) = (elapsed(one_each(false)).await.0, elapsed(one_each(true)).await.0);
    let each = |total: f64| total * 1e6 / CALLS as f64;
    println!(
        "  one leaf a call, {AT_ONCE} at once: {:.1} us a call; the same commits of one byte: {:.1} us",
        each(with),
        each(without)
    );
    let mut tiles = Tiles::new();
    let catching_up = elapsed(async {
        while tiles.size() < size {
            let hashes = catalog.leaf_hashes(tiles.size(), 16 * 1024).await.unwrap();
            hashes
                .into_iter()
                .take(usize::try_from(size - tiles.size()).unwrap())
                .for_each(|hash| tiles.append(hash));
        }
    });
    println!("  the tree caught up after a start in {:.2} s", catching_up.await.0);
    let proofs = elapsed(async {
        for at in spread(size, PROOFS) {
            let mut leaves = LeafTiles::new();
            for tile in tiles.needed(&[at, size]) {
                leaves.insert(tile, catalog.leaf_hashes(tile * TILE_WIDTH, 256).await.unwrap());
            }
            tiles.inclusion(at, size, &leaves).unwrap();
        }
    });
    println!("  a proof with its leaf hashes read: {:.0} us", proofs.await.0 * 1e6 / PROOFS as f64);
}

/// Small puts a second, and how much of one its two leaves are.
async fn puts() {
    use futures::StreamExt as _;
    const PUTS: u64 = 2000;
    const AT_ONCE: usize = 32;
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let data = pattern(7, 4096);
    let put = |n: u64| {
        let (client, bucket, data) = (tenant.client.clone(), bucket.clone(), data.clone());
        async move {
            let key = object_key(&format!("object-{n}"));
            client.put_bytes(&bucket, &key, &Default::default(), data).await.map(drop).unwrap();
        }
    };
    let note = |n: u64| {
        let client = tenant.client.clone();
        let digest = coffer_model::Digest([u8::try_from(n % 251).unwrap(); 32]);
        async move { client.note_digest("cost", &digest).await.map(drop).unwrap() }
    };
    let putting = futures::stream::iter(0..PUTS).map(put).buffer_unordered(AT_ONCE).collect::<()>();
    let putting = elapsed(putting).await.0;
    let noting = futures::stream::iter(0..PUTS).map(note).buffer_unordered(AT_ONCE).collect::<()>();
    let noting = elapsed(noting).await.0;
    println!(
        "{AT_ONCE} at once: {:.0} puts of 4 KiB a second, {:.0} calls that write one leaf and nothing else",
        PUTS as f64 / putting,
        PUTS as f64 / noting
    );
}

#[tokio::main]
async fn main() {
    let wanted = std::env::args().nth(1);
    let is = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    if is("tree") {
        tree(10_000);
        tree(10_000_000);
    }
    if is("catalogue") {
        catalogue(10_000).await;
        catalogue(1_000_000).await;
    }
    if is("puts") {
        puts().await;
    }
}
