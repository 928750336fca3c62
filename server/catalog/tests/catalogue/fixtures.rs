//! A file of every format that was ever released opens, migrates and answers.
//! The fixtures are found by listing their folder; each holds what
//! `examples/make_fixture.rs` puts in, under key 0x01 × 32. `cargo run -p coffer-catalog --example
//! make_fixture -- FILE` makes the next one.

use std::fs;
use std::path::Path;

use coffer_catalog::Catalog;
use coffer_model::{BucketName, SiteId, TenantId};

#[tokio::test]
async fn every_fixture_opens_and_answers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut found = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let fixture = entry.unwrap().path();
        if fixture.extension().is_none_or(|extension| extension != "catalogue") {
            continue;
        }
        let copy = tempfile::tempdir().unwrap();
        let path = copy.path().join("copy.catalogue");
        fs::copy(&fixture, &path).unwrap();
        answers(path, &fixture.display().to_string()).await;
        found += 1;
    }
    assert!(found >= 3, "fixtures of all three formats were found");
}

async fn answers(path: std::path::PathBuf, name: &str) {
    let tenant = TenantId::from_bytes([0x7e; 16]);
    let catalog = Catalog::open(path, crate::sample::key(1), tenant).await.expect(name);
    let counts = catalog.counts().await.expect(name);
    let challenges = catalog.challenge_counts().await.expect(name).fresh;
    let site = |byte| SiteId::from_bytes([byte; 16]);
    let expected = if name.ends_with("v1.catalogue") { vec![] } else { vec![(site(0), 3), (site(1), 3)] };
    assert_eq!(challenges.into_iter().collect::<Vec<_>>(), expected, "{name}");
    assert_eq!((counts.buckets, counts.versions, counts.live_objects), (1, 3, 1), "{name}");
    assert_eq!((counts.leaves, counts.reservations), (9, 1), "{name}");
    let bucket = catalog.bucket(&BucketName::new("fixture").unwrap()).await.expect(name).expect(name);
    assert_eq!(bucket.policy.geometry.to_string(), "4+2", "{name}");
    let rows = catalog.list(bucket.id, b"docs/", None, 10).await.expect(name);
    assert_eq!(rows.len(), 1, "{name}");
    assert_eq!(rows[0].key.as_bytes(), b"docs/kept", "{name}");
    let latest = catalog.latest(bucket.id, &rows[0].key).await.expect(name).expect(name);
    assert_eq!((latest.manifest.order, latest.manifest.size, latest.reduced), (2, 20, 1), "{name}");
    assert_eq!(latest.manifest.metadata["made"], "for the tests", "{name}");
    assert_eq!(catalog.reservations().await.expect(name)[0].order, 4, "{name}");
    assert_eq!(catalog.replicated_size().await.expect(name), 5, "{name}");
    assert_eq!(catalog.facts("principal").await.expect(name), [([4; 16], b"fact".to_vec())], "{name}");
}
