//! How a plan is made: look at the sites and at where everything lies, measure
//! on the way that the drill will take, ask the earlier records, and note the
//! result in the log before anything is restored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_keys::{SigningKey, VerifierName};
use coffer_model::{BucketName, Clock, Digest, Entropy, ObjectKey, Timestamp, VersionId};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::cosign::cosigner_text;
use super::disk::DiskError;
use super::exercise::DrillError;
use super::history::{History, Related};
use super::plan::{
    DrillPlan, PLAN_FORMAT, PLAN_LABEL, Person, PlanFormatError, Promise, Scenario, ScenarioKind, Scope,
    Subject, Trigger,
};
use super::predict::{Beforehand, Lies, Prediction, Work};
use super::probe::{Looked, Probed};
use super::sample::{Line, RULE_ALL, SAMPLE_RULE, population_text, sample_text};
use super::shelf::{Shelf, ShelfError, drill_file};
use crate::backup::{PlanError, Repository, SnapshotId};
use crate::call::CallError;
use crate::connect::Client;
use crate::digits::{hex, sha256, sha256_hex};
use crate::log::LogWatch;
use crate::objects::ObjectInfo;
use crate::sites::SiteInfo;
use crate::terms::ReadTerms;

/// Descriptions asked for at once.
const ASKED_AT_ONCE: usize = 16;

/// Who drills.
#[derive(Clone, Debug)]
pub struct Party {
    /// The tenant's id, as printed.
    pub tenant: String,
    /// Origin line of its log.
    pub log_origin: String,
    /// The key that signs its log and its records.
    pub log_key: VerifierName,
}

/// What a drill works with.
pub struct Setting<'a> {
    /// The connection of the tenant.
    pub client: &'a Client,
    /// Who drills.
    pub party: &'a Party,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// The tenant's cosigner.
    pub cosigner: &'a SigningKey,
}

/// The tree that is to come back.
pub struct TreeSource<'a> {
    /// The bucket of the repository.
    pub bucket: BucketName,
    /// The repository.
    pub repository: &'a Repository,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The manifest made at the source.
    pub manifest: PathBuf,
    /// Its SHA-256.
    pub manifest_sha256: Digest,
    /// The leaf that notes it.
    pub note_index: u64,
}

/// What somebody wants drilled.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Which bucket.
    pub bucket: BucketName,
    /// Which kind of loss.
    pub kind: ScenarioKind,
    /// Names of lost sites.
    pub sites: Vec<String>,
    /// Country codes of lost places.
    pub places: Vec<String>,
    /// The moment to restore.
    pub as_of: Option<Timestamp>,
    /// How many objects to draw; none: all of them.
    pub sample: Option<u64>,
    /// What was promised.
    pub promise: Promise,
    /// Why.
    pub trigger: Trigger,
    /// Who takes part.
    pub people: Vec<Person>,
    /// When the next one is due.
    pub next_due: Option<Timestamp>,
    /// Measure the way beforehand. Without it the times are foreseen from
    /// nothing, but no read comes before the drill, which could mend a fault.
    pub calibrate: bool,
}

/// Why there is no plan. Nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum MakePlanError {
    /// The service refused or failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The shelf.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The repository.
    #[error("the snapshot could not be looked at: {0}")]
    Snapshot(#[from] PlanError),
    /// The scratch files that measure the disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The plan has no canonical form.
    #[error(transparent)]
    Form(#[from] PlanFormatError),
    /// A site that is not there.
    #[error("there is no site \"{0}\"; `coffer site ls` lists them")]
    NoSite(String),
    /// A place without a site.
    #[error("no site is in {0}; `coffer site ls` says where they are")]
    NoPlace(String),
    /// The seed of the sample.
    #[error("the seed of the sample could not be made: {0}")]
    Seed(Box<DrillError>),
    /// There is nothing to restore.
    #[error("bucket {0} holds no objects of that moment; there is nothing to restore")]
    Empty(BucketName),
    /// A worker ended without a word; a defect.
    #[error("a worker died; this is a defect")]
    Worker,
}

/// A plan that stands in the log, and what carrying it out needs.
pub struct Planned {
    /// The plan.
    pub plan: DrillPlan,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The leaf that notes it.
    pub log_index: u64,
    /// What a sample may be drawn from, in canonical order.
    pub population: Vec<Line>,
    /// The key of each version of the bucket.
    pub(crate) keys: BTreeMap<VersionId, ObjectKey>,
    /// The versions that are foreseen to be unrecoverable.
    pub(crate) foreseen: BTreeSet<VersionId>,
}

/// The sites of a deployment that a scenario loses.
fn lost_sites(wish: &Wish, sites: &[SiteInfo]) -> Result<BTreeSet<String>, MakePlanError> {
    let mut lost = BTreeSet::new();
    for name in &wish.sites {
        let there = sites.iter().any(|site| site.name == *name);
        lost.insert(there.then(|| name.clone()).ok_or_else(|| MakePlanError::NoSite(name.clone()))?);
    }
    for place in &wish.places {
        let inside: Vec<&SiteInfo> = sites.iter().filter(|site| site.country.as_str() == place).collect();
        if inside.is_empty() {
            return Err(MakePlanError::NoPlace(place.clone()));
        }
        lost.extend(inside.into_iter().map(|site| site.name.clone()));
    }
    Ok(lost)
}

fn line(info: &ObjectInfo) -> Line {
    Line { version: info.version, size: info.size, content: info.content_blake3 }
}

/// What the sites that are left ask of whoever begins with them alone.
fn beforehand<'a>(kind: ScenarioKind, left: impl Iterator<Item = &'a SiteInfo>) -> Option<Beforehand> {
    let reader = kind.is_by_another_reader();
    (kind.begins_cold() || reader).then(|| {
        left.fold(Beforehand { reader, ..Beforehand::default() }, |sum, site| Beforehand {
            copy_bytes: sum.copy_bytes.saturating_add(site.volume_bytes),
            records: sum.records.saturating_add(site.records),
            ..sum
        })
    })
}

/// How much there is to do where objects are read, all or a sample of them.
fn work_of(wish: &Wish, population: &[&ObjectInfo]) -> Work {
    let bytes: u64 = population.iter().map(|info| info.size).sum();
    let objects = count(population.len());
    let drawn = wish.sample.unwrap_or(objects).min(objects);
    let share = u128::from(bytes) * u128::from(drawn) / u128::from(objects.max(1));
    Work { objects: drawn, object_bytes: u64::try_from(share).unwrap_or(bytes), ..Work::default() }
}

/// What was found before anything is foreseen.
struct Survey {
    lost: BTreeSet<String>,
    /// The lost ones, and those that do not answer anyway.
    away: BTreeSet<String>,
    /// What there is to do first, where a service is made again or another
    /// reader restores.
    beforehand: Option<Beforehand>,
    objects: Vec<ObjectInfo>,
    covered: BTreeSet<VersionId>,
    history: Related,
}

impl Survey {
    /// On which terms the drill will read.
    fn terms(&self, wish: &Wish) -> ReadTerms {
        let without = self.lost.iter().cloned().collect();
        ReadTerms { as_of: wish.as_of, without, seen: Some(Arc::default()) }
    }

    /// What may be drawn from.
    fn population(&self) -> Vec<&ObjectInfo> {
        self.objects.iter().filter(|info| !self.covered.contains(&info.version)).collect()
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Setting<'_> {
    /// Makes a plan, keeps it and notes it in the log; where a sample is drawn,
    /// with the seed that the next checkpoint gives. `scratch` is a directory
    /// that is made and removed again, on the disk that will be restored to.
    ///
    /// # Errors
    /// [`MakePlanError`].
    pub async fn plan(
        &self,
        wish: &Wish,
        tree: Option<&TreeSource<'_>>,
        scratch: &Path,
        watch: &mut LogWatch,
    ) -> Result<Planned, MakePlanError> {
        let shelf = Shelf::open(self.client).await?;
        let survey = self.survey(&shelf, wish, tree.is_some()).await?;
        let population = survey.population();
        let foreseen = self.foresee(wish, &population, &survey.away).await?;
        let terms = survey.terms(wish);
        let looked = match tree {
            Some(tree) => Some(self.look(tree, &terms, scratch).await?),
            None => None,
        };
        let mut work = looked.as_ref().map_or_else(|| work_of(wish, &population), Looked::work);
        work.beforehand = survey.beforehand;
        let probed = match wish.calibrate {
            true => {
                let readable = population.iter().filter(|info| !foreseen.contains(&info.version));
                self.probe(wish, &terms, readable.copied().collect(), looked.as_ref(), scratch).await?
            }
            false => Probed::default(),
        };
        let lessons = survey.history.lessons(wish.kind);
        let mut prediction = Prediction::of(work, probed.rates, probed.pilot, &lessons);
        prediction.unrecoverable = count(foreseen.len());
        prediction.recoverable = count(population.len()).saturating_sub(prediction.unrecoverable);
        let mut lines: Vec<Line> = population.iter().map(|info| line(info)).collect();
        let text = population_text(&mut lines);
        let plan = self.compose(wish, tree, &survey, prediction, &text);
        let bytes = plan.to_bytes()?;
        let log_index = self.client.note_digest(PLAN_LABEL, &Digest(sha256(&bytes))).await?;
        if plan.scope.cosigner.is_some() {
            let seed = self.seed_of(&plan.drill, &bytes, &shelf, watch).await;
            seed.map_err(|error| MakePlanError::Seed(Box::new(error)))?;
        }
        shelf.put(&drill_file(&plan.drill, "population.txt"), text).await?;
        let unseen: Vec<Line> =
            lines.iter().filter(|line| foreseen.contains(&line.version)).cloned().collect();
        shelf.put(&drill_file(&plan.drill, "foreseen.txt"), sample_text(&unseen)).await?;
        shelf.put(&drill_file(&plan.drill, "plan.json"), bytes.clone()).await?;
        shelf.put(&drill_file(&plan.drill, "plan.index"), log_index.to_string()).await?;
        let keys = survey.objects.into_iter().map(|info| (info.version, info.key)).collect();
        Ok(Planned { plan, bytes, log_index, population: lines, keys, foreseen })
    }

    async fn survey(&self, shelf: &Shelf<'_>, wish: &Wish, tree: bool) -> Result<Survey, MakePlanError> {
        let sites = self.client.list_sites().await?;
        let lost = lost_sites(wish, &sites)?;
        let objects = self.client.list_at(&wish.bucket, b"", wish.as_of).await?;
        if objects.is_empty() {
            return Err(MakePlanError::Empty(wish.bucket.clone()));
        }
        let subject = if tree { Subject::Tree } else { Subject::Objects };
        let history = History::read(shelf, &self.party.log_key).await?.of(wish.bucket.as_str(), subject);
        let covered = match wish.sample {
            Some(_) => history.covered(shelf, &objects).await?,
            None => BTreeSet::new(),
        };
        let silent = sites.iter().filter(|site| !site.alive).map(|site| site.name.clone());
        let away = lost.iter().cloned().chain(silent).collect();
        let beforehand = beforehand(wish.kind, sites.iter().filter(|site| !lost.contains(&site.name)));
        Ok(Survey { lost, away, beforehand, objects, covered, history })
    }

    fn compose(
        &self,
        wish: &Wish,
        tree: Option<&TreeSource<'_>>,
        survey: &Survey,
        prediction: Prediction,
        population: &str,
    ) -> DrillPlan {
        let all = count(survey.objects.len() - survey.covered.len());
        let scope = Scope {
            bucket: wish.bucket.to_string(),
            subject: if tree.is_some() { Subject::Tree } else { Subject::Objects },
            snapshot: tree.map(|tree| tree.snapshot.to_string()),
            source_manifest_sha256: tree.map(|tree| tree.manifest_sha256.to_string()),
            source_note_index: tree.map(|tree| tree.note_index),
            objects: count(survey.objects.len()),
            bytes: survey.objects.iter().map(|info| info.size).sum(),
            population_sha256: sha256_hex(population.as_bytes()),
            population: all,
            rule: if wish.sample.is_some() { SAMPLE_RULE } else { RULE_ALL }.to_owned(),
            sample: wish.sample.map_or(all, |sample| sample.min(all)),
            covered_before: count(survey.covered.len()),
            cosigner: wish.sample.map(|_| cosigner_text(self.cosigner)),
        };
        DrillPlan {
            format: PLAN_FORMAT,
            drill: hex(&self.entropy.sixteen()),
            tenant: self.party.tenant.clone(),
            made: self.clock.now().into(),
            trigger: wish.trigger,
            people: wish.people.clone(),
            scenario: Scenario {
                kind: wish.kind,
                sites_lost: survey.lost.iter().cloned().collect(),
                places_lost: wish.places.clone(),
                as_of: wish.as_of.map(Into::into),
            },
            scope,
            promise: wish.promise.clone(),
            prediction,
            previous: survey.history.last_of(wish.kind),
            next_due: wish.next_due.map(Into::into),
        }
    }

    /// The versions of which too little would be left.
    async fn foresee(
        &self,
        wish: &Wish,
        population: &[&ObjectInfo],
        away: &BTreeSet<String>,
    ) -> Result<BTreeSet<VersionId>, MakePlanError> {
        if away.is_empty() {
            return Ok(BTreeSet::new());
        }
        let look = |info: &ObjectInfo| {
            let (key, version) = (info.key.clone(), info.version);
            async move {
                let placed = self.client.stat_at(&wish.bucket, &key, wish.as_of).await?;
                let lies = Lies { geometry: placed.geometry, sites: placed.sites };
                Ok::<_, MakePlanError>((!lies.survives(away)).then_some(version))
            }
        };
        let looks: Vec<_> = population.iter().map(|info| look(info)).collect();
        let found: Vec<_> = stream::iter(looks).buffer_unordered(ASKED_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }
}
