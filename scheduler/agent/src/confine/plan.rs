//! The plan of one confined process, as the agent hands it to its starter: all
//! decisions are in it, so that the starter decides nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::layer::Layers;

/// What the pod sees as `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Root {
    /// An unpacked image; the pod sees it read-only.
    Image {
        /// Where it was unpacked.
        directory: PathBuf,
    },
    /// One executable of this machine, verified and copied; the pod sees it as
    /// `/NAME`, and the shared libraries of the machine if it needs a loader.
    Executable {
        /// The verified copy.
        file: PathBuf,
        /// The name in the pod's root.
        name: String,
    },
}

impl Root {
    /// Its name in the directory in which images are kept ready.
    pub(crate) fn name(&self) -> Option<String> {
        let (Self::Image { directory: path } | Self::Executable { file: path, .. }) = self;
        path.file_name()?.to_str().map(str::to_owned)
    }
}

/// A directory of the node that the pod sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The directory on the node.
    pub source: PathBuf,
    /// Where the pod sees it; absolute.
    pub target: PathBuf,
    /// Whether the pod may write there.
    pub writable: bool,
}

/// The program, as the pod sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Path of the executable in the pod's root.
    pub path: PathBuf,
    /// Arguments after the name.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory.
    pub directory: PathBuf,
}

/// A limit of the process itself, `setrlimit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Limit {
    /// Bytes of address space.
    AddressSpace,
    /// Bytes of one file.
    FileSize,
    /// Open files.
    Files,
    /// Processes of this user.
    Processes,
    /// Bytes of a core dump.
    Core,
    /// Bytes locked in memory.
    Locked,
    /// Bytes in POSIX message queues.
    MessageQueues,
}

/// Everything that the starter needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Which layers to put on; what is not in it is left off.
    pub layers: Layers,
    /// Host name in the pod.
    pub hostname: String,
    /// The `cgroup.procs` files to enter.
    pub cgroups: Vec<PathBuf>,
    /// The network name space to enter, and `None` for that of the machine.
    pub network: Option<PathBuf>,
    /// An empty directory of the node, where the root is put together.
    pub scaffold: PathBuf,
    /// What becomes `/`.
    pub root: Root,
    /// What else the pod sees.
    pub volumes: Vec<Volume>,
    /// Size of the private `/tmp`, in bytes.
    pub tmp_bytes: u64,
    /// User and group id of the pod.
    pub uid: u32,
    /// Limits of the process.
    pub rlimits: Vec<(Limit, u64)>,
    /// TCP ports on which it may listen.
    pub listen: Vec<u16>,
    /// TCP ports to which it may connect; `None` for any.
    pub connect: Option<Vec<u16>>,
    /// What to run.
    pub program: Program,
}
