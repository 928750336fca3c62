//! A moment in a record: the nanoseconds that were measured, and the same in
//! a form for people. Nanoseconds since 1970 exceed the integers of canonical
//! JSON, so they are digits in a string.

use coffer_model::Timestamp;
use serde::{Deserialize, Serialize};

/// A moment, twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Nanoseconds since 1970-01-01T00:00:00Z, decimal.
    ns: String,
    /// The same as RFC 3339, UTC.
    utc: String,
}

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self { ns: time.0.to_string(), utc: time.to_string() }
    }
}

impl Moment {
    /// The moment, if both forms agree.
    pub fn timestamp(&self) -> Option<Timestamp> {
        let time = Timestamp(self.ns.parse().ok()?);
        (Self::from(time) == *self).then_some(time)
    }

    /// RFC 3339, UTC, as it was written.
    pub fn utc(&self) -> &str {
        &self.utc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_whose_forms_disagree_is_none() {
        let moment = Moment::from(Timestamp(1_700_000_000_250_000_000));
        assert_eq!(moment.timestamp(), Some(Timestamp(1_700_000_000_250_000_000)));
        for (ns, utc) in [
            ("1700000000250000001", moment.utc.as_str()),
            ("01700000000250000000", moment.utc.as_str()),
            ("+1700000000250000000", moment.utc.as_str()),
            ("1700000000250000000", "2023-11-14T22:13:20.250Z"),
        ] {
            assert_eq!(Moment { ns: ns.into(), utc: utc.into() }.timestamp(), None, "{ns} {utc}");
        }
    }
}
