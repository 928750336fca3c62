//! One file of the restored tree: data extents written where they were, holes
//! left, the whole content's digest made on the way and compared.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use coffer_model::escape_bytes;
use rustix::fs::{Mode, OFlags, ftruncate, openat};
use rustix::io::{Errno, pwrite};

use super::entry::{Entry, Kind};
use super::problem::Problem;
use super::restore::RestoreError;
use super::source_file::ContentHasher;
use super::target::at;
use super::target_metadata::apply_to_fd;

/// A file that is being written.
pub(crate) struct TargetFile {
    handle: OwnedFd,
    entry: Entry,
    hasher: ContentHasher,
    /// Which extent the next byte belongs to, and how much of it is written.
    extent: usize,
    written: u64,
}

impl TargetFile {
    /// Makes an empty file; it must not be there.
    pub(crate) fn create(parent: &OwnedFd, name: &CString, entry: Entry) -> Result<Self, RestoreError> {
        debug_assert!(entry.kind == Kind::File);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(parent, name, flags, Mode::RUSR | Mode::WUSR);
        let handle = at("create", &entry.path, handle)?;
        Ok(Self { handle, entry, hasher: ContentHasher::new(), extent: 0, written: 0 })
    }

    /// Whether every data extent is written.
    pub(crate) fn is_complete(&self) -> bool {
        self.extent == self.entry.data.len()
    }

    /// The next bytes of the data extents.
    pub(crate) fn write(&mut self, mut data: &[u8]) -> Result<(), RestoreError> {
        while !data.is_empty() {
            let Some((offset, length)) = self.entry.data.get(self.extent).copied() else {
                return Err(RestoreError::Content { path: escape_bytes(&self.entry.path) });
            };
            let room = usize::try_from(length - self.written).unwrap_or(usize::MAX);
            let (now, later) = data.split_at(room.min(data.len()));
            let from = offset + self.written;
            self.hasher.zeros_to(from);
            self.hasher.data(now);
            at("write", &self.entry.path, write_at(&self.handle, now, from))?;
            self.written += u64::try_from(now.len()).unwrap_or(u64::MAX);
            if self.written == length {
                self.extent += 1;
                self.written = 0;
            }
            data = later;
        }
        Ok(())
    }

    /// Sets the length, compares the digest and sets the metadata.
    pub(crate) fn finish(self, problems: &mut Vec<Problem>) -> Result<(), RestoreError> {
        let end = self.entry.data.last().map_or(0, |(offset, length)| offset + length);
        if end != self.entry.size {
            at("set the length of", &self.entry.path, ftruncate(&self.handle, self.entry.size))?;
        }
        let complete = self.is_complete();
        let digest = self.hasher.finish(self.entry.size);
        if !complete || self.entry.content != Some(digest) {
            return Err(RestoreError::Content { path: escape_bytes(&self.entry.path) });
        }
        apply_to_fd(&self.handle, &self.entry, problems);
        Ok(())
    }
}

fn write_at(file: &OwnedFd, mut data: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !data.is_empty() {
        match pwrite(file, data, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                data = data.get(written..).unwrap_or_default();
                offset += u64::try_from(written).unwrap_or(u64::MAX);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
