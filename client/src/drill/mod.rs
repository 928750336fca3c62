//! Drills: a restoration that is planned, foreseen, carried out over the
//! public read path, compared with its source and recorded. The record is an
//! in-toto Statement v1 (<https://in-toto.io/Statement/v1>) in a DSSE envelope,
//! signed by the service that restored, verified without it.
//!
//! The story is [`Setting::plan`], then [`Setting::run`]; what they leave lies
//! on the [`Shelf`]. How a sample is drawn is described in `SAMPLE.md`.
//!
//! The record goes to the provider for its signature, so it names no file of
//! the tenant: differences are counted by class, and the list with the names
//! stays with the tenant, bound by its digest.

mod cosign;
mod disk;
mod exercise;
mod files;
mod finish;
mod history;
mod learn;
mod moment;
mod origin;
mod pace;
mod pilot;
mod plan;
mod planning;
mod population;
mod predict;
mod probe;
mod proof;
mod record;
mod sample;
mod schedule;
mod shelf;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_v2;
mod timeline;
mod tree;
mod v2;
mod verify;

pub use cosign::{COSIGNER_NAME, CosignError, cosign, cosigner_text, verify_cosignature};
pub use disk::{DiskError, lines_of};
pub use exercise::{Conduct, DrillError, Drilled, STATE_FILE};
pub use files::{SampleFault, SampleFiles, look_for_redraws, sample_files, verify_noted, verify_sample};
pub use history::{History, Related, Shelved};
pub use learn::Earlier;
pub use moment::Moment;
pub use origin::{Origin, OtherReader, OtherReaderError, OtherReport};
pub use pace::Pace;
pub use pilot::{Pilot, PilotPhase};
pub use plan::{
    DrillPlan, PLAN_BYTES_MAX, PLAN_FORMAT, PLAN_LABEL, Person, PlanFormatError, Previous, Promise, Scenario,
    ScenarioKind, Scope, Subject, Trigger,
};
pub use planning::{MakePlanError, Party, Planned, Setting, TreeSource, Wish};
pub use population::{BesideLog, PutBefore};
pub use predict::{Beforehand, Lies, PredictedPhase, Prediction, Rates, Work};
pub use proof::{LogProof, LogProofError, PROOF_BYTES_MAX};
pub use record::{
    Differences, DrillRecord, Evidence, Manifests, Measured, NOT_PROVEN, Objectives, PREDICATE_TYPE, Phase,
    Shares, Software, Verdict, Verdicts,
};
pub use sample::{
    Line, ListError, RULE_ALL, SAMPLE_RULE, SEED_LEAVES_MAX, draw, parse_list, population_text, sample_text,
    seed,
};
pub use schedule::{Schedule, ScheduleError};
pub use shelf::{EVIDENCE_BUCKET, Shelf, ShelfError, drill_file};
pub use timeline::Timeline;
pub use tree::RESTORED;
pub use v2::{
    Coverage, Drawn, DrillRecordV2, Environment, Judged, KeyEvidence, NOT_PROVEN_V2, NegativeCheck,
    PREDICATE_TYPE_V2, PREDICATE_TYPE_V3, PREDICTION_PERCENT, PlanNote, REGRESSION_MILLI, Results, TimeAxis,
    Trend,
};
pub use verify::{
    AnyRecord, Inconsistency, PAYLOAD_TYPE, RECORD_BYTES_MAX, VerifyRecordError, verify_any_record,
    verify_record,
};
