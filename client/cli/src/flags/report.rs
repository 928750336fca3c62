//! What `report` is told, and when its period begins and ends.

use std::path::PathBuf;

use clap::Args;
use coffer_client::report::Period;
use coffer_model::Timestamp;

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
    /// Where it goes: a file, or with --format oscal a new directory.
    #[arg(long, value_name = "PATH")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) material: MaterialFlags,
}

/// What a report is made from.
#[derive(Args)]
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
}

const DAY_NS: u64 = 86_400_000_000_000;
const YEAR_NS: u64 = 365 * DAY_NS;

impl MaterialFlags {
    /// The period that is reported on, if it has a length.
    pub(crate) fn period(&self, now: Timestamp) -> Option<Period> {
        let to = self.to.unwrap_or(now);
        let from = self.from.unwrap_or(Timestamp(to.0.saturating_sub(YEAR_NS)));
        (from < to).then_some(Period { from, to })
    }
}

/// Why a day is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a day is YYYY-MM-DD, from 1970-01-01 to 2500-12-31, for example 2026-03-31")]
pub(super) struct DayError;

fn first_moment(text: &str) -> Result<Timestamp, DayError> {
    Ok(Timestamp(day(text)? * DAY_NS))
}

fn last_moment(text: &str) -> Result<Timestamp, DayError> {
    Ok(Timestamp((day(text)? + 1) * DAY_NS - 1))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

/// Days since 1970-01-01.
fn day(text: &str) -> Result<u64, DayError> {
    let shape = text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !shape {
        return Err(DayError);
    }
    let number = |range: std::ops::Range<usize>| text[range].parse::<u64>().map_err(|_| DayError);
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let at = usize::try_from(month).ok().and_then(|month| month.checked_sub(1)).ok_or(DayError)?;
    let length = *months.get(at).ok_or(DayError)?;
    if !(1970..=2500).contains(&year) || !(1..=length).contains(&day) {
        return Err(DayError);
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    Ok(years + months[..at].iter().sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_the_calendar_and_nothing_else_is_one() {
        for (text, first) in [
            ("1970-01-01", "1970-01-01T00:00:00Z"),
            ("2000-02-29", "2000-02-29T00:00:00Z"),
            ("2026-11-24", "2026-11-24T00:00:00Z"),
            ("2100-03-01", "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(first_moment(text).unwrap().to_string(), first);
        }
        assert_eq!(last_moment("2026-12-31").unwrap().to_string(), "2026-12-31T23:59:59.999999999Z");
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-00-10",
            "2026-02-29",
            "2100-02-29",
            "26-01-01",
            "2026-1-01x",
            "9999-01-01",
            "２026-01-0",
        ] {
            assert_eq!(first_moment(text), Err(DayError), "{text}");
        }
    }
}
