//! The confinement of one process: what is to hold (`plan`), and the small
//! single-threaded programs that make it hold and then become the pod.

pub(crate) mod enter;
pub(crate) mod landlock;
pub(crate) mod memory_files;
pub(crate) mod mounts;
pub(crate) mod outward;
pub(crate) mod plan;
pub(crate) mod privileges;
pub(crate) mod seccomp;
pub(crate) mod shim;
pub(crate) mod starter;
pub(crate) mod unshare;

pub use plan::{Program, Root, Volume};
