//! Group commit: one writer takes whatever is queued, writes it as one batch,
//! fsyncs once, enters it into the index, and only then answers everybody.
//! The next batch starts after that.

use std::io::{self, IoSlice};
use std::sync::Arc;

use coffer_model::Entropy;
use coffer_regions::SiteError;
use tokio::sync::{mpsc, oneshot};

use crate::batch::{BatchHeader, ENTRY_BYTES, Entry, HEADER_BYTES, chain_digest, table_digest};
use crate::disk::{self, is_full};
use crate::group::{Group, Request};
use crate::holdings::HeldVolume;
use crate::index::Location;
use crate::recover::{Current, Torn};
use crate::scan::Chain;
use crate::shared::Shared;
use crate::volume::{FIRST_BATCH, Volume, file_name};

/// The only writer of a site's volumes.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    entropy: Arc<dyn Entropy>,
    current: Option<HeldVolume>,
    /// How far blocks are reserved in the current volume.
    reserved_to: u64,
    chain: Chain,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, entropy: Arc<dyn Entropy>, current: Current) -> Self {
        let chain = shared.holdings().chain.clone();
        let mut writer = Self { shared, entropy, current: None, reserved_to: 0, chain };
        writer.set_current(current);
        writer
    }

    /// Writes records anew that a crash tore in the last batch, from their
    /// older copies. As long as it is the last batch, an opening finds them
    /// torn; so where they cannot be written, nothing else is.
    pub(crate) fn heal(&mut self, torn: Vec<Torn>) {
        if torn.is_empty() {
            return;
        }
        let (reply, mut healed) = oneshot::channel();
        let older: Vec<Location> = torn.iter().map(|torn| torn.older).collect();
        let records = torn.into_iter().map(|torn| (torn.at, torn.record)).collect();
        self.serve(Request::Copy { records, reply }, || None);
        if !matches!(healed.try_recv(), Ok(Ok(_))) {
            self.shared.close_for_writing();
            let mut holdings = self.shared.holdings_mut();
            older.into_iter().for_each(|older| holdings.index.insert(older));
        }
    }

    /// Serves the queue until all its senders are gone.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut carried = None;
        while let Some(first) = carried.take().or_else(|| queue.blocking_recv()) {
            carried = self.serve(first, || queue.try_recv().ok());
        }
        self.give_back_reserved();
    }

    /// Writes one batch: `first`, and of `more` what fits. Returns what was
    /// taken and does not fit.
    pub(crate) fn serve(
        &mut self,
        first: Request,
        mut more: impl FnMut() -> Option<Request>,
    ) -> Option<Request> {
        match first {
            Request::Seal { reply } => {
                self.seal();
                drop(reply.send(Ok(())));
                return None;
            }
            Request::Raise { fence, reply } => {
                drop(reply.send(self.shared.admit(&mut self.shared.epochs(), Some(fence))));
                return None;
            }
            Request::Retire { number, reply } => {
                drop(reply.send(self.retire(number)));
                return None;
            }
            _ => {}
        }
        let mut group = Group::default();
        group.stage(&self.shared, first);
        let mut carried = None;
        while let Some(request) = more() {
            if !group.has_room_for(&request) {
                carried = Some(request);
                break;
            }
            group.stage(&self.shared, request);
        }
        self.commit(group);
        carried
    }

    fn commit(&mut self, mut group: Group) {
        let outcome = if self.shared.is_read_only() {
            Err(SiteError::ReadOnly)
        } else if group.entries.is_empty() {
            Ok(())
        } else {
            self.write(&group)
        };
        let written = if outcome.is_ok() { group.extent() } else { 0 };
        self.shared.pulse.beat(group.foreground, written);
        group.answer(&outcome);
    }

    fn write(&mut self, group: &Group) -> Result<(), SiteError> {
        let mut held = self.volume_for(group)?;
        let at = held.length;
        let (head, header) = self.encode(group, &held.volume, at).ok_or(SiteError::OverLimit)?;
        self.reserve(&held, header.extent());
        let mut parts = Vec::with_capacity(1 + group.bodies.len());
        parts.push(IoSlice::new(&head));
        parts.extend(group.bodies.iter().map(|body| IoSlice::new(body)));
        let file = &held.volume.file;
        if let Err(error) = self.shared.disk.write(file, &mut parts, at) {
            return Err(self.append_failed(&held, &error));
        }
        if self.shared.disk.sync_data(file).is_err() {
            // What the kernel did with the pages is unknown; a second fsync
            // that succeeds would prove nothing.
            self.shared.close_for_writing();
            return Err(SiteError::ReadOnly);
        }
        let bodies = at + HEADER_BYTES as u64 + header.table_bytes();
        self.chain = Chain { next: header.sequence + 1, previous: Some(chain_of(&head)) };
        held.length += header.extent();
        (held.end, held.last_batch) = (self.chain.clone(), Some(at));
        self.enter(group, &held, bodies);
        // After it is entered: a checkpoint taken in between must not count as
        // covered what it does not hold.
        self.shared.count_batch(header.extent());
        self.current = Some(held);
        Ok(())
    }

    /// The bytes before the bodies, and the header as a value.
    fn encode(&self, group: &Group, volume: &Volume, at: u64) -> Option<(Vec<u8>, BatchHeader)> {
        let mut head = vec![0; HEADER_BYTES];
        head.reserve(group.entries.len() * ENTRY_BYTES);
        group.entries.iter().for_each(|entry| entry.encode(&mut head));
        let header = BatchHeader {
            sequence: self.chain.next,
            previous: self.chain.previous.unwrap_or([0; 32]),
            entries: u32::try_from(group.entries.len()).ok()?,
            body_bytes: group.body_bytes,
            table_digest: table_digest(&volume.key, self.chain.next, &head[HEADER_BYTES..]),
        };
        head[..HEADER_BYTES].copy_from_slice(&header.encode(&volume.key, at));
        Some((head, header))
    }

    /// Makes the batch visible, in the order of its entries, at once.
    fn enter(&self, group: &Group, held: &HeldVolume, mut offset: u64) {
        let volume = held.volume.number;
        let mut holdings = self.shared.holdings_mut();
        for entry in &group.entries {
            match entry {
                Entry::Record(entry) => {
                    holdings.index.insert(Location { volume, offset, entry: *entry, damaged: false });
                }
                Entry::Removal(id) => holdings.index.remove(*id, volume),
            }
            offset += u64::from(entry.body_bytes());
        }
        holdings.volumes.insert(volume, held.clone());
        holdings.advance(&self.chain);
    }

    /// The volume that takes the batch: the current one, or a new one where
    /// that is full. A new volume proves that its predecessor was fsynced.
    fn volume_for(&mut self, group: &Group) -> Result<HeldVolume, SiteError> {
        let bound = self.shared.space.volume_bytes;
        let room = |held: &HeldVolume| held.length <= FIRST_BATCH || held.length + group.body_bytes <= bound;
        if let Some(held) = self.current.as_ref().filter(|held| room(held)) {
            return Ok(held.clone());
        }
        self.seal();
        let (dir, site) = (self.shared.dir.volumes(), self.shared.site);
        let number = self.shared.holdings().next_number();
        let disk = self.shared.disk.as_ref();
        let created = Volume::create(disk, &dir, site, number, self.entropy.as_ref());
        let volume = created.map_err(|error| self.refuse(&error))?;
        let (start, end) = (self.chain.clone(), self.chain.clone());
        let held =
            HeldVolume { volume, length: FIRST_BATCH, start, end, last_batch: None, damage: Vec::new() };
        self.shared.holdings_mut().volumes.insert(number, held.clone());
        self.set_current(Some(held.clone()));
        Ok(held)
    }

    fn set_current(&mut self, current: Option<HeldVolume>) {
        self.shared.holdings_mut().current = current.as_ref().map(|held| held.volume.number);
        (self.current, self.reserved_to) = (current, 0);
    }

    /// Reserves blocks for the batch and for those after it. Best effort: the
    /// write itself says whether there is room. The length of the file stays.
    fn reserve(&mut self, held: &HeldVolume, extent: u64) {
        let end = held.length + extent;
        if end <= self.reserved_to {
            return;
        }
        // Also where it fails, it is not tried again for each batch.
        self.reserved_to = end;
        if let Some(step) = self.shared.preallocation() {
            self.reserved_to = end.saturating_add(step);
            let bytes = self.reserved_to - held.length;
            let _ = self.shared.disk.reserve(&held.volume.file, held.length, bytes);
        }
    }

    /// Gives back blocks that were reserved behind the end of the volume.
    pub(crate) fn give_back_reserved(&mut self) {
        if let Some(held) = self.current.as_ref().filter(|held| self.reserved_to > held.length)
            && !self.shared.is_read_only()
        {
            let _ = self.shared.disk.cut(&held.volume.file, held.length);
        }
        self.reserved_to = 0;
    }

    /// The current volume takes no further batch.
    fn seal(&mut self) {
        self.give_back_reserved();
        self.set_current(None);
    }

    /// Removes a volume that holds no record and guards nothing, after the
    /// ledger says so. Its records were copied and fsynced before.
    fn retire(&mut self, number: u32) -> Result<bool, SiteError> {
        if self.shared.is_read_only() {
            return Err(SiteError::ReadOnly);
        }
        let (ledger, is_first) = {
            let holdings = self.shared.holdings();
            let empty = holdings.index.tally(number).living == 0;
            match holdings.volumes.get(&number) {
                Some(held) if empty && held.damage.is_empty() && holdings.current != Some(number) => {
                    let ledger = holdings.retired.with(number, held.start.clone(), held.end.clone());
                    (ledger, holdings.retired.is_empty())
                }
                _ => return Ok(false),
            }
        };
        let bytes = ledger.encode(self.shared.site).ok_or(SiteError::OverLimit)?;
        let (disk, dir) = (self.shared.disk.as_ref(), &self.shared.dir);
        if is_first {
            dir.raise_format(self.shared.site, disk).map_err(|error| self.refuse(&error))?;
        }
        let written = disk::create_file(disk, &dir.retired(), &bytes);
        written.map_err(|error| self.refuse(&error))?;
        let volumes = dir.volumes();
        // Until the name is gone for certain, what it holds may come back.
        let removed = disk.remove(&volumes.join(file_name(number))).and_then(|()| disk.sync_dir(&volumes));
        removed.map_err(|_| self.closed())?;
        let mut holdings = self.shared.holdings_mut();
        holdings.volumes.remove(&number);
        holdings.index.forget_volume(number);
        holdings.retired = ledger;
        Ok(true)
    }

    /// A batch was written in part, or not at all, and not fsynced. Where
    /// only room was lacking, it is cut away and the site goes on.
    fn append_failed(&mut self, held: &HeldVolume, error: &io::Error) -> SiteError {
        let (disk, file) = (self.shared.disk.as_ref(), &held.volume.file);
        let cut = || disk.cut(file, held.length).and_then(|()| disk.sync_all(file));
        if is_full(error) && cut().is_err() {
            return self.closed();
        }
        self.reserved_to = 0;
        self.refuse(error)
    }

    fn refuse(&self, error: &io::Error) -> SiteError {
        if is_full(error) { SiteError::Full } else { self.closed() }
    }

    fn closed(&self) -> SiteError {
        self.shared.close_for_writing();
        SiteError::ReadOnly
    }
}

fn chain_of(head: &[u8]) -> [u8; 32] {
    chain_digest(&crate::batch::field(head, 0))
}
