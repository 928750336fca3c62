//! The documents of an image: an index of several machines, or the manifest of
//! one. Read only after their digest was checked, wherever they came from.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ImageError;
use super::digest::ImageDigest;
use super::unpack::UnpackError;

/// How large an index, manifest or configuration may be.
pub(crate) const DOCUMENT_MAX: u64 = 4 << 20;

/// An index in an index may not go on for ever.
pub(crate) const DEPTH_MAX: usize = 4;

/// What an index or manifest names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: ImageDigest,
    /// Bytes of the blob. A layout's blobs are there, and have the size that they have.
    pub(crate) size: Option<u64>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

/// What a digest names.
pub(crate) enum Document {
    /// Images for several machines.
    Index(Vec<Descriptor>),
    /// One image.
    Manifest {
        /// Its configuration.
        config: Descriptor,
        /// Its layers, the lowest first.
        layers: Vec<Descriptor>,
    },
}

impl Document {
    /// Reads the document of that digest. Which of the two it is, its fields say;
    /// what could be read as either is refused, because two readers would run two images.
    pub(crate) fn parse(digest: &ImageDigest, bytes: &[u8]) -> Result<Self, ImageError> {
        let raw: Raw = json(digest, bytes)?;
        let says_index = raw.media_type.contains(".index.") || raw.media_type.contains("manifest.list");
        let malformed = |what| Err(ImageError::Malformed { digest: digest.clone(), what });
        match raw.config {
            Some(_) if says_index || !raw.manifests.is_empty() => {
                malformed("it is an index and a manifest at once")
            }
            None if !raw.layers.is_empty() => malformed("it has layers and no configuration"),
            Some(config) => Ok(Self::Manifest { config, layers: raw.layers }),
            None => Ok(Self::Index(raw.manifests)),
        }
    }
}

/// The one for this machine; one that names no machine is for all.
pub(crate) fn ours(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let ours = |platform: &Platform| platform.os == "linux" && platform.architecture == architecture();
    manifests.iter().find(|one| one.platform.as_ref().is_none_or(ours))
}

pub(crate) fn too_deep(digest: ImageDigest) -> ImageError {
    ImageError::Malformed { digest, what: "an index within an index within an index" }
}

pub(super) fn json<T: DeserializeOwned>(digest: &ImageDigest, bytes: &[u8]) -> Result<T, ImageError> {
    let malformed =
        ImageError::Malformed { digest: digest.clone(), what: "the JSON lacks what it must have" };
    serde_json::from_slice(bytes).map_err(|_| malformed)
}

/// This machine as Go and OCI call it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// What the media type of a layer says.
    pub(crate) fn of(media_type: &str) -> Result<Self, UnpackError> {
        if media_type.ends_with("+gzip") || media_type.ends_with(".gzip") {
            Ok(Self::Gzip)
        } else if media_type.ends_with("+zstd") {
            Ok(Self::Zstd)
        } else if media_type.ends_with(".tar") {
            Ok(Self::Plain)
        } else {
            Err(UnpackError::MediaType(media_type.chars().take(100).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &serde_json::Value) -> Result<Document, ImageError> {
        let bytes = serde_json::to_vec(value).unwrap();
        Document::parse(&ImageDigest::of(&bytes), &bytes)
    }

    #[test]
    fn what_could_be_an_index_and_a_manifest_is_neither() {
        let one = serde_json::json!({ "digest": ImageDigest::of(b"x").to_string(), "size": 1 });
        let manifest = serde_json::json!({ "config": one, "layers": [one] });
        assert!(matches!(read(&manifest), Ok(Document::Manifest { .. })));
        let mut both = manifest.clone();
        both["manifests"] = serde_json::json!([one]);
        assert!(matches!(read(&both), Err(ImageError::Malformed { .. })));
        let mut named = manifest;
        named["mediaType"] = "application/vnd.oci.image.index.v1+json".into();
        assert!(matches!(read(&named), Err(ImageError::Malformed { .. })));
        let bare = serde_json::json!({ "layers": [one] });
        assert!(matches!(read(&bare), Err(ImageError::Malformed { .. })));
    }

    #[test]
    fn a_size_that_is_no_number_of_bytes_makes_the_document_unreadable() {
        for size in [serde_json::json!(-1), serde_json::json!(1.5), serde_json::json!("7")] {
            let one = serde_json::json!({ "digest": ImageDigest::of(b"x").to_string(), "size": size });
            let manifest = serde_json::json!({ "config": one, "layers": [] });
            assert!(matches!(read(&manifest), Err(ImageError::Malformed { .. })), "{size}");
        }
    }
}
