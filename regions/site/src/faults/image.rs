//! What a power cut leaves of a directory, written into another one.
#![expect(clippy::disallowed_methods, reason = "this module is a disk adapter")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Before, Journal, PAGE_BYTES, Unsynced, id_of};

/// Which of the changes that were not fsynced the power cut leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// None: the medium as the last fsyncs left it.
    None,
    /// All: as if everything had been fsynced a moment before.
    All,
    /// Some, drawn from this seed; the same seed draws the same.
    Seeded(u64),
}

impl Survivors {
    /// Sixty-four bits that follow from the seed, the name and the number.
    fn draw(seed: u64, name: &Path, number: u64) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&number.to_le_bytes());
        hasher.update(name.as_os_str().as_encoded_bytes());
        u64::from_le_bytes(crate::batch::field(hasher.finalize().as_bytes(), 0))
    }

    /// Whether one change survives: often, half of the time or seldom, as the
    /// seed has it.
    fn spare(self, name: &Path, number: u64) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Seeded(seed) => {
                let of_eight = [1, 4, 7][usize::try_from(seed % 3).unwrap_or(0)];
                Self::draw(seed, name, number) % 8 < of_eight
            }
        }
    }

    /// A length between the durable one and the present one.
    fn length(self, name: &Path, durable: u64, now: u64) -> u64 {
        let (low, high) = (durable.min(now), durable.max(now));
        match self {
            Self::None => durable,
            Self::All => now,
            Self::Seeded(seed) => match Self::draw(seed, name, u64::MAX) % 4 {
                0 => durable,
                1 => now,
                _ => low + Self::draw(seed, name, u64::MAX - 1) % (high - low + 1),
            },
        }
    }
}

/// Writes the image of `from` into the new directory `into`.
pub(super) fn write(journal: &Journal, from: &Path, into: &Path, survivors: Survivors) -> io::Result<()> {
    std::fs::create_dir(into)?;
    let mut image = Image { journal, survivors, root: from };
    image.directory(from, into)
}

struct Image<'a> {
    journal: &'a Journal,
    survivors: Survivors,
    root: &'a Path,
}

impl Image<'_> {
    fn directory(&mut self, from: &Path, into: &Path) -> io::Result<()> {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(from)? {
            names.insert(entry?.path());
        }
        let gone = self.journal.names.keys().filter(|name| name.parent() == Some(from));
        names.extend(gone.cloned());
        for name in names {
            let Some(last) = name.file_name() else { continue };
            self.entry(&name, &into.join(last))?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &PathBuf, target: &Path) -> io::Result<()> {
        let relative = name.strip_prefix(self.root).unwrap_or(name);
        let before = self.journal.names.get(name);
        match before.filter(|_| !self.survivors.spare(relative, 0)) {
            Some(Before::Nothing) => Ok(()),
            Some(Before::File(file)) => self.file(file, relative, target),
            None if !name.exists() => Ok(()),
            None if name.is_dir() => {
                std::fs::create_dir(target)?;
                self.directory(name, target)
            }
            None => self.file(&File::open(name)?, relative, target),
        }
    }

    fn file(&self, file: &File, name: &Path, target: &Path) -> io::Result<()> {
        let (id, length) = id_of(file)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        if let Some(unsynced) = self.journal.files.get(&id) {
            self.lose(unsynced, name, &mut bytes);
        }
        std::fs::write(target, &bytes)
    }

    /// Puts back what the medium held, where the change does not survive.
    fn lose(&self, unsynced: &Unsynced, name: &Path, bytes: &mut Vec<u8>) {
        let now = super::len(bytes);
        let length = self.survivors.length(name, unsynced.length, now);
        bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        for (page, old) in &unsynced.pages {
            if !old.abandoned && self.survivors.spare(name, page + 1) {
                continue;
            }
            let start = usize::try_from(page * PAGE_BYTES).unwrap_or(usize::MAX);
            let Some(rest) = bytes.get_mut(start..) else { continue };
            let end = rest.len().min(usize::try_from(PAGE_BYTES).unwrap_or(0));
            let Some(place) = rest.get_mut(..end) else { continue };
            place.fill(0);
            let held = old.bytes.len().min(end);
            place[..held].copy_from_slice(&old.bytes[..held]);
        }
    }
}
