//! Reading everything without a key: the framing of the volumes, the bodies
//! of the records in the order of the disk, the slots.

use std::io;
use std::ops::Bound;

use coffer_model::RecordId;
use coffer_regions::{ScrubCursor, ScrubFinding, ScrubStep, SiteError};

use crate::holdings::HeldVolume;
use crate::index::Location;
use crate::scan::{self, Chain, Found};
use crate::shared::Shared;
use crate::volume::{FIRST_BATCH, place};

/// Records of which a step asks the index at a time.
const LOOK_RECORDS: usize = 256;
/// Bytes between two looks of a whole scrub at the index.
const STEP_BYTES: u64 = 8 << 20;

impl Shared {
    /// Verifies records from a place of the disk on, oldest first.
    pub(crate) fn scrub_step(
        &self,
        from: Option<ScrubCursor>,
        bytes_max: u64,
    ) -> Result<ScrubStep, SiteError> {
        let (volume, offset) = from.map_or((0, 0), scrub_place);
        let mut from = Bound::Included((volume, offset, RecordId::from_bytes([0; 16])));
        let (mut step, mut before) = (ScrubStep::default(), None);
        loop {
            let some: Vec<Location> = self.holdings().index.by_place(from).take(LOOK_RECORDS).collect();
            let Some(last) = some.last() else { return Ok(step) };
            from = Bound::Excluded((last.volume, last.offset, last.entry.id));
            for at in &some {
                let here = (at.volume, at.offset);
                // Records without a body share a place; they stay together.
                if step.records > 0 && step.bytes >= bytes_max && before != Some(here) {
                    step.next = Some(scrub_cursor(at.volume, at.offset));
                    return Ok(step);
                }
                self.scrub_record(at, &mut step);
                before = Some(here);
            }
        }
    }

    fn scrub_record(&self, at: &Location, step: &mut ScrubStep) {
        step.records += 1;
        step.bytes += u64::from(at.entry.body_bytes);
        // A record that was removed, replaced or moved meanwhile is no finding.
        if self.read_at(at) == Err(SiteError::Damaged)
            && self.holdings().index.get(at.entry.id).is_some_and(|now| now.is_place_of(at))
        {
            step.findings
                .push(ScrubFinding { record: Some(at.entry.id), place: place(at.volume, at.offset) });
        }
    }

    /// Reads the headers and tables of every volume.
    pub(crate) fn check_framing(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        let mut findings = self.opening.clone();
        let (volumes, retired, unreadable) = {
            let holdings = self.holdings();
            let volumes: Vec<HeldVolume> = holdings.volumes.values().cloned().collect();
            (volumes, holdings.retired.clone(), holdings.unreadable.clone())
        };
        let (mut chain, mut expected) = (Chain::START, 0);
        for held in &volumes {
            let number = held.volume.number;
            for run in retired.within(expected, number) {
                chain = run.after.clone();
            }
            if unreadable.range(expected..number).next().is_some() {
                chain.previous = None;
            }
            expected = number.saturating_add(1);
            scan_framing(held, &mut chain, &mut findings).map_err(|_| SiteError::Unreachable)?;
        }
        Ok(findings)
    }

    /// Reads everything: the framing of every volume, the body of every
    /// record that is not removed, every slot.
    pub(crate) fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        let mut findings = self.check_framing()?;
        let mut from = None;
        loop {
            let step = self.scrub_step(from, STEP_BYTES)?;
            findings.extend(step.findings);
            from = step.next;
            if from.is_none() {
                break;
            }
        }
        findings.extend(self.slots().scrub());
        findings.extend(self.epochs().scrub());
        Ok(findings)
    }
}

/// A cursor is the place on the disk: volume, then offset, big-endian.
fn scrub_cursor(volume: u32, offset: u64) -> ScrubCursor {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&volume.to_be_bytes());
    bytes[8..].copy_from_slice(&offset.to_be_bytes());
    ScrubCursor(bytes)
}

fn scrub_place(cursor: ScrubCursor) -> (u32, u64) {
    (
        u32::from_be_bytes(crate::batch::field(&cursor.0, 4)),
        u64::from_be_bytes(crate::batch::field(&cursor.0, 8)),
    )
}

/// Adds the damage in the headers and tables of one volume to `findings`.
fn scan_framing(held: &HeldVolume, chain: &mut Chain, findings: &mut Vec<ScrubFinding>) -> io::Result<()> {
    let volume = &held.volume;
    let whole = crate::volume::read_header(&volume.file)?;
    if !matches!(whole, Ok((_, false))) {
        findings.push(ScrubFinding { record: None, place: place(volume.number, 0) });
    }
    let mut found = |found| {
        if let Found::Damage { volume, offset, .. } = found {
            findings.push(ScrubFinding { record: None, place: place(volume, offset) });
        }
    };
    let end = scan::scan_volume(volume, FIRST_BATCH, held.length, chain, &mut found)?;
    match end.tail {
        scan::Tail::Clean => {}
        scan::Tail::Short(at) | scan::Tail::Unknown { at, .. } => {
            chain.previous = None;
            findings.push(ScrubFinding { record: None, place: place(volume.number, at) });
        }
    }
    Ok(())
}
