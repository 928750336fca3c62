//! Snapshots that only somebody with the keys could make, and that must not
//! reach out of their target all the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_keys::RepositoryKey;
use coffer_model::{Digest, Entropy, Timestamp};
use zeroize::Zeroizing;

use super::chunk::{ChunkRef, ChunkSealer};
use super::entry::{Entry, Kind, Mtime, StoredEntry};
use super::entry_stream::{StreamRef, encode};
use super::index::IndexRecord;
use super::pack::OpenPack;
use super::target::Target;
use super::{
    EntryError, FetchError, MemoryStore, PlanError, Repository, Snapshot, SnapshotId, SnapshotStats,
    plan_restore,
};

struct Counting(std::sync::atomic::AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        let count = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        blake3::Hasher::new().update(&count.to_le_bytes()).finalize_xof().fill(out);
    }
}

fn entry(path: &str, kind: Kind) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Mtime { seconds: 0, nanos: 0 },
        xattrs: BTreeMap::new(),
        hard_link_to: None,
        size: 0,
        data: Vec::new(),
        content: (kind == Kind::File).then(|| Digest(*blake3::hash(b"").as_bytes())),
        symlink_target: (kind == Kind::Symlink).then(|| b"/etc".to_vec()),
        device: None,
    }
}

fn directory(path: &str) -> Entry {
    entry(path, Kind::Directory)
}

fn file(path: &str) -> Entry {
    entry(path, Kind::File)
}

/// Stores a snapshot of these entries and plans its restore.
async fn plan_of(stored: Vec<StoredEntry>) -> Result<u64, EntryError> {
    let entropy = Counting(0.into());
    let key = RepositoryKey::danger_from_bytes(Zeroizing::new([7; 32]));
    let repository = Repository::init(Arc::new(MemoryStore::default()), &key, None, &entropy).await.unwrap();
    let mut stream = Vec::new();
    stored.iter().for_each(|stored| assert!(encode(stored, &mut stream)));
    let keyring = &repository.keyring;
    let id = keyring.chunk_id(&stream);
    let sealed = ChunkSealer::new().unwrap().seal(&keyring.chunks, &entropy, &id, &stream).unwrap();
    let mut pack = OpenPack::new();
    pack.push(id, &sealed).unwrap();
    let closed = pack.close(keyring, &entropy).unwrap();
    repository.store.put(&closed.index.blob(), closed.body).await.unwrap();
    repository.put_index(&IndexRecord { packs: vec![closed.index] }, &entropy).await.unwrap();
    let chunk = ChunkRef { id, bytes: u32::try_from(stream.len()).unwrap() };
    let snapshot = Snapshot {
        id: SnapshotId::generate(&entropy),
        time: Timestamp(0),
        host: String::new(),
        path: Vec::new(),
        manifest_digest: Digest([0; 32]),
        stats: SnapshotStats::default(),
        stream: StreamRef { chunks: vec![chunk], entries: u64::try_from(stored.len()).unwrap() },
    };
    repository.put_snapshot(&snapshot, &entropy).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    match plan_restore(&repository, &snapshot.id, &place.path().join("new")).await {
        Ok(plan) => Ok(plan.entries),
        Err(PlanError::Fetch(FetchError::Entries(error))) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

fn plain(entries: Vec<Entry>) -> Vec<StoredEntry> {
    entries.into_iter().map(|entry| StoredEntry { entry, chunks: Vec::new() }).collect()
}

#[tokio::test]
async fn a_sound_handmade_snapshot_is_planned() {
    let entries = plain(vec![directory(""), directory("a"), file("a/b")]);
    assert_eq!(plan_of(entries).await, Ok(3));
}

#[tokio::test]
async fn a_path_out_of_the_target_is_refused() {
    for path in ["../x", "/abs", "a/../../b", "..", "a/./b", "a//b", "a\0b"] {
        let refused = plan_of(plain(vec![directory(""), directory("a"), file(path)])).await;
        assert!(matches!(refused, Err(EntryError::Path { .. })), "{path}: {refused:?}");
    }
}

#[tokio::test]
async fn a_child_below_a_link_or_below_nothing_is_refused() {
    let below_link = vec![directory(""), entry("a", Kind::Symlink), file("a/b")];
    let below_nothing = vec![directory(""), file("a/b")];
    let below_file = vec![directory(""), file("a"), file("a/b")];
    let left = vec![directory(""), directory("a"), directory("b"), file("a/c")];
    for entries in [below_link, below_nothing, below_file, left] {
        let refused = plan_of(plain(entries)).await;
        assert!(matches!(refused, Err(EntryError::Order { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn repeated_and_missing_entries_are_refused() {
    let twice = vec![directory(""), file("a"), file("a")];
    let rootless = vec![file("a")];
    let marker = vec![directory(""), file(".coffer-restore-unfinished")];
    for entries in [twice, rootless, marker] {
        let refused = plan_of(plain(entries)).await;
        assert!(matches!(refused, Err(EntryError::Order { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn an_entry_that_contradicts_itself_is_refused() {
    let sized = Entry { size: 9, data: vec![(0, 9)], ..file("a") };
    let overlapping = Entry { size: 9, data: vec![(0, 5), (3, 2)], ..file("a") };
    let targetless = Entry { symlink_target: None, ..entry("a", Kind::Symlink) };
    let linked_out = Entry { hard_link_to: Some(b"../secret".to_vec()), ..file("b") };
    let linked_ahead = Entry { hard_link_to: Some(b"z".to_vec()), ..file("b") };
    let moded = Entry { mode: 0o100_000, ..file("a") };
    for odd in [sized, overlapping, targetless, linked_out, linked_ahead, moded] {
        let refused = plan_of(plain(vec![directory(""), odd])).await;
        assert!(matches!(refused, Err(EntryError::Contradiction { .. })), "{refused:?}");
    }
}

/// The target does not rely on the checks of the stream.
#[test]
fn the_target_itself_follows_no_link_out() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let mut link = entry("a", Kind::Symlink);
    link.symlink_target = Some(outside.as_os_str().as_encoded_bytes().to_vec());

    let mut target = Target::create(&place.path().join("one")).unwrap();
    target.place(directory("")).unwrap();
    target.place(link.clone()).unwrap();
    assert!(target.place(file("a/b")).is_err());

    let mut target = Target::create(&place.path().join("two")).unwrap();
    target.place(directory("")).unwrap();
    target.place(link).unwrap();
    let through = Entry { hard_link_to: Some(b"a/secret".to_vec()), ..file("b") };
    assert!(target.place(through).is_err());
    let upwards = Entry { hard_link_to: Some(b"../outside/secret".to_vec()), ..file("c") };
    assert!(target.place(upwards).is_err());
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}
