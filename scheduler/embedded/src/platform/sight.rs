//! The loop of nodes, budgets and endpoints: they look at the same pods, kept by one
//! watch of each kind. A look gathers changes first, and the longer a look takes, the
//! longer it gathers, so that it never takes more than a part of one core.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use coffer_model::Clock;
use futures::{StreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::deeds::{self, Scales};
use super::nodes::{Lookout, Sight};
use super::{Fault, Moment, Settings, Told, budgets, endpoints};

/// How many requests are under way at once.
const AT_ONCE: usize = 16;
/// A look is followed by a pause of so many times its length, so that looks take a sixth of the time at most.
const SHARE: u32 = 5;

/// What is kept of the API.
struct Kept {
    nodes: Store<Node>,
    leases: Store<Lease>,
    pods: Store<Pod>,
    budgets: Store<PodDisruptionBudget>,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
}

/// Pods by namespace and label, so that a selector need not look at all.
struct ByLabel<'a>(HashMap<(&'a str, &'a str, &'a str), Vec<&'a Pod>>, HashMap<&'a str, Vec<&'a Pod>>);

/// Looks until it is dropped.
pub(super) async fn run(client: &Client, clock: &Arc<dyn Clock>, settings: &Settings, told: &Told) {
    let changed = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    let kept = Kept {
        nodes: keep(Api::all(client.clone()), &mut tasks, &changed, told),
        leases: keep(Api::namespaced(client.clone(), "kube-node-lease"), &mut tasks, &changed, told),
        pods: keep(Api::all(client.clone()), &mut tasks, &changed, told),
        budgets: keep(Api::all(client.clone()), &mut tasks, &changed, told),
        services: keep(Api::all(client.clone()), &mut tasks, &changed, told),
        slices: keep(Api::all(client.clone()), &mut tasks, &changed, told),
    };
    let ready = async {
        tokio::try_join!(
            kept.nodes.wait_until_ready(),
            kept.leases.wait_until_ready(),
            kept.pods.wait_until_ready(),
            kept.budgets.wait_until_ready(),
            kept.services.wait_until_ready(),
            kept.slices.wait_until_ready(),
        )
    };
    if ready.await.is_err() {
        return;
    }
    let mut lookout = Lookout::default();
    let mut scales = Scales::new(client.clone());
    loop {
        // By the clock that the pause goes by, whatever the injected one says.
        let began = tokio::time::Instant::now();
        look(&kept, &mut lookout, &mut scales, client, clock, settings, told).await;
        tokio::time::sleep(settings.gather.max(began.elapsed().saturating_mul(SHARE))).await;
        // Whether something changed or the period is over, the next look sees it.
        let _ = tokio::time::timeout(settings.period, changed.notified()).await;
    }
}

/// Keeps all objects of a kind up to date, and tells when one changed.
fn keep<K>(api: Api<K>, tasks: &mut JoinSet<()>, changed: &Arc<Notify>, told: &Told) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let (store, writer) = reflector::store();
    let (changed, told) = (changed.clone(), told.clone());
    tasks.spawn(async move {
        let events = reflector::reflector(writer, watcher(api, watcher::Config::default()).default_backoff());
        events
            .for_each(|event| {
                match event {
                    Ok(_) => changed.notify_one(),
                    Err(error) => told(Fault::Watch(error)),
                }
                std::future::ready(())
            })
            .await;
    });
    store
}

async fn look(
    kept: &Kept,
    lookout: &mut Lookout,
    scales: &mut Scales,
    client: &Client,
    clock: &Arc<dyn Clock>,
    settings: &Settings,
    told: &Told,
) {
    let now = Moment::of(clock.as_ref());
    let (nodes, leases, pods) = (kept.nodes.state(), kept.leases.state(), kept.pods.state());
    let pods: Vec<&Pod> = pods.iter().map(Arc::as_ref).collect();
    let acts = lookout.look(
        Sight {
            nodes: &nodes.iter().map(Arc::as_ref).collect::<Vec<_>>(),
            leases: &leases.iter().map(Arc::as_ref).collect::<Vec<_>>(),
            pods: &pods,
        },
        &now,
        settings,
    );
    let tell = |done: Result<(), Fault>| {
        if let Err(fault) = done {
            told(fault);
        }
    };
    stream::iter(acts)
        .for_each_concurrent(AT_ONCE, |act| async { tell(deeds::act(client, act).await) })
        .await;

    let by_label = ByLabel::of(&pods);
    scales.forget();
    let mut writes = Vec::new();
    for budget in kept.budgets.state() {
        let namespace = budget.namespace().unwrap_or_default();
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let (chosen, wrong) = by_label.chosen(&namespace, selector);
        let scale = match wrong {
            Some(wrong) => Err(wrong),
            None if budgets::needs_scale(&budget) => scales.of(&namespace, &chosen).await,
            None => Ok(0),
        };
        let status = budgets::status(&budget, &chosen, scale, &now.wall, settings.granted);
        if budget.status.as_ref() != Some(&status) {
            writes.push((budget, status));
        }
    }
    stream::iter(writes)
        .for_each_concurrent(AT_ONCE, |(budget, status)| async move {
            tell(deeds::budget(client, &budget, status).await);
        })
        .await;
    endpoints(kept, &by_label, client, told).await;
}

/// Makes the slices of all services what they should be.
async fn endpoints(kept: &Kept, by_label: &ByLabel<'_>, client: &Client, told: &Told) {
    let there = kept.slices.state();
    let mut ours: HashMap<(String, String), Vec<&EndpointSlice>> = HashMap::new();
    for slice in &there {
        let (by, us) = endpoints::MANAGED_BY;
        let service = slice.labels().get(endpoints::SERVICE_NAME);
        if let Some(service) = service.filter(|_| slice.labels().get(by).is_some_and(|by| by == us)) {
            ours.entry((slice.namespace().unwrap_or_default(), service.clone())).or_default().push(slice);
        }
    }
    for service in kept.services.state() {
        let namespace = service.namespace().unwrap_or_default();
        let labels = service.spec.as_ref().and_then(|spec| spec.selector.clone());
        let selector =
            labels.map(|labels| LabelSelector { match_labels: Some(labels), match_expressions: None });
        let (pods, _) = by_label.chosen(&namespace, selector.as_ref());
        let wanted = endpoints::slices(&service, &pods).unwrap_or_default();
        let has = ours.remove(&(namespace, service.name_any())).unwrap_or_default();
        if service.metadata.deletion_timestamp.is_none() {
            deeds::slices(client, &has, wanted, told).await;
        }
    }
}

impl<'a> ByLabel<'a> {
    fn of(pods: &[&'a Pod]) -> Self {
        let mut index: HashMap<_, Vec<&'a Pod>> = HashMap::new();
        let mut all: HashMap<_, Vec<&'a Pod>> = HashMap::new();
        for pod in pods {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            for (name, value) in pod.labels() {
                index.entry((namespace, name.as_str(), value.as_str())).or_default().push(pod);
            }
            all.entry(namespace).or_default().push(pod);
        }
        Self(index, all)
    }

    /// The pods of the namespace that the selector selects; none, and what is
    /// wrong, if it is no selector.
    fn chosen(
        &self,
        namespace: &str,
        selector: Option<&LabelSelector>,
    ) -> (Vec<&'a Pod>, Option<budgets::Unknown>) {
        let label = selector.and_then(|selector| selector.match_labels.as_ref()?.first_key_value());
        let candidates = match label {
            Some((name, value)) => self.0.get(&(namespace, name.as_str(), value.as_str())),
            None => self.1.get(namespace),
        };
        let mut chosen = Vec::new();
        for pod in candidates.into_iter().flatten() {
            match budgets::selects(selector, pod.labels()) {
                Ok(true) => chosen.push(*pod),
                Ok(false) => {}
                Err(wrong) => return (Vec::new(), Some(wrong)),
            }
        }
        (chosen, None)
    }
}
