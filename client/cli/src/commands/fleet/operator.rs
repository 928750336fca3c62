//! The keepers of the ledger of shards where the control plane runs alone: a
//! service elsewhere, asked as its operator; or whichever one the profile comes to name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coffer_client::profile::Profile;
use coffer_client::{Client, ConnectOptions, Holders, RepairOptions, SiteChange};
use coffer_model::{Clock, Entropy};

use super::ledger::{Keeper, Wish};
use crate::context::Context;

/// What was counted longer ago is asked for anew: each question is a leaf in the service's log.
const FRESH: Duration = Duration::from_secs(10);
/// After an answer that did not come nothing is asked for a while.
const PAUSE: Duration = Duration::from_secs(5);

/// A service, and what it said last.
pub(super) struct Operator {
    client: Client,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<(Duration, Result<Holders, String>)>>,
    repaired: Mutex<Option<Duration>>,
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operator {
    pub(super) fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, last: Mutex::default(), repaired: Mutex::default() }
    }

    /// What was changed is asked for anew.
    fn forget(&self) {
        *locked(&self.last) = None;
    }
}

#[async_trait]
impl Keeper for Operator {
    async fn holders(&self) -> Result<Holders, String> {
        let now = self.clock.monotonic();
        if let Some((then, said)) = locked(&self.last).as_ref() {
            let pause = if said.is_ok() { FRESH } else { PAUSE };
            if now.saturating_sub(*then) < pause {
                return said.clone();
            }
        }
        let said = self.client.count_holders(FRESH).await.map_err(|error| error.to_string());
        // It is as new as its arrival: counting may take longer than it may be old.
        *locked(&self.last) = Some((self.clock.monotonic(), said.clone()));
        said
    }

    async fn wish(&self, name: &str, wish: Wish<'_>) -> Result<(), String> {
        let known = self.holders().await?;
        let site = known.sites.iter().find(|site| site.name == name);
        let client = &self.client;
        let change = async |change| client.change_site(name, change).await.map(drop);
        if let (Wish::Join(_), Some(true)) = (wish, site.map(|site| site.retired)) {
            return Err(format!("{name} was a site and is gone for good; names are for life"));
        }
        if site.is_some_and(|site| site.retired) {
            return Ok(());
        }
        let draining = site.map(|site| site.draining);
        let done = match (wish, draining) {
            // Whose disk that is the service cannot tell, nor what lies there.
            (Wish::Leave, None) => return Err(format!("the service lists no site {name}")),
            (Wish::Join(file), None) => client.add_site(file, Some(name)).await.map(drop),
            (Wish::Empty { must: true }, Some(false)) => client.drain_site_anyway(name).await.map(drop),
            (Wish::Empty { must: false }, Some(false)) => change(SiteChange::Drain).await,
            (Wish::Keep, Some(true)) => change(SiteChange::Undrain).await,
            (Wish::Leave, Some(true)) => change(SiteChange::Retire).await,
            (Wish::Leave, Some(false)) => match change(SiteChange::Drain).await {
                Ok(()) => change(SiteChange::Retire).await,
                refused => refused,
            },
            // It is so, or there is nothing of that name that it could be asked of.
            _ => return Ok(()),
        };
        self.forget();
        done.map_err(|error| error.to_string())
    }

    async fn repair(&self) {
        let now = self.clock.monotonic();
        if locked(&self.repaired).is_some_and(|then| now.saturating_sub(then) < FRESH) {
            return;
        }
        *locked(&self.repaired) = Some(now);
        let running = self.client.repair_status().await.is_ok_and(|status| status.running);
        let options = RepairOptions { budget_bytes: 0, bytes_per_second: 0, full_speed: false };
        if !running {
            let client = self.client.clone();
            // What it could not move is still there with the next look.
            tokio::spawn(async move { drop(client.run_repair(options, |_| ()).await) });
        }
    }
}

/// Whoever waits for the service looks after nothing else meanwhile.
const ANSWER: Duration = Duration::from_secs(5);

/// The service of a profile. It may not have been founded yet, and it may listen elsewhere with each of its starts.
pub(in crate::commands) struct OfProfile {
    profile: Profile,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    known: tokio::sync::Mutex<Known>,
}

/// What is known of the service of a profile.
#[derive(Default)]
struct Known {
    operator: Option<Arc<Operator>>,
    /// When it was not found, and why.
    missed: Option<(Duration, String)>,
}

impl OfProfile {
    pub(in crate::commands) fn new(context: &Context<'_>) -> Self {
        let (clock, entropy) = (Arc::clone(&context.clock), Arc::clone(&context.entropy));
        Self { profile: context.profile.clone(), clock, entropy, known: tokio::sync::Mutex::default() }
    }

    /// The service, looked for if it is not known, but not again at once.
    async fn operator(&self) -> Result<Arc<Operator>, String> {
        let mut known = self.known.lock().await;
        if let Some(operator) = &known.operator {
            return Ok(Arc::clone(operator));
        }
        let now = self.clock.monotonic();
        if let Some((then, why)) = &known.missed
            && now.saturating_sub(*then) < PAUSE
        {
            return Err(why.clone());
        }
        let found = self.find().await;
        match &found {
            Ok(operator) => *known = Known { operator: Some(Arc::clone(operator)), missed: None },
            Err(why) => known.missed = Some((self.clock.monotonic(), why.clone())),
        }
        found
    }

    async fn find(&self) -> Result<Arc<Operator>, String> {
        let credentials = self.profile.operator().map_err(|error| error.to_string())?;
        let mut options = ConnectOptions::new(Arc::clone(&self.entropy));
        (options.connect_timeout, options.patience.deadline) = (ANSWER, ANSWER);
        let client = Client::connect(&credentials, options).await.map_err(|error| error.to_string())?;
        Ok(Arc::new(Operator::new(client, Arc::clone(&self.clock))))
    }
}

#[async_trait]
impl Keeper for OfProfile {
    async fn holders(&self) -> Result<Holders, String> {
        let said = self.operator().await?.holders().await;
        if let Err(why) = &said {
            // Where it listens now the profile says.
            *self.known.lock().await =
                Known { operator: None, missed: Some((self.clock.monotonic(), why.clone())) };
        }
        said
    }

    async fn wish(&self, site: &str, wish: Wish<'_>) -> Result<(), String> {
        self.operator().await?.wish(site, wish).await
    }

    async fn repair(&self) {
        if let Ok(operator) = self.operator().await {
            operator.repair().await;
        }
    }
}
