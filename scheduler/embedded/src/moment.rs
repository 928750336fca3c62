//! Moments as the API writes them: RFC 3339, UTC, whole seconds.

use coffer_model::Timestamp;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const NANOSECONDS: u64 = 1_000_000_000;

/// The moment as `metav1.Time` writes it; a fraction of a second is cut off.
pub(crate) fn text(moment: Timestamp) -> String {
    Timestamp(moment.0 / NANOSECONDS * NANOSECONDS).to_string()
}

/// The moment that a text stands for; none before 1970.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp_nanos()).ok().map(Timestamp)
}
