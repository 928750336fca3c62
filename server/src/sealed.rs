//! The sealed bytes of a striped version, in order: whole stripes, verified,
//! where all of a stripe is wanted, parts of shards where less is; a few
//! stripes ahead of the one that is being opened.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::fetch::{FetchError, Stripes};
use crate::service::Service;
use crate::window::Window;

/// Stripes fetched ahead of the one being opened: the memory of one GET.
const AHEAD: usize = 3;

/// Why there are no more sealed bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealedError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the sealed bytes end early")]
    End,
    #[error("the read was cut off by the service stopping")]
    Stopped,
}

/// What came of one stripe.
struct Came {
    pieces: Vec<Bytes>,
    /// The shards that it came from, where nobody verified them.
    unverified: Vec<usize>,
}

/// The sealed bytes `position..end` of a version.
pub(crate) struct SealedReader {
    service: Arc<Service>,
    stripes: Arc<Stripes>,
    /// What has come and was not taken.
    buffer: VecDeque<Bytes>,
    /// Sealed offset of the buffer's first byte.
    position: u64,
    /// Sealed offset of the first byte that nobody has asked for.
    asked: u64,
    end: u64,
    /// Only whole stripes, held against their digests, are believed.
    distrust: bool,
    /// Shards that parts came from, by stripe; of a range only the first and
    /// the last stripe can be in parts.
    suspects: BTreeMap<u32, Vec<usize>>,
    ahead: VecDeque<(u32, JoinHandle<Result<Came, FetchError>>)>,
}

impl SealedReader {
    pub(crate) fn new(service: &Arc<Service>, stripes: &Arc<Stripes>, range: Range<u64>) -> Self {
        Self {
            service: Arc::clone(service),
            stripes: Arc::clone(stripes),
            buffer: VecDeque::new(),
            position: range.start,
            asked: range.start,
            end: range.end,
            distrust: false,
            suspects: BTreeMap::new(),
            ahead: VecDeque::new(),
        }
    }

    /// Sealed bytes that are left.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.position
    }

    /// Asks for what may be asked for ahead.
    pub(crate) fn look_ahead(&mut self) {
        while self.ahead.len() < AHEAD && self.asked < self.end {
            let stripe = self.stripes.at(self.asked);
            let start = self.stripes.start(stripe);
            let whole = start..start + self.stripes.bytes_in(stripe) as u64;
            let wanted = self.asked..self.end.min(whole.end);
            if wanted.is_empty() {
                // The manifest promises more than its stripes hold.
                return;
            }
            self.asked = wanted.end;
            let (service, stripes) = (Arc::clone(&self.service), Arc::clone(&self.stripes));
            let parts = wanted != whole && !self.distrust;
            let mut suspects = self.suspects.get(&stripe).cloned().unwrap_or_default();
            let within = cut(&wanted, start);
            let read = async move {
                if parts {
                    match service.fetch_window(&stripes, stripe, within.clone()).await {
                        Ok(Window { pieces, from }) => return Ok(Came { pieces, unverified: from }),
                        Err(wrong) => suspects = wrong,
                    }
                }
                let pieces = service.fetch_stripe(&stripes, stripe, &suspects).await?;
                Ok(Came { pieces: slice(pieces, within), unverified: Vec::new() })
            };
            self.ahead.push_back((stripe, tokio::spawn(read)));
        }
    }

    /// The next `length` sealed bytes, as a slice of a shard where they do not
    /// go beyond it.
    pub(crate) async fn take(&mut self, length: usize) -> Result<Bytes, SealedError> {
        while self.buffer.front().is_none() {
            self.next_stripe().await?;
        }
        self.position += length as u64;
        if let Some(front) = self.buffer.front_mut()
            && front.len() >= length
        {
            let taken = front.split_to(length);
            self.drop_empty();
            return Ok(taken);
        }
        let mut joined = Vec::with_capacity(length);
        while joined.len() < length {
            let Some(front) = self.buffer.front_mut() else {
                self.next_stripe().await?;
                continue;
            };
            joined.extend_from_slice(&front.split_to(front.len().min(length - joined.len())));
            self.drop_empty();
        }
        Ok(Bytes::from(joined))
    }

    fn drop_empty(&mut self) {
        while self.buffer.front().is_some_and(Bytes::is_empty) {
            self.buffer.pop_front();
        }
    }

    async fn next_stripe(&mut self) -> Result<(), SealedError> {
        self.look_ahead();
        let (stripe, read) = self.ahead.pop_front().ok_or(SealedError::End)?;
        let came = read.await.map_err(|_| SealedError::Stopped)??;
        if !came.unverified.is_empty() {
            self.suspects.entry(stripe).or_default().extend(came.unverified);
        }
        self.buffer.extend(came.pieces.into_iter().filter(|piece| !piece.is_empty()));
        self.look_ahead();
        Ok(())
    }

    /// Goes back to a sealed offset, after which only what is held against its
    /// digest is believed. Whether that is a change: if not, what did not open
    /// is what was stored.
    pub(crate) fn distrust_from(&mut self, offset: u64) -> bool {
        if self.distrust || self.suspects.is_empty() {
            return false;
        }
        self.service.reads.distrusted();
        self.distrust = true;
        self.ahead.drain(..).for_each(|(_, read)| read.abort());
        self.buffer.clear();
        (self.position, self.asked) = (offset, offset);
        true
    }
}

impl Drop for SealedReader {
    fn drop(&mut self) {
        self.ahead.iter().for_each(|(_, read)| read.abort());
    }
}

/// Sealed offsets as offsets into a stripe that starts at `start`.
fn cut(range: &Range<u64>, start: u64) -> Range<usize> {
    let within = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX);
    within(range.start)..within(range.end)
}

/// The part `within` of the bytes that `pieces` are together.
fn slice(pieces: Vec<Bytes>, within: Range<usize>) -> Vec<Bytes> {
    let mut start = 0;
    let mut out = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let from = within.start.saturating_sub(start).min(piece.len());
        let to = within.end.saturating_sub(start).min(piece.len());
        start += piece.len();
        if from < to {
            out.push(piece.slice(from..to));
        }
    }
    out
}
