//! Content-defined chunking: FastCDC (2020) with normalisation, streaming.
//!
//! Where a cut falls depends on the bytes since the last cut and on the
//! repository's seed, never on the sizes of the reads that delivered them.

use std::io::{self, Read};

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

/// No chunk but the last of a stream is shorter.
pub(crate) const CHUNK_BYTES_MIN: usize = 256 << 10;
/// What the cuts aim at.
pub(crate) const CHUNK_BYTES_AVERAGE: usize = 1 << 20;
/// No chunk is longer.
pub(crate) const CHUNK_BYTES_MAX: usize = 4 << 20;

/// Finds cuts; built once per run.
pub struct Cutter {
    gear: Vec<u64>,
    gear_shifted: Vec<u64>,
    strict: u64,
    loose: u64,
}

impl Cutter {
    /// The cutter of a repository; the seed moves the boundaries.
    pub fn new(seed: u64) -> Self {
        let (gear, gear_shifted) = get_gear_with_seed(seed);
        let (strict, loose) = select_masks(CHUNK_BYTES_AVERAGE, Normalization::Level1);
        Self { gear: gear.into_owned(), gear_shifted: gear_shifted.into_owned(), strict, loose }
    }

    /// Length of the first chunk of `data`, which holds at least 4 MiB or
    /// everything up to the end of the stream. Zero only for no data.
    pub fn cut(&self, data: &[u8]) -> usize {
        let (_, length) = cut_gear(
            data,
            CHUNK_BYTES_MIN,
            CHUNK_BYTES_AVERAGE,
            CHUNK_BYTES_MAX,
            self.strict,
            self.loose,
            self.strict << 1,
            self.loose << 1,
            &self.gear,
            &self.gear_shifted,
        );
        length
    }
}

/// The buffer that one chunker after the other reads into; 8 MiB, so that the
/// tail is moved to the front once for several chunks.
pub(crate) struct ChunkBuffer(Vec<u8>);

impl ChunkBuffer {
    /// Takes its memory, once per run.
    pub(crate) fn new() -> Self {
        Self(vec![0; 2 * CHUNK_BYTES_MAX])
    }
}

/// The chunks of one stream.
pub struct Chunker<'a, R> {
    cutter: &'a Cutter,
    reader: R,
    buffer: ChunkBufferRef<'a>,
    start: usize,
    end: usize,
    ended: bool,
}

enum ChunkBufferRef<'a> {
    Own(ChunkBuffer),
    Lent(&'a mut ChunkBuffer),
}

impl ChunkBufferRef<'_> {
    fn bytes(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Own(buffer) => &mut buffer.0,
            Self::Lent(buffer) => &mut buffer.0,
        }
    }
}

impl<'a, R: Read> Chunker<'a, R> {
    /// A chunker with a buffer of its own.
    pub fn new(cutter: &'a Cutter, reader: R) -> Self {
        let buffer = ChunkBufferRef::Own(ChunkBuffer::new());
        Self { cutter, reader, buffer, start: 0, end: 0, ended: false }
    }

    /// A chunker that borrows its buffer, for trees of many small files.
    pub(crate) fn with_buffer(cutter: &'a Cutter, reader: R, buffer: &'a mut ChunkBuffer) -> Self {
        let buffer = ChunkBufferRef::Lent(buffer);
        Self { cutter, reader, buffer, start: 0, end: 0, ended: false }
    }

    /// The next chunk, none at the end.
    ///
    /// # Errors
    /// What the reader says.
    pub fn next_chunk(&mut self) -> io::Result<Option<&[u8]>> {
        self.fill()?;
        let window = &self.buffer.bytes()[self.start..self.end];
        let length = self.cutter.cut(window);
        if length == 0 {
            return Ok(None);
        }
        let from = self.start;
        self.start += length;
        Ok(Some(&self.buffer.bytes()[from..from + length]))
    }

    /// Reads until the largest chunk fits or the stream ends.
    fn fill(&mut self) -> io::Result<()> {
        let bytes = self.buffer.bytes();
        if !self.ended && self.end - self.start < CHUNK_BYTES_MAX && self.start > 0 {
            bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while !self.ended && self.end - self.start < CHUNK_BYTES_MAX {
            match self.reader.read(&mut bytes[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
