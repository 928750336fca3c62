//! Reading an OCI image layout (image-spec 1.1): index, manifest, configuration,
//! layers. Nothing is believed before its digest was checked.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::digest::{Hashing, ImageDigest};
use super::document::{self, DEPTH_MAX, DOCUMENT_MAX, Descriptor, Document, Packing};
use super::unpack::{Budget, UnpackError, unpack};
use super::{Image, ImageError};
use crate::confine::Root;
use crate::files;

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    config: Execution,
    rootfs: RootFs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<ImageDigest>,
}

/// A manifest for this machine, with its configuration.
pub(super) struct Manifest {
    pub(super) digest: ImageDigest,
    layers: Vec<Descriptor>,
    configuration: Configuration,
}

/// The file of a blob.
pub(crate) fn blob(layout: &Path, digest: &ImageDigest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

/// The bytes of a document that is what its digest says.
fn verified(layout: &Path, digest: &ImageDigest) -> Result<Vec<u8>, ImageError> {
    let path = blob(layout, digest);
    let bytes = match files::read_at_most(&path, DOCUMENT_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ImageError::Absent(digest.clone()));
        }
        Err(error) => return Err(ImageError::Disk(path, error)),
    };
    let found = ImageDigest::of(&bytes);
    if found == *digest { Ok(bytes) } else { Err(ImageError::Forged { wanted: digest.clone(), found }) }
}

/// What an image consists of.
pub(super) struct Parts {
    /// Documents, configuration and layers.
    pub(super) blobs: Vec<ImageDigest>,
    /// The manifest that is unpacked here.
    pub(super) manifest: Option<ImageDigest>,
}

/// What the image of that digest consists of, as far as the documents in this layout say it.
pub(super) fn parts(layout: &Path, digest: &ImageDigest) -> Parts {
    let mut parts = Parts { blobs: vec![digest.clone()], manifest: None };
    let mut digest = digest.clone();
    for _ in 0..DEPTH_MAX {
        let read = verified(layout, &digest).and_then(|bytes| Document::parse(&digest, &bytes));
        match read {
            Ok(Document::Manifest { config, layers }) => {
                parts.blobs.push(config.digest);
                parts.blobs.extend(layers.into_iter().map(|layer| layer.digest));
                parts.manifest = Some(digest);
                return parts;
            }
            Ok(Document::Index(manifests)) => match document::ours(&manifests) {
                Some(ours) => digest = ours.digest.clone(),
                None => return parts,
            },
            Err(_) => return parts,
        }
        parts.blobs.push(digest.clone());
    }
    parts
}

impl Manifest {
    /// Reads the manifest of that digest, or the one for this machine in the index of that digest.
    pub(super) fn read(layout: &Path, digest: &ImageDigest) -> Result<Self, ImageError> {
        let mut digest = digest.clone();
        for _ in 0..DEPTH_MAX {
            match Document::parse(&digest, &verified(layout, &digest)?)? {
                Document::Manifest { config, layers } => {
                    let bytes = verified(layout, &config.digest)?;
                    let configuration: Configuration = document::json(&config.digest, &bytes)?;
                    if configuration.rootfs.diff_ids.len() != layers.len() {
                        let what = "the configuration has another number of layers than the manifest";
                        return Err(ImageError::Malformed { digest, what });
                    }
                    return Ok(Self { digest, layers, configuration });
                }
                Document::Index(manifests) => {
                    let ours = document::ours(&manifests);
                    digest = ours.ok_or(ImageError::Platform(digest))?.digest.clone();
                }
            }
        }
        Err(document::too_deep(digest))
    }

    /// Unpacks every layer, the lowest first, into an empty directory.
    pub(super) fn unpack(&self, layout: &Path, into: &Path) -> Result<(), ImageError> {
        let mut budget = Budget::default();
        for (layer, diff_id) in self.layers.iter().zip(&self.configuration.rootfs.diff_ids) {
            let path = blob(layout, &layer.digest);
            // One that is gone is not here, and may be pulled, like a document that is gone.
            let disk = |error: io::Error| match error.kind() {
                io::ErrorKind::NotFound => ImageError::Absent(layer.digest.clone()),
                _ => ImageError::Disk(path.clone(), error),
            };
            // Once over the whole blob first: no byte of it reaches a parser unverified.
            let found = ImageDigest::of_file(&path).map_err(disk)?;
            if found != layer.digest {
                return Err(ImageError::Forged { wanted: layer.digest.clone(), found });
            }
            let file = io::BufReader::new(files::open(&path).map_err(disk)?);
            let found = plain(&layer.media_type, file, |reader| {
                let mut hashing = Hashing::new(reader);
                unpack(&mut hashing, into, &mut budget)?;
                // What follows the end of the archive belongs to the digest too.
                io::copy(&mut hashing, &mut io::sink())?;
                Ok(hashing.end())
            })
            .map_err(|error| ImageError::Unpack(self.digest.clone(), error))?;
            if found != *diff_id {
                return Err(ImageError::Forged { wanted: diff_id.clone(), found });
            }
        }
        Ok(())
    }

    /// The image, unpacked in `directory`.
    pub(super) fn runnable(self, directory: PathBuf) -> Image {
        let execution = self.configuration.config;
        let pairs = execution.env.unwrap_or_default().into_iter();
        let env = pairs
            .filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
        Image {
            root: Root::Image { directory },
            entrypoint: execution.entrypoint.unwrap_or_default(),
            command: execution.cmd.unwrap_or_default(),
            env: env.collect(),
            directory: execution
                .working_dir
                .filter(|dir| dir.starts_with('/'))
                .unwrap_or_else(|| "/".to_owned())
                .into(),
        }
    }
}

/// Hands the archive in a layer to `take`, decompressed as its media type says.
fn plain<T>(
    media_type: &str,
    file: impl io::BufRead,
    take: impl FnOnce(&mut dyn Read) -> Result<T, UnpackError>,
) -> Result<T, UnpackError> {
    match Packing::of(media_type)? {
        Packing::Gzip => take(&mut flate2::bufread::MultiGzDecoder::new(file)),
        Packing::Zstd => take(&mut zstd::stream::read::Decoder::with_buffer(file)?),
        Packing::Plain => {
            let mut file = file;
            take(&mut file)
        }
    }
}
