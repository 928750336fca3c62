//! The inputs of the durability model.

use std::path::PathBuf;

use clap::Args;
use coffer_model::{Geometry, Tier};

use super::values::{Seconds, positive, seconds, size, some_seconds};

/// Flags of `durability`. What is not given is measured where somebody has
/// measured it, and supposed else.
#[derive(Args)]
pub(crate) struct DurabilityFlags {
    /// How often one site is lost for good in a year [supposed: 0.01].
    #[arg(long, value_parser = positive, value_name = "NUMBER")]
    pub(crate) losses_per_year: Option<f64>,
    /// Time until a lost site is noticed and given up, so that its repair begins [supposed: 1d].
    #[arg(long, value_parser = some_seconds, value_name = "DURATION")]
    pub(crate) discovery: Option<Seconds>,
    /// Time until what a lost site held lies whole elsewhere, its discovery included
    /// [default: the discovery, and what the model says of one lost site].
    #[arg(long, value_parser = some_seconds, value_name = "DURATION")]
    pub(crate) repair: Option<Seconds>,
    /// Several lost sites are replaced at the same time, not one after the other.
    #[arg(long)]
    pub(crate) parallel_repairs: bool,
    /// Sites that a scenario loses.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) lost: u8,
    /// Object versions to restore [measured: those of all tenants if this profile is the operator's, of this tenant else].
    #[arg(long, value_parser = positive, value_name = "N")]
    pub(crate) objects: Option<f64>,
    /// Bytes to restore, before coding [measured, as the versions].
    #[arg(long, value_parser = positive, value_name = "GIB")]
    pub(crate) gib: Option<f64>,
    /// MiB a second between the service and one site [measured by --measure; supposed: 100].
    #[arg(long, value_parser = positive, value_name = "MIB")]
    pub(crate) site_rate: Option<f64>,
    /// MiB a second between the service and whoever restores
    /// [measured by --measure, or by the newest drill; supposed: 100].
    #[arg(long, value_parser = positive, value_name = "MIB")]
    pub(crate) client_rate: Option<f64>,
    /// MiB a second that are decoded [measured on this machine now].
    #[arg(long, value_parser = positive, value_name = "MIB")]
    pub(crate) decode_rate: Option<f64>,
    /// MiB a second that a repair reads and writes together [measured by the last repair;
    /// supposed: 256, the bound that a repair sets itself].
    #[arg(long, value_parser = positive, value_name = "MIB")]
    pub(crate) repair_rate: Option<f64>,
    /// Objects a second that a rebuild of the catalogue enters [measured by the start that made
    /// one; supposed: 5000].
    #[arg(long, value_parser = positive, value_name = "N")]
    pub(crate) rebuild_rate: Option<f64>,
    /// Time until a quorum of custodians has opened the root key [measured by the newest drill
    /// that began with them; supposed: 1h].
    #[arg(long, value_parser = seconds, value_name = "DURATION")]
    pub(crate) custodians: Option<Seconds>,
    /// Signed record of a drill, beside those of this tenant; repeat it for more. One that does not
    /// verify ends the command.
    #[arg(long = "record", value_name = "FILE")]
    pub(crate) records: Vec<PathBuf>,
    /// Recovery kit with the key that signed these records [default: the key of this profile].
    #[arg(long, value_name = "FILE", requires = "records", conflicts_with = "key")]
    pub(crate) kit: Option<PathBuf>,
    /// That key itself, name+hash+base64.
    #[arg(long, value_name = "KEY", requires = "records")]
    pub(crate) key: Option<String>,
    /// Read about so many bytes of stored objects now, for example 256M, and take the time.
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "tiers")]
    pub(crate) measure: Option<u64>,
    /// Tier of one supposed site; repeat it for each: then no service is asked.
    #[arg(long = "tier", value_name = "TIER")]
    pub(crate) tiers: Vec<Tier>,
    /// Geometry over the supposed sites.
    #[arg(long, default_value = "4+2", requires = "tiers", value_name = "K+M")]
    pub(crate) geometry: Geometry,
}
