//! A day of the calendar, UTC: what certificates and reports are dated with.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Nanoseconds of a day.
const DAY_NS: u64 = 86_400_000_000_000;

/// A day from 1970-01-01 to 2500-12-31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(u64);

/// Why a text is no day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a day is YYYY-MM-DD, from 1970-01-01 to 2500-12-31, for example 2026-03-31")]
pub struct DayError;

impl Day {
    /// The day to which a moment belongs.
    pub fn of(moment: Timestamp) -> Self {
        Self(moment.0 / DAY_NS)
    }

    /// Its first moment.
    pub fn first(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(DAY_NS))
    }

    /// Its last moment.
    pub fn last(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1).saturating_mul(DAY_NS).saturating_sub(1))
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let shape = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !shape {
            return Err(DayError);
        }
        let number = |range: core::ops::Range<usize>| text[range].parse::<u64>().map_err(|_| DayError);
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let february = if is_leap(year) { 29 } else { 28 };
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let at = usize::try_from(month).ok().and_then(|month| month.checked_sub(1)).ok_or(DayError)?;
        let length = *months.get(at).ok_or(DayError)?;
        if !(1970..=2500).contains(&year) || !(1..=length).contains(&day) {
            return Err(DayError);
        }
        let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
        Ok(Self(years + months[..at].iter().sum::<u64>() + day - 1))
    }
}

impl TryFrom<String> for Day {
    type Error = DayError;
    fn try_from(text: String) -> Result<Self, DayError> {
        text.parse()
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.to_string()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = self.first().to_string();
        f.write_str(moment.get(..10).unwrap_or(&moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_the_calendar_and_nothing_else_is_one() {
        for text in ["1970-01-01", "2000-02-29", "2026-11-24", "2100-03-01", "2500-12-31"] {
            let day: Day = text.parse().unwrap();
            assert_eq!(day.to_string(), text);
            assert_eq!(day.first().to_string(), format!("{text}T00:00:00Z"));
            assert_eq!((Day::of(day.first()), Day::of(day.last())), (day, day));
        }
        let last: Day = "2026-12-31".parse().unwrap();
        assert_eq!(last.last().to_string(), "2026-12-31T23:59:59.999999999Z");
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
            assert_eq!(text.parse::<Day>(), Err(DayError), "{text}");
        }
    }
}
