//! A drill carried out: everything of its plan is read over the public way,
//! without what is supposed to be lost, compared with what was expected, and
//! the result is signed, whatever it is.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_model::{BucketName, Digest, Timestamp};
use futures::{StreamExt as _, stream};

use super::cosign::{cosign, cosigner_text, verify_cosignature};
use super::disk::{DiskError, Journal, lines_of, make_directory};
use super::files::{NOTE, seed_label};
use super::finish::{Came, Ended};
use super::moment::Moment;
use super::origin::Origin;
use super::pace::Pace;
use super::plan::{DrillPlan, PLAN_LABEL, ScenarioKind, Subject};
use super::planning::{Planned, Setting, TreeSource};
use super::sample::{Line, draw, parse_list, sample_text, seed};
use super::shelf::{Shelf, ShelfError, drill_file};
use super::timeline::Timeline;
use super::v2::{Drawn, DrillRecordV2, NegativeCheck};
use super::verify::VerifyRecordError;
use super::{PlanFormatError, tree};
use crate::backup::Progress;
use crate::call::CallError;
use crate::connect::Client;
use crate::digits::{hex, sha256, sha256_hex};
use crate::drills::SignDrillError;
use crate::leaf::LeafView;
use crate::log::{LogError, LogWatch, note_subject_names};
use crate::objects::GetError;
use crate::terms::{ReadTerms, SitesSeen};

/// Objects that are read at once.
pub(super) const READS: usize = 8;

/// The file in which a drill's directory lists what was verified already.
pub const STATE_FILE: &str = "drill-state.txt";

/// How a drill is carried out.
pub struct Conduct {
    /// A directory of the drill's own; an interrupted drill goes on there.
    pub directory: PathBuf,
    /// The most bytes a second that it reads.
    pub max_rate: Option<u64>,
    /// Go on with what an interrupted run of the same plan has verified.
    pub resume: bool,
    /// Leave the restored tree there.
    pub keep: bool,
    /// Facts about what keeps the target apart from the source.
    pub separation: Vec<String>,
    /// What must not be possible.
    pub negative: Vec<NegativeCheck>,
    /// Told how far it is.
    pub progress: Arc<dyn Progress>,
}

/// Why there is no record. Sites were only read.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The service refused or failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The log is not believed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The shelf.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// The drill's directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The plan on the shelf is none.
    #[error(transparent)]
    Plan(#[from] PlanFormatError),
    /// There is no such plan, or not whole.
    #[error("there is no whole plan {0} in the bucket; `coffer drill ls` lists them")]
    NoPlan(String),
    /// The log does not note what it should.
    #[error("leaf {index} of the log does not note the digest of {what}")]
    Unnoted {
        /// The leaf.
        index: u64,
        /// Of what.
        what: &'static str,
    },
    /// Something on the shelf is another's.
    #[error(
        "the plan of the drill {0} is not this tenant's, or another key than this profile's draws its sample; make a new plan"
    )]
    Stranger(String),
    /// A plan is carried out once.
    #[error("the drill {0} has a record already; make a new plan")]
    Done(String),
    /// The state file is of another drill, or damaged.
    #[error(
        "{STATE_FILE} in the drill's directory is of another drill, or damaged; begin with a new directory"
    )]
    State,
    /// There is work of an interrupted run.
    #[error("the drill was interrupted here before; resume it, or name a new directory")]
    Interrupted,
    /// The bytes would come from elsewhere than the loss leaves.
    #[error(
        "a drill of the kind \"{0}\" begins with what that loss leaves, and would begin with something else"
    )]
    Origin(ScenarioKind),
    /// A negative drill without an attempt.
    #[error("a negative drill that tries nothing proves nothing")]
    NothingTried,
    /// A tree's plan without its source.
    #[error("the drill restores a tree, and its source is not at hand")]
    NoTree,
    /// The restored tree could not be looked at.
    #[error("the restored tree could not be compared: {0}")]
    Compare(String),
    /// The record was not signed.
    #[error(transparent)]
    Sign(#[from] SignDrillError),
    /// The service signed something that does not verify.
    #[error("what the service signed does not verify: {0}")]
    Verify(#[from] VerifyRecordError),
}

/// A drill that is over.
#[derive(Clone, Debug)]
pub struct Drilled {
    /// The record.
    pub record: DrillRecordV2,
    /// It, signed.
    pub envelope: Vec<u8>,
    /// The proof that the log notes it.
    pub proof: String,
    /// In what a restored tree differs, a line each; stays with the tenant.
    pub differences: Vec<String>,
}

impl Planned {
    /// A plan from the shelf, with what it was made from, verified to be the
    /// one that the log notes.
    ///
    /// # Errors
    /// [`DrillError`].
    pub async fn load(setting: &Setting<'_>, drill: &str, watch: &mut LogWatch) -> Result<Self, DrillError> {
        let shelf = Shelf::open(setting.client).await?;
        let none = || DrillError::NoPlan(drill.to_owned());
        let bytes = shelf.get(&drill_file(drill, "plan.json")).await?.ok_or_else(none)?;
        let plan = DrillPlan::from_bytes(&bytes)?;
        let index = shelf.get(&drill_file(drill, "plan.index")).await?.ok_or_else(none)?;
        let log_index = String::from_utf8_lossy(&index).parse().map_err(|_| none())?;
        let noted = (PLAN_LABEL, &Digest(sha256(&bytes)));
        prove_noted_as(setting, watch, log_index, noted, "this plan").await?;
        // Whoever filled the shelf could note a plan of its own: its sample is
        // to be drawn by this tenant's key, and by no other.
        let own = cosigner_text(setting.cosigner);
        if plan.tenant != setting.party.tenant || plan.scope.cosigner.as_ref().is_some_and(|key| *key != own)
        {
            return Err(DrillError::Stranger(drill.to_owned()));
        }
        let text = shelf.get(&drill_file(drill, "population.txt")).await?.ok_or_else(none)?;
        if sha256_hex(&text) != plan.scope.population_sha256 || plan.drill != drill {
            return Err(none());
        }
        let population = parse_list(&String::from_utf8_lossy(&text), true).map_err(|_| none())?;
        let unseen = shelf.get(&drill_file(drill, "foreseen.txt")).await?.unwrap_or_default();
        let unseen = parse_list(&String::from_utf8_lossy(&unseen), true).map_err(|_| none())?;
        let foreseen = unseen.into_iter().map(|line| line.version).collect();
        let as_of = plan.scenario.as_of.as_ref().and_then(Moment::timestamp);
        let bucket = BucketName::new(&plan.scope.bucket).map_err(|_| none())?;
        let objects = setting.client.list_at(&bucket, b"", as_of.or_else(|| plan.made.timestamp())).await?;
        let keys = objects.into_iter().map(|info| (info.version, info.key)).collect();
        Ok(Self { plan, bytes, log_index, population, keys, foreseen })
    }
}

/// Proves that a leaf notes a digest, under a checkpoint that extends the
/// remembered one.
pub(super) async fn prove_noted(
    setting: &Setting<'_>,
    watch: &mut LogWatch,
    index: u64,
    digest: &Digest,
    what: &'static str,
) -> Result<(), DrillError> {
    let checkpoint = watch.advance(setting.client).await?;
    let leaf = watch.leaf(setting.client, index, &checkpoint).await?;
    if note_subject_names(&leaf.leaf, digest) { Ok(()) } else { Err(DrillError::Unnoted { index, what }) }
}

/// The same for a leaf that notes it under a label.
async fn prove_noted_as(
    setting: &Setting<'_>,
    watch: &mut LogWatch,
    index: u64,
    (label, digest): (&str, &Digest),
    what: &'static str,
) -> Result<(), DrillError> {
    let checkpoint = watch.advance(setting.client).await?;
    let leaf = watch.leaf(setting.client, index, &checkpoint).await?;
    let value: serde_json::Value = serde_json::from_slice(&leaf.leaf).unwrap_or_default();
    let noted = LeafView(&value).done(NOTE) == Some(format!("{label}:{digest}").as_str());
    if noted { Ok(()) } else { Err(DrillError::Unnoted { index, what }) }
}

impl Setting<'_> {
    /// Carries out a plan over the service that planned it.
    ///
    /// # Errors
    /// [`DrillError`]. That something does not come back is none, but a record.
    pub async fn run(
        &self,
        planned: &Planned,
        tree: Option<&TreeSource<'_>>,
        watch: &mut LogWatch,
        conduct: Conduct,
    ) -> Result<Drilled, DrillError> {
        self.run_from(Origin::default(), planned, tree, watch, conduct).await
    }

    /// Carries out a plan with bytes from elsewhere. Plan, record and log stay
    /// with the service that planned it.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_from(
        &self,
        mut origin: Origin<'_>,
        planned: &Planned,
        tree: Option<&TreeSource<'_>>,
        watch: &mut LogWatch,
        conduct: Conduct,
    ) -> Result<Drilled, DrillError> {
        let plan = &planned.plan;
        if !origin.suits(plan.scenario.kind) {
            return Err(DrillError::Origin(plan.scenario.kind));
        }
        if plan.scenario.kind == ScenarioKind::Negative && conduct.negative.is_empty() {
            return Err(DrillError::NothingTried);
        }
        let shelf = Shelf::open(self.client).await?;
        if shelf.get(&drill_file(&plan.drill, "record.json")).await?.is_some() {
            return Err(DrillError::Done(plan.drill.clone()));
        }
        let began = origin.timeline.as_ref().map(Timeline::declared);
        let (mut state, before) = self.open_state(plan, &conduct, began)?;
        let mut timeline = match origin.timeline.take() {
            Some(timeline) => timeline,
            None => Timeline::new(Arc::clone(&self.clock), before.declared, None),
        };
        let remembered = watch.remembered().map(str::to_owned);
        let seen = Arc::new(SitesSeen::default());
        let terms = ReadTerms {
            as_of: plan.scenario.as_of.as_ref().and_then(Moment::timestamp),
            without: plan.scenario.sites_lost.clone(),
            seen: Some(Arc::clone(&seen)),
        };
        let (came, drawn) = match plan.scope.subject {
            Subject::Tree => {
                let source = tree.ok_or(DrillError::NoTree)?;
                (tree::exercise(self, &origin, source, &terms, &conduct, &mut timeline, watch).await?, None)
            }
            Subject::Objects => {
                let (lines, drawn) = self.sample(planned, &shelf, watch).await?;
                timeline.end_phase("draw", 0);
                let reading =
                    Reading { planned, lines, terms: &terms, done: &before.verified, conduct: &conduct };
                let came = match (&origin.failed, origin.reader) {
                    (Some(class), _) => reading.nothing(class),
                    (None, Some(_)) => return Err(DrillError::NoTree),
                    (None, None) => read(origin.client.unwrap_or(self.client), reading, &mut state).await?,
                };
                timeline.end_phase("read", came.restored_bytes);
                (came, drawn)
            }
        };
        let deviations = match before.resumed {
            true => {
                vec!["it was interrupted and resumed; the time counts from its first beginning".to_owned()]
            }
            false => Vec::new(),
        };
        let (seen, shares) = (seen.counts(), origin.shares);
        let ended = Ended { came, drawn, timeline, seen, remembered, deviations, shares };
        self.finish(planned, &shelf, ended, watch, &conduct).await
    }

    fn open_state(
        &self,
        plan: &DrillPlan,
        conduct: &Conduct,
        began: Option<Timestamp>,
    ) -> Result<(Journal, Before), DrillError> {
        make_directory(&conduct.directory)?;
        let mut state = Journal::open(&conduct.directory.join(STATE_FILE))?;
        let lines = state.lines()?;
        let Some((first, rest)) = lines.split_first() else {
            let declared = began.unwrap_or_else(|| self.clock.now());
            state.add(&format!("{} {}", plan.drill, declared.0))?;
            let before = Before { declared, verified: BTreeSet::new(), resumed: false };
            return Ok((state, before));
        };
        if !conduct.resume {
            return Err(DrillError::Interrupted);
        }
        let (drill, declared) = first.split_once(' ').ok_or(DrillError::State)?;
        let declared = Timestamp(declared.parse().map_err(|_| DrillError::State)?);
        if drill != plan.drill {
            return Err(DrillError::State);
        }
        let verified = parse_list(&lines_of(rest), false);
        let verified = verified.map_err(|_| DrillError::State)?.into_iter().collect();
        Ok((state, Before { declared, verified, resumed: true }))
    }

    /// The cosigned checkpoint that makes the seed of a plan, and the leaf that
    /// notes it. A plan has one: the one that was noted stands.
    pub(super) async fn seed_of(
        &self,
        drill: &str,
        plan: &[u8],
        shelf: &Shelf<'_>,
        watch: &mut LogWatch,
    ) -> Result<(String, u64), DrillError> {
        let (seed_file, index_file) = (drill_file(drill, "seed.txt"), drill_file(drill, "seed.index"));
        let label = seed_label(&hex(&sha256(plan)));
        let noted = shelf.get(&index_file).await?.map(|index| String::from_utf8_lossy(&index).parse::<u64>());
        if let (Some(cosigned), Some(Ok(index))) = (shelf.get(&seed_file).await?, noted) {
            let digest = Digest(sha256(&cosigned));
            prove_noted_as(self, watch, index, (label.as_str(), &digest), "the checkpoint of the seed")
                .await?;
            let cosigned = String::from_utf8_lossy(&cosigned).into_owned();
            let own = verify_cosignature(&cosigned, &cosigner_text(self.cosigner));
            return own.map(|_| (cosigned, index)).map_err(|_| DrillError::Stranger(drill.to_owned()));
        }
        // With what witnesses put under it, where the service has any.
        watch.advance_cosigned(self.client).await?;
        let checkpoint = watch.remembered().unwrap_or_default().to_owned();
        let cosigned = cosign(&checkpoint, self.cosigner, self.clock.now().0 / 1_000_000_000);
        let digest = Digest(sha256(cosigned.as_bytes()));
        shelf.put(&seed_file, cosigned.clone()).await?;
        let index = self.client.note_digest(&label, &digest).await?;
        shelf.put(&index_file, index.to_string()).await?;
        Ok((cosigned, index))
    }

    /// The lines of this drill, and how they were drawn.
    async fn sample(
        &self,
        planned: &Planned,
        shelf: &Shelf<'_>,
        watch: &mut LogWatch,
    ) -> Result<(Vec<Line>, Option<Drawn>), DrillError> {
        let plan = &planned.plan;
        if plan.scope.cosigner.is_none() {
            return Ok((planned.population.clone(), None));
        }
        let (checkpoint, log_index) = self.seed_of(&plan.drill, &planned.bytes, shelf, watch).await?;
        let seed = seed(&checkpoint, &sha256(&planned.bytes));
        let lines = draw(&planned.population, &seed, plan.scope.sample);
        let text = sample_text(&lines);
        let sample_sha256 = sha256_hex(text.as_bytes());
        shelf.put(&drill_file(&plan.drill, "sample.txt"), text).await?;
        Ok((lines, Some(Drawn { checkpoint, log_index, seed: hex(&seed), sample_sha256 })))
    }
}

/// Reads every line that is not verified yet.
async fn read(client: &Client, reading: Reading<'_>, state: &mut Journal) -> Result<Came, DrillError> {
    let Reading { planned, lines, terms, done, conduct } = reading;
    let bucket = BucketName::new(&planned.plan.scope.bucket)
        .map_err(|_| DrillError::NoPlan(planned.plan.drill.clone()))?;
    let pace = Pace::new(conduct.max_rate);
    let total: u64 = lines.iter().map(|line| line.size).sum();
    conduct.progress.stage("read", Some(total), None);
    let one = |line: Line| {
        let (key, pace, bucket) = (planned.keys.get(&line.version), Arc::clone(&pace), &bucket);
        async move {
            let Some(key) = key else { return (line, Err("gone".to_owned())) };
            let read = async {
                let (info, mut body) = client.get_on(bucket, key, None, terms).await?;
                // The body ends with an error if its content is another.
                while let Some(piece) = body.next().await? {
                    pace.pay(u64::try_from(piece.len()).unwrap_or(u64::MAX)).await;
                }
                Ok::<_, GetError>((info.version, info.content_blake3))
            };
            (line, read.await.map_err(|error| class_of(&error)))
        }
    };
    let mut came = Came::new(lines.len(), total);
    let mut back: Vec<Line> = lines.iter().filter(|line| done.contains(*line)).cloned().collect();
    let reads: Vec<_> = lines.iter().filter(|line| !done.contains(*line)).cloned().map(one).collect();
    let mut reads = stream::iter(reads).buffer_unordered(READS);
    while let Some((line, read)) = reads.next().await {
        conduct.progress.advance(line.size, 1);
        match read {
            Ok((version, content)) if version == line.version && content == line.content => {
                state.add(sample_text(std::slice::from_ref(&line)).trim_end())?;
                back.push(line);
            }
            Ok((version, content)) => {
                let class = if version == line.version { "Content" } else { "Version" };
                *came.by_class.entry(class.to_owned()).or_default() += 1;
                came.listed.push(format!("{class} {}", line.version));
                back.push(Line { content, version, ..line });
            }
            Err(class) => {
                came.unreadable += 1;
                *came.failures.entry(class).or_default() += 1;
            }
        }
    }
    Ok(came.with_objects(&lines, back, planned))
}

/// What an earlier run of the same drill left.
struct Before {
    declared: Timestamp,
    verified: BTreeSet<Line>,
    resumed: bool,
}

struct Reading<'a> {
    planned: &'a Planned,
    lines: Vec<Line>,
    terms: &'a ReadTerms,
    done: &'a BTreeSet<Line>,
    conduct: &'a Conduct,
}

impl Reading<'_> {
    /// All of it unread, for one reason.
    fn nothing(self, class: &str) -> Came {
        let total = self.lines.iter().map(|line| line.size).sum();
        let mut came = Came::new(self.lines.len(), total);
        came.unreadable = came.expected;
        came.failures.insert(class.to_owned(), came.expected);
        came.with_objects(&self.lines, Vec::new(), self.planned)
    }
}

/// Why a read failed, in a word that names no object.
pub(super) fn class_of(error: &GetError) -> String {
    let class = match error {
        GetError::Call(CallError::Unavailable(_)) => "too few shards or copies",
        GetError::Call(CallError::Damaged(_)) | GetError::Digest => "damaged",
        GetError::Call(CallError::NotFound(_)) => "not found",
        GetError::Call(CallError::PermissionDenied(_)) => "not permitted",
        GetError::Length { .. } => "cut off",
        GetError::Call(_) | GetError::TooLarge { .. } => "refused",
    };
    class.to_owned()
}
