//! The ledger of shards of a fleet whose service runs in this process: it is
//! asked from which sites every version can be read, and told which pods are
//! sites, are to be emptied, and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use coffer_control::{NAMESPACE, ShardLedger, ShardLedgerError, Shards, SiteIdentity};
use coffer_model::Clock;
use coffer_scheduler::{PodId, SetName, ShardGroup};
use coffer_server::{HolderGroup, Holders, RepairRun, Service, SiteWish};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::watch;

use super::pods::{site_entry, site_id};

/// What was counted is counted anew after this time, or after so many times as long as counting took.
const FRESH: Duration = Duration::from_secs(2);
const FRESH_TIMES: u32 = 4;
/// What was counted longer ago is not believed.
const BELIEVED: Duration = Duration::from_secs(60);
const BELIEVED_TIMES: u32 = 10;
/// A look waits so long for a count at most; the next look asks again.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts at what failed, or two runs of a repair.
const PAUSE: Duration = Duration::from_secs(5);

/// The service of this process, once it is open.
#[derive(Clone)]
pub(super) struct ServiceLedger {
    client: Client,
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
    /// When a site was last tried to be added, and what came of it.
    joined: BTreeMap<PodId, (Duration, String)>,
}

impl ServiceLedger {
    pub(super) fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        let (counted, _) = watch::channel(0);
        Self { client, clock, service: Arc::default(), counted, state: Arc::default() }
    }

    /// From now on this service is asked; it lives no longer for it.
    pub(super) fn serves(&self, service: &Arc<Service>) {
        // A process opens one service.
        drop(self.service.set(Arc::downgrade(service)));
    }

    fn service(&self) -> Result<Arc<Service>, ShardLedgerError> {
        let service = self.service.get().and_then(Weak::upgrade);
        service.ok_or_else(|| ShardLedgerError::Silent("the service is not open".to_owned()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted a short while ago; counts anew where it was not.
    async fn fresh(&self, service: &Arc<Service>) -> Result<Holders, ShardLedgerError> {
        let known = service.holders();
        let is_fresh = |known: &Holders| known.age < FRESH.max(known.took.saturating_mul(FRESH_TIMES));
        if let Some(known) = known.filter(is_fresh) {
            return Ok(known);
        }
        let mut counted = self.counted.subscribe();
        self.count(service);
        // Whether it ended in time or not, what is known then says.
        drop(tokio::time::timeout(PATIENCE, counted.changed()).await);
        let known =
            service.holders().ok_or_else(|| ShardLedgerError::Silent("shards are counted".to_owned()))?;
        if known.age < BELIEVED.max(known.took.saturating_mul(BELIEVED_TIMES)) {
            return Ok(known);
        }
        let age = known.age.as_secs();
        Err(ShardLedgerError::Silent(format!("shards were last counted {age} s ago")))
    }

    /// Counts, beside whoever looks; one at a time.
    fn count(&self, service: &Arc<Service>) {
        if std::mem::replace(&mut self.state().counting, true) {
            return;
        }
        let (ledger, service) = (self.clone(), Arc::clone(service));
        tokio::spawn(async move {
            // What failed leaves an older count, of which its age tells.
            drop(service.count_holders().await);
            ledger.state().counting = false;
            ledger.counted.send_modify(|count| *count += 1);
        });
    }

    /// Moves what is where it should not be, unless that is under way.
    fn repair(&self, service: &Arc<Service>) {
        let now = self.clock.monotonic();
        let mut state = self.state();
        let recent = state.repaired.is_some_and(|then| now.saturating_sub(then) < PAUSE);
        if recent || service.is_repairing() {
            return;
        }
        state.repaired = Some(now);
        drop(state);
        let service = Arc::clone(service);
        // What it could not move is still there with the next look.
        tokio::spawn(async move { drop(service.repair(RepairRun::default(), &|_| ()).await) });
    }

    /// What a site file says of a pod.
    async fn described(&self, site: &SiteIdentity, endpoint: &str) -> Result<String, String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let name = site.pod.to_string();
        let secret =
            secrets.get_opt(&format!("{name}-certificate")).await.map_err(|error| error.to_string())?;
        let id = secret.and_then(site_id).ok_or("it has no certificate yet")?;
        let stands = &site.stands;
        Ok(site_entry(&name, &id, (stands.country, &stands.domain, stands.tier), endpoint))
    }
}

fn refused(pod: &PodId, why: impl ToString) -> ShardLedgerError {
    ShardLedgerError::Refused { pod: pod.clone(), why: why.to_string() }
}

/// The pod of this set that a site is.
fn pod_of(set: &SetName, site: &str) -> Option<PodId> {
    let ordinal = site.strip_prefix(set.as_str())?.strip_prefix('-')?.parse().ok()?;
    let pod = PodId { set: set.clone(), ordinal };
    (pod.to_string() == site).then_some(pod)
}

/// A group as the fleet sees it: of the sites only the pods of the set can be taken down by it, and those of
/// them count that serve.
fn group(set: &SetName, serving: &BTreeSet<PodId>, group: HolderGroup) -> Option<ShardGroup> {
    let (pods, others): (Vec<_>, Vec<_>) =
        group.sites.iter().map(|site| pod_of(set, site)).partition(Option::is_some);
    let needed = u32::try_from(group.needed).ok()?;
    let others = u32::try_from(others.len()).ok()?;
    // What can be read elsewhere, with one to spare, is not at stake here.
    let needed = needed.checked_sub(others)?;
    let readable = pods.into_iter().flatten().filter(|pod| serving.contains(pod)).collect();
    Some(ShardGroup { needed, readable, objects: group.versions })
}

#[async_trait]
impl ShardLedger for ServiceLedger {
    async fn look(
        &self,
        set: &SetName,
        members: &BTreeSet<PodId>,
        serving: &BTreeSet<PodId>,
    ) -> Result<Shards, ShardLedgerError> {
        let service = self.service()?;
        let holders = self.fresh(&service).await?;
        let mut held = BTreeMap::new();
        for site in holders.sites {
            let Some(pod) = pod_of(set, &site.name) else { continue };
            // A site that had to leave at once goes on being emptied, from the others.
            if !members.contains(&pod) && site.held > 0 {
                self.repair(&service);
            } else if !members.contains(&pod) && !site.takes() {
                drop(service.wish_of_site(&site.name, SiteWish::Leave).await);
            }
            held.insert(pod, site.held);
        }
        let groups = holders.groups.into_iter().filter_map(|one| group(set, serving, one)).collect();
        Ok(Shards { groups, held })
    }

    async fn join(&self, site: &SiteIdentity, endpoint: &str) -> Result<(), ShardLedgerError> {
        let service = self.service()?;
        let (pod, name) = (&site.pod, site.pod.to_string());
        if service.has_site(&name) {
            return Ok(());
        }
        let now = self.clock.monotonic();
        if let Some((then, why)) = self.state().joined.get(pod)
            && now.saturating_sub(*then) < PAUSE
        {
            return Err(refused(pod, why));
        }
        let joined = match self.described(site, endpoint).await {
            Ok(file) => {
                service.wish_of_site(&name, SiteWish::Join(&file)).await.map_err(|why| why.to_string())
            }
            Err(why) => Err(why),
        };
        let Err(why) = joined else {
            self.state().joined.remove(pod);
            return Ok(());
        };
        self.state().joined.insert(pod.clone(), (now, why.clone()));
        Err(refused(pod, why))
    }

    async fn evacuate(&self, pod: &PodId, must: bool) -> Result<(), ShardLedgerError> {
        let service = self.service()?;
        let wish = SiteWish::Empty { must };
        service.wish_of_site(&pod.to_string(), wish).await.map_err(|why| refused(pod, why))?;
        self.repair(&service);
        Ok(())
    }

    async fn keep(&self, pod: &PodId) -> Result<(), ShardLedgerError> {
        let kept = self.service()?.wish_of_site(&pod.to_string(), SiteWish::Keep).await;
        kept.map_err(|why| refused(pod, why))
    }

    async fn leave(&self, pod: &PodId) -> Result<(), ShardLedgerError> {
        let left = self.service()?.wish_of_site(&pod.to_string(), SiteWish::Leave).await;
        left.map_err(|why| refused(pod, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> SetName {
        "gold".parse().unwrap()
    }

    fn pod(ordinal: u32) -> PodId {
        PodId { set: set(), ordinal }
    }

    fn seen(needed: usize, sites: &[&str], serving: impl IntoIterator<Item = u32>) -> Option<ShardGroup> {
        let sites = sites.iter().map(|site| (*site).to_owned()).collect();
        let serving = serving.into_iter().map(pod).collect();
        group(&set(), &serving, HolderGroup { needed, sites, versions: 7 })
    }

    #[test]
    fn a_pod_that_does_not_serve_is_not_readable_whatever_its_site_answered() {
        let seen = seen(2, &["gold-0", "gold-1", "gold-2"], [0, 2]).unwrap();
        assert_eq!(seen, ShardGroup { needed: 2, readable: [pod(0), pod(2)].into(), objects: 7 });
    }

    #[test]
    fn sites_that_are_no_pods_of_the_set_are_counted_and_cannot_be_taken_down() {
        let with = |sites: &[&str]| seen(2, sites, 0..9);
        assert_eq!(with(&["gold-0", "gold-1", "bucket"]).unwrap().needed, 1);
        // Two others leave one to spare only with a pod.
        assert_eq!(with(&["gold-0", "silver-1", "bucket"]).unwrap().needed, 0);
        assert_eq!(with(&["gold-0", "silver-1", "gold-01", "bucket"]), None);
    }
}
