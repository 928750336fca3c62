//! What was on a site's disk for certain and is there no more: the checkpoint
//! lists what was fsynced, and is held against what the volumes say. For a
//! look at the disk alone; an opening believes the volumes.

use coffer_model::RecordId;

use crate::checkpoint::Checkpoint;
use crate::holdings::Holdings;
use crate::index::{Index, Location};
use crate::volume::{file_name, place};

/// Something that a site's disk had and lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A directory that every site has from its creation on.
    Directory {
        /// Its name in the site's directory.
        name: &'static str,
    },
    /// A volume that the checkpoint names has no file, and the ledger of
    /// retired volumes does not say that compaction removed it.
    Volume {
        /// The file's name.
        file: String,
        /// Its bytes as of the checkpoint.
        bytes: u64,
        /// Records that lived in it then and are held nowhere now.
        records: u64,
    },
    /// Another volume stands under the name of one that the checkpoint names.
    Exchanged {
        /// The file's name.
        file: String,
        /// Records that lived in the right one and are held nowhere now.
        records: u64,
    },
    /// A volume is shorter than it was when the checkpoint was written.
    Cut {
        /// The file's name.
        file: String,
        /// Bytes that are gone.
        bytes: u64,
        /// Records that lived in it then and are held nowhere now.
        records: u64,
    },
    /// A record that the checkpoint names is in its volume no more, and
    /// nothing says that it was removed.
    Record {
        /// Which.
        record: RecordId,
        /// Where it was.
        place: String,
    },
}

/// What `checkpoint` names and the volumes do not hold.
pub(crate) fn against(checkpoint: &Checkpoint, holdings: &Holdings) -> Vec<Loss> {
    let mut losses = Vec::new();
    for covered in &checkpoint.volumes {
        let number = covered.number;
        // What cannot be read at all is damage, and found as such.
        if holdings.retired.names(number) || holdings.unreadable.contains(&number) {
            continue;
        }
        let gone = checkpoint.index.in_volume(number, 0).filter(|at| !is_accounted_for(at, &holdings.index));
        let gone: Vec<Location> = gone.collect();
        let (file, records) = (file_name(number), u64::try_from(gone.len()).unwrap_or(u64::MAX));
        match holdings.volumes.get(&number) {
            None => losses.push(Loss::Volume { file, bytes: covered.length, records }),
            Some(held) if held.volume.key.fingerprint() != covered.nonce => {
                losses.push(Loss::Exchanged { file, records });
            }
            Some(held) if held.length < covered.length => {
                losses.push(Loss::Cut { file, bytes: covered.length - held.length, records });
            }
            Some(_) => losses.extend(
                gone.iter().map(|at| Loss::Record { record: at.entry.id, place: place(number, at.offset) }),
            ),
        }
    }
    losses
}

/// Whether the volumes say what became of a record: it is held, or its copy is
/// there and dead, since it was removed or replaced.
fn is_accounted_for(at: &Location, now: &Index) -> bool {
    let held = now.get(at.entry.id).is_some_and(|held| held.entry.digest == at.entry.digest);
    held || now.dead().contains(&(at.entry.id, at.volume))
}
