//! Scrub and challenges: whether the sites hold what they were given. For
//! operators.

use std::time::Duration;

use coffer_model::{RecordId, SiteId, Timestamp};
use coffer_proto::v1;

use crate::Client;
use crate::call::{CallError, bad_answer, repeat};

/// A pass over a site, whole or under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPassInfo {
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None`: it is under way.
    pub ended: Option<Timestamp>,
    /// Bytes of bodies, read and verified.
    pub bytes: u64,
    /// Records.
    pub records: u64,
    /// Damage found.
    pub findings: u64,
}

/// What the delays of a site say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteDelayInfo {
    /// Too few answers were measured.
    Learning,
    /// They come as they did at enrolment.
    AsEnrolled,
    /// They come later: the site fetches what it is asked for, or its line
    /// changed.
    Later,
    /// They scatter too much to tell.
    Indistinct,
}

/// How the promise stands at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteScrubInfo {
    /// Its id.
    pub site: SiteId,
    /// Its name.
    pub name: String,
    /// Whether every byte is shown to have been verified in time.
    pub kept: bool,
    /// Since the oldest byte can have been verified; `None`: unknown.
    pub age: Option<Duration>,
    /// The last whole pass.
    pub last: Option<ScrubPassInfo>,
    /// The pass under way.
    pub running: Option<ScrubPassInfo>,
    /// Bytes of bodies that there are to read.
    pub bytes_total: u64,
    /// When the pass under way ends at its rate.
    pub predicted_end: Option<Timestamp>,
    /// Whether that will be too late.
    pub at_risk: bool,
    /// Records known to be wrong.
    pub damaged: u64,
    /// Questions that the site has not seen.
    pub challenges: u64,
    /// What its delays say.
    pub delay: SiteDelayInfo,
}

/// How the promise stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubStatusInfo {
    /// Each site, in the order of the topology.
    pub sites: Vec<SiteScrubInfo>,
    /// The service's time.
    pub now: Timestamp,
    /// Within which time every byte is to be verified.
    pub promised: Duration,
    /// Whether that is shown for every site.
    pub kept: bool,
    /// Striped versions of which a shard has no challenge.
    pub unchallenged_versions: u64,
    /// Why the last step of a background job failed.
    pub trouble: Option<String>,
}

/// How far a scrub that was asked for is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubStepInfo {
    /// The site.
    pub name: String,
    /// Bytes since the call began.
    pub bytes: u64,
    /// Damage since the call began.
    pub findings: u64,
    /// Whether the pass ended.
    pub pass_ended: bool,
    /// Whether the site answers.
    pub answered: bool,
}

/// What a round of challenges brought at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteChallengeInfo {
    /// Its name.
    pub name: String,
    /// Whether it answered.
    pub answered: bool,
    /// Right answers.
    pub right: u64,
    /// Records for which it had no answer, or a wrong one.
    pub failed: Vec<RecordId>,
    /// Questions that it had seen before.
    pub repeats: u64,
    /// What its delays say.
    pub delay: SiteDelayInfo,
}

/// What to ask for in a round of challenges.
#[derive(Clone, Debug, Default)]
pub struct ChallengeRequest {
    /// The site; `None`: every one.
    pub site: Option<String>,
    /// How many questions; `None`: the service's own number.
    pub answers: Option<u32>,
    /// Learn the delays anew.
    pub enrol_delays: bool,
}

fn pass(wire: v1::ScrubPass) -> ScrubPassInfo {
    let v1::ScrubPass { started_ns, ended_ns, bytes, records, findings } = wire;
    let ended = (ended_ns > 0).then_some(Timestamp(ended_ns));
    ScrubPassInfo { started: Timestamp(started_ns), ended, bytes, records, findings }
}

fn delay(wire: v1::SiteDelay) -> Result<SiteDelayInfo, CallError> {
    match wire {
        v1::SiteDelay::Learning => Ok(SiteDelayInfo::Learning),
        v1::SiteDelay::AsEnrolled => Ok(SiteDelayInfo::AsEnrolled),
        v1::SiteDelay::Later => Ok(SiteDelayInfo::Later),
        v1::SiteDelay::Indistinct => Ok(SiteDelayInfo::Indistinct),
        v1::SiteDelay::Unspecified => Err(bad_answer("a delay that is not specified")),
    }
}

fn site(wire: v1::SiteScrubInfo) -> Result<SiteScrubInfo, CallError> {
    Ok(SiteScrubInfo {
        site: SiteId::try_from(wire.site.as_ref()).map_err(bad_answer)?,
        delay: delay(wire.delay())?,
        name: wire.name,
        kept: wire.kept,
        age: wire.age_seconds.map(Duration::from_secs),
        last: wire.last.map(pass),
        running: wire.running.map(pass),
        bytes_total: wire.bytes_total,
        predicted_end: wire.predicted_end_ns.map(Timestamp),
        at_risk: wire.at_risk,
        damaged: wire.damaged,
        challenges: wire.challenges,
    })
}

fn challenged(wire: v1::SiteChallengeInfo) -> Result<SiteChallengeInfo, CallError> {
    let delay = delay(wire.delay())?;
    let failed = wire.failed.iter().map(|id| RecordId::try_from(id.as_ref()).map_err(bad_answer));
    Ok(SiteChallengeInfo {
        failed: failed.collect::<Result<_, _>>()?,
        delay,
        name: wire.name,
        answered: wire.answered,
        right: wire.right,
        repeats: wire.repeats,
    })
}

impl Client {
    /// How far each site was read, and whether that keeps the promise.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn scrub_status(&self) -> Result<ScrubStatusInfo, CallError> {
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let answer = self.scrub_calls().get_scrub_status(v1::GetScrubStatusRequest {}).await;
            answer.map_err(|status| CallError::from_status(&status))
        });
        let wire = answer.await?.into_inner();
        Ok(ScrubStatusInfo {
            sites: wire.sites.into_iter().map(site).collect::<Result<_, _>>()?,
            now: Timestamp(wire.now_ns),
            promised: Duration::from_secs(wire.promised_seconds),
            kept: wire.kept,
            unchallenged_versions: wire.unchallenged_versions,
            trouble: Some(wire.trouble).filter(|text| !text.is_empty()),
        })
    }

    /// Reads one site, or every one, to the end of a pass, and tells `progress`
    /// how far it is. Takes as long as that takes.
    ///
    /// # Errors
    /// [`CallError`]; what was read until then stays read.
    pub async fn run_scrub(
        &self,
        name: Option<&str>,
        anew: bool,
        mut progress: impl FnMut(ScrubStepInfo),
    ) -> Result<(), CallError> {
        let request = v1::RunScrubRequest { name: name.unwrap_or_default().to_owned(), anew };
        let failed = |status: tonic::Status| CallError::from_status(&status);
        let mut messages = self.scrub_calls().run_scrub(request).await.map_err(failed)?.into_inner();
        while let Some(wire) = messages.message().await.map_err(failed)? {
            let v1::RunScrubResponse { name, bytes, findings, pass_ended, answered } = wire;
            progress(ScrubStepInfo { name, bytes, findings, pass_ended, answered });
        }
        Ok(())
    }

    /// Asks one site, or every one, what only holders of shards can answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn run_challenges(
        &self,
        request: &ChallengeRequest,
    ) -> Result<Vec<SiteChallengeInfo>, CallError> {
        let wire = v1::RunChallengesRequest {
            name: request.site.clone().unwrap_or_default(),
            answers: request.answers.unwrap_or_default(),
            enrol_delays: request.enrol_delays,
        };
        // As long as the slowest site takes; not repeated, for questions are asked once.
        let answer = self.scrub_calls().run_challenges(wire).await;
        let sites = answer.map_err(|status| CallError::from_status(&status))?.into_inner().sites;
        sites.into_iter().map(challenged).collect()
    }
}
