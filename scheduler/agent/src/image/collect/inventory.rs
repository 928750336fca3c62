//! What is in an image store, by name: images that are ready, and blobs of what
//! was pulled. Only what is named as this agent names it is ever removed.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::files;
use crate::image::document::{DOCUMENT_MAX, Document};
use crate::image::{ImageDigest, PULLED, blob};

/// Something that can be removed by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// A blob of what was pulled.
    Blob(ImageDigest),
    /// The copy of a single executable.
    Executable(ImageDigest),
    /// The root file system of the manifest of that digest.
    Unpacked(ImageDigest),
}

/// What stands before the digest in a name.
const BLOB: &str = "blob-";
const EXECUTABLE: &str = "exe-";
const UNPACKED: &str = "oci-";

impl Thing {
    /// What has that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let digest = |before: &str| of_hex(name.strip_prefix(before)?);
        let unpacked = || digest(UNPACKED).map(Self::Unpacked);
        digest(BLOB).map(Self::Blob).or_else(|| digest(EXECUTABLE).map(Self::Executable)).or_else(unpacked)
    }

    /// Where it is in the store of that directory.
    pub(crate) fn path(&self, store: &Path) -> PathBuf {
        match self {
            Self::Blob(digest) => blob(&store.join(PULLED), digest),
            ready => store.join(ready.to_string()),
        }
    }
}

/// Its name: what is ready has it in the store, a blob only where moments are noted.
impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, digest) = match self {
            Self::Blob(digest) => (BLOB, digest),
            Self::Executable(digest) => (EXECUTABLE, digest),
            Self::Unpacked(digest) => (UNPACKED, digest),
        };
        write!(f, "{kind}{}", digest.hex())
    }
}

fn of_hex(hex: &str) -> Option<ImageDigest> {
    ImageDigest::parse(&format!("sha256:{hex}")).ok()
}

/// Everything that is there.
pub(crate) fn all(store: &Path) -> io::Result<Vec<Thing>> {
    let ready = files::names(store)?.into_iter().filter_map(|name| Thing::named(&name));
    let ready = ready.filter(|thing| !matches!(thing, Thing::Blob(_)));
    let blobs = files::names(&store.join(PULLED).join("blobs/sha256"))?;
    Ok(ready.chain(blobs.iter().filter_map(|hex| of_hex(hex)).map(Thing::Blob)).collect())
}

/// Which goes first of what is unused for as long: what names others before what it names, so that an image stops
/// being there before something of it is missing.
pub(crate) fn rank(store: &Path, thing: &Thing) -> u8 {
    let Thing::Blob(digest) = thing else { return 3 };
    match document(&thing.path(store), digest) {
        Some(Document::Index(_)) => 0,
        Some(Document::Manifest { .. }) => 1,
        None => 2,
    }
}

/// The document that a blob is; layers are not read to their end to see that they are none.
fn document(path: &Path, digest: &ImageDigest) -> Option<Document> {
    let mut first = [0];
    files::open(path).ok()?.read_exact(&mut first).ok()?;
    let bytes = (first == *b"{").then(|| files::read_at_most(path, DOCUMENT_MAX).ok())??;
    Document::parse(digest, &bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_agent_named_is_something_that_can_be_removed() {
        let digest = ImageDigest::of(b"x");
        for thing in
            [Thing::Blob(digest.clone()), Thing::Executable(digest.clone()), Thing::Unpacked(digest.clone())]
        {
            assert_eq!(Thing::named(&thing.to_string()), Some(thing));
        }
        let hex = digest.hex();
        for name in ["layout", "unused.json", "oci-", "oci-1", hex, &format!("oci-{hex}.new"), "exe-../x"] {
            assert_eq!(Thing::named(name), None, "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("layout/blobs/sha256");
        files::make_dirs(&blobs, 0o700).unwrap();
        for name in ["notes", &format!("blob-{hex}"), &format!("old-oci-{hex}")] {
            files::replace(&dir.path().join(name), b"", 0o600).unwrap();
        }
        files::replace(&blobs.join("notes"), b"", 0o600).unwrap();
        assert_eq!(all(dir.path()).unwrap(), []);
        files::replace(&blobs.join(hex), b"", 0o600).unwrap();
        assert_eq!(all(dir.path()).unwrap(), [Thing::Blob(digest)]);
        assert_eq!(all(&dir.path().join("none")).unwrap(), []);
    }
}
