//! What the placement of others has to know of a pod that runs: its labels, whom it shuns, its priority; and
//! pods of somebody else, which only take room and are or are not where they are wanted.

use core::fmt;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{NodeName, Pod, PodId, PodTerm, Resources, SetName, Space};

/// Of a pod that runs, beside its needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traits {
    /// Its labels; of a pod of a set those beside the labels that all of them have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Pods that may not come where it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<PodTerm>,
    /// Its priority: a higher one may take its room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
}

pub(crate) fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl Traits {
    /// Of a pod that is to run.
    pub fn of(pod: &Pod) -> Self {
        let apart = pod.affinity.as_ref().map(|affinity| affinity.apart.clone());
        Self { labels: pod.labels.clone(), apart: apart.unwrap_or_default(), priority: pod.priority }
    }

    /// Whether there is nothing to know.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// The name of a pod of somebody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighbourName {
    /// Its namespace.
    pub space: Space,
    /// Its name there.
    pub name: String,
}

impl fmt::Display for NeighbourName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.space {
            Space::Fleet => f.write_str(&self.name),
            Space::Named(space) => write!(f, "{space}/{}", self.name),
        }
    }
}

/// A pod of somebody else on one of our nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// Which.
    pub name: NeighbourName,
    /// Where it runs.
    pub node: NodeName,
    /// What it takes.
    pub needs: Resources,
    /// What else is to be known of it.
    #[serde(default, skip_serializing_if = "Traits::is_plain")]
    pub traits: Traits,
}

/// Any pod that runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runner {
    /// Of a set.
    Pod(PodId),
    /// Of somebody else.
    Neighbour(NeighbourName),
}

impl Runner {
    /// The set that it is of; `None`: it is somebody else's.
    pub(crate) fn set(&self) -> Option<&SetName> {
        match self {
            Self::Pod(id) => Some(&id.set),
            Self::Neighbour(_) => None,
        }
    }
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(id) => id.fmt(f),
            Self::Neighbour(name) => name.fmt(f),
        }
    }
}
