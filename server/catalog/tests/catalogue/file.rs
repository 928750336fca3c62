//! The file: sealed, refused whole, never harmed by a refusal.
#![expect(clippy::disallowed_methods, reason = "these tests look at the bytes of the file")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coffer_catalog::{Catalog, CatalogError, OpenCatalogError};
use coffer_model::{BucketId, TenantId};

use crate::sample::{TENANT, bucket, delete, fresh, key, leaf, path, put, reservation};

/// Every file of a folder but the shared-memory index and an empty wal, which
/// hold no content and are made anew at will.
fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| !path.to_string_lossy().ends_with("-shm"));
    let read = kept.map(|path| {
        let bytes = fs::read(&path).unwrap();
        (path.file_name().unwrap().to_string_lossy().into_owned(), bytes)
    });
    read.filter(|(_, bytes)| !bytes.is_empty()).collect()
}

/// What a crash would leave: a copy of the files while they are open.
fn crash(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for (name, bytes) in bytes(from) {
        fs::write(to.path().join(name), bytes).unwrap();
    }
    to
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_the_file_unharmed_with_and_without_a_wal() {
    let (folder, catalog) = fresh().await;
    put(&catalog, 1, "a").await;
    let crashed = crash(folder.path());
    catalog.close().await;
    for folder in [folder.path(), crashed.path()] {
        let before = bytes(folder);
        let refused = Catalog::open(path(folder), key(2), TENANT).await;
        assert!(matches!(refused, Err(OpenCatalogError::WrongKey(_))));
        assert!(bytes(folder) == before, "the file was changed");
        let catalog = Catalog::open(path(folder), key(1), TENANT).await.unwrap();
        assert_eq!(catalog.counts().await.unwrap().live_objects, 1);
    }
    assert_eq!(bytes(crashed.path()).len(), 2, "the crash left no wal, so it was not tested");
}

#[tokio::test]
async fn the_catalogue_of_another_tenant_is_refused_even_with_its_key() {
    let (folder, catalog) = fresh().await;
    catalog.close().await;
    let before = bytes(folder.path());
    let other = TenantId::from_bytes([9; 16]);
    let refused = Catalog::open(path(folder.path()), key(1), other).await;
    assert!(matches!(refused, Err(OpenCatalogError::OtherTenant { found: TENANT, .. })));
    assert!(bytes(folder.path()) == before, "the file was changed");
}

#[tokio::test]
async fn two_tenants_files_do_not_open_with_each_others_key() {
    let folder = tempfile::tempdir().unwrap();
    let tenants = [(1, TENANT), (2, TenantId::from_bytes([9; 16]))];
    for (byte, tenant) in tenants {
        let path = folder.path().join(tenant.to_string());
        Catalog::create(path, key(byte), tenant).await.unwrap().close().await;
    }
    for (byte, tenant) in [(2, tenants[0].1), (1, tenants[1].1)] {
        let refused = Catalog::open(folder.path().join(tenant.to_string()), key(byte), tenant).await;
        assert!(matches!(refused, Err(OpenCatalogError::WrongKey(_))));
    }
}

#[tokio::test]
async fn no_name_is_found_in_any_byte_of_the_files() {
    let canaries = ["canary-bucket", "canary/object", "canary-leaf", "canary-kind", "canary-fact", "gray"];
    let (folder, catalog) = fresh().await;
    let id = BucketId::from_bytes([0xb1; 16]);
    catalog.insert_bucket(bucket(id, canaries[0]), leaf(canaries[2])).await.unwrap();
    let row = put(&catalog, 1, canaries[1]).await;
    put(&catalog, 2, canaries[1]).await;
    catalog.put_fact(canaries[3], [1; 16], canaries[4].as_bytes().to_vec()).await.unwrap();
    catalog.reserve(reservation(3, canaries[1]), leaf(canaries[2])).await.unwrap();
    assert_eq!(row.manifest.metadata["colour"], "gray");
    let open = bytes(folder.path());
    assert_eq!(open.len(), 2, "the file and its wal");
    catalog.close().await;
    let all = open.into_iter().chain(bytes(folder.path()));
    for (name, bytes) in all {
        for canary in
            canaries.iter().map(|canary| canary.as_bytes()).chain([&b"SQLite format"[..], TENANT.as_bytes()])
        {
            let found = bytes.windows(canary.len()).any(|window| window == canary);
            assert!(!found, "{} in {name}", String::from_utf8_lossy(canary));
        }
    }
}

#[tokio::test]
async fn a_file_that_exists_is_never_created_again() {
    let (folder, catalog) = fresh().await;
    catalog.close().await;
    let before = bytes(folder.path());
    let refused = Catalog::create(path(folder.path()), key(1), TENANT).await;
    assert!(matches!(refused, Err(OpenCatalogError::Exists(_))));
    assert!(bytes(folder.path()) == before, "the file was changed");
}

#[tokio::test]
async fn a_draft_that_a_crash_left_does_not_hinder_creation_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tenant.catalogue.new"), b"half of one").unwrap();
    let catalog = Catalog::create(path(folder.path()), key(1), TENANT).await.unwrap();
    catalog.close().await;
    assert_eq!(bytes(folder.path()).into_keys().collect::<Vec<_>>(), ["tenant.catalogue"]);
    let mode = fs::metadata(path(folder.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn what_is_no_catalogue_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Catalog::open(path(folder.path()), key(1), TENANT).await;
    assert!(matches!(refused, Err(OpenCatalogError::NoFile(_))));
    assert!(bytes(folder.path()).is_empty());

    let plain = [&b"SQLite format 3\0"[..], &[0; 4080]].concat();
    for content in [&[][..], b"text", &[7; 4095], &plain] {
        fs::write(path(folder.path()), content).unwrap();
        let refused = Catalog::open(path(folder.path()), key(1), TENANT).await;
        assert!(matches!(refused, Err(OpenCatalogError::NotACatalogue(_))), "{} bytes", content.len());
        assert!(fs::read(path(folder.path())).unwrap() == content, "the file was changed");
    }
    // Random bytes of the right length look like a catalogue under another key.
    fs::write(path(folder.path()), [7; 8192]).unwrap();
    let refused = Catalog::open(path(folder.path()), key(1), TENANT).await;
    assert!(matches!(refused, Err(OpenCatalogError::WrongKey(_))));
}

#[tokio::test]
async fn another_database_with_our_key_and_a_newer_format_are_refused() {
    for (pragma, newer) in [("application_id = 5", false), ("user_version = 99", true)] {
        let (folder, catalog) = fresh().await;
        catalog.close().await;
        let database = rusqlite::Connection::open(path(folder.path())).unwrap();
        let hex = "01".repeat(32);
        database.execute_batch(&format!("PRAGMA key = \"x'{hex}'\"; PRAGMA {pragma};")).unwrap();
        database.close().unwrap();
        match Catalog::open(path(folder.path()), key(1), TENANT).await {
            Err(OpenCatalogError::NewerFormat { found: 99, known: 3, .. }) => assert!(newer),
            Err(OpenCatalogError::NotACatalogue(_)) => assert!(!newer),
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_in_any_page_is_an_error_and_never_a_wrong_answer() {
    let (folder, catalog) = fresh().await;
    let row = put(&catalog, 1, "a").await;
    catalog.close().await;
    let whole = fs::read(path(folder.path())).unwrap();
    let mut refusals = 0;
    for page in 0..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096 + 100] ^= 1;
        fs::write(path(folder.path()), &damaged).unwrap();
        let Ok(catalog) = Catalog::open(path(folder.path()), key(1), TENANT).await else {
            refusals += 1;
            continue;
        };
        match catalog.latest(row.manifest.bucket, &row.manifest.key).await {
            Ok(found) => assert_eq!(found.as_ref(), Some(&row), "page {page}"),
            Err(error) => {
                assert!(matches!(error, CatalogError::Storage(_)), "{error}");
                refusals += 1;
            }
        }
        catalog.close().await;
    }
    assert!(refusals >= 4, "only {refusals} damaged pages were noticed");
}

#[tokio::test]
async fn a_closed_catalogue_answers_that_it_is_closed() {
    let (folder, catalog) = fresh().await;
    let clone = catalog.clone();
    let row = put(&catalog, 1, "a").await;
    catalog.close().await;
    assert!(matches!(clone.append_leaf(leaf("late")).await, Err(CatalogError::Closed)));
    assert!(matches!(clone.log_size().await, Err(CatalogError::Closed)));
    clone.close().await;
    let again = Catalog::open(path(folder.path()), key(1), TENANT).await.unwrap();
    assert_eq!(again.log_size().await.unwrap(), 3);
    delete(&again, &row).await;
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let (folder, catalog) = fresh().await;
    let row = put(&catalog, 1, "a").await;
    let crashed = crash(folder.path());
    let again = Catalog::open(path(crashed.path()), key(1), TENANT).await.unwrap();
    assert_eq!(again.latest(row.manifest.bucket, &row.manifest.key).await.unwrap(), Some(row));
    assert_eq!(again.log_size().await.unwrap(), 3);
}
