//! `coffer.v1.Scrub`. Operators only.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::{Operation, Outcome, SiteId};
use coffer_proto::InvalidMessage;
use coffer_proto::v1::scrub_server::Scrub;
use coffer_proto::v1::{
    GetScrubStatusRequest, GetScrubStatusResponse, RunChallengesRequest, RunChallengesResponse,
    RunScrubRequest, RunScrubResponse, ScrubPass, SiteChallengeInfo, SiteDelay, SiteScrubInfo,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::status::status;
use super::{Heard, bearer, heard, operator_call};
use crate::authorize::Grant;
use crate::jobs::{CompletedPass, Coverage, DelayState, JobError, RunningPass, SiteChallenges, SiteScrub};
use crate::service::Service;

/// Bytes that are read at a site between two messages of a run.
const REPORT_BYTES: u64 = 32 << 20;

/// Most questions of one call at one site.
const ANSWERS_MAX: u32 = 1024;
const ANSWERS: u32 = 16;

/// The service over gRPC.
pub(crate) struct ScrubApi(pub(crate) Arc<Service>);

impl ScrubApi {
    /// The sites that a call is about.
    fn sites(&self, name: &str) -> Result<Vec<SiteId>, JobError> {
        let all = self.0.sites.topology().sites.iter();
        if name.is_empty() {
            Ok(all.map(|site| site.id).collect())
        } else {
            Ok(vec![self.0.site_named(name)?])
        }
    }

    /// Never asked questions by site, and versions without any, over all tenants.
    async fn challenges(&self) -> Result<(BTreeMap<SiteId, u64>, u64), JobError> {
        let (mut fresh, mut bare) = (BTreeMap::new(), 0);
        for tenant in self.0.all_tenants() {
            let counts = tenant.catalog.challenge_counts().await?;
            bare += counts.unchallenged_versions;
            for (site, count) in counts.fresh {
                *fresh.entry(site).or_default() += count;
            }
        }
        Ok((fresh, bare))
    }

    async fn status(&self) -> Result<GetScrubStatusResponse, JobError> {
        let (fresh, unchallenged_versions) = self.challenges().await?;
        let (mut sites, mut kept) = (Vec::new(), true);
        for site in self.0.scrub_status().await? {
            kept &= site.is_kept();
            let challenges = fresh.get(&site.site.id).copied().unwrap_or_default();
            let delay = self.0.delay_state(site.site.id).await?;
            sites.push(info(&site, challenges, delay));
        }
        Ok(GetScrubStatusResponse {
            sites,
            now_ns: self.0.host.clock.now().0,
            promised_seconds: self.0.watch.settings().scrub_within.as_secs(),
            kept,
            unchallenged_versions,
            trouble: self.0.watch.trouble().unwrap_or_default(),
        })
    }

    async fn challenge(
        &self,
        sites: &[SiteId],
        wire: &RunChallengesRequest,
    ) -> Result<Vec<SiteChallenges>, JobError> {
        let answers = if wire.answers == 0 { ANSWERS } else { wire.answers };
        let answers = usize::try_from(answers).unwrap_or(usize::MAX);
        let mut all = Vec::new();
        for site in sites {
            if wire.enrol_delays {
                self.0.enrol_delays(*site).await?;
            }
            all.push(self.0.challenge_site(*site, answers).await?);
        }
        Ok(all)
    }
}

fn info(site: &SiteScrub, challenges: u64, delay: DelayState) -> SiteScrubInfo {
    let age_seconds = match site.coverage {
        Coverage::Kept(age) | Coverage::Slipped(age) => Some(age.as_secs()),
        Coverage::Unknown => None,
    };
    SiteScrubInfo {
        site: site.site.id.as_bytes().to_vec().into(),
        name: site.site.name.clone(),
        kept: site.is_kept(),
        age_seconds,
        last: site.last.map(completed),
        running: site.running.map(running),
        bytes_total: site.bytes_total,
        predicted_end_ns: site.predicted_end.map(|end| end.0),
        at_risk: site.at_risk,
        damaged: site.damaged,
        challenges,
        delay: wire_delay(delay).into(),
    }
}

fn completed(pass: CompletedPass) -> ScrubPass {
    let CompletedPass { started, ended, bytes, records, findings } = pass;
    ScrubPass { started_ns: started.0, ended_ns: ended.0, bytes, records, findings }
}

fn running(pass: RunningPass) -> ScrubPass {
    let RunningPass { started, bytes, records, findings, .. } = pass;
    ScrubPass { started_ns: started.0, ended_ns: 0, bytes, records, findings }
}

fn wire_delay(delay: DelayState) -> SiteDelay {
    match delay {
        DelayState::Learning(_) => SiteDelay::Learning,
        DelayState::AsEnrolled => SiteDelay::AsEnrolled,
        DelayState::Later => SiteDelay::Later,
        DelayState::Indistinct => SiteDelay::Indistinct,
    }
}

type Messages = mpsc::Sender<Result<RunScrubResponse, Status>>;

/// Reads each site to the end of a pass, for as long as somebody listens;
/// whether all of it was read.
async fn read_sites(
    service: &Service,
    sites: &[SiteId],
    anew: bool,
    messages: &Messages,
) -> Result<bool, JobError> {
    let mut whole = true;
    for site in sites {
        if anew {
            service.restart_pass(*site).await?;
        }
        let (mut bytes, mut findings) = (0, 0);
        loop {
            let step = service.scrub_site(*site, REPORT_BYTES).await?;
            bytes += step.bytes;
            findings += step.findings;
            let (pass_ended, answered) = (step.pass_ended, step.answered);
            let name = service.sites.name(*site).to_owned();
            let message = RunScrubResponse { name, bytes, findings, pass_ended, answered };
            if messages.send(Ok(message)).await.is_err() || service.watch.is_leaving() {
                return Ok(false);
            }
            whole &= answered;
            if pass_ended || !answered {
                break;
            }
        }
    }
    Ok(whole)
}

async fn run(service: Arc<Service>, grant: Grant, sites: Vec<SiteId>, anew: bool, messages: Messages) {
    let read = read_sites(&service, &sites, anew, &messages).await;
    let outcome = if matches!(read, Ok(true)) { Outcome::Done } else { Outcome::Failed };
    let noted = grant.tenant().note(&grant.event(&service, None, outcome)).await;
    for error in [read.err().map(status), noted.err().map(status)].into_iter().flatten() {
        // Nobody listens any more; the leaf was written.
        let _ = messages.send(Err(error)).await;
    }
}

#[tonic::async_trait]
impl Scrub for ScrubApi {
    type RunScrubStream = Heard<RunScrubResponse>;

    async fn get_scrub_status(
        &self,
        request: Request<GetScrubStatusRequest>,
    ) -> Result<Response<GetScrubStatusResponse>, Status> {
        let call = operator_call(Operation::Scrub, String::new(), ());
        let granted = self.0.authorize(bearer(&request), call).await.map_err(status)?;
        let ((), grant) = granted.into_parts();
        let event = grant.event(&self.0, None, Outcome::Done);
        grant.tenant().note(&event).await.map_err(status)?;
        Ok(Response::new(self.status().await.map_err(status)?))
    }

    async fn run_scrub(
        &self,
        request: Request<RunScrubRequest>,
    ) -> Result<Response<Self::RunScrubStream>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let subject = self.0.site_named(&wire.name).map(|site| site.to_string()).unwrap_or_default();
        let call = operator_call(Operation::Scrub, subject, wire);
        let (wire, grant) = self.0.authorize(bearer, call).await.map_err(status)?.into_parts();
        let intent = grant.event(&self.0, None, Outcome::Intent);
        grant.tenant().note(&intent).await.map_err(status)?;
        let sites = grant.settled(&self.0, self.sites(&wire.name)).await.map_err(status)?;
        let (messages, received) = mpsc::channel(1);
        tokio::spawn(run(Arc::clone(&self.0), grant, sites, wire.anew, messages));
        Ok(Response::new(heard(received)))
    }

    async fn run_challenges(
        &self,
        request: Request<RunChallengesRequest>,
    ) -> Result<Response<RunChallengesResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let subject = self.0.site_named(&wire.name).map(|site| site.to_string()).unwrap_or_default();
        let call = operator_call(Operation::Challenge, subject, wire);
        let (wire, grant) = self.0.authorize(bearer, call).await.map_err(status)?.into_parts();
        let intent = grant.event(&self.0, None, Outcome::Intent);
        grant.tenant().note(&intent).await.map_err(status)?;
        if wire.answers > ANSWERS_MAX {
            grant.tenant().note(&grant.event(&self.0, None, Outcome::Failed)).await.map_err(status)?;
            return Err(status(InvalidMessage::OverLimit("answers")));
        }
        let asked = match self.sites(&wire.name) {
            Ok(sites) => self.challenge(&sites, &wire).await,
            Err(error) => Err(error),
        };
        let asked = grant.settled(&self.0, asked).await.map_err(status)?;
        let done = grant.event(&self.0, None, Outcome::Done);
        grant.tenant().note(&done).await.map_err(status)?;
        let sites = asked.into_iter().map(|site| SiteChallengeInfo {
            site: site.site.as_bytes().to_vec().into(),
            name: self.0.sites.name(site.site).to_owned(),
            answered: site.answered,
            right: site.right,
            failed: site.failed.iter().map(|record| record.as_bytes().to_vec().into()).collect(),
            repeats: site.repeated,
            delay: wire_delay(site.delay).into(),
        });
        Ok(Response::new(RunChallengesResponse { sites: sites.collect() }))
    }
}
