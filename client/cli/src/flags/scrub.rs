//! What `scrub` and the background jobs of `serve` are told.

use clap::{Args, Subcommand};

use super::values::{Seconds, seconds};

#[derive(Subcommand)]
pub(crate) enum ScrubCommand {
    /// Show how long ago every byte of each site was read and verified.
    #[command(after_help = "Example: coffer scrub status --check")]
    Status {
        /// Exit with 4 unless every byte is shown to have been verified in time.
        #[arg(long)]
        check: bool,
    },
    /// Read sites to the end of a pass, at full speed.
    #[command(after_help = "Example: coffer scrub run fra1")]
    Run {
        /// Name of the site [default: every site].
        site: Option<String>,
        /// Begin a pass anew instead of ending the one under way.
        #[arg(long)]
        anew: bool,
    },
    /// Ask sites what only a holder of their shards can answer.
    #[command(after_help = "Example: coffer scrub challenge fra1 --answers 32")]
    Challenge {
        /// Name of the site [default: every site].
        site: Option<String>,
        /// Questions for each site; more where its delays take more to judge.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
        answers: Option<u32>,
        /// Learn the site's delays anew, because you know why they changed.
        #[arg(long, requires = "site")]
        confirm_delays: bool,
    },
}

/// What `serve` does in the background.
#[derive(Args)]
pub(crate) struct JobFlags {
    /// MiB a second that the scrub reads at each site; 0 runs none.
    #[arg(long, default_value_t = 8, value_name = "MIB", value_parser = clap::value_parser!(u64).range(..=1 << 20))]
    pub(crate) scrub_rate: u64,
    /// Time within which every byte is to be read and verified.
    #[arg(long, default_value = "30d", value_parser = seconds, value_name = "DURATION")]
    pub(crate) scrub_within: Seconds,
    /// Time between two rounds of challenges; 0s runs none.
    #[arg(long, default_value = "1h", value_parser = seconds, value_name = "DURATION")]
    pub(crate) challenge_every: Seconds,
    /// Time between two looks for what repair has to do; 0s runs none.
    #[arg(long, default_value = "10m", value_parser = seconds, value_name = "DURATION")]
    pub(crate) repair_every: Seconds,
}
