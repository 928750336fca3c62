//! Opening: from the volume files to what the site holds, and what is done
//! with a tail that a crash left. `LAYOUT.md` argues why each case is treated
//! as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_model::{RecordId, SiteId};
use coffer_regions::{Record, ScrubFinding};

use crate::checkpoint::{self, Checkpoint, CoveredVolume};
use crate::disk::{self, Disk};
use crate::epochs::Epochs;
use crate::holdings::{HeldVolume, Holdings};
use crate::index::Location;
use crate::retired::{self, Retired};
use crate::scan::{self, Chain, Found, Tail};
use crate::shared::Opened;
use crate::site_dir::{OpenSiteError, SiteDir, SiteLock};
use crate::slots::SlotStore;
use crate::volume::{self, FIRST_BATCH, HeaderError, VOLUME_HEADER_BYTES, Volume, place};

/// Bytes copied at a time into quarantine.
const COPY_BYTES: u64 = 1 << 20;

/// Everything that the volumes say, before anything is changed.
pub(crate) struct Recovered {
    pub(crate) holdings: Holdings,
    pub(crate) damaged: u64,
    /// Damage that a later scrub cannot see again by itself.
    pub(crate) findings: Vec<ScrubFinding>,
    /// How the last volume ends, if there is a readable one.
    pub(crate) tail: Tail,
    /// Whether the last volume may take further batches.
    pub(crate) appendable: bool,
    /// Whether what the last volume shows is on the medium for certain.
    pub(crate) synced: bool,
    /// Files of retired volumes, which a crash kept from being removed.
    pub(crate) leftovers: Vec<PathBuf>,
    /// Bytes of volumes that were not covered by a checkpoint.
    pub(crate) scanned_bytes: u64,
    /// Records torn in the last batch, of which older copies are whole.
    pub(crate) torn: Vec<Torn>,
}

/// A record whose body is torn in the last batch, while an older copy of it
/// is whole: the batch was a compaction's or a repeated put, and nobody was
/// told that the older copy may go.
pub(crate) struct Torn {
    pub(crate) at: Location,
    pub(crate) older: Location,
    pub(crate) record: Record,
}

/// What the index is built from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// The checkpoint, where there is a right one, and what lies behind it.
    Checkpoint,
    /// The volumes alone.
    Volumes,
}

/// Reads what is in `dir`; changes nothing.
pub(crate) fn scan_site(
    dir: &SiteDir,
    site: SiteId,
    disk: &dyn Disk,
    read_only: bool,
    from: From,
) -> Result<Recovered, OpenSiteError> {
    let (volumes_dir, ledger) = (dir.volumes(), dir.retired());
    let files = match volume::list_files(&volumes_dir) {
        // A look goes on, and says that they are gone; an opening does not.
        Err(error) if read_only && error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(OpenSiteError::at(&volumes_dir))?,
    };
    let found = Retired::read(&ledger, site).map_err(OpenSiteError::at(&ledger))?;
    let (retired, whole) = match found {
        retired::Found::Whole(retired) => (retired, true),
        retired::Found::HalfDamaged(retired) => (retired, false),
        retired::Found::Damaged => (Retired::default(), false),
    };
    let (leftovers, files): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(number, _)| retired.names(*number));
    let scan = |checkpoint: Option<Checkpoint>| {
        let mut scan = SiteScan::new(site, disk, read_only, &retired, &checkpoint);
        if !whole {
            scan.out.damaged += 1;
            scan.out.findings.push(ScrubFinding { record: None, place: "RETIRED".to_owned() });
        }
        scan.out.leftovers = leftovers.iter().map(|(_, path)| path.clone()).collect();
        Ok(scan.run(&volumes_dir, &files, checkpoint)?.then_some(scan.out))
    };
    if from == From::Checkpoint
        && let Some(checkpoint) = checkpoint::read(&dir.checkpoint(), site)
        && let Some(recovered) = scan(Some(checkpoint))?
    {
        return Ok(recovered);
    }
    // Without a checkpoint, nothing can contradict one.
    scan(None)?.ok_or_else(|| OpenSiteError::at(&volumes_dir)(io::ErrorKind::InvalidData.into()))
}

struct SiteScan<'a> {
    site: SiteId,
    disk: &'a dyn Disk,
    read_only: bool,
    /// The highest volume that the checkpoint covers.
    covered_to: Option<u32>,
    out: Recovered,
}

impl<'a> SiteScan<'a> {
    fn new(
        site: SiteId,
        disk: &'a dyn Disk,
        read_only: bool,
        retired: &Retired,
        checkpoint: &Option<Checkpoint>,
    ) -> Self {
        let volumes = checkpoint.as_ref().and_then(|checkpoint| checkpoint.volumes.last());
        let out = Recovered {
            holdings: Holdings::empty(retired.clone()),
            damaged: 0,
            findings: Vec::new(),
            tail: Tail::Clean,
            appendable: false,
            synced: true,
            leftovers: Vec::new(),
            scanned_bytes: 0,
            torn: Vec::new(),
        };
        Self { site, disk, read_only, covered_to: volumes.map(|volume| volume.number), out }
    }

    /// Reads all volumes; false where the checkpoint does not fit them.
    fn run(
        &mut self,
        volumes_dir: &Path,
        files: &[(u32, PathBuf)],
        checkpoint: Option<Checkpoint>,
    ) -> Result<bool, OpenSiteError> {
        let mut covered = Vec::new();
        if let Some(checkpoint) = checkpoint {
            self.out.holdings.index = checkpoint.index;
            covered = checkpoint.volumes;
        }
        let last = files.last().map(|(number, _)| *number);
        let mut covered = covered.into_iter().peekable();
        let mut expected = 0;
        for (number, path) in files {
            self.pass_retired(expected, *number);
            expected = number.saturating_add(1);
            let covered = covered.next_if(|volume| volume.number == *number);
            let file = self.open(*number, path)?;
            let Some(volume) = file else {
                if covered.is_some() {
                    return Ok(false);
                }
                continue;
            };
            let is_last = last == Some(*number);
            let Some(held) = self.start_of(volume, is_last, covered).map_err(OpenSiteError::at(path))? else {
                return Ok(false);
            };
            self.volume(held, is_last).map_err(OpenSiteError::at(path))?;
        }
        self.verify_last_batch().map_err(OpenSiteError::at(volumes_dir))?;
        let from = self.out.holdings.chain.next;
        self.pass_retired(expected, u32::MAX);
        if self.out.holdings.chain.next != from {
            // What comes now belongs behind the retired volumes.
            self.out.appendable = false;
        }
        Ok(covered.peek().is_none())
    }

    /// Moves the chain over volumes that compaction removed.
    fn pass_retired(&mut self, from: u32, to: u32) {
        let Holdings { retired, chain, .. } = &mut self.out.holdings;
        for run in retired.within(from, to) {
            if chain.previous.is_some() && *chain != run.before {
                self.out.damaged += 1;
                self.out.findings.push(ScrubFinding { record: None, place: place(run.first, 0) });
            }
            *chain = run.after.clone();
        }
    }

    /// Opens a volume file; `None` where both headers are damaged.
    fn open(&mut self, number: u32, path: &Path) -> Result<Option<Volume>, OpenSiteError> {
        let at = || OpenSiteError::at(path);
        let file = disk::open_file(path, self.read_only).map_err(at())?;
        let header = match volume::read_header(&file).map_err(at())? {
            Ok((header, damaged_copy)) => {
                self.out.damaged += u64::from(damaged_copy);
                header
            }
            Err(HeaderError::Format(found)) => {
                return Err(OpenSiteError::Format { path: path.to_owned(), found: u32::from(found) });
            }
            Err(HeaderError::Damaged) => {
                // Nothing in it can be told apart, but the site goes on.
                self.out.damaged += 1;
                self.out.findings.push(ScrubFinding { record: None, place: place(number, 0) });
                self.out.holdings.unreadable.insert(number);
                self.out.holdings.chain.previous = None;
                (self.out.tail, self.out.appendable) = (Tail::Clean, false);
                return Ok(None);
            }
        };
        if header.site != self.site {
            return Err(OpenSiteError::VolumeOfOtherSite { path: path.to_owned(), found: header.site });
        }
        if header.number != number {
            return Err(OpenSiteError::VolumeExchanged { path: path.to_owned(), found: header.number });
        }
        Ok(Some(Volume { number, file: Arc::new(file), key: header.batch_key() }))
    }

    /// A volume as far as the checkpoint knows it; `None` where what the
    /// checkpoint says of it is not so.
    fn start_of(
        &mut self,
        volume: Volume,
        is_last: bool,
        covered: Option<CoveredVolume>,
    ) -> io::Result<Option<HeldVolume>> {
        if is_last {
            // What a killed process left in the cache must be on the medium
            // before it counts, and what the cache only pretends to have
            // stored after a failed fsync must be read from the medium.
            self.out.synced = self.disk.sync_data(&volume.file).is_ok();
            self.disk.forget_cached(&volume.file);
        }
        let chain = self.out.holdings.chain.clone();
        let Some(covered) = covered else {
            let (length, start) = (FIRST_BATCH, chain.clone());
            let held = HeldVolume { volume, length, start, end: chain, last_batch: None, damage: Vec::new() };
            return Ok(self.covered_to.is_none_or(|to| held.volume.number > to).then_some(held));
        };
        let length = volume.file.metadata()?.len();
        let may_grow = self.covered_to == Some(covered.number);
        let fits = length == covered.length || (may_grow && length > covered.length);
        if !fits || covered.nonce != volume.key.fingerprint() || !ends_with(&volume, &covered)? {
            return Ok(None);
        }
        let counted = covered.damage.iter().fold(0_u64, |sum, (_, records)| sum.saturating_add(*records));
        self.out.damaged = self.out.damaged.saturating_add(counted);
        let CoveredVolume { length, start, end, last_batch, damage, .. } = covered;
        Ok(Some(HeldVolume { volume, length, start, end, last_batch, damage }))
    }

    /// Reads what is not known of a volume yet.
    fn volume(&mut self, mut held: HeldVolume, is_last: bool) -> io::Result<()> {
        let length = held.volume.file.metadata()?.len();
        self.out.scanned_bytes += length.saturating_sub(held.length);
        let (mut chain, number) = (held.end.clone(), held.volume.number);
        let (index, damage) = (&mut self.out.holdings.index, &mut held.damage);
        let mut damaged = 0_u64;
        let end =
            scan::scan_volume(&held.volume, held.length, length, &mut chain, &mut |found| match found {
                Found::Record(location) => index.insert(location),
                Found::Removal(id) => index.remove(id, number),
                Found::Damage { records, offset, .. } => {
                    // A gap in the numbers may be as wide as a number can be.
                    damaged = damaged.saturating_add(records);
                    damage.push((offset, records));
                }
            })?;
        held.last_batch = end.last_batch.or(held.last_batch);
        self.out.damaged = self.out.damaged.saturating_add(damaged);
        if is_last {
            (self.out.tail, self.out.appendable) = (end.tail, true);
        } else if let Tail::Short(at) | Tail::Unknown { at, .. } = end.tail {
            // The next volume exists, so this one was whole: this is damage.
            self.out.damaged += 1;
            held.damage.push((at, 1));
            chain.previous = None;
        }
        (held.length, held.end, self.out.holdings.chain) = (length, chain.clone(), chain);
        self.out.holdings.volumes.insert(number, held);
        Ok(())
    }

    /// Reads the bodies of the last batch: only they may be torn under a
    /// header that is whole. Where an older copy is whole, it counts.
    fn verify_last_batch(&mut self) -> io::Result<()> {
        let Holdings { index, volumes, .. } = &mut self.out.holdings;
        let last = volumes.values().next_back().filter(|_| self.out.appendable);
        let Some((last, from)) = last.and_then(|last| Some((last, last.last_batch?))) else {
            return Ok(());
        };
        let mut torn = BTreeMap::new();
        for at in index.in_volume(last.volume.number, from) {
            if scan::read_body(&last.volume.file, at.offset, &at.entry)?.is_none() {
                torn.insert(at.entry.id, at);
            }
        }
        for at in torn.values() {
            index.mark_damaged(at);
        }
        let dead = torn.keys().flat_map(|id| index.dead().range((*id, 0)..=(*id, u32::MAX)));
        let with_copies: BTreeSet<u32> = dead.map(|(_, volume)| *volume).collect();
        for held in with_copies.iter().filter_map(|number| volumes.get(number)) {
            older_copies(held, &mut torn, &mut self.out.torn)?;
        }
        self.out.damaged += u64::try_from(torn.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// Looks in one volume for whole copies of torn records, and takes those that
/// it finds from `torn` to `found`.
fn older_copies(
    held: &HeldVolume,
    torn: &mut BTreeMap<RecordId, Location>,
    found: &mut Vec<Torn>,
) -> io::Result<()> {
    let (mut chain, mut copies) = (Chain { next: 0, previous: None }, Vec::new());
    scan::scan_volume(&held.volume, FIRST_BATCH, held.length, &mut chain, &mut |met| {
        if let Found::Record(older) = met
            && torn.get(&older.entry.id).is_some_and(|at| at.entry.digest == older.entry.digest)
        {
            copies.push(older);
        }
    })?;
    for older in copies {
        if let Some(record) = scan::read_body(&held.volume.file, older.offset, &older.entry)?
            && let Some(at) = torn.remove(&older.entry.id)
        {
            found.push(Torn { at, older, record });
        }
    }
    Ok(())
}

/// Whether a volume holds, where the checkpoint says so, the very batch with
/// which the checkpoint ends.
fn ends_with(volume: &Volume, covered: &CoveredVolume) -> io::Result<bool> {
    let Some(at) = covered.last_batch else { return Ok(true) };
    let header = scan::read_header(volume, at, covered.length)?;
    Ok(header.is_some_and(|(header, digest)| {
        let chained = covered.end.previous.is_none_or(|previous| previous == digest);
        chained && covered.end.next > header.sequence
    }))
}

/// What the writer goes on with: the volume to append to; a new one is made
/// if there is none.
pub(crate) type Current = Option<HeldVolume>;

/// Opens the directory of `site` for reading and writing.
pub(crate) fn open(
    dir: &SiteDir,
    site: SiteId,
    lock: SiteLock,
    disk: &Arc<dyn Disk>,
) -> Result<(Opened, Current), OpenSiteError> {
    let slots = SlotStore::new(dir.slots(), disk.clone());
    let swept = sweep(dir, disk.as_ref())?;
    let (epochs, findings) =
        Epochs::open(dir.epochs(), disk.clone()).map_err(OpenSiteError::at(&dir.epochs()))?;
    let mut recovered = scan_site(dir, site, disk.as_ref(), false, From::Checkpoint)?;
    recovered.damaged += u64::try_from(findings.len()).unwrap_or(u64::MAX);
    // A tail that can be neither kept aside nor cut closes the site for
    // writing only: what it holds can still be read.
    let settled = settle_tail(&mut recovered, &dir.quarantine(), disk.as_ref());
    let removed = remove_retired(&recovered.leftovers, &dir.volumes(), disk.as_ref());
    let volumes = &recovered.holdings.volumes;
    let current = volumes.values().next_back().filter(|_| recovered.appendable).cloned();
    let opened = Opened {
        site,
        dir: dir.clone(),
        slots,
        epochs,
        holdings: recovered.holdings,
        read_only: swept.is_err() || settled.is_err() || removed.is_err() || !recovered.synced,
        damaged: recovered.damaged,
        findings: recovered.findings,
        scanned_bytes: recovered.scanned_bytes,
        torn: recovered.torn,
        lock: Some(lock),
    };
    Ok((opened, current))
}

/// Removes files whose making a crash ended. The inner result says whether
/// they are gone: nobody reads them, so where they stay the disk takes no
/// changes, but what the site holds can still be read.
fn sweep(dir: &SiteDir, disk: &dyn Disk) -> Result<io::Result<()>, OpenSiteError> {
    let mut places = vec![dir.root(), dir.volumes(), dir.slots()];
    places.extend(Some(dir.epochs()).filter(|epochs| epochs.exists()));
    let mut unfinished = Vec::new();
    for place in places {
        unfinished.extend(disk::leftovers(&place).map_err(OpenSiteError::at(&place))?);
    }
    Ok(unfinished.iter().try_for_each(|path| disk.remove(path)))
}

/// Removes volumes that the ledger names: their records were copied and
/// fsynced before it named them.
fn remove_retired(leftovers: &[PathBuf], volumes_dir: &Path, disk: &dyn Disk) -> io::Result<()> {
    if leftovers.is_empty() {
        return Ok(());
    }
    leftovers.iter().try_for_each(|path| disk.remove(path))?;
    disk.sync_dir(volumes_dir)
}

/// Cuts a torn tail, after a copy of it is safe in quarantine; or leaves it
/// and starts a new volume, where records in it proved themselves.
fn settle_tail(recovered: &mut Recovered, quarantine: &Path, disk: &dyn Disk) -> io::Result<()> {
    let Holdings { volumes, chain, .. } = &mut recovered.holdings;
    let Some(last) = volumes.values_mut().next_back().filter(|_| recovered.appendable) else {
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
        Tail::Unknown { at, .. } => {
            recovered.damaged += 1;
            recovered.appendable = false;
            chain.previous = None;
            last.end.previous = None;
            last.damage.push((at, 1));
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
