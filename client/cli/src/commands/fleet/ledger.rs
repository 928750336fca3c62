//! The ledger of shards, whoever keeps it: what a keeper counts becomes what the
//! fleet asks for, and what the fleet wishes is told once, and again where it failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coffer_client::{HolderGroup, Holders};
use coffer_control::{ShardLedger, ShardLedgerError, Shards, SiteIdentity};
use coffer_model::Clock;
use coffer_scheduler::{PodId, SetName, ShardGroup};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::certificates::site_id;
use crate::commands::home::site_entry;

/// Between two attempts at what was refused.
const PAUSE: Duration = Duration::from_secs(5);

/// A wish for a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Wish<'a> {
    /// It is one; what a site file says of it.
    Join(&'a str),
    /// It takes no new data, and what it holds moves away; with `must`, although a policy needs it.
    Empty { must: bool },
    /// It takes data again.
    Keep,
    /// It goes for good.
    Leave,
}

/// Who keeps the ledger: a service, in this process or elsewhere.
#[async_trait]
pub(in crate::commands) trait Keeper: Send + Sync {
    /// From which sites everything can be read, as it was a short while ago; an error says what is the matter.
    async fn holders(&self) -> Result<Holders, String>;

    /// Does what is wished of the site of this name; what is so already is done.
    async fn wish(&self, site: &str, wish: Wish<'_>) -> Result<(), String>;

    /// Moves what is where it should not be, unless that is under way.
    async fn repair(&self);
}

impl Wish<'_> {
    /// What a refusal is remembered under: that of an ordinary wish is no answer to one that must be.
    fn key(self) -> &'static str {
        match self {
            Self::Join(_) => "join",
            Self::Empty { must: false } => "empty",
            Self::Empty { must: true } => "empty, whatever a policy needs",
            Self::Keep => "keep",
            Self::Leave => "leave",
        }
    }
}

/// What was refused, when, and why.
type Refusals = BTreeMap<(PodId, &'static str), (Duration, String)>;

/// The ledger of shards of a fleet, from a keeper.
pub(in crate::commands) struct KeptLedger<K> {
    keeper: K,
    client: Client,
    namespace: String,
    clock: Arc<dyn Clock>,
    refused: Mutex<Refusals>,
}

impl<K: Keeper> KeptLedger<K> {
    pub(in crate::commands) fn new(
        keeper: K,
        client: Client,
        namespace: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { keeper, client, namespace: namespace.to_owned(), clock, refused: Mutex::default() }
    }

    fn refused(&self) -> MutexGuard<'_, Refusals> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn known(&self) -> Result<Holders, ShardLedgerError> {
        self.keeper.holders().await.map_err(ShardLedgerError::Silent)
    }

    /// Tells a wish, but not again for a while if it was refused.
    async fn tell(&self, pod: &PodId, wish: Wish<'_>) -> Result<(), ShardLedgerError> {
        let now = self.clock.monotonic();
        let key = (pod.clone(), wish.key());
        let refusal = |why: String| ShardLedgerError::Refused { pod: pod.clone(), why };
        if let Some((then, why)) = self.refused().get(&key)
            && now.saturating_sub(*then) < PAUSE
        {
            return Err(refusal(why.clone()));
        }
        let done = self.keeper.wish(&pod.to_string(), wish).await;
        let mut refused = self.refused();
        match done {
            Ok(()) => {
                refused.remove(&key);
                Ok(())
            }
            Err(why) => {
                refused.insert(key, (now, why.clone()));
                Err(refusal(why))
            }
        }
    }

    /// What a site file says of a pod.
    async fn described(&self, site: &SiteIdentity, endpoint: &str) -> Result<String, String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let name = site.pod.to_string();
        let secret = secrets.get_opt(&format!("{name}-certificate")).await;
        let id = secret.map_err(|error| error.to_string())?.and_then(site_id);
        let id = id.ok_or("its certificate's secret does not say which site it is (the file \"site\")")?;
        let stands = &site.stands;
        Ok(site_entry(&name, &id, (stands.country, &stands.domain, stands.tier), endpoint))
    }
}

/// The pod of this set that a site is.
fn pod_of(set: &SetName, site: &str) -> Option<PodId> {
    let ordinal = site.strip_prefix(set.as_str())?.strip_prefix('-')?.parse().ok()?;
    let pod = PodId { set: set.clone(), ordinal };
    (pod.to_string() == site).then_some(pod)
}

/// A group as the fleet sees it: of the sites only the pods of the set can be taken down by it, and those of
/// them count that serve. Nor do pods of other sets count that are away: what takes them down looks at this ledger too.
fn group(
    set: &SetName,
    (serving, away): (&BTreeSet<PodId>, &BTreeSet<PodId>),
    group: HolderGroup,
) -> Option<ShardGroup> {
    let away: BTreeSet<String> = away.iter().map(ToString::to_string).collect();
    let (pods, others): (Vec<_>, Vec<_>) =
        group.sites.iter().map(|site| (pod_of(set, site), site)).partition(|(pod, _)| pod.is_some());
    let others = others.iter().filter(|(_, site)| !away.contains(*site)).count();
    // What can be read elsewhere, with one to spare, is not at stake here.
    let needed = group.needed.checked_sub(u32::try_from(others).ok()?)?;
    let readable = pods.into_iter().filter_map(|(pod, _)| pod).filter(|pod| serving.contains(pod)).collect();
    Some(ShardGroup { needed, readable, objects: group.versions })
}

#[async_trait]
impl<K: Keeper> ShardLedger for KeptLedger<K> {
    async fn look(
        &self,
        set: &SetName,
        members: &BTreeSet<PodId>,
        serving: &BTreeSet<PodId>,
        away: &BTreeSet<PodId>,
    ) -> Result<Shards, ShardLedgerError> {
        let known = self.known().await?;
        let mut held = BTreeMap::new();
        for site in known.sites {
            let Some(pod) = pod_of(set, &site.name) else { continue };
            // A site that had to leave at once goes on being emptied, from the others.
            if site.draining && !members.contains(&pod) {
                match site.held {
                    0 => drop(self.tell(&pod, Wish::Leave).await),
                    _ => self.keeper.repair().await,
                }
            }
            held.insert(pod, site.held);
        }
        let groups = known.groups.into_iter().filter_map(|one| group(set, (serving, away), one)).collect();
        Ok(Shards { groups, held })
    }

    async fn join(&self, site: &SiteIdentity, endpoint: &str) -> Result<(), ShardLedgerError> {
        let name = site.pod.to_string();
        if self.known().await?.sites.iter().any(|known| known.name == name && !known.retired) {
            return Ok(());
        }
        match self.described(site, endpoint).await {
            Ok(file) => self.tell(&site.pod, Wish::Join(&file)).await,
            Err(why) => Err(ShardLedgerError::Refused { pod: site.pod.clone(), why }),
        }
    }

    async fn evacuate(&self, pod: &PodId, must: bool) -> Result<(), ShardLedgerError> {
        self.tell(pod, Wish::Empty { must }).await?;
        self.keeper.repair().await;
        Ok(())
    }

    async fn keep(&self, pod: &PodId) -> Result<(), ShardLedgerError> {
        self.tell(pod, Wish::Keep).await
    }

    async fn leave(&self, pod: &PodId) -> Result<(), ShardLedgerError> {
        self.tell(pod, Wish::Leave).await
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

    fn seen(needed: u32, sites: &[&str], serving: impl IntoIterator<Item = u32>) -> Option<ShardGroup> {
        let sites = sites.iter().map(|site| (*site).to_owned()).collect();
        let serving = serving.into_iter().map(pod).collect();
        let away = [PodId { set: "bronze".parse().unwrap(), ordinal: 3 }].into();
        group(&set(), (&serving, &away), HolderGroup { needed, sites, versions: 7 })
    }

    #[test]
    fn a_pod_that_does_not_serve_is_not_readable_whatever_its_site_answered() {
        let seen = seen(2, &["gold-0", "gold-1", "gold-2"], [0, 2]).unwrap();
        assert_eq!(seen, ShardGroup { needed: 2, readable: [pod(0), pod(2)].into(), objects: 7 });
    }

    #[test]
    fn a_pod_of_another_set_that_is_away_leaves_nothing_to_spare_here() {
        let with = |other: &str| seen(3, &["gold-0", "gold-1", other], [0, 1]).unwrap().needed;
        assert_eq!((with("bronze-2"), with("bronze-3")), (2, 3));
    }

    #[test]
    fn an_ordinary_refusal_is_no_answer_to_a_wish_that_must_be() {
        assert_ne!(Wish::Empty { must: false }.key(), Wish::Empty { must: true }.key());
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
