//! The report on paper: a PDF of text, from the same findings as the page.
//! Written here with the fonts that every reader has, so that it needs no
//! library and the same report is always the same bytes. Letters beyond
//! Latin-1 become question marks; the page has them.

mod document;

use document::{Document, Font};

use super::Report;
use super::check::{Status, Theme};
use super::facts::TierCertificateFacts;
use super::limits::LIMITS;
use super::mapping::CAUTION;
use super::{Evidence, oscal};
use crate::drill::DrillRecordV2;

pub(super) fn pdf(report: &Report<'_>) -> Vec<u8> {
    let facts = &report.material.facts.facts;
    let mut paper = Document::new();
    paper.text(Font::Bold, 20, &format!("Evidence report: {}", facts.tenant.name));
    paper.text(Font::Plain, 9, &format!("{} · facts of {}", facts.tenant.id, facts.taken.utc()));
    let (from, to) = (report.material.period.from, report.material.period.to);
    paper.text(Font::Plain, 9, &format!("Period from {from} to {to}"));
    let digest = oscal::digest(report, &Evidence::Facts).unwrap_or_default();
    paper.text(Font::Plain, 9, &format!("SHA-256 of the signed facts: {digest}"));
    let checkpoint = &report.material.log.checkpoint;
    paper.text(Font::Plain, 9, &format!("Log: {} leaves, root {}", checkpoint.size, checkpoint.root));
    paper.gap(10);
    let met = format!("{} of {} objectives satisfied", report.satisfied(), report.findings.len());
    paper.text(Font::Bold, 14, &met);
    paper.text(Font::Plain, 10, CAUTION);
    findings(&mut paper, report);
    sites(&mut paper, report);
    drills(&mut paper, report);
    paper.heading("What cryptography cannot prove");
    for limit in LIMITS {
        paper.room(50);
        paper.text(Font::Plain, 10, limit.what);
        paper.text(Font::Plain, 9, limit.instead);
        paper.gap(4);
    }
    paper.finish()
}

fn findings(paper: &mut Document, report: &Report<'_>) {
    for theme in Theme::ALL {
        paper.heading(theme.title());
        for finding in report.of_theme(theme) {
            let (check, answer) = (finding.check, &finding.answer);
            // A finding does not leave its title behind.
            paper.room(70);
            let mark = if answer.status == Status::Satisfied { "" } else { "!  " };
            paper.text(Font::Bold, 10, &format!("{mark}{}: {}", check.title, answer.status.text()));
            paper.text(Font::Plain, 9, check.objective);
            paper.text(Font::Plain, 10, &answer.reason);
            if answer.status == Status::NotSatisfied {
                paper.text(Font::Plain, 10, &format!("To do: {}", check.remedy));
            }
            let places: Vec<String> = check
                .references
                .iter()
                .map(|place| format!("{} {}", place.standard.name(), place.text))
                .collect();
            paper.text(Font::Plain, 8, &format!("{} · {}", check.id, places.join("; ")));
            paper.gap(5);
        }
    }
}

fn sites(paper: &mut Document, report: &Report<'_>) {
    paper.heading("Sites");
    for site in &report.material.facts.facts.sites {
        let declared = site.tier_certificate.as_ref();
        let until = declared.map_or_else(|| "no certificate declared".to_owned(), TierCertificateFacts::text);
        let line = format!(
            "{} · {} · {} · tier {} ({until}) · {} · {} records damaged",
            site.name, site.country, site.domain, site.tier, site.standing, site.damaged
        );
        paper.text(Font::Plain, 10, &line);
    }
}

/// What a record of the second version says beside that.
fn figures(record: &DrillRecordV2) -> String {
    let mut parts = Vec::new();
    if let Some(off) = record.prediction_error_percent() {
        parts.push(format!("foreseen to {off} %"));
    }
    if let Some(trend) = &record.trend {
        let slower = if trend.regression { "much slower than" } else { "compared with" };
        parts.push(format!("{slower} {} before it", trend.earlier));
    }
    if let Some(coverage) = &record.coverage {
        parts.push(format!("{} of {} objects covered", coverage.restored, coverage.objects));
    }
    let possible: u64 = record.negative.iter().map(|check| check.possible).fold(0, u64::saturating_add);
    if !record.negative.is_empty() {
        parts.push(format!("{possible} things were possible that must not be"));
    }
    let due = record.next_due.as_ref().map_or("not stated", |due| due.utc());
    parts.push(format!("next due: {due}"));
    format!("    {}", parts.join(" · "))
}

fn drills(paper: &mut Document, report: &Report<'_>) {
    paper.heading("Drills of the period");
    for drill in report.material.drills().rev() {
        let record = &drill.record;
        let millis = record.measured.rta_ns / 1_000_000;
        let line = format!(
            "{} · {} · {} of {} sites lost · {} files · {} differences · {}.{:03} s of {} s: {}",
            record.declared.utc(),
            record.scenario,
            record.sites_lost.len(),
            record.sites,
            record.files,
            record.differences.count,
            millis / 1000,
            millis % 1000,
            record.objectives.rto_seconds,
            record.verdicts.rto
        );
        paper.text(Font::Plain, 10, &line);
        if let Some(record) = &drill.second {
            paper.text(Font::Plain, 10, &figures(record));
        }
    }
    if report.material.drills().next().is_none() {
        paper.text(Font::Plain, 10, "There is no record of a drill in the period.");
    }
}
