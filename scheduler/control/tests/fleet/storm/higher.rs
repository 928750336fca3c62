//! What makes others give way in a storm: pods of somebody else that come and go, as a scheduler beside ours puts them,
//! and a set of a higher priority that comes, grows and goes. And what must be true of it: a plan ends, and none is made
//! without end.

use std::collections::{BTreeMap, BTreeSet};

use coffer_control::{PlacementRecord, translate};
use coffer_scheduler::{Ledger, Resources};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::Storm;
use crate::preemption::{class, set};
use crate::world::{is_ready, name};

/// Turns for which room may be kept for one pod on one node: a plan that does not come forward is undone after 600
/// seconds, of which each turn is one. One that comes forward moves a shard of each object in a turn.
const KEPT_MAX: u32 = 700;
/// Lines of the ledger in one turn: no plan is made and undone again and again.
const LINES_MAX: u64 = 400;

/// What a pod of ruby takes that fits beside a site of gold.
const FITS: u64 = 700;

/// For how many turns in a row room is kept for a pod (uid) on a node.
pub(super) type Kept = BTreeMap<(Option<String>, String), u32>;

impl Storm {
    /// The set of a higher priority comes, changes its size, or goes.
    pub(super) async fn higher_set(&mut self) {
        let replicas = 3 + self.chance.below(2);
        let sets = self.world.sets();
        match sets.get_opt("ruby").await.unwrap() {
            None => {
                let great = self.chance.below(3) > 0;
                let place = ["EU", "DE", "FR", "NL"][self.chance.below(4)];
                self.ruby_comes(replicas, great, place).await;
            }
            Some(_) if self.chance.below(2) == 0 => {
                sets.delete("ruby", &DeleteParams::default()).await.unwrap();
                self.ruby = 0;
            }
            // One that goes stays as it is.
            Some(ruby) if ruby.metadata.deletion_timestamp.is_none() => {
                let patch = json!({ "spec": { "replicas": replicas } });
                sets.patch("ruby", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
                self.ruby = replicas;
            }
            Some(_) => {}
        }
    }

    /// Of great pods none fits beside a site of gold. In one country there is hardly room for them: sites have to give
    /// way there, and others to come elsewhere.
    pub(super) async fn ruby_comes(&mut self, replicas: usize, great: bool, place: &str) {
        let high = class(&self.world, 1000, "PreemptLowerPriority").await;
        let disk = if great { 800 } else { FITS };
        set(&self.world, "ruby", |spec| {
            spec["replicas"] = json!(replicas);
            spec["residency"]["allow"] = json!([place]);
            spec["template"]["resources"]["diskBytes"] = json!(disk);
            spec["template"]["priorityClassName"] = json!(high);
        })
        .await;
        (self.ruby, self.great) = (replicas, great);
    }

    /// Another scheduler puts a pod where there is room by what the API says: what is kept for ours is nothing to it.
    pub(super) async fn somebody_comes(&mut self, n: usize) {
        let nodes = self.world.all_nodes().await;
        let node = &nodes[&name(n)];
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        let total = translate::node(node).unwrap().total;
        let mut used = Resources::default();
        for pod in self.world.all_pods().await {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) == Some(name(n)) {
                used = used.plus(&translate::pod(&pod).pod.needs);
            }
        }
        let disk = 300 + 100 * self.chance.below(6) as u64;
        if cordoned || !is_ready(node) || used.disk_bytes + disk > total.disk_bytes {
            return;
        }
        let low = if self.chance.below(2) == 0 { Some(class(&self.world, -10, "Never").await) } else { None };
        self.others += 1;
        let amounts = json!({ "cpu": "10m", "memory": "1Mi", "fleet.coffer/disk-bytes": disk.to_string() });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": format!("batch-{}", self.others), "namespace": self.world.home.namespace },
            "spec": {
                "schedulerName": "another", "nodeName": name(n), "priorityClassName": low,
                "tolerations": [{ "operator": "Exists" }],
                "containers": [{ "name": "c", "image": "i", "resources": { "requests": amounts, "limits": amounts } }],
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.world.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    async fn others(&self) -> Vec<Pod> {
        let mut pods = self.world.all_pods().await;
        pods.retain(|pod| pod.name_any().starts_with("batch-"));
        pods
    }

    /// One of these goes by itself.
    pub(super) async fn somebody_goes(&mut self) {
        let others = self.others().await;
        if !others.is_empty() {
            let gone = others[self.chance.below(others.len())].name_any();
            self.world.pods().delete(&gone, &DeleteParams::default()).await.unwrap();
        }
    }

    /// What happened by priority in a turn, and that it does not go on for ever.
    pub(super) async fn plans_end(&mut self, before: &[Pod], when: &str) {
        let ending = |pod: &&Pod| translate::pod(pod).phase == translate::Phase::Ending;
        let already: BTreeSet<Option<String>> = before.iter().filter(ending).map(ResourceExt::uid).collect();
        let after = self.world.all_pods().await;
        let evicted = after
            .iter()
            .filter(ending)
            .filter(|pod| pod.name_any().starts_with("batch-") && !already.contains(&pod.uid()));
        *self.counts.entry("evicted").or_default() += evicted.count() as u64;
        let status = self.world.sets().get("gold").await.unwrap().status.unwrap_or_default();
        let gives_way = status.members.iter().filter(|member| member.leaves.as_deref() == Some("Preempted"));
        *self.counts.entry("turns of sites that gave way").or_default() += gives_way.count() as u64;
        let mut kept = Kept::new();
        for pod in &after {
            let node = pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
            let waits = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none());
            let Some(node) = node.filter(|_| waits) else { continue };
            let key = (pod.uid(), node);
            let turns = self.kept.get(&key).copied().unwrap_or(0) + 1;
            assert!(turns <= KEPT_MAX, "{when}: room is kept for {} for {turns} turns", pod.name_any());
            kept.insert(key, turns);
        }
        self.kept = kept;
        let lines = self.world.turns.book().lock().unwrap().ledger().lines();
        assert!(lines - self.lines <= LINES_MAX, "{when}: {} lines in one turn", lines - self.lines);
        self.lines = lines;
    }

    /// Those who made it narrow are gone: beside pods that fit beside no site of gold there is not room for all of gold
    /// in every country.
    pub(super) async fn others_leave(&mut self) {
        if self.great && self.ruby > 0 {
            self.world.sets().delete("ruby", &DeleteParams::default()).await.unwrap();
            self.ruby = 0;
        }
        for pod in self.others().await {
            self.world.pods().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
        }
    }

    /// The set of a higher priority is as it was wanted, or gone.
    pub(super) async fn ruby_is_as_wanted(&self) -> bool {
        let pods = self.world.all_pods().await;
        let pods: Vec<&Pod> = pods.iter().filter(|pod| pod.name_any().starts_with("ruby-")).collect();
        pods.len() == self.ruby && pods.iter().all(|pod| translate::pod(pod).ready)
    }

    /// The whole ledger of the storm is made again from what it says, the plans too; how many of these there were.
    pub(super) async fn ledger_replays(&mut self, when: &str) {
        let records = self.world.api::<PlacementRecord>().list(&ListParams::default()).await.unwrap().items;
        let records: BTreeMap<u64, PlacementRecord> =
            records.into_iter().map(|record| (record.spec.first, record)).collect();
        let lines: Vec<String> = records.into_values().flat_map(|record| record.spec.lines).collect();
        let replayed = Ledger::replay(lines.iter().map(String::as_str), None);
        assert!(replayed.is_ok(), "{when}: {:?}", replayed.map(|_| ()));
        let count = |kind: &str| lines.iter().filter(|line| line.contains(kind)).count() as u64;
        *self.counts.entry("plans").or_default() += count("\"what\":{\"preempted\"");
        *self.counts.entry("plans undone").or_default() += count("\"what\":{\"unclaimed\"");
    }
}
