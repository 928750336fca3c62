//! Images for tests: small ones of anything, and one that holds the sample
//! program with what it needs to be loaded.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use coffer_agent::{ImageDigest, ImageReference};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::bench;

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image, in blobs.
pub(super) struct Picture {
    /// The document that names it.
    pub(super) digest: ImageDigest,
    /// Manifests and indices, with their types.
    pub(super) documents: Vec<(String, Vec<u8>)>,
    /// Configuration, then layers.
    pub(super) blobs: Vec<Vec<u8>>,
}

impl Picture {
    /// An image with one layer, in which the file `bin/site` has this text.
    pub(super) fn of(text: &[u8]) -> Self {
        Self::new(&[archive(&[("bin/site".into(), text.to_vec())])], |_| {})
    }

    /// An image of these archives; `change` may forge its manifest.
    pub(super) fn new(archives: &[Vec<u8>], change: impl FnOnce(&mut Value)) -> Self {
        let diff_ids: Vec<String> = archives.iter().map(|tar| ImageDigest::of(tar).to_string()).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "config": { "Entrypoint": ["/bin/site"] },
        });
        let mut blobs = vec![serde_json::to_vec(&config).unwrap()];
        blobs.extend(archives.iter().map(|tar| gzip(tar)));
        let mut described: Vec<Value> = blobs.iter().map(|blob| describe(blob)).collect();
        let mut config = described.remove(0);
        config["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let mut manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described });
        change(&mut manifest);
        let manifest = serde_json::to_vec(&manifest).unwrap();
        Self { digest: ImageDigest::of(&manifest), documents: vec![(MANIFEST.to_owned(), manifest)], blobs }
    }

    /// The same behind an index, beside images for other machines.
    pub(super) fn behind_index(mut self, platform: &Value) -> Self {
        let (kind, bytes) = &self.documents[0];
        let foreign = json!({ "mediaType": kind, "digest": ImageDigest::of(b"foreign").to_string(), "size": 7,
            "platform": { "os": "linux", "architecture": "s390x" } });
        let ours = json!({ "mediaType": kind, "digest": self.digest.to_string(), "size": bytes.len(), "platform": platform });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [foreign, ours] });
        let index = serde_json::to_vec(&index).unwrap();
        self.digest = ImageDigest::of(&index);
        self.documents.insert(0, (INDEX.to_owned(), index));
        self
    }

    /// An index alone, of images that are somewhere already.
    pub(super) fn index(of: &[(&Self, &str)]) -> Self {
        let described = of.iter().map(|(picture, architecture)| {
            let (kind, bytes) = &picture.documents[0];
            json!({ "mediaType": kind, "digest": picture.digest.to_string(), "size": bytes.len(),
                "platform": { "os": "linux", "architecture": architecture } })
        });
        let described: Vec<Value> = described.collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": described });
        let index = serde_json::to_vec(&index).unwrap();
        Self {
            digest: ImageDigest::of(&index),
            documents: vec![(INDEX.to_owned(), index)],
            blobs: Vec::new(),
        }
    }

    /// As a pod names it.
    pub(super) fn at(&self, host: &str) -> ImageReference {
        ImageReference::parse(&format!("{host}/coffer/site@{}", self.digest)).unwrap()
    }

    pub(super) fn layer(&self) -> &[u8] {
        &self.blobs[1]
    }

    /// The sample program, and the libraries that load it.
    pub(super) fn of_sample() -> Self {
        Self::new(&[sample()], |_| {})
    }
}

/// The layer of the sample program.
pub(super) fn sample() -> Vec<u8> {
    let program = bench::sample_program();
    let listed = Command::new("ldd").arg(&program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    let mut files = vec![("bin/site".into(), content(&program))];
    files.extend(libraries.map(|path| (path.strip_prefix("/").unwrap().to_owned(), content(&path))));
    archive(&files)
}

#[expect(clippy::disallowed_methods, reason = "a test packs files of this machine")]
fn content(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn describe(blob: &[u8]) -> Value {
    json!({
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": ImageDigest::of(blob).to_string(), "size": blob.len(),
    })
}

pub(super) fn archive(files: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}
