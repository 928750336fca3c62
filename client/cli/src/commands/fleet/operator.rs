//! The keeper of the ledger of shards where the control plane runs alone: a
//! service elsewhere, asked as its operator.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coffer_client::{Client, Holders, RepairOptions, SiteChange};
use coffer_model::Clock;

use super::ledger::{Keeper, Wish};

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
