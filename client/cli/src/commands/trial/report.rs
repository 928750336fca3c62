//! What a trial shows at its end.

use coffer_client::drill::DrillRecord;
use serde_json::{Value, json};

use super::Recovered;
use super::before::BackedUp;
use super::loss;
use super::places::Places;
use crate::commands::drill::summary;
use crate::context::Context;
use crate::flags::TryFlags;
use crate::output::{bytes_text, rate_text, seconds_json, seconds_text};

/// One phase of the recovery, as it ends.
pub(super) fn phase_remark(context: &Context<'_>, event: &Value) {
    if !context.output.shows_progress() {
        return;
    }
    let name = event.get("phase").and_then(Value::as_str).unwrap_or_default();
    let seconds = event.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    context.output.remark(format_args!("  {name:<18} {seconds:>9.3} s"));
}

pub(super) fn tell(
    context: &Context<'_>,
    flags: &TryFlags,
    places: &Places,
    backed_up: &BackedUp,
    record: &DrillRecord,
    recovered: &Recovered,
) {
    let path = places.record();
    let mut value = summary(record);
    value["record"] = json!(path.display().to_string());
    value["kit"] = json!(places.kit().display().to_string());
    value["manifest"] = json!(places.manifest().display().to_string());
    value["backup"] = json!({
        "files": backed_up.files,
        "bytes": backed_up.bytes,
        "stored_bytes": backed_up.stored_bytes,
        "seconds": seconds_json(backed_up.nanos),
        "partial": backed_up.partial,
    });
    value["problems"] = recovered.problems.clone();
    value["record_verified"] = json!(true);
    if flags.fleet {
        value["pods_killed"] = json!(record.sites_lost);
    }
    if flags.keep {
        value["restored"] = json!(places.restored().display().to_string());
    }
    context.output.object(&value);
    if !context.output.is_json() {
        table(context, backed_up, record);
        objectives(context, record);
        let (record_path, kit) = (path.display(), places.kit());
        context.output.text(format_args!("record        {record_path} (verified)"));
        context
            .output
            .text(format_args!("verify        coffer drill verify {record_path} --kit {}", kit.display()));
    }
}

fn row(context: &Context<'_>, name: &str, nanos: u64, bytes: u64) {
    let bytes_shown = if bytes > 0 { bytes_text(bytes) } else { String::new() };
    let line =
        format!("{name:<18} {:>12} {bytes_shown:>14} {:>16}", seconds_text(nanos), rate_text(bytes, nanos));
    context.output.text(line.trim_end());
}

fn table(context: &Context<'_>, backed_up: &BackedUp, record: &DrillRecord) {
    context.output.text(format_args!("{:<18} {:>12} {:>14} {:>16}", "phase", "time", "bytes", "rate"));
    row(context, "backup", backed_up.nanos, backed_up.bytes);
    let lost = loss::names(&record.sites_lost);
    context
        .output
        .text(format_args!("-- loss declared {} ({lost}; catalogues; keys)", record.declared.utc()));
    for phase in &record.phases {
        row(context, &phase.name, phase.duration_ns, phase.bytes);
    }
    row(context, "total", record.measured.rta_ns, record.bytes);
    context.output.text("");
}

fn objectives(context: &Context<'_>, record: &DrillRecord) {
    let line = |name: &str, promised: u64, measured: u64, verdict: String| {
        let measured = seconds_text(measured);
        context.output.text(format_args!("{name} objective {promised} s, measured {measured}: {verdict}"));
    };
    line(
        "RTO recovery time ",
        record.objectives.rto_seconds,
        record.measured.rta_ns,
        record.verdicts.rto.to_string(),
    );
    line(
        "RPO recovery point",
        record.objectives.rpo_seconds,
        record.measured.rpa_ns,
        record.verdicts.rpo.to_string(),
    );
    context.output.text(format_args!(
        "differences   {} in {} files, {} ({})",
        record.differences.count,
        record.files,
        bytes_text(record.bytes),
        record.verdicts.integrity,
    ));
    for (class, count) in &record.differences.by_class {
        context.output.text(format_args!("  {class}: {count}"));
    }
}
