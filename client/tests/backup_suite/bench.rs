//! What the backup tests share: a repository in memory, fixed chance and
//! time, and a tree with one of everything.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coffer_client::backup::{
    BackupOptions, BackupReport, BlobStore, Difference, Manifest, MemoryStore, Progress, Quiet, Repository,
    SnapshotId, backup, compare, manifest_in_memory, plan_restore, restore,
};
use coffer_keys::RepositoryKey;
use coffer_model::{Clock, Entropy, Timestamp};
use rustix::fs::{FileType, Mode, Timespec, Timestamps, XattrFlags};
use zeroize::Zeroizing;

/// Chance that repeats: BLAKE3 of a counter.
#[derive(Default)]
pub(crate) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        blake3::Hasher::new().update(&count.to_le_bytes()).finalize_xof().fill(out);
    }
}

/// A clock that stands still.
pub(crate) struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000_000)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// The master key of these tests.
pub(crate) fn key(byte: u8) -> RepositoryKey {
    RepositoryKey::danger_from_bytes(Zeroizing::new([byte; 32]))
}

/// Bytes that do not compress.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A repository, its store, and a place on disk.
pub(crate) struct Bench {
    pub(crate) place: tempfile::TempDir,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) repository: Repository,
    pub(crate) entropy: Arc<Counting>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let entropy = Arc::new(Counting::default());
        let port: Arc<dyn BlobStore> = store.clone();
        let repository = Repository::init(port, &key(1), None, &*entropy).await.unwrap();
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("source")).unwrap();
        Self { place, store, repository, entropy }
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.place.path().join("source")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.place.path().join("target")
    }

    /// Backs up the source; the manifest must be what the report says.
    pub(crate) async fn backup(&self) -> (BackupReport, Manifest) {
        self.backup_with(Arc::new(Quiet)).await
    }

    pub(crate) async fn backup_with(&self, progress: Arc<dyn Progress>) -> (BackupReport, Manifest) {
        let mut text = Vec::new();
        let (source, entropy) = (self.source(), self.entropy.clone());
        let options = BackupOptions { host: "here".to_owned(), ..BackupOptions::default() };
        let made = backup(&self.repository, &source, options, &mut text, &Fixed, entropy, progress);
        let report = made.await.unwrap();
        let manifest = Manifest::read(text.as_slice()).unwrap();
        assert_eq!(manifest.digest().unwrap(), report.manifest_digest);
        (report, manifest)
    }

    /// Restores into the target and says how it differs from `manifest`.
    pub(crate) async fn restore(&self, snapshot: &SnapshotId, manifest: &Manifest) -> Vec<Difference> {
        let plan = plan_restore(&self.repository, snapshot, &self.target()).await.unwrap();
        let report = restore(&self.repository, plan, Arc::new(Quiet)).await.unwrap();
        assert_eq!(report.problems, []);
        self.differences(manifest)
    }

    pub(crate) fn differences(&self, manifest: &Manifest) -> Vec<Difference> {
        let (restored, problems) = manifest_in_memory(&self.target()).unwrap();
        assert_eq!(problems, []);
        compare(manifest, &restored)
    }
}

/// Sets the modification time of exactly this entry.
pub(crate) fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// A POSIX list in the kernel's form: version 2, then (tag, permissions, id).
pub(crate) fn acl(named_user: u32) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, permissions, id) in
        [(1_u16, 6_u16, none), (2, 4, named_user), (4, 4, none), (0x10, 4, none), (0x20, 0, none)]
    {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

/// Writes data at offsets and leaves the rest a hole.
pub(crate) fn sparse(path: &Path, size: u64, data: &[(u64, &[u8])]) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    data.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
}

pub(crate) fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
}

/// A path in a directory by raw bytes.
pub(crate) fn raw(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(std::ffi::OsStr::from_bytes(name))
}

/// One of everything that a file system of Linux holds without privilege.
pub(crate) fn rich_tree(root: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes).unwrap();
    for name in ["deep", "deep/er", "deep/er/still", "readonly", "times", "locked"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    write("empty", b"");
    write("one", b"1");
    write("deep/text", "the same words again and again. ".repeat(5000).as_bytes());
    write("deep/er/large", &noise(1, 9 << 20));
    write("deep/er/still/copy", &noise(1, 9 << 20));
    std::fs::write(raw(root, b"not utf-8 \xff\xfe\n"), b"named").unwrap();
    std::fs::hard_link(root.join("one"), root.join("deep/one again")).unwrap();
    std::fs::hard_link(root.join("one"), root.join("zwei")).unwrap();
    symlink("deep/text", root.join("link")).unwrap();
    symlink("nowhere/at/all", root.join("dangling")).unwrap();
    symlink("/etc", root.join("absolute")).unwrap();
    fifo(&root.join("fifo"));
    set_mode(&root.join("fifo"), 0o622);
    sparse(&root.join("sparse"), 50 << 20, &[(8 << 20, b"middle"), (40 << 20, &noise(2, 100_000))]);
    sparse(&root.join("all hole"), 3 << 20, &[]);
    write("zeros", &[0; 1 << 20]);
    write("setuid", b"#!");
    set_mode(&root.join("setuid"), 0o4755);
    write("closed", b"secret");
    set_mode(&root.join("closed"), 0o000);
    write("readonly/file", b"x");
    set_xattr(&root.join("one"), "user.colour", b"blue\0\xff");
    set_xattr(&root.join("deep"), "user.on-directory", b"");
    set_xattr(&root.join("deep/text"), "system.posix_acl_access", &acl(12_345));
    set_xattr(&root.join("deep"), "system.posix_acl_default", &acl(54_321));
    write("times/file", b"x");
    set_mtime(&root.join("times/file"), 1_000_000_000, 123_456_789);
    set_mtime(&root.join("link"), 1_100_000_000, 1);
    write("locked/file", b"x");
    std::fs::hard_link(root.join("locked/file"), root.join("times/link into locked")).unwrap();
    set_mtime(&root.join("times"), -1_000, 999_999_999);
    set_mode(&root.join("locked"), 0o000);
    set_mode(&root.join("readonly"), 0o555);
    set_mode(root, 0o1755);
    set_mtime(root, 1_200_000_000, 5);
}
