//! Tables with commas (RFC 4180), for people who sort and filter.

use super::Report;
use super::dwelling;
use super::mapping::Standard;
use super::material::Material;

/// One field. A text that a spreadsheet would take for a formula gets a
/// quotation mark in front.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn line(fields: impl IntoIterator<Item = String>) -> String {
    let mut line = fields.into_iter().map(|text| field(&text)).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

pub(super) fn findings(report: &Report<'_>) -> String {
    let head = ["check", "theme", "title", "objective", "status", "reason", "evidence"];
    let standards = Standard::ALL.iter().map(|standard| standard.name());
    let mut text = line(head.into_iter().chain(standards).map(str::to_owned));
    for finding in &report.findings {
        let (check, answer) = (finding.check, &finding.answer);
        let evidence: Vec<String> = answer.evidence.iter().map(super::Evidence::path).collect();
        let mut fields = vec![
            check.id.to_owned(),
            check.theme.title().to_owned(),
            check.title.to_owned(),
            check.objective.to_owned(),
            answer.status.text().to_owned(),
            answer.reason.clone(),
            evidence.join(" "),
        ];
        for standard in Standard::ALL {
            let places = check.references.iter().filter(|reference| reference.standard == standard);
            fields.push(places.map(|reference| reference.text).collect::<Vec<_>>().join("; "));
        }
        text.push_str(&line(fields));
    }
    text
}

pub(super) fn residency(material: &Material) -> Option<String> {
    let head = ["version", "bucket", "object", "since", "moves", "hidden", "sites", "countries", "inside"];
    let mut text = line(head.map(str::to_owned));
    for item in material.residency.as_ref()? {
        text.push_str(&line([
            item.version.clone(),
            item.bucket.clone(),
            item.object.clone(),
            item.created.to_string(),
            item.revision.to_string(),
            item.hidden.to_string(),
            item.sites.join(" "),
            item.countries.join(" "),
            item.inside.to_string(),
        ]));
    }
    Some(text)
}

pub(super) fn dwellings(material: &Material) -> Option<String> {
    let head =
        ["bucket", "object", "only_in", "since", "first_version", "versions", "moves", "inside", "doubt"];
    let mut text = line(head.map(str::to_owned));
    for one in dwelling::dwellings(material)? {
        text.push_str(&line([
            one.bucket,
            one.object,
            one.countries.join(" "),
            one.since.to_string(),
            one.first.to_string(),
            one.versions.to_string(),
            one.moves.to_string(),
            one.inside.to_string(),
            one.doubt,
        ]));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_one_field_and_no_formula() {
        assert_eq!(field("plain"), "plain");
        assert_eq!(field("a,b"), "\"a,b\"");
        assert_eq!(field("say \"yes\"\n"), "\"say \"\"yes\"\"\n\"");
        assert_eq!(field("=HYPERLINK(1)"), "'=HYPERLINK(1)");
        assert_eq!(field("@x,y"), "\"'@x,y\"");
    }
}
