//! Since when nobody uses what, kept on the disk: an agent that is started again
//! goes on counting, and a lost file only begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::inventory::Thing;
use crate::clock::millis;
use crate::files;

/// The version of the file that this agent writes.
const VERSION: u32 = 1;

/// `images/unused.json`; format in `STATE.md`.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    since_unix_ms: BTreeMap<String, u64>,
}

/// Since when things are unused.
#[derive(Debug)]
pub(crate) struct Moments {
    file: PathBuf,
    since: BTreeMap<Thing, u64>,
    /// Whether the file says it, too: a full disk may not have taken it.
    is_kept: bool,
}

impl Moments {
    /// Those of the store in that directory. A file that cannot be read, or is of another version, says nothing.
    pub(crate) fn read(store: &Path) -> Self {
        let file = store.join("unused.json");
        let kept = files::read_json::<Kept>(&file).ok().flatten().filter(|kept| kept.version == VERSION);
        let since = kept.map(|kept| kept.since_unix_ms).unwrap_or_default();
        let since =
            since.into_iter().filter_map(|(name, moment)| Some((Thing::named(&name)?, moment))).collect();
        Self { file, since, is_kept: true }
    }

    /// What is unused at this moment, and what of it was used a moment ago. Nothing is unused since the future: a clock
    /// that was set back begins anew.
    pub(super) fn note(&mut self, unused: &[Thing], lately: &BTreeSet<Thing>, now: Duration) {
        let now = millis(now);
        let since = unused.iter().map(|thing| {
            let known = self.since.get(thing).filter(|moment| **moment <= now && !lately.contains(thing));
            (thing.clone(), known.copied().unwrap_or(now))
        });
        let since = since.collect();
        self.is_kept &= self.since == since;
        self.since = since;
    }

    /// Writes down what is not written yet.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        if !self.is_kept {
            let named = self.since.iter().map(|(thing, moment)| (thing.to_string(), *moment));
            let kept = Kept { version: VERSION, since_unix_ms: named.collect() };
            files::replace_json(&self.file, &kept)?;
            self.is_kept = true;
        }
        Ok(())
    }

    /// Since when it is unused, milliseconds since 1970.
    pub(super) fn since(&self, thing: &Thing) -> Option<u64> {
        self.since.get(thing).copied()
    }
}
