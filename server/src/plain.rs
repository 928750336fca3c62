//! From the sealed bytes of a striped version to pieces of plaintext: whole
//! authenticated chunks, in order, opened straight from the shards.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffer_keys::{CHUNK_BYTES, Context, Dek, HEADER_BYTES, OpenError, RangeOpener, SEALED_CHUNK_BYTES};
use coffer_model::Manifest;

use crate::fetch::{FetchError, Stripes};
use crate::sealed::{SealedError, SealedReader};
use crate::service::Service;

/// Why there is no more plaintext.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlainError {
    #[error(transparent)]
    Sealed(#[from] SealedError),
    #[error("the stored bytes do not open: {0}")]
    Open(#[from] OpenError),
}

impl From<FetchError> for PlainError {
    fn from(error: FetchError) -> Self {
        Self::Sealed(error.into())
    }
}

const CHUNK: u64 = CHUNK_BYTES as u64;
const SEALED_CHUNK: u64 = SEALED_CHUNK_BYTES as u64;
const HEADER: u64 = HEADER_BYTES as u64;

/// Plaintext in one piece, and so in one message: little enough to stay in a
/// processor's cache on its way to the socket, and with what goes around it no
/// more than two frames of [`coffer_proto::FRAME_BYTES`].
const PIECE_BYTES: usize = 7 * CHUNK_BYTES;

/// The chunks that a range of plaintext touches. A range that ends with the
/// object includes its last chunk, which is always short and may be empty, so
/// that the end of the object is authenticated with it.
struct Chunks {
    first: u64,
    last: u64,
    last_of_object: u64,
}

impl Chunks {
    fn covering(range: &Range<u64>, size: u64) -> Self {
        let last_of_object = size / CHUNK;
        let first = range.start / CHUNK;
        let last = if range.end == size { last_of_object } else { range.end.saturating_sub(1) / CHUNK };
        Self { first, last: last.max(first), last_of_object }
    }

    /// Where chunk `index` lies in the sealed object.
    fn offset(index: u64) -> u64 {
        HEADER + index * SEALED_CHUNK
    }
}

/// What opens the content of a version.
pub(crate) struct Seal {
    pub(crate) key: Dek,
    pub(crate) context: Context,
}

/// The plaintext of a range of a striped version, piece by piece.
pub(crate) struct Plain {
    reader: SealedReader,
    opener: RangeOpener,
    chunks: Chunks,
    next: u64,
    range: Range<u64>,
}

impl Plain {
    /// Asks for the first stripes and checks the seal's header.
    pub(crate) async fn open(
        service: &Arc<Service>,
        manifest: &Manifest,
        stripes: Stripes,
        seal: &Seal,
        range: Range<u64>,
    ) -> Result<Self, PlainError> {
        let stripes = Arc::new(stripes);
        let chunks = Chunks::covering(&range, manifest.size);
        let end = Chunks::offset(chunks.last + 1).min(manifest.sealed_size);
        let next = chunks.first;
        if next == 0 {
            let mut reader = SealedReader::new(service, &stripes, 0..end);
            let opener = check_header(&mut reader, seal).await?;
            return Ok(Self { reader, opener, chunks, next, range });
        }
        // The header and the chunks come at the same time.
        let mut reader = SealedReader::new(service, &stripes, Chunks::offset(next)..end);
        reader.look_ahead();
        let opener = check_header(&mut SealedReader::new(service, &stripes, 0..HEADER), seal).await?;
        Ok(Self { reader, opener, chunks, next, range })
    }

    /// The next piece; nothing after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PlainError> {
        let left = (self.chunks.last + 1).saturating_sub(self.next);
        let count = left.min((PIECE_BYTES / CHUNK_BYTES) as u64);
        if count == 0 {
            return Ok(None);
        }
        let start = self.next * CHUNK;
        let most = usize::try_from(count * CHUNK).unwrap_or(PIECE_BYTES);
        let mut plain = Vec::with_capacity(most);
        for _ in 0..count {
            self.open_chunk(&mut plain).await?;
        }
        let within =
            |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(plain.len());
        let (from, to) = (within(self.range.start), within(self.range.end));
        Ok(Some(Bytes::from(plain).slice(from..to.max(from))))
    }

    /// Opens the next chunk behind `plain`. Bytes that no digest covered are
    /// read again, verified and healed, if they do not open.
    async fn open_chunk(&mut self, plain: &mut Vec<u8>) -> Result<(), PlainError> {
        let index = self.next;
        let last = index == self.chunks.last_of_object;
        loop {
            let length = usize::try_from(SEALED_CHUNK.min(self.reader.left())).unwrap_or(0);
            let sealed = self.reader.take(length).await?;
            match self.opener.open_chunk(index, last, &sealed, plain) {
                Ok(()) => break,
                Err(_) if self.reader.distrust_from(Chunks::offset(index)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.next += 1;
        Ok(())
    }
}

/// Reads and checks the header that `reader` begins with.
async fn check_header(reader: &mut SealedReader, seal: &Seal) -> Result<RangeOpener, PlainError> {
    loop {
        let bytes = reader.take(HEADER_BYTES).await?;
        let header = bytes.as_ref().try_into().map_err(|_| OpenError::Truncated)?;
        match RangeOpener::new(&seal.key, &seal.context, header) {
            Ok(opener) => return Ok(opener),
            Err(_) if reader.distrust_from(0) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
