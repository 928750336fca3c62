//! What `coffer-site check` and `info` print: lines for people, or one object
//! on one line; errors too.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::{CheckpointSeen, Inspection, Loss, OpenSiteError, inspect};

const EXIT_FAILURE: u8 = 1;
const EXIT_DAMAGE: u8 = 4;

/// Looks at a directory and prints what was found.
///
/// # Errors
/// Why it could not be printed.
pub(crate) fn look(dir: &Path, read_bodies: bool, as_json: bool) -> Result<ExitCode, String> {
    let found = match inspect(dir, read_bodies) {
        Ok(found) => found,
        Err(error) => {
            if as_json {
                print(&format!("{}\n", error_json(&error)))?;
            }
            eprintln!("coffer-site: {error}");
            return Ok(ExitCode::from(EXIT_FAILURE));
        }
    };
    let text = if as_json { format!("{}\n", to_json(&found)) } else { describe(&found, read_bodies) };
    print(&text)?;
    Ok(if found.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DAMAGE) })
}

fn print(text: &str) -> Result<(), String> {
    let mut stdout = std::io::stdout();
    let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| format!("standard output: {error}"))
}

/// An error as `coffer --json` tells one.
fn error_json(error: &OpenSiteError) -> Value {
    json!({ "error": {
        "what": error.to_string(),
        "safe": "nothing was changed: this only reads",
        "next": advice(error),
    } })
}

/// What somebody can do who only wants to look.
fn advice(error: &OpenSiteError) -> &'static str {
    match error {
        OpenSiteError::NotASite { .. } => "name the directory that has the file SITE in it",
        OpenSiteError::Locked { .. } => {
            "stop the process that serves the site; while it runs, the service's own scrub reads it"
        }
        OpenSiteError::Format { .. } => "use a newer coffer-site",
        OpenSiteError::SiteFile { .. } => "write SITE anew: the topology says which site this is",
        OpenSiteError::VolumeOfOtherSite { .. } | OpenSiteError::VolumeExchanged { .. } => {
            "move the volume files back to where they came from, then look again"
        }
        _ => "see whether the disk is mounted and can be read, then look again",
    }
}

fn to_json(found: &Inspection) -> Value {
    let damaged = found.findings.iter().map(|finding| {
        let record = finding.record.map(|id| id.to_string());
        json!({ "kind": "damaged", "record": record, "place": finding.place })
    });
    json!({
        "site": found.site.to_string(),
        "locked": found.locked,
        "volumes": found.volumes,
        "records": found.records,
        "volume_bytes": found.volume_bytes,
        "dead_bytes": found.dead_bytes,
        "slots": found.slots,
        "quarantined_files": found.quarantined,
        "torn_bytes": found.torn.map_or(0, |torn| torn.bytes),
        // Nothing on a disk proves that a write was not acknowledged.
        "torn_acknowledged": found.torn.filter(|torn| torn.acknowledged).map(|_| true),
        "checkpoint": match found.checkpoint {
            CheckpointSeen::Compared => "compared",
            CheckpointSeen::Absent => "absent",
            CheckpointSeen::Unreadable => "unreadable",
        },
        "findings": damaged.chain(found.losses.iter().map(loss_json)).collect::<Vec<_>>(),
    })
}

fn loss_json(loss: &Loss) -> Value {
    match loss {
        Loss::Directory { name } => json!({ "kind": "missing-directory", "record": null, "place": name }),
        Loss::Volume { file, bytes, records } => json!({
            "kind": "missing-volume", "record": null, "place": file, "bytes": bytes, "records": records,
        }),
        Loss::Exchanged { file, records } => json!({
            "kind": "exchanged-volume", "record": null, "place": file, "records": records,
        }),
        Loss::Cut { file, bytes, records } => json!({
            "kind": "cut-volume", "record": null, "place": file, "bytes": bytes, "records": records,
        }),
        Loss::Record { record, place } => json!({
            "kind": "missing-record", "record": record.to_string(), "place": place,
        }),
    }
}

fn describe(found: &Inspection, read_bodies: bool) -> String {
    let mut lines = vec![
        format!("site         {}", found.site),
        format!("records      {}", found.records),
        format!(
            "volumes      {}, {} bytes, of them {} dead",
            found.volumes, found.volume_bytes, found.dead_bytes
        ),
        format!("key slots    {}", found.slots),
        format!("quarantine   {} files", found.quarantined),
    ];
    if !found.locked {
        lines.push(
            "lock         none: there is no LOCK, so nothing kept the site from being opened".to_owned(),
        );
    }
    lines.extend(checkpoint_line(found));
    if let Some(torn) = found.torn {
        let known = if torn.acknowledged {
            "of a write that CHECKPOINT proves was whole: the file was cut short"
        } else {
            "a write without its end; if a crash left it, nobody was told that it was done"
        };
        lines.push(format!("torn tail    {} bytes, {known}; the next start cuts them", torn.bytes));
    }
    for finding in &found.findings {
        let record = finding.record.map_or_else(|| "what lies there".to_owned(), |id| id.to_string());
        lines.push(format!("damaged      {record} at {}", finding.place));
    }
    lines.extend(found.losses.iter().map(|loss| format!("lost         {}", loss_text(loss))));
    if found.losses.iter().any(|loss| !matches!(loss, Loss::Directory { .. })) {
        let advice = "bring the files back before the site starts: it takes what is there for all that \
                      there was, and writes CHECKPOINT anew; else have the service repair it from others";
        lines.push(format!("next         {advice}"));
    }
    let (count, scope) = (found.findings.len() + found.losses.len(), scope(read_bodies));
    lines.push(format!("damage       {count} findings; {scope}\n"));
    lines.join("\n")
}

fn scope(read_bodies: bool) -> &'static str {
    if read_bodies { "every record was read" } else { "bodies were not read; see `check`" }
}

fn checkpoint_line(found: &Inspection) -> Option<String> {
    let unseen = "a volume that is lost at the end, or cut short, would not be noticed";
    match found.checkpoint {
        CheckpointSeen::Compared => None,
        CheckpointSeen::Absent => Some(format!("checkpoint   none; {unseen}")),
        CheckpointSeen::Unreadable => Some(format!("checkpoint   cannot be read; {unseen}")),
    }
}

fn loss_text(loss: &Loss) -> String {
    match loss {
        Loss::Directory { name } => format!(
            "the directory {name}/ is not there, and every site has one; if a copy left it out because it \
             was empty, make it"
        ),
        Loss::Volume { file, bytes, records } => {
            format!("{file} is not there: CHECKPOINT has it with {bytes} bytes{}", nowhere(*records))
        }
        Loss::Exchanged { file, records } => {
            format!("{file} is not the one that CHECKPOINT has, but another{}", nowhere(*records))
        }
        Loss::Cut { file, bytes, records } => {
            format!("{file} is {bytes} bytes shorter than CHECKPOINT has it{}", nowhere(*records))
        }
        Loss::Record { record, place } => format!("{record}: CHECKPOINT has it at {place}"),
    }
}

fn nowhere(records: u64) -> String {
    format!("; {records} records that were in it are held nowhere now")
}
