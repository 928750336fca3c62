//! An export of a log is verified with the key alone, and whatever was done to
//! it afterwards is found and named.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the files of exports are changed as somebody with the disk could"
)]

use std::fs;
use std::path::{Path, PathBuf};

use coffer_client::audit::{
    ExportReport, LogEvent, RangeRequest, TlogProof, Trusted, export_log, prove_from_export, verify_export,
};
use coffer_client::keys::{Checkpoint, VerifierName};
use coffer_client::{LogError, LogWatch, PublicKit};
use coffer_tests::{Deployment, TenantClient, bucket_name, copy_tree, object_key, pattern, replace_tree};

async fn with_a_short_log() -> (Deployment, TenantClient) {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    tenant.client.create_bucket(&bucket_name("things"), None).await.unwrap();
    tenant.put(&bucket_name("things"), "object", pattern(1, 700)).await;
    tenant.get(&bucket_name("things"), "object").await.unwrap();
    tenant.client.delete(&bucket_name("things"), &object_key("object")).await.unwrap();
    (deployment, tenant)
}

/// The key, and what is known of the log; no witness is asked for.
fn trusted<'a>(key: &'a VerifierName, pinned: Option<&'a Checkpoint>) -> Trusted<'a> {
    Trusted { key, pinned, witnesses: None }
}

/// So many more leaves.
async fn grow(tenant: &TenantClient, leaves: u64) {
    for n in 0..leaves {
        let digest = coffer_model::Digest([u8::try_from(n % 251).unwrap(); 32]);
        tenant.client.note_digest("growth", &digest).await.unwrap();
    }
}

fn key_of(tenant: &TenantClient) -> VerifierName {
    let name = tenant.log_origin.split_once("/log/").unwrap().0.to_owned();
    VerifierName { name, key: tenant.log_key }
}

async fn export(deployment: &Deployment, tenant: &TenantClient, name: &str) -> (PathBuf, Checkpoint) {
    let dir = deployment.scratch().join(name);
    let mut watch = tenant.watch();
    let exported =
        export_log(&tenant.client, &mut watch, &key_of(tenant), &dir, None, &mut |_, _| ()).await.unwrap();
    (dir, exported.checkpoint)
}

fn verify(dir: &Path, tenant: &TenantClient, known: Option<&Checkpoint>) -> ExportReport {
    verify_export(dir, trusted(&key_of(tenant), known), &mut |_, _| ()).unwrap()
}

/// Every file of an export, by its name.
fn files(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(inner) = waiting.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                names.push(path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_verifies_with_the_key_alone_and_proves_each_of_its_leaves() {
    let (deployment, tenant) = with_a_short_log().await;
    grow(&tenant, 300).await;
    let (dir, checkpoint) = export(&deployment, &tenant, "export").await;
    assert!(checkpoint.size > 300);
    assert!(files(&dir).contains(&"tile/entries/000".to_owned()), "{:?}", files(&dir));
    let mut operations = Vec::new();
    let report = verify_export(&dir, trusted(&key_of(&tenant), Some(&checkpoint)), &mut |index, leaf| {
        operations.push(LogEvent::read(index, leaf).unwrap().operation);
    });
    let report = report.unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.leaves, report.checkpoint), (checkpoint.size, Some(checkpoint.clone())));
    for operation in ["bucket_create", "object_put", "object_get", "object_delete", "digest_note"] {
        assert!(operations.iter().any(|seen| seen == operation), "{operation}");
    }
    for index in [0, 1, 255, 256, checkpoint.size - 1] {
        let proof = prove_from_export(&dir, &key_of(&tenant), index).unwrap();
        let again = TlogProof::parse(&proof.to_text()).unwrap();
        assert_eq!(again.verify(&key_of(&tenant)).unwrap(), checkpoint);
    }
    assert!(prove_from_export(&dir, &key_of(&tenant), checkpoint.size).is_err());
    let stranger =
        VerifierName { key: deployment.service().verifying_key(), name: "coffer-other".to_owned() };
    let refused = verify_export(&dir, trusted(&stranger, None), &mut |_, _| ()).unwrap();
    assert_eq!(refused.findings.iter().map(|found| found.item.as_str()).collect::<Vec<_>>(), ["checkpoint"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_changed_byte_of_an_export_is_found_and_its_file_or_leaf_is_named() {
    let (deployment, tenant) = with_a_short_log().await;
    let (dir, checkpoint) = export(&deployment, &tenant, "export").await;
    assert!(verify(&dir, &tenant, None).is_good());
    let mut changed = 0;
    for name in files(&dir) {
        let path = dir.join(&name);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let report = verify(&dir, &tenant, None);
            let named = |item: &str| item == name || name.starts_with("tile/") && item.starts_with("leaf ");
            assert!(!report.is_good(), "byte {at} of {name}");
            assert!(
                report.findings.iter().any(|found| named(&found.item)),
                "byte {at} of {name}: {report:?}"
            );
            changed += 1;
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(!verify(&dir, &tenant, None).is_good(), "{name} cut by a byte");
        fs::remove_file(&path).unwrap();
        let report = verify(&dir, &tenant, None);
        assert!(report.findings.iter().any(|found| found.item == name), "{name} is missing: {report:?}");
        fs::write(&path, &whole).unwrap();
    }
    assert!(changed > 1000, "{changed} bytes were changed");
    fs::write(dir.join("tile/entries/001"), b"more").unwrap();
    let report = verify(&dir, &tenant, Some(&checkpoint));
    assert_eq!(
        report.findings.iter().map(|found| found.item.as_str()).collect::<Vec<_>>(),
        ["tile/entries/001"]
    );
}

/// The entries of the only bundle, changed, and every hash beside them made
/// anew, as somebody would who has everything but the signing key.
fn rewrite(dir: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let names = files(dir);
    let of = |start: &str| dir.join(names.iter().find(|name| name.starts_with(start)).unwrap());
    let (bundle, tile) = (of("tile/entries/"), of("tile/0/"));
    let bytes = fs::read(&bundle).unwrap();
    let mut rest = bytes.as_slice();
    let mut leaves = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (leaf, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        leaves.push(leaf.to_vec());
        rest = after;
    }
    change(&mut leaves);
    let (mut entries, mut hashes) = (Vec::new(), Vec::new());
    for leaf in &leaves {
        entries.extend_from_slice(&u16::try_from(leaf.len()).unwrap().to_be_bytes());
        entries.extend_from_slice(leaf);
        hashes.extend_from_slice(&coffer_keys::leaf_hash(leaf).0);
    }
    fs::write(bundle, entries).unwrap();
    fs::write(tile, hashes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_reordered_and_invented_leaves_are_found_even_with_every_hash_made_anew() {
    let (deployment, tenant) = with_a_short_log().await;
    let (dir, _) = export(&deployment, &tenant, "export").await;
    let kept = deployment.scratch().join("kept");
    copy_tree(&dir, &kept);
    type Change = fn(&mut Vec<Vec<u8>>);
    let changes: [(&str, Change); 4] = [
        ("dropped", |leaves| drop(leaves.remove(2))),
        ("reordered", |leaves| leaves.swap(1, 2)),
        ("invented", |leaves| {
            let text = String::from_utf8(leaves[1].clone()).unwrap();
            leaves[1] =
                text.replace("\"done\"", "\"failed\"").replace("\"intent\"", "\"denied\"").into_bytes();
        }),
        ("appended", |leaves| {
            let last = leaves.last().unwrap().clone();
            leaves.push(last);
        }),
    ];
    for (name, change) in changes {
        replace_tree(&kept, &dir);
        rewrite(&dir, change);
        let report = verify(&dir, &tenant, None);
        assert!(!report.is_good(), "{name}");
        let named = report.findings.iter().any(|found| {
            found.item == "checkpoint" || found.item.starts_with("tile/") || found.item.starts_with("leaf ")
        });
        assert!(named, "{name}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_a_forked_or_shortened_log_does_not_extend_the_checkpoint_that_was_kept() {
    let (mut deployment, mut tenant) = with_a_short_log().await;
    let old = deployment.scratch().join("old");
    let (short, _) = export(&deployment, &tenant, "short").await;
    deployment.stop().await;
    copy_tree(&deployment.data(), &old);
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    grow(&tenant, 7).await;
    let (honest, kept) = export(&deployment, &tenant, "honest").await;
    assert!(verify(&honest, &tenant, Some(&kept)).is_good());
    let report = verify(&short, &tenant, Some(&kept));
    assert!(report.findings.iter().any(|found| found.what.contains("cut short")), "{report:?}");

    deployment.stop().await;
    replace_tree(&old, &deployment.data());
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    grow(&tenant, 30).await;
    let (forked, other) = export(&deployment, &tenant, "forked").await;
    assert!(other.size > kept.size, "the signature is good and the log is longer");
    assert!(verify(&forked, &tenant, None).is_good());
    let report = verify(&forked, &tenant, Some(&kept));
    assert!(report.findings.iter().any(|found| found.what.contains("forked")), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_prove_themselves_and_a_follower_sees_each_new_leaf_once() {
    let (deployment, tenant) = with_a_short_log().await;
    let mut watch = tenant.watch();
    let (checkpoint, all) = watch.read_now(&tenant.client, RangeRequest::From(0, 10_000)).await.unwrap();
    assert_eq!(all.leaves.len() as u64, checkpoint.size);
    for first in 0..checkpoint.size {
        let wanted = RangeRequest::From(first, 3);
        let some = watch.read_at(&tenant.client, wanted, &checkpoint).await.unwrap();
        let from = usize::try_from(first).unwrap();
        assert_eq!(some.leaves, all.leaves[from..(from + 3).min(all.leaves.len())]);
    }
    let beyond = RangeRequest::From(checkpoint.size + 1, 1);
    assert!(matches!(watch.read_at(&tenant.client, beyond, &checkpoint).await, Err(LogError::Call(_))));
    let longer = Checkpoint { size: checkpoint.size + 1_000_000, ..checkpoint.clone() };
    assert!(watch.read_at(&tenant.client, RangeRequest::From(0, 1), &longer).await.is_err());

    let mut followed = watch.follow(&tenant.client, RangeRequest::Last(2)).await.unwrap();
    let first = followed.next(&mut watch).await.unwrap().unwrap();
    assert_eq!(first.leaves.len(), 2);
    let mut next = first.first + 2;
    grow(&tenant, 5).await;
    while next < checkpoint.size + 6 {
        let more = followed.next(&mut watch).await.unwrap().unwrap();
        assert_eq!(more.first, next, "none is left out and none comes twice");
        next += more.leaves.len() as u64;
    }
    deployment.service();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reads_the_log_of_the_service_and_no_tenants() {
    let (deployment, tenant) = with_a_short_log().await;
    let operator = deployment.operator().await;
    let kit = deployment.service().kit().await.unwrap().to_json().unwrap();
    let key = PublicKit::from_json(&kit).unwrap().evidence;
    let mut watch = LogWatch::of_signer(key.clone(), None).unwrap();
    let (checkpoint, range) = watch.read_now(&operator, RangeRequest::From(0, 1000)).await.unwrap();
    let operations: Vec<_> = (0..)
        .zip(&range.leaves)
        .map(|(index, leaf)| LogEvent::read(index, leaf).unwrap().operation)
        .collect();
    assert!(operations.iter().any(|operation| operation == "tenant_create"), "{operations:?}");
    assert!(!operations.iter().any(|operation| operation == "object_put"), "a tenant's events are its own");
    assert_ne!(checkpoint.origin, tenant.log_origin);
    let dir = deployment.scratch().join("service-log");
    export_log(&operator, &mut watch, &key, &dir, None, &mut |_, _| ()).await.unwrap();
    assert!(verify_export(&dir, trusted(&key, watch.last()), &mut |_, _| ()).unwrap().is_good());
}
