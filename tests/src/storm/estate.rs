//! What a tenant's people do beside its objects: the policy of its second
//! bucket changes to and fro, other buckets come and go. Each is a register
//! with one writer, and what the service says of it is held against it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_client::{BucketInfo, CallError};
use coffer_model::{BucketName, ResidencyPolicy, VersionId};
use tokio::time::timeout;

use super::lawful::is_lawful;
use super::plan::Plan;
use super::register::{Register, Value};
use super::stage::Stage;
use super::workload::{Tenant, Worker};

/// How long a caller waits for one operation.
const PATIENCE: Duration = Duration::from_secs(300);

/// Buckets that come and go.
const PASSING: u64 = 2;

/// The value of a bucket that is there.
const THERE: Value = Value::Content(1);

/// What is known of one bucket, or one policy.
#[derive(Default)]
struct Known {
    register: Register,
    /// How often catalogues had been lost when a change of unknown outcome
    /// was tried: while that is so, the next change is known to outdo it.
    unsure: Option<u64>,
}

impl Known {
    fn acknowledged(&mut self, losses: u64) {
        if self.unsure.is_none_or(|at| at == losses) {
            self.register.acknowledged(VersionId::from_bytes([0; 16]), false);
            self.unsure = None;
        } else {
            self.register.stands_beside();
        }
    }

    fn unknown(&mut self, losses: u64) {
        self.register.unknown();
        self.unsure.get_or_insert(losses);
    }
}

/// The buckets of one tenant that come, go and change.
pub(crate) struct Estate {
    /// The policies that the second bucket may have, by number.
    policies: Vec<ResidencyPolicy>,
    policy: Mutex<Known>,
    passing: Mutex<BTreeMap<BucketName, Known>>,
}

impl Estate {
    /// Of a bucket that has its tenant's policy.
    pub(crate) fn new(stage: &Stage, tenant: &Tenant) -> Self {
        let denied = usize::try_from(stage.seed % 7).unwrap_or(0);
        let mut known = Known::default();
        known.register.write_begins(Value::Content(0));
        known.acknowledged(0);
        Self {
            policies: Plan::policies(&tenant.policy, denied),
            policy: Mutex::new(known),
            passing: Mutex::default(),
        }
    }

    fn policy(&self) -> MutexGuard<'_, Known> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passing(&self) -> MutexGuard<'_, BTreeMap<BucketName, Known>> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The policy of the second bucket, where there can be no other.
    pub(crate) fn certain(&self) -> Option<&ResidencyPolicy> {
        let possible = self.policy().register.possible();
        match possible.first() {
            Some(Value::Content(number)) if possible.len() == 1 => {
                self.policies.get(usize::try_from(*number).ok()?)
            }
            _ => None,
        }
    }
}

impl Worker {
    /// One step of what is done beside the objects.
    pub(crate) async fn manage(&self) {
        let Some(estate) = &self.tenant.estate else { return };
        match self.chance.below(100) {
            0..=34 => self.change_policy(estate).await,
            35..=54 => self.create_bucket(estate).await,
            55..=74 => self.remove_bucket(estate).await,
            _ => self.look_at_buckets().await,
        }
    }

    async fn change_policy(&self, estate: &Estate) {
        let number = self.chance.index(estate.policies.len());
        let Some(policy) = estate.policies.get(number) else { return };
        estate.policy().register.write_begins(Value::Content(number as u64));
        let call = timeout(PATIENCE, self.client.set_bucket_policy(&self.tenant.bucket, policy)).await;
        let losses = self.stage.losses();
        match call {
            Ok(Ok(_)) => {
                estate.policy().acknowledged(losses);
                self.done("policy change", "ok", &format!("policy {number}"));
            }
            Ok(Err(error)) => {
                estate.policy().unknown(losses);
                self.done("policy change", "unknown", &error.to_string());
            }
            Err(_) => {
                estate.policy().unknown(losses);
                self.done("policy change", "timed out", "");
            }
        }
    }

    fn passing_bucket(&self) -> BucketName {
        let name = format!("a-passing-bucket-{}-{}", self.tenant.owner, self.chance.below(PASSING));
        BucketName::new(name).unwrap_or_else(|_| unreachable!("a short name of letters is a name"))
    }

    async fn create_bucket(&self, estate: &Estate) {
        let name = self.passing_bucket();
        estate.passing().entry(name.clone()).or_default().register.write_begins(THERE);
        let call = timeout(PATIENCE, self.client.create_bucket(&name, None)).await;
        let definite = matches!(call, Ok(Err(CallError::AlreadyExists(_))));
        self.settle(estate, &name, "bucket creation", call.map(|call| call.map(drop)), definite);
        if definite {
            self.judge_bucket(estate, &name, THERE, "a creation");
        }
    }

    async fn remove_bucket(&self, estate: &Estate) {
        let name = self.passing_bucket();
        estate.passing().entry(name.clone()).or_default().register.write_begins(Value::Absent);
        let call = timeout(PATIENCE, self.client.remove_bucket(&name)).await;
        let definite = matches!(call, Ok(Err(CallError::NotFound(_))));
        self.settle(estate, &name, "bucket removal", call, definite);
        if definite {
            self.judge_bucket(estate, &name, Value::Absent, "a removal");
        }
    }

    fn settle(
        &self,
        estate: &Estate,
        name: &BucketName,
        what: &str,
        call: Result<Result<(), CallError>, tokio::time::error::Elapsed>,
        definite: bool,
    ) {
        let losses = self.stage.losses();
        let mut passing = estate.passing();
        let known = passing.entry(name.clone()).or_default();
        let (ended, detail) = match call {
            Ok(Ok(())) => {
                known.acknowledged(losses);
                ("ok", String::new())
            }
            Ok(Err(error)) if definite => {
                known.register.refused();
                ("refused", error.to_string())
            }
            Ok(Err(error)) => {
                known.unknown(losses);
                ("unknown", error.to_string())
            }
            Err(_) => {
                known.unknown(losses);
                ("timed out", String::new())
            }
        };
        drop(passing);
        self.done(what, ended, &format!("{name} {detail}"));
    }

    fn judge_bucket(&self, estate: &Estate, name: &BucketName, seen: Value, what: &str) {
        let possible = estate.passing().entry(name.clone()).or_default().register.possible();
        if !possible.contains(&seen) {
            self.violated("buckets", format!("{what} shows {name} as {seen:?}; possible: {possible:?}"));
        }
    }

    /// Holds all buckets and the policy of the second one against what is known.
    pub(crate) async fn look_at_buckets(&self) {
        let Some(estate) = &self.tenant.estate else { return };
        let Ok(Ok(listed)) = timeout(PATIENCE, self.client.list_buckets()).await else {
            return self.done("bucket list", "unavailable", "");
        };
        self.done("bucket list", "ok", "");
        let names: Vec<BucketName> = estate.passing().keys().cloned().collect();
        for name in names {
            let there = listed.iter().any(|bucket| bucket.name == name);
            self.judge_bucket(estate, &name, if there { THERE } else { Value::Absent }, "the list");
        }
        self.judge_policy(estate, &listed);
    }

    fn judge_policy(&self, estate: &Estate, listed: &[BucketInfo]) {
        let Some(bucket) = listed.iter().find(|bucket| bucket.name == self.tenant.bucket) else {
            return self.violated("buckets", format!("{} is not in the list", self.tenant.bucket));
        };
        let number = estate.policies.iter().position(|policy| *policy == bucket.policy);
        let seen = number.map(|number| Value::Content(number as u64));
        let possible = estate.policy().register.possible();
        if !seen.is_some_and(|seen| possible.contains(&seen)) {
            let finding = format!("the second bucket has policy {seen:?}; possible: {possible:?}");
            self.violated("buckets", finding);
        }
    }

    /// After a repair that had nothing left to do, what stands lies where the
    /// policy of its bucket lets it.
    pub(crate) fn check_places(&self) {
        let Some(policy) = self.tenant.estate.as_ref().and_then(Estate::certain) else { return };
        let mut illegal = self.stage.machines();
        illegal.retain(|machine| !machine.is_destroyed() && !is_lawful(policy, &machine.description));
        let standing: Vec<VersionId> = self
            .tenant
            .registers()
            .values()
            .filter_map(|register| register.standing().map(|(_, version)| version))
            .collect();
        for version in standing {
            let at = self.stage.ledger.manifests_lie_at(version);
            if let Some(site) = illegal.iter().find(|machine| at.contains(&machine.description.id)) {
                let finding = format!("{version} lies at {}, outside of its bucket's policy", site.name());
                self.violated("residency", finding);
            }
        }
    }
}
