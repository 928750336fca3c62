//! The text format of Prometheus, version 0.0.4: families of samples, each
//! with its help and its type before them.

use std::fmt::Write as _;

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A family as it is announced.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    pub(super) kind: Kind,
    /// What it says, in one line.
    pub help: &'static str,
}

/// Labels of one sample.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A text as it grows, family after family.
#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    /// Announces a family; its samples follow.
    pub(super) fn family(&mut self, family: &Family) -> Samples<'_> {
        let Family { name, kind, help } = family;
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
        Samples { text: &mut self.0, name }
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// The samples of one family.
pub(super) struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Samples<'_> {
    pub(super) fn add(&mut self, labels: Labels<'_>, value: u64) {
        self.line("", labels, None, &value.to_string());
    }

    /// Yes or no, as one or zero.
    pub(super) fn flag(&mut self, labels: Labels<'_>, value: bool) {
        self.add(labels, u64::from(value));
    }

    /// A histogram: counts below each bound, not added up yet; the last is
    /// that of everything above.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, bounds: &[f64], counts: &[u64], sum_seconds: f64) {
        let mut all = 0;
        for (at, count) in counts.iter().enumerate() {
            all += count;
            let bound = bounds.get(at).map_or_else(|| "+Inf".to_owned(), |bound| format!("{bound:?}"));
            self.line("_bucket", labels, Some(&bound), &all.to_string());
        }
        self.line("_sum", labels, None, &format!("{sum_seconds:?}"));
        self.line("_count", labels, None, &all.to_string());
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: &str) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        for (at, (name, text)) in all.enumerate() {
            self.text.push_str(if at == 0 { "{" } else { "," });
            let _ = write!(self.text, "{name}=\"{}\"", escaped(text));
        }
        if !labels.is_empty() || bound.is_some() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// A label's value: an operator may have named a site with anything.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILY: Family = Family { name: "coffer_x", kind: Kind::Histogram, help: "Seconds." };

    #[test]
    fn a_histogram_adds_its_counts_up_and_a_label_cannot_break_its_line() {
        let mut text = Text::default();
        let mut samples = text.family(&FAMILY);
        samples.histogram(&[("call", "a\"b\\c\nd")], &[0.5, 1.0], &[2, 0, 1], 3.25);
        samples.add(&[], 7);
        let expected = "# HELP coffer_x Seconds.\n# TYPE coffer_x histogram\n\
            coffer_x_bucket{call=\"a\\\"b\\\\c\\nd\",le=\"0.5\"} 2\n\
            coffer_x_bucket{call=\"a\\\"b\\\\c\\nd\",le=\"1.0\"} 2\n\
            coffer_x_bucket{call=\"a\\\"b\\\\c\\nd\",le=\"+Inf\"} 3\n\
            coffer_x_sum{call=\"a\\\"b\\\\c\\nd\"} 3.25\n\
            coffer_x_count{call=\"a\\\"b\\\\c\\nd\"} 3\n\
            coffer_x 7\n";
        assert_eq!(text.into_string(), expected);
    }
}
