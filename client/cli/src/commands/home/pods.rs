//! The pods of a fleet at home: when all of them serve, what the site file of a
//! new deployment says of them, and their end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use coffer_control::{LABEL_SET, NAMESPACE, SiteSet, translate};
use coffer_model::{Country, FailureDomain, Tier};
use coffer_server::{SiteAuthority, SiteFile, write_site_files};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{DeleteParams, ListParams, ObjectList};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};

use super::{Home, PORT, SET};
use crate::commands::fleet::site_id;
use crate::context::Context;
use crate::exit::{Advise as _, Failure};

/// A pod that does not serve by then will not.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a site file says of a pod that is a site.
pub(in crate::commands) fn site_entry(
    name: &str,
    id: &str,
    (country, domain, tier): (Country, &FailureDomain, Tier),
    endpoint: &str,
) -> String {
    format!(
        "[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = {:?}\ntier = \"{tier}\"\nid = \"{id}\"\npod = \"{endpoint}\"\n",
        domain.0
    )
}

fn failed(error: &kube::Error) -> Failure {
    Failure::new(format!("the fleet: {error}"))
}

impl Home {
    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// How many pods of a set that was there before can come back: not those whose nodes take none now.
    async fn coming_back(&self) -> Result<usize, Failure> {
        let sets: Api<SiteSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        let nodes: Api<Node> = Api::all(self.client.clone());
        let set = sets.get_opt(SET).await.map_err(|error| failed(&error))?;
        let nodes = nodes.list(&ListParams::default()).await.map_err(|error| failed(&error))?;
        let takes = |name: &String| {
            let node = nodes.iter().find(|node| node.name_any() == *name);
            node.is_some_and(|node| node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true))
        };
        let members = set.and_then(|set| set.status).map(|status| status.members).unwrap_or_default();
        Ok(members.iter().filter(|member| member.node.as_ref().is_some_and(takes)).count())
    }

    /// Until every pod of the set serves; of one that was there before, every pod that can come back.
    pub(in crate::commands) async fn serving(
        &self,
        context: &Context<'_>,
        founded: bool,
    ) -> Result<Vec<Pod>, Failure> {
        let wanted = if founded { self.coming_back().await? } else { self.wanted.replicas() };
        context.output.remark(format_args!("waiting for {wanted} storage pods"));
        let all = async {
            let config = watcher::Config::default().labels(&format!("{LABEL_SET}={SET}"));
            let mut events = std::pin::pin!(watcher(self.pods(), config).default_backoff());
            let mut ready = BTreeMap::new();
            while ready.len() < wanted {
                match events.next().await {
                    Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                        if translate::pod(&pod).ready {
                            ready.insert(pod.name_any(), pod);
                        } else {
                            ready.remove(&pod.name_any());
                        }
                    }
                    Some(Ok(watcher::Event::Delete(pod))) => drop(ready.remove(&pod.name_any())),
                    Some(_) => {}
                    None => break,
                }
            }
            ready.into_values().collect()
        };
        tokio::time::timeout(PATIENCE, all).await.map_err(|_| {
            Failure::new(format!("not all storage pods serve after {} s", PATIENCE.as_secs()))
                .safe("what they hold is durable")
                .next("`coffer fleet pods` and `coffer fleet events` say why; agents write to fleet/nodes/NAME/agent.log")
        })
    }

    /// The sites of a deployment about to be founded on these pods.
    pub(in crate::commands) async fn site_file(
        &self,
        context: &Context<'_>,
        data_dir: &Path,
        pods: &[Pod],
    ) -> Result<SiteFile, Failure> {
        let text = self.site_text(context, data_dir, pods).await?;
        // Where its nodes stand was asked when they came.
        SiteFile::parse_where_some_are(&text, |_| true)
            .advise("nothing was founded", "this is a fault of the program")
    }

    /// The same as a site file's text.
    pub(in crate::commands) async fn site_text(
        &self,
        context: &Context<'_>,
        data_dir: &Path,
        pods: &[Pod],
    ) -> Result<String, Failure> {
        // What the service shows to its pods.
        let shown = data_dir.join("credentials").join("pods");
        if !shown.exists() {
            let authority = SiteAuthority::open_or_create(&self.enrols)?;
            write_site_files(&shown, &authority.caller()?.files)?;
        }
        context.output.remark("the storage pods serve");
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let nodes: Api<Node> = Api::all(self.client.clone());
        let mut text = String::new();
        for pod in pods {
            let name = pod.name_any();
            let secret = secrets.get(&format!("{name}-certificate")).await.map_err(|error| failed(&error))?;
            let id = site_id(secret).unwrap_or_default();
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            let node = nodes.get(&node).await.map_err(|error| failed(&error))?;
            let place = self.wanted.places.iter().find(|place| place.name == node.name_any());
            let place = place.ok_or_else(|| Failure::new(format!("{name} runs on an unknown node")))?;
            let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
            let stands = (place.country, &place.domain, place.tier);
            text.push_str(&site_entry(&name, &id, stands, &format!("https://{address}:{PORT}")));
        }
        Ok(text)
    }
}

/// Tells every pod to end, and waits until none is left but those of lost nodes,
/// which nobody can tell anything.
pub(super) async fn end_all(client: &Client, lost: &BTreeSet<String>) -> Result<(), Failure> {
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let ours = ListParams::default().labels(LABEL_SET);
    let found = api.list(&ours).await.map_err(|error| failed(&error))?;
    let remain = |pods: &ObjectList<Pod>| -> BTreeSet<String> {
        let stays = |pod: &&Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            !node.is_some_and(|node| lost.contains(node))
        };
        pods.iter().filter(stays).map(kube::ResourceExt::name_any).collect()
    };
    let mut left = remain(&found);
    let config = watcher::Config::default().labels(LABEL_SET);
    let mut events = std::pin::pin!(watcher(api.clone(), config).default_backoff());
    for name in &left {
        drop(api.delete(name, &DeleteParams::default()).await);
    }
    let gone = async {
        while !left.is_empty() {
            match events.next().await {
                Some(Ok(watcher::Event::Delete(pod))) => drop(left.remove(&pod.name_any())),
                // Those that were gone before the watch began.
                Some(Ok(watcher::Event::InitDone)) => {
                    let now = api.list(&ours).await.map_err(|error| failed(&error))?;
                    left = remain(&now);
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(())
    };
    let waited = tokio::time::timeout(PATIENCE, gone).await;
    waited.unwrap_or_else(|_| Err(Failure::new("pods do not end")))
}
