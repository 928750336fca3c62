//! Repair, where shards lie, and sites that come and go: the operator's calls
//! and the tenant's.

use coffer_model::{
    BucketId, BucketName, Day, ObjectKey, ResidencyPolicy, TenantId, Tier, Timestamp, VersionId,
};
use coffer_proto::{policy_message, v1};

use crate::buckets::{self, BucketInfo};
use crate::call::{CallError, bad_answer, once, repeat};
use crate::connect::Client;
use crate::sites::{self, SiteInfo};

/// What is to become of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteChange {
    /// It takes no new data; what it holds moves away.
    Drain,
    /// It takes data again.
    Undrain,
    /// Drained, it goes for good.
    Retire,
    /// Its disk is lost, and a new, empty one takes its place.
    Replace,
}

/// The certificate of the tier of a building, as an operator declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredCertificate {
    /// Who certified.
    pub issuer: String,
    /// Its number there.
    pub number: String,
    /// Which tier.
    pub tier: Tier,
    /// First day of its validity.
    pub from: Day,
    /// Last day of its validity.
    pub until: Day,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairStep {
    /// Whose version.
    pub tenant: TenantId,
    /// Which version.
    pub version: VersionId,
    /// Losses that what it is about survives now.
    pub redundancy: u32,
    /// Bytes to be read and written.
    pub bytes: u64,
    /// The step as a sentence.
    pub text: String,
}

/// A version that a plan does not make whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairTrouble {
    /// Whose version.
    pub tenant: TenantId,
    /// Which version.
    pub version: VersionId,
    /// Why, as a sentence.
    pub text: String,
    /// Whether no site can bring it back.
    pub beyond_repair: bool,
}

/// What a round of repair would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairPlan {
    /// The first steps, most urgent first.
    pub steps: Vec<RepairStep>,
    /// The first versions in trouble, those beyond repair before others.
    pub troubles: Vec<RepairTrouble>,
    /// All steps of the round.
    pub step_count: u64,
    /// Bytes that they read and write.
    pub bytes: u64,
    /// Steps that the budget leaves for later.
    pub later_steps: u64,
    /// Bytes of those.
    pub later_bytes: u64,
    /// Versions that were looked at.
    pub versions: u64,
    /// Versions that are not as they should be.
    pub versions_short: u64,
    /// Records where they should not lie.
    pub out_of_place: u64,
    /// Versions beyond repair.
    pub beyond_repair: u64,
    /// Versions that wait for a silent site.
    pub waiting: u64,
}

/// How far a repair is, over all its rounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairSums {
    /// Rounds begun.
    pub rounds: u32,
    /// Steps taken to their end.
    pub steps_done: u64,
    /// Steps that failed.
    pub steps_failed: u64,
    /// Shards written and read back.
    pub shards_written: u64,
    /// Records read back and found right.
    pub read_back: u64,
    /// Bytes read and written.
    pub bytes_moved: u64,
    /// Bytes that the current plan still has, later rounds included.
    pub bytes_left: u64,
}

/// What the last round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairRound {
    /// Steps taken to their end.
    pub done: u64,
    /// Steps that failed.
    pub failed: u64,
    /// Why, for the first few.
    pub reasons: Vec<String>,
    /// Shards written.
    pub shards: u64,
    /// Records read back.
    pub read_back: u64,
    /// Manifest records written.
    pub copies: u64,
    /// Versions with a new layout.
    pub moved: u64,
    /// Records removed from where they should not lie.
    pub removed: u64,
    /// Tombstones, facts and log runs that sites had missed.
    pub small: u64,
    /// Key slots that sites had missed.
    pub slots: u64,
    /// Its plan, without the steps.
    pub plan: RepairPlan,
}

/// The repair of this service's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairStatus {
    /// Whether one is under way.
    pub running: bool,
    /// The sums of the latest one.
    pub sums: RepairSums,
    /// When it began.
    pub began: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The last round that ended.
    pub last_round: Option<RepairRound>,
    /// Why the latest one broke off, if it did.
    pub trouble: Option<String>,
}

/// How a repair is to be run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// About so many bytes in one round; zero: the service's default.
    pub budget_bytes: u64,
    /// At most so many bytes a second; zero: the service's default.
    pub bytes_per_second: u64,
    /// As fast as it goes, without regard for the calls of tenants.
    pub full_speed: bool,
}

/// A version that has less than was promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortVersion {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: ObjectKey,
    /// Which version.
    pub version: VersionId,
    /// Losses that it survives now.
    pub redundancy: u32,
    /// Losses that it was promised to survive.
    pub promised: u32,
    /// What keeps it from being whole; nothing: a repair makes it so.
    pub why: Vec<String>,
}

/// One record of a version at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardState {
    /// Stripe and index; `None`: a copy of the manifest record.
    pub shard: Option<(u32, u32)>,
    /// The site's name.
    pub site: String,
    /// `verified`, `listed`, `missing`, `damaged`, `silent` or `quarantined`, or
    /// what a later service says: whatever is not one of the first two does not count.
    pub state: String,
    /// Whether layout or policy want it elsewhere.
    pub out_of_place: bool,
}

/// Where every record of a version lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardLedger {
    /// Which version.
    pub version: VersionId,
    /// `4+2`, or `whole x 3`.
    pub geometry: String,
    /// The records.
    pub states: Vec<ShardState>,
    /// Losses that it survives as it was found.
    pub redundancy: u32,
    /// Losses that it was promised to survive.
    pub promised: u32,
}

fn plan(message: v1::RepairPlan) -> Result<RepairPlan, CallError> {
    let step = |step: v1::RepairStep| {
        Ok(RepairStep {
            tenant: coffer_proto::id("tenant", &step.tenant).map_err(bad_answer)?,
            version: coffer_proto::id("version", &step.version).map_err(bad_answer)?,
            redundancy: step.redundancy,
            bytes: step.bytes,
            text: step.text,
        })
    };
    let trouble = |trouble: v1::RepairTrouble| {
        Ok(RepairTrouble {
            tenant: coffer_proto::id("tenant", &trouble.tenant).map_err(bad_answer)?,
            version: coffer_proto::id("version", &trouble.version).map_err(bad_answer)?,
            text: trouble.text,
            beyond_repair: trouble.beyond_repair,
        })
    };
    Ok(RepairPlan {
        steps: message.steps.into_iter().map(step).collect::<Result<_, CallError>>()?,
        troubles: message.troubles.into_iter().map(trouble).collect::<Result<_, CallError>>()?,
        step_count: message.step_count,
        bytes: message.bytes,
        later_steps: message.later_steps,
        later_bytes: message.later_bytes,
        versions: message.versions,
        versions_short: message.versions_short,
        out_of_place: message.out_of_place,
        beyond_repair: message.beyond_repair,
        waiting: message.waiting,
    })
}

fn sums(message: v1::RepairSums) -> RepairSums {
    RepairSums {
        rounds: message.rounds,
        steps_done: message.steps_done,
        steps_failed: message.steps_failed,
        shards_written: message.shards_written,
        read_back: message.read_back,
        bytes_moved: message.bytes_moved,
        bytes_left: message.bytes_left,
    }
}

fn round(message: v1::RepairRound) -> Result<RepairRound, CallError> {
    Ok(RepairRound {
        done: message.done,
        failed: message.failed,
        reasons: message.reasons,
        shards: message.shards,
        read_back: message.read_back,
        copies: message.copies,
        moved: message.moved,
        removed: message.removed,
        small: message.small,
        slots: message.slots,
        plan: plan(message.plan.unwrap_or_default())?,
    })
}

impl Client {
    /// Adds a site of a site file: the one of that name, or the only new one.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn add_site(&self, site_file: &str, name: Option<&str>) -> Result<SiteInfo, CallError> {
        let name = name.unwrap_or_default().to_owned();
        let request = v1::AddSiteRequest { site_file: site_file.to_owned(), name };
        let answer =
            once(self, || async { self.repair_calls().add_site(request.clone()).await }).await?.into_inner();
        sites::info(answer.site.ok_or_else(|| bad_answer("no site"))?)
    }

    /// Changes what is wanted of a site.
    ///
    /// # Errors
    /// [`CallError::Precondition`] if its standing, or a policy, forbids it.
    pub async fn change_site(&self, name: &str, change: SiteChange) -> Result<SiteInfo, CallError> {
        let change = match change {
            SiteChange::Drain => v1::SiteChange::Drain,
            SiteChange::Undrain => v1::SiteChange::Undrain,
            SiteChange::Retire => v1::SiteChange::Retire,
            SiteChange::Replace => v1::SiteChange::Replace,
        };
        self.send_change(v1::ChangeSiteRequest {
            name: name.to_owned(),
            change: change.into(),
            ..Default::default()
        })
        .await
    }

    pub(crate) async fn send_change(&self, request: v1::ChangeSiteRequest) -> Result<SiteInfo, CallError> {
        let answer = once(self, || async { self.repair_calls().change_site(request.clone()).await })
            .await?
            .into_inner();
        sites::info(answer.site.ok_or_else(|| bad_answer("no site"))?)
    }

    /// Declares the certificate of the tier of a site's building, as its
    /// operator; the service adds who declared it, and when.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn certify_site(
        &self,
        name: &str,
        certificate: DeclaredCertificate,
    ) -> Result<SiteInfo, CallError> {
        let DeclaredCertificate { issuer, number, tier, from, until } = certificate;
        let certificate = v1::TierCertificate {
            issuer,
            number,
            tier: tier.to_string(),
            from: from.to_string(),
            until: until.to_string(),
        };
        let (name, change) = (name.to_owned(), v1::SiteChange::Certify.into());
        let certificate = Some(certificate);
        self.send_change(v1::ChangeSiteRequest { name, change, certificate, must: false }).await
    }

    /// What a round of repair would do now, with its first `lines` spelled out.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn plan_repair(&self, budget_bytes: u64, lines: u32) -> Result<RepairPlan, CallError> {
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let request = v1::PlanRepairRequest { budget_bytes, lines };
            let answer = self.repair_calls().plan_repair(request).await;
            answer.map_err(|status| CallError::from_status(&status))
        });
        plan(answer.await?.into_inner().plan.ok_or_else(|| bad_answer("no plan"))?)
    }

    /// Runs a repair and tells how far it is; it goes on if this is dropped.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn run_repair(
        &self,
        options: RepairOptions,
        mut told: impl FnMut(&RepairSums),
    ) -> Result<(RepairSums, RepairRound), CallError> {
        let RepairOptions { budget_bytes, bytes_per_second, full_speed } = options;
        let request = v1::RunRepairRequest { budget_bytes, bytes_per_second, full_speed };
        let mut stream =
            once(self, || async { self.repair_calls().run_repair(request).await }).await?.into_inner();
        let mut last = None;
        while let Some(message) = stream.message().await.map_err(|status| CallError::from_status(&status))? {
            let so_far = sums(message.sums.unwrap_or_default());
            told(&so_far);
            if let Some(ended) = message.last_round {
                last = Some((so_far, round(ended)?));
            }
        }
        last.ok_or_else(|| CallError::Unavailable("the service stopped while it repaired".to_owned()))
    }

    /// How the repair is doing that is under way, or was last.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn repair_status(&self) -> Result<RepairStatus, CallError> {
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let request = v1::GetRepairStatusRequest {};
            let answer = self.repair_calls().get_repair_status(request).await;
            answer.map_err(|status| CallError::from_status(&status))
        })
        .await?
        .into_inner();
        let time = |nanos: u64| (nanos > 0).then_some(Timestamp(nanos));
        Ok(RepairStatus {
            running: answer.running,
            sums: sums(answer.sums.unwrap_or_default()),
            began: time(answer.began_ns),
            ended: time(answer.ended_ns),
            last_round: answer.last_round.map(round).transpose()?,
            trouble: Some(answer.trouble).filter(|text| !text.is_empty()),
        })
    }

    /// The tenant's versions that have less than was promised, and how many
    /// there are altogether.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_short(&self) -> Result<(Vec<ShortVersion>, u64), CallError> {
        // It looks at everything that the sites list.
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let answer = self.repair_calls().list_short(v1::ListShortRequest::default()).await;
            answer.map_err(|status| CallError::from_status(&status))
        })
        .await?
        .into_inner();
        let version = |short: v1::ShortVersion| {
            Ok(ShortVersion {
                bucket: coffer_proto::id("bucket", &short.bucket).map_err(bad_answer)?,
                key: coffer_proto::object_key(&short.key).map_err(bad_answer)?,
                version: coffer_proto::id("version", &short.version).map_err(bad_answer)?,
                redundancy: short.redundancy,
                promised: short.promised,
                why: short.why,
            })
        };
        let versions = answer.versions.into_iter().map(version).collect::<Result<_, CallError>>()?;
        Ok((versions, answer.total))
    }

    /// Where every record of the newest version of a key lies, as its sites
    /// list it; with `verify`, as they give it back.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn stat_shards(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        verify: bool,
    ) -> Result<ShardLedger, CallError> {
        let mut ledger: Option<ShardLedger> = None;
        let mut first_stripe = 0;
        loop {
            let request = v1::StatShardsRequest {
                tenant: Vec::new().into(),
                bucket: bucket.to_string(),
                key: key.as_bytes().to_vec().into(),
                verify,
                first_stripe,
            };
            // A page that is verified reads every shard of its stripes.
            let page = repeat(&self.patience, self.entropy.as_ref(), || async {
                let page = self.repair_calls().stat_shards(request.clone()).await;
                page.map_err(|status| CallError::from_status(&status))
            })
            .await?
            .into_inner();
            let version = coffer_proto::id("version", &page.version).map_err(bad_answer)?;
            let state = |state: v1::ShardState| ShardState {
                shard: (!state.copy).then_some((state.stripe, state.index)),
                site: state.site,
                state: state.state,
                out_of_place: state.out_of_place,
            };
            let states = page.states.into_iter().map(state);
            match &mut ledger {
                // The copies are told again with each page.
                Some(ledger) if ledger.version != version => {
                    return Err(bad_answer("the object was overwritten meanwhile; ask again"));
                }
                Some(ledger) => {
                    ledger.states.extend(states.filter(|state| state.shard.is_some()));
                    ledger.redundancy = ledger.redundancy.min(page.redundancy);
                }
                None => {
                    ledger = Some(ShardLedger {
                        version,
                        geometry: page.geometry,
                        states: states.collect(),
                        redundancy: page.redundancy,
                        promised: page.promised,
                    });
                }
            }
            if page.next_stripe <= first_stripe {
                return ledger.ok_or_else(|| bad_answer("no version"));
            }
            first_stripe = page.next_stripe;
        }
    }

    /// Gives a bucket another policy; repair moves what must move.
    ///
    /// # Errors
    /// [`CallError::Precondition`] if the sites cannot satisfy it.
    pub async fn set_bucket_policy(
        &self,
        name: &BucketName,
        policy: &ResidencyPolicy,
    ) -> Result<BucketInfo, CallError> {
        let request = v1::SetBucketPolicyRequest {
            tenant: Vec::new().into(),
            name: name.to_string(),
            policy: Some(policy_message(policy)),
        };
        let answer = once(self, || async { self.repair_calls().set_bucket_policy(request.clone()).await })
            .await?
            .into_inner();
        buckets::info(answer.bucket.ok_or_else(|| bad_answer("no bucket"))?)
    }
}
