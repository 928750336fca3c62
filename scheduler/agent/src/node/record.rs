//! What the agent remembers of one pod, so that it can be killed at any moment:
//! `pods/UID/pod.json`, format in `STATE.md`.

use std::io;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::places::Places;
use crate::files;
use crate::network::PodNetwork;
use crate::runtime::{ContainerId, ContainerIdError};

/// The version of the file that this agent writes.
const VERSION: u32 = 1;

/// What is remembered of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PodRecord {
    version: u32,
    /// As the API last had it.
    pub pod: Pod,
    /// Its user, once it has one.
    pub user: Option<u32>,
    /// Its network, once it has one.
    pub network: Option<PodNetwork>,
    /// How often its container was started again.
    pub restarts: u32,
    /// How often in a row it ended before it had run long enough.
    pub failures: u32,
    /// When it first was started, milliseconds since 1970.
    pub started_unix_ms: Option<u64>,
    /// How the container before this one ended, in the words of the status.
    pub last_end: Option<serde_json::Value>,
    /// The end of the pod, if it is not to be started again: phase, reason, message.
    pub over: Option<Over>,
    /// What its container runs in, by its name among the images. An agent of before did not note it.
    #[serde(default)]
    pub root: Option<String>,
}

/// How a pod ended for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Over {
    pub phase: String,
    pub reason: Option<String>,
    pub message: Option<String>,
}

impl PodRecord {
    pub(crate) fn new(pod: Pod) -> Self {
        Self {
            version: VERSION,
            pod,
            user: None,
            network: None,
            restarts: 0,
            failures: 0,
            started_unix_ms: None,
            last_end: None,
            over: None,
            root: None,
        }
    }

    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The name of its present container.
    pub(crate) fn container(&self) -> Result<ContainerId, ContainerIdError> {
        ContainerId::try_from(format!("{}.{}", self.uid(), self.restarts))
    }

    /// Writes it down; whoever reads it later finds this or what was before.
    pub(crate) fn save(&self, places: &Places) -> io::Result<()> {
        let directory = places.pod(self.uid());
        files::make_dirs(&directory, 0o711)?;
        files::replace_json(&directory.join("pod.json"), self)
    }

    pub(crate) fn forget(&self, places: &Places) -> io::Result<()> {
        files::remove_tree(&places.pod(self.uid()))
    }

    /// Every record there is, for whoever goes by what is not in them.
    ///
    /// # Errors
    /// One cannot be read, or is of another version: what its pod has is not known.
    pub(crate) fn without_exception(places: &Places) -> io::Result<Vec<Self>> {
        let mut records = Vec::new();
        for name in files::names(&places.pods())? {
            let file = places.pod(&name).join("pod.json");
            let of_file =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
            // Of a pod that is just coming, or going, there is none.
            let Some(record) = files::read_json::<Self>(&file).map_err(of_file)? else { continue };
            if record.version != VERSION {
                let another = format!("it is of version {}", record.version);
                return Err(of_file(io::Error::new(io::ErrorKind::InvalidData, another)));
            }
            records.push(record);
        }
        Ok(records)
    }

    /// Every record there is. One that cannot be read, or is newer than this
    /// agent, is left alone: its pod is looked at again when the API names it.
    pub(crate) fn all(places: &Places) -> Vec<Self> {
        let names = files::names(&places.pods()).unwrap_or_default();
        let read =
            |name: String| files::read_json::<Self>(&places.pod(&name).join("pod.json")).ok().flatten();
        names.into_iter().filter_map(read).filter(|record| record.version == VERSION).collect()
    }
}
