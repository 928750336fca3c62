//! One page that people like to read: self-contained, without a script,
//! readable in light and dark, on a phone, and on paper.

mod chart;
mod sections;
mod style;

use std::fmt::Display;

use super::Report;

/// A text as HTML holds it.
pub(super) fn escaped(text: impl Display) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // A page holds no control characters.
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Bytes for people, in powers of 1024.
pub(super) fn bytes_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut whole, mut rest, mut unit) = (bytes, 0, "bytes");
    for next in UNITS {
        if whole < 1024 {
            break;
        }
        (rest, whole, unit) = (whole % 1024, whole / 1024, next);
    }
    if unit == "bytes" { format!("{whole} bytes") } else { format!("{whole}.{} {unit}", rest * 10 / 1024) }
}

/// The day of a moment.
pub(super) fn day(utc: &str) -> &str {
    utc.get(..10).unwrap_or(utc)
}

/// A moment to the second, for people; the evidence has it to the nanosecond.
pub(super) fn second(utc: &str) -> String {
    utc.get(..19).map_or_else(|| utc.to_owned(), |text| format!("{} UTC", text.replace('T', " ")))
}

/// The whole page. `linked`: it lies in `reports/` of a pack.
pub(super) fn html(report: &Report<'_>, linked: bool) -> String {
    let facts = &report.material.facts.facts;
    let body = [
        sections::head(report),
        sections::summary(report),
        sections::findings(report),
        sections::sites(report),
        sections::residency(report),
        sections::drills(report),
        sections::coverage(report),
        sections::keys(report),
        sections::limits(),
        sections::mapping(report),
        sections::evidence(report, linked),
    ]
    .concat();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <meta name=\"color-scheme\" content=\"light dark\">\n\
        <link rel=\"icon\" href=\"data:,\">\n\
        <title>Evidence report: {}</title>\n<style>{}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escaped(&facts.tenant.name),
        style::STYLE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tenant_chose_cannot_leave_its_place_in_the_page() {
        assert_eq!(escaped("<b a=\"x\">&'"), "&lt;b a=&quot;x&quot;&gt;&amp;&#39;");
        assert_eq!(escaped("a\u{0}b\u{1b}"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn bytes_are_told_in_the_largest_unit_that_fits() {
        assert_eq!(bytes_text(1023), "1023 bytes");
        assert_eq!(bytes_text(1536), "1.5 KiB");
        assert_eq!(bytes_text(u64::MAX), "15.9 EiB");
    }
}
