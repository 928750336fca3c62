//! A manifest reads back strictly or not at all.

use crate::bench::{rich_tree, set_xattr};
use coffer_client::backup::{Manifest, ManifestError, manifest_in_memory};

fn text() -> Vec<u8> {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("b")).unwrap();
    std::fs::write(place.path().join("a"), b"1").unwrap();
    set_xattr(&place.path().join("a"), "user.x", b"\0\\");
    std::os::unix::fs::symlink("\u{7}", place.path().join("c")).unwrap();
    let mut text = Vec::new();
    manifest_in_memory(place.path()).unwrap().0.write(&mut text).unwrap();
    text
}

#[test]
fn what_was_written_reads_back() {
    let place = tempfile::tempdir().unwrap();
    rich_tree(place.path());
    let (manifest, _) = manifest_in_memory(place.path()).unwrap();
    let mut text = Vec::new();
    let digest = manifest.write(&mut text).unwrap();
    let read = Manifest::read(text.as_slice()).unwrap();
    assert_eq!(read, manifest);
    assert_eq!(read.digest().unwrap(), digest);
    assert!(read.find(b"deep/er/large").is_some());
}

#[test]
fn no_changed_byte_reads_back_as_the_same_manifest() {
    let text = text();
    let sound = Manifest::read(text.as_slice()).unwrap();
    for at in 0..text.len() {
        for change in [1, 0x20, 0x80] {
            let mut changed = text.clone();
            changed[at] ^= change;
            assert_ne!(Manifest::read(changed.as_slice()).ok().as_ref(), Some(&sound), "byte {at}");
        }
    }
}

#[test]
fn a_manifest_cut_short_anywhere_is_refused() {
    let text = text();
    for length in 0..text.len() {
        assert!(Manifest::read(&text[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn lines_out_of_order_repeated_or_added_are_refused() {
    let text = String::from_utf8(text()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let read = |lines: &[&str]| Manifest::read((lines.join("\n") + "\n").as_bytes());
    assert!(read(&lines).is_ok());
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    assert!(matches!(read(&swapped), Err(ManifestError::Order { line: 4 })));
    let mut twice = lines.clone();
    twice.insert(2, lines[2]);
    assert!(matches!(read(&twice), Err(ManifestError::Order { line: 4 })));
    let mut fewer = lines.clone();
    fewer.remove(2);
    assert!(matches!(read(&fewer), Err(ManifestError::Incomplete)));
    let mut more = lines.clone();
    more.push(lines[2]);
    assert!(matches!(read(&more), Err(ManifestError::Incomplete)));
}

#[test]
fn another_spelling_of_the_same_entry_is_refused() {
    let text = String::from_utf8(text()).unwrap();
    for (from, to) in [
        ("\"gid\":", "\"gid\": "),
        ("\"mode\":\"0", "\"mode\":\"00"),
        ("\"kind\":\"file\"", "\"kind\":\"\\u0066ile\""),
        ("\"path\":\"a\"", "\"path\":\"\\\\x61\""),
        ("\"size\":1", "\"size\":1,\"size\":1"),
        ("\"uid\":", "\"unknown\":1,\"uid\":"),
        ("\"path\":\"a\"", "\"path\":\"../a\""),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        assert!(matches!(Manifest::read(changed.as_bytes()), Err(ManifestError::Line { .. })), "{to}");
    }
}
