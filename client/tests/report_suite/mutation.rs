//! A pack of which one thing was changed does not verify, and the thing is
//! named. First as anybody could change it; then as the holder of the signing
//! key could, who signs a new manifest over it.

use std::collections::BTreeMap;

use coffer_client::drill::PAYLOAD_TYPE;
use coffer_client::evidence::{Files, MANIFEST, MANIFEST_SIGNATURE, differing, verify_digests, verify_pack};
use coffer_keys::{SigningKey, VerifierName, sign_statement, to_canonical};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::fixture::{NAME, World, key, pack, signer};

fn items(files: &Files) -> Vec<String> {
    let mut items: Vec<String> =
        verify_pack(files, &signer(), None).wrong.into_iter().map(|wrong| wrong.item).collect();
    items.dedup();
    items
}

fn good() -> Files {
    pack(&World::good().material())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A manifest over these files, signed anew.
fn resigned(mut files: Files) -> Files {
    let mut manifest: Value = serde_json::from_slice(&files[MANIFEST]).unwrap();
    files.remove(MANIFEST);
    files.remove(MANIFEST_SIGNATURE);
    let entry = |(path, bytes): (&String, &Vec<u8>)| json!({ "path": path, "bytes": bytes.len(), "sha256": sha256(bytes) });
    manifest["files"] = files.iter().map(entry).collect();
    let bytes = to_canonical(&manifest).unwrap();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": MANIFEST, "digest": { "sha256": sha256(&bytes) } }],
        "predicateType": "urn:coffer:pack:v1",
        "predicate": { "tenant": manifest["tenant"] },
    });
    let envelope = sign_statement(&key(), NAME, PAYLOAD_TYPE, &statement).unwrap();
    files.insert(MANIFEST.to_owned(), bytes);
    files.insert(MANIFEST_SIGNATURE.to_owned(), envelope);
    files
}

#[test]
fn a_pack_as_it_was_made_verifies_and_its_reports_are_made_again() {
    let verified = verify_pack(&good(), &signer(), None);
    assert_eq!(verified.wrong, []);
    assert!(verified.remade);
    assert_eq!((verified.drills, verified.leaves), (1, 9));
    assert_eq!(verify_pack(&resigned(good()), &signer(), None).wrong, []);
}

#[test]
fn a_pack_whose_reports_were_not_made_again_is_not_verified() {
    let mut files = good();
    let mut manifest: Value = serde_json::from_slice(&files[MANIFEST]).unwrap();
    manifest["software"] = json!("99.0.0");
    files.insert(MANIFEST.to_owned(), to_canonical(&manifest).unwrap());
    files.insert("reports/report.html".to_owned(), b"<p>all is well</p>".to_vec());
    let verified = verify_pack(&resigned(files), &signer(), None);
    assert_eq!((verified.wrong.as_slice(), verified.remade), (&[][..], false));
    assert!(!verified.is_verified());
    assert_eq!(verified.software, "99.0.0");
    assert!(verify_pack(&good(), &signer(), None).is_verified());
}

#[test]
fn what_is_signed_about_another_tenant_is_named() {
    let mut world = World::good();
    world.records[0].tenant = "ten-02".to_owned();
    let wrong = items(&pack(&world.material()));
    assert_eq!(wrong, [format!("drills/{}.json", "0f".repeat(16))]);
    let mut files = good();
    let path = "reports/oscal/assessment-plan.dsse.json";
    let (name, bytes) = ("assessment-plan.json", &files["reports/oscal/assessment-plan.json"]);
    let statement = coffer_client::report::signing_statement(name, bytes, "ten-02");
    let envelope = sign_statement(&key(), NAME, PAYLOAD_TYPE, &statement).unwrap();
    files.insert(path.to_owned(), envelope);
    assert_eq!(items(&resigned(files)), [path]);
    // A whole pack under the name of another tenant.
    let mut files = good();
    let mut manifest: Value = serde_json::from_slice(&files[MANIFEST]).unwrap();
    manifest["tenant"] = json!("ten-02");
    files.insert(MANIFEST.to_owned(), to_canonical(&manifest).unwrap());
    assert!(items(&resigned(files)).contains(&"log/checkpoint".to_owned()));
}

#[test]
fn no_byte_of_any_file_can_be_changed_without_its_file_being_named() {
    let files = good();
    let digest = |bytes: &Vec<u8>| (bytes.len() as u64, sha256(bytes));
    let digests: BTreeMap<String, (u64, String)> =
        files.iter().map(|(path, bytes)| (path.clone(), digest(bytes))).collect();
    let (manifest, signature) = (files[MANIFEST].as_slice(), files[MANIFEST_SIGNATURE].as_slice());
    let (parsed, wrong) = verify_digests(Some(manifest), Some(signature), &digests, &signer());
    let parsed = parsed.filter(|_| wrong.is_empty()).unwrap();
    let mut changes = 0_u64;
    let mut digests = digests;
    for (path, bytes) in &files {
        let mut changed = bytes.clone();
        // Every byte of small files; of larger ones every eleventh, which is
        // still more than ten thousand in all.
        let step = if bytes.len() <= 8192 { 1 } else { 11 };
        for at in (0..bytes.len()).step_by(step) {
            let flip = 1_u8 << (at % 8);
            changed[at] ^= flip;
            let wrong = match path.as_str() {
                MANIFEST => verify_digests(Some(&changed), Some(signature), &digests, &signer()).1,
                MANIFEST_SIGNATURE => verify_digests(Some(manifest), Some(&changed), &digests, &signer()).1,
                path => {
                    let before = digests.insert(path.to_owned(), digest(&changed)).unwrap();
                    let wrong = differing(&parsed, &digests);
                    digests.insert(path.to_owned(), before);
                    wrong
                }
            };
            assert!(wrong.iter().any(|wrong| wrong.item == *path), "byte {at} of {path}: {wrong:?}");
            changed[at] ^= flip;
            changes += 1;
        }
    }
    assert!(changes > 10_000, "{changes}");
}

#[test]
fn every_removed_swapped_and_added_file_is_named() {
    let files = good();
    for path in files.keys() {
        let mut fewer = files.clone();
        fewer.remove(path);
        assert!(items(&fewer).contains(path), "without {path}: {:?}", items(&fewer));
    }
    let mut paths: Vec<&String> = files.keys().collect();
    paths.push(paths[0]);
    for pair in paths.windows(2) {
        let mut swapped = files.clone();
        swapped.insert(pair[0].clone(), files[pair[1]].clone());
        swapped.insert(pair[1].clone(), files[pair[0]].clone());
        assert!(items(&swapped).iter().any(|item| item == pair[0] || item == pair[1]), "{pair:?}");
    }
    let mut more = files;
    more.insert("reports/more.html".to_owned(), b"<p>all is well</p>".to_vec());
    assert_eq!(items(&more), ["reports/more.html"]);
}

#[test]
fn another_key_verifies_nothing() {
    let other = SigningKey::danger_from_seed(Zeroizing::new([8; 32])).verifying_key();
    let verified = verify_pack(&good(), &VerifierName { name: NAME.to_owned(), key: other }, None);
    let named = |item: &str| verified.wrong.iter().any(|wrong| wrong.item == item);
    for item in [
        MANIFEST_SIGNATURE,
        "keys/evidence.vkey",
        "keys/evidence.pem",
        "log/checkpoint",
        "facts/facts.dsse.json",
    ] {
        assert!(named(item) || item.starts_with("facts"), "{item}: {:?}", verified.wrong);
    }
}

type Change = Box<dyn Fn(&mut Files)>;

/// A change of the log's lines.
fn log(what: fn(&mut Vec<Vec<u8>>)) -> Change {
    Box::new(move |files| {
        let text = &files["log/leaves.jsonl"];
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        what(&mut lines);
        files.insert("log/leaves.jsonl".to_owned(), lines.concat());
    })
}

/// A file with other words.
fn words(path: &'static str, pairs: &'static [(&'static str, &'static str)]) -> Change {
    Box::new(move |files| {
        let mut text = String::from_utf8(files[path].clone()).unwrap();
        for (old, new) in pairs {
            text = text.replacen(old, new, 1);
        }
        files.insert(path.to_owned(), text.into_bytes());
    })
}

/// A file with another content.
fn content(path: &'static str, bytes: &'static [u8]) -> Change {
    Box::new(move |files| drop(files.insert(path.to_owned(), bytes.to_vec())))
}

/// What the holder of the key might try: change, sign a new manifest.
#[test]
fn not_even_the_holder_of_the_key_can_make_a_pack_that_contradicts_itself() {
    let swapped: Change = Box::new(|files| {
        let other = files["log/proofs/1.tlog-proof"].clone();
        files.insert("log/proofs/0.tlog-proof".to_owned(), other);
    });
    let longer: Change = Box::new(|files| files.get_mut("reports/findings.csv").unwrap().push(b'\n'));
    let results = "reports/oscal/assessment-results.json";
    let cases: Vec<(&str, Change)> = vec![
        ("log/leaves.jsonl", log(|lines| drop(lines.remove(5)))),
        ("log/leaves.jsonl", log(|lines| lines.swap(3, 4))),
        ("log/leaves.jsonl", log(|lines| drop(lines.pop()))),
        ("log/leaves.jsonl", log(|lines| lines.push(lines[0].clone()))),
        ("log/proofs/0.tlog-proof", swapped),
        ("reports/report.html", words("reports/report.html", &[("satisfied", "fulfilled")])),
        ("reports/findings.csv", longer),
        (results, words(results, &[("\"fail\"", "\"pass\""), ("2025", "2024")])),
        ("policy/policies.json", content("policy/policies.json", b"{}")),
        ("residency/versions.json", content("residency/versions.json", b"[1]")),
        ("reports/residency.csv", content("residency/versions.json", b"[]")),
    ];
    for (item, change) in cases {
        let mut files = good();
        change(&mut files);
        let named = items(&resigned(files));
        assert!(named.iter().any(|named| named == item), "{item}: {named:?}");
    }
}

#[test]
fn a_record_of_another_drill_and_facts_of_another_log_are_named() {
    let mut world = World::good();
    world.records[0].drill = "1e".repeat(16);
    let other = pack(&world.material());
    let mut files = good();
    files.insert(
        format!("drills/{}.json", "0f".repeat(16)),
        other[&format!("drills/{}.json", "1e".repeat(16))].clone(),
    );
    assert!(items(&resigned(files)).contains(&format!("drills/{}.json", "0f".repeat(16))));
    let mut world = World::good();
    world.facts["operators"] = json!(2);
    let other = pack(&world.material());
    let mut files = good();
    files.insert("facts/facts.dsse.json".to_owned(), other["facts/facts.dsse.json"].clone());
    assert!(items(&resigned(files)).contains(&"facts/facts.dsse.json".to_owned()));
}
