//! `coffer drill run`: a full restoration over the public read path of a
//! running service, into a directory of its own.

use std::path::Path;

use coffer_client::drill::{DrillRecord, Shares, Verdict};
use coffer_client::profile::write_atomically;
use coffer_model::BucketName;
use serde_json::json;

use super::proof::{self, Circumstances, Places};
use super::verify::summary;
use crate::commands::backup::{find_snapshot, tell_problems};
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::{Seconds, SnapshotName};
use crate::output::seconds_text;
use crate::progress::Bars;
use crate::timeline::Timeline;

pub(super) async fn run(
    context: &Context<'_>,
    bucket: &BucketName,
    rto: Seconds,
    rpo: Seconds,
    out: &Path,
    keep: bool,
) -> Result<Exit, Failure> {
    let (client, tenant) = context.tenant().await?;
    let repository = context.repository(&client, &tenant, bucket).await?;
    files::make_empty_directory(out)?;
    let mut timeline = Timeline::new(context.clock.clone(), context.clock.now(), None);
    let id = find_snapshot(&repository, SnapshotName::Latest).await?;
    let snapshot = repository.snapshot(&id).await?;
    let note = tenant.source_note(bucket, &id.to_string())?.ok_or_else(|| {
        Failure::new("this profile has no source-time manifest of the latest snapshot")
            .safe("nothing was restored")
            .next("run the drill with the profile that made the backup, or back up again")
    })?;
    let mut watch = tenant.log_watch()?;
    let before = watch.remembered().map(str::to_owned);
    let places = Places {
        target: out.join("restored"),
        source_manifest: tenant.manifest_path(bucket, &id.to_string())?,
        restored_manifest: out.join("restored.manifest"),
    };
    let source = proof::read_source(&places.source_manifest)?;
    proof::prove_noted(&client, &mut watch, note.log_index, &source.digest).await?;
    timeline.end_phase("log", 0);
    let bars = Bars::new(context.output);
    let restored = proof::restore_and_compare(&repository, &id, &places, &mut timeline, bars.clone()).await?;
    bars.finish();
    watch.advance(&client).await?;
    tenant.remember(&watch)?;
    let sites = client.list_sites().await?;
    let lost: Vec<String> = sites.iter().filter(|site| !site.alive).map(|site| site.name.clone()).collect();
    let circumstances = Circumstances {
        tenant: tenant.identity().tenant.clone(),
        scenario: format!(
            "rehearsal over the running service; {} of {} sites were down",
            lost.len(),
            sites.len()
        ),
        sites: u64::try_from(sites.len()).unwrap_or(u64::MAX),
        sites_lost: lost,
        rto,
        rpo,
        newest_write: snapshot.time,
        source_manifest: source.digest,
        source_note_index: note.log_index,
        checkpoint_before: before,
        checkpoint_after: watch.remembered().unwrap_or_default().to_owned(),
        shares: Shares::default(),
    };
    let differences = proof::keep_differences(context, &restored.differences, &out.join("differences.txt"))?;
    let record = proof::record(context, circumstances, &restored, &timeline, differences);
    let signed =
        client.sign_drill(&record).await.advise("the restored tree is there", "run the drill again")?;
    let path = out.join("record.json");
    write_atomically(&path, &signed.envelope)?;
    // What the service returned is checked like anybody else's record.
    coffer_client::drill::verify_record(&signed.envelope, &tenant.log_key()?)?;
    if !keep {
        files::remove_tree(&places.target)?;
    }
    tell(context, &record, &path, &tenant.identity().log_key);
    tell_problems(context, &restored.problems);
    Ok(if record.verdicts.integrity == Verdict::Satisfied { Exit::Success } else { Exit::Differences })
}

fn tell(context: &Context<'_>, record: &DrillRecord, path: &Path, key: &str) {
    let mut value = summary(record);
    value["record"] = json!(path.display().to_string());
    context.output.object(&value);
    context.output.text(format_args!(
        "restored {} files with {} differences in {} (objective {} s: {})",
        record.files,
        record.differences.count,
        seconds_text(record.measured.rta_ns),
        record.objectives.rto_seconds,
        record.verdicts.rto,
    ));
    context.output.text(format_args!("record   {}", path.display()));
    context.output.text(format_args!("verify   coffer drill verify {} --key '{key}'", path.display()));
}
