//! `audit verify` and proofs from an export: no service is asked.

use std::path::Path;

use coffer_client::audit::{
    ExportReport, PROOF_BYTES_MAX, ProofFileError, TlogProof, Trusted, prove_from_export, verify_export,
};
use coffer_client::backup::Progress as _;
use coffer_client::keys::{Checkpoint, TileError, Unwitnessed, VerifierName, WitnessPolicy, open_checkpoint};
use serde_json::json;

use super::source::pinned;
use super::write_proof;
use crate::commands::witness::cosigned_text;
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::KeyFlags;
use crate::progress::Bars;

/// A note, with many cosignatures. In bytes.
const NOTE_LIMIT: u64 = 64 << 10;

/// The key to verify with, and the checkpoint that is known: what was named,
/// else what the tenant's profile remembers.
fn trusted(
    context: &Context<'_>,
    flags: &KeyFlags,
    checkpoint: Option<&Path>,
) -> Result<(VerifierName, Option<Checkpoint>), Failure> {
    let (key, remembered) = match pinned(flags)? {
        Some(key) => (key, None),
        None => {
            let tenant = context.profile.tenant(context.tenant.as_deref());
            let tenant = tenant.advise(
                "nothing was verified",
                "name the key with --kit or --key, or the profile with --config-dir and --tenant",
            )?;
            let watch = tenant.log_watch()?;
            (watch.key(), watch.last().cloned())
        }
    };
    let Some(path) = checkpoint else { return Ok((key, remembered)) };
    let text = String::from_utf8(files::read_small(path, NOTE_LIMIT)?).unwrap_or_default();
    let known = open_checkpoint(&text, &key.name, &key.key)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())).exit(Exit::Differences))?;
    Ok((key, Some(known)))
}

pub(super) fn verify(
    context: &Context<'_>,
    path: &Path,
    checkpoint: Option<&Path>,
    flags: &KeyFlags,
    witnesses: Option<&WitnessPolicy>,
) -> Result<Exit, Failure> {
    let (key, known) = trusted(context, flags, checkpoint)?;
    if !path.is_dir() {
        return verify_proof(context, path, &key, witnesses);
    }
    if !path.join("checkpoint").exists() {
        let what = format!("{} has no checkpoint, which is written last", path.display());
        return Err(Failure::new(what)
            .exit(Exit::Differences)
            .safe("nothing was changed")
            .next("it is no export of a log, or one that was broken off or changed: export it again"));
    }
    // An older export is no fault of its own: what the profile remembers of
    // the log since then is only told.
    let newer = known.as_ref().filter(|_| checkpoint.is_none()).map(|known| known.size);
    let bars = Bars::new(context.output);
    bars.stage("verifying the log", None, None);
    let trusted = Trusted { key: &key, pinned: known.as_ref(), witnesses };
    let mut report = verify_export(path, trusted, &mut |_, leaf| {
        bars.advance(leaf.len() as u64, 1);
    })
    .map_err(files::at(path))?;
    let of_export = report.checkpoint.as_ref().map(|of_export| of_export.origin.as_str());
    if let (Some(known), Some(found)) = (&known, of_export)
        && checkpoint.is_none()
        && known.origin != found
    {
        let what = format!("{} is an export of log {found}, not of {}", path.display(), known.origin);
        return Err(Failure::new(what).exit(Exit::Differences).safe("nothing was changed").next(
            "to verify another log than that of this profile's tenant, name its key with --kit or --key",
        ));
    }
    if let (Some(newer), Some(of_export)) = (newer, report.checkpoint.as_ref().map(|known| known.size))
        && newer > of_export
    {
        let trusted = Trusted { pinned: None, ..trusted };
        report = verify_export(path, trusted, &mut |_, _| ()).map_err(files::at(path))?;
        context.output.remark(format_args!(
            "remark: {newer} leaves are known to be signed; this export ends with the first {of_export} of them"
        ));
    }
    bars.finish();
    Ok(tell(context, path, &report))
}

fn tell(context: &Context<'_>, path: &Path, report: &ExportReport) -> Exit {
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    context.output.object(&json!({
        "verified": report.is_good(),
        "origin": report.checkpoint.as_ref().map(|checkpoint| &checkpoint.origin),
        "size": report.checkpoint.as_ref().map(|checkpoint| checkpoint.size),
        "root": report.checkpoint.as_ref().map(|checkpoint| checkpoint.root.to_string()),
        "leaves": report.leaves,
        "findings": findings,
        "more_findings": report.more,
    }));
    for finding in &findings {
        context.output.text(format_args!("WRONG {finding}"));
    }
    if report.more > 0 {
        context.output.text(format_args!("and {} more", report.more));
    }
    match &report.checkpoint {
        Some(checkpoint) if report.is_good() => {
            context.output.text(format_args!(
                "the export verifies: {} leaves of {}, every byte as it was signed",
                checkpoint.size, checkpoint.origin
            ));
            Exit::Success
        }
        _ => {
            context.output.text(format_args!(
                "{} does not verify; do not rely on it, and keep it: it shows what was changed",
                path.display()
            ));
            Exit::Differences
        }
    }
}

fn verify_proof(
    context: &Context<'_>,
    path: &Path,
    key: &VerifierName,
    witnesses: Option<&WitnessPolicy>,
) -> Result<Exit, Failure> {
    let bytes = files::read_small(path, PROOF_BYTES_MAX as u64)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let verified = TlogProof::parse(&text).and_then(|proof| Ok((proof.verify(key)?, proof)));
    let (checkpoint, proof) = verified
        .advise("nothing was changed", "do not rely on this proof; ask its maker for another")
        .map_err(|failure| failure.exit(Exit::Differences))?;
    let cosigned = cosigned_by(witnesses, key, &proof)
        .advise("nothing was changed", "ask for a proof that these witnesses cosigned")
        .map_err(|failure| failure.exit(Exit::Differences))?;
    let leaf = String::from_utf8_lossy(&proof.leaf);
    context.output.object(&json!({
        "verified": true,
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "index": proof.index,
        "leaf": leaf,
    }));
    context.output.text(format_args!(
        "the proof verifies: leaf {} of the {} of {}{}",
        proof.index,
        checkpoint.size,
        checkpoint.origin,
        cosigned_text(&cosigned)
    ));
    context
        .output
        .text(leaf.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>());
    Ok(Exit::Success)
}

/// The witnesses that cosigned the checkpoint of a proof; none if none are asked for.
fn cosigned_by(
    witnesses: Option<&WitnessPolicy>,
    key: &VerifierName,
    proof: &TlogProof,
) -> Result<Vec<String>, Unwitnessed> {
    witnesses.map_or(Ok(Vec::new()), |policy| policy.check(key, &proof.checkpoint))
}

fn unproven(export: &Path, error: &ProofFileError) -> Failure {
    let shown = export.display();
    let (what, exit) = match error {
        ProofFileError::Export(TileError::OutOfRange { size, .. }) => {
            return Failure::new(format!("the log of {shown} has {size} leaves, counted from 0"))
                .safe("nothing was written")
                .next("name one of these");
        }
        ProofFileError::Disk(error) => {
            (format!("{shown} cannot be read as an export: {error}"), Exit::Failure)
        }
        error => (format!("{shown}: {error}"), Exit::Differences),
    };
    Failure::new(what)
        .exit(exit)
        .safe("nothing was written")
        .next(format!("`coffer audit verify {shown}` says what is wrong with it"))
}

pub(super) fn prove(
    context: &Context<'_>,
    index: u64,
    output: &Path,
    export: &Path,
    flags: &KeyFlags,
    witnesses: Option<&WitnessPolicy>,
) -> Result<Exit, Failure> {
    let (key, _) = trusted(context, flags, None)?;
    let proof = prove_from_export(export, &key, index).map_err(|error| unproven(export, &error))?;
    proof
        .verify(&key)
        .advise("nothing was written", "verify the export with `coffer audit verify`")
        .map_err(|failure| failure.exit(Exit::Differences))?;
    cosigned_by(witnesses, &key, &proof)
        .advise("nothing was written", "take an export that these witnesses cosigned")
        .map_err(|failure| failure.exit(Exit::Differences))?;
    write_proof(context, &proof, output)
}
