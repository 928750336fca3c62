//! The node agent: runs the pods of one node as confined processes or as OCI
//! containers, and reports what became of them.
//!
//! Pods outlive the agent. Each container has a small shim that keeps its log
//! and notes its end; an agent that starts again finds them in its directory
//! (`STATE.md`). What the machine cannot do is tried, and said: [`Probe`].

mod access;
mod cgroup;
mod clock;
mod confine;
pub mod conformance;
mod disk;
mod files;
mod image;
mod io_limit;
mod layer;
mod logs;
mod network;
mod node;
mod oci;
mod probe;
mod process;
mod process_id;
mod pull;
mod runtime;
mod serve;
mod shimmed;
mod stage;
mod tool;

pub use access::{LogStream, NoLog, NodeLogs};
pub use clock::KernelClock;
pub use confine::{Program, Root, Volume};
pub use disk::{DiskError, mount_sized, unmount_sized};
pub use image::{
    DigestError, Image, ImageDigest, ImageError, ImageKeeping, ImageReference, ImageStore, UnpackError,
};
pub use layer::{Layer, Layers};
pub use logs::{LogOptions, LogReader};
pub use network::{Egress, EgressError, NetworkError, Networks, PodNetwork, Subnet, SubnetError};
pub use node::{
    Agent, AgentConfig, AgentError, Backoff, LeaseTimes, PodLease, Quantity, QuantityError, RuntimeKind,
};
pub use oci::RuncRuntime;
pub use probe::{Finding, Probe};
pub use process::{LogLimits, ProcessRuntime, RuntimeConfig};
pub use pull::{
    FetchError, Login, LoginError, PullError, PullLimits, PullProcess, Pulled, Puller, Registry,
    RegistryConfig, RegistryError, Source,
};
pub use runtime::{
    Container, ContainerId, ContainerIdError, Exit, Limits, Runtime, RuntimeError, StartError, State, Usage,
};
pub use serve::{NodeTls, NodeTlsError, serve};
pub use stage::stage;
pub use tool::ToolError;
