//! Trees on disk and their way through the backup engine and the service.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of the tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use coffer_client::BucketStore;
use coffer_client::backup::{
    BackupOptions, Manifest, Quiet, Repository, SnapshotId, backup, compare, manifest_in_memory,
    plan_restore, restore,
};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::RepositoryKey;
use coffer_model::BucketName;
use rustix::fs::XattrFlags;

use crate::{TenantClient, pattern};

/// A small tree with what a backup has to keep: text, noise, a hard link, a
/// symlink, an extended attribute, an empty file. `word` stands in every name,
/// content and attribute that has one.
pub fn source_tree(root: &Path, word: &str) {
    let inside = root.join(format!("dir-{word}"));
    fs::create_dir_all(&inside).unwrap();
    let text = root.join(format!("text-{word}"));
    fs::write(&text, format!("{word} ").repeat(3000)).unwrap();
    fs::write(inside.join("noise"), [pattern(77, 3 << 20).as_ref(), word.as_bytes()].concat()).unwrap();
    fs::write(inside.join("empty"), b"").unwrap();
    fs::hard_link(&text, inside.join(format!("again-{word}"))).unwrap();
    symlink(format!("to/{word}"), root.join("link")).unwrap();
    let attribute = format!("user.{word}");
    rustix::fs::lsetxattr(&text, attribute, format!("value {word}").as_bytes(), XattrFlags::empty()).unwrap();
}

/// A backup repository in a bucket of a tenant.
pub struct Backups {
    repository: Repository,
}

impl Backups {
    /// Makes one in a bucket that exists.
    pub async fn init(tenant: &TenantClient, bucket: &BucketName) -> Self {
        let store = Arc::new(BucketStore::new(tenant.client.clone(), bucket.clone()));
        let key = RepositoryKey::generate(&OsEntropy);
        Self { repository: Repository::init(store, &key, None, &OsEntropy).await.unwrap() }
    }

    /// Backs a tree up.
    pub async fn store(&self, source: &Path) -> (SnapshotId, Manifest) {
        let mut text = Vec::new();
        let (options, quiet) = (BackupOptions::default(), Arc::new(Quiet));
        let made =
            backup(&self.repository, source, options, &mut text, &SystemClock, Arc::new(OsEntropy), quiet);
        let report = made.await.unwrap();
        assert_eq!(report.problems, []);
        (report.snapshot, Manifest::read(text.as_slice()).unwrap())
    }

    /// Restores a snapshot into `target`, which must come out as `manifest`.
    pub async fn bring_back(&self, snapshot: &SnapshotId, manifest: &Manifest, target: &Path) {
        let plan = plan_restore(&self.repository, snapshot, target).await.unwrap();
        assert_eq!(restore(&self.repository, plan, Arc::new(Quiet)).await.unwrap().problems, []);
        let (restored, problems) = manifest_in_memory(target).unwrap();
        assert_eq!(problems, []);
        assert_eq!(compare(manifest, &restored), []);
    }
}
