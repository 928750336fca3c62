//! Values of flags and arguments, parsed into types that cannot be wrong.

use coffer_client::backup::SnapshotId;
use coffer_model::{BucketName, NameError, ObjectKey, unescape_bytes};

/// A number of whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) u64);

/// Why an argument is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ValueError {
    #[error("a duration is a whole number and s, m, h or d, for example 4h")]
    Duration,
    #[cfg(feature = "embedded")]
    #[error("a number above 0 is wanted, for example 0.01")]
    Number,
    #[error("a time is a day, 2026-11-24, or a second of it, 2026-11-24T10:15:00Z, in UTC")]
    Moment,
    #[error("an object is BUCKET/KEY, for example documents/2026/report.pdf")]
    Object,
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("metadata is KEY=VALUE with a key of at least one character")]
    Metadata,
    #[error("a range is FIRST-LAST or FIRST-, in bytes counted from 0, with FIRST not after LAST")]
    Range,
    #[error("a snapshot is \"latest\" or 32 hexadecimal digits; `coffer snapshots` lists them")]
    Snapshot,
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

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) u64);

/// `2026-11-24`, `2026-11-24T10:15:00Z`; in UTC.
pub(super) fn moment(text: &str) -> Result<Moment, ValueError> {
    let (day, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let number = |digits: &str, width: usize| {
        let plain = digits.len() == width && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| plain).ok_or(ValueError::Moment)
    };
    let part =
        |parts: &mut dyn Iterator<Item = &str>, width| number(parts.next().ok_or(ValueError::Moment)?, width);
    let days = &mut day.split('-') as &mut dyn Iterator<Item = _>;
    let (year, month, day) = (part(days, 4)?, part(days, 2)?, part(days, 2)?);
    let times =
        &mut time.strip_suffix('Z').ok_or(ValueError::Moment)?.split(':') as &mut dyn Iterator<Item = _>;
    let (hour, minute, second) = (part(times, 2)?, part(times, 2)?, part(times, 2)?);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before =
        usize::try_from(month.saturating_sub(1)).ok().and_then(|month| lengths.split_at_checked(month));
    let (before, rest) = before.ok_or(ValueError::Moment)?;
    let good = month >= 1
        && rest.first().is_some_and(|days| (1..=*days).contains(&day))
        && (hour < 24 && minute < 60 && second < 60)
        && year >= 1970
        && days.next().is_none()
        && times.next().is_none();
    if !good {
        return Err(ValueError::Moment);
    }
    let days = (1970..year).map(|year| 365 + u64::from(leap(year))).sum::<u64>();
    let days = days + before.iter().sum::<u64>() + day - 1;
    Ok(Moment((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000))
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
    bytes.ok_or_else(|| "a size is a number of bytes, for example 512M".to_owned())
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
    fn a_time_is_a_day_or_a_second_that_there_was() {
        assert_eq!(moment("1970-01-01").unwrap(), Moment(0));
        assert_eq!(moment("2024-02-29T23:59:59Z").unwrap(), Moment(1_709_251_199_000));
        assert_eq!(moment("2026-11-24").unwrap(), Moment(1_795_478_400_000));
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-00-01",
            "2025-02-29",
            "2026-11-31",
            "1969-12-31",
            "26-11-24",
            "2026-11-24T10:15:00",
            "2026-11-24T24:00:00Z",
            "2026-11-24T10:15Z",
            "2026-11-24-1",
            "+026-11-24",
        ] {
            assert!(moment(text).is_err(), "{text}");
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
    fn ranges_that_are_empty_or_no_numbers_are_refused() {
        assert_eq!(range("0-9").unwrap(), ByteRange { start: 0, end: 10 });
        assert_eq!(range("5-").unwrap(), ByteRange { start: 5, end: u64::MAX });
        for text in ["", "-", "-5", "9-0", "a-b", "1"] {
            assert!(range(text).is_err(), "{text}");
        }
    }
}
