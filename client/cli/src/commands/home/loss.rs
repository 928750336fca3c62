//! Nodes of a fleet at home that are given up: their agents and pods are killed
//! and do not come back; what is left at the end is ended, and what cannot be is said.

use coffer_control::NAMESPACE;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use super::Home;
use crate::context::Context;
use crate::exit::Failure;

impl Home {
    /// Kills, with SIGKILL, each of these pods and the agent of its node, and starts none of them again.
    pub(in crate::commands) async fn lose(&mut self, pods: &[String]) -> Result<(), Failure> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut dirs = Vec::new();
        for name in pods {
            let pod = api.get(name).await.map_err(|error| Failure::new(format!("the fleet: {error}")))?;
            let node = pod.spec.and_then(|spec| spec.node_name);
            let node = node.ok_or_else(|| Failure::new(format!("{name} runs on no node")))?;
            self.agents.kill(&node).await;
            dirs.push(self.node_dir(&node));
            self.lost.insert(node);
        }
        let left = self.agents.end_leftovers(&dirs).await;
        if left.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("a pod does not end: {}", left.join("; "))))
        }
    }

    /// Ends the fleet for good: in order where that is possible, and whatever is left then by SIGKILL. Returns
    /// what could not be ended: what is noted of it in the fleet's directory is all that the next attempt has.
    pub(in crate::commands) async fn end(self, context: &Context<'_>) -> Vec<String> {
        let dirs: Vec<_> = self.wanted.places.iter().map(|place| self.node_dir(&place.name)).collect();
        let agents = self.end_in_order(context).await;
        agents.end_leftovers(&dirs).await
    }
}
