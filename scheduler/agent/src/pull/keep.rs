//! The node's own layout of what was pulled. A blob has its name only once it is
//! whole and is what its digest says; what has come of one so far lies beside,
//! and is gone on with. Written by the agent, and readable by nobody else.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::error::PullError;
use crate::files;
use crate::image::{Coming, Hasher, ImageDigest, Uses, blob};

/// How long what was begun is kept for a pull that goes on with it.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The layout of one node. Several pulls write to it at once.
#[derive(Debug)]
pub(super) struct Keep {
    directory: PathBuf,
    /// Small files are written one after the other.
    writing: Mutex<()>,
    /// The blobs that a pull brings: one for each, for images share layers. Locked for a moment only.
    held: Mutex<BTreeSet<ImageDigest>>,
    /// One of them is free.
    freed: Condvar,
    /// What is about to be used of the store that this is in.
    uses: Arc<Uses>,
}

/// A blob that one pull brings, and nobody else meanwhile.
pub(super) struct Door<'a> {
    keep: &'a Keep,
    digest: ImageDigest,
}

impl Drop for Door<'_> {
    fn drop(&mut self) {
        self.keep.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
        self.keep.freed.notify_all();
    }
}

impl Keep {
    /// The layout in that directory; nothing is made yet.
    pub(super) fn new(directory: PathBuf, uses: Arc<Uses>) -> Self {
        Self { directory, writing: Mutex::default(), held: Mutex::default(), freed: Condvar::new(), uses }
    }

    /// Keeps these blobs from being removed, those that are here and those that come.
    pub(super) fn coming(&self, digests: Vec<ImageDigest>) -> Coming {
        self.uses.coming(digests)
    }

    /// Makes the directories.
    pub(super) fn prepare(&self) -> Result<(), PullError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for directory in [self.directory.join("blobs/sha256"), self.partials()] {
            files::make_dirs(&directory, 0o700).map_err(|error| PullError::Disk(directory, error))?;
        }
        let said = br#"{"imageLayoutVersion":"1.0.0"}"#;
        let file = self.directory.join("oci-layout");
        if !file.exists() {
            files::replace(&file, said, 0o600).map_err(|error| PullError::Disk(file, error))?;
        }
        Ok(())
    }

    /// The door of a blob, once nobody else has it; `None` if the pull was ended before.
    pub(super) fn door(&self, digest: &ImageDigest, ended: &AtomicBool) -> Option<Door<'_>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        while !ended.load(Ordering::SeqCst) {
            if held.insert(digest.clone()) {
                return Some(Door { keep: self, digest: digest.clone() });
            }
            held = self.freed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// The door of a blob that nobody has now.
    fn free_door(&self, digest: &ImageDigest) -> Option<Door<'_>> {
        let free = self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone());
        free.then(|| Door { keep: self, digest: digest.clone() })
    }

    /// Ends a pull that may be waiting at a door.
    pub(super) fn end(&self, ended: &AtomicBool) {
        // Under the lock, so that nobody looks before and sleeps after.
        let _held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        ended.store(true, Ordering::SeqCst);
        self.freed.notify_all();
    }

    fn partials(&self) -> PathBuf {
        self.directory.join("partial")
    }

    /// Whether the blob is there, whole and unspoiled.
    pub(super) fn has(&self, digest: &ImageDigest) -> bool {
        ImageDigest::of_file(&blob(&self.directory, digest)).is_ok_and(|found| found == *digest)
    }

    /// Bytes of a blob that is there.
    pub(super) fn size(&self, digest: &ImageDigest) -> Option<u64> {
        std::fs::metadata(blob(&self.directory, digest)).ok().map(|metadata| metadata.len())
    }

    /// A document that is there, whole and unspoiled.
    pub(super) fn document(&self, digest: &ImageDigest, most: u64) -> Option<Vec<u8>> {
        let bytes = files::read_at_most(&blob(&self.directory, digest), most).ok()?;
        (ImageDigest::of(&bytes) == *digest).then_some(bytes)
    }

    /// Keeps a document whose digest was checked.
    pub(super) fn put(&self, digest: &ImageDigest, bytes: &[u8]) -> Result<(), PullError> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = blob(&self.directory, digest);
        files::replace(&path, bytes, 0o600).map_err(|error| PullError::Disk(path, error))
    }

    /// What has come of a blob so far; what is longer than it should be is nothing.
    pub(super) fn partial(&self, digest: &ImageDigest, size: u64) -> Result<Partial, PullError> {
        let path = self.partials().join(digest.hex());
        let target = blob(&self.directory, digest);
        Partial::open(&path, target, size).map_err(|error| PullError::Disk(path, error))
    }

    /// Removes what was begun and not gone on with for so long before `now`, and what was cut off while it was written.
    ///
    /// # Errors
    /// The first thing that stays; it is found again the next time.
    pub(super) fn forget(&self, now: SystemTime, kept: Duration) -> io::Result<()> {
        let mut done = Ok(());
        for name in files::names(&self.partials())? {
            let digest = ImageDigest::parse(&format!("sha256:{name}")).ok();
            let door = digest.as_ref().map(|digest| self.free_door(digest));
            if matches!(door, Some(None)) {
                continue;
            }
            let forgotten = forget_one(&self.partials().join(&name), now, kept);
            done = done.and_then(|()| files::gone_is_done(forgotten));
        }
        // Whoever writes one now has this turn.
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for directory in [self.directory.join("blobs/sha256"), self.directory.clone()] {
            for name in files::names(&directory)?.into_iter().filter(|name| name.ends_with(".new")) {
                let removed = std::fs::remove_file(directory.join(name));
                done = done.and_then(|()| files::gone_is_done(removed));
            }
        }
        done
    }
}

/// Removes a blob that was begun if nobody has gone on with it for so long. One that says it was gone on with in the
/// future, after a clock was set back, counts from now on.
fn forget_one(path: &Path, now: SystemTime, kept: Duration) -> io::Result<()> {
    match now.duration_since(std::fs::metadata(path)?.modified()?) {
        Ok(age) if age > kept => std::fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(_) => OpenOptions::new().write(true).open(path)?.set_modified(now),
    }
}

/// A blob that is coming.
pub(super) struct Partial {
    path: PathBuf,
    target: PathBuf,
    file: File,
    hasher: Hasher,
    written: u64,
    /// What an earlier pull left of it, perhaps from another registry.
    kept: u64,
}

impl Partial {
    fn open(path: &Path, target: PathBuf, size: u64) -> io::Result<Self> {
        let options = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        let (path, file, hasher) = (path.to_owned(), options?, Hasher::default());
        let mut partial = Self { path, target, file, hasher, written: 0, kept: 0 };
        if partial.file.metadata()?.len() > size {
            partial.restart()?;
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = partial.file.read(&mut buffer)?;
            if read == 0 {
                partial.kept = partial.written;
                return Ok(partial);
            }
            partial.hasher.take(buffer.get(..read).unwrap_or_default());
            partial.written = partial.written.saturating_add(u64::try_from(read).unwrap_or(0));
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// How much of it an earlier pull brought.
    pub(super) fn kept(&self) -> u64 {
        self.kept
    }

    /// From the beginning.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.hasher, self.written, self.kept) = (Hasher::default(), 0, 0);
        Ok(())
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), PullError> {
        self.file.write_all(bytes).map_err(|error| PullError::Disk(self.path.clone(), error))?;
        self.hasher.take(bytes);
        self.written = self.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Whether what has come is what it should be.
    pub(super) fn is(&self, wanted: &ImageDigest) -> bool {
        self.hasher.clone().end() == *wanted
    }

    /// Gives it its name, if it is what it should be.
    pub(super) fn finish(self, wanted: &ImageDigest) -> Result<(), PullError> {
        let found = self.hasher.end();
        if found != *wanted {
            drop(std::fs::remove_file(&self.path));
            return Err(PullError::Forged { wanted: wanted.clone(), found });
        }
        let named = || -> io::Result<()> {
            self.file.sync_all()?;
            std::fs::rename(&self.path, &self.target)?;
            match self.target.parent() {
                Some(parent) => files::open(parent)?.sync_all(),
                None => Ok(()),
            }
        };
        named().map_err(|error| PullError::Disk(self.target.clone(), error))
    }

    /// Gives it up: what has come is worth nothing, or takes room that is not there.
    pub(super) fn discard(self) {
        drop(std::fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_has_its_name_only_when_it_is_what_its_digest_says_and_one_that_was_begun_is_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().join("layout"), Arc::default());
        keep.prepare().unwrap();
        let digest = ImageDigest::of(b"whole");
        keep.partial(&digest, 5).unwrap().take(b"who").unwrap();
        assert!(!keep.has(&digest));
        let mut partial = keep.partial(&digest, 5).unwrap();
        assert_eq!(partial.written(), 3);
        partial.take(b"le").unwrap();
        partial.finish(&digest).unwrap();
        assert!(keep.has(&digest) && keep.size(&digest) == Some(5));
        assert_eq!(keep.document(&digest, 5).unwrap(), b"whole");
        // Another content under the name, as a disk that rots would leave it.
        keep.put(&digest, b"spoil").unwrap();
        assert!(!keep.has(&digest) && keep.document(&digest, 5).is_none());
        let mut partial = keep.partial(&digest, 5).unwrap();
        partial.take(b"wrong").unwrap();
        assert!(matches!(partial.finish(&digest), Err(PullError::Forged { .. })));
        assert_eq!(keep.partial(&digest, 5).unwrap().written(), 0, "what was forged is not gone on with");
        keep.partial(&digest, 5).unwrap().take(b"too much").unwrap();
        assert_eq!(keep.partial(&digest, 5).unwrap().written(), 0);
    }

    #[test]
    fn what_was_begun_is_forgotten_when_nobody_has_gone_on_with_it_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().join("layout"), Arc::default());
        keep.prepare().unwrap();
        let (young, old, held) = (ImageDigest::of(b"1"), ImageDigest::of(b"2"), ImageDigest::of(b"3"));
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (digest, age) in [(&young, KEPT), (&old, KEPT + KEPT), (&held, KEPT + KEPT)] {
            let mut partial = keep.partial(digest, 9).unwrap();
            partial.take(b"begun").unwrap();
            partial.file.set_modified(day - age).unwrap();
        }
        let _door = keep.door(&held, &AtomicBool::new(false)).unwrap();
        keep.forget(day, KEPT).unwrap();
        let left = |digest| keep.partial(digest, 9).unwrap().written();
        assert_eq!((left(&young), left(&old), left(&held)), (5, 0, 5));
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nothing_for_ever_that_was_begun() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().join("layout"), Arc::default());
        keep.prepare().unwrap();
        let digest = ImageDigest::of(b"1");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let mut partial = keep.partial(&digest, 9).unwrap();
        partial.take(b"begun").unwrap();
        partial.file.set_modified(now + KEPT * 9).unwrap();
        keep.forget(now, KEPT).unwrap();
        assert!(partial.path.exists());
        keep.forget(now + KEPT * 2, KEPT).unwrap();
        assert!(!partial.path.exists());
    }

    #[test]
    fn what_was_listed_and_is_gone_when_its_turn_comes_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().join("layout"), Arc::default());
        keep.prepare().unwrap();
        // A link to nothing is listed, too, and then not found.
        let ended = keep.partials().join(ImageDigest::of(b"ended").hex());
        std::os::unix::fs::symlink(dir.path().join("moved"), &ended).unwrap();
        keep.forget(SystemTime::UNIX_EPOCH, KEPT).unwrap();
    }

    #[test]
    fn what_was_cut_off_while_it_was_written_is_forgotten_and_blobs_stay() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().join("layout"), Arc::default());
        keep.forget(SystemTime::UNIX_EPOCH, KEPT).unwrap();
        keep.prepare().unwrap();
        let digest = ImageDigest::of(b"whole");
        keep.put(&digest, b"whole").unwrap();
        let blobs = dir.path().join("layout/blobs/sha256");
        for cut_off in [blobs.join(format!("{}.new", digest.hex())), dir.path().join("layout/oci-layout.new")]
        {
            files::swap(&cut_off, b"wh", 0o600).unwrap();
            keep.forget(SystemTime::UNIX_EPOCH, KEPT).unwrap();
            assert!(!cut_off.exists() && keep.has(&digest));
        }
    }

    #[test]
    fn a_pull_that_waits_for_anothers_blob_ends_when_it_is_told_to_or_goes_on_when_the_blob_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let keep = Keep::new(dir.path().join("layout"), Arc::default());
        let digest = ImageDigest::of(b"shared");
        let (runs, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let first = keep.door(&digest, &runs).unwrap();
        std::thread::scope(|scope| {
            let ending = scope.spawn(|| keep.door(&digest, &ended).is_none());
            keep.end(&ended);
            assert!(ending.join().unwrap());
            let waiting = scope.spawn(|| keep.door(&digest, &runs).is_some());
            drop(first);
            assert!(waiting.join().unwrap());
        });
        assert!(keep.door(&digest, &runs).is_some());
    }
}
