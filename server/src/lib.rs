//! The service: authorize, the stories (put, get, delete), the jobs (sweep,
//! rebuild), the audit log, and gRPC around them.
//!
//! A newcomer starts at [`put`](crate::put): the main path reads like a
//! sentence, and the type that each step returns is the next step's
//! permission.

mod again;
mod audit;
mod authority;
mod authorize;
mod bucket;
mod bucket_change;
mod connection;
mod custody;
mod damage;
mod delete;
mod deletion;
mod disk;
mod drill;
mod enrol;
mod facts;
mod fenced;
mod fetch;
mod get;
mod grpc;
mod guard;
mod hedge;
mod history;
mod hold;
mod holders;
mod home;
mod in_process;
mod inventory;
mod jobs;
mod keystore;
mod kit;
mod latency;
mod leaf;
mod leaf_text;
mod ledger;
mod list;
mod listing;
mod log_range;
mod log_sizes;
mod measured;
mod metrics;
mod moves;
mod open_intents;
mod opener;
mod orders;
mod owner;
mod plain;
mod put;
mod race;
mod reach;
mod rebuild;
mod refusals;
mod registry;
mod repair;
mod residency;
mod roll;
mod sealed;
mod serve;
mod service;
mod service_error;
mod site_authority;
mod site_file;
mod sites;
mod small;
mod standing;
mod start;
mod stored;
mod strangers;
mod sweep;
mod take_up;
mod tenant;
mod tenant_create;
mod terms;
mod window;
mod witness;
mod witness_http;
mod write;

pub use coffer_site::{
    AsListed, Discovery, EndpointsError, EndpointsFile, LeaseError, LeaseFile, Whereabouts,
};

pub use authority::{AuthorityError, IssuedCredential};
pub use custody::{Custody, CustodyKind};
pub use hedge::{ReadLoad, SiteReading};
pub use holders::{HolderGroup, HolderSite, Holders};
pub use home::SiteHome;
pub use in_process::{InProcess, InProcessCaller};
pub use jobs::{
    CompletedPass, Coverage, DelayState, JobError, JobSettings, RunningPass, SiteChallenges, SiteScrub,
    SiteScrubbed,
};
pub use kit::{KitError, RecoveryKit, SiteAddress};
pub use log_sizes::LogSizesError;
pub use metrics::{METRIC_FAMILIES, MetricFamily, MetricsError, serve_metrics};
pub use opener::{HostSites, OpenedSite, SiteOpener};
pub use owner::{OwnerLease, TakeUpError};
pub use reach::ReleaseError;
pub use refusals::Refusals;
pub use repair::{
    Rebalance, RepairBudget, RepairError, RepairProgress, RepairReport, RepairRun, Short, SiteShare,
    repair_in_background,
};
pub use serve::{ServeError, serve, serve_in_process, serve_with};
pub use service::{Host, RecoveryProgress, RecoveryReport, Service};
pub use service_error::{FoundError, HistoryError, IssueError, OpenError, RecoverError, StopError};
pub use site_authority::{CallerFiles, Holds, PodFiles, SiteAuthority, SiteAuthorityError, write_site_files};
pub use site_file::{SiteFile, SiteFileError, SitePlace};
pub use standing::{SiteChangeError, SiteWish};
pub use witness::{Witness, WitnessAnswer, WitnessError, WitnessState, WitnessTrouble};
pub use witness_http::{HttpWitness, HttpWitnessError};
