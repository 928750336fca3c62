//! The node's own layout of what was pulled. A blob has its name only once it is
//! whole and is what its digest says; what has come of one so far lies beside,
//! and is gone on with. Written by the agent, and readable by nobody else.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use super::error::PullError;
use crate::files;
use crate::image::{Hasher, ImageDigest, blob};

/// How long what was begun is kept for a pull that goes on with it.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The layout of one node. Several pulls write to it at once.
#[derive(Debug)]
pub(super) struct Keep {
    directory: PathBuf,
    /// One pull for each blob: images share layers.
    doors: Mutex<BTreeMap<ImageDigest, Weak<Mutex<()>>>>,
}

impl Keep {
    /// The layout in that directory; nothing is made yet.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, doors: Mutex::default() }
    }

    /// Makes the directories.
    pub(super) fn prepare(&self) -> Result<(), PullError> {
        let _one = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// The door of a blob, which whoever fetches it holds locked.
    pub(super) fn door(&self, digest: &ImageDigest) -> Arc<Mutex<()>> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.retain(|_, door| door.strong_count() > 0);
        if let Some(door) = doors.get(digest).and_then(Weak::upgrade) {
            return door;
        }
        let door = Arc::new(Mutex::new(()));
        doors.insert(digest.clone(), Arc::downgrade(&door));
        door
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
        let _one = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let path = blob(&self.directory, digest);
        files::replace(&path, bytes, 0o600).map_err(|error| PullError::Disk(path, error))
    }

    /// What has come of a blob so far; what is longer than it should be is nothing.
    pub(super) fn partial(&self, digest: &ImageDigest, size: u64) -> Result<Partial, PullError> {
        let path = self.partials().join(digest.hex());
        let target = blob(&self.directory, digest);
        Partial::open(&path, target, size).map_err(|error| PullError::Disk(path, error))
    }

    /// Removes what was begun and not gone on with for a day before `now`.
    pub(super) fn forget_partials(&self, now: SystemTime) {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        for name in files::names(&self.partials()).unwrap_or_default() {
            let path = self.partials().join(&name);
            let touched = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            let old = touched.is_ok_and(|touched| now.duration_since(touched).is_ok_and(|age| age > KEPT));
            let held = doors.iter().any(|(digest, door)| digest.hex() == name && door.strong_count() > 0);
            if old && !held {
                // One that stays is found again by the next pull.
                drop(std::fs::remove_file(path));
            }
        }
    }
}

/// A blob that is coming.
pub(super) struct Partial {
    path: PathBuf,
    target: PathBuf,
    file: File,
    hasher: Hasher,
    written: u64,
}

impl Partial {
    fn open(path: &Path, target: PathBuf, size: u64) -> io::Result<Self> {
        let options = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
        let mut partial =
            Self { path: path.to_owned(), target, file: options?, hasher: Hasher::default(), written: 0 };
        if partial.file.metadata()?.len() > size {
            partial.restart()?;
        }
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = partial.file.read(&mut buffer)?;
            if read == 0 {
                return Ok(partial);
            }
            partial.hasher.take(buffer.get(..read).unwrap_or_default());
            partial.written = partial.written.saturating_add(u64::try_from(read).unwrap_or(0));
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// From the beginning.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        (self.hasher, self.written) = (Hasher::default(), 0);
        Ok(())
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), PullError> {
        self.file.write_all(bytes).map_err(|error| PullError::Disk(self.path.clone(), error))?;
        self.hasher.take(bytes);
        self.written = self.written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
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
        let keep = Keep::new(dir.path().join("layout"));
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
        let keep = Keep::new(dir.path().join("layout"));
        keep.prepare().unwrap();
        let (young, old, held) = (ImageDigest::of(b"1"), ImageDigest::of(b"2"), ImageDigest::of(b"3"));
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (digest, age) in [(&young, KEPT), (&old, KEPT + KEPT), (&held, KEPT + KEPT)] {
            let mut partial = keep.partial(digest, 9).unwrap();
            partial.take(b"begun").unwrap();
            partial.file.set_modified(day - age).unwrap();
        }
        let _door = keep.door(&held);
        keep.forget_partials(day);
        let left = |digest| keep.partial(digest, 9).unwrap().written();
        assert_eq!((left(&young), left(&old), left(&held)), (5, 0, 5));
    }
}
