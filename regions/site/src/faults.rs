//! For tests and simulations: a disk that remembers what was not yet fsynced,
//! fails when told to, and shows what a power cut leaves.
//!
//! [`RecordingDisk`] works on real files. Before it changes one it keeps what
//! the medium is sure to hold: the old 4 KiB pages, lengths and names. An
//! fsync forgets them. [`RecordingDisk::crash_image`] writes into another
//! directory what a power cut at this moment may leave: everything that was
//! fsynced, and of the rest whatever [`Survivors`] says, page by page, length
//! by length, name by name. It is harsher than most file systems: a file's
//! fsync does not make its name durable, and names do not keep their order.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use coffer_model::Execution;
//! # use coffer_site::{DirectorySite, SiteOptions, faults::{RecordingDisk, Survivors}};
//! # fn crash(description: coffer_model::SiteDescription, entropy: Arc<dyn coffer_model::Entropy>) -> Result<(), Box<dyn std::error::Error>> {
//! let disk = RecordingDisk::default();
//! let options = SiteOptions { disk: Arc::new(disk.clone()), execution: Execution::Inline, ..SiteOptions::default() };
//! let site = DirectorySite::create_with(Path::new("a"), description.clone(), entropy.clone(), options)?;
//! // ... puts and deletes ...
//! disk.cut_power(); // from here on, every change fails
//! drop(site); // hence leaves nothing behind
//! disk.crash_image(Path::new("a"), Path::new("b"), Survivors::Seeded(7))?;
//! let options = SiteOptions { execution: Execution::Inline, ..SiteOptions::default() };
//! let site = DirectorySite::open_with(Path::new("b"), description, entropy, options)?;
//! # Ok(()) }
//! ```
#![expect(clippy::disallowed_methods, reason = "this module is a disk adapter")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, HostDisk, Room};

mod image;
pub use image::Survivors;

/// What is lost or kept as one: a page of the cache.
pub const PAGE_BYTES: u64 = 4096;

/// A disk of this machine that keeps a journal of what is not durable. Clones
/// share the journal and the faults.
#[derive(Clone, Default)]
pub struct RecordingDisk(Arc<Mutex<Journal>>);

#[derive(Default)]
struct Journal {
    files: BTreeMap<FileId, Unsynced>,
    /// What the medium holds under names that changed since their directory
    /// was fsynced.
    names: BTreeMap<PathBuf, Before>,
    operations: u64,
    fsyncs: u64,
    faults: Faults,
}

/// Device and inode.
type FileId = (u64, u64);

/// What the medium holds of a file that has changed since its last fsync.
struct Unsynced {
    /// Keeps the inode from being used again.
    file: File,
    length: u64,
    pages: BTreeMap<u64, OldPage>,
}

struct OldPage {
    /// Shorter than a page where the file ended in it.
    bytes: Vec<u8>,
    /// An fsync failed since the page was written: a later one says nothing
    /// about it.
    abandoned: bool,
}

/// What the medium holds under a name.
enum Before {
    Nothing,
    File(File),
}

#[derive(Default)]
struct Faults {
    power_is_cut: bool,
    /// Operations until the power is cut.
    operations_left: Option<u64>,
    /// Fsyncs until one fails.
    fsyncs_left: Option<u64>,
    room: Option<Room>,
}

/// Whether an operation is done, and what is answered.
enum Go {
    Ahead,
    /// It reaches the cache, but the power is cut before the answer.
    Unanswered,
}

impl RecordingDisk {
    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes so far: files made, written, cut, reserved, renamed, removed,
    /// and fsyncs of files and directories.
    pub fn operations(&self) -> u64 {
        self.journal().operations
    }

    /// Fsyncs of files and directories that succeeded so far.
    pub fn fsyncs(&self) -> u64 {
        self.journal().fsyncs
    }

    /// From now on every change fails and changes nothing.
    pub fn cut_power(&self) {
        self.journal().faults.power_is_cut = true;
    }

    /// Cuts the power during the `nth` operation from now on (1 is the next):
    /// it may still have reached the cache, and answers an error.
    pub fn cut_power_during(&self, nth: u64) {
        self.journal().faults.operations_left = Some(nth);
    }

    /// Whether the power is cut.
    pub fn power_is_cut(&self) -> bool {
        self.journal().faults.power_is_cut
    }

    /// Fails the `nth` fsync of a file from now on (1 is the next) with EIO.
    /// What it should have made durable may be lost even if a later one
    /// succeeds.
    pub fn fail_fsync(&self, nth: u64) {
        self.journal().faults.fsyncs_left = Some(nth);
    }

    /// Gives the disk a size: once `free` more bytes are written, there is no
    /// space left until something is cut or removed. `None`: the real one.
    pub fn set_room(&self, room: Option<Room>) {
        self.journal().faults.room = room;
    }

    /// Writes into `into`, which must not exist, what a power cut at this
    /// moment may leave of the directory `from`. `from` is spelt as in the
    /// operations.
    ///
    /// # Errors
    /// What the system says.
    pub fn crash_image(&self, from: &Path, into: &Path, survivors: Survivors) -> io::Result<()> {
        image::write(&self.journal(), from, into, survivors)
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}

fn id_of(file: &File) -> io::Result<(FileId, u64)> {
    let metadata = file.metadata()?;
    Ok(((metadata.dev(), metadata.ino()), metadata.len()))
}

/// The bytes of one page, as far as the file has them.
fn read_page(file: &File, page: u64, length: u64) -> io::Result<Vec<u8>> {
    let start = page * PAGE_BYTES;
    let bytes = length.saturating_sub(start).min(PAGE_BYTES);
    let mut out = vec![0; usize::try_from(bytes).unwrap_or(0)];
    file.read_exact_at(&mut out, start)?;
    Ok(out)
}

impl Journal {
    fn begin(&mut self) -> io::Result<Go> {
        if self.faults.power_is_cut {
            return Err(eio());
        }
        self.operations += 1;
        match &mut self.faults.operations_left {
            Some(left) => {
                *left = left.saturating_sub(1);
                self.faults.power_is_cut = *left == 0;
                Ok(if *left == 0 { Go::Unanswered } else { Go::Ahead })
            }
            None => Ok(Go::Ahead),
        }
    }

    /// Keeps what the medium holds of pages that are about to change.
    fn keep(&mut self, file: &File, pages: std::ops::Range<u64>) -> io::Result<()> {
        let (id, length) = id_of(file)?;
        let unsynced = match self.files.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(Unsynced { file: file.try_clone()?, length, pages: BTreeMap::new() })
            }
        };
        for page in pages {
            match unsynced.pages.get_mut(&page) {
                Some(old) => old.abandoned = false,
                None => {
                    let bytes = read_page(file, page, length)?;
                    unsynced.pages.insert(page, OldPage { bytes, abandoned: false });
                }
            }
        }
        Ok(())
    }

    /// Keeps what the medium holds under a name that is about to change.
    fn keep_name(&mut self, path: &Path) -> io::Result<()> {
        if !self.names.contains_key(path) {
            let before = match File::open(path) {
                Ok(file) => Before::File(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Before::Nothing,
                Err(error) => return Err(error),
            };
            self.names.insert(path.to_owned(), before);
        }
        Ok(())
    }

    fn write(&mut self, file: &File, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let mut outcome = Ok(());
        let length = file.metadata()?.len();
        if let Some(room) = &mut self.faults.room {
            let fits = length.max(offset).saturating_add(room.free).saturating_sub(offset);
            let fits = usize::try_from(fits).unwrap_or(usize::MAX);
            if fits < bytes.len() {
                bytes.truncate(fits);
                outcome = outcome.and_then(|()| Err(no_space()));
            }
            room.free = room.free.saturating_sub((offset + len(&bytes)).saturating_sub(length));
        }
        let pages = offset / PAGE_BYTES..(offset + len(&bytes)).div_ceil(PAGE_BYTES);
        self.keep(file, pages)?;
        HostDisk.write(file, &mut [IoSlice::new(&bytes)], offset)?;
        outcome
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        if let Some(left) = &mut self.faults.fsyncs_left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.faults.fsyncs_left = None;
                let (id, _) = id_of(file)?;
                if let Some(unsynced) = self.files.get_mut(&id) {
                    unsynced.pages.values_mut().for_each(|old| old.abandoned = true);
                }
                return Err(eio());
            }
        }
        let (id, length) = id_of(file)?;
        if let Some(unsynced) = self.files.get_mut(&id) {
            unsynced.pages.retain(|_, old| old.abandoned);
            unsynced.length = length;
            if unsynced.pages.is_empty() {
                self.files.remove(&id);
            }
        }
        self.fsyncs += 1;
        Ok(())
    }

    fn sync_dir(&mut self, path: &Path) {
        self.names.retain(|name, _| name.parent() != Some(path));
        let wanted: Vec<FileId> = self.names.values().filter_map(Before::id).collect();
        self.files.retain(|id, unsynced| {
            wanted.contains(id) || unsynced.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
        });
        self.fsyncs += 1;
    }

    fn give_back(&mut self, bytes: u64) {
        if let Some(room) = &mut self.faults.room {
            room.free = room.free.saturating_add(bytes).min(room.total);
        }
    }
}

impl Before {
    fn id(&self) -> Option<FileId> {
        match self {
            Self::Nothing => None,
            Self::File(file) => id_of(file).ok().map(|(id, _)| id),
        }
    }
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The answer to an operation that was done.
fn answered<T>(go: &Go, done: T) -> io::Result<T> {
    match go {
        Go::Ahead => Ok(done),
        Go::Unanswered => Err(eio()),
    }
}

impl Disk for RecordingDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut journal = self.journal();
        let go = journal.begin()?;
        journal.keep_name(path)?;
        if let Ok(metadata) = std::fs::metadata(path) {
            // A file that is emptied is, to the medium, the old one until the
            // name is durable; so the new one is made as another file.
            std::fs::remove_file(path)?;
            journal.give_back(metadata.len());
        }
        let file = HostDisk.create(path)?;
        journal.keep(&file, 0..0)?;
        answered(&go, file)
    }

    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut journal = self.journal();
        let go = journal.begin()?;
        journal.write(file, parts, offset)?;
        answered(&go, ())
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        let mut journal = self.journal();
        match journal.begin()? {
            Go::Ahead => journal.sync(file),
            Go::Unanswered => Err(eio()),
        }
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.sync_data(file)
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        let mut journal = self.journal();
        let go = journal.begin()?;
        let now = file.metadata()?.len();
        journal.keep(file, length / PAGE_BYTES..now.div_ceil(PAGE_BYTES))?;
        HostDisk.cut(file, length)?;
        journal.give_back(now.saturating_sub(length));
        answered(&go, ())
    }

    fn reserve(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        let mut journal = self.journal();
        let go = journal.begin()?;
        if journal.faults.room.is_some_and(|room| room.free < bytes) {
            return Err(no_space());
        }
        HostDisk.reserve(file, offset, bytes)?;
        answered(&go, ())
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut journal = self.journal();
        let go = journal.begin()?;
        let missing = path.ancestors().filter(|dir| !dir.as_os_str().is_empty() && !dir.exists());
        let missing: Vec<PathBuf> = missing.map(Path::to_owned).collect();
        HostDisk.make_dir(path)?;
        journal.names.extend(missing.into_iter().map(|dir| (dir, Before::Nothing)));
        answered(&go, ())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut journal = self.journal();
        let go = journal.begin()?;
        journal.keep_name(from)?;
        journal.keep_name(to)?;
        let replaced = std::fs::metadata(to).map_or(0, |metadata| metadata.len());
        HostDisk.rename(from, to)?;
        journal.give_back(replaced);
        answered(&go, ())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut journal = self.journal();
        let go = journal.begin()?;
        journal.keep_name(path)?;
        let length = std::fs::metadata(path)?.len();
        HostDisk.remove(path)?;
        journal.give_back(length);
        answered(&go, ())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut journal = self.journal();
        match journal.begin()? {
            Go::Ahead => journal.sync_dir(path),
            Go::Unanswered => return Err(eio()),
        }
        Ok(())
    }

    /// Pages that a failed fsync gave up are read as the medium has them.
    fn forget_cached(&self, file: &File) {
        let mut journal = self.journal();
        let Ok((id, length)) = id_of(file) else { return };
        let Some(unsynced) = journal.files.get_mut(&id) else { return };
        let lost = unsynced.pages.extract_if(.., |_, old| old.abandoned);
        for (page, old) in lost {
            let mut bytes = old.bytes;
            let end = length.min((page + 1) * PAGE_BYTES).saturating_sub(page * PAGE_BYTES);
            bytes.resize(usize::try_from(end).unwrap_or(0), 0);
            // A simulated medium that fails to forget only forgives.
            let _ = HostDisk.write(file, &mut [IoSlice::new(&bytes)], page * PAGE_BYTES);
        }
    }

    fn room(&self, path: &Path) -> io::Result<Room> {
        let room = self.journal().faults.room;
        room.map_or_else(|| HostDisk.room(path), Ok)
    }
}
