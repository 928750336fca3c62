//! The tests' own hands on the disk: what somebody with the disks could see
//! and do, without any code of the service.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of the tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Every file below a directory with its bytes, to compare with later.
#[derive(PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Files {
    /// Reads everything below `root`.
    pub fn of(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    match fs::read(&path) {
                        Ok(bytes) => drop(files.insert(path.strip_prefix(root).unwrap().to_owned(), bytes)),
                        // Gone since it was listed: a running service cleans up behind itself.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{}", path.display()),
                    }
                }
            }
        }
        Self(files)
    }

    /// The paths of files that are new, gone or other than in `before`.
    pub fn changed_since(&self, before: &Self) -> Vec<PathBuf> {
        let all = self.0.keys().chain(before.0.keys());
        let mut changed: Vec<_> =
            all.filter(|path| self.0.get(*path) != before.0.get(*path)).cloned().collect();
        changed.sort();
        changed.dedup();
        changed
    }

    /// Path and bytes of each file.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.0.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice()))
    }
}

/// The volume files of a site, in order.
pub fn volumes(site_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(site_dir.join("volumes")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The names of the files in one folder of a site.
pub fn site_files(site_dir: &Path, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(site_dir.join(folder)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A file, if it can be read.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    fs::read(path).ok()
}

/// A whole file, over what was there; a disk that is full leaves what it took.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::write(path, bytes)
}

/// Overwrites bytes in place.
pub fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// Inverts some bits of one byte in place.
pub fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x41], offset).unwrap();
}

/// Cuts a file to a length.
pub fn cut(path: &Path, length: u64) {
    File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// Copies a directory with everything below it.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_tree(&source, &target);
        } else {
            fs::copy(&source, &target).unwrap();
        }
    }
}

/// Puts a copy of `from` in the place of `to`.
pub fn replace_tree(from: &Path, to: &Path) {
    fs::remove_dir_all(to).unwrap();
    copy_tree(from, to);
}
