//! `coffer drill verify`: a record against a pinned key, without a server.

use std::path::Path;

use coffer_client::PublicKit;
use coffer_client::drill::{DrillRecord, RECORD_BYTES_MAX, Verdict, verify_record};
use coffer_client::keys::VerifierName;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::PinnedKey;
use crate::output::{bytes_text, seconds_json, seconds_text};

const RECORD_LIMIT: u64 = RECORD_BYTES_MAX as u64;
/// No kit comes near. In bytes.
const KIT_LIMIT: u64 = 16 << 20;

pub(super) fn run(context: &Context<'_>, record: &Path, pinned: &PinnedKey) -> Result<Exit, Failure> {
    let signer = pinned_key(pinned)?;
    let record = verify(record, &signer)?;
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

fn kit_key(kit: &Path) -> Result<VerifierName, Failure> {
    let text = files::read_small(kit, KIT_LIMIT)?;
    let text = String::from_utf8(text).map_err(|_| Failure::new(format!("{}: not a kit", kit.display())))?;
    Ok(PublicKit::from_json(&text)?.evidence)
}

fn verify(record: &Path, signer: &VerifierName) -> Result<DrillRecord, Failure> {
    let bytes = files::read_small(record, RECORD_LIMIT)?;
    verify_record(&bytes, signer)
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

/// The record, if the key in the kit signed it.
pub(crate) fn verify_against_kit(record: &Path, kit: &Path) -> Result<DrillRecord, Failure> {
    verify(record, &kit_key(kit)?)
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

/// The machine-readable summary of a record.
pub(crate) fn summary(record: &DrillRecord) -> Value {
    let phases: Vec<Value> = record
        .phases
        .iter()
        .map(|phase| {
            json!({
                "name": phase.name,
                "start_seconds": seconds_json(phase.start_ns),
                "seconds": seconds_json(phase.duration_ns),
                "bytes": phase.bytes,
            })
        })
        .collect();
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
