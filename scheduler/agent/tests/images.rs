//! Images are what their digests say or are refused, and nothing in a layer can
//! name a place outside.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up must fail")]

use std::io::Write;
use std::path::{Path, PathBuf};

use coffer_agent::{Image, ImageDigest, ImageError, ImageReference, ImageStore, Root, UnpackError};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

struct Layout {
    directory: TempDir,
}

/// One entry of a layer; the name is written raw, as a forger would.
struct Entry<'a> {
    kind: EntryType,
    name: &'a str,
    link: &'a str,
    body: &'a [u8],
    mode: u32,
}

fn file<'a>(name: &'a str, body: &'a [u8]) -> Entry<'a> {
    Entry { kind: EntryType::Regular, name, link: "", body, mode: 0o4755 }
}

fn link<'a>(kind: EntryType, name: &'a str, link: &'a str) -> Entry<'a> {
    Entry { kind, name, link, body: b"", mode: 0o777 }
}

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        let raw = header.as_mut_bytes();
        raw[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        raw[157..157 + entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.body.len() as u64);
        header.set_cksum();
        builder.append(&header, entry.body).unwrap();
    }
    builder.into_inner().unwrap()
}

impl Layout {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("layout/blobs/sha256")).unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("layout")
    }

    fn blob(&self, bytes: &[u8]) -> ImageDigest {
        let digest = ImageDigest::of(bytes);
        self.store(&digest, bytes);
        digest
    }

    fn store(&self, digest: &ImageDigest, bytes: &[u8]) {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.path().join("blobs/sha256").join(digest.hex()))
            .unwrap();
        file.write_all(bytes).unwrap();
    }

    fn json(&self, value: &Value) -> ImageDigest {
        self.blob(&serde_json::to_vec(value).unwrap())
    }

    /// An image of these layers, each with its media type; the manifest's digest.
    fn image(&self, layers: &[(&str, Vec<u8>, Vec<u8>)]) -> ImageDigest {
        let diff_ids: Vec<String> =
            layers.iter().map(|(_, _, plain)| ImageDigest::of(plain).to_string()).collect();
        let config = self.json(&json!({
            "architecture": "any", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "config": { "Entrypoint": ["/bin/site"], "Cmd": ["serve"], "Env": ["A=b=c"], "WorkingDir": "/data" },
        }));
        let described: Vec<Value> = layers
            .iter()
            .map(|(kind, packed, _)| {
                json!({
                    "mediaType": format!("application/vnd.oci.image.layer.v1.{kind}"),
                    "digest": self.blob(packed).to_string(), "size": packed.len(),
                })
            })
            .collect();
        self.json(&json!({
            "schemaVersion": 2, "layers": described,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": 1 },
        }))
    }

    fn plain(&self, layers: &[&[Entry<'_>]]) -> ImageDigest {
        let layers: Vec<_> = layers
            .iter()
            .map(|entries| {
                let tar = archive(entries);
                ("tar", tar.clone(), tar)
            })
            .collect();
        self.image(&layers)
    }

    fn ready(&self, digest: &ImageDigest) -> Result<Image, ImageError> {
        let store =
            ImageStore::new(self.directory.path().join("store"), vec![self.path()], Vec::new()).unwrap();
        store.ready(&ImageReference::parse(&format!("example/site@{digest}")).unwrap())
    }

    fn unpacked(&self, digest: &ImageDigest) -> PathBuf {
        match self.ready(digest).unwrap().root {
            Root::Image { directory } => directory,
            root @ Root::Executable { .. } => panic!("{root:?}"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test looks at what was unpacked")]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn an_image_is_unpacked_layer_over_layer_however_it_is_compressed() {
    let layout = Layout::new();
    let lower = archive(&[file("bin/site", b"old"), file("etc/gone", b"x"), file("opaque/a", b"x")]);
    let upper = archive(&[
        file("bin/site", b"new"),
        file("etc/.wh.gone", b""),
        file("opaque/b", b"y"),
        file("opaque/.wh..wh..opq", b""),
        link(EntryType::Link, "bin/same", "bin/site"),
    ]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&lower).unwrap();
    let zstd = zstd::encode_all(upper.as_slice(), 1).unwrap();
    let digest = layout.image(&[("tar+gzip", gzip.finish().unwrap(), lower), ("tar+zstd", zstd, upper)]);
    let image = layout.ready(&digest).unwrap();
    assert_eq!(image.entrypoint, ["/bin/site"]);
    assert_eq!(image.command, ["serve"]);
    assert_eq!(image.env, [("A".to_owned(), "b=c".to_owned())]);
    assert_eq!(image.directory, Path::new("/data"));
    let root = layout.unpacked(&digest);
    assert_eq!(read(&root.join("bin/site")), "new");
    assert_eq!(read(&root.join("bin/same")), "new");
    assert!(!root.join("etc/gone").exists());
    assert!(!root.join("opaque/a").exists() && root.join("opaque/b").exists());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(root.join("bin/site")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o7777, 0o555, "nothing is writable, and no set-user-id bit is left");
}

#[test]
fn a_path_that_leads_out_is_refused() {
    for name in ["../out", "a/../../out", "../../../../out"] {
        let layout = Layout::new();
        let digest = layout.plain(&[&[file(name, b"x")]]);
        let refused = layout.ready(&digest);
        assert!(matches!(refused, Err(ImageError::Unpack(_, UnpackError::Path(_)))), "{name}: {refused:?}");
    }
}

#[test]
fn a_link_in_a_layer_leads_nowhere_but_into_the_image() {
    let layout = Layout::new();
    let outside = layout.directory.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let target = outside.display().to_string();
    let digest = layout.plain(&[
        &[
            link(EntryType::Symlink, "out", &target),
            link(EntryType::Symlink, "up", "../../../../../../../../.."),
        ],
        &[file("out/planted", b"x"), file("up/planted", b"x")],
    ]);
    // Whether it is refused or lands inside, nothing lands outside.
    drop(layout.ready(&digest));
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!Path::new("/planted").exists());
}

#[test]
fn a_hard_link_to_a_file_outside_is_refused() {
    let layout = Layout::new();
    let secret = layout.directory.path().join("secret");
    layout.store(&ImageDigest::of(b"unused"), b"unused");
    std::fs::copy(layout.path().join("blobs/sha256").join(ImageDigest::of(b"unused").hex()), &secret)
        .unwrap();
    let absolute = secret.display().to_string();
    for target in [absolute.as_str(), "../../secret"] {
        let digest = layout.plain(&[&[link(EntryType::Link, "stolen", target)]]);
        assert!(matches!(layout.ready(&digest), Err(ImageError::Unpack(..))), "{target}");
    }
}

#[test]
fn devices_and_pipes_are_refused() {
    for kind in [EntryType::Block, EntryType::Char, EntryType::Fifo] {
        let layout = Layout::new();
        let digest = layout.plain(&[&[link(kind, "dev/disk", "")]]);
        assert!(
            matches!(layout.ready(&digest), Err(ImageError::Unpack(_, UnpackError::Special(_)))),
            "{kind:?}"
        );
    }
}

#[test]
fn a_blob_that_is_not_what_its_digest_says_is_refused() {
    let layout = Layout::new();
    let tar = archive(&[file("bin/site", b"true")]);
    let digest = layout.plain(&[&[file("bin/site", b"true")]]);
    layout.store(&ImageDigest::of(&tar), &archive(&[file("bin/site", b"evil")]));
    assert!(matches!(layout.ready(&digest), Err(ImageError::Forged { .. })));

    let layout = Layout::new();
    let digest = layout.plain(&[&[file("bin/site", b"true")]]);
    layout.store(&digest, b"{}");
    assert!(matches!(layout.ready(&digest), Err(ImageError::Forged { .. })));

    // The layer is the one named, but not the one that was built.
    let layout = Layout::new();
    let other = archive(&[file("bin/site", b"other")]);
    let digest = layout.image(&[("tar", tar, other)]);
    assert!(matches!(layout.ready(&digest), Err(ImageError::Forged { .. })));
}

#[test]
fn an_image_whose_layer_or_document_is_gone_is_not_here() {
    for gone in ["layer", "manifest"] {
        let layout = Layout::new();
        let tar = archive(&[file("bin/site", b"true")]);
        let digest = layout.plain(&[&[file("bin/site", b"true")]]);
        let missing = if gone == "layer" { ImageDigest::of(&tar) } else { digest.clone() };
        std::fs::remove_file(layout.path().join("blobs/sha256").join(missing.hex())).unwrap();
        let error = layout.ready(&digest).map(drop).unwrap_err();
        assert!(matches!(&error, ImageError::Absent(absent) if *absent == missing), "{gone}: {error:?}");
    }
}

#[test]
fn an_image_for_another_machine_or_of_an_unknown_kind_is_refused() {
    let layout = Layout::new();
    let one = layout.plain(&[&[file("a", b"x")]]);
    let platform = json!({ "os": "plan9", "architecture": "mips" });
    let index = layout.json(&json!({ "manifests": [{ "digest": one.to_string(), "platform": platform }] }));
    assert!(matches!(layout.ready(&index), Err(ImageError::Platform(_))));
    let tar = archive(&[file("a", b"x")]);
    let odd = layout.image(&[("tar+lzma", tar.clone(), tar)]);
    assert!(matches!(layout.ready(&odd), Err(ImageError::Unpack(_, UnpackError::MediaType(_)))));
}

#[test]
fn an_image_without_a_digest_is_none() {
    for text in ["example/site", "example/site:latest", "coffer.local/site", "a@sha256:12", "a@md5:0", ""] {
        assert!(ImageReference::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn an_executable_that_changed_since_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("site");
    let write = |text: &[u8]| {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&program).unwrap();
        file.write_all(text).unwrap();
    };
    write(b"first");
    let store = ImageStore::new(directory.path().join("store"), Vec::new(), vec![program.clone()]).unwrap();
    let named = |digest: &ImageDigest| ImageReference::parse(&format!("coffer.local/site@{digest}")).unwrap();
    let other = ImageDigest::of(b"other");
    assert!(matches!(store.ready(&named(&other)), Err(ImageError::Absent(_))));
    write(b"second");
    assert!(matches!(store.ready(&named(&ImageDigest::of(b"first"))), Err(ImageError::Forged { .. })));
}

#[test]
fn an_image_that_many_pods_want_at_once_is_made_ready_for_each() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("site");
    let content = vec![7; 8 << 20];
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&program).unwrap();
    file.write_all(&content).unwrap();
    let store = ImageStore::new(directory.path().join("store"), Vec::new(), vec![program]).unwrap();
    let reference =
        ImageReference::parse(&format!("coffer.local/site@{}", ImageDigest::of(&content))).unwrap();
    std::thread::scope(|scope| {
        let pods: Vec<_> = (0..8).map(|_| scope.spawn(|| store.ready(&reference))).collect();
        for pod in pods {
            pod.join().unwrap().unwrap();
        }
    });
}
