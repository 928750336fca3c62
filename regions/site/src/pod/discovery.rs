//! Where the pods are now: a port that whoever places pods fills, and two
//! adapters that know nothing of who that is.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use coffer_model::SiteId;
use serde::Deserialize;

use super::link::is_pod_endpoint;
use crate::disk;

/// Where a site's pod listens, and which of its incarnations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// `https://HOST:PORT`.
    pub endpoint: String,
    /// An earlier one is not believed; `None`: nobody counts them.
    pub incarnation: Option<u64>,
}

/// Where pods are now. Asked before every connection and about once a second;
/// which pod answers there is for its certificate to say.
#[async_trait]
pub trait Discovery: Send + Sync {
    /// Where a site's pod is; `None`: where the topology says.
    async fn find(&self, site: SiteId) -> Option<Whereabouts>;
}

/// Every pod is where the topology says.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsListed;

#[async_trait]
impl Discovery for AsListed {
    async fn find(&self, _: SiteId) -> Option<Whereabouts> {
        None
    }
}

/// Why a file of endpoints was not taken; what was read before stands.
#[derive(Debug, thiserror::Error)]
pub enum EndpointsError {
    /// It cannot be read.
    #[error("{path}: {source}; whoever places the pods writes it there")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no list of endpoints.
    #[error("{path} is no list of endpoints of format 1: {reason}")]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The longest file of endpoints, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
const FORMAT: u32 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: u32,
    sites: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    site: String,
    endpoint: String,
    incarnation: Option<u64>,
}

/// What tells one file of a name from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Version {
    fn of(file: &Metadata) -> Self {
        Self { inode: file.ino(), length: file.len(), changed: (file.mtime(), file.mtime_nsec()) }
    }
}

/// What was read last.
#[derive(Clone, Default)]
struct Known {
    version: Option<Version>,
    sites: BTreeMap<SiteId, Whereabouts>,
    trouble: Option<String>,
}

/// A file that whoever places the pods replaces when one has moved. The new
/// file is renamed over the old one, so that it is read whole.
pub struct EndpointsFile {
    path: PathBuf,
    known: Arc<Mutex<Known>>,
}

impl EndpointsFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// [`EndpointsError`].
    pub fn open(path: &Path) -> Result<Self, EndpointsError> {
        let known = Known { version: version(path)?, sites: read(path)?, trouble: None };
        Ok(Self { path: path.to_owned(), known: Arc::new(Mutex::new(known)) })
    }

    /// Why the file as it is now was not taken, if it was not.
    pub fn trouble(&self) -> Option<String> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    /// Reads the file again if it is another one.
    fn look(path: &Path, known: &Mutex<Known>) {
        let seen = known.lock().unwrap_or_else(PoisonError::into_inner).version;
        let read =
            version(path).and_then(|now| if now == seen { Ok(None) } else { Ok(Some((now, read(path)?))) });
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(None) => {}
            Ok(Some((version, sites))) => *known = Known { version, sites, trouble: None },
            Err(error) => known.trouble = Some(error.to_string()),
        }
    }
}

fn version(path: &Path) -> Result<Option<Version>, EndpointsError> {
    let file = path.metadata();
    file.map(|file| Some(Version::of(&file)))
        .map_err(|source| EndpointsError::Disk { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<BTreeMap<SiteId, Whereabouts>, EndpointsError> {
    let form = |reason: String| EndpointsError::Form { path: path.to_owned(), reason };
    let bytes = disk::read_bounded(path, FILE_BYTES_MAX)
        .map_err(|source| EndpointsError::Disk { path: path.to_owned(), source })?;
    let text: Text = serde_json::from_slice(&bytes).map_err(|error| form(error.to_string()))?;
    if text.format != FORMAT {
        return Err(form(format!("it has format {}", text.format)));
    }
    let mut sites = BTreeMap::new();
    for Line { site, endpoint, incarnation } in text.sites {
        let id: SiteId = site.parse().map_err(|error| form(format!("{site:?}: {error}")))?;
        if !is_pod_endpoint(&endpoint) {
            return Err(form(format!("{endpoint:?} does not read https://HOST:PORT")));
        }
        if sites.insert(id, Whereabouts { endpoint, incarnation }).is_some() {
            return Err(form(format!("{id} stands in it twice")));
        }
    }
    Ok(sites)
}

#[async_trait]
impl Discovery for EndpointsFile {
    async fn find(&self, site: SiteId) -> Option<Whereabouts> {
        let (path, known) = (self.path.clone(), Arc::clone(&self.known));
        // Where the look fails, what was known is still the best guess.
        let _ = tokio::task::spawn_blocking(move || Self::look(&path, &known)).await;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).sites.get(&site).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(n: u8) -> SiteId {
        SiteId::from_bytes([n; 16])
    }

    fn line(n: u8, port: u16) -> String {
        format!(
            "{{\"site\":\"{}\",\"endpoint\":\"https://127.0.0.1:{port}\",\"incarnation\":{port}}}",
            site(n)
        )
    }

    #[expect(clippy::disallowed_methods, reason = "the test is who places the pods")]
    fn place(path: &Path, lines: &[String]) {
        let new = path.with_extension("new");
        std::fs::write(&new, format!("{{\"format\":1,\"sites\":[{}]}}", lines.join(","))).unwrap();
        std::fs::rename(&new, path).unwrap();
    }

    #[tokio::test]
    async fn a_pod_that_moved_is_found_where_it_is_and_one_that_is_not_listed_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.json");
        place(&path, &[line(1, 10), line(2, 20)]);
        let file = EndpointsFile::open(&path).unwrap();
        let at = |port| {
            Some(Whereabouts { endpoint: format!("https://127.0.0.1:{port}"), incarnation: Some(port) })
        };
        assert_eq!(file.find(site(1)).await, at(10));
        assert_eq!(file.find(site(3)).await, None);
        place(&path, &[line(1, 11)]);
        assert_eq!(file.find(site(1)).await, at(11));
        assert_eq!(file.find(site(2)).await, None);
        assert_eq!(AsListed.find(site(1)).await, None);
    }

    #[tokio::test]
    async fn a_file_that_is_none_leaves_what_was_known_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.json");
        assert!(matches!(EndpointsFile::open(&path), Err(EndpointsError::Disk { .. })));
        place(&path, &[line(1, 10)]);
        let file = EndpointsFile::open(&path).unwrap();
        for bad in
            [vec![line(1, 10), line(1, 11)], vec!["{}".to_owned()], vec![line(1, 1).replace("https", "http")]]
        {
            place(&path, &bad);
            assert_eq!(file.find(site(1)).await.map(|at| at.incarnation), Some(Some(10)), "{bad:?}");
            assert!(file.trouble().is_some(), "{bad:?}");
            assert!(matches!(EndpointsFile::open(&path), Err(EndpointsError::Form { .. })));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(file.find(site(1)).await.is_some() && file.trouble().is_some());
        place(&path, &[line(1, 12)]);
        assert_eq!(file.find(site(1)).await.map(|at| at.incarnation), Some(Some(12)));
        assert_eq!(file.trouble(), None);
    }
}
