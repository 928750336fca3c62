//! The layers that stand between a pod and everything else, each with a name
//! of its own, so that what is missing can be said and what denied can be told.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One layer of confinement. Each can be had or missing by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// A mount name space with a root of the pod's own: its image read-only, its volumes, a private `/tmp`.
    Mount,
    /// A process id name space, and a `/proc` that shows nobody else.
    Pid,
    /// System V and POSIX message queues, semaphores and shared memory of its own.
    Ipc,
    /// A host name of its own.
    Uts,
    /// The tree of control groups begins at the pod's own.
    CgroupView,
    /// A network name space with one cable, filtered by nftables to what the pod declares.
    Network,
    /// Limits on CPU, memory, processes and I/O by control groups.
    Cgroup,
    /// An allow list of system calls.
    Seccomp,
    /// File access by path beneath, TCP ports, signals and abstract sockets.
    Landlock,
    /// Every capability dropped, from the bounding set too, and no new ones by `execve`.
    Capabilities,
    /// A user id that nobody else on the machine has.
    User,
    /// Limits of the process itself: files, processes, size of a file, no core dumps.
    Rlimits,
    /// The data directory is a file system of the declared size.
    Disk,
}

impl Layer {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 13] = [
        Self::Mount,
        Self::Pid,
        Self::Ipc,
        Self::Uts,
        Self::CgroupView,
        Self::Network,
        Self::Cgroup,
        Self::Seccomp,
        Self::Landlock,
        Self::Capabilities,
        Self::User,
        Self::Rlimits,
        Self::Disk,
    ];

    /// The name in reports and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::CgroupView => "cgroup-view",
            Self::Network => "network",
            Self::Cgroup => "cgroup",
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::Capabilities => "capabilities",
            Self::User => "user",
            Self::Rlimits => "rlimits",
            Self::Disk => "disk",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of layers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Layers(BTreeSet<Layer>);

impl Layers {
    /// Every layer there is.
    pub fn all() -> Self {
        Self(Layer::ALL.into_iter().collect())
    }

    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// These.
    pub fn of(layers: impl IntoIterator<Item = Layer>) -> Self {
        Self(layers.into_iter().collect())
    }

    /// Whether `layer` is among them.
    pub fn has(&self, layer: Layer) -> bool {
        self.0.contains(&layer)
    }

    /// The same without `layer`.
    #[must_use]
    pub fn without(mut self, layer: Layer) -> Self {
        self.0.remove(&layer);
        self
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// Those of `self` that `other` lacks.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other, in the order of [`Layer::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = Layer> + '_ {
        self.0.iter().copied()
    }
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Layer::name).collect();
        f.write_str(&names.join(", "))
    }
}
