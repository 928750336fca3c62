//! What went wrong with one entry while the rest went on. A run with problems
//! is partial: its caller exits with code 3 and shows the list.

use core::fmt;

use coffer_model::escape_bytes;
use rustix::io::Errno;

/// What happened to one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It was listed, and gone when it was to be read.
    Vanished,
    /// The system refused a step of reading it; it is not in the backup.
    Unreadable {
        /// The step: "open", "read", "list" and so on.
        step: &'static str,
        /// What the system said.
        errno: Errno,
    },
    /// It was written to while it was read: what is stored is a mixture of
    /// two moments.
    ChangedWhileRead,
    /// It marks a tree that an earlier restore did not finish.
    UnfinishedRestore,
    /// It is of a kind that no backup can hold.
    UnknownKind,
    /// The system refused a step of restoring it.
    NotRestored {
        /// The step: "owner", "extended attribute", "create device" and so on.
        step: &'static str,
        /// What the system said.
        errno: Errno,
    },
}

/// One entry and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path below the root of the tree, raw bytes; empty for the root.
    pub path: Vec<u8>,
    /// What happened.
    pub trouble: Trouble,
}

impl Problem {
    /// Of a failed step of reading.
    pub(crate) fn reading(path: &[u8], step: &'static str, errno: Errno) -> Self {
        let trouble = match errno {
            Errno::NOENT => Trouble::Vanished,
            errno => Trouble::Unreadable { step, errno },
        };
        Self { path: path.to_vec(), trouble }
    }

    /// Of a failed step of restoring.
    pub(crate) fn restoring(path: &[u8], step: &'static str, errno: Errno) -> Self {
        Self { path: path.to_vec(), trouble: Trouble::NotRestored { step, errno } }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vanished => f.write_str("vanished before it could be read"),
            Self::Unreadable { step, errno } => write!(f, "could not be read ({step}: {errno})"),
            Self::ChangedWhileRead => f.write_str("changed while it was read; back it up again"),
            Self::UnfinishedRestore => {
                f.write_str("marks an unfinished restore; the tree around it is not whole")
            }
            Self::UnknownKind => f.write_str("is of an unknown kind and was left out"),
            Self::NotRestored { step, errno } => write!(f, "could not be restored ({step}: {errno})"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { ".".to_owned() } else { escape_bytes(&self.path) };
        write!(f, "{path}: {}", self.trouble)
    }
}
