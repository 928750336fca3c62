//! The content of an object on its way in, checked as it passes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffer_model::Digest;
use coffer_proto::v1;
use tonic::Streaming;

use super::ObjectInfo;
use crate::call::CallError;
use crate::terms::SitesSeen;

/// Why an object was not read whole. What came before is right but not all.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The service refused or failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The content ended early or went on too long.
    #[error(
        "the content has {found} bytes, {expected} were promised; nothing of it may be used as the whole"
    )]
    Length {
        /// Bytes that came.
        found: u64,
        /// Bytes that the description promises.
        expected: u64,
    },
    /// The whole content has another digest than its description says.
    #[error("the content does not have the digest of its description; it was altered on the way")]
    Digest,
    /// More than the caller was ready to hold.
    #[error("the object has {size} bytes, more than the {limit} that were expected")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
}

/// The content of an object, piece by piece.
pub struct ObjectBody {
    stream: Streaming<v1::GetObjectResponse>,
    expected: u64,
    found: u64,
    /// The digest so far and the one to reach, where the object is read whole.
    whole: Option<(Box<blake3::Hasher>, Digest)>,
    done: bool,
    /// Where the sites that answered are counted, which the last message names.
    seen: Option<Arc<SitesSeen>>,
}

impl ObjectBody {
    pub(super) fn new(
        stream: Streaming<v1::GetObjectResponse>,
        object: &ObjectInfo,
        range: Option<Range<u64>>,
        seen: Option<Arc<SitesSeen>>,
    ) -> Self {
        let expected = match &range {
            None => object.size,
            Some(range) => range.end.min(object.size).saturating_sub(range.start),
        };
        let whole = range.is_none().then(|| (Box::new(blake3::Hasher::new()), object.content_blake3));
        Self { stream, expected, found: 0, whole, done: false, seen }
    }

    /// Bytes of the whole body.
    pub fn expected_bytes(&self) -> u64 {
        self.expected
    }

    /// The next piece, or `None` after the last one, once the whole passed
    /// its checks.
    ///
    /// # Errors
    /// [`GetError`]; the body is over after the first one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, GetError> {
        if self.done {
            return Ok(None);
        }
        let result = self.advance().await;
        self.done = !matches!(result, Ok(Some(_)));
        result
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, GetError> {
        loop {
            let message = self.stream.message().await.map_err(|status| CallError::from_status(&status))?;
            let Some(message) = message else { return self.finish().map(|()| None) };
            let piece = match message.part {
                Some(v1::get_object_response::Part::Data(piece)) => piece,
                Some(v1::get_object_response::Part::Sites(sites)) if self.found == self.expected => {
                    if let Some(seen) = self.seen.take() {
                        seen.count(sites.answered);
                        continue;
                    }
                    return Err(CallError::Answer("sites that nobody asked for".to_owned()).into());
                }
                _ => {
                    let what = "a message after the first one carries no data".to_owned();
                    return Err(CallError::Answer(what).into());
                }
            };
            self.found = self.found.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if self.found > self.expected {
                return Err(GetError::Length { found: self.found, expected: self.expected });
            }
            if let Some((hasher, _)) = &mut self.whole {
                hasher.update(&piece);
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    fn finish(&self) -> Result<(), GetError> {
        if self.found != self.expected {
            return Err(GetError::Length { found: self.found, expected: self.expected });
        }
        match &self.whole {
            Some((hasher, digest)) if *hasher.finalize().as_bytes() != digest.0 => Err(GetError::Digest),
            _ => Ok(()),
        }
    }

    /// The whole body in memory, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`GetError::TooLarge`] before anything is read, [`GetError`] else.
    pub async fn collect(mut self, limit: u64) -> Result<Bytes, GetError> {
        let too_large = GetError::TooLarge { size: self.expected, limit };
        if self.expected > limit {
            return Err(too_large);
        }
        let mut all = Vec::with_capacity(usize::try_from(self.expected).map_err(|_| too_large)?);
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }
}
