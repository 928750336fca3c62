//! What `site` is told.

use std::path::PathBuf;

use clap::Subcommand;
use coffer_model::{Day, Tier};

#[cfg(feature = "embedded")]
use super::values::site_name;
use super::values::size;

#[derive(Subcommand)]
pub(crate) enum SiteCommand {
    /// List the sites: any credentials may look.
    #[command(after_help = "Example: coffer site ls")]
    Ls,
    /// Say everything that is known of one site.
    #[command(after_help = "Example: coffer site show fra1")]
    Show {
        /// Name of the site.
        name: String,
    },
    /// Add a site of a site file to the running deployment (operator).
    #[command(after_help = "Example: coffer site add sites.toml --name hel1")]
    Add {
        /// Site file that describes it; sites that are there already are passed over.
        file: PathBuf,
        /// Which of its new sites, where there are several.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Let a site take no new data; repair moves away what it holds (operator).
    ///
    /// A site that does not answer any more can be drained too: what it held is computed from the others.
    #[command(after_help = "Example: coffer site drain mad1")]
    Drain {
        /// Name of the site.
        name: String,
        /// Let it take data again.
        #[arg(long)]
        undo: bool,
    },
    /// Take a drained site out of the deployment for good (operator).
    #[command(after_help = "Example: coffer site retire mad1")]
    Retire {
        /// Name of the site.
        name: String,
    },
    /// Give a site whose disk is lost a new, empty one; repair fills it (operator).
    ///
    /// Until then it is `refilling`, and counts as lost should a catalogue have to be made again.
    #[command(after_help = "Example: coffer site replace fra1 && coffer repair run")]
    Replace {
        /// Name of the site.
        name: String,
    },
    /// Say what would move so that sites hold their fair share, as after one has joined; with --run, move it (operator).
    ///
    /// Each shard that moves is read once and written once, and no more move than is missing somewhere. Objects so
    /// small that their records weigh more than a twentieth of a shard stay where they are.
    #[command(after_help = "Example: coffer site add sites.toml --name hel1 && coffer site rebalance --run")]
    Rebalance {
        /// Move it; without, only the plan and its price are shown.
        #[arg(long)]
        run: bool,
        /// Read and write so much a second at most, as 100M [default: 256 MiB].
        #[arg(long, value_name = "SIZE", value_parser = size, requires = "run")]
        rate: Option<u64>,
        /// As fast as it goes, whatever tenants' calls suffer.
        #[arg(long, requires = "run")]
        full_speed: bool,
    },
    /// Declare the certificate of the tier of a site's building (operator).
    ///
    /// What is declared stands in the signed facts of every tenant from then on, with the operator's id, and
    /// its digest in the service's log. The number lets an auditor ask the issuer.
    #[command(
        after_help = "Example: coffer site certify fra1 --tier III --number TCCF-1204 --from 2025-06-01 --until 2027-05-31"
    )]
    Certify {
        /// Name of the site.
        name: String,
        /// Which tier: I, II, III or IV.
        #[arg(long, value_name = "TIER")]
        tier: Tier,
        /// Who certified it.
        #[arg(long, default_value = "Uptime Institute", value_name = "NAME")]
        issuer: String,
        /// Number of the certificate.
        #[arg(long, value_name = "NUMBER")]
        number: String,
        /// First day of its validity.
        #[arg(long, value_name = "DAY")]
        from: Day,
        /// Last day of its validity.
        #[arg(long, value_name = "DAY")]
        until: Day,
    },
    /// Make the site authority, for a fleet whose control plane issues the certificates of its pods.
    ///
    /// Where there is one it is left as it is. What the service shows to pods goes to DATA/credentials/pods.
    #[cfg(feature = "embedded")]
    #[command(after_help = "Example: coffer site authority --authority ./site-authority")]
    Authority {
        /// The directory of the site authority [default: site-authority in the config directory].
        #[arg(long, value_name = "DIR")]
        authority: Option<PathBuf>,
        /// The deployment's data directory, for what the service shows to pods.
        #[arg(long, value_name = "DIR", default_value = "coffer-data")]
        data_dir: PathBuf,
    },
    /// Make the certificate and the keys of a new pod, and print its entry
    /// for the site file.
    ///
    /// The site authority that signs them is made with the first pod. What
    /// the service shows to pods goes to DATA/credentials/pods.
    #[cfg(feature = "embedded")]
    #[command(after_help = "Example: coffer site enroll fra1 --country DE --out ./fra1")]
    Enroll {
        /// Short name of the site.
        #[arg(value_parser = site_name)]
        name: String,
        /// Where its disks stand, ISO 3166-1 alpha-2.
        #[arg(long, value_name = "CC", value_parser = coffer_model::Country::typed)]
        country: coffer_model::Country,
        /// A new directory for the files that the pod is started with.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The directory of the site authority [default: site-authority in the config directory].
        #[arg(long, value_name = "DIR")]
        authority: Option<PathBuf>,
        /// The deployment's data directory, for what the service shows to pods.
        #[arg(long, value_name = "DIR", default_value = "coffer-data")]
        data_dir: PathBuf,
    },
    /// Make a simulated site stop answering (operator).
    #[command(after_help = "Example: coffer site kill fra1")]
    Kill {
        /// Name of the site.
        name: String,
    },
    /// Make a simulated site answer again (operator).
    #[command(after_help = "Example: coffer site revive fra1")]
    Revive {
        /// Name of the site.
        name: String,
    },
}
