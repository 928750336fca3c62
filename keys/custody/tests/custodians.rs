//! Custodians on a real disk: what they refuse, and what they say.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use coffer_custody::{
    Custodian as _, CustodyError, OsEntropy, PassphraseFile, Quorum, combine_share_files, write_shares,
};
use coffer_keys::{PassphraseError, RootKey, Share, ShareError, split};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Replaces a file, as somebody with an editor would.
fn put(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).unwrap().write_all(bytes).unwrap();
}

fn get(path: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::OpenOptions::new().read(true).open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn slot_and_passphrase(dir: &Path) -> (PathBuf, PathBuf) {
    (dir.join("root.slot"), dir.join("root.passphrase"))
}

#[test]
fn a_root_key_comes_back_from_its_slot_and_passphrase() {
    let dir = tempfile::tempdir().unwrap();
    let (slot, passphrase) = slot_and_passphrase(dir.path());
    let root = RootKey::generate(&OsEntropy);
    let custodian = PassphraseFile::create(&slot, &passphrase, &root, &OsEntropy).unwrap();
    assert_eq!(custodian.unlock().unwrap().danger_expose(), root.danger_expose());
    assert_eq!((mode(&slot), mode(&passphrase)), (0o600, 0o600));
    let text = String::from_utf8(get(&passphrase)).unwrap();
    assert_eq!(text.trim_end().chars().filter(|c| *c != '-').count(), 52, "256 bits in base32");
}

#[test]
fn an_existing_passphrase_is_used_and_its_line_end_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let (slot, passphrase) = slot_and_passphrase(dir.path());
    put(&passphrase, b"correct horse battery staple\r\n");
    let root = RootKey::generate(&OsEntropy);
    PassphraseFile::create(&slot, &passphrase, &root, &OsEntropy).unwrap();
    put(&passphrase, b"correct horse battery staple");
    let opened = PassphraseFile::new(&slot, &passphrase).unlock().unwrap();
    assert_eq!(opened.danger_expose(), root.danger_expose());
}

#[test]
fn an_existing_slot_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (slot, passphrase) = slot_and_passphrase(dir.path());
    put(&slot, b"the only copy");
    let root = RootKey::generate(&OsEntropy);
    let error = PassphraseFile::create(&slot, &passphrase, &root, &OsEntropy).unwrap_err();
    assert!(matches!(error, CustodyError::Exists { path } if path == slot));
    assert_eq!(get(&slot), b"the only copy");
    assert!(!passphrase.exists());
}

#[test]
fn a_wrong_empty_or_exposed_passphrase_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (slot, passphrase) = slot_and_passphrase(dir.path());
    let custodian =
        PassphraseFile::create(&slot, &passphrase, &RootKey::generate(&OsEntropy), &OsEntropy).unwrap();
    set_mode(&passphrase, 0o640);
    let error = custodian.unlock().err().unwrap();
    assert!(matches!(&error, CustodyError::Exposed { path, mode: 0o640 } if *path == passphrase));
    set_mode(&passphrase, 0o600);
    put(&passphrase, b"\n\n");
    let error = custodian.unlock().err().unwrap();
    assert!(matches!(&error, CustodyError::NotThisKind { path } if *path == passphrase));
    put(&passphrase, b"another passphrase");
    let error = custodian.unlock().err().unwrap();
    let wrong = PassphraseError::WrongPassphrase;
    assert!(matches!(&error, CustodyError::Passphrase { path, source } if *path == slot && *source == wrong));
}

#[test]
fn a_file_without_end_a_directory_and_no_file_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (slot, passphrase) = slot_and_passphrase(dir.path());
    let custodian = PassphraseFile::new(&slot, &passphrase);
    assert!(matches!(custodian.unlock(), Err(CustodyError::Disk { path, .. }) if path == slot));
    put(&slot, &vec![0; 1 << 20]);
    assert!(matches!(custodian.unlock(), Err(CustodyError::NotThisKind { path }) if path == slot));
    let custodian = PassphraseFile::new(dir.path(), &passphrase);
    assert!(matches!(custodian.unlock(), Err(CustodyError::NotThisKind { .. })));
}

fn five(dir: &Path) -> (RootKey, Vec<PathBuf>) {
    let root = RootKey::generate(&OsEntropy);
    let shares = split(root.danger_expose(), 3, 5, &OsEntropy).unwrap();
    let paths = write_shares(dir, "share", &shares).unwrap();
    (root, paths)
}

#[test]
fn any_three_share_files_unlock() {
    let dir = tempfile::tempdir().unwrap();
    let (root, paths) = five(dir.path());
    assert!(paths.iter().all(|path| mode(path) == 0o600));
    for chosen in [[0, 1, 2], [4, 2, 0], [3, 4, 1]] {
        let quorum = Quorum { share_paths: chosen.iter().map(|i| paths[*i].clone()).collect() };
        assert_eq!(quorum.unlock().unwrap().danger_expose(), root.danger_expose());
    }
}

#[test]
fn too_few_files_are_told_how_many_more_would_suffice() {
    let dir = tempfile::tempdir().unwrap();
    let (_, paths) = five(dir.path());
    let error = combine_share_files(&paths[..1]).unwrap_err();
    assert!(matches!(&error, CustodyError::Quorum { source: ShareError::NotEnough { missing: 2, .. }, .. }));
    assert!(error.to_string().contains("2 more of set"), "{error}");
    assert!(error.to_string().contains("share-1.json"), "{error}");
    assert!(combine_share_files(&[]).is_err());
}

#[test]
fn the_file_of_a_damaged_share_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_, paths) = five(dir.path());
    let mut bytes = get(&paths[1]);
    let at = bytes.windows(9).position(|window| window == b"\"share\":\"").unwrap() + 12;
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    put(&paths[1], &bytes);
    let error = combine_share_files(&paths[..3]).unwrap_err();
    let damaged = |source: &ShareError| matches!(source, ShareError::Damaged { index: 2, .. });
    assert!(
        matches!(&error, CustodyError::Share { path, source } if *path == paths[1] && damaged(source)),
        "{error}"
    );
}

#[test]
fn the_file_of_a_foreign_or_repeated_share_is_named() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ((_, paths), (_, foreign)) = (five(dir.path()), five(other.path()));
    let mixed = [paths[0].clone(), paths[1].clone(), foreign[2].clone()];
    let error = combine_share_files(&mixed).unwrap_err();
    assert!(matches!(&error, CustodyError::Share { path, .. } if *path == foreign[2]), "{error}");
    let copy = dir.path().join("copy.json");
    put(&copy, &get(&paths[0]));
    let error = combine_share_files(&[paths[0].clone(), paths[1].clone(), copy.clone()]).unwrap_err();
    assert!(matches!(&error, CustodyError::Share { path, .. } if *path == copy), "{error}");
}

#[test]
fn share_files_are_written_all_or_none_where_a_name_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let shares: Vec<Share> = split(&[1; 32], 2, 3, &OsEntropy).unwrap();
    put(&dir.path().join("s-3.json"), b"precious");
    let error = write_shares(dir.path(), "s", &shares).unwrap_err();
    assert!(matches!(error, CustodyError::Exists { path } if path.ends_with("s-3.json")));
    assert_eq!(get(&dir.path().join("s-3.json")), b"precious");
    assert!(!dir.path().join("s-1.json").exists());
}

#[test]
fn share_files_that_other_users_may_read_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_, paths) = five(dir.path());
    set_mode(&paths[2], 0o644);
    let error = combine_share_files(&paths[..3]).unwrap_err();
    assert!(matches!(error, CustodyError::Exposed { path, mode: 0o644 } if path == paths[2]));
}
