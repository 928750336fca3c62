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
    /// Verifies records from a place of the disk on, oldest first; and after
    /// the last of them the framing of the volumes.
    pub(crate) fn scrub_step(
        &self,
        from: Option<ScrubCursor>,
        bytes_max: u64,
    ) -> Result<ScrubStep, SiteError> {
        match from.map_or(ScrubPlace::START, ScrubPlace::of) {
            ScrubPlace { part: Part::Bodies, volume, offset } => self.scrub_bodies(volume, offset, bytes_max),
            ScrubPlace { part: Part::Framing, volume, offset } => {
                self.scrub_framing(volume, offset, bytes_max)
            }
        }
    }

    fn scrub_bodies(&self, volume: u32, offset: u64, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        let mut from = Bound::Included((volume, offset, RecordId::from_bytes([0; 16])));
        let (mut step, mut before) = (ScrubStep::default(), None);
        loop {
            let some: Vec<Location> = self.holdings().index.by_place(from).take(LOOK_RECORDS).collect();
            let Some(last) = some.last() else {
                step.next = self.first_framing();
                return Ok(step);
            };
            from = Bound::Excluded((last.volume, last.offset, last.entry.id));
            for at in &some {
                let here = (at.volume, at.offset);
                // Records without a body share a place; they stay together.
                let goes_on = before.is_some_and(|before| before != here);
                if goes_on && step.bytes >= bytes_max {
                    step.next = Some(ScrubPlace::body(at).cursor());
                    return Ok(step);
                }
                match self.scrub_record(at, &mut step) {
                    Ok(()) => before = Some(here),
                    // What could not be read was not verified: the next step begins with it.
                    Err(_) if goes_on => {
                        step.next = Some(ScrubPlace::body(at).cursor());
                        return Ok(step);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Verifies one record. An error says that it could not be read, and
    /// nothing of its bytes.
    fn scrub_record(&self, at: &Location, step: &mut ScrubStep) -> Result<(), SiteError> {
        match self.read_at(at) {
            // A record that was removed, replaced or moved meanwhile is no finding.
            Ok(_) | Err(SiteError::Missing) => {}
            Err(SiteError::Damaged) => {
                if self.holdings().index.get(at.entry.id).is_some_and(|now| now.is_place_of(at)) {
                    let place = place(at.volume, at.offset);
                    step.findings.push(ScrubFinding { record: Some(at.entry.id), place });
                }
            }
            Err(error) => return Err(error),
        }
        step.records += 1;
        step.bytes += u64::from(at.entry.body_bytes);
        Ok(())
    }

    /// Where the framing begins, if there is any.
    fn first_framing(&self) -> Option<ScrubCursor> {
        let holdings = self.holdings();
        let first = holdings.volumes.keys().next()?;
        Some(ScrubPlace { part: Part::Framing, volume: *first, offset: 0 }.cursor())
    }

    /// Verifies the framing of one volume from a batch on, or of the next one
    /// where that volume is gone. A medium that gives no bytes is damage.
    fn scrub_framing(&self, volume: u32, offset: u64, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        let (held, following) = {
            let holdings = self.holdings();
            let mut rest = holdings.volumes.range(volume..);
            (rest.next().map(|(_, held)| held.clone()), rest.next().map(|(number, _)| *number))
        };
        let mut step = ScrubStep::default();
        let Some(held) = held else { return Ok(step) };
        let number = held.volume.number;
        let offset = if number == volume { offset } else { 0 };
        let mut chain = if offset == 0 { held.start.clone() } else { Chain { next: 0, previous: None } };
        let read = scan_framing(&held, offset, bytes_max, &mut chain, &mut step.findings);
        let goes_on = match read {
            Ok(end) => {
                step.bytes = end.framing;
                end.next.map(|offset| (number, offset))
            }
            Err(error) if scan::of_the_medium(&error) => {
                step.findings.push(ScrubFinding { record: None, place: place(number, offset) });
                None
            }
            Err(_) => return Err(SiteError::Unreachable),
        };
        let next = goes_on.or_else(|| following.map(|following| (following, 0)));
        step.next = next.map(|(volume, offset)| ScrubPlace { part: Part::Framing, volume, offset }.cursor());
        Ok(step)
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
            let read = scan_framing(held, 0, u64::MAX, &mut chain, &mut findings);
            read.map_err(|_| SiteError::Unreachable)?;
        }
        Ok(findings)
    }

    /// Reads everything: the framing of every volume, the body of every
    /// record that is not removed, every slot.
    pub(crate) fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        let mut findings = self.check_framing()?;
        // The framing once is enough; here it is held together over all volumes.
        let end = self.first_framing();
        let mut from = None;
        loop {
            let step = self.scrub_step(from, STEP_BYTES)?;
            findings.extend(step.findings);
            from = step.next;
            if from.is_none() || from >= end {
                break;
            }
        }
        findings.extend(self.slots().scrub());
        findings.extend(self.epochs().scrub());
        Ok(findings)
    }
}

/// What of the volumes a step reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Bodies,
    Framing,
}

/// Where a step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ScrubPlace {
    part: Part,
    volume: u32,
    offset: u64,
}

impl ScrubPlace {
    const START: Self = Self { part: Part::Bodies, volume: 0, offset: 0 };

    fn body(at: &Location) -> Self {
        Self { part: Part::Bodies, volume: at.volume, offset: at.offset }
    }

    /// A cursor is 0 for bodies and 1 for framing, the volume, the offset,
    /// big-endian: cursors have the order in which a pass reads.
    fn cursor(self) -> ScrubCursor {
        let mut bytes = [0; 16];
        bytes[3] = u8::from(self.part == Part::Framing);
        bytes[4..8].copy_from_slice(&self.volume.to_be_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_be_bytes());
        ScrubCursor(bytes)
    }

    fn of(cursor: ScrubCursor) -> Self {
        Self {
            part: if cursor.0[..4] == [0; 4] { Part::Bodies } else { Part::Framing },
            volume: u32::from_be_bytes(crate::batch::field(&cursor.0, 4)),
            offset: u64::from_be_bytes(crate::batch::field(&cursor.0, 8)),
        }
    }
}

/// Adds the damage in the headers and tables of one volume to `findings`, from
/// the batch at `offset` on (0: from its own header), about so many bytes.
fn scan_framing(
    held: &HeldVolume,
    offset: u64,
    bytes_max: u64,
    chain: &mut Chain,
    findings: &mut Vec<ScrubFinding>,
) -> io::Result<scan::VolumeEnd> {
    let volume = &held.volume;
    if offset == 0 && !matches!(crate::volume::read_header(&volume.file)?, Ok((_, false))) {
        findings.push(ScrubFinding { record: None, place: place(volume.number, 0) });
    }
    let mut found = |found| {
        if let Found::Damage { volume, offset, .. } = found {
            findings.push(ScrubFinding { record: None, place: place(volume, offset) });
        }
    };
    let range = offset.max(FIRST_BATCH)..held.length;
    let end = scan::scan_some(volume, range, bytes_max, chain, &mut found)?;
    match end.tail {
        scan::Tail::Clean => {}
        scan::Tail::Short(at) | scan::Tail::Unknown { at, .. } => {
            chain.previous = None;
            findings.push(ScrubFinding { record: None, place: place(volume.number, at) });
        }
    }
    Ok(end)
}
