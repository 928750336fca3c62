//! Records in bounded messages: cut into parts on one side, put together on
//! the other, where each is held against its digest before anybody sees it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use coffer_proto::site::v1::RecordPart;
use coffer_proto::{DATA_BYTES_MAX, InvalidMessage};
use coffer_regions::{Record, RecordError};

use crate::wire::{Header, header, header_message};

/// Parts of one message: with their headers they stay far below its limit.
const PARTS_MAX: usize = 4096;

/// Why parts are no records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PartsError {
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("a part begins a record before the one before it is whole, or goes on with none")]
    Order,
    #[error("a record has more bytes than its header says")]
    Overflow,
    #[error("the records end before all that was announced has come")]
    Cut,
    #[error("more records or bytes than were announced")]
    OverLimit,
}

struct Open {
    header: Header,
    body: BytesMut,
}

/// Records as they arrive.
pub(crate) struct Assembly {
    records_left: usize,
    bytes_left: u64,
    open: Option<Open>,
    whole: Vec<Record>,
}

impl Assembly {
    /// Takes exactly so many records, and so many bytes at the most.
    pub(crate) fn of(records: usize, bytes: u64) -> Self {
        Self { records_left: records, bytes_left: bytes, open: None, whole: Vec::new() }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.records_left == 0 && self.open.is_none()
    }

    pub(crate) fn take(&mut self, part: RecordPart) -> Result<(), PartsError> {
        match (part.header, self.open.take()) {
            (Some(message), None) => self.begin(header(&message)?, part.data),
            (None, Some(open)) => self.go_on(open, &part.data),
            _ => Err(PartsError::Order),
        }
    }

    fn begin(&mut self, header: Header, data: Bytes) -> Result<(), PartsError> {
        let bytes = header.body_bytes as u64;
        self.records_left = self.records_left.checked_sub(1).ok_or(PartsError::OverLimit)?;
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(PartsError::OverLimit)?;
        if data.len() == header.body_bytes {
            return self.end(header, data);
        }
        let open = Open { header, body: BytesMut::with_capacity(header.body_bytes) };
        self.go_on(open, &data)
    }

    fn go_on(&mut self, mut open: Open, data: &[u8]) -> Result<(), PartsError> {
        if data.len() > open.header.body_bytes - open.body.len() {
            return Err(PartsError::Overflow);
        }
        if data.is_empty() {
            // Bytes that never come would hold the place of the record without end.
            return Err(PartsError::Order);
        }
        open.body.extend_from_slice(data);
        if open.body.len() == open.header.body_bytes {
            return self.end(open.header, open.body.freeze());
        }
        self.open = Some(open);
        Ok(())
    }

    fn end(&mut self, header: Header, body: Bytes) -> Result<(), PartsError> {
        let Header { kind, id, geometry, digest, .. } = header;
        self.whole.push(Record::verify(kind, id, geometry, digest, body)?);
        Ok(())
    }

    /// The records, in order, once all have come.
    pub(crate) fn finish(self) -> Result<Vec<Record>, PartsError> {
        if self.is_whole() { Ok(self.whole) } else { Err(PartsError::Cut) }
    }
}

/// Records cut into the parts of one message after another.
pub(crate) struct Parts {
    records: VecDeque<Record>,
    /// Bytes of the first record that were sent.
    sent: usize,
}

impl Parts {
    pub(crate) fn of(records: Vec<Record>) -> Self {
        Self { records: records.into(), sent: 0 }
    }
}

impl Iterator for Parts {
    type Item = Vec<RecordPart>;

    fn next(&mut self) -> Option<Vec<RecordPart>> {
        let (mut parts, mut room) = (Vec::new(), DATA_BYTES_MAX);
        while let Some(record) = self.records.front()
            && parts.len() < PARTS_MAX
        {
            let left = record.body().len() - self.sent;
            let now = left.min(room);
            if now == 0 && left > 0 {
                break;
            }
            let header = (self.sent == 0).then(|| header_message(record));
            parts.push(RecordPart { header, data: record.body().slice(self.sent..self.sent + now) });
            room -= now;
            self.sent += now;
            if now == left {
                self.records.pop_front();
                self.sent = 0;
            }
        }
        if parts.is_empty() { None } else { Some(parts) }
    }
}

#[cfg(test)]
mod tests {
    use coffer_model::RecordId;
    use coffer_regions::{ClearGeometry, RecordKind};
    use proptest::prelude::*;

    use super::*;

    fn record(n: u8, length: usize) -> Record {
        let body = vec![n; length].into();
        Record::new(RecordKind::Shard, RecordId::from_bytes([n; 16]), ClearGeometry::default(), body).unwrap()
    }

    fn assembled(records: &[Record]) -> Vec<Record> {
        let bytes: usize = records.iter().map(|record| record.body().len()).sum();
        let mut assembly = Assembly::of(records.len(), bytes as u64);
        for message in Parts::of(records.to_vec()) {
            let data: usize = message.iter().map(|part| part.data.len()).sum();
            assert!(data <= DATA_BYTES_MAX && message.len() <= PARTS_MAX);
            message.into_iter().for_each(|part| assembly.take(part).unwrap());
        }
        assembly.finish().unwrap()
    }

    #[test]
    fn the_longest_the_empty_and_many_records_come_out_as_they_went_in() {
        let lists = [
            vec![record(1, Record::BODY_BYTES_MAX), record(2, 0), record(3, 1)],
            vec![record(4, DATA_BYTES_MAX), record(5, DATA_BYTES_MAX - 1), record(6, 2)],
            (0..=255).map(|n| record(n, 10)).collect(),
        ];
        for records in lists {
            assert_eq!(assembled(&records), records);
        }
    }

    #[test]
    fn parts_out_of_order_too_long_too_many_or_cut_short_are_refused() {
        let whole: Vec<RecordPart> = Parts::of(vec![record(1, 10)]).flatten().collect();
        let [part] = whole.as_slice() else { panic!("{whole:?}") };
        let half = RecordPart { data: part.data.slice(..5), ..part.clone() };
        let rest = RecordPart { header: None, data: part.data.slice(5..) };
        let take = |records, bytes, parts: &[&RecordPart]| {
            let mut assembly = Assembly::of(records, bytes);
            parts.iter().try_for_each(|part| assembly.take((*part).clone()))?;
            assembly.finish()
        };
        assert!(take(1, 10, &[&half, &rest]).is_ok());
        let long = RecordPart { header: None, data: vec![1; 6].into() };
        let wrong = RecordPart { header: None, data: vec![2; 5].into() };
        let nothing = RecordPart { header: None, data: Bytes::new() };
        assert_eq!(take(1, 10, &[&rest]), Err(PartsError::Order));
        assert_eq!(take(2, 20, &[&half, &half]), Err(PartsError::Order));
        assert_eq!(take(1, 10, &[&half, &nothing]), Err(PartsError::Order));
        assert_eq!(take(1, 10, &[&half, &long]), Err(PartsError::Overflow));
        assert_eq!(take(1, 10, &[&half, &wrong]), Err(PartsError::Record(RecordError::Digest)));
        assert_eq!(take(1, 10, &[part, part]), Err(PartsError::OverLimit));
        assert_eq!(take(1, 9, &[part]), Err(PartsError::OverLimit));
        assert_eq!(take(1, 10, &[&half]), Err(PartsError::Cut));
        assert_eq!(take(2, 20, &[part]), Err(PartsError::Cut));
    }

    proptest! {
        #[test]
        fn whatever_parts_come_nothing_but_verified_records_comes_out(
            parts in proptest::collection::vec(
                (any::<Option<[u32; 5]>>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8)
        ) {
            let mut assembly = Assembly::of(4, 64);
            for (numbers, data) in parts {
                let header = numbers.map(|[kind, k, m, index, body_bytes]| coffer_proto::site::v1::RecordHeader {
                    id: vec![1; 16].into(),
                    kind: kind % 8,
                    k: k % 300,
                    m: m % 3,
                    index: index % 3,
                    digest: vec![2; 32].into(),
                    body_bytes: body_bytes % 80,
                });
                if assembly.take(RecordPart { header, data: data.into() }).is_err() {
                    return Ok(());
                }
            }
            for record in assembly.whole {
                prop_assert_eq!(record.digest().0, [2; 32], "no digest of ours is all twos");
            }
        }
    }
}
