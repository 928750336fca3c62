//! Looking at a site's directory without changing it and without a key: for
//! `coffer-site check` and `coffer-site info`.

use std::io;
use std::path::Path;
use std::sync::Arc;

use coffer_model::SiteId;
use coffer_regions::ScrubFinding;

use crate::checkpoint::{self, Checkpoint};
use crate::disk::{Disk, HostDisk};
use crate::epochs::Epochs;
use crate::losses::{self, Loss};
use crate::options::SiteOptions;
use crate::recover::{self, From, Recovered};
use crate::scan::Tail;
use crate::shared::{Opened, Shared};
use crate::site_dir::{OpenSiteError, SiteDir};
use crate::slots::SlotStore;

/// What a site's directory holds, as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Whose directory it is.
    pub site: SiteId,
    /// Whether the site was kept from being opened meanwhile; there is no file
    /// to lock where not.
    pub locked: bool,
    /// Volume files with a readable header.
    pub volumes: u64,
    /// Records whose damage is not known.
    pub records: u64,
    /// Bytes in volume files.
    pub volume_bytes: u64,
    /// Bytes of bodies that were removed or replaced.
    pub dead_bytes: u64,
    /// Key slots that can be read.
    pub slots: u64,
    /// Files in `quarantine/`: tails that were cut after a crash.
    pub quarantined: u64,
    /// The end of a write of which the rest is missing.
    pub torn: Option<TornTail>,
    /// Whether the volumes could be held against a checkpoint.
    pub checkpoint: CheckpointSeen,
    /// Damage; only what framing and last batch show unless all was read.
    pub findings: Vec<ScrubFinding>,
    /// What was there for certain and is gone.
    pub losses: Vec<Loss>,
}

impl Inspection {
    /// Whether nothing is damaged and nothing is known to be lost.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty() && self.losses.is_empty()
    }
}

/// Bytes behind the last whole batch, fewer than their batch has. The next
/// opening for writing cuts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// How many.
    pub bytes: u64,
    /// Whether the checkpoint proves that the batch was whole once, hence
    /// acknowledged. Where not, it is what a crash leaves of a write that was
    /// never acknowledged; or else a file that something cut short after the
    /// checkpoint, which this disk cannot tell from it.
    pub acknowledged: bool,
}

/// What there was to hold the volumes against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointSeen {
    /// A checkpoint of this site.
    Compared,
    /// None: a loss shows only where it leaves a gap.
    Absent,
    /// A file that is none of this site, or damaged.
    Unreadable,
}

/// Looks at the site in `path`; with `read_bodies` verifies every record.
/// Shares the lock for that time, where there is one, and changes nothing.
///
/// # Errors
/// [`OpenSiteError`]; [`OpenSiteError::Locked`] while the site is open.
pub fn inspect(path: &Path, read_bodies: bool) -> Result<Inspection, OpenSiteError> {
    let dir = SiteDir::new(path);
    let site = dir.site()?;
    let lock = dir.lock_to_look()?;
    let locked = lock.is_some();
    let disk: Arc<dyn Disk> = Arc::new(HostDisk);
    let mut recovered = recover::scan_site(&dir, site, disk.as_ref(), true, From::Volumes)?;
    // The older copies count: the next opening writes them anew.
    recovered.torn.iter().for_each(|torn| recovered.holdings.index.insert(torn.older));
    let checkpoint = checkpoint::read(&dir.checkpoint(), site);
    let seen = match &checkpoint {
        Some(_) => CheckpointSeen::Compared,
        None if dir.checkpoint().exists() => CheckpointSeen::Unreadable,
        None => CheckpointSeen::Absent,
    };
    let mut losses = missing_directories(&dir)?;
    losses.extend(checkpoint.iter().flat_map(|checkpoint| losses::against(checkpoint, &recovered.holdings)));
    let torn = leave_out_torn_tail(&mut recovered, checkpoint.as_ref());
    let quarantine = dir.quarantine();
    // Nobody misses an empty one: it is made anew when it is needed.
    let quarantined = match std::fs::read_dir(&quarantine) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        entries => entries.map_err(OpenSiteError::at(&quarantine))?.count(),
    };
    let (epochs, _) =
        Epochs::open(dir.epochs(), Arc::clone(&disk)).map_err(OpenSiteError::at(&dir.epochs()))?;
    let slots = SlotStore::new(dir.slots(), disk);
    let listed = match slots.list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        listed => listed.map_err(OpenSiteError::at(&dir.slots()))?.len(),
    };
    let opened = Opened {
        site,
        dir,
        slots,
        epochs,
        holdings: recovered.holdings,
        read_only: true,
        damaged: recovered.damaged,
        findings: recovered.findings,
        scanned_bytes: recovered.scanned_bytes,
        torn: Vec::new(),
        lock,
    };
    let shared = Shared::new(opened, &SiteOptions::default());
    let unreadable = || io::Error::other("a volume cannot be read");
    let scrub = if read_bodies { shared.scrub() } else { shared.check_framing() };
    let mut findings = scrub.map_err(|_| OpenSiteError::at(path)(unreadable()))?;
    // A directory that is gone is told as a loss, and only once.
    let is_told = |finding: &ScrubFinding| {
        let lost = |loss: &Loss| matches!(loss, Loss::Directory { name } if *name == finding.place);
        losses.iter().any(lost)
    };
    findings.retain(|finding| !is_told(finding));
    let holdings = shared.holdings();
    Ok(Inspection {
        site,
        locked,
        volumes: count(holdings.volumes.len()),
        records: holdings.index.readable(),
        volume_bytes: holdings.volume_bytes(),
        dead_bytes: holdings.index.dead_bytes(),
        slots: count(listed),
        quarantined: count(quarantined),
        torn,
        checkpoint: seen,
        findings,
        losses,
    })
}

/// The directories that are made before a site has its `SITE` file, and
/// without which it does not open.
fn missing_directories(dir: &SiteDir) -> Result<Vec<Loss>, OpenSiteError> {
    let mut missing = Vec::new();
    for (name, path) in [("volumes", dir.volumes()), ("slots", dir.slots())] {
        if !path.try_exists().map_err(OpenSiteError::at(&path))? {
            missing.push(Loss::Directory { name });
        }
    }
    Ok(missing)
}

/// A write that was never fsynced is no damage; what it left is not counted.
fn leave_out_torn_tail(recovered: &mut Recovered, checkpoint: Option<&Checkpoint>) -> Option<TornTail> {
    let last = recovered.holdings.volumes.values_mut().next_back().filter(|_| recovered.appendable)?;
    let Tail::Short(at) = recovered.tail else { return None };
    let bytes = last.length - at;
    last.length = at;
    let covered = checkpoint.iter().flat_map(|checkpoint| &checkpoint.volumes);
    let mut covered = covered.filter(|covered| covered.number == last.volume.number);
    Some(TornTail { bytes, acknowledged: covered.any(|covered| covered.length > at) })
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
