//! The public files of a drill, verified against its record: the sample is the
//! one that the rule draws, the plan is the one that the log notes, and it was
//! drawn once.

use coffer_keys::VerifierName;

use super::exercise::DrillError;
use super::plan::{DrillPlan, Subject};
use super::planning::Setting;
use super::predict::Prediction;
use super::proof::{LogProof, LogProofError};
use super::sample::{Line, draw, parse_list, population_text, sample_text, seed};
use super::shelf::{Shelf, ShelfError, drill_file};
use super::v2::DrillRecordV2;
use crate::audit::LeafRange;
use crate::digits::{sha256, sha256_hex};
use crate::leaf::LeafView;
use crate::log::{LogError, LogWatch};

/// The operation that notes a digest.
pub(super) const NOTE: &str = "digest_note";

/// The label under which a plan's seed is noted; `plan_sha256` is hexadecimal.
pub(super) fn seed_label(plan_sha256: &str) -> String {
    format!("drill-seed-{}", plan_sha256.get(..32).unwrap_or_default())
}

/// Verifies the files of a drill against its record: that population, seed,
/// sample and what was foreseen are those of the plan and the record.
///
/// # Errors
/// What is wrong, in words.
pub fn verify_sample(record: &DrillRecordV2, files: &SampleFiles) -> Result<(), SampleFault> {
    let fault = |good: bool, fault: SampleFault| if good { Ok(()) } else { Err(fault) };
    fault(sha256_hex(&files.plan) == record.plan.sha256, SampleFault::Plan)?;
    let plan = DrillPlan::from_bytes(&files.plan).map_err(|_| SampleFault::Plan)?;
    let same = plan.scope == record.scope
        && plan.drill == record.drill
        && plan.scenario == record.scenario
        && plan.promise == record.promise
        && plan.tenant == record.tenant;
    fault(same, SampleFault::Plan)?;
    fault(sha256_hex(files.population.as_bytes()) == plan.scope.population_sha256, SampleFault::Population)?;
    let mut population = parse_list(&files.population, true).map_err(|_| SampleFault::Population)?;
    fault(population_text(&mut population) == files.population, SampleFault::Population)?;
    let Some(drawn) = &record.drawn else {
        return fault(foreseen(&plan, &population, record) == record.predicted, SampleFault::Prediction);
    };
    fault(files.seed == drawn.checkpoint, SampleFault::Seed)?;
    let expected = draw(&population, &seed(&files.seed, &sha256(&files.plan)), plan.scope.sample);
    let text = sample_text(&expected);
    fault(text == files.sample, SampleFault::Sample)?;
    fault(sha256_hex(text.as_bytes()) == drawn.sample_sha256, SampleFault::Sample)?;
    fault(foreseen(&plan, &expected, record) == record.predicted, SampleFault::Prediction)
}

/// What a plan foresees of these lines. How many of them were foreseen to be
/// lost follows from where they lay, and is the record's own word.
fn foreseen(plan: &DrillPlan, lines: &[Line], record: &DrillRecordV2) -> Prediction {
    if plan.scope.subject == Subject::Tree {
        return plan.prediction.clone();
    }
    let bytes = lines.iter().fold(0_u64, |sum, line| sum.saturating_add(line.size));
    let said = plan.prediction.of_drawn(u64::try_from(lines.len()).unwrap_or(u64::MAX), bytes);
    let Prediction { recoverable, unrecoverable, .. } = record.predicted;
    Prediction { recoverable, unrecoverable, ..said }
}

/// The public files of a sampled drill.
#[derive(Clone, Debug, Default)]
pub struct SampleFiles {
    /// `plan.json`.
    pub plan: Vec<u8>,
    /// `population.txt`.
    pub population: String,
    /// `seed.txt`.
    pub seed: String,
    /// `sample.txt`.
    pub sample: String,
}

/// Which of the files is not what record and plan say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleFault {
    /// The plan.
    #[error("plan.json is not the plan of this record")]
    Plan,
    /// The population.
    #[error("population.txt is not the population of the plan")]
    Population,
    /// The seed.
    #[error("seed.txt is not the checkpoint of this record")]
    Seed,
    /// The sample.
    #[error("sample.txt is not what the rule draws: it was skipped, swapped or drawn again")]
    Sample,
    /// What was foreseen.
    #[error("the record claims to have foreseen something else than its plan did")]
    Prediction,
    /// A second draw.
    #[error("the log notes {0} seeds for this plan: it was drawn again")]
    Redrawn(usize),
    /// One draw, and another one than the record's.
    #[error("the seed that the log notes for this plan is not the one of this record, or not in its leaf")]
    Elsewhere,
}

/// Reads the files of a drill from the shelf.
///
/// # Errors
/// [`ShelfError`].
pub async fn sample_files(shelf: &Shelf<'_>, drill: &str) -> Result<SampleFiles, ShelfError> {
    let text = async |file: &str| {
        let bytes = shelf.get(&drill_file(drill, file)).await?.unwrap_or_default();
        Ok::<_, ShelfError>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let plan = shelf.get(&drill_file(drill, "plan.json")).await?.unwrap_or_default();
    let (population, seed, sample) =
        (text("population.txt").await?, text("seed.txt").await?, text("sample.txt").await?);
    Ok(SampleFiles { plan, population, seed, sample })
}

/// Looks for other seeds of the same plan in the log, between the plan and the
/// end of what is signed: one is noted, the one of the record, in the leaf that
/// the record names.
///
/// # Errors
/// [`SampleFault::Redrawn`] or [`SampleFault::Elsewhere`] as a finding;
/// [`DrillError`] else.
pub async fn look_for_redraws(
    setting: &Setting<'_>,
    record: &DrillRecordV2,
    watch: &mut LogWatch,
) -> Result<Result<(), SampleFault>, DrillError> {
    let label = format!("{}:", seed_label(&record.plan.sha256));
    let mut found = Vec::new();
    let take = |range: LeafRange| {
        for (index, leaf) in (range.first..).zip(&range.leaves) {
            let value: serde_json::Value = serde_json::from_slice(leaf).unwrap_or_default();
            if let Some(digest) = LeafView(&value).done(NOTE).and_then(|uid| uid.strip_prefix(&label)) {
                found.push((index, digest.to_owned()));
            }
        }
        Ok::<_, LogError>(())
    };
    watch.read_from(setting.client, None, record.plan.log_index, take).await?;
    let drawn = record.drawn.as_ref();
    let named = drawn.map(|drawn| (drawn.log_index, sha256_hex(drawn.checkpoint.as_bytes())));
    Ok(match found.as_slice() {
        [one] if named.as_ref() == Some(one) => Ok(()),
        [_] => Err(SampleFault::Elsewhere),
        several => Err(SampleFault::Redrawn(several.len())),
    })
}

/// Verifies that the log notes a record, by the proof that is kept beside it.
///
/// # Errors
/// [`LogProofError`].
pub fn verify_noted(
    proof: &str,
    record: &DrillRecordV2,
    key: &VerifierName,
    origin: &str,
) -> Result<u64, LogProofError> {
    let proof = LogProof::from_text(proof)?;
    let checkpoint = proof.verify(key, origin)?;
    let statement = coffer_keys::to_canonical(&record.to_statement()).map_err(|_| LogProofError::Form)?;
    let digest = coffer_keys::leaf_hash(&statement).to_string();
    let about = proof.subject().is_some_and(|(operation, outcome, subject)| {
        operation == "drill_sign" && outcome == "done" && subject == digest
    });
    if about { Ok(checkpoint.size) } else { Err(LogProofError::Form) }
}
