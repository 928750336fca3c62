//! Who asks: a user and the groups that it belongs to, as a client certificate
//! names them or as the process itself says of its own parts.

use std::net::IpAddr;

/// The group that may do everything; only the inside of the process and
/// certificates of the fleet's own authority carry it.
pub(crate) const MASTERS: &str = "system:masters";
/// The group of nodes.
pub(crate) const NODES: &str = "system:nodes";
/// What the user of a node begins with.
const NODE_PREFIX: &str = "system:node:";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    user: String,
    groups: Vec<String>,
    source: Option<IpAddr>,
}

impl Identity {
    /// A user with its groups.
    pub fn new(user: impl Into<String>, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { user: user.into(), groups: groups.into_iter().map(Into::into).collect(), source: None }
    }

    /// The inside of the process, which may do everything.
    pub fn inside() -> Self {
        Self::new("system:coffer", [MASTERS])
    }

    /// The same, as it calls from this address.
    #[must_use]
    pub fn calling_from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// From where it calls; none from inside the process.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Its groups.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// Whether it belongs to the group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|one| one == group)
    }

    /// The name of the node, if it is one.
    pub fn node(&self) -> Option<&str> {
        self.is_in(NODES)
            .then(|| self.user.strip_prefix(NODE_PREFIX))
            .flatten()
            .filter(|name| !name.is_empty())
    }
}
