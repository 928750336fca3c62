//! A tenant that drills: what a drill works with, for stories.

use std::path::Path;
use std::sync::Arc;

use coffer_client::LogWatch;
use coffer_client::backup::Quiet;
use coffer_client::drill::{
    Conduct, DrillError, Drilled, Party, Planned, Promise, ScenarioKind, Setting, TreeSource, Trigger, Wish,
};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::{SigningKey, VerifierName};
use coffer_model::BucketName;

use crate::TenantClient;

/// Who drills, with what.
pub struct Driller {
    /// Its id and log.
    pub party: Party,
    /// Its cosigner.
    pub cosigner: SigningKey,
    /// The watch over its log.
    pub watch: LogWatch,
}

impl Driller {
    /// The driller of a tenant.
    pub fn of(tenant: &TenantClient) -> Self {
        let signer = tenant.log_origin.split_once("/log/").unwrap().0.to_owned();
        let party = Party {
            tenant: tenant.tenant.to_string(),
            log_origin: tenant.log_origin.clone(),
            log_key: VerifierName { name: signer, key: tenant.log_key },
        };
        Self { party, cosigner: SigningKey::generate(&OsEntropy), watch: tenant.watch() }
    }

    /// What its drills work with.
    pub fn setting<'a>(&'a self, tenant: &'a TenantClient) -> Setting<'a> {
        Setting {
            client: &tenant.client,
            party: &self.party,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            cosigner: &self.cosigner,
        }
    }

    /// Plans a drill, its scratch files below `directory`.
    pub async fn plan(
        &self,
        tenant: &TenantClient,
        wish: &Wish,
        tree: Option<&TreeSource<'_>>,
        directory: &Path,
    ) -> Planned {
        let mut watch = self.watch.clone();
        self.setting(tenant).plan(wish, tree, &directory.join("scratch"), &mut watch).await.unwrap()
    }

    /// The same where no read may come before the drill: a read that finds a
    /// fault would mend it.
    pub async fn plan_unmeasured(&self, tenant: &TenantClient, wish: &Wish, directory: &Path) -> Planned {
        let mut wish = wish.clone();
        wish.calibrate = false;
        self.plan(tenant, &wish, None, directory).await
    }

    /// Carries a plan out in a directory.
    ///
    /// # Errors
    /// The drill's own.
    pub async fn run(
        &mut self,
        tenant: &TenantClient,
        planned: &Planned,
        tree: Option<&TreeSource<'_>>,
        conduct: Conduct,
    ) -> Result<Drilled, DrillError> {
        let mut watch = self.watch.clone();
        let drilled = self.setting(tenant).run(planned, tree, &mut watch, conduct).await;
        self.watch = watch;
        drilled
    }
}

/// A wish that loses nothing and draws nothing.
pub fn wish(bucket: &BucketName) -> Wish {
    Wish {
        bucket: bucket.clone(),
        kind: ScenarioKind::Rehearsal,
        sites: vec![],
        places: vec![],
        as_of: None,
        sample: None,
        promise: Promise { rto_seconds: 3600, rpo_seconds: 3600, source: "a test".to_owned() },
        trigger: Trigger::SelfChallenge,
        people: vec![],
        next_due: None,
        calibrate: true,
    }
}

/// How a drill is conducted where nothing is special.
pub fn conduct(directory: &Path) -> Conduct {
    Conduct {
        directory: directory.to_owned(),
        max_rate: None,
        resume: false,
        keep: false,
        separation: vec![],
        negative: vec![],
        progress: Arc::new(Quiet),
    }
}
