//! Nothing readable at rest: every byte below the data directory is searched
//! for what tenants put in, in every spelling that an oversight would leave.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use coffer_tests::{Backups, Deployment, Files, bucket_name, copy_tree, object_key, source_tree};

/// A canary in one spelling.
struct Spelling {
    name: String,
    bytes: Vec<u8>,
}

/// Raw, in lower and upper case, hex, base64 at its three alignments, and
/// UTF-16 in both byte orders.
fn spellings(canary: &str) -> Vec<Spelling> {
    let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    let wide = |order: fn(u16) -> [u8; 2]| canary.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let mut all = vec![
        ("raw", canary.as_bytes().to_vec()),
        ("raw upper case", canary.to_uppercase().into_bytes()),
        ("hex", hex.clone().into_bytes()),
        ("hex upper case", hex.to_uppercase().into_bytes()),
        ("utf-16 little-endian", wide(u16::to_le_bytes)),
        ("utf-16 big-endian", wide(u16::to_be_bytes)),
    ];
    for before in 0..3 {
        let padded = [&b"\0\0"[..before], canary.as_bytes()].concat();
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            // First and last characters depend on the neighbours.
            let inner = encoded.as_bytes()[4..encoded.len() - 4].to_vec();
            all.push(("base64", inner));
        }
    }
    all.into_iter().map(|(how, bytes)| Spelling { name: format!("{canary} ({how})"), bytes }).collect()
}

/// Which canaries stand in which file, in its content or its name.
fn search(files: &Files, canaries: &[&str]) -> Vec<String> {
    let spellings: Vec<Spelling> = canaries.iter().flat_map(|canary| spellings(canary)).collect();
    // One pass over each file: a window is only compared where its first four
    // bytes begin some spelling.
    let mut by_start: BTreeMap<[u8; 4], Vec<&Spelling>> = BTreeMap::new();
    for spelling in &spellings {
        by_start.entry(*spelling.bytes.first_chunk().unwrap()).or_default().push(spelling);
    }
    let firsts: Vec<bool> = (0..=255).map(|byte| by_start.keys().any(|start| start[0] == byte)).collect();
    let mut found = Vec::new();
    for (path, content) in files.iter() {
        for bytes in [content, path.as_os_str().as_encoded_bytes()] {
            for at in (0..bytes.len()).filter(|at| firsts[usize::from(bytes[*at])]) {
                let Some(candidates) = bytes[at..].first_chunk().and_then(|start| by_start.get(start)) else {
                    continue;
                };
                let here = candidates.iter().filter(|spelling| bytes[at..].starts_with(&spelling.bytes));
                found.extend(here.map(|spelling| format!("{} in {}", spelling.name, path.display())));
            }
        }
    }
    found
}

const CANARIES: [&str; 8] = [
    "canary-tenant-quail",
    "canary-bucket-heron",
    "canary-key-plover",
    "canary-meta-bittern",
    "canary-value-gannet",
    "canary-content-curlew",
    "canary-tree-dotterel",
    "canary-label-fulmar",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_below_the_data_directory_says_what_a_tenant_put_in() {
    let [tenant_name, bucket, key, meta, value, content, word, label] = CANARIES;
    let mut deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant(tenant_name).await;
    let bucket = bucket_name(bucket);
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let metadata = BTreeMap::from([(meta.to_owned(), value.to_owned())]);
    for (n, length) in [100, 70_000, 5 << 20].into_iter().enumerate() {
        let body = Bytes::from(content.as_bytes().iter().copied().cycle().take(length).collect::<Vec<_>>());
        let key = object_key(&format!("{key}-{n}"));
        tenant.client.put_bytes(&bucket, &key, &metadata, body).await.unwrap();
    }
    let source = deployment.scratch().join("source");
    source_tree(&source, word);
    let backups = Backups::init(&tenant, &bucket).await;
    let (snapshot, manifest) = backups.store(&source).await;
    backups.bring_back(&snapshot, &manifest, &deployment.scratch().join("restored")).await;
    tenant.client.list(&bucket, key.as_bytes()).await.unwrap();
    tenant.client.delete(&bucket, &object_key(&format!("{key}-1"))).await.unwrap();
    let other = bucket_name(&format!("{}-2", bucket.as_str()));
    tenant.client.create_bucket(&other, None).await.unwrap();
    tenant.client.remove_bucket(&other).await.unwrap();
    tenant.client.note_digest(label, &manifest.digest().unwrap()).await.unwrap();
    let mut running = Files::of(&deployment.data());
    assert_eq!(search(&running, &CANARIES), Vec::<String>::new(), "while it runs");
    let sites = tenant.client.list_sites().await.unwrap();
    let stored: u64 = sites.iter().map(|site| site.volume_bytes).sum();
    drop((backups, tenant));
    deployment.stop().await;
    running = Files::of(&deployment.data());
    assert_eq!(search(&running, &CANARIES), Vec::<String>::new(), "when it has stopped");
    let searched: usize = running.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(
        stored > 12 << 20 && searched as u64 >= stored,
        "{searched} bytes were searched, {stored} are stored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_finds_a_canary_in_every_spelling_wherever_it_is_planted() {
    let mut deployment = Deployment::six_sites().await;
    deployment.stop().await;
    let copy = deployment.scratch().join("copy");
    copy_tree(&deployment.data(), &copy);
    let canary = CANARIES[5];
    assert_eq!(search(&Files::of(&copy), &[canary]), Vec::<String>::new());
    for (n, spelling) in spellings(canary).iter().enumerate() {
        let place = copy.join("service").join(format!("planted-{n}"));
        let content = [&[0xff; 777][..], &spelling.bytes, &[0; 3]].concat();
        std::fs::create_dir_all(copy.join("service")).unwrap();
        plant(&place, &content);
        let found = search(&Files::of(&copy), &[canary]);
        assert!(
            found.iter().any(|found| found.starts_with(&spelling.name)),
            "{} is not found",
            spelling.name
        );
        std::fs::remove_file(place).unwrap();
    }
    for before in 0..3 {
        let text = STANDARD_NO_PAD.encode([&b"xyz"[..before], canary.as_bytes(), b"more"].concat());
        plant(&copy.join("topology.json"), text.as_bytes());
        assert!(!search(&Files::of(&copy), &[canary]).is_empty(), "base64 behind {before} bytes");
    }
    plant(&copy.join(canary), b"");
    assert!(!search(&Files::of(&copy), &[canary]).is_empty(), "in a file name");
}

#[expect(clippy::disallowed_methods, reason = "the test plants a file")]
fn plant(path: &std::path::Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
}
