//! Reading one file of the source, data extents only, while the digest of the
//! whole content (holes as zeros) is made from the same bytes.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use coffer_model::Digest;
use rustix::io::{Errno, pread};

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// BLAKE3 of a content that is fed in extents.
pub(crate) struct ContentHasher {
    hasher: blake3::Hasher,
    at: u64,
}

impl ContentHasher {
    /// At the beginning of the content.
    pub(crate) fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), at: 0 }
    }

    /// Zeros up to `offset`; does nothing behind it.
    pub(crate) fn zeros_to(&mut self, offset: u64) {
        while self.at < offset {
            let left = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(ZEROS.len());
            self.data(&ZEROS[..left]);
        }
    }

    /// The next bytes.
    pub(crate) fn data(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.at += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    }

    /// The digest of a content of `size` bytes.
    pub(crate) fn finish(mut self, size: u64) -> Digest {
        self.zeros_to(size);
        Digest(*self.hasher.finalize().as_bytes())
    }
}

/// Reads the extents of a file one after the other. If the file was cut short
/// meanwhile, it ends early and says so.
pub(crate) struct ExtentReader<'a> {
    file: &'a OwnedFd,
    extents: std::slice::Iter<'a, (u64, u64)>,
    at: u64,
    stop: u64,
    hasher: ContentHasher,
    cut_short_at: Option<u64>,
}

/// What was read of a file.
pub(crate) struct ContentRead {
    /// Digest of the content as it was read.
    pub(crate) digest: Digest,
    /// Where the file ended if that was before its size.
    pub(crate) cut_short_at: Option<u64>,
}

impl<'a> ExtentReader<'a> {
    /// From the beginning.
    pub(crate) fn new(file: &'a OwnedFd, extents: &'a [(u64, u64)]) -> Self {
        let hasher = ContentHasher::new();
        Self { file, extents: extents.iter(), at: 0, stop: 0, hasher, cut_short_at: None }
    }

    /// The digest, after the end was reached.
    pub(crate) fn finish(self, size: u64) -> ContentRead {
        let digest = self.hasher.finish(self.cut_short_at.unwrap_or(size));
        ContentRead { digest, cut_short_at: self.cut_short_at }
    }
}

impl Read for ExtentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cut_short_at.is_some() || buffer.is_empty() {
            return Ok(0);
        }
        if self.at == self.stop {
            let Some((offset, length)) = self.extents.next() else { return Ok(0) };
            self.at = *offset;
            self.stop = offset + length;
            self.hasher.zeros_to(*offset);
        }
        let left = usize::try_from(self.stop - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = loop {
            match pread(self.file, &mut buffer[..left], self.at) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        if read == 0 {
            self.cut_short_at = Some(self.at);
        }
        self.hasher.data(&buffer[..read]);
        self.at += u64::try_from(read).unwrap_or(u64::MAX);
        Ok(read)
    }
}
