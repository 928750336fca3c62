//! `coffer drill plan` and `coffer drill run`, over the public read path of a
//! running service, into a directory of the drill's own.

use std::path::{Path, PathBuf};

use coffer_client::backup::{Repository, SnapshotId};
use coffer_client::drill::{
    Conduct, DrillPlan, Drilled, NegativeCheck, Party, Planned, Promise, ScenarioKind, Setting, Subject,
    TreeSource, Wish, lines_of,
};
use coffer_client::profile::{TenantProfile, write_atomically};
use coffer_client::{BucketStore, Client, LogWatch, ReadTerms};
use coffer_model::{BucketName, ObjectKey, TenantId, Timestamp, unescape_bytes};
use serde_json::{Value, json};

use super::ground::Ground;
use super::proof;
use super::verify::summary_v2;
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::{DrillWish, RunFlags};
use crate::output::{bytes_text, seconds_json, seconds_text};
use crate::progress::Bars;

/// A connection as the tenant, and what its drills work with.
pub(super) struct Desk {
    pub(super) client: Client,
    pub(super) tenant: TenantProfile,
    pub(super) party: Party,
    pub(super) watch: LogWatch,
    cosigner: coffer_client::keys::SigningKey,
}

impl Desk {
    pub(super) async fn open(context: &Context<'_>) -> Result<Self, Failure> {
        let (client, tenant) = context.tenant().await?;
        let identity = tenant.identity();
        let party = Party {
            tenant: identity.tenant.clone(),
            log_origin: identity.log_origin.clone(),
            log_key: tenant.log_key()?,
        };
        let (watch, cosigner) = (tenant.log_watch()?, tenant.cosigner(context.entropy.as_ref())?);
        Ok(Self { client, tenant, party, watch, cosigner })
    }

    pub(super) fn setting(&self, context: &Context<'_>) -> Setting<'_> {
        Setting {
            client: &self.client,
            party: &self.party,
            clock: context.clock.clone(),
            entropy: context.entropy.clone(),
            cosigner: &self.cosigner,
        }
    }
}

/// The tree of a bucket, if it holds a repository whose key the profile has.
struct Tree {
    bucket: BucketName,
    repository: Repository,
    snapshot: SnapshotId,
    manifest: PathBuf,
    note_index: u64,
}

impl Tree {
    /// The newest snapshot of the moment, or the one that a plan names.
    async fn find(
        context: &Context<'_>,
        desk: &Desk,
        bucket: &BucketName,
        as_of: Option<Timestamp>,
        named: Option<&str>,
    ) -> Result<Option<Self>, Failure> {
        if desk.tenant.repository_key(bucket)?.is_none() {
            return Ok(None);
        }
        let terms = ReadTerms { as_of, ..ReadTerms::default() };
        let store = BucketStore::on(desk.client.clone(), bucket.clone(), terms);
        let repository = context.repository_in(&desk.tenant, bucket, store).await?;
        let snapshot = match named {
            Some(id) => id.parse()?,
            None => {
                crate::commands::backup::find_snapshot(&repository, crate::flags::SnapshotName::Latest)
                    .await?
            }
        };
        let id = snapshot.to_string();
        let note = desk.tenant.source_note(bucket, &id)?.ok_or_else(|| {
            Failure::new("this profile has no source-time manifest of the snapshot")
                .safe("nothing was restored")
                .next("drill with the profile that made the backup, or back up again")
        })?;
        let manifest = desk.tenant.manifest_path(bucket, &id)?;
        Ok(Some(Self { bucket: bucket.clone(), repository, snapshot, manifest, note_index: note.log_index }))
    }

    fn source(&self) -> Result<TreeSource<'_>, Failure> {
        let manifest_sha256 = proof::read_source(&self.manifest)?.digest;
        Ok(TreeSource {
            bucket: self.bucket.clone(),
            repository: &self.repository,
            snapshot: self.snapshot,
            manifest: self.manifest.clone(),
            manifest_sha256,
            note_index: self.note_index,
        })
    }
}

/// What the flags ask for.
pub(super) fn wish_of(context: &Context<'_>, flags: &DrillWish) -> Result<Wish, Failure> {
    if flags.as_of.is_some_and(|moment| moment > context.clock.now()) {
        return Err(Failure::usage("the moment of --as-of is still to come: nothing is known of it"));
    }
    let kind = match (&flags.scenario, flags.places.as_slice(), flags.sites.as_slice(), flags.as_of) {
        (Some(kind), ..) => (*kind).into(),
        (None, [_, ..], ..) => ScenarioKind::Jurisdiction,
        (None, [], [_, ..], _) => ScenarioKind::Sites,
        (None, [], [], Some(_)) => ScenarioKind::Ransomware,
        (None, [], [], None) => ScenarioKind::Rehearsal,
    };
    let after = |seconds: u64| context.clock.now().plus(std::time::Duration::from_secs(seconds));
    Ok(Wish {
        bucket: flags.bucket.clone(),
        kind,
        sites: flags.sites.clone(),
        places: flags.places.iter().map(|place| place.as_str().to_owned()).collect(),
        as_of: flags.as_of,
        sample: flags.sample,
        promise: Promise {
            rto_seconds: flags.rto.0,
            rpo_seconds: flags.rpo.0,
            source: flags.objectives_from.clone(),
        },
        trigger: flags.trigger.into(),
        people: flags.people.clone(),
        next_due: flags.every.map(|every| after(every.0)),
        calibrate: true,
    })
}

/// Of what a bucket holds.
#[derive(Clone, Copy)]
pub(super) enum Which {
    /// The tree of its repository, if it is one: of a snapshot, or of the latest.
    Tree(Option<SnapshotId>),
    /// Its objects.
    Objects,
}

impl Which {
    fn of(flags: &DrillWish) -> Self {
        if flags.objects { Self::Objects } else { Self::Tree(flags.snapshot) }
    }
}

async fn make_plan(
    context: &Context<'_>,
    desk: &Desk,
    wish: &Wish,
    subject: Which,
    scratch: &Path,
) -> Result<(Planned, Option<Tree>), Failure> {
    let tree = match subject {
        Which::Tree(snapshot) if wish.sample.is_none() => {
            let named = snapshot.map(|id| id.to_string());
            Tree::find(context, desk, &wish.bucket, wish.as_of, named.as_deref()).await?
        }
        _ => None,
    };
    let source = tree.as_ref().map(Tree::source).transpose()?;
    let mut watch = desk.watch.clone();
    let setting = desk.setting(context);
    let planned = tokio::select! {
        planned = setting.plan(wish, source.as_ref(), scratch, &mut watch) => planned,
        _ = tokio::signal::ctrl_c() => return Err(planning_interrupted(scratch)),
    };
    let planned = planned.advise("nothing was restored", "mend the cause and plan again")?;
    Ok((planned, tree))
}

/// Nothing of what was restored to foresee the drill is left behind.
fn planning_interrupted(scratch: &Path) -> Failure {
    let failure = Failure::new("planning was interrupted").safe("sites were only read; no drill was begun");
    match files::remove_tree(scratch) {
        Ok(()) => failure.next("plan again"),
        Err(_) => failure.next(format!("remove {}, which holds a part of the tree", scratch.display())),
    }
}

pub(super) async fn plan(context: &Context<'_>, flags: &DrillWish) -> Result<Exit, Failure> {
    let desk = Desk::open(context).await?;
    let scratch = Path::new(".").join(format!(".coffer-drill-{}", std::process::id()));
    let (planned, _) =
        make_plan(context, &desk, &wish_of(context, flags)?, Which::of(flags), &scratch).await?;
    context.output.object(&plan_json(&planned.plan));
    tell_plan(context, &planned.plan);
    let id = &planned.plan.drill;
    context.output.text(format_args!("noted    leaf {} of the log", planned.log_index));
    context.output.text(format_args!("run      coffer drill run --plan {id} --out ./drill-{}", &id[..8]));
    Ok(Exit::Success)
}

/// What a plan says, for programs.
pub(super) fn plan_json(plan: &DrillPlan) -> Value {
    json!({
        "drill": plan.drill,
        "scenario": plan.scenario,
        "scope": plan.scope,
        "predicted": plan.prediction,
        "predicted_seconds": seconds_json(plan.prediction.total_ns),
        "previous": plan.previous,
        "next_due": plan.next_due,
    })
}

/// Tells what a plan says.
pub(super) fn tell_plan(context: &Context<'_>, plan: &DrillPlan) {
    let (scope, foreseen) = (&plan.scope, &plan.prediction);
    let text = |line: std::fmt::Arguments<'_>| context.output.text(line);
    text(format_args!("drill    {} ({})", plan.drill, plan.scenario.kind));
    text(format_args!("lost     {}", joined(&plan.scenario.sites_lost)));
    let what = match scope.subject {
        Subject::Tree => "the tree of a snapshot in",
        Subject::Objects if scope.sample < scope.population => "a sample of the objects of",
        Subject::Objects => "all objects of",
    };
    text(format_args!(
        "restores {what} {}: {} of {} objects, {} in all",
        scope.bucket,
        scope.sample,
        scope.objects,
        bytes_text(scope.bytes)
    ));
    text(format_args!(
        "foreseen {} recoverable, {} unrecoverable; {}",
        foreseen.recoverable,
        foreseen.unrecoverable,
        seconds_text(foreseen.total_ns)
    ));
    for phase in &foreseen.phases {
        text(format_args!("  {:<12} {}", phase.name, seconds_text(phase.duration_ns)));
    }
    if scope.sample < scope.population {
        text(format_args!(
            "  of objects of the average size; what is drawn is foreseen again by the same rates"
        ));
    }
    if let Some(spread) = foreseen.spread_percent {
        text(format_args!("  measured, it may be {spread} % off"));
    }
    if let Some(pilot) = &foreseen.pilot {
        text(format_args!(
            "from     a part of it, {} entries of {}, restored beforehand in {}",
            pilot.entries,
            bytes_text(pilot.bytes),
            seconds_text(pilot.took_ns())
        ));
    }
    text(format_args!(
        "from     {} earlier drills, which correct it by {}.{:03}",
        foreseen.history,
        foreseen.correction_milli / 1000,
        foreseen.correction_milli % 1000
    ));
}

fn joined(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// What must not be possible, tried: reading what was deleted, and reaching
/// other tenants with what this one has.
async fn negative(
    desk: &Desk,
    bucket: &BucketName,
    others: &[String],
    deleted: &[String],
) -> Result<Vec<NegativeCheck>, Failure> {
    let mut checks = Vec::new();
    if !deleted.is_empty() {
        let key =
            |text: &String| -> Result<ObjectKey, Failure> { Ok(ObjectKey::new(unescape_bytes(text)?)?) };
        let keys = deleted.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let (possible, count) = desk.client.reach_for_deleted(bucket, &keys).await?;
        checks.push(NegativeCheck {
            tried: "reads of objects that were deleted".to_owned(),
            count,
            possible,
        });
    }
    for other in others {
        let id: TenantId = other.parse()?;
        let key = ObjectKey::new(b"a".to_vec())?;
        let (possible, count) = desk.client.reach_for(id, bucket, &key).await?;
        checks.push(NegativeCheck { tried: format!("calls that name the tenant {id}"), count, possible });
    }
    Ok(checks)
}

pub(super) async fn run(
    context: &Context<'_>,
    named: Option<&str>,
    wish: Option<&DrillWish>,
    flags: &RunFlags,
) -> Result<Exit, Failure> {
    if !flags.resume {
        files::refuse_used(&flags.out)?;
    }
    let mut desk = Desk::open(context).await?;
    let (planned, tree) = match (named, wish) {
        (Some(id), _) => {
            let mut watch = desk.watch.clone();
            let planned = Planned::load(&desk.setting(context), id, &mut watch).await?;
            let scope = &planned.plan.scope;
            let bucket = BucketName::new(&scope.bucket)?;
            let as_of = planned.plan.scenario.as_of.as_ref().and_then(|moment| moment.timestamp());
            let tree = match &scope.snapshot {
                Some(id) => Tree::find(context, &desk, &bucket, as_of, Some(id)).await?,
                None => None,
            };
            (planned, tree)
        }
        (None, Some(wish)) => {
            let which = Which::of(wish);
            let wish = wish_of(context, wish)?;
            refuse_to_try_nothing(wish.kind, flags)?;
            files::make_directory(&flags.out)?;
            make_plan(context, &desk, &wish, which, &flags.out.join("scratch")).await?
        }
        (None, None) => return Err(Failure::usage("name a plan with --plan, or a bucket with --bucket")),
    };
    tell_plan(context, &planned.plan);
    let drilled = carry_out(context, &mut desk, &planned, tree.as_ref(), flags).await?;
    tell(context, &desk, &drilled, flags)
}

/// Carries out a plan; whoever interrupts it is told how to go on.
pub(super) async fn carry_out_new(
    context: &Context<'_>,
    desk: &mut Desk,
    wish: &Wish,
    which: Which,
    flags: &RunFlags,
) -> Result<Exit, Failure> {
    refuse_to_try_nothing(wish.kind, flags)?;
    files::make_empty_directory(&flags.out)?;
    let (planned, tree) = make_plan(context, desk, wish, which, &flags.out.join("scratch")).await?;
    let drilled = carry_out(context, desk, &planned, tree.as_ref(), flags).await?;
    tell(context, desk, &drilled, flags)
}

fn refuse_to_try_nothing(kind: ScenarioKind, flags: &RunFlags) -> Result<(), Failure> {
    if kind == ScenarioKind::Negative && flags.other_tenants.is_empty() && flags.deleted.is_empty() {
        return Err(Failure::usage("a negative drill that tries nothing proves nothing")
            .next("name what must not be possible with --deleted and --not-tenant"));
    }
    Ok(())
}

async fn carry_out(
    context: &Context<'_>,
    desk: &mut Desk,
    planned: &Planned,
    tree: Option<&Tree>,
    flags: &RunFlags,
) -> Result<Drilled, Failure> {
    let source = tree.map(Tree::source).transpose()?;
    let bucket = BucketName::new(&planned.plan.scope.bucket)?;
    let bars = Bars::new(context.output);
    refuse_to_try_nothing(planned.plan.scenario.kind, flags)?;
    let negative = negative(desk, &bucket, &flags.other_tenants, &flags.deleted).await?;
    let mut ground = Ground::prepare(context, desk, planned, flags).await?;
    let conduct = Conduct {
        directory: flags.out.clone(),
        max_rate: flags.max_rate,
        resume: flags.resume,
        keep: flags.keep,
        separation: ground.facts.clone(),
        negative,
        progress: bars.clone(),
    };
    let mut watch = desk.watch.clone();
    let drilled = {
        let setting = desk.setting(context);
        let drill = setting.run_from(ground.origin(), planned, source.as_ref(), &mut watch, conduct);
        tokio::select! {
            drilled = drill => drilled?,
            _ = tokio::signal::ctrl_c() => return Err(interrupted(&planned.plan.drill, &flags.out)),
        }
    };
    bars.finish();
    desk.watch = watch;
    desk.tenant.remember(&desk.watch)?;
    Ok(drilled)
}

fn interrupted(drill: &str, out: &Path) -> Failure {
    Failure::new("the drill was interrupted")
        .safe("sites were only read; what was verified stands in the drill's directory, no record was made")
        .next(format!("go on with `coffer drill run --plan {drill} --out {} --resume`", out.display()))
}

fn tell(context: &Context<'_>, desk: &Desk, drilled: &Drilled, flags: &RunFlags) -> Result<Exit, Failure> {
    let record = &drilled.record;
    let path = flags.out.join("record.json");
    write_atomically(&path, &drilled.envelope)?;
    write_atomically(&flags.out.join("record.tlog-proof"), drilled.proof.as_bytes())?;
    if !drilled.differences.is_empty() {
        let text = lines_of(&drilled.differences);
        write_atomically(&flags.out.join("differences.txt"), text.as_bytes())?;
    }
    let mut value: Value = summary_v2(record);
    value["record"] = json!(path.display().to_string());
    context.output.object(&value);
    super::verify::tell_v2(context, record);
    context.output.text(format_args!("record   {}", path.display()));
    let key = &desk.tenant.identity().log_key;
    let tenant = &record.tenant;
    let cosigner =
        record.scope.cosigner.as_ref().map(|key| format!(" --cosigner '{key}'")).unwrap_or_default();
    context.output.text(format_args!(
        "verify   coffer drill verify {} --key '{key}' --of-tenant {tenant}{cosigner}",
        path.display()
    ));
    let slower = record.trend.as_ref().is_some_and(|trend| trend.regression);
    Ok(if flags.check_trend && slower { Exit::Differences } else { super::verify::exit_of_v2(record) })
}
