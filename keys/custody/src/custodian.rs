//! The port: whoever can give back the root key.

use std::io;
use std::path::PathBuf;

use coffer_keys::{PassphraseError, RootKey, ShareError};

/// Who keeps a root key.
pub trait Custodian {
    /// Gives the root key back.
    ///
    /// # Errors
    /// [`CustodyError`], split by who can mend it.
    fn unlock(&self) -> Result<RootKey, CustodyError>;
}

/// Why a root key was not stored or not given back.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The disk: a file cannot be read or written.
    #[error("{}: {source}; check that the path exists and that you may use it", path.display())]
    Disk {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The caller: a file that must not be overwritten is already there.
    #[error("{}: exists already and is never overwritten; move it away or name another path", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The operator: a secret lies open to other users of the machine.
    #[error("{}: other users may read it (mode {mode:o}); run chmod 600 on it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is far too large, empty, or not text.
    #[error("{}: not a file of this kind; is it the right path?", path.display())]
    NotThisKind {
        /// Which file.
        path: PathBuf,
    },
    /// The passphrase or its slot.
    #[error("{}: {source}", path.display())]
    Passphrase {
        /// The slot file.
        path: PathBuf,
        /// What is wrong.
        source: PassphraseError,
    },
    /// A holder: one share file is damaged or not a share.
    #[error("{}: {source}", path.display())]
    Share {
        /// The share file.
        path: PathBuf,
        /// What is wrong.
        source: ShareError,
    },
    /// The ceremony: sound shares that do not combine, or too few.
    #[error("{source} (read from {})", list(paths))]
    Quorum {
        /// The files that were read.
        paths: Vec<PathBuf>,
        /// What is wrong or missing.
        source: ShareError,
    },
}

fn list(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "no file".to_owned();
    }
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
