//! A site's directory: whose it is, and that nobody else has it open.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use coffer_model::SiteId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::disk::{self, Disk};

/// Why a site's directory was not opened or created; each message names the path.
#[derive(Debug, thiserror::Error)]
pub enum OpenSiteError {
    /// The directory has no `SITE` file.
    #[error("{path} is not a site directory: it has no SITE file; create the site first")]
    NotASite {
        /// The directory.
        path: PathBuf,
    },
    /// The directory already belongs to a site, or has volumes in it.
    #[error("{path} already holds a site; open it, or create the new one elsewhere")]
    AlreadyASite {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to another site.
    #[error("{path} belongs to {found}, not to {expected}; check which directory is mounted there")]
    OtherSite {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: SiteId,
        /// Whose it should be.
        expected: SiteId,
    },
    /// Another process, or another part of this one, has it open.
    #[error("{path} is locked: the site is open elsewhere; stop that process first")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The `SITE` file cannot be understood.
    #[error("{path} is damaged: it is not what this program writes; restore it from the topology")]
    SiteFile {
        /// The `SITE` file.
        path: PathBuf,
    },
    /// A file has a format that this version does not know.
    #[error("{path} has format {found}, which this version does not know; use a newer one")]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it states.
        found: u32,
    },
    /// A volume file belongs to another site.
    #[error("{path} is a volume of {found}; move it back to where it came from")]
    VolumeOfOtherSite {
        /// The volume file.
        path: PathBuf,
        /// Whose it is.
        found: SiteId,
    },
    /// A volume file has the name of another volume.
    #[error("{path} is volume {found} by its header; volume files were exchanged, rename them back")]
    VolumeExchanged {
        /// The volume file.
        path: PathBuf,
        /// The number in its header.
        found: u32,
    },
    /// The files that would let the service into a pod or bucket cannot be read.
    #[error("{path}: {source}; the site's credentials belong there")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pod cannot be called.
    #[error(transparent)]
    Pod(crate::PodConfigError),
    /// The pod does not answer, and must: a new deployment needs it.
    #[error("the pod {name} does not answer at {endpoint}; start it first")]
    Silent {
        /// Name of the site.
        name: String,
        /// Where it should be.
        endpoint: String,
    },
    /// The pod does not let this deployment in, or is not the one that the
    /// topology means.
    #[error("the pod {name} is refused: {refusal}")]
    Refused {
        /// Name of the site.
        name: String,
        /// Why.
        refusal: crate::PodRefusal,
    },
    /// The pod holds records or slots of somebody.
    #[error("the store of the pod {name} is not empty; a new deployment begins with new stores")]
    Used {
        /// Name of the site.
        name: String,
    },
    /// The bucket cannot be this site.
    #[error(transparent)]
    Bucket(crate::BucketError),
    /// The disk failed.
    #[error("{path}: {source}")]
    Disk {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenSiteError {
    /// Turns an I/O error at `path` into one of these.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { path: path.to_owned(), source }
    }
}

/// What a new site has, and what a site has whose volume numbers have gaps
/// that its ledger explains.
const FORMATS: [u32; 2] = [1, 2];
const SITE_FILE_BYTES_MAX: u64 = 4096;

/// The text of the `SITE` file.
#[derive(Serialize, Deserialize)]
struct SiteFile {
    format: u32,
    site: String,
}

/// The lock of a site's directory. Released when dropped, not only when its
/// file is closed: a child process that is being started elsewhere in the
/// program holds a copy of the descriptor until it executes its own image.
pub(crate) struct SiteLock(File);

impl Drop for SiteLock {
    fn drop(&mut self) {
        // If this fails, closing the file releases the lock as well.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn take(file: File, how: FlockOperation, path: PathBuf) -> Result<SiteLock, OpenSiteError> {
    match flock(&file, how) {
        Ok(()) => Ok(SiteLock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenSiteError::Locked { path }),
        Err(error) => Err(OpenSiteError::at(&path)(error.into())),
    }
}

/// The paths of a site's directory.
#[derive(Clone)]
pub(crate) struct SiteDir {
    root: PathBuf,
}

impl SiteDir {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub(crate) fn slots(&self) -> PathBuf {
        self.root.join("slots")
    }

    /// One file for each scope whose owners have epochs.
    pub(crate) fn epochs(&self) -> PathBuf {
        self.root.join("epochs")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// The index as of some batch.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.root.join("CHECKPOINT")
    }

    /// The ledger of volumes that compaction removed.
    pub(crate) fn retired(&self) -> PathBuf {
        self.root.join("RETIRED")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.root.clone()
    }

    fn site_file(&self) -> PathBuf {
        self.root.join("SITE")
    }

    /// Whether a site has been created here.
    pub(crate) fn exists(&self) -> bool {
        self.site_file().exists()
    }

    /// Takes the lock; it is held for as long as what is returned lives.
    pub(crate) fn lock(&self) -> Result<SiteLock, OpenSiteError> {
        let path = self.lock_file();
        let file = disk::open_lock(&path).map_err(OpenSiteError::at(&path))?;
        take(file, FlockOperation::NonBlockingLockExclusive, path)
    }

    /// Takes the lock as somebody who only looks: beside others who look, and
    /// on a disk that takes no writes. `None` where there is no file to lock;
    /// none is made.
    pub(crate) fn lock_to_look(&self) -> Result<Option<SiteLock>, OpenSiteError> {
        let path = self.lock_file();
        match disk::open_file(&path, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OpenSiteError::at(&path)(error)),
            Ok(file) => take(file, FlockOperation::NonBlockingLockShared, path).map(Some),
        }
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    /// Makes the directories and, last, the `SITE` file: a directory has one
    /// only if everything else is there, durably.
    pub(crate) fn create(&self, site: SiteId, disk: &dyn Disk) -> Result<(), OpenSiteError> {
        disk.make_dir(&self.root).map_err(OpenSiteError::at(&self.root))?;
        let _lock = self.lock()?;
        if self.exists() {
            return Err(OpenSiteError::AlreadyASite { path: self.root.clone() });
        }
        for dir in [self.volumes(), self.slots(), self.quarantine()] {
            disk.make_dir(&dir).map_err(OpenSiteError::at(&dir))?;
            let mut entries = std::fs::read_dir(&dir).map_err(OpenSiteError::at(&dir))?;
            if entries.next().is_some() {
                return Err(OpenSiteError::AlreadyASite { path: self.root.clone() });
            }
        }
        if let Some(parent) = self.root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(OpenSiteError::at(parent))?;
        }
        // Names keep no order until they are fsynced: SITE must not be first.
        disk.sync_dir(&self.root).map_err(OpenSiteError::at(&self.root))?;
        let path = self.site_file();
        self.write_site_file(FORMATS[0], site, disk).map_err(OpenSiteError::at(&path))
    }

    fn write_site_file(&self, format: u32, site: SiteId, disk: &dyn Disk) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(&SiteFile { format, site: site.to_string() })?;
        disk::create_file(disk, &self.site_file(), &text).map(drop)
    }

    /// States, durably, the format in which volume numbers may have gaps.
    pub(crate) fn raise_format(&self, site: SiteId, disk: &dyn Disk) -> io::Result<()> {
        self.write_site_file(FORMATS[1], site, disk)
    }

    /// Whose directory this is.
    pub(crate) fn site(&self) -> Result<SiteId, OpenSiteError> {
        let path = self.site_file();
        let bytes = disk::read_bounded(&path, SITE_FILE_BYTES_MAX).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenSiteError::NotASite { path: self.root.clone() },
            io::ErrorKind::FileTooLarge => OpenSiteError::SiteFile { path: path.clone() },
            _ => OpenSiteError::at(&path)(error),
        })?;
        let Ok(file) = serde_json::from_slice::<SiteFile>(&bytes) else {
            return Err(OpenSiteError::SiteFile { path });
        };
        if !FORMATS.contains(&file.format) {
            return Err(OpenSiteError::Format { path, found: file.format });
        }
        file.site.parse().map_err(|_| OpenSiteError::SiteFile { path })
    }
}
