//! Reading an OCI image layout (image-spec 1.1): index, manifest, configuration,
//! layers. Nothing is believed before its digest was checked.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::digest::{Hashing, ImageDigest};
use super::unpack::{Budget, unpack};
use super::{Image, ImageError};
use crate::confine::Root;
use crate::files;

/// How large an index, manifest or configuration may be.
const DOCUMENT_MAX: u64 = 4 << 20;

/// An index in an index may not go on for ever.
const DEPTH_MAX: usize = 4;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: ImageDigest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// An index or a manifest: which of the two, its fields say.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

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
pub(super) fn blob(layout: &Path, digest: &ImageDigest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

/// This machine as Go and OCI call it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn document<T: DeserializeOwned>(layout: &Path, digest: &ImageDigest) -> Result<T, ImageError> {
    let path = blob(layout, digest);
    let bytes = match files::read_at_most(&path, DOCUMENT_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ImageError::Absent(digest.clone()));
        }
        Err(error) => return Err(ImageError::Disk(path, error)),
    };
    let found = ImageDigest::of(&bytes);
    if found != *digest {
        return Err(ImageError::Forged { wanted: digest.clone(), found });
    }
    let malformed =
        ImageError::Malformed { digest: digest.clone(), what: "the JSON lacks what it must have" };
    serde_json::from_slice(&bytes).map_err(|_| malformed)
}

impl Manifest {
    /// Reads the manifest of that digest, or the one for this machine in the index of that digest.
    pub(super) fn read(layout: &Path, digest: &ImageDigest) -> Result<Self, ImageError> {
        let mut digest = digest.clone();
        for _ in 0..DEPTH_MAX {
            let read: Document = document(layout, &digest)?;
            if let Some(config) = read.config {
                let configuration: Configuration = document(layout, &config.digest)?;
                if configuration.rootfs.diff_ids.len() != read.layers.len() {
                    let what = "the configuration has another number of layers than the manifest";
                    return Err(ImageError::Malformed { digest, what });
                }
                return Ok(Self { digest, layers: read.layers, configuration });
            }
            let ours =
                |platform: &Platform| platform.os == "linux" && platform.architecture == architecture();
            let fits = |one: &&Descriptor| one.platform.as_ref().is_none_or(ours);
            match read.manifests.iter().find(fits) {
                Some(one) => digest = one.digest.clone(),
                None => return Err(ImageError::Platform(digest)),
            }
        }
        Err(ImageError::Malformed { digest, what: "an index within an index within an index" })
    }

    /// Unpacks every layer, the lowest first, into an empty directory.
    pub(super) fn unpack(&self, layout: &Path, into: &Path) -> Result<(), ImageError> {
        let mut budget = Budget::default();
        for (layer, diff_id) in self.layers.iter().zip(&self.configuration.rootfs.diff_ids) {
            let path = blob(layout, &layer.digest);
            let disk = |error| ImageError::Disk(path.clone(), error);
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
    take: impl FnOnce(&mut dyn Read) -> Result<T, super::UnpackError>,
) -> Result<T, super::UnpackError> {
    if media_type.ends_with("+gzip") || media_type.ends_with(".gzip") {
        take(&mut flate2::bufread::MultiGzDecoder::new(file))
    } else if media_type.ends_with("+zstd") {
        take(&mut zstd::stream::read::Decoder::with_buffer(file)?)
    } else if media_type.ends_with(".tar") {
        let mut file = file;
        take(&mut file)
    } else {
        Err(super::UnpackError::MediaType(media_type.chars().take(100).collect()))
    }
}
