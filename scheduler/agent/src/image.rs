//! Images, by digest and from directories of this machine: OCI image layouts,
//! and single executables. What a registry has comes here by a pull
//! ([`Puller`](crate::Puller)), into a layout of the node's own; a node that may
//! not reach out starts what an operator put there. What no pod uses for a while
//! is removed again (`image/collect.rs`).

mod collect;
mod digest;
pub(crate) mod document;
mod layout;
mod unpack;
mod uses;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::confine::Root;
use crate::files;
use collect::{KernelShelf, Moments, Shelf};

pub use collect::ImageKeeping;
pub(crate) use collect::{CollectError, Collected, PodImage};
pub(crate) use digest::Hasher;
pub use digest::{DigestError, ImageDigest};
pub(crate) use layout::blob;
pub use unpack::UnpackError;
pub(crate) use uses::{Coming, Uses, Wanted};

/// The prefix of images that are one executable of this machine.
const LOCAL: &str = "coffer.local/";
/// The layout, in the store's directory, of what was pulled.
pub(crate) const PULLED: &str = "layout";

/// An image as a pod names it: always with its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// The name before `@`.
    pub name: String,
    /// What it must be.
    pub digest: ImageDigest,
}

/// An image that is ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// What the pod sees as `/`.
    pub root: Root,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, unless the pod has its own.
    pub command: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub directory: PathBuf,
}

/// Why an image is not ready to run.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is named by a tag, or by nothing.
    #[error("image {0:?} has no digest: name it as NAME@sha256:…, so that it is the same on every node")]
    NoDigest(String),
    /// The digest is none.
    #[error("image {0:?}: {1}")]
    Digest(String, DigestError),
    /// This node has nothing of that digest.
    #[error(
        "this node has no image {0}; add its layout or executable to the node's images, or let the node ask its registry"
    )]
    Absent(ImageDigest),
    /// What is stored under the digest is something else.
    #[error("blob {wanted} has the digest {found}: the layout is damaged or forged")]
    Forged {
        /// Under what it was stored.
        wanted: ImageDigest,
        /// What it is.
        found: ImageDigest,
    },
    /// It is not what the specification says.
    #[error("{digest} is not as the OCI image specification wants it: {what}")]
    Malformed {
        /// Which blob.
        digest: ImageDigest,
        /// What is wrong.
        what: &'static str,
    },
    /// It is for other machines.
    #[error("image {0} has nothing for this machine ({os}/{arch})", os = std::env::consts::OS, arch = document::architecture())]
    Platform(ImageDigest),
    /// A layer could not be unpacked.
    #[error("image {0}: {1}")]
    Unpack(ImageDigest, UnpackError),
    /// The disk failed.
    #[error("the disk failed at {0}: {1}")]
    Disk(PathBuf, io::Error),
}

impl ImageReference {
    /// Reads the `image` of a pod.
    ///
    /// # Errors
    /// It has no digest, or a bad one.
    pub fn parse(text: &str) -> Result<Self, ImageError> {
        let (name, digest) = text.split_once('@').ok_or_else(|| ImageError::NoDigest(text.to_owned()))?;
        let digest =
            ImageDigest::parse(digest).map_err(|error| ImageError::Digest(text.to_owned(), error))?;
        Ok(Self { name: name.to_owned(), digest })
    }

    /// Whether it is an executable of this machine, which no registry has.
    pub(crate) fn is_local(&self) -> bool {
        self.name.starts_with(LOCAL)
    }

    /// The name of a single executable, if it is one.
    fn local(&self) -> Option<&str> {
        let name = self.name.strip_prefix(LOCAL)?;
        let plain =
            !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c));
        (plain && !name.starts_with('.')).then_some(name)
    }
}

/// Where a node finds images, and where it keeps them ready.
pub struct ImageStore {
    directory: PathBuf,
    /// What was pulled, then those of the operator.
    layouts: Vec<PathBuf>,
    /// Local programs that may be images, and their digests once they are known.
    executables: Mutex<BTreeMap<PathBuf, Option<ImageDigest>>>,
    /// One is made at a time: two pods that want the same image would write over each other's copy.
    making: Mutex<()>,
    /// What is about to be used.
    uses: Arc<Uses>,
    /// Since when what is unused.
    moments: Mutex<Moments>,
    shelf: Box<dyn Shelf>,
}

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageStore").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl ImageStore {
    /// A store that keeps images ready in `directory`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(directory: PathBuf, layouts: Vec<PathBuf>, executables: Vec<PathBuf>) -> io::Result<Self> {
        Self::on(directory, layouts, executables, Box::new(KernelShelf))
    }

    fn on(
        directory: PathBuf,
        layouts: Vec<PathBuf>,
        executables: Vec<PathBuf>,
        shelf: Box<dyn Shelf>,
    ) -> io::Result<Self> {
        files::make_dirs(&directory, 0o711)?;
        // What was pulled is looked at first: it is whole where its manifest is there.
        let layouts = std::iter::once(directory.join(PULLED)).chain(layouts).collect();
        let executables = Mutex::new(executables.into_iter().map(|path| (path, None)).collect());
        let moments = Mutex::new(Moments::read(&directory));
        let (making, uses) = (Mutex::default(), Arc::default());
        Ok(Self { directory, layouts, executables, making, uses, moments, shelf })
    }

    /// Who is about to use what: those who pull into this store say it, too.
    pub(crate) fn uses(&self) -> &Arc<Uses> {
        &self.uses
    }

    /// Keeps an image from being removed, whether it is there already or is to come. Whoever starts a pod from one
    /// holds this from before it is looked for until it is noted that the pod uses it.
    pub(crate) fn want(&self, reference: &ImageReference) -> Wanted {
        self.uses.want(&reference.digest)
    }

    /// Makes an image ready: verified, unpacked, not yet run. Blocks on the disk.
    ///
    /// # Errors
    /// It is not there, not what its digest says, or not safe to unpack.
    pub fn ready(&self, reference: &ImageReference) -> Result<Image, ImageError> {
        match reference.local() {
            Some(name) => self.executable(name, &reference.digest),
            None => self.layout(&reference.digest),
        }
    }

    /// Makes what is not there yet. It gets its name when it is whole, so that
    /// pods whose image is there wait for nobody.
    fn make(&self, there: &Path, make: impl FnOnce() -> Result<(), ImageError>) -> Result<(), ImageError> {
        if there.exists() {
            return Ok(());
        }
        let _turn = self.making.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if there.exists() { Ok(()) } else { make() }
    }

    fn executable(&self, name: &str, digest: &ImageDigest) -> Result<Image, ImageError> {
        let file = self.directory.join(format!("exe-{}", digest.hex()));
        self.make(&file, || copy_verified(&self.find_executable(digest)?, &file, digest))?;
        Ok(Image {
            root: Root::Executable { file, name: name.to_owned() },
            entrypoint: vec![format!("/{name}")],
            command: Vec::new(),
            env: Vec::new(),
            directory: "/".into(),
        })
    }

    /// From the first layout that has all of it.
    fn layout(&self, digest: &ImageDigest) -> Result<Image, ImageError> {
        let mut absent = None;
        for layout in self.layouts.iter().filter(|layout| blob(layout, digest).exists()) {
            match self.unpacked(layout, digest) {
                Err(error @ ImageError::Absent(_)) => drop(absent.get_or_insert(error)),
                found => return found,
            }
        }
        Err(absent.unwrap_or_else(|| ImageError::Absent(digest.clone())))
    }

    fn unpacked(&self, layout: &Path, digest: &ImageDigest) -> Result<Image, ImageError> {
        let image = layout::Manifest::read(layout, digest)?;
        let ready = self.directory.join(format!("oci-{}", image.digest.hex()));
        self.make(&ready, || {
            let beside = self.directory.join(format!("new-{}", image.digest.hex()));
            let disk = |error| ImageError::Disk(beside.clone(), error);
            files::remove_tree(&beside).map_err(disk)?;
            files::make_dirs(&beside, 0o755).map_err(disk)?;
            image.unpack(layout, &beside)?;
            // Until it has its name it is not looked at: a crash leaves a leftover, never half an image.
            std::fs::rename(&beside, &ready).map_err(disk)
        })?;
        Ok(image.runnable(ready))
    }

    /// Digests are computed once; a copy is verified again when it is made.
    fn find_executable(&self, digest: &ImageDigest) -> Result<PathBuf, ImageError> {
        let mut known = self.executables.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (path, found) in known.iter_mut() {
            if found.is_none() {
                *found = ImageDigest::of_file(path).ok();
            }
            if found.as_ref() == Some(digest) {
                return Ok(path.clone());
            }
        }
        Err(ImageError::Absent(digest.clone()))
    }
}

fn copy_verified(source: &Path, file: &Path, digest: &ImageDigest) -> Result<(), ImageError> {
    let disk = |error| ImageError::Disk(source.to_owned(), error);
    let beside = file.with_extension("new");
    let copy = || -> io::Result<ImageDigest> {
        std::fs::copy(source, &beside)?;
        std::fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o555))?;
        files::open(&beside)?.sync_all()?;
        ImageDigest::of_file(&beside)
    };
    let found = copy().map_err(disk)?;
    if found != *digest {
        drop(std::fs::remove_file(&beside));
        return Err(ImageError::Forged { wanted: digest.clone(), found });
    }
    std::fs::rename(&beside, file).map_err(disk)
}
