//! Between the port's types and the messages of `coffer.site.v1`: every value
//! from the other side passes here once, bounded, on either side.

use coffer_model::{Digest, RecordId};
use coffer_proto::site::v1;
use coffer_proto::{InvalidMessage, digest, id};
use coffer_regions::{
    ClearGeometry, Fence, ListedRecord, Reach, Record, RecordKind, ScrubCursor, ScrubFinding, ScrubStep,
    SiteError, SiteState, SlotListing,
};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

/// Lines of one answer, and ids of one request.
pub(crate) const LINES_MAX: usize = 4096;
/// Bytes of bodies that one step of a scrub may read.
pub(crate) const SCRUB_BYTES_MAX: u64 = 64 << 20;
/// The longest place of a finding, in bytes.
const PLACE_BYTES_MAX: usize = 1024;

/// The metadata key of the highest incarnation that a caller knows.
pub(crate) const INCARNATION_KEY: &str = "coffer-pod-incarnation";

/// The metadata key that carries an error of the store.
const ERROR_KEY: &str = "coffer-site-error";

/// What a record's header says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: RecordKind,
    pub(crate) id: RecordId,
    pub(crate) geometry: ClearGeometry,
    pub(crate) digest: Digest,
    pub(crate) body_bytes: usize,
}

pub(crate) fn kind(byte: u32) -> Result<RecordKind, InvalidMessage> {
    let known = u8::try_from(byte).ok().and_then(RecordKind::from_byte);
    known.ok_or(InvalidMessage::OverLimit("kind"))
}

pub(crate) fn header(message: &v1::RecordHeader) -> Result<Header, InvalidMessage> {
    let small = |value| u8::try_from(value).map_err(|_| InvalidMessage::OverLimit("geometry"));
    let body_bytes = usize::try_from(message.body_bytes).unwrap_or(usize::MAX);
    if body_bytes > Record::BODY_BYTES_MAX {
        return Err(InvalidMessage::OverLimit("body_bytes"));
    }
    Ok(Header {
        kind: kind(message.kind)?,
        id: id("id", &message.id)?,
        geometry: ClearGeometry { k: small(message.k)?, m: small(message.m)?, index: small(message.index)? },
        digest: digest("digest", &message.digest)?,
        body_bytes,
    })
}

pub(crate) fn header_message(record: &Record) -> v1::RecordHeader {
    let geometry = record.geometry();
    v1::RecordHeader {
        id: record.id().as_bytes().to_vec().into(),
        kind: record.kind().byte().into(),
        k: geometry.k.into(),
        m: geometry.m.into(),
        index: geometry.index.into(),
        digest: record.digest().0.to_vec().into(),
        // A record is never longer than 16 MiB.
        body_bytes: u32::try_from(record.body().len()).unwrap_or(u32::MAX),
    }
}

/// 32 bytes that are no digest: a nonce, the key of a challenge.
pub(crate) fn thirty_two(field: &'static str, bytes: &[u8]) -> Result<[u8; 32], InvalidMessage> {
    bytes.try_into().map_err(|_| InvalidMessage::Digest(field))
}

/// An id that may be absent.
pub(crate) fn optional_id<T: for<'a> TryFrom<&'a [u8]>>(
    field: &'static str,
    bytes: &[u8],
) -> Result<Option<T>, InvalidMessage> {
    if bytes.is_empty() { Ok(None) } else { id(field, bytes).map(Some) }
}

pub(crate) fn limit(asked: u32) -> Result<usize, InvalidMessage> {
    let limit = usize::try_from(asked).unwrap_or(usize::MAX);
    if limit <= LINES_MAX { Ok(limit) } else { Err(InvalidMessage::OverLimit("limit")) }
}

pub(crate) fn fence(message: Option<&v1::Fence>) -> Result<Option<Fence>, InvalidMessage> {
    let Some(fence) = message else { return Ok(None) };
    let scope = id("scope", &fence.scope)?;
    if fence.epoch == 0 {
        Err(InvalidMessage::OverLimit("epoch"))
    } else {
        Ok(Some(Fence { scope, epoch: fence.epoch }))
    }
}

pub(crate) fn fence_message(fence: Option<Fence>) -> Option<v1::Fence> {
    fence.map(|fence| v1::Fence { scope: fence.scope.as_bytes().to_vec().into(), epoch: fence.epoch })
}

pub(crate) fn cursor(bytes: &[u8]) -> Result<Option<ScrubCursor>, InvalidMessage> {
    if bytes.is_empty() {
        return Ok(None);
    }
    bytes.try_into().map(|bytes| Some(ScrubCursor(bytes))).map_err(|_| InvalidMessage::Id("cursor"))
}

pub(crate) fn reach(message: Option<v1::Reach>) -> Result<Option<Reach>, InvalidMessage> {
    message
        .map(|reach| Ok(Reach { sequence: reach.sequence, digest: digest("reach", &reach.digest)? }))
        .transpose()
}

pub(crate) fn reach_message(reach: Option<Reach>) -> Option<v1::Reach> {
    reach.map(|reach| v1::Reach { sequence: reach.sequence, digest: reach.digest.0.to_vec().into() })
}

pub(crate) fn listed(kind: RecordKind, line: &v1::ListedRecord) -> Result<ListedRecord, InvalidMessage> {
    Ok(ListedRecord {
        id: id("id", &line.id)?,
        kind,
        body_bytes: line.body_bytes,
        digest: digest("digest", &line.digest)?,
    })
}

pub(crate) fn listed_message(line: &ListedRecord) -> v1::ListedRecord {
    v1::ListedRecord {
        id: line.id.as_bytes().to_vec().into(),
        body_bytes: line.body_bytes,
        digest: line.digest.0.to_vec().into(),
    }
}

pub(crate) fn slot_listing(line: &v1::SlotListing) -> Result<SlotListing, InvalidMessage> {
    Ok(SlotListing { slot: id("slot", &line.slot)?, generation: line.generation })
}

pub(crate) fn scrub_step(message: v1::ScrubStepResponse) -> Result<ScrubStep, InvalidMessage> {
    let finding = |finding: v1::ScrubFinding| {
        if finding.place.len() > PLACE_BYTES_MAX {
            return Err(InvalidMessage::OverLimit("place"));
        }
        Ok(ScrubFinding { record: optional_id("record", &finding.record)?, place: finding.place })
    };
    Ok(ScrubStep {
        findings: message.findings.into_iter().map(finding).collect::<Result<_, _>>()?,
        records: message.records,
        bytes: message.bytes,
        next: cursor(&message.next)?,
    })
}

pub(crate) fn scrub_step_message(step: ScrubStep) -> v1::ScrubStepResponse {
    let finding = |finding: ScrubFinding| v1::ScrubFinding {
        record: finding.record.map(|id| id.as_bytes().to_vec()).unwrap_or_default().into(),
        place: finding.place,
    };
    v1::ScrubStepResponse {
        findings: step.findings.into_iter().map(finding).collect(),
        records: step.records,
        bytes: step.bytes,
        next: step.next.map(|cursor| cursor.0.to_vec()).unwrap_or_default().into(),
    }
}

pub(crate) fn state(message: v1::StateResponse) -> Result<SiteState, InvalidMessage> {
    Ok(SiteState {
        alive: true,
        records: message.records,
        volume_bytes: message.volume_bytes,
        damaged: message.damaged,
        dead_bytes: message.dead_bytes,
        free_bytes: message.free_bytes,
        read_only: message.read_only,
        reach: reach(message.reach)?,
    })
}

pub(crate) fn state_message(state: &SiteState) -> v1::StateResponse {
    v1::StateResponse {
        records: state.records,
        volume_bytes: state.volume_bytes,
        damaged: state.damaged,
        dead_bytes: state.dead_bytes,
        free_bytes: state.free_bytes,
        read_only: state.read_only,
        reach: reach_message(state.reach),
        incarnation: None,
        refused: None,
    }
}

/// The names of the store's errors on the wire.
const ERRORS: [(SiteError, &str, Code); 10] = [
    (SiteError::Missing, "missing", Code::NotFound),
    (SiteError::Damaged, "damaged", Code::DataLoss),
    (SiteError::Conflict, "conflict", Code::AlreadyExists),
    (SiteError::Full, "full", Code::ResourceExhausted),
    (SiteError::ReadOnly, "read-only", Code::FailedPrecondition),
    (SiteError::OverLimit, "over-limit", Code::OutOfRange),
    (SiteError::Unreachable, "disk", Code::Unavailable),
    (SiteError::Untrusted, "untrusted", Code::Internal),
    (SiteError::Superseded, "superseded", Code::FailedPrecondition),
    (SiteError::NoLease, "no-lease", Code::FailedPrecondition),
];

/// An error of the store, for the caller.
pub(crate) fn status(error: &SiteError) -> Status {
    let Some((_, name, code)) = ERRORS.iter().find(|(known, ..)| known == error) else {
        return Status::unknown(error.to_string());
    };
    let mut metadata = MetadataMap::new();
    metadata.insert(ERROR_KEY, tonic::metadata::MetadataValue::from_static(name));
    Status::with_metadata(*code, error.to_string(), metadata)
}

/// The error of the store that a status carries; `None` where the call
/// failed on the way.
pub(crate) fn store_error(status: &Status) -> Option<SiteError> {
    let name = status.metadata().get(ERROR_KEY)?.to_str().ok()?;
    ERRORS.iter().find(|(_, known, _)| *known == name).map(|(error, ..)| error.clone())
}

/// A request that breaks a stated limit or has no meaning.
pub(crate) fn refused(error: &InvalidMessage) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_store_arrives_as_itself() {
        for (error, ..) in ERRORS {
            assert_eq!(store_error(&status(&error)), Some(error));
        }
        assert_eq!(store_error(&Status::unavailable("transport")), None);
    }

    #[test]
    fn headers_that_break_a_limit_are_refused() {
        let record =
            Record::new(RecordKind::Log, RecordId::from_bytes([1; 16]), ClearGeometry::default(), "b".into())
                .unwrap();
        let good = header_message(&record);
        assert_eq!(header(&good).unwrap().digest, record.digest());
        let bad = [
            v1::RecordHeader { kind: 0, ..good.clone() },
            v1::RecordHeader { kind: 257, ..good.clone() },
            v1::RecordHeader { k: 256, ..good.clone() },
            v1::RecordHeader { body_bytes: (16 << 20) + 1, ..good.clone() },
            v1::RecordHeader { id: vec![1; 15].into(), ..good.clone() },
            v1::RecordHeader { digest: vec![1; 33].into(), ..good },
        ];
        for message in bad {
            assert!(header(&message).is_err(), "{message:?}");
        }
    }
}
