//! What a loss leaves, laid out for a drill that begins with nothing else:
//! copies of the sites in a directory of the drill's own, the kit with the last
//! checkpoint pinned, and the people's shares.

use std::path::{Path, PathBuf};

use coffer_client::drill::Timeline;
use coffer_client::keys::Share;
use coffer_client::pin_checkpoint;
use coffer_client::profile::write_atomically;
use coffer_custody::combine_share_files;
use serde_json::Value;

use super::exercise::Desk;
use crate::context::Context;
use crate::exit::{Advise as _, Failure};
use crate::files;
use crate::flags::LeftFlags;

/// No kit or share comes near. In bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// A directory that goes away when the drill is over, however it ends: it
/// holds copies of disks, and perhaps keys.
pub(super) struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Whoever named the directory finds what could not be removed there.
        drop(files::remove_tree(&self.0));
    }
}

/// What is left, in a directory that goes away with the drill.
pub(super) struct Left {
    directory: Scratch,
    pub(super) timeline: Timeline,
    /// How many sites were copied, and of how many.
    pub(super) sites: (usize, usize),
}

impl Left {
    /// Pins the last checkpoint, declares the loss and copies the sites that
    /// are not lost.
    pub(super) async fn gather(
        context: &Context<'_>,
        desk: &mut Desk,
        lost: &[String],
        flags: &LeftFlags,
        out: &Path,
    ) -> Result<Self, Failure> {
        let data = flags.data_dir.clone().ok_or_else(|| {
            Failure::usage("this drill begins with the disks of the sites alone")
                .next("name the data directory that holds them with --data-dir")
        })?;
        let kit = flags.kit.clone().unwrap_or_else(|| context.profile.dir().join("recovery-kit.json"));
        let kit = String::from_utf8_lossy(&files::read_small(&kit, FILE_LIMIT)?).into_owned();
        let names = site_names(&kit)?;
        // All leaves up to here are at the sites now, and the copies have to show them.
        desk.watch.advance(&desk.client).await?;
        let pinned = pin_checkpoint(&kit, desk.watch.origin(), desk.watch.remembered().unwrap_or_default())?;
        let directory = out.join("left");
        files::make_empty_directory(&directory)?;
        let scratch = Scratch(directory.clone());
        write_atomically(&directory.join("kit.json"), pinned.as_bytes())?;
        let mut timeline = Timeline::new(context.clock.clone(), context.clock.now(), None);
        let (from, to) = (data.join("sites"), directory.join("data/sites"));
        let kept: Vec<String> = names.iter().filter(|name| !lost.contains(name)).cloned().collect();
        let sites = (kept.len(), names.len());
        let copied = tokio::task::spawn_blocking(move || {
            files::make_directory(&to)?;
            kept.iter().try_fold(0, |sum, name| Ok(sum + files::copy_site(&from.join(name), &to.join(name))?))
        });
        let bytes = copied.await?.map_err(|failure: Failure| {
            failure.safe("the sites were only read").next("bring a copy of each site, or name it as lost")
        })?;
        timeline.end_phase("copy", bytes);
        Ok(Self { directory: scratch, timeline, sites })
    }

    /// The directory that stands for the data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.directory.0.join("data")
    }

    /// The copies of the sites.
    pub(super) fn sites_dir(&self) -> PathBuf {
        self.directory.0.join("data/sites")
    }

    /// The kit, with the last checkpoint pinned.
    #[cfg(feature = "embedded")]
    pub(super) fn kit(&self) -> PathBuf {
        self.directory.0.join("kit.json")
    }

    /// A file beside them.
    #[cfg(feature = "embedded")]
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.directory.0.join(name)
    }

    /// The directory, and the axis of time.
    pub(super) fn split(self) -> (Scratch, Timeline) {
        (self.directory, self.timeline)
    }
}

/// Names of the sites in a kit, all of which must be directories.
fn site_names(kit: &str) -> Result<Vec<String>, Failure> {
    let kit: Value = serde_json::from_str(kit)?;
    let lines = kit.get("sites").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut names = Vec::new();
    for line in &lines {
        let name = line.pointer("/site/name").and_then(Value::as_str).unwrap_or_default();
        let plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        let directory = line.get("home").is_none_or(|home| home.as_str() == Some("directory"));
        if !plain || !directory {
            return Err(Failure::new(format!(
                "the site \"{name}\" of the kit is no directory of this machine"
            ))
            .safe("nothing was copied")
            .next("a cold drill needs the disks of all sites as directories"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The indices of shares that recombine to the key that they were made of;
/// whoever asks has seen that key open what it is for. Shares that do not are
/// evidence of nothing, and none is named.
pub(super) fn recombined(paths: &[PathBuf]) -> Result<Vec<u64>, Failure> {
    if paths.is_empty() || combine_share_files(paths).is_err() {
        return Ok(Vec::new());
    }
    let index = |path: &PathBuf| -> Result<u64, Failure> {
        let text = String::from_utf8_lossy(&files::read_small(path, FILE_LIMIT)?).into_owned();
        let share = Share::from_text(&text).advise("nothing was restored", "bring another share")?;
        Ok(u64::from(share.index()))
    };
    paths.iter().map(index).collect()
}
