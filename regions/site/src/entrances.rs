//! Where bytes from outside come in: every parser of the wire, of
//! certificates, of buckets and of the disk under one name each, so that a kept corpus and
//! a fuzz target send the same nonsense through the same doors.

mod disk;

use bytes::Bytes;
use coffer_model::{RecordId, SlotId};
use coffer_proto::site::v1;
use coffer_regions::{Record, RecordKind};
use prost::Message;

use crate::bucket::parse_bucket_head;
use crate::bucket::parse_bucket_slot;
use crate::identity::SiteIdentity;
use crate::parts::Assembly;
use crate::wire;

/// Takes bytes; whether they were accepted. Never panics, whatever comes.
pub type Entrance = fn(&[u8]) -> bool;

/// Every entrance with its name, which is also that of its corpus.
pub const ENTRANCES: [(&str, Entrance); 13] = [
    ("put", put),
    ("record", record),
    ("listing", listing),
    ("scrub-step", scrub_step),
    ("state", state),
    ("certificate", certificate),
    ("bucket-head", bucket_head),
    ("bucket-slot", bucket_slot),
    ("volume", disk::volume),
    ("batch", disk::batch),
    ("checkpoint", disk::checkpoint),
    ("retired", disk::retired),
    ("slot", disk::slot),
];

/// A stream of length-delimited `PutRequest`s, as the daemon takes it.
fn put(mut bytes: &[u8]) -> bool {
    let mut assembly: Option<Assembly> = None;
    while !bytes.is_empty() {
        let Ok(message) = v1::PutRequest::decode_length_delimited(&mut bytes) else { return false };
        if let Some(header) = message.header {
            let records = usize::try_from(header.records).unwrap_or(usize::MAX).min(4096);
            assembly = Some(Assembly::of(records, header.body_bytes.min(64 << 20)));
        }
        let Some(assembly) = assembly.as_mut() else { return false };
        if message.parts.into_iter().any(|part| assembly.take(part).is_err()) {
            return false;
        }
    }
    assembly.is_some_and(|assembly| assembly.finish().is_ok())
}

/// The parts of one record, as the adapter takes them.
fn record(mut bytes: &[u8]) -> bool {
    let mut assembly = Assembly::of(1, Record::BODY_BYTES_MAX as u64);
    while !bytes.is_empty() {
        let Ok(message) = v1::GetResponse::decode_length_delimited(&mut bytes) else { return false };
        if message.part.is_none_or(|part| assembly.take(part).is_err()) {
            return false;
        }
    }
    assembly.finish().is_ok()
}

fn listing(bytes: &[u8]) -> bool {
    v1::ListResponse::decode(bytes)
        .is_ok_and(|answer| answer.records.iter().all(|line| wire::listed(RecordKind::Shard, line).is_ok()))
}

fn scrub_step(bytes: &[u8]) -> bool {
    v1::ScrubStepResponse::decode(bytes).is_ok_and(|answer| wire::scrub_step(answer).is_ok())
}

fn state(bytes: &[u8]) -> bool {
    v1::StateResponse::decode(bytes).is_ok_and(|answer| wire::state(answer).is_ok())
}

/// A certificate, DER, or the URI in one.
fn certificate(bytes: &[u8]) -> bool {
    let uri = str::from_utf8(bytes).is_ok_and(|uri| uri.trim_end().parse::<SiteIdentity>().is_ok());
    SiteIdentity::of_certificate(bytes).is_ok() || uri
}

/// The object of a record, as a bucket gives it; its id is what its head says.
fn bucket_head(bytes: &[u8]) -> bool {
    let id: [u8; 16] = crate::batch::field(bytes, 20);
    parse_bucket_head(bytes, RecordId::from_bytes(id))
}

fn bucket_slot(bytes: &[u8]) -> bool {
    parse_bucket_slot(&Bytes::copy_from_slice(bytes), SlotId::from_bytes([0; 16]))
}
