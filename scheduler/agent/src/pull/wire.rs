//! What the agent and the process that talks to the registry say to each other,
//! over a socket that only they have. Both are one binary, so that no version is
//! told. The agent asks for one thing at a time; every frame has its length
//! before it, and none is longer than [`FRAME_MAX`].

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::confine::outward::Outward;
use crate::image::ImageDigest;

/// The longest frame, in bytes: the authorities of a machine are half of that.
pub(super) const FRAME_MAX: u32 = 1 << 20;
/// Bytes of a blob in one frame.
pub(super) const DATA_MAX: usize = 64 << 10;

/// What the process must know before it gives up everything.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setting {
    /// What it gives up.
    pub outward: Outward,
    /// Host, and port if it has one.
    pub host: String,
    /// Where in it.
    pub repository: String,
    /// Hosts, with ports, that are asked without TLS.
    pub plain: Vec<String>,
    /// Authorities in place of the machine's, PEM.
    pub roots: Option<String>,
    /// How long a silent or slow registry is waited for, in milliseconds.
    pub patience_ms: u64,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    /// A manifest or index, and not a blob.
    pub manifest: bool,
    /// Which.
    pub digest: ImageDigest,
    /// From which byte on.
    pub from: u64,
    /// A blob's size, or the most that a document may have.
    pub size: u64,
}

/// The kinds of frames that come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// From which byte on it comes: eight bytes, the highest first.
    Begin,
    /// Bytes of it.
    Data,
    /// That was all.
    End,
    /// It does not come; JSON.
    Failed,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Begin, Self::Data, Self::End, Self::Failed];

    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Begin => b'B',
            Self::Data => b'D',
            Self::End => b'E',
            Self::Failed => b'F',
        }
    }

    pub(super) fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

pub(super) fn length(bytes: &[u8]) -> io::Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= FRAME_MAX);
    Ok(length.ok_or(io::ErrorKind::InvalidInput)?.to_be_bytes())
}

/// The length that four bytes say, if it may be one.
pub(super) fn checked(length: [u8; 4]) -> io::Result<usize> {
    let length = Some(u32::from_be_bytes(length)).filter(|length| *length <= FRAME_MAX);
    let length = length.and_then(|length| usize::try_from(length).ok());
    length.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

pub(super) fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&length(bytes)?)?;
    to.write_all(bytes)
}

pub(super) fn write_json<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    write(to, &serde_json::to_vec(value)?)
}

pub(super) fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut bytes = vec![0; checked(length)?];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn read_json<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    Ok(serde_json::from_slice(&read(from)?)?)
}

/// One frame of an answer.
pub(super) fn read_kind(from: &mut impl Read) -> io::Result<(Kind, Vec<u8>)> {
    let mut kind = [0; 1];
    from.read_exact(&mut kind)?;
    let kind = Kind::of(u8::from_be_bytes(kind)).ok_or(io::ErrorKind::InvalidData)?;
    Ok((kind, read(from)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_says_it_is_longer_than_allowed_is_not_allocated() {
        let mut bytes = b"D".to_vec();
        bytes.extend(u32::MAX.to_be_bytes());
        let refused = read_kind(&mut bytes.as_slice()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert!(read_kind(&mut b"X\0\0\0\0".as_slice()).is_err());
        assert!(write(&mut Vec::new(), &vec![0; 1 + FRAME_MAX as usize]).is_err());
    }
}
