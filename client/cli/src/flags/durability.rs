//! The inputs of the durability model.

use clap::Args;
use coffer_model::{Geometry, Tier};

use super::values::{Seconds, positive, seconds, some_seconds};

/// Flags of `durability`.
#[derive(Args)]
pub(crate) struct DurabilityFlags {
    /// How often one site is lost for good in a year.
    #[arg(long, default_value = "0.01", value_parser = positive, value_name = "NUMBER")]
    pub(crate) losses_per_year: f64,
    /// Time until what a lost site held lies whole elsewhere, its discovery included.
    #[arg(long, default_value = "1d", value_parser = some_seconds, value_name = "DURATION")]
    pub(crate) repair: Seconds,
    /// Several lost sites are replaced at the same time, not one after the other.
    #[arg(long)]
    pub(crate) parallel_repairs: bool,
    /// Sites that a scenario loses.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) lost: u8,
    /// Object versions to restore.
    #[arg(long, default_value = "1000000", value_parser = positive, value_name = "N")]
    pub(crate) objects: f64,
    /// Bytes to restore, before coding [default: what the volumes of the sites hold].
    #[arg(long, value_parser = positive, value_name = "GIB")]
    pub(crate) gib: Option<f64>,
    /// MiB a second between the service and one site.
    #[arg(long, default_value = "100", value_parser = positive, value_name = "MIB")]
    pub(crate) site_rate: f64,
    /// MiB a second between the service and whoever restores.
    #[arg(long, default_value = "100", value_parser = positive, value_name = "MIB")]
    pub(crate) client_rate: f64,
    /// MiB a second that are decoded [default: measured on this machine now].
    #[arg(long, value_parser = positive, value_name = "MIB")]
    pub(crate) decode_rate: Option<f64>,
    /// Objects a second that a rebuild of the catalogue enters; the example
    /// `rebuild_scale` of coffer-tests measures it.
    #[arg(long, default_value = "5000", value_parser = positive, value_name = "N")]
    pub(crate) rebuild_rate: f64,
    /// Time until a quorum of custodians has opened the root key.
    #[arg(long, default_value = "1h", value_parser = seconds, value_name = "DURATION")]
    pub(crate) custodians: Seconds,
    /// Tier of one supposed site; repeat it for each: then no service is asked.
    #[arg(long = "tier", value_name = "TIER")]
    pub(crate) tiers: Vec<Tier>,
    /// Geometry over the supposed sites.
    #[arg(long, default_value = "4+2", requires = "tiers", value_name = "K+M")]
    pub(crate) geometry: Geometry,
}
