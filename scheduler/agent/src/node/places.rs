//! Where everything is in the agent's directory; `STATE.md` draws it.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::files;

/// The directories of one agent.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    directory: PathBuf,
}

impl Places {
    pub(crate) fn make(directory: &Path) -> io::Result<Self> {
        files::make_dirs(directory, 0o711)?;
        let places = Self { directory: std::fs::canonicalize(directory)? };
        for part in [places.runtime(), places.images(), places.pods(), places.data(), places.scratch()] {
            files::make_dirs(&part, 0o711)?;
        }
        Ok(places)
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        Self::runtime_in(&self.directory)
    }

    /// The same, of a directory in which nothing is to be made.
    pub(crate) fn runtime_in(directory: &Path) -> PathBuf {
        directory.join("runtime")
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.directory.join("images")
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.directory.join("scratch")
    }

    /// One directory for each pod that is here.
    pub(crate) fn pods(&self) -> PathBuf {
        self.directory.join("pods")
    }

    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// Bytes that outlive their pods.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The attestation that was told to the API last.
    pub(crate) fn told_attestation(&self) -> PathBuf {
        self.directory.join("attestation.told")
    }

    /// A directory below [`Places::data`]; `None` for a path that leads out of it.
    pub(crate) fn data_of(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        (plain && path.components().next().is_some()).then(|| self.data().join(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_volume_leads_out_of_the_data_directory() {
        let places = Places { directory: "/agent".into() };
        assert_eq!(places.data_of("site-data/a"), Some("/agent/data/site-data/a".into()));
        for path in ["/etc", "../pods", "site-data/../../pods", "", "a/..", "./a"] {
            assert_eq!(places.data_of(path), None, "{path:?}");
        }
    }
}
