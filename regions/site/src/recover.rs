//! Opening: from the volume files to the index, and what is done with a tail
//! that a crash left. `LAYOUT.md` argues why each case is treated as it is.
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use coffer_model::SiteId;
use coffer_regions::ScrubFinding;

use crate::disk::{self, Disk};
use crate::index::Index;
use crate::scan::{self, Chain, Found, Tail};
use crate::shared::{DurableVolume, Opened};
use crate::site_dir::{OpenSiteError, SiteDir, SiteLock};
use crate::slots::SlotStore;
use crate::volume::{self, HeaderError, VOLUME_HEADER_BYTES, Volume, place};

/// Bytes copied at a time into quarantine.
const COPY_BYTES: u64 = 1 << 20;

/// Everything that the volumes say, before anything is changed.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) volumes: BTreeMap<u32, DurableVolume>,
    pub(crate) chain: Chain,
    pub(crate) damaged: u64,
    /// Damage that a later scrub cannot see again by itself.
    pub(crate) findings: Vec<ScrubFinding>,
    /// How the last volume ends, if there is a readable one.
    pub(crate) tail: Tail,
    /// The number that the next volume file gets.
    pub(crate) next_number: u32,
    /// Whether the last volume may take further batches.
    pub(crate) appendable: bool,
    /// Whether what the last volume shows is on the medium for certain.
    pub(crate) synced: bool,
}

/// Reads all volumes of `dir`; changes nothing.
pub(crate) fn scan_site(
    dir: &SiteDir,
    site: SiteId,
    disk: &dyn Disk,
    read_only: bool,
) -> Result<Recovered, OpenSiteError> {
    let volumes_dir = dir.volumes();
    let files = volume::list_files(&volumes_dir).map_err(OpenSiteError::at(&volumes_dir))?;
    let mut out = Recovered {
        index: Index::default(),
        volumes: BTreeMap::new(),
        chain: Chain::START,
        damaged: 0,
        findings: Vec::new(),
        tail: Tail::Clean,
        next_number: 0,
        appendable: false,
        synced: true,
    };
    let last = files.last().map(|(number, _)| *number);
    for (number, path) in &files {
        out.next_number = number.saturating_add(1);
        let at = || OpenSiteError::at(path);
        let file = disk::open_file(path, read_only).map_err(at())?;
        match volume::read_header(&file).map_err(at())? {
            Ok((header, damaged_copy)) => {
                if header.site != site {
                    return Err(OpenSiteError::VolumeOfOtherSite { path: path.clone(), found: header.site });
                }
                if header.number != *number {
                    return Err(OpenSiteError::VolumeExchanged { path: path.clone(), found: header.number });
                }
                out.damaged += u64::from(damaged_copy);
                let volume = Volume { number: *number, file: Arc::new(file), key: header.batch_key() };
                out.volume(volume, disk, last == Some(*number)).map_err(at())?;
            }
            Err(HeaderError::Format(found)) => {
                return Err(OpenSiteError::Format { path: path.clone(), found: u32::from(found) });
            }
            Err(HeaderError::Damaged) => {
                // Nothing in it can be told apart, but the site goes on.
                out.damaged += 1;
                out.findings.push(ScrubFinding { record: None, place: place(*number, 0) });
                out.chain.previous = None;
                (out.tail, out.appendable) = (Tail::Clean, false);
            }
        }
    }
    Ok(out)
}

impl Recovered {
    fn volume(&mut self, volume: Volume, disk: &dyn Disk, last: bool) -> io::Result<()> {
        let length = volume.file.metadata()?.len();
        if last {
            // What a killed process left in the cache must be on the medium
            // before it counts, and what the cache only pretends to have
            // stored after a failed fsync must be read from the medium.
            self.synced = disk.sync_data(&volume.file).is_ok();
            disk.forget_cached(&volume.file);
        }
        let mut chain = self.chain.clone();
        let end = scan::scan_volume(&volume, length, &mut chain, &mut |found| match found {
            Found::Record(location) => self.index.insert(location),
            Found::Removal(id) => self.index.remove(id),
            Found::Damage { records, .. } => self.damaged += records,
        })?;
        self.chain = chain;
        if last {
            if let Some(from) = end.last_batch {
                self.verify_bodies(&volume, from)?;
            }
            (self.tail, self.appendable) = (end.tail, true);
        } else if end.tail != Tail::Clean {
            // The next volume exists, so this one was whole: this is damage.
            self.damaged += 1;
            self.chain.previous = None;
        }
        self.volumes.insert(volume.number, DurableVolume { volume, length });
        Ok(())
    }

    /// Reads the bodies of the last batch: only they may be torn under a
    /// header that is whole.
    fn verify_bodies(&mut self, volume: &Volume, from: u64) -> io::Result<()> {
        let in_batch = |at: &crate::index::Location| at.volume == volume.number && at.offset >= from;
        let locations = self.index.in_disk_order();
        for at in locations.iter().filter(|at| in_batch(at)) {
            if scan::read_body(&volume.file, at.offset, &at.entry)?.is_none() && self.index.mark_damaged(at) {
                self.damaged += 1;
            }
        }
        Ok(())
    }
}

/// What the writer goes on with.
pub(crate) struct WriterStart {
    /// The volume to append to; a new one is made if there is none.
    pub(crate) current: Option<DurableVolume>,
    pub(crate) next_number: u32,
    pub(crate) chain: Chain,
}

/// Opens the directory of `site` for reading and writing.
pub(crate) fn open(
    dir: &SiteDir,
    site: SiteId,
    lock: SiteLock,
    disk: &Arc<dyn Disk>,
) -> Result<(Opened, WriterStart), OpenSiteError> {
    let volumes_dir = dir.volumes();
    disk::remove_leftovers(disk.as_ref(), &volumes_dir).map_err(OpenSiteError::at(&volumes_dir))?;
    let slots = SlotStore::new(dir.slots(), disk.clone());
    slots.remove_leftovers().map_err(OpenSiteError::at(&dir.slots()))?;
    let mut recovered = scan_site(dir, site, disk.as_ref(), false)?;
    // A tail that can be neither kept aside nor cut closes the site for
    // writing only: what it holds can still be read.
    let settled = settle_tail(&mut recovered, &dir.quarantine(), disk.as_ref());
    let current = recovered.volumes.values().next_back().filter(|_| recovered.appendable).cloned();
    let last_batch = recovered.chain.reach();
    let start = WriterStart { current, next_number: recovered.next_number, chain: recovered.chain };
    let opened = Opened {
        site,
        volumes_dir,
        slots,
        index: recovered.index,
        volumes: recovered.volumes,
        read_only: settled.is_err() || !recovered.synced,
        damaged: recovered.damaged,
        findings: recovered.findings,
        last_batch,
        lock,
    };
    Ok((opened, start))
}

/// Cuts a torn tail, after a copy of it is safe in quarantine; or leaves it
/// and starts a new volume, where records in it proved themselves.
fn settle_tail(recovered: &mut Recovered, quarantine: &Path, disk: &dyn Disk) -> io::Result<()> {
    let Some(last) = recovered.volumes.values_mut().next_back().filter(|_| recovered.appendable) else {
        return Ok(());
    };
    let number = last.volume.number;
    let at = match recovered.tail {
        Tail::Clean => return Ok(()),
        Tail::Short(at) => at,
        Tail::Unknown { at, salvaged: 0 } => {
            recovered.damaged += 1;
            recovered.findings.push(ScrubFinding { record: None, place: place(number, at) });
            at
        }
        Tail::Unknown { .. } => {
            recovered.damaged += 1;
            recovered.appendable = false;
            recovered.chain.previous = None;
            return Ok(());
        }
    };
    keep_aside(&last.volume, at, last.length, quarantine, disk)?;
    disk.cut(&last.volume.file, at)?;
    disk.sync_all(&last.volume.file)?;
    last.length = at;
    Ok(())
}

/// Copies the bytes from `at` to `end` into quarantine, under a name that is
/// not taken, durably.
fn keep_aside(volume: &Volume, at: u64, end: u64, quarantine: &Path, disk: &dyn Disk) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let free = (0..u32::MAX).map(|n| quarantine.join(format!("{:08}-{at}-{n}.cut", volume.number)));
    let mut free = free.filter(|path| !path.exists());
    let path = free.next().ok_or(io::ErrorKind::AlreadyExists)?;
    let copy = disk.create(&path)?;
    let mut from = at;
    while from < end {
        let mut bytes = vec![0; usize::try_from(COPY_BYTES.min(end - from)).unwrap_or(VOLUME_HEADER_BYTES)];
        volume.file.read_exact_at(&mut bytes, from)?;
        disk.write(&copy, &mut [IoSlice::new(&bytes)], from - at)?;
        from += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }
    disk.sync_all(&copy)?;
    disk.sync_dir(quarantine)
}
