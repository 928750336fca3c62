//! Removing what no pod uses. What is unused for a while goes, the longest unused
//! first; beyond a mark of the disk it goes at once, until another mark. Whatever
//! goes loses its name first and its bytes afterwards, so that one cut off in
//! between leaves no half of anything, and what it leaves goes with the next round.

mod inventory;
mod moments;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use super::uses::{Lately, Looked};
use super::{ImageDigest, ImageReference, ImageStore, layout};
use crate::clock::millis;
use crate::files;
use inventory::Thing;

pub(super) use moments::Moments;
pub(super) use shelf::{KernelShelf, Shelf};

/// How often a round looks again because somebody came in between; then the next one goes on.
const LOOKS: usize = 16;
/// What the names begin with of things that are being removed.
const OLD: &str = "old-";

/// How long a node keeps images that no pod uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageKeeping {
    /// What is unused for so long is removed.
    pub unused: Duration,
    /// Where so many percent of the disk are used, what is unused is removed at once.
    pub high: u8,
    /// Until no more than so many percent are used.
    pub low: u8,
    /// How often it is looked.
    pub every: Duration,
}

impl Default for ImageKeeping {
    /// Ten minutes; the marks are those of a kubelet, 85 and 80 percent.
    fn default() -> Self {
        Self { unused: Duration::from_secs(600), high: 85, low: 80, every: Duration::from_secs(60) }
    }
}

/// What one pod of the node has of the image store.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodImage {
    /// What it names.
    pub(crate) image: Option<ImageReference>,
    /// What its container runs in, by its name in the store, if that was noted.
    pub(crate) root: Option<String>,
    /// Whether a container of it was ever started.
    pub(crate) began: bool,
}

/// Why nothing was removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    /// Who uses what is not known.
    #[error("what is noted of this node's pods cannot be read ({0}), so that no image counts as unused")]
    Pods(io::Error),
    /// What is there is not known.
    #[error("the image store cannot be read at {}: {}", .0.display(), .1)]
    Disk(PathBuf, io::Error),
}

/// What one round did.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// How many bytes of the disk what was removed had.
    pub(crate) freed: u64,
    /// Percent of the disk that are used and bytes that should have become free, where the disk is still beyond the mark.
    pub(crate) full: Option<(u64, u64)>,
    /// The first thing that did not go as it should; it is tried again with the next round.
    pub(crate) failed: Option<(PathBuf, io::Error)>,
    /// An image that a pod runs and of which nobody knows where it was unpacked: no root file system is removed.
    pub(crate) unsure: Option<String>,
}

/// What must stay.
#[derive(Default)]
struct Used {
    things: BTreeSet<Thing>,
    unsure: Option<String>,
}

impl Used {
    fn keeps(&self, thing: &Thing) -> bool {
        self.things.contains(thing) || self.unsure.is_some() && matches!(thing, Thing::Unpacked(_))
    }
}

impl Collected {
    fn fail(&mut self, path: &Path, done: io::Result<()>) {
        if let Err(error) = done {
            self.failed.get_or_insert_with(|| (path.to_owned(), error));
        }
    }
}

impl ImageStore {
    /// Whether the disk is beyond the mark from which on nothing unused is kept.
    pub(crate) fn is_full(&self, keeping: &ImageKeeping) -> bool {
        self.shelf.room(&self.directory).is_ok_and(|room| room.is_used(keeping.high))
    }

    /// One round. `pods` says what the pods of the node have; it is asked again whenever somebody came in between.
    /// `now` is the time since 1970. Blocks on the disk.
    ///
    /// # Errors
    /// It is not known what is there, or what is used; nothing was removed then.
    pub(crate) fn collect(
        &self,
        keeping: &ImageKeeping,
        pods: &dyn Fn() -> io::Result<Vec<PodImage>>,
        now: Duration,
    ) -> Result<Collected, CollectError> {
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let mut round = Collected::default();
        self.sweep(&mut round);
        let is_full = self.room()?.is_used(keeping.high);
        let mut lately = Lately::default();
        for _ in 0..LOOKS {
            let looked = self.uses.look();
            lately.images.extend(looked.lately.images.iter().cloned());
            lately.blobs.extend(looked.lately.blobs.iter().cloned());
            let used = self.used(&looked, &pods().map_err(CollectError::Pods)?);
            let mut unused = inventory::all(&self.directory).map_err(|error| self.unreadable(error))?;
            unused.retain(|thing| !used.keeps(thing));
            moments.note(&unused, &self.all_of(&lately), now);
            // A full disk may take it once there is room.
            drop(moments.keep());
            round.unsure = used.unsure;
            unused.sort_by_cached_key(|thing| {
                (moments.since(thing), inventory::rank(&self.directory, thing), thing.clone())
            });
            let age = |thing: &Thing| millis(now).saturating_sub(moments.since(thing).unwrap_or(u64::MAX));
            let old = unused.iter().filter(|thing| age(thing) >= millis(keeping.unused)).count();
            let demanded = if is_full { self.room()?.missing(keeping.low) } else { 0 };
            if self.remove_all((&unused, old), demanded, &looked, &mut round) {
                break;
            }
        }
        round.fail(&self.directory, moments.keep());
        let room = self.room()?;
        round.full = room.is_used(keeping.high).then(|| (room.percent(), room.missing(keeping.low)));
        Ok(round)
    }

    fn room(&self) -> Result<shelf::Room, CollectError> {
        self.shelf.room(&self.directory).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: io::Error) -> CollectError {
        CollectError::Disk(self.directory.clone(), error)
    }

    /// Removes the first `old` of the things, and others until so many bytes are free as are demanded. False if
    /// somebody came in between, so that what counted as unused may be used.
    fn remove_all(
        &self,
        (unused, old): (&[Thing], usize),
        demanded: u64,
        looked: &Looked,
        round: &mut Collected,
    ) -> bool {
        let before = round.freed;
        let mut blobs_stay = false;
        for (number, thing) in unused.iter().enumerate() {
            if number >= old && round.freed.saturating_sub(before) >= demanded {
                break;
            }
            let is_blob = matches!(thing, Thing::Blob(_));
            if is_blob && blobs_stay {
                continue;
            }
            match self.remove(thing, looked) {
                None => return false,
                Some(Ok(freed)) => round.freed = round.freed.saturating_add(freed),
                Some(Err(error)) => {
                    // What a document names does not go before it.
                    blobs_stay |= is_blob;
                    round.fail(&thing.path(&self.directory), Err(error));
                }
            }
        }
        true
    }

    /// Removes one thing, unless somebody came since that look. Its name goes first, for good; then its bytes.
    fn remove(&self, thing: &Thing, looked: &Looked) -> Option<io::Result<u64>> {
        let (path, old) = (thing.path(&self.directory), self.directory.join(format!("{OLD}{thing}")));
        let taken = shelf::taken(&path).unwrap_or(0);
        let renamed = self.uses.unless_changed(looked, || self.shelf.rename(&path, &old))?;
        let gone = || -> io::Result<u64> {
            renamed?;
            // Where the power fails, its bytes must not be gone and its name come back.
            let parent = path.parent().filter(|parent| *parent != self.directory);
            for directory in parent.into_iter().chain([self.directory.as_path()]) {
                self.shelf.sync(directory)?;
            }
            self.shelf.remove(&old)?;
            Ok(taken)
        };
        Some(gone())
    }

    /// Removes what removals and makings left that were cut off.
    fn sweep(&self, round: &mut Collected) {
        let names = |round: &mut Collected| {
            files::names(&self.directory).unwrap_or_else(|error| {
                round.fail(&self.directory, Err(error));
                Vec::new()
            })
        };
        // Whoever is making something has a name of that kind now; it is looked at with the next round.
        let turn = match self.making.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if turn.is_some() {
            for name in names(round).into_iter().filter(|name| is_made(name)) {
                let path = self.directory.join(&name);
                let renamed = self.shelf.rename(&path, &self.directory.join(format!("{OLD}{name}")));
                round.fail(&path, renamed);
            }
        }
        drop(turn);
        for name in names(round).into_iter().filter(|name| name.starts_with(OLD)) {
            let path = self.directory.join(name);
            let removed = self.shelf.remove(&path);
            round.fail(&path, removed);
        }
    }

    /// Everything that pods and pulls use.
    fn used(&self, looked: &Looked, pods: &[PodImage]) -> Used {
        let mut used = Used::default();
        for digest in &looked.wanted {
            self.reach(digest, &mut used.things);
        }
        used.things.extend(looked.coming.iter().cloned().map(Thing::Blob));
        for pod in pods {
            let root = pod.root.as_deref().and_then(Thing::named);
            if let Some(image) = &pod.image {
                let is_known = self.reach(&image.digest, &mut used.things);
                if pod.began && root.is_none() && !is_known && !image.is_local() {
                    used.unsure.get_or_insert_with(|| format!("{}@{}", image.name, image.digest));
                }
            }
            used.things.extend(root);
        }
        used
    }

    /// Everything that the image of that digest may be made of; whether it is known where it was unpacked.
    fn reach(&self, digest: &ImageDigest, into: &mut BTreeSet<Thing>) -> bool {
        into.extend([Thing::Executable(digest.clone()), Thing::Unpacked(digest.clone())]);
        let mut is_known = false;
        for layout in &self.layouts {
            let parts = layout::parts(layout, digest);
            is_known |= parts.manifest.is_some();
            into.extend(parts.manifest.map(Thing::Unpacked));
            into.extend(parts.blobs.into_iter().map(Thing::Blob));
        }
        is_known
    }

    fn all_of(&self, lately: &Lately) -> BTreeSet<Thing> {
        let mut things: BTreeSet<Thing> = lately.blobs.iter().cloned().map(Thing::Blob).collect();
        for digest in &lately.images {
            self.reach(digest, &mut things);
        }
        things
    }
}

/// Whether it is the name of something that is being made.
fn is_made(name: &str) -> bool {
    let unpacked = name.strip_prefix("new-").map(|hex| format!("oci-{hex}"));
    let ready = unpacked.as_deref().or_else(|| name.strip_suffix(".new"));
    ready.and_then(Thing::named).is_some_and(|thing| !matches!(thing, Thing::Blob(_)))
}
