//! One pull, from the digest that the pod names to blobs in the node's layout.
//! Every document is read after its digest was checked; what an image declares
//! is held against the node's limits before the first layer is asked for; and the
//! document that was named is kept last, so that what has it has everything.

use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;

use super::PullLimits;
use super::error::{FetchError, PullError};
use super::keep::{Keep, Partial};
use super::line::Line;
use crate::image::document::{self, DEPTH_MAX, DOCUMENT_MAX, Descriptor, Document, Packing};
use crate::image::{ImageDigest, ImageError};

/// What is pulled, and where to.
pub(super) struct Story<'a> {
    pub(super) line: Line,
    pub(super) keep: &'a Keep,
    pub(super) limits: PullLimits,
    /// Whether the registry is asked also for what is here.
    pub(super) ask: bool,
    /// How long it may go on from now on: told when it is known how much comes.
    pub(super) within: watch::Sender<Duration>,
    /// Whether nobody waits for it any more.
    pub(super) ended: &'a AtomicBool,
}

/// How much came, and how much of it was here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulled {
    /// Bytes of the image's blobs, as they are declared.
    pub bytes: u64,
    /// Bytes of them that had to come.
    pub came: u64,
}

impl Story<'_> {
    pub(super) fn run(mut self, digest: &ImageDigest) -> Result<Pulled, PullError> {
        let mut documents: Vec<(ImageDigest, Vec<u8>)> = Vec::new();
        let mut next = digest.clone();
        let (config, layers) = loop {
            if documents.len() >= DEPTH_MAX {
                return Err(document::too_deep(digest.clone()).into());
            }
            let bytes = self.document(&next)?;
            let read = Document::parse(&next, &bytes)?;
            documents.push((next.clone(), bytes));
            match read {
                Document::Manifest { config, layers } => break (config, layers),
                Document::Index(manifests) => {
                    let ours = document::ours(&manifests).ok_or(ImageError::Platform(next))?;
                    next = ours.digest.clone();
                }
            }
        };
        let named = std::iter::once(&config).chain(&layers).map(|blob| &blob.digest);
        // Until the document that was named is there, nothing on the disk says that somebody uses them.
        let named = named.chain(documents.iter().map(|(digest, _)| digest)).cloned();
        let _coming = self.keep.coming(named.collect());
        let mut pulled = Pulled { bytes: self.declared(digest, &config, &layers)?, came: 0 };
        self.within.send_replace(self.limits.within(pulled.bytes));
        for blob in std::iter::once(&config).chain(&layers) {
            self.blob(digest, blob, &mut pulled)?;
        }
        for (digest, bytes) in documents.iter().rev() {
            self.keep.put(digest, bytes)?;
        }
        Ok(pulled)
    }

    fn document(&mut self, digest: &ImageDigest) -> Result<Vec<u8>, PullError> {
        match self.keep.document(digest, DOCUMENT_MAX).filter(|_| !self.ask) {
            Some(bytes) => Ok(bytes),
            None => self.line.document(digest, DOCUMENT_MAX),
        }
    }

    /// The bytes that an image declares, if this node takes so many, and knows what to do with them.
    fn declared(
        &self,
        image: &ImageDigest,
        config: &Descriptor,
        layers: &[Descriptor],
    ) -> Result<u64, PullError> {
        let most = self.limits.layers;
        if layers.len() > most {
            return Err(PullError::Layers { declared: layers.len(), most });
        }
        if config.size.is_none_or(|size| size > DOCUMENT_MAX) {
            return Err(PullError::Size(image.clone()));
        }
        let mut declared: u64 = 0;
        for blob in std::iter::once(config).chain(layers) {
            let size = blob.size.ok_or_else(|| PullError::Size(image.clone()))?;
            declared = declared.saturating_add(size);
        }
        let most = self.limits.bytes;
        if declared > most {
            return Err(PullError::TooLarge { declared, most });
        }
        for layer in layers {
            Packing::of(&layer.media_type).map_err(|error| ImageError::Unpack(image.clone(), error))?;
        }
        Ok(declared)
    }

    fn blob(&mut self, image: &ImageDigest, blob: &Descriptor, pulled: &mut Pulled) -> Result<(), PullError> {
        let size = blob.size.ok_or_else(|| PullError::Size(image.clone()))?;
        let Some(_alone) = self.keep.door(&blob.digest, self.ended) else {
            return Err(PullError::BrokeOff(io::ErrorKind::Interrupted.into()));
        };
        if self.keep.has(&blob.digest) {
            let of = self.keep.size(&blob.digest).unwrap_or(0);
            return if of == size { Ok(()) } else { Err(FetchError::Short { sent: of, of: size }.into()) };
        }
        let mut partial = self.keep.partial(&blob.digest, size)?;
        let mut came = self.come(&blob.digest, size, &mut partial);
        // What an earlier pull left may be what another registry made up: this one is asked for the whole once.
        if came.is_ok() && partial.kept() > 0 && !partial.is(&blob.digest) {
            partial.restart().map_err(|error| PullError::Disk(blob.digest.hex().into(), error))?;
            came = self.come(&blob.digest, size, &mut partial);
        }
        match came {
            Ok(()) => {
                pulled.came = pulled.came.saturating_add(size.saturating_sub(partial.kept()));
                partial.finish(&blob.digest)
            }
            Err(error) => {
                // What a line that broke brought is gone on with; what a registry made up is not.
                let keep = matches!(
                    error,
                    PullError::BrokeOff(_)
                        | PullError::Fetch(
                            FetchError::Unreachable { .. }
                                | FetchError::Stalled(_)
                                | FetchError::Busy { .. }
                                | FetchError::Denied { .. }
                        )
                );
                if !keep {
                    partial.discard();
                }
                Err(error)
            }
        }
    }

    /// What is missing of a blob.
    fn come(&mut self, digest: &ImageDigest, size: u64, partial: &mut Partial) -> Result<(), PullError> {
        if partial.written() == size { Ok(()) } else { self.line.blob(digest, size, partial) }
    }
}
