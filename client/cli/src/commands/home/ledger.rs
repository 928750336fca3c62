//! The keeper of the ledger of shards of a fleet whose service runs in this
//! process.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use coffer_client::{HolderGroup, HolderSite, Holders};
use coffer_model::Clock;
use coffer_regions::Standing;
use coffer_server::{RepairRun, Service, SiteWish};
use tokio::sync::watch;

use crate::commands::fleet::{Keeper, Wish};

/// What was counted is counted anew after this time, or after so many times as long as counting took: where
/// there is much to list, it takes a twentieth of the time at most.
const FRESH: Duration = Duration::from_secs(2);
const FRESH_TIMES: u32 = 20;
/// What was counted longer ago is not believed.
const BELIEVED: Duration = Duration::from_secs(60);
const BELIEVED_TIMES: u32 = 60;
/// A look waits so long for a count at most; the next look asks again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two runs of a repair. What a run left undone is tried again after this time, then after twice as long,
/// and so on.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// The service of this process, once it is open.
#[derive(Clone)]
pub(super) struct OwnService {
    clock: Arc<dyn Clock>,
    service: Arc<OnceLock<Weak<Service>>>,
    /// How many counts have ended.
    counted: watch::Sender<u64>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    counting: bool,
    /// When a repair was last begun.
    repaired: Option<Duration>,
    /// When one last ended that had moved something.
    moved: Option<Duration>,
}

impl OwnService {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (counted, _) = watch::channel(0);
        Self { clock, service: Arc::default(), counted, state: Arc::default() }
    }

    /// From now on this service is asked; it lives no longer for it.
    pub(super) fn serves(&self, service: &Arc<Service>) {
        // A process opens one service.
        drop(self.service.set(Arc::downgrade(service)));
    }

    fn service(&self) -> Result<Arc<Service>, String> {
        self.service.get().and_then(Weak::upgrade).ok_or_else(|| "the service is not open".to_owned())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repairs until nothing is left, or somebody has asked for another run. Nobody asks any more once the sites that
    /// are to go are empty, and what the last moves left lies where it should not all the same.
    async fn repair_until_whole(self, asked: Duration) {
        let mut pause = PAUSE;
        loop {
            let Ok(service) = self.service() else { return };
            if self.state().repaired != Some(asked) {
                return;
            }
            // What somebody else's run leaves is looked at after it.
            if !service.is_repairing() {
                let repaired = service.repair(RepairRun::default(), &|_| ()).await;
                let (moved, whole) = match &repaired {
                    Ok((report, progress)) => (progress.done > 0, report.is_whole()),
                    Err(_) => (false, false),
                };
                if moved {
                    self.state().moved = Some(self.clock.monotonic());
                }
                if whole {
                    return;
                }
            }
            // It lives no longer for it.
            drop(service);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Counts, beside whoever looks; one at a time.
    fn count(&self, service: &Arc<Service>) {
        if std::mem::replace(&mut self.state().counting, true) {
            return;
        }
        let (keeper, service) = (self.clone(), Arc::clone(service));
        tokio::spawn(async move {
            // What failed leaves an older count, of which its age tells.
            drop(service.count_holders().await);
            keeper.state().counting = false;
            keeper.counted.send_modify(|count| *count += 1);
        });
    }
}

/// The same in the words of the client.
fn told(known: coffer_server::Holders) -> Holders {
    let groups = known.groups.into_iter().map(|group| HolderGroup {
        needed: u32::try_from(group.needed).unwrap_or(u32::MAX),
        sites: group.sites,
        versions: group.versions,
    });
    let sites = known.sites.into_iter().map(|site| HolderSite {
        draining: site.standing == Standing::Draining,
        retired: site.standing == Standing::Retired,
        name: site.name,
        answers: site.answers,
        held: site.held,
    });
    Holders { age: known.age, groups: groups.collect(), sites: sites.collect() }
}

#[async_trait]
impl Keeper for OwnService {
    async fn holders(&self) -> Result<Holders, String> {
        let service = self.service()?;
        let (now, moved) = (self.clock.monotonic(), self.state().moved);
        // A pod that hangs makes a count slow, and whoever waits for what a repair has moved waits for the next.
        let is_fresh = |known: &coffer_server::Holders| {
            let is_news = moved.is_some_and(|moved| now.saturating_sub(known.age) < moved);
            !is_news && known.age < FRESH.max(known.took.saturating_mul(FRESH_TIMES))
        };
        if let Some(known) = service.holders().filter(is_fresh) {
            return Ok(told(known));
        }
        let mut counted = self.counted.subscribe();
        self.count(&service);
        // Whether it ended in time or not, what is known then says.
        drop(tokio::time::timeout(PATIENCE, counted.changed()).await);
        let known = service.holders().ok_or("shards are being counted")?;
        if known.age < BELIEVED.max(known.took.saturating_mul(BELIEVED_TIMES)) {
            return Ok(told(known));
        }
        Err(format!("shards were last counted {} s ago", known.age.as_secs()))
    }

    async fn wish(&self, site: &str, wish: Wish<'_>) -> Result<(), String> {
        let wish = match wish {
            Wish::Join(file) => SiteWish::Join(file),
            Wish::Empty { must } => SiteWish::Empty { must },
            Wish::Keep => SiteWish::Keep,
            Wish::Leave => SiteWish::Leave,
        };
        self.service()?.wish_of_site(site, wish).await.map_err(|error| error.to_string())
    }

    async fn repair(&self) {
        let Ok(service) = self.service() else { return };
        let now = self.clock.monotonic();
        let mut state = self.state();
        let recent = state.repaired.is_some_and(|then| now.saturating_sub(then) < PAUSE);
        if recent || service.is_repairing() {
            return;
        }
        state.repaired = Some(now);
        drop(state);
        tokio::spawn(self.clone().repair_until_whole(now));
    }
}
