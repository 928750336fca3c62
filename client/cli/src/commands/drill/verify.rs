//! `coffer drill verify`: a record against a pinned key, without a server.

use std::path::Path;

use coffer_client::audit::{Trusted, verify_export};
use coffer_client::drill::{
    AnyRecord, DrillRecord, DrillRecordV2, Phase, PutBefore, RECORD_BYTES_MAX, REGRESSION_MILLI, SampleFiles,
    Verdict, cosigner_text, parse_list, verify_any_record, verify_noted, verify_sample,
};
use coffer_client::keys::VerifierName;
use serde_json::{Value, json};

use crate::commands::audit::kit_key;
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::{PinnedKey, RecordOf};
use crate::output::{bytes_text, seconds_json, seconds_text};

const RECORD_LIMIT: u64 = RECORD_BYTES_MAX as u64;
/// No list of a population comes near. In bytes.
const FILE_LIMIT: u64 = 512 << 20;

pub(super) fn run(
    context: &Context<'_>,
    record: &Path,
    beside: Option<&Path>,
    pinned: &PinnedKey,
    whose: &RecordOf,
) -> Result<Exit, Failure> {
    let signer = pinned_key(pinned)?;
    let record = match verify_any(record, &signer)? {
        AnyRecord::V2(record) => return run_v2(context, &record, beside, &signer, whose),
        AnyRecord::V1(record) => record,
    };
    of_tenant(&record.tenant, whose)?;
    if beside.is_some() || whose.cosigner.is_some() {
        return Err(Failure::usage("a record of the first version has neither other files nor a cosigner"));
    }
    let mut value = summary(&record);
    value["verified"] = json!(true);
    value["signer"] = json!(signer.name);
    context.output.object(&value);
    context.output.text(format_args!("the record verifies: signed by {}, every byte canonical", signer.name));
    tell(context, &record);
    Ok(exit_of(&record))
}

/// The key that the caller knows from elsewhere.
pub(crate) fn pinned_key(pinned: &PinnedKey) -> Result<VerifierName, Failure> {
    match (&pinned.kit, &pinned.key) {
        (Some(kit), _) => kit_key(kit),
        (None, Some(key)) => key.parse::<VerifierName>().map_err(Failure::usage),
        (None, None) => Err(Failure::usage("name a kit or a key")),
    }
}

fn run_v2(
    context: &Context<'_>,
    record: &DrillRecordV2,
    beside: Option<&Path>,
    signer: &VerifierName,
    whose: &RecordOf,
) -> Result<Exit, Failure> {
    let mut verified = vec!["signature", "consistency"];
    let mut others = None;
    if of_tenant(&record.tenant, whose)? {
        verified.push("tenant");
    }
    let own = own_cosigner(context, &record.tenant);
    let drawn_by_own = own.is_some() && own == record.scope.cosigner;
    if drawn_by(record, whose)? || drawn_by_own {
        verified.push("cosigner");
    }
    if let Some(directory) = beside {
        let found = files_beside(record, directory, signer)?;
        verified.extend(["plan", "population", "sample", "log proof"]);
        if let Some(export) = &whose.log {
            others = Some(beside_log(record, &found, export, signer)?);
            verified.push("population in the log");
        }
    }
    let mut value = summary_v2(record);
    value["verified"] = json!(verified);
    value["signer"] = json!(signer.name);
    value["put_and_not_in_population"] = json!(others);
    context.output.object(&value);
    if let Some(others) = others {
        context.output.text(format_args!(
            "{others} versions were put before the plan and are not in its population: of other buckets, replaced, deleted, covered before, or left out"
        ));
    }
    context.output.text(format_args!(
        "the record verifies ({}): signed by {}, every byte canonical",
        verified.join(", "),
        signer.name
    ));
    if whose.of_tenant.is_none() {
        context.output.text("whose it is, is only what the record says: name the tenant with --of-tenant");
    }
    if record.drawn.is_some() && whose.cosigner.is_none() && !drawn_by_own {
        let other = if own.is_some() { "; it is not this profile's key" } else { "" };
        context.output.text(format_args!(
            "who drew the sample, is only what the record says: pin the key with --cosigner{other}"
        ));
    }
    tell_v2(context, record);
    Ok(exit_of_v2(record))
}

/// The files beside a record, verified against it, and its log proof.
fn files_beside(
    record: &DrillRecordV2,
    directory: &Path,
    signer: &VerifierName,
) -> Result<SampleFiles, Failure> {
    let bad = |error: &dyn std::fmt::Display| {
        Failure::new(format!("the files beside the record do not verify: {error}"))
            .safe("nothing was changed")
            .next("do not rely on this drill's sample; ask for the files that its record binds")
            .exit(Exit::Differences)
    };
    let read = |name: &str| {
        files::read_foreign(&directory.join(name), FILE_LIMIT).map_err(|failure| bad(&failure.what))
    };
    let text = |name: &str| read(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // Only a drill of a sample has these.
    let drawn = |name: &str| match directory.join(name).exists() {
        true => text(name),
        false => Ok(String::new()),
    };
    let found = SampleFiles {
        plan: read("plan.json")?,
        population: text("population.txt")?,
        seed: drawn("seed.txt")?,
        sample: drawn("sample.txt")?,
    };
    verify_sample(record, &found).map_err(|error| bad(&error))?;
    let origin = format!("{}/log/{}", signer.name, record.tenant);
    verify_noted(&text("record.tlog-proof")?, record, signer, &origin).map_err(|error| bad(&error))?;
    Ok(found)
}

/// Holds the population against an export of the log: how many versions that
/// were put before the plan are not in it.
fn beside_log(
    record: &DrillRecordV2,
    files: &SampleFiles,
    export: &Path,
    signer: &VerifierName,
) -> Result<u64, Failure> {
    let mut put = PutBefore::plan(record.plan.log_index);
    let trusted = Trusted { key: signer, pinned: None, witnesses: None };
    let report = verify_export(export, trusted, &mut |index, leaf| put.enter(index, leaf))?;
    let log = format!("{}/log/{}", signer.name, record.tenant);
    let reaches = |checkpoint: &coffer_client::keys::Checkpoint| {
        checkpoint.origin == log && checkpoint.size > record.plan.log_index
    };
    if !report.is_good() || !report.checkpoint.as_ref().is_some_and(reaches) {
        return Err(other(format!("{} is no good export of {log} as far as the plan", export.display())));
    }
    let population = parse_list(&files.population, true)?;
    let found = put.hold(&population);
    match found.unlogged.as_slice() {
        [] => Ok(found.others),
        [first, rest @ ..] => Err(other(format!(
            "no leaf in front of the plan says that version {first} of its population was put; of {} more neither",
            rest.len()
        ))),
    }
}

/// Whether the record is of the tenant that was named; not, if none was.
fn of_tenant(tenant: &str, whose: &RecordOf) -> Result<bool, Failure> {
    match &whose.of_tenant {
        Some(wanted) if wanted.to_string() != tenant => {
            Err(other(format!("the record is signed, and of the tenant {tenant}, not of {wanted}")))
        }
        wanted => Ok(wanted.is_some()),
    }
}

/// The cosigner's key that the profile has for this tenant. Whoever verifies
/// needs no profile, and one that cannot be read knows nothing.
fn own_cosigner(context: &Context<'_>, tenant: &str) -> Option<String> {
    let names = context.profile.tenants().unwrap_or_default();
    let mut known = names.iter().filter_map(|name| context.profile.tenant(Some(name)).ok());
    let of_tenant = known.find(|known| known.identity().tenant == tenant)?;
    of_tenant.known_cosigner().ok().flatten().map(|key| cosigner_text(&key))
}

/// Whether the sample was drawn with the key that was named.
fn drawn_by(record: &DrillRecordV2, whose: &RecordOf) -> Result<bool, Failure> {
    match (&whose.cosigner, &record.scope.cosigner) {
        (None, _) => Ok(false),
        (Some(wanted), Some(key)) if wanted == key => Ok(true),
        (Some(_), Some(key)) => {
            Err(other(format!("the record is signed, and its sample was drawn with the key {key}")))
        }
        (Some(_), None) => Err(Failure::usage("the drill drew no sample: nobody's key was asked for")),
    }
}

fn other(what: String) -> Failure {
    Failure::new(what)
        .safe("nothing was changed")
        .next("do not rely on this record for what you asked")
        .exit(Exit::Differences)
}

/// Tells a record of the second version.
pub(super) fn tell_v2(context: &Context<'_>, record: &DrillRecordV2) {
    let line = |name: &str, value: String| context.output.text(format_args!("  {name:<12} {value}"));
    let results = &record.results;
    line("drill", record.drill.clone());
    line("tenant", record.tenant.clone());
    line("scenario", record.scenario.kind.to_string());
    line("declared", record.timeline.declared.utc().to_owned());
    let lost = &record.scenario.sites_lost;
    let names = if lost.is_empty() { "none".to_owned() } else { lost.join(", ") };
    line("sites lost", format!("{} of {}: {names}", lost.len(), results.sites));
    line(
        "restored",
        format!("{} of {}, {}", results.restored, results.expected, bytes_text(results.restored_bytes)),
    );
    let foreseen = record.prediction_error_percent().map(|off| format!(", {off} % off")).unwrap_or_default();
    let spread = record.predicted.spread_percent;
    let spread = spread.map(|spread| format!(", said to be within {spread} %")).unwrap_or_default();
    line("foreseen", format!("{}{spread}{foreseen}", seconds_text(record.predicted.total_ns)));
    for phase in &record.timeline.phases {
        line("", format!("{:<12} {}", phase.name, seconds_text(phase.duration_ns)));
    }
    for (name, judged) in &record.verdicts {
        context.output.text(format_args!("  {name:<24} {}: {}", judged.verdict, judged.reason));
    }
    if let Some(coverage) = &record.coverage {
        let by = coverage.whole_by.as_ref().map(|by| format!(", all by {}", by.utc())).unwrap_or_default();
        line("coverage", format!("{} of {} objects{by}", coverage.restored, coverage.objects));
    }
    if let Some(trend) = record.trend.as_ref().filter(|trend| trend.regression) {
        let (usual, percent) = (seconds_text(trend.middle_ns), REGRESSION_MILLI / 10);
        let before = format!("the middle of {} drills before it was {usual}", trend.earlier);
        context.output.text(format_args!("  REGRESSION: more than {percent} % of what it took; {before}"));
    }
    record.deviations.iter().for_each(|what| line("deviation", what.clone()));
    context.output.text("it does not prove:");
    record.not_proven.iter().for_each(|what| context.output.text(format_args!("  - {what}")));
}

/// The exit code of a record: a loss that was foreseen is no failure of the drill.
pub(super) fn exit_of_v2(record: &DrillRecordV2) -> Exit {
    if record.is_as_foreseen() { Exit::Success } else { Exit::Differences }
}

/// The machine-readable summary of a record of the second version.
pub(super) fn summary_v2(record: &DrillRecordV2) -> Value {
    let phases = phases(&record.timeline.phases);
    json!({
        "drill": record.drill,
        "scenario": record.scenario.kind,
        "files": record.results.restored,
        "expected": record.results.expected,
        "unreadable": record.results.unreadable,
        "bytes": record.results.restored_bytes,
        "sites": record.results.sites,
        "sites_lost": record.scenario.sites_lost.len(),
        "sites_lost_names": record.scenario.sites_lost,
        "sites_answered": record.results.sites_answered,
        "differences": record.results.differences.count,
        "rto_seconds": record.promise.rto_seconds,
        "rta_seconds": seconds_json(record.measured.rta_ns),
        "rpo_seconds": record.promise.rpo_seconds,
        "rpa_seconds": record.measured.is_loss_known().then(|| seconds_json(record.measured.rpa_ns)),
        "shares": record.keys.shares,
        "predicted_seconds": seconds_json(record.predicted.total_ns),
        "predicted_part_seconds": seconds_json(record.predicted_part_ns()),
        "prediction_error_percent": record.prediction_error_percent(),
        "prediction_spread_percent": record.predicted.spread_percent,
        "satisfied": record.is_satisfied(),
        "as_foreseen": record.is_as_foreseen(),
        "verdicts": record.verdicts,
        "phases": phases,
        "coverage": record.coverage,
        "trend": record.trend,
        "next_due": record.next_due,
    })
}

fn verify_any(record: &Path, signer: &VerifierName) -> Result<AnyRecord, Failure> {
    let bytes = files::read_small(record, RECORD_LIMIT)?;
    verify_any_record(&bytes, signer)
        .advise(
            "nothing was changed",
            "do not rely on this record; ask its maker for the one that was signed",
        )
        .map_err(|failure| Failure {
            what: format!("the record does not verify: {}", failure.what),
            ..failure
        })
        .map_err(|failure| failure.exit(Exit::Differences))
}

/// The record of the first version, if the key in the kit signed it.
pub(crate) fn verify_against_kit(record: &Path, kit: &Path) -> Result<DrillRecord, Failure> {
    match verify_any(record, &kit_key(kit)?)? {
        AnyRecord::V1(record) => Ok(*record),
        AnyRecord::V2(_) => Err(Failure::new("the record is of another version than this command writes")),
    }
}

/// A verified record of a restoration that was not whole is still one: the
/// exit code says that there were differences.
fn exit_of(record: &DrillRecord) -> Exit {
    if record.verdicts.integrity == Verdict::Satisfied { Exit::Success } else { Exit::Differences }
}

fn tell(context: &Context<'_>, record: &DrillRecord) {
    let line = |name: &str, value: String| context.output.text(format_args!("  {name:<12} {value}"));
    line("drill", record.drill.clone());
    line("tenant", record.tenant.clone());
    line("scenario", record.scenario.clone());
    line("declared", record.declared.utc().to_owned());
    let names = if record.sites_lost.is_empty() { "none".to_owned() } else { record.sites_lost.join(", ") };
    line("sites lost", format!("{} of {}: {names}", record.sites_lost.len(), record.sites));
    line("restored", format!("{} files, {}", record.files, bytes_text(record.bytes)));
    line("differences", format!("{} ({})", record.differences.count, record.verdicts.integrity));
    let objective =
        |seconds: u64, ns: u64, verdict| format!("{seconds} s, measured {} ({verdict})", seconds_text(ns));
    line("RTO", objective(record.objectives.rto_seconds, record.measured.rta_ns, record.verdicts.rto));
    line("RPO", objective(record.objectives.rpo_seconds, record.measured.rpa_ns, record.verdicts.rpo));
    context.output.text("it does not prove:");
    record.not_proven.iter().for_each(|what| context.output.text(format_args!("  - {what}")));
}

fn phases(of: &[Phase]) -> Vec<Value> {
    let one = |phase: &Phase| {
        json!({
            "name": phase.name,
            "start_seconds": seconds_json(phase.start_ns),
            "seconds": seconds_json(phase.duration_ns),
            "bytes": phase.bytes,
        })
    };
    of.iter().map(one).collect()
}

/// The machine-readable summary of a record.
pub(crate) fn summary(record: &DrillRecord) -> Value {
    let phases = phases(&record.phases);
    json!({
        "drill": record.drill,
        "files": record.files,
        "bytes": record.bytes,
        "sites": record.sites,
        "sites_lost": record.sites_lost.len(),
        "sites_lost_names": record.sites_lost,
        "differences": record.differences.count,
        "rto_seconds": record.objectives.rto_seconds,
        "rta_seconds": seconds_json(record.measured.rta_ns),
        "rpo_seconds": record.objectives.rpo_seconds,
        "rpa_seconds": seconds_json(record.measured.rpa_ns),
        "verdicts": record.verdicts,
        "phases": phases,
    })
}
