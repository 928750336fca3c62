//! How long each site takes to answer: learned at enrolment, held against
//! every later round, and never adapted without an operator.

use std::collections::BTreeMap;
use std::time::Duration;

use coffer_model::SiteId;
use coffer_regions::{BASELINE_MAX, BASELINE_MIN, Baseline, DelayVerdict, RoundPlan};
use serde::{Deserialize, Serialize};
use tokio::sync::{MappedMutexGuard, MutexGuard};

use super::JobError;
use crate::service::Service;

/// The kind of the facts that hold the baselines, in the service's own realm.
const FACT: &str = "delay";

/// The only format of a baseline so far.
const FORMAT: u32 = 1;

/// What a relay adds at least: bytes that come from another country.
pub(super) const ADDED: Duration = Duration::from_millis(20);

/// What is known of a site's delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayState {
    /// So many answers of its enrolment were measured; more are needed.
    Learning(usize),
    /// Its answers come as they did at enrolment.
    AsEnrolled,
    /// They come later: it fetches them, or its line changed; an operator
    /// looks, and confirms a new baseline or does not.
    Later,
    /// Its delays scatter too much to tell.
    Indistinct,
}

/// As it is stored: `server/LEDGERS.md`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    micros: Vec<u64>,
    later: bool,
}

/// The delays of one site.
#[derive(Default)]
pub(super) struct SiteDelay {
    learned: Vec<Duration>,
    plan: Option<RoundPlan>,
    /// Answers since the last verdict.
    window: Vec<Duration>,
    later: bool,
}

/// The delays of all sites.
#[derive(Default)]
pub(super) struct Delays(BTreeMap<SiteId, SiteDelay>);

impl SiteDelay {
    fn parse(body: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(body).ok()?;
        if stored.format != FORMAT || stored.micros.len() > BASELINE_MAX {
            return None;
        }
        let learned = stored.micros.into_iter().map(Duration::from_micros).collect();
        let mut delay = Self { learned, later: stored.later, ..Self::default() };
        delay.make_plan();
        Some(delay)
    }

    fn stored(&self) -> Result<Vec<u8>, JobError> {
        let micros = |delay: &Duration| u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let micros = self.learned.iter().map(micros).collect();
        let stored = Stored { format: FORMAT, micros, later: self.later };
        serde_json::to_vec(&stored).map_err(|_| JobError::Serialise)
    }

    fn make_plan(&mut self) {
        let baseline = Baseline::learn(self.learned.clone());
        self.plan = baseline.and_then(|baseline| baseline.plan(ADDED)).ok();
    }

    /// How many answers the next round should have.
    pub(super) fn wanted(&self, least: usize) -> usize {
        self.plan.map_or(least, |plan| least.max(plan.answers()))
    }

    pub(super) fn state(&self) -> DelayState {
        match self.plan {
            Some(_) if self.later => DelayState::Later,
            Some(_) => DelayState::AsEnrolled,
            None if self.learned.len() >= BASELINE_MAX => DelayState::Indistinct,
            None => DelayState::Learning(self.learned.len()),
        }
    }

    /// Takes the delays of right answers; the verdict on the last whole round
    /// that they complete.
    pub(super) fn take(&mut self, delays: &[Duration]) -> Option<DelayVerdict> {
        let mut verdict = None;
        for delay in delays {
            let Some(plan) = self.plan else {
                if self.learned.len() < BASELINE_MAX {
                    self.learned.push(*delay);
                    // Between the least and the most, every eighth of the way is tried.
                    let more = self.learned.len().checked_sub(BASELINE_MIN);
                    if more.is_some_and(|more| more % (BASELINE_MIN / 2) == 0) {
                        self.make_plan();
                    }
                }
                continue;
            };
            self.window.push(*delay);
            if let Some(judged) = plan.judge(&self.window) {
                self.later = judged == DelayVerdict::Later;
                verdict = Some(judged);
                self.window.clear();
            }
        }
        verdict
    }
}

impl Service {
    /// The delays, read from the catalogue at the first call.
    async fn delays(&self) -> Result<MappedMutexGuard<'_, Delays>, JobError> {
        let mut delays = self.watch.delays.lock().await;
        if delays.is_none() {
            let realm = self.service_realm().ok_or(JobError::NoRealm)?;
            let stored = realm.catalog.facts(FACT).await?.into_iter();
            let known =
                stored.filter_map(|(id, body)| Some((SiteId::from_bytes(id), SiteDelay::parse(&body)?)));
            *delays = Some(Delays(known.collect()));
        }
        MutexGuard::try_map(delays, Option::as_mut).map_err(|_| JobError::NoRealm)
    }

    /// How many answers the next round at a site should have.
    pub(super) async fn answers_wanted(&self, site: SiteId, least: usize) -> Result<usize, JobError> {
        Ok(self.delays().await?.0.entry(site).or_default().wanted(least))
    }

    /// Takes the delays of right answers in, and keeps what they came to.
    pub(super) async fn take_delays(
        &self,
        site: SiteId,
        measured: &[Duration],
    ) -> Result<(Option<DelayVerdict>, DelayState), JobError> {
        let mut delays = self.delays().await?;
        let delay = delays.0.entry(site).or_default();
        let before = (delay.learned.len(), delay.later);
        let verdict = delay.take(measured);
        if (delay.learned.len(), delay.later) != before {
            self.keep(site, delay).await?;
        }
        Ok((verdict, delay.state()))
    }

    async fn keep(&self, site: SiteId, delay: &SiteDelay) -> Result<(), JobError> {
        let realm = self.service_realm().ok_or(JobError::NoRealm)?;
        Ok(realm.catalog.put_fact(FACT, *site.as_bytes(), delay.stored()?).await?)
    }

    /// What is known of a site's delay.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn delay_state(&self, site: SiteId) -> Result<DelayState, JobError> {
        Ok(self.delays().await?.0.entry(site).or_default().state())
    }

    /// Learns the delays of a site anew from its next answers: for an operator
    /// who has looked why they changed.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn enrol_delays(&self, site: SiteId) -> Result<(), JobError> {
        let mut delays = self.delays().await?;
        let delay = delays.0.entry(site).or_default();
        *delay = SiteDelay::default();
        self.keep(site, delay).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(millis: u64, count: usize) -> Vec<Duration> {
        vec![Duration::from_millis(millis); count]
    }

    #[test]
    fn what_was_learned_stays_whatever_comes_later() {
        let mut delay = SiteDelay::default();
        assert_eq!(delay.take(&some(2, 255)), None);
        assert_eq!(delay.state(), DelayState::Learning(255));
        delay.take(&some(2, 1));
        assert_eq!(delay.state(), DelayState::AsEnrolled);
        for millis in 3..40 {
            delay.take(&some(millis, 160));
        }
        assert_eq!((delay.state(), delay.learned.len()), (DelayState::Later, 256));
        assert_eq!(delay.take(&some(2, 16)), Some(DelayVerdict::AsEnrolled));
        assert_eq!(delay.state(), DelayState::AsEnrolled);
    }

    #[test]
    fn a_baseline_is_read_back_with_its_verdict_and_a_foreign_one_is_none() {
        let mut delay = SiteDelay::default();
        delay.take(&some(2, 256));
        delay.take(&some(30, 16));
        let stored = delay.stored().unwrap();
        let back = SiteDelay::parse(&stored).unwrap();
        assert_eq!((back.state(), back.learned), (DelayState::Later, delay.learned));
        let newer = String::from_utf8(stored).unwrap().replace("\"format\":1", "\"format\":2");
        assert!(SiteDelay::parse(newer.as_bytes()).is_none());
        assert!(SiteDelay::parse(b"{}").is_none());
    }

    #[test]
    fn what_scatters_from_minute_to_minute_is_indistinct_in_the_end() {
        let mut delay = SiteDelay::default();
        let scattered: Vec<Duration> = (0..2000).map(|n| Duration::from_millis(n * 37 % 1000)).collect();
        delay.take(&scattered);
        assert_eq!(delay.state(), DelayState::Indistinct);
    }
}
