//! The end of a drill: what came back becomes a record whose verdicts follow
//! from its numbers, signed by the service and proven to be in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use coffer_model::{Digest, Timestamp};

use super::disk::lines_of;
use super::exercise::{Conduct, DrillError, Drilled};
use super::history::History;
use super::plan::Subject;
use super::planning::{Planned, Setting};
use super::proof::LogProof;
use super::record::{Differences, Measured, Shares, Software};
use super::sample::{Line, sample_text};
use super::shelf::{Shelf, drill_file};
use super::timeline::Timeline;
use super::v2::{
    Coverage, Drawn, DrillRecordV2, Environment, KeyEvidence, NOT_PROVEN_V2, PlanNote, Results, TimeAxis,
};
use super::verify::{AnyRecord, verify_any_record};
use crate::digits::{hex, sha256_hex};
use crate::log::LogWatch;

/// What came back, however it was read.
#[derive(Debug, Default)]
pub(super) struct Came {
    pub(super) expected: u64,
    pub(super) expected_bytes: u64,
    pub(super) restored: u64,
    pub(super) restored_bytes: u64,
    pub(super) unreadable: u64,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) by_class: BTreeMap<String, u64>,
    /// The differences, a line each.
    pub(super) listed: Vec<String>,
    pub(super) expected_sha256: String,
    pub(super) restored_sha256: String,
    /// Of those that were to come back, how many were foreseen not to.
    pub(super) foreseen: u64,
    /// The newest write that came back; none: everything up to the loss did.
    pub(super) newest_write: Option<Timestamp>,
    /// What was not as the plan has it.
    pub(super) deviations: Vec<String>,
}

impl Came {
    /// How old the newest write that came back was when it failed. Of nothing
    /// there is none, and of a part nobody knows it; of a tree it is the
    /// snapshot's, where that could be read.
    fn behind(&self, subject: Subject, failure: Timestamp) -> Duration {
        let whole = subject == Subject::Objects && self.restored == self.expected;
        match self.newest_write {
            _ if self.restored == 0 => Duration::MAX,
            Some(newest) => failure.since(newest),
            None if whole => Duration::ZERO,
            None => Duration::MAX,
        }
    }

    pub(super) fn new(expected: usize, expected_bytes: u64) -> Self {
        let expected = u64::try_from(expected).unwrap_or(u64::MAX);
        Self { expected, expected_bytes, ..Self::default() }
    }

    /// Enters objects: the lines that were to come back, and those that did,
    /// with the content that they had.
    pub(super) fn with_objects(mut self, lines: &[Line], back: Vec<Line>, planned: &Planned) -> Self {
        let places: BTreeMap<_, usize> =
            lines.iter().enumerate().map(|(at, line)| (line.version, at)).collect();
        let wanted = |line: &&Line| places.get(&line.version).and_then(|at| lines.get(*at)) == Some(*line);
        let right = back.iter().filter(wanted);
        self.restored_bytes = right.clone().map(|line| line.size).sum();
        self.restored = u64::try_from(right.count()).unwrap_or(u64::MAX);
        self.expected_sha256 = sha256_hex(sample_text(lines).as_bytes());
        let mut back = back;
        back.sort_by_key(|line| places.get(&line.version).copied());
        self.restored_sha256 = sha256_hex(sample_text(&back).as_bytes());
        let foreseen = lines.iter().filter(|line| planned.foreseen.contains(&line.version)).count();
        self.foreseen = u64::try_from(foreseen).unwrap_or(u64::MAX);
        self
    }
}

/// A drill whose reading is over.
pub(super) struct Ended {
    pub(super) came: Came,
    pub(super) drawn: Option<Drawn>,
    pub(super) timeline: Timeline,
    pub(super) seen: BTreeMap<String, u64>,
    /// The checkpoint that was remembered before.
    pub(super) remembered: Option<String>,
    pub(super) deviations: Vec<String>,
    /// The shares that opened keys on the way.
    pub(super) shares: Shares,
}

impl Setting<'_> {
    /// Writes, signs, proves and keeps the record.
    pub(super) async fn finish(
        &self,
        planned: &Planned,
        shelf: &Shelf<'_>,
        mut ended: Ended,
        watch: &mut LogWatch,
        conduct: &Conduct,
    ) -> Result<Drilled, DrillError> {
        watch.advance(self.client).await?;
        let after = watch.remembered().unwrap_or_default().to_owned();
        let differences = self.bind(&mut ended.came);
        let listed = std::mem::take(&mut ended.came.listed);
        let sites = u64::try_from(self.client.list_sites().await?.len()).unwrap_or(u64::MAX);
        let mut record =
            self.record(planned, ended, conduct, Results { sites, differences, ..Results::default() });
        record.checkpoint_after = after;
        record.verdicts = record.verdicts_of_numbers();
        self.place_in_history(planned, shelf, &mut record).await?;
        let signed = self.client.sign_drill_statement(&record.to_statement()).await?;
        // What the service returned is checked like anybody else's record.
        let AnyRecord::V2(verified) = verify_any_record(&signed.envelope, &self.party.log_key)? else {
            return Err(DrillError::NoPlan(record.drill));
        };
        let checkpoint = watch.advance(self.client).await?;
        let leaf = watch.leaf(self.client, signed.audit_seq, &checkpoint).await?;
        let note = watch.remembered().unwrap_or_default().to_owned();
        let proof =
            LogProof { leaf: leaf.leaf, index: leaf.index, inclusion: leaf.inclusion, checkpoint: note };
        let proof = proof.to_text();
        shelf.put(&drill_file(&verified.drill, "record.tlog-proof"), proof.clone()).await?;
        shelf.put(&drill_file(&verified.drill, "record.json"), signed.envelope.clone()).await?;
        Ok(Drilled { record: *verified, envelope: signed.envelope, proof, differences: listed })
    }

    /// The differences as a record counts them, bound to the list that stays
    /// with the tenant. A line of chance keeps short lists from being guessed.
    fn bind(&self, came: &mut Came) -> Differences {
        if came.listed.is_empty() {
            return Differences::default();
        }
        came.listed.insert(0, format!("# {}", hex(&self.entropy.sixteen())));
        let text = lines_of(&came.listed);
        Differences {
            count: came.by_class.values().sum(),
            by_class: std::mem::take(&mut came.by_class),
            list_blake3: Some(Digest(*blake3::hash(text.as_bytes()).as_bytes()).to_string()),
        }
    }

    fn record(&self, planned: &Planned, ended: Ended, conduct: &Conduct, results: Results) -> DrillRecordV2 {
        let Ended { came, drawn, timeline, seen, remembered, mut deviations, shares } = ended;
        let plan = planned.plan.clone();
        let declared = timeline.declared();
        let failure = plan.scenario.as_of.as_ref().and_then(super::Moment::timestamp).unwrap_or(declared);
        let behind = came.behind(plan.scope.subject, failure);
        deviations.extend(came.deviations);
        let mut predicted = plan.prediction;
        if plan.scope.subject == Subject::Objects {
            predicted = predicted.of_drawn(came.expected, came.expected_bytes);
            predicted.unrecoverable = came.foreseen;
            predicted.recoverable = came.expected.saturating_sub(came.foreseen);
        }
        DrillRecordV2 {
            drill: plan.drill,
            tenant: plan.tenant,
            plan: PlanNote { sha256: sha256_hex(&planned.bytes), log_index: planned.log_index },
            trigger: plan.trigger,
            people: plan.people,
            scenario: plan.scenario,
            scope: plan.scope,
            drawn,
            promise: plan.promise,
            environment: Environment {
                target: if conduct.keep { "new directory, kept" } else { "new directory, removed" }
                    .to_owned(),
                separation: conduct.separation.clone(),
                max_rate: conduct.max_rate,
            },
            timeline: TimeAxis {
                clock: "the restoring machine: wall clock at the declaration, monotonic clock from there"
                    .to_owned(),
                declared: declared.into(),
                finished: timeline.finished().into(),
                phases: timeline.phases().to_vec(),
            },
            results: Results {
                expected: came.expected,
                expected_bytes: came.expected_bytes,
                restored: came.restored,
                restored_bytes: came.restored_bytes,
                unreadable: came.unreadable,
                failures: came.failures,
                expected_sha256: came.expected_sha256,
                restored_sha256: came.restored_sha256,
                sites_answered: seen,
                ..results
            },
            keys: KeyEvidence { shares, log_key: self.party.log_key.to_string() },
            negative: conduct.negative.clone(),
            predicted,
            measured: Measured::new(timeline.total(), behind),
            deviations,
            verdicts: BTreeMap::new(),
            previous: plan.previous,
            trend: None,
            coverage: None,
            next_due: plan.next_due,
            checkpoint_before: remembered,
            checkpoint_after: String::new(),
            software: Software::this(),
            not_proven: NOT_PROVEN_V2.map(str::to_owned).to_vec(),
        }
    }

    /// Trend, and how much a sampled drill's cycle has restored.
    async fn place_in_history(
        &self,
        planned: &Planned,
        shelf: &Shelf<'_>,
        record: &mut DrillRecordV2,
    ) -> Result<(), DrillError> {
        let scope = &record.scope;
        let related = History::read(shelf, &self.party.log_key).await?.of(&scope.bucket, scope.subject);
        record.trend = related.trend(record.scenario.kind, record.measured.rta_ns);
        if record.drawn.is_some() {
            // Only a satisfied drill covers what it read.
            let now = if record.is_satisfied() { record.results.restored } else { 0 };
            let restored = (scope.covered_before + now).min(scope.objects);
            let left = scope.objects - restored;
            let drills = left.div_ceil(scope.sample.max(1));
            let made = planned.plan.made.timestamp();
            let interval = record.next_due.as_ref().and_then(super::Moment::timestamp).zip(made);
            let whole_by = interval.map(|(due, made)| {
                let each = due.since(made);
                let times = u32::try_from(drills).unwrap_or(u32::MAX);
                made.plus(each.saturating_mul(times)).into()
            });
            record.coverage = Some(Coverage { restored, objects: scope.objects, whole_by });
        }
        Ok(())
    }
}
