//! How long ago something was, as a person reads it: fewer digits the longer
//! ago. The thresholds are those of `kubectl`, so that columns look alike.

use coffer_model::Timestamp;
use k8s_openapi::jiff;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// Time from an RFC 3339 moment to now; `<unknown>` if it is none.
pub(super) fn since(moment: Option<&str>, now: Timestamp) -> String {
    let Some(then) = moment.and_then(|moment| moment.parse::<jiff::Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    let now = i64::try_from(now.0 / 1_000_000_000).unwrap_or(i64::MAX);
    short(now.saturating_sub(then.as_second()))
}

/// A number of seconds in words of at most two units.
pub(super) fn short(seconds: i64) -> String {
    let two = |large: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{rest}{small}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, "m", s % MINUTE, "s"),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, "h", s % HOUR / MINUTE, "m"),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, "d", s % DAY / HOUR, "h"),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, "y", s % YEAR / DAY, "d"),
        s => format!("{}y", s / YEAR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_ago_the_fewer_digits() {
        for (seconds, words) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (600, "10m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + 60, "3h1m"),
            (9 * HOUR + 60, "9h"),
            (2 * DAY + HOUR, "2d1h"),
            (9 * DAY, "9d"),
            (2 * YEAR, "2y"),
            (3 * YEAR + DAY, "3y1d"),
            (9 * YEAR, "9y"),
        ] {
            assert_eq!(short(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn what_is_no_moment_is_unknown() {
        assert_eq!(since(None, Timestamp(0)), "<unknown>");
        assert_eq!(since(Some("yesterday"), Timestamp(0)), "<unknown>");
        assert_eq!(since(Some("1970-01-01T00:00:00.000001Z"), Timestamp(30_000_000_000)), "30s");
    }
}
