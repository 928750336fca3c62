//! Looking at a site's directory without changing it and without a key: for
//! `coffer-site check` and `coffer-site info`.

use std::path::Path;
use std::sync::Arc;

use coffer_model::SiteId;
use coffer_regions::ScrubFinding;

use crate::disk::{Disk, HostDisk};
use crate::epochs::Epochs;
use crate::options::SiteOptions;
use crate::recover::{self, From};
use crate::scan::Tail;
use crate::shared::{Opened, Shared};
use crate::site_dir::{OpenSiteError, SiteDir};
use crate::slots::SlotStore;

/// What a site's directory holds, as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Whose directory it is.
    pub site: SiteId,
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
    /// Bytes behind the last valid batch that were never acknowledged; the
    /// next opening for writing cuts them. No damage.
    pub torn_bytes: u64,
    /// Damage; only what framing and last batch show unless all was read.
    pub findings: Vec<ScrubFinding>,
}

/// Looks at the site in `path`; with `read_bodies` verifies every record.
/// Takes the lock for that time, changes nothing else.
///
/// # Errors
/// [`OpenSiteError`]; [`OpenSiteError::Locked`] while the site is open.
pub fn inspect(path: &Path, read_bodies: bool) -> Result<Inspection, OpenSiteError> {
    let dir = SiteDir::new(path);
    let site = dir.site()?;
    let lock = dir.lock()?;
    let disk: Arc<dyn Disk> = Arc::new(HostDisk);
    let mut recovered = recover::scan_site(&dir, site, disk.as_ref(), true, From::Volumes)?;
    // The older copies count: the next opening writes them anew.
    recovered.torn.iter().for_each(|torn| recovered.holdings.index.insert(torn.older));
    let torn_bytes = leave_out_torn_tail(&mut recovered);
    let quarantine = dir.quarantine();
    let quarantined = std::fs::read_dir(&quarantine).map_err(OpenSiteError::at(&quarantine))?.count();
    let (epochs, _) =
        Epochs::open(dir.epochs(), Arc::clone(&disk)).map_err(OpenSiteError::at(&dir.epochs()))?;
    let slots = SlotStore::new(dir.slots(), disk);
    let listed = slots.list().map_err(OpenSiteError::at(&dir.slots()))?;
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
    let unreadable = || std::io::Error::other("a volume cannot be read");
    let scrub = if read_bodies { shared.scrub() } else { shared.check_framing() };
    let findings = scrub.map_err(|_| OpenSiteError::at(path)(unreadable()))?;
    let holdings = shared.holdings();
    Ok(Inspection {
        site,
        volumes: count(holdings.volumes.len()),
        records: holdings.index.readable(),
        volume_bytes: holdings.volume_bytes(),
        dead_bytes: holdings.index.dead_bytes(),
        slots: count(listed.len()),
        quarantined: count(quarantined),
        torn_bytes,
        findings,
    })
}

/// A write that was never fsynced is no damage; returns its length.
fn leave_out_torn_tail(recovered: &mut recover::Recovered) -> u64 {
    let last = recovered.holdings.volumes.values_mut().next_back().filter(|_| recovered.appendable);
    match (recovered.tail, last) {
        (Tail::Short(at), Some(last)) => {
            let torn = last.length - at;
            last.length = at;
            torn
        }
        _ => 0,
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
