//! What `report` is told, and when its period begins and ends.

use std::path::PathBuf;

use clap::Args;
use coffer_client::report::Period;
use coffer_model::{Day, DayError, Timestamp};

use super::WitnessFlags;

/// In which form a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ReportFormat {
    /// One page for people, self-contained.
    Html,
    /// The same on paper.
    Pdf,
    /// A directory of OSCAL files for other people's tools, each signed.
    Oscal,
    /// One line for each check.
    Csv,
}

/// Flags of `report`.
#[derive(Args)]
pub(crate) struct ReportFlags {
    /// In which form.
    #[arg(long, value_enum, default_value = "html")]
    pub(crate) format: ReportFormat,
    /// Where it goes: a file, "-" for stdout, or with --format oscal a new directory.
    #[arg(long, value_name = "PATH")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) material: MaterialFlags,
}

/// What a report is made from.
#[derive(Args, Clone)]
pub(crate) struct MaterialFlags {
    /// First day of the period, YYYY-MM-DD in UTC [default: a year before its end].
    #[arg(long, value_name = "DAY", value_parser = first_moment)]
    pub(crate) from: Option<Timestamp>,
    /// Last day of the period, YYYY-MM-DD in UTC [default: now].
    #[arg(long, value_name = "DAY", value_parser = last_moment)]
    pub(crate) to: Option<Timestamp>,
    /// A drill record in a file, beside those that the tenant keeps; repeat it for several.
    #[arg(long = "record", value_name = "FILE")]
    pub(crate) records: Vec<PathBuf>,
    /// Read also where each single version lies.
    #[arg(long)]
    pub(crate) residency: bool,
    #[command(flatten)]
    pub(crate) witnesses: WitnessFlags,
}

const YEAR_NS: u64 = 365 * 86_400_000_000_000;

impl MaterialFlags {
    /// The period that is reported on, if it has a length.
    pub(crate) fn period(&self, now: Timestamp) -> Option<Period> {
        let to = self.to.unwrap_or(now);
        let from = self.from.unwrap_or_else(|| Timestamp(to.0.saturating_sub(YEAR_NS)));
        (from < to).then_some(Period { from, to })
    }
}

fn first_moment(text: &str) -> Result<Timestamp, DayError> {
    text.parse().map(Day::first)
}

fn last_moment(text: &str) -> Result<Timestamp, DayError> {
    text.parse().map(Day::last)
}
