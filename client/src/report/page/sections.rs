//! The parts of the page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{bytes_text, chart, day, escaped, second};
use crate::report::check::counted;
use crate::report::check::{Evidence, Finding, Status, Theme};
use crate::report::dwelling::{Dwelling, dwellings};
use crate::report::facts::{SiteFacts, TierCertificateFacts};
use crate::report::limits::LIMITS;
use crate::report::mapping::{CAUTION, Standard};
use crate::report::material::DrillItem;
use crate::report::{Report, oscal};

pub(super) fn head(report: &Report<'_>) -> String {
    let facts = &report.material.facts.facts;
    let (from, to) = (report.material.period.from.to_string(), report.material.period.to.to_string());
    format!(
        "<header><p class=\"eyebrow\">Coffer evidence report</p><h1>{}</h1>\
        <p class=\"soft\">{} to {} · facts of {} · <code>{}</code></p></header>\n\
        <nav><a href=\"#findings\">Findings</a><a href=\"#sites\">Sites</a><a href=\"#residency\">Residency</a>\
        <a href=\"#drills\">Restoration</a><a href=\"#coverage\">Coverage</a><a href=\"#keys\">Keys</a>\
        <a href=\"#limits\">Limits</a><a href=\"#mapping\">Standards</a><a href=\"#evidence\">Evidence</a></nav>\n",
        escaped(&facts.tenant.name),
        day(&from),
        day(&to),
        escaped(second(facts.taken.utc())),
        escaped(&facts.tenant.id),
    )
}

fn tile(class: &str, value: &str, name: &str) -> String {
    format!("<div class=\"tile {class}\"><b>{}</b><small>{}</small></div>", escaped(value), escaped(name))
}

pub(super) fn summary(report: &Report<'_>) -> String {
    let facts = &report.material.facts.facts;
    let (all, met) = (report.findings.len(), report.satisfied());
    let open = all - met;
    let drills: Vec<&DrillItem> = report.material.drills().collect();
    let back = drills.iter().rfind(|drill| drill.brought_back());
    let last = back.map_or_else(|| "none".to_owned(), |drill| chart::seconds(drill.record.measured.rta_ns));
    let countries: Vec<&str> = facts.versions.countries.keys().map(String::as_str).collect();
    let tiles = [
        tile("good", &format!("{met} of {all}"), "objectives satisfied"),
        tile(if open > 0 { "bad" } else { "good" }, &open.to_string(), "not satisfied, or not shown"),
        tile("", &bytes_text(facts.versions.bytes), &format!("in {} versions", facts.versions.versions)),
        tile("", &last, &format!("latest restoration, of {}", counted(drills.len(), "drill"))),
        tile("", &countries.len().to_string(), &format!("countries: {}", countries.join(", "))),
        tile("", &report.material.log.checkpoint.size.to_string(), "leaves of the log, all verified"),
    ];
    format!(
        "<section id=\"summary\"><div class=\"tiles\">{}</div><p class=\"caution\">{}</p></section>\n",
        tiles.concat(),
        escaped(CAUTION)
    )
}

pub(super) fn findings(report: &Report<'_>) -> String {
    let mut text = "<section id=\"findings\"><h2>Findings</h2>".to_owned();
    let open: Vec<&Finding> = report.failed().collect();
    if !open.is_empty() {
        text.push_str("<h3>To be looked at first</h3><ul>");
        for finding in open {
            let (id, title) = (finding.check.id, finding.check.title);
            let _ = write!(text, "<li><a href=\"#check-{id}\">{}</a></li>", escaped(title));
        }
        text.push_str("</ul>");
    }
    for theme in Theme::ALL {
        let _ = write!(text, "<h3>{}</h3>", escaped(theme.title()));
        report.of_theme(theme).for_each(|finding| text.push_str(&one(finding)));
    }
    text.push_str("</section>\n");
    text
}

fn one(finding: &Finding) -> String {
    let (check, answer) = (finding.check, &finding.answer);
    let bad = if answer.status == Status::NotSatisfied { " bad" } else { "" };
    let mut links: Vec<String> = Vec::new();
    for evidence in answer.evidence.iter().take(6) {
        links.push(format!("<a href=\"#{}\">{}</a>", anchor(evidence), escaped(evidence.title())));
    }
    if answer.evidence.len() > links.len() {
        links.push(format!("and {} more", answer.evidence.len() - links.len()));
    }
    let remedy = match answer.status {
        Status::Satisfied => String::new(),
        Status::NotSatisfied => format!("<p><strong>To do:</strong> {}</p>", escaped(check.remedy)),
    };
    format!(
        "<article class=\"finding{bad}\" id=\"check-{id}\"><header><h4>{title}</h4>\
        <span class=\"badge{bad}\">{status}</span></header><p class=\"soft\">{objective}</p>\
        <p>{reason}</p>{remedy}<p><small>On the evidence of {links} · <code>{id}</code></small></p></article>\n",
        id = check.id,
        title = escaped(check.title),
        status = answer.status.text(),
        objective = escaped(check.objective),
        reason = escaped(&answer.reason),
        links = links.join(", "),
    )
}

fn anchor(evidence: &Evidence) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("evidence-{}", evidence.path().chars().map(plain).collect::<String>())
}

fn cell(name: &str, value: &str) -> String {
    format!("<td data-name=\"{name}\">{}</td>", escaped(value))
}

pub(super) fn sites(report: &Report<'_>) -> String {
    let facts = &report.material.facts.facts;
    let mut by_country: BTreeMap<&str, Vec<&SiteFacts>> = BTreeMap::new();
    facts.sites_now().for_each(|site| by_country.entry(site.country.as_str()).or_default().push(site));
    let mut map = String::new();
    for (country, sites) in &by_country {
        let names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
        let versions = facts.versions.countries.get(*country).copied().unwrap_or_default();
        map.push_str(&tile("", country, &format!("{} · {versions} versions", names.join(", "))));
    }
    let mut rows = String::new();
    for site in &facts.sites {
        let state = match site {
            site if !site.counts() => "retired",
            site if site.quarantined => "quarantined",
            site if !site.answers => "silent",
            site => site.standing.as_str(),
        };
        let declared = site.tier_certificate.as_ref();
        let certificate = declared.map_or_else(|| "none declared".to_owned(), TierCertificateFacts::text);
        let kind = if site.simulated { "simulated" } else { "real" };
        let cells = [
            cell("Site", &site.name),
            cell("Country", site.country.as_str()),
            cell("Failure domain", &site.domain),
            cell("Tier", &format!("{} (certificate: {certificate})", site.tier)),
            cell("State", state),
            cell("Kind", kind),
            cell("Damaged", &site.damaged.to_string()),
        ];
        let _ = writeln!(rows, "<tr>{}</tr>", cells.concat());
    }
    format!(
        "<section id=\"sites\"><h2>Sites</h2><div class=\"tiles\">{map}</div><div class=\"scroll\"><table class=\"cards\">\
        <thead><tr><th>Site</th><th>Country</th><th>Failure domain</th><th>Tier</th><th>State</th><th>Kind</th><th>Damaged</th></tr></thead>\
        <tbody>{rows}</tbody></table></div></section>\n"
    )
}

pub(super) fn residency(report: &Report<'_>) -> String {
    let facts = &report.material.facts.facts;
    let mut rows = String::new();
    for bucket in &facts.buckets {
        let places: Vec<String> =
            bucket.sums.countries.iter().map(|(country, count)| format!("{country} {count}")).collect();
        let cells = [
            cell("Bucket", &bucket.name),
            cell("May lie", &bucket.policy.text()),
            cell("Lies in (versions)", &places.join(", ")),
            cell("Outside", &bucket.sums.outside.to_string()),
            cell("Short", &bucket.sums.short.to_string()),
            cell("Content", &bytes_text(bucket.sums.bytes)),
        ];
        let _ = writeln!(rows, "<tr>{}</tr>", cells.concat());
    }
    let listed = match dwellings(report.material) {
        Some(objects) => dwelling_table(&objects),
        None => "<p class=\"soft\">The versions were not read one by one for this report.</p>".to_owned(),
    };
    format!(
        "<section id=\"residency\"><h2>Where the data lies</h2><div class=\"scroll\"><table class=\"cards\">\
        <thead><tr><th>Bucket</th><th>May lie</th><th>Lies in (versions)</th><th>Outside</th><th>Short</th><th>Content</th></tr></thead>\
        <tbody>{rows}</tbody></table></div>{listed}</section>\n"
    )
}

/// Objects on the page; the table beside it has all of them.
const OBJECTS_SHOWN: usize = 50;

/// Since when each object lies only where it does: first those that moved,
/// then the newest.
fn dwelling_table(objects: &[Dwelling]) -> String {
    let always = objects.iter().filter(|object| object.always() && object.doubt.is_empty()).count();
    let mut order: Vec<&Dwelling> = objects.iter().collect();
    order.sort_by_key(|object| (object.doubt.is_empty(), object.always(), std::cmp::Reverse(object.since)));
    let mut rows = String::new();
    for object in order.iter().take(OBJECTS_SHOWN) {
        let why = match (object.doubt.as_str(), object.always()) {
            ("", true) => "its first version".to_owned(),
            ("", false) => "a move".to_owned(),
            (doubt, _) => doubt.to_owned(),
        };
        let cells = [
            cell("Object", &object.object),
            cell("Only in", &object.countries.join(", ")),
            cell("Since", &format!("{} ({why})", second(&object.since.to_string()))),
            cell("Versions", &object.versions.to_string()),
        ];
        let _ = writeln!(rows, "<tr>{}</tr>", cells.concat());
    }
    let rest = match objects.len().saturating_sub(OBJECTS_SHOWN) {
        0 => String::new(),
        more => format!("<p class=\"soft\">And {more} more, in the table of objects.</p>"),
    };
    format!(
        "<p>{always} of {} objects never lay elsewhere since their first version.</p>\
        <details><summary>Each object, and since when it lies only where it does</summary>\
        <div class=\"scroll\"><table class=\"cards\">\
        <thead><tr><th>Object</th><th>Only in</th><th>Since</th><th>Versions</th></tr></thead>\
        <tbody>{rows}</tbody></table></div>{rest}</details>",
        objects.len()
    )
}

pub(super) fn drills(report: &Report<'_>) -> String {
    let drills: Vec<&DrillItem> = report.material.drills().collect();
    let mut text = "<section id=\"drills\"><h2>Restoration, rehearsed</h2>".to_owned();
    if drills.is_empty() || !chart::is_long(report.material.period) {
        text.push_str("<p>No drill was recorded in the period.</p></section>\n");
        return text;
    }
    let _ = write!(
        text,
        "<figure><figcaption>Drills in the period; red where something differed or nothing came back</figcaption>{}</figure>\
        <figure><figcaption>From the declared loss to the last verified file</figcaption>{}</figure>",
        chart::timeline(&drills, report.material.period),
        chart::trend(&drills)
    );
    let mut rows = String::new();
    for drill in drills.iter().rev() {
        let record = &drill.record;
        let objective = |verdict: crate::drill::Verdict, ns, seconds| {
            format!("{} of {seconds} s: {verdict}", chart::seconds(ns))
        };
        let cells = [
            cell("Declared", &second(record.declared.utc())),
            cell("Scenario", &record.scenario),
            cell("Sites lost", &format!("{} of {}", record.sites_lost.len(), record.sites)),
            cell("Restored", &format!("{} files, {}", record.files, bytes_text(record.bytes))),
            cell("Differences", &record.differences.count.to_string()),
            cell(
                "Time",
                &objective(record.verdicts.rto, record.measured.rta_ns, record.objectives.rto_seconds),
            ),
            cell(
                "Loss",
                &match record.measured.is_loss_known() && drill.brought_back() {
                    true => {
                        objective(record.verdicts.rpo, record.measured.rpa_ns, record.objectives.rpo_seconds)
                    }
                    false => "not known".to_owned(),
                },
            ),
        ];
        let _ = writeln!(rows, "<tr>{}</tr>", cells.concat());
    }
    let _ = writeln!(
        text,
        "<div class=\"scroll\"><table class=\"cards\"><thead><tr><th>Declared</th><th>Scenario</th><th>Sites lost</th><th>Restored</th>\
        <th>Differences</th><th>Time</th><th>Loss</th></tr></thead><tbody>{rows}</tbody></table></div>"
    );
    text.push_str(&figures(&drills));
    text.push_str("</section>\n");
    text
}

/// What records of the second version say beside that.
fn figures(drills: &[&DrillItem]) -> String {
    let seconds = drills.iter().rev().filter_map(|drill| drill.second.as_ref());
    let rows = seconds.fold(String::new(), |mut rows, record| {
        let foreseen = match record.prediction_error_percent() {
            Some(off) => format!("{}, {off} % off", chart::seconds(record.predicted.total_ns)),
            None => "nothing".to_owned(),
        };
        let trend = record.trend.as_ref().map_or_else(
            || "the first of its kind".to_owned(),
            |trend| {
                let slower = if trend.regression { "; much slower" } else { "" };
                format!("{} before, middle {}{slower}", trend.earlier, chart::seconds(trend.middle_ns))
            },
        );
        let coverage = record.coverage.as_ref().map_or_else(
            || "no sample".to_owned(),
            |coverage| format!("{} of {} objects", coverage.restored, coverage.objects),
        );
        let tried: u64 = record.negative.iter().map(|check| check.count).fold(0, u64::saturating_add);
        let possible: u64 = record.negative.iter().map(|check| check.possible).fold(0, u64::saturating_add);
        let due = record.next_due.as_ref().map_or_else(|| "not stated".to_owned(), |due| second(due.utc()));
        let cells = [
            cell("Declared", &second(record.timeline.declared.utc())),
            cell("Foreseen", &foreseen),
            cell("Trend", &trend),
            cell("Coverage", &coverage),
            cell("Must not be possible", &format!("{possible} of {tried} attempts were")),
            cell("Next due", &due),
        ];
        let _ = writeln!(rows, "<tr>{}</tr>", cells.concat());
        rows
    });
    if rows.is_empty() {
        return rows;
    }
    format!(
        "<div class=\"scroll\"><table class=\"cards\"><thead><tr><th>Declared</th><th>Foreseen</th><th>Trend</th><th>Coverage</th>\
        <th>Must not be possible</th><th>Next due</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

pub(super) fn coverage(report: &Report<'_>) -> String {
    let scrub = &report.material.facts.facts.scrub;
    let promised = scrub.promised_seconds;
    let lines: Vec<(String, u64, u64, String, bool)> = scrub
        .sites
        .iter()
        .map(|site| {
            let (age, text) = match site.age_seconds {
                Some(age) => (age, format!("{} h ago", age / 3600)),
                None => (promised, "not shown".to_owned()),
            };
            (site.site.clone(), age, promised, text, site.kept)
        })
        .collect();
    format!(
        "<section id=\"coverage\"><h2>Read and verified</h2><figure><figcaption>How long ago the oldest byte of each site was \
        read and verified; {} days are promised</figcaption>{}</figure>\
        <p>{} questions that only the holder of a shard can answer are unasked; {} versions have a shard without one.</p></section>\n",
        promised / 86_400,
        chart::bars("Age of the oldest verified byte at each site", &lines),
        scrub.unasked_challenges,
        scrub.unchallenged_versions
    )
}

pub(super) fn keys(report: &Report<'_>) -> String {
    let facts = &report.material.facts.facts;
    let mut rows = String::new();
    for epoch in &facts.keys.epochs {
        let since =
            epoch.created.as_ref().map_or_else(|| "not known".to_owned(), |moment| second(moment.utc()));
        let cells = [
            cell("Epoch", &epoch.epoch.to_string()),
            cell("Key", &epoch.id),
            cell("Since", &since),
            cell("Versions", &epoch.versions.to_string()),
        ];
        let _ = writeln!(rows, "<tr>{}</tr>", cells.concat());
    }
    format!(
        "<section id=\"keys\"><h2>Keys and people</h2><p>Content: {}. Keys are wrapped with {}.</p>\
        <div class=\"scroll\"><table class=\"cards\"><thead><tr><th>Epoch</th><th>Key</th><th>Since</th><th>Versions</th></tr></thead>\
        <tbody>{rows}</tbody></table></div>\
        <p>{} of the tenant; {} of the deployment, without a way to a tenant's data.</p></section>\n",
        escaped(&facts.keys.content),
        escaped(&facts.keys.wrap),
        counted(facts.principals.len(), "principal"),
        counted(usize::try_from(facts.operators).unwrap_or(usize::MAX), "operator")
    )
}

pub(super) fn limits() -> String {
    let one = |limit: &super::super::Limit| {
        format!("<li><p>{}</p><p class=\"soft\">{}</p></li>", escaped(limit.what), escaped(limit.instead))
    };
    let items: String = LIMITS.iter().map(one).collect();
    format!("<section id=\"limits\"><h2>What cryptography cannot prove</h2><ol>{items}</ol></section>\n")
}

pub(super) fn mapping(report: &Report<'_>) -> String {
    let head: String =
        Standard::ALL.iter().map(|standard| format!("<th>{}</th>", escaped(standard.name()))).collect();
    let mut rows = String::new();
    for finding in &report.findings {
        let check = finding.check;
        let mut cells = format!("<td data-name=\"Check\"><a href=\"#check-{0}\">{0}</a></td>", check.id);
        for standard in Standard::ALL {
            let places = check.references.iter().filter(|one| one.standard == standard);
            let places: Vec<&str> = places.map(|one| one.text).collect();
            cells.push_str(&cell(standard.name(), &places.join("; ")));
        }
        let _ = writeln!(rows, "<tr>{cells}</tr>");
    }
    format!(
        "<section id=\"mapping\"><h2>Where standards ask for it</h2><p class=\"caution\">{}</p><div class=\"scroll\">\
        <table class=\"cards\"><thead><tr><th>Check</th>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>\n",
        escaped(CAUTION)
    )
}

pub(super) fn evidence(report: &Report<'_>, linked: bool) -> String {
    let mut rows = String::new();
    for evidence in report.evidence() {
        let path = evidence.path();
        let place = match linked {
            true => format!("<a href=\"../{0}\"><code>{0}</code></a>", escaped(&path)),
            false => format!("<code>{}</code>", escaped(&path)),
        };
        let digest = oscal::digest(report, &evidence).unwrap_or_default();
        let _ = writeln!(
            rows,
            "<tr id=\"{}\">{}<td data-name=\"In a pack\">{place}</td><td data-name=\"SHA-256\"><code>{digest}</code></td></tr>",
            anchor(&evidence),
            cell("Evidence", &evidence.title())
        );
    }
    format!(
        "<section id=\"evidence\"><h2>Evidence</h2><p>Checkpoint of {} leaves, root <code>{}</code>. The same material always \
        makes the same report; an evidence pack holds all of it: <code>coffer evidence export</code>.</p>\
        <div class=\"scroll\"><table class=\"cards\"><thead><tr><th>Evidence</th><th>In a pack</th><th>SHA-256</th></tr></thead>\
        <tbody>{rows}</tbody></table></div></section>\n",
        report.material.log.checkpoint.size, report.material.log.checkpoint.root
    )
}
