//! The controllers of the fleet and its scheduler loop: they talk to an embedded
//! API or to a real Kubernetes, and do not know which.
//!
//! Objects of the API become the types of `coffer_scheduler` at one boundary
//! ([`mod@translate`]); every decision is made there, written down, and only then
//! bound. What the fleet cannot know itself comes through ports: where shards
//! lie ([`ShardLedger`]), certificates of sites ([`SiteCertificates`]), and how a
//! decision becomes a binding ([`Bind`]).

pub mod attestation;
mod bind;
mod book;
mod events;
mod install;
mod leader;
mod ledger;
mod names;
mod resources;
mod revocations;
mod run;
mod schedule;
mod sets;
mod shards;
mod tenure;
pub mod translate;
mod turns;
mod watching;

pub use bind::{
    Batch, Bind, BindError, Bound, Change, Record, Reserving, Transact, TransactionRefused, Transactions,
    Version,
};
pub use book::{Binding, Book, BookError, Standing, Verdict};
pub use install::{InstallError, install};
pub use leader::{LeaderError, Leadership, lead};
pub use names::*;
pub use resources::*;
pub use revocations::revocations;
pub use run::{Control, ControlError, Pace, Trouble};
pub use schedule::Measured;
pub use sets::{CertificateError, NoCertificates, SiteCertificates, SiteIdentity};
pub use shards::{Presumed, ShardLedger, ShardLedgerError, Shards};
pub use tenure::Tenure;
pub use turns::Turns;
