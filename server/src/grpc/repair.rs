//! `coffer.v1.Repair`. Operators change sites and repair everything; tenants
//! see where their own versions lie.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::{Operation, Outcome, SiteId, TierCertificate};
use coffer_proto::v1::repair_server::Repair;
use coffer_proto::v1::{
    AddSiteRequest, ChangeSiteRequest, ChangeSiteResponse, CountHoldersRequest, CountHoldersResponse,
    GetRepairStatusRequest, GetRepairStatusResponse, HolderGroup, HolderSite, ListShortRequest,
    ListShortResponse, PlanRepairRequest, PlanRepairResponse, RebalanceRequest, RepairPlan, RepairRound,
    RepairStep, RepairSums, RepairTrouble, RunRepairRequest, RunRepairResponse, SetBucketPolicyRequest,
    SetBucketPolicyResponse, ShardState, ShortVersion, SiteChange, StatShardsRequest, StatShardsResponse,
};
use coffer_proto::{InvalidMessage, bucket_name, object_key, own_or, policy};
use coffer_regions::{Plan, Trouble};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::objects::geometry_text;
use super::status::status;
use super::{Heard, bearer, heard, operator_call, rebalance, tenant_call};
use crate::authorize::Grant;
use crate::bucket::{SetPolicy, set_policy};
use crate::facts::certificate_digest;
use crate::holders::Holders;
use crate::ledger::{StatShards, list_short, stat_shards};
use crate::repair::{RepairBudget, RepairProgress, RepairReport, RepairRun};
use crate::service::Service;
use crate::standing::{SiteChangeError, anyway};

/// The service over gRPC.
pub(crate) struct RepairApi(pub(crate) Arc<Service>);

/// Lines of a plan that are spelled out where nothing else is asked for.
const LINES: u32 = 100;
const LINES_MAX: usize = 10_000;

/// Carries a call to its end, whether its caller waits or not: an intent that is in the log gets its outcome.
async fn to_its_end<T: Send + 'static>(
    call: impl Future<Output = Result<T, Status>> + Send + 'static,
) -> Result<T, Status> {
    let ended = tokio::spawn(call).await;
    ended.unwrap_or_else(|_| Err(Status::unavailable("the service leaves")))
}

impl RepairApi {
    fn own(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// An operator's call, its intent in the log.
    async fn operator<T>(
        &self,
        request: Request<T>,
        operation: Operation,
        subject: impl FnOnce(&T) -> String,
    ) -> Result<(T, Grant), Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let call = operator_call(operation, subject(&wire), wire);
        let (wire, grant) = self.0.authorize(bearer, call).await.map_err(status)?.into_parts();
        grant.tenant().note(&grant.event(&self.0, None, Outcome::Intent)).await.map_err(status)?;
        Ok((wire, grant))
    }

    /// The outcome of an operator's call, as a leaf; the result goes on.
    async fn ended<T, E: super::status::Coded>(
        &self,
        grant: &Grant,
        subject: Option<String>,
        result: Result<T, E>,
    ) -> Result<T, Status> {
        let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
        grant.tenant().note(&grant.event(&self.0, subject, outcome)).await.map_err(status)?;
        result.map_err(status)
    }

    /// The digest of what was declared about a site, for the log.
    fn declaration(&self, change: SiteChange, id: SiteId) -> String {
        let listed = self.0.sites.listed().iter().find(|site| site.address.site.id == id);
        let declared = listed.and_then(|site| site.address.certificate.as_ref());
        let digest = declared.filter(|_| change == SiteChange::Certify).map(certificate_digest);
        digest.and_then(Result::ok).map(|digest| format!(" {digest}")).unwrap_or_default()
    }

    async fn changed(&self, id: SiteId) -> Response<ChangeSiteResponse> {
        let listed = self.0.sites.listed().iter().find(|site| site.address.site.id == id);
        let site = match listed {
            Some(listed) => Some(super::sites::info(&self.0, listed).await),
            None => None,
        };
        Response::new(ChangeSiteResponse { site })
    }
}

/// What the caller declares, in its own name and at this time.
fn declared(
    service: &Service,
    grant: &Grant,
    wire: Option<&coffer_proto::v1::TierCertificate>,
) -> Option<TierCertificate> {
    let wire = wire?;
    Some(TierCertificate {
        issuer: wire.issuer.clone(),
        number: wire.number.clone(),
        tier: wire.tier.parse().ok()?,
        from: wire.from.parse().ok()?,
        until: wire.until.parse().ok()?,
        declared: service.host.clock.now(),
        declared_by: grant.caller.principal,
    })
}

fn plan_message(service: &Service, plan: &Plan, lines: usize) -> RepairPlan {
    let name = |id| service.sites.name(id).to_owned();
    let step = |step: &coffer_regions::Step| RepairStep {
        tenant: step.tenant.as_bytes().to_vec().into(),
        version: step.version.as_bytes().to_vec().into(),
        redundancy: u32::try_from(step.redundancy).unwrap_or(u32::MAX),
        bytes: step.bytes,
        text: step.describe(&name),
    };
    let trouble = |troubled: &coffer_regions::Troubled| RepairTrouble {
        tenant: troubled.tenant.as_bytes().to_vec().into(),
        version: troubled.version.as_bytes().to_vec().into(),
        text: troubled.trouble.describe(&name),
        beyond_repair: matches!(troubled.trouble, Trouble::BeyondRepair { .. }),
    };
    // What is beyond repair is what somebody must know.
    let beyond = |t: &&coffer_regions::Troubled| matches!(t.trouble, Trouble::BeyondRepair { .. });
    let others = plan.troubled.iter().filter(|troubled| !beyond(troubled));
    let troubles = plan.troubled.iter().filter(beyond).chain(others);
    RepairPlan {
        steps: plan.steps.iter().take(lines).map(step).collect(),
        troubles: troubles.take(lines.max(1)).map(trouble).collect(),
        step_count: plan.steps.len() as u64,
        bytes: plan.bytes,
        later_steps: plan.later_steps,
        later_bytes: plan.later_bytes,
        versions: plan.versions,
        versions_short: plan.versions_short,
        out_of_place: plan.out_of_place,
        beyond_repair: plan.beyond_repair,
        waiting: plan.waiting,
    }
}

fn holders(known: Holders) -> CountHoldersResponse {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let place = |name: &String| known.sites.iter().position(|site| site.name == *name).map(number);
    let groups = known.groups.iter().map(|group| HolderGroup {
        needed: number(group.needed),
        sites: group.sites.iter().filter_map(place).collect(),
        versions: group.versions,
    });
    let groups = groups.collect();
    let sites = known.sites.iter().map(|site| HolderSite {
        name: site.name.clone(),
        standing: site.standing.name().to_owned(),
        answers: site.answers,
        held: site.held,
    });
    CountHoldersResponse {
        age_ms: millis(known.age),
        took_ms: millis(known.took),
        groups,
        sites: sites.collect(),
    }
}

fn round(service: &Service, report: &RepairReport) -> RepairRound {
    let mut plan = plan_message(service, &report.plan, LINES_MAX.min(1000));
    plan.steps = Vec::new();
    RepairRound {
        done: report.done,
        failed: report.failed,
        reasons: report.reasons.clone(),
        shards: report.shards,
        read_back: report.read_back,
        copies: report.copies,
        moved: report.moved,
        removed: report.removed,
        small: report.small,
        slots: report.slots,
        plan: Some(plan),
    }
}

fn sums(progress: &RepairProgress) -> RepairSums {
    RepairSums {
        rounds: progress.rounds,
        steps_done: progress.done,
        steps_failed: progress.failed,
        shards_written: progress.shards,
        read_back: progress.read_back,
        bytes_moved: progress.bytes,
        bytes_left: progress.bytes_left,
    }
}

fn budget(bytes: u64) -> RepairBudget {
    let default = RepairBudget::default();
    if bytes == 0 { default } else { RepairBudget { bytes, ..default } }
}

/// How fast: bytes a second, 0 where nothing is said, and whether tenants' calls are regarded.
pub(super) fn run_of(budget_bytes: u64, bytes_per_second: u64, full_speed: bool) -> RepairRun {
    let default = RepairRun::default();
    let bytes_per_second = match (full_speed, bytes_per_second) {
        (_, rate @ 1..) => Some(rate),
        (true, 0) => None,
        (false, 0) => default.bytes_per_second,
    };
    RepairRun { budget: budget(budget_bytes), bytes_per_second, yields: !full_speed }
}

type Messages = mpsc::Sender<Result<RunRepairResponse, Status>>;

/// Runs, and sends how far it is; a caller that goes away does not stop it.
async fn run(service: Arc<Service>, grant: Grant, run: RepairRun, send: Messages) {
    let told = |progress: &RepairProgress| {
        // A caller that reads slowly misses some of them.
        let _ = send.try_send(Ok(RunRepairResponse { sums: Some(sums(progress)), last_round: None }));
    };
    let ended = service.repair(run, &told).await;
    let (outcome, subject) = match &ended {
        Ok((_, sums)) => (
            Outcome::Done,
            format!("{} steps, {} failed, {} read back", sums.done, sums.failed, sums.read_back),
        ),
        Err(_) => (Outcome::Failed, String::new()),
    };
    let noted = grant.tenant().note(&grant.event(&service, Some(subject), outcome)).await;
    let message = match (ended, noted) {
        (Ok((report, progress)), Ok(_)) => {
            Ok(RunRepairResponse { sums: Some(sums(&progress)), last_round: Some(round(&service, &report)) })
        }
        (Err(error), _) => Err(status(error)),
        (_, Err(error)) => Err(status(error)),
    };
    let _ = send.send(message).await;
}

impl RepairApi {
    async fn add_site_now(
        &self,
        request: Request<AddSiteRequest>,
    ) -> Result<Response<ChangeSiteResponse>, Status> {
        let (wire, grant) = self.operator(request, Operation::Sites, |wire| wire.name.clone()).await?;
        let name = (!wire.name.is_empty()).then_some(wire.name.as_str());
        let added = self.0.add_site(&wire.site_file, name).await;
        let subject = added.as_ref().ok().map(|site| format!("added {}", site.id));
        let site = self.ended(&grant, subject, added).await?;
        Ok(self.changed(site.id).await)
    }

    async fn change_site_now(
        &self,
        request: Request<ChangeSiteRequest>,
    ) -> Result<Response<ChangeSiteResponse>, Status> {
        let said = |wire: &ChangeSiteRequest| {
            format!("{}{}", wire.name, anyway(wire.must && wire.change() == SiteChange::Drain))
        };
        let (wire, grant) = self.operator(request, Operation::Sites, said).await?;
        let (name, change) = (wire.name.as_str(), wire.change());
        let changed = match change {
            SiteChange::Drain => self.0.drain(name, false, wire.must, None).await,
            SiteChange::Undrain => self.0.drain_site(name, true).await,
            SiteChange::Retire => self.0.retire_site(name).await,
            SiteChange::Replace => self.0.replace_site(name).await,
            SiteChange::Certify => match declared(&self.0, &grant, wire.certificate.as_ref()) {
                Some(certificate) => self.0.certify_site(name, certificate).await,
                None => Err(SiteChangeError::Certificate),
            },
            SiteChange::Unspecified => Err(SiteChangeError::NoSite(name.to_owned())),
        };
        let word = change.as_str_name().trim_start_matches("SITE_CHANGE_").to_lowercase();
        let must = anyway(wire.must && change == SiteChange::Drain);
        let subject =
            changed.as_ref().ok().map(|id| format!("{word} {id}{must}{}", self.declaration(change, *id)));
        let id = self.ended(&grant, subject, changed).await?;
        Ok(self.changed(id).await)
    }

    async fn plan_repair_now(
        &self,
        request: Request<PlanRepairRequest>,
    ) -> Result<Response<PlanRepairResponse>, Status> {
        let (wire, grant) = self.operator(request, Operation::Repair, |_| "plan".to_owned()).await?;
        let planned = self.0.plan_repair(budget(wire.budget_bytes)).await;
        let plan = self.ended(&grant, None, planned).await?;
        let lines = if wire.lines == 0 { LINES } else { wire.lines };
        let lines = usize::try_from(lines).unwrap_or(LINES_MAX).min(LINES_MAX);
        Ok(Response::new(PlanRepairResponse { plan: Some(plan_message(&self.0, &plan, lines)) }))
    }

    async fn count_holders_now(
        &self,
        request: Request<CountHoldersRequest>,
    ) -> Result<Response<CountHoldersResponse>, Status> {
        let (wire, grant) = self.operator(request, Operation::Repair, |_| "holders".to_owned()).await?;
        let age = Duration::from_millis(wire.max_age_ms);
        let (service, asked) = (Arc::clone(&self.0), self.0.host.clock.monotonic());
        // It ends although its caller has gone: the next one takes what was counted.
        let counted = service.holders_of(asked, age).await;
        let known = self.ended(&grant, None, counted).await?;
        // Something was found to be wrong while it was counted.
        let known =
            known.ok_or_else(|| Status::unavailable("what was counted is not so any more; ask again"))?;
        Ok(Response::new(holders(known)))
    }
}

#[tonic::async_trait]
impl Repair for RepairApi {
    async fn add_site(
        &self,
        request: Request<AddSiteRequest>,
    ) -> Result<Response<ChangeSiteResponse>, Status> {
        let own = self.own();
        to_its_end(async move { own.add_site_now(request).await }).await
    }

    async fn change_site(
        &self,
        request: Request<ChangeSiteRequest>,
    ) -> Result<Response<ChangeSiteResponse>, Status> {
        let own = self.own();
        to_its_end(async move { own.change_site_now(request).await }).await
    }

    async fn plan_repair(
        &self,
        request: Request<PlanRepairRequest>,
    ) -> Result<Response<PlanRepairResponse>, Status> {
        let own = self.own();
        to_its_end(async move { own.plan_repair_now(request).await }).await
    }

    type RebalanceStream = Heard<coffer_proto::v1::RebalanceResponse>;

    async fn rebalance(
        &self,
        request: Request<RebalanceRequest>,
    ) -> Result<Response<Self::RebalanceStream>, Status> {
        let said = |wire: &RebalanceRequest| format!("rebalance{}", if wire.run { "" } else { " plan" });
        let own = self.own();
        to_its_end(async move {
            let (wire, grant) = own.operator(request, Operation::Repair, said).await?;
            Ok(Response::new(rebalance::begin(Arc::clone(&own.0), grant, &wire)))
        })
        .await
    }

    type RunRepairStream = Heard<RunRepairResponse>;

    async fn run_repair(
        &self,
        request: Request<RunRepairRequest>,
    ) -> Result<Response<Self::RunRepairStream>, Status> {
        let (own, (send, messages)) = (self.own(), mpsc::channel(64));
        to_its_end(async move {
            let (wire, grant) = own.operator(request, Operation::Repair, |_| "run".to_owned()).await?;
            let how = run_of(wire.budget_bytes, wire.bytes_per_second, wire.full_speed);
            tokio::spawn(run(Arc::clone(&own.0), grant, how, send));
            Ok(())
        })
        .await?;
        Ok(Response::new(heard(messages)))
    }

    async fn get_repair_status(
        &self,
        request: Request<GetRepairStatusRequest>,
    ) -> Result<Response<GetRepairStatusResponse>, Status> {
        let bearer = bearer(&request);
        let call = operator_call(Operation::Repair, "status".to_owned(), ());
        let ((), grant) = self.0.authorize(bearer, call).await.map_err(status)?.into_parts();
        grant.tenant().note(&grant.event(&self.0, None, Outcome::Done)).await.map_err(status)?;
        let status = self.0.repair_status();
        Ok(Response::new(GetRepairStatusResponse {
            running: status.running,
            sums: Some(sums(&status.progress)),
            began_ns: status.began.map_or(0, |time| time.0),
            ended_ns: status.ended.map_or(0, |time| time.0),
            last_round: status.last.map(|report| round(&self.0, &report)),
            trouble: status.trouble.unwrap_or_default(),
        }))
    }

    async fn count_holders(
        &self,
        request: Request<CountHoldersRequest>,
    ) -> Result<Response<CountHoldersResponse>, Status> {
        let own = self.own();
        to_its_end(async move { own.count_holders_now(request).await }).await
    }

    async fn list_short(
        &self,
        request: Request<ListShortRequest>,
    ) -> Result<Response<ListShortResponse>, Status> {
        let bearer = bearer(&request);
        let tenant = own_or(&request.get_ref().tenant).map_err(status)?;
        let call = tenant_call(Operation::Repair, tenant, "list".to_owned(), ());
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (lines, total) = list_short(&self.0, granted).await.map_err(status)?;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let versions = lines.into_iter().map(|line| ShortVersion {
            bucket: line.row.manifest.bucket.as_bytes().to_vec().into(),
            key: Vec::from(line.row.manifest.key).into(),
            version: line.short.version.as_bytes().to_vec().into(),
            redundancy: number(line.short.redundancy),
            promised: number(line.short.promised),
            why: line.short.why,
        });
        // Well within a message, whatever the keys are.
        Ok(Response::new(ListShortResponse { versions: versions.take(1000).collect(), total }))
    }

    async fn stat_shards(
        &self,
        request: Request<StatShardsRequest>,
    ) -> Result<Response<StatShardsResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let arguments = StatShards {
            bucket: bucket_name(wire.bucket).map_err(status)?,
            key: object_key(&wire.key).map_err(status)?,
            verify: wire.verify,
            first_stripe: wire.first_stripe,
        };
        let call = tenant_call(Operation::ObjectStat, tenant, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let page = stat_shards(&self.0, granted).await.map_err(status)?;
        let state = |line: &crate::ledger::Line| {
            let (stripe, index) = line.shard.unwrap_or_default();
            ShardState {
                copy: line.shard.is_none(),
                stripe,
                index: u32::from(index),
                site: self.0.sites.name(line.site).to_owned(),
                state: line.held.name().to_owned(),
                out_of_place: line.out_of_place,
            }
        };
        Ok(Response::new(StatShardsResponse {
            version: page.row.manifest.version.as_bytes().to_vec().into(),
            geometry: geometry_text(&page.row.manifest.layout),
            states: page.lines.iter().map(state).collect(),
            next_stripe: page.next_stripe,
            redundancy: u32::try_from(page.redundancy).unwrap_or(u32::MAX),
            promised: u32::try_from(page.promised).unwrap_or(u32::MAX),
        }))
    }

    async fn set_bucket_policy(
        &self,
        request: Request<SetBucketPolicyRequest>,
    ) -> Result<Response<SetBucketPolicyResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let wanted = wire.policy.ok_or(InvalidMessage::Missing("policy")).map_err(status)?;
        let arguments = SetPolicy {
            name: bucket_name(wire.name).map_err(status)?,
            policy: policy(wanted).map_err(status)?,
        };
        let call = tenant_call(Operation::BucketPolicy, tenant, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (row, audit_seq) = set_policy(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(SetBucketPolicyResponse { bucket: Some(super::buckets::message(row)), audit_seq }))
    }
}
