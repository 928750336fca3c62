//! Values of flags and arguments, parsed into types that cannot be wrong.

use coffer_client::backup::SnapshotId;
use coffer_client::drill::Person;
use coffer_client::{ConnectError, check_endpoint};
use coffer_model::{BucketName, NameError, ObjectKey, Timestamp, unescape_bytes};

/// A number of whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) u64);

/// Why an argument is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("a duration is a whole number and s, m, h or d, for example 4h")]
    Duration,
    #[cfg(feature = "embedded")]
    #[error("no time at all is not enough: something above 0s, as 1h")]
    NoTime,
    #[cfg(feature = "embedded")]
    #[error("a number above 0 is wanted, for example 0.01")]
    Number,
    #[cfg(feature = "embedded")]
    #[error("a site is called by 1 to 32 of a-z, 0-9 and '-', for example fra1")]
    SiteName,
    #[error("an object is BUCKET/KEY, for example documents/2026/report.pdf")]
    Object,
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("metadata is KEY=VALUE with a key of at least one character")]
    Metadata,
    #[error("a range is FIRST-LAST or FIRST-, in bytes counted from 0, with FIRST not after LAST")]
    Range,
    #[error("a moment is UTC, for example 2026-03-01T12:00:00Z, or nanoseconds since 1970")]
    Moment,
    #[error("a person is ROLE=NAME, for example operator=\"A. Smith\"")]
    Person,
    #[error("a snapshot is \"latest\" or 32 hexadecimal digits; `coffer snapshots` lists them")]
    Snapshot,
}

/// An address of a service, or several.
pub(super) fn server(text: &str) -> Result<String, ConnectError> {
    check_endpoint(text)?;
    Ok(text.to_owned())
}

/// A number above zero.
#[cfg(feature = "embedded")]
pub(super) fn positive(text: &str) -> Result<f64, ValueError> {
    let number: f64 = text.parse().map_err(|_| ValueError::Number)?;
    if number > 0.0 && number.is_finite() { Ok(number) } else { Err(ValueError::Number) }
}

/// `90s`, `15m`, `4h`, `2d`.
pub(super) fn seconds(text: &str) -> Result<Seconds, ValueError> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(ValueError::Duration),
    };
    let digits = text.get(..text.len() - 1).unwrap_or_default();
    let number: u32 = digits.parse().map_err(|_| ValueError::Duration)?;
    Ok(Seconds(u64::from(number) * unit))
}

/// A moment as [`moment`] reads it, or the beginning of a day.
pub(super) fn day_or_moment(text: &str) -> Result<Timestamp, ValueError> {
    let day = (text.len() == "2026-11-24".len()).then(|| rfc3339(&format!("{text}T00:00:00Z")));
    day.flatten().map_or_else(|| moment(text), Ok)
}

/// As [`seconds`], and more than none.
#[cfg(feature = "embedded")]
pub(super) fn some_seconds(text: &str) -> Result<Seconds, ValueError> {
    seconds(text).and_then(|time| if time.0 > 0 { Ok(time) } else { Err(ValueError::NoTime) })
}

/// A name that the site file takes.
#[cfg(feature = "embedded")]
pub(super) fn site_name(text: &str) -> Result<String, ValueError> {
    if coffer_server::SiteFile::takes_name(text) { Ok(text.to_owned()) } else { Err(ValueError::SiteName) }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectAddress {
    pub(crate) bucket: BucketName,
    pub(crate) key: ObjectKey,
}

pub(super) fn bucket(text: &str) -> Result<BucketName, ValueError> {
    Ok(BucketName::new(text)?)
}

pub(super) fn object(text: &str) -> Result<ObjectAddress, ValueError> {
    let (bucket, key) = text.split_once('/').ok_or(ValueError::Object)?;
    Ok(ObjectAddress { bucket: BucketName::new(bucket)?, key: ObjectKey::new(unescape_bytes(key)?)? })
}

pub(super) fn object_prefix(text: &str) -> Result<(BucketName, Vec<u8>), ValueError> {
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    Ok((BucketName::new(bucket)?, unescape_bytes(prefix)?))
}

/// One pair of metadata.
pub(crate) type Metadata = (String, String);

pub(super) fn metadata(text: &str) -> Result<Metadata, ValueError> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(ValueError::Metadata),
    }
}

/// First and one past the last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

pub(super) fn range(text: &str) -> Result<ByteRange, ValueError> {
    let (first, last) = text.split_once('-').ok_or(ValueError::Range)?;
    let number = |digits: &str| digits.parse::<u64>().map_err(|_| ValueError::Range);
    let start = number(first)?;
    let end = if last.is_empty() { u64::MAX } else { number(last)?.saturating_add(1) };
    if start < end { Ok(ByteRange { start, end }) } else { Err(ValueError::Range) }
}

/// A moment: RFC 3339 in UTC, with or without a fraction, or the nanoseconds
/// since 1970.
pub(super) fn moment(text: &str) -> Result<Timestamp, ValueError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(Timestamp).map_err(|_| ValueError::Moment);
    }
    rfc3339(text).ok_or(ValueError::Moment)
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |digits: &str, length: usize| -> Option<u64> {
        let plain = digits.len() == length && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok()).flatten()
    };
    let mut parts = date.split('-');
    let (year, month, day) =
        (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = clock.split(':');
    let (hour, minute, second) =
        (number(parts.next()?, 2)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in = |month: u64| match month {
        2 => 28 + u64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let good = year >= 1970 && (1..=12).contains(&month) && (1..=days_in(month)).contains(&day);
    if !good || hour > 23 || minute > 59 || second > 59 || !(1..=9).contains(&fraction.len()) {
        return None;
    }
    let nanos = number(&format!("{fraction:0<9}"), 9)?;
    let before: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let days = before + (1..month).map(days_in).sum::<u64>() + day - 1;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos).map(Timestamp)
}

/// Somebody who takes part in a drill.
pub(super) fn person(text: &str) -> Result<Person, ValueError> {
    match text.split_once('=') {
        Some((role, name)) if !role.is_empty() && !name.is_empty() => {
            Ok(Person { role: role.to_owned(), name: name.to_owned() })
        }
        _ => Err(ValueError::Person),
    }
}

/// Which snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SnapshotName {
    Latest,
    Id(SnapshotId),
}

pub(super) fn snapshot(text: &str) -> Result<SnapshotName, ValueError> {
    match text {
        "latest" => Ok(SnapshotName::Latest),
        id => id.parse().map(SnapshotName::Id).map_err(|_| ValueError::Snapshot),
    }
}

/// Bytes: a number, or one with K, M, G or T for powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        Some(b'T' | b't') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: Option<u64> = digits.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(1 << shift)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "a size is a number of bytes above 0, for example 512M".to_owned())
}

/// A syslog that takes events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SyslogTarget {
    /// A datagram socket of this machine.
    Unix(std::path::PathBuf),
    /// Datagrams to a host (RFC 5426).
    Udp(String),
    /// A stream to a host (RFC 6587, octet counting).
    Tcp(String),
}

impl std::str::FromStr for SyslogTarget {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let host = |address: &str| {
            let port = address
                .rsplit_once(':')
                .and_then(|(host, port)| (!host.is_empty()).then(|| port.parse::<u16>().ok()).flatten());
            port.filter(|port| *port > 0).map(|_| address.to_owned())
        };
        let target = match text.split_once(':') {
            Some(("unix", path)) if path.starts_with('/') => Some(Self::Unix(path.into())),
            Some(("udp", address)) => host(address).map(Self::Udp),
            Some(("tcp", address)) => host(address).map(Self::Tcp),
            _ => None,
        };
        target.ok_or("a syslog is unix:/PATH, udp:HOST:PORT or tcp:HOST:PORT, for example unix:/dev/log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_whole_number_and_a_unit() {
        assert_eq!(seconds("4h").unwrap(), Seconds(14_400));
        assert_eq!(seconds("2d").unwrap(), Seconds(172_800));
        for text in ["", "4", "h", "-4h", "1.5h", "4 h", "4H", "99999999999d", "4é"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_is_above_zero_and_a_number() {
        assert_eq!((size("3M").unwrap(), size("7").unwrap()), (3 << 20, 7));
        for text in ["0", "0M", "", "M", "3X", "-1", "1.5M", "99999999999T"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_is_its_first_moment_and_days_that_there_were_not_are_refused() {
        assert_eq!(day_or_moment("2026-11-24").unwrap(), Timestamp(1_795_478_400_000_000_000));
        assert_eq!(day_or_moment("2024-02-29T23:59:59Z").unwrap(), Timestamp(1_709_251_199_000_000_000));
        for text in
            ["", "2026-13-01", "2025-02-29", "2026-11-31", "26-11-24", "2026-11-24T10:15", "2026-11-24-1"]
        {
            assert!(day_or_moment(text).is_err(), "{text}");
        }
    }

    #[cfg(feature = "embedded")]
    #[test]
    fn a_repair_that_takes_no_time_is_refused() {
        assert_eq!(some_seconds("1s").unwrap(), Seconds(1));
        for text in ["0s", "0d", "", "1"] {
            assert!(some_seconds(text).is_err(), "{text}");
        }
    }

    #[cfg(feature = "embedded")]
    #[test]
    fn numbers_of_the_model_are_above_zero_and_finite() {
        assert_eq!(positive("0.01").unwrap().to_bits(), 0.01_f64.to_bits());
        for text in ["0", "-1", "NaN", "inf", "1e999", "", "a"] {
            assert!(positive(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_object_key_may_hold_slashes_and_escaped_bytes() {
        let address = object("documents/a/b\\xff").unwrap();
        assert_eq!((address.bucket.as_str(), address.key.as_bytes()), ("documents", &b"a/b\xff"[..]));
        for text in ["documents", "documents/", "Bad/key", "/key", "documents/a\\q"] {
            assert!(object(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_what_a_timestamp_prints_and_days_that_do_not_exist_are_refused() {
        for nanos in [0, 951_782_400_000_000_000, 1_700_000_000_250_000_000, 1_709_164_799_999_999_999] {
            let printed = Timestamp(nanos).to_string();
            assert_eq!(moment(&printed).unwrap(), Timestamp(nanos), "{printed}");
        }
        assert_eq!(moment("1700000000000000001").unwrap(), Timestamp(1_700_000_000_000_000_001));
        let bad = [
            "",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01",
            "-1",
            "2026-01-01T00:00:00+01:00",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
        ];
        for text in bad {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ranges_that_are_empty_or_no_numbers_are_refused() {
        assert_eq!(range("0-9").unwrap(), ByteRange { start: 0, end: 10 });
        assert_eq!(range("5-").unwrap(), ByteRange { start: 5, end: u64::MAX });
        for text in ["", "-", "-5", "9-0", "a-b", "1"] {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
