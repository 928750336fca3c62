//! A Lease that is held on behalf of somebody who knows no Kubernetes: under
//! which epoch, whether it is held at this moment, and where whoever else
//! holds it answers. It is counted as a leader's is: from before the request,
//! with a fifth of it to spare.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_model::Clock;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::leader::{LeaderError, Leadership, Look, Watched, give_up, look, usable};

/// The lease as it was last renewed.
#[derive(Clone, Copy)]
struct Held {
    epoch: u64,
    /// By the clock that stands still while the machine sleeps.
    until: Duration,
    /// By the one that does not, where it is counted.
    until_boot: Option<Duration>,
}

/// One who wants the lease, and may have it.
pub struct Tenure {
    leases: Api<Lease>,
    leadership: Leadership,
    /// Where we answer, for those who ask somebody else.
    answers_at: Option<String>,
    clock: Arc<dyn Clock>,
    held: Mutex<Option<Held>>,
    elsewhere: Mutex<Option<String>>,
    /// The epoch that was acquired last; 0 before the first.
    acquired: watch::Sender<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tenure {
    /// Nobody's yet. The holder's name must be this process's alone: under it the lease is taken for ours.
    pub fn new(
        client: Client,
        leadership: Leadership,
        answers_at: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            leases: Api::namespaced(client, &leadership.namespace),
            leadership,
            answers_at,
            clock,
            held: Mutex::new(None),
            elsewhere: Mutex::new(None),
            acquired: watch::Sender::new(0),
        })
    }

    /// The epoch while the lease is held. It is one more than the lease changed hands, so that it rises with
    /// every holder. Answered from memory, by the clocks of this moment: who was stopped for a while holds nothing
    /// when he wakes up.
    pub fn held(&self) -> Option<u64> {
        let held = (*locked(&self.held))?;
        let awake = held.until_boot.zip(self.clock.since_boot()).is_none_or(|(until, now)| now < until);
        (awake && self.clock.monotonic() < held.until).then_some(held.epoch)
    }

    /// Where whoever has the lease says that he answers, while that is not us.
    pub fn elsewhere(&self) -> Option<String> {
        if self.held().is_some() { None } else { locked(&self.elsewhere).clone() }
    }

    /// Waits until the lease is ours under another epoch than this one, and answers which.
    pub async fn acquired_after(&self, epoch: u64) -> u64 {
        let mut acquired = self.acquired.subscribe();
        let newer = acquired.wait_for(|now| *now > epoch).await.map(|now| *now);
        // The sender is in `self`, and so outlives the wait.
        newer.unwrap_or(epoch)
    }

    /// Takes the lease when it is free, renews it while it is ours, and waits for it again when it is not, for as
    /// long as this is awaited. `trouble` is told when the API does not answer, once until it does.
    pub async fn keep(&self, trouble: impl Fn(&LeaderError) + Send) {
        let mut watched = Watched::new(self.clock.as_ref());
        let mut told = false;
        loop {
            // Counted from before the request: whoever hears of it begins to wait later.
            let (asked, asked_boot) = (self.clock.monotonic(), self.clock.since_boot());
            let at = self.answers_at.as_deref();
            let looked = look(&self.leases, &self.leadership, at, self.clock.as_ref(), &mut watched);
            match tokio::time::timeout(self.leadership.lasts / 2, looked).await {
                Ok(Ok(Look::Ours(changes))) => {
                    told = false;
                    let usable = usable(self.leadership.lasts);
                    let until_boot = asked_boot.map(|boot| boot.saturating_add(usable));
                    let epoch = u64::from(changes).saturating_add(1);
                    let until = asked.saturating_add(usable);
                    *locked(&self.held) = Some(Held { epoch, until, until_boot });
                    self.acquired.send_if_modified(|last| std::mem::replace(last, epoch) != epoch);
                }
                Ok(Ok(Look::Anothers(at))) => {
                    told = false;
                    *locked(&self.held) = None;
                    if at.is_some() {
                        *locked(&self.elsewhere) = at;
                    }
                }
                // What is held runs out by itself, unless the next one arrives in time.
                Ok(Err(error)) if !told => {
                    told = true;
                    trouble(&error);
                }
                Ok(Err(_)) | Err(_) => {}
            }
            tokio::time::sleep(self.leadership.lasts / 5).await;
        }
    }

    /// Gives the lease up, so that another one need not wait until it ends. Call it when nothing is changed under
    /// it any more, and nobody keeps it.
    ///
    /// # Errors
    /// [`LeaderError`]; then it ends by itself.
    pub async fn give_up(&self) -> Result<(), LeaderError> {
        *locked(&self.held) = None;
        give_up(&self.leases, &self.leadership).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::leader::tests::{Paused, api, first};

    #[tokio::test(start_paused = true)]
    async fn a_lease_whose_api_falls_silent_ends_before_anybody_else_can_have_it_and_nobody_is_asked_for_it()
    {
        for millis in [1, 700, 1900] {
            let since = Instant::now();
            let (client, renewals) = api(Duration::from_millis(millis), 3, since);
            let lasts = Duration::from_secs(10);
            let tenure = Tenure::new(client, first(lasts), None, Arc::new(Paused(since)));
            assert_eq!(tenure.held(), None);
            let kept = Arc::clone(&tenure);
            let keeping = tokio::spawn(async move { kept.keep(|_| ()).await });
            // One more than the seconds from 2020 to the time of this clock.
            assert_eq!(tenure.acquired_after(0).await, 222_163_201);
            // A slow renewal may come when the one before is over; then it is held again.
            let mut ended = since.elapsed();
            while renewals.lock().unwrap().len() < 3 || tenure.held().is_some() {
                if tenure.held().is_some() {
                    ended = since.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let last = *renewals.lock().unwrap().last().unwrap();
            // Another one may begin a whole lease after it saw the last renewal.
            assert!(last < ended && ended < last + lasts, "{millis}: {ended:?} of {:?}", last + lasts);
            // Stopped as a process is: no timer of its own has to run for it to hold nothing.
            keeping.abort();
            assert_eq!((tenure.held(), tenure.elsewhere()), (None, None));
        }
    }
}
