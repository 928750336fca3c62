//! What the node has, and what its pods have asked for. A pod that does not fit
//! is refused by the node, whatever its scheduler believed.

use std::collections::BTreeMap;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Pod;

use super::quantity::Quantity;

/// Amounts by resource.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Why a pod is refused: the words of a kubelet, `OutOf…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub reason: String,
    pub message: String,
}

/// The node's account.
pub(crate) struct Admission {
    capacity: Amounts,
    admitted: Mutex<BTreeMap<String, Amounts>>,
}

impl Admission {
    pub(crate) fn new(capacity: Amounts) -> Self {
        Self { capacity, admitted: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) fn capacity(&self) -> &Amounts {
        &self.capacity
    }

    /// Counts the pod if it fits beside those that were counted before. One
    /// that was counted already fits.
    pub(crate) fn admit(&self, uid: &str, pod: &Pod) -> Result<(), Refusal> {
        let asked = requests(pod)?;
        let mut admitted = self.admitted.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if admitted.contains_key(uid) {
            return Ok(());
        }
        let pods = Quantity::units(1);
        for (resource, amount) in asked.iter().chain([(&"pods".to_owned(), &pods)]) {
            let have = self.capacity.get(resource).copied().unwrap_or_default();
            let used: i128 = match resource.as_str() {
                "pods" => Quantity::units(admitted.len() as u64).milli,
                _ => {
                    admitted.values().filter_map(|amounts| amounts.get(resource)).map(|used| used.milli).sum()
                }
            };
            if used + amount.milli > have.milli {
                let used = Quantity { milli: used };
                let message = format!(
                    "the node has {have} of {resource}, {used} of it taken; the pod asks for {amount}"
                );
                return Err(Refusal { reason: format!("OutOf{resource}"), message });
            }
        }
        admitted.insert(uid.to_owned(), asked);
        Ok(())
    }

    /// Gives back what the pod had.
    pub(crate) fn release(&self, uid: &str) {
        self.admitted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(uid);
    }
}

/// What a pod asks for: requests, or limits where it has only those.
fn requests(pod: &Pod) -> Result<Amounts, Refusal> {
    let mut sum = Amounts::new();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    for resources in containers.filter_map(|container| container.resources.as_ref()) {
        let mut asked = resources.limits.clone().unwrap_or_default();
        asked.extend(resources.requests.clone().unwrap_or_default());
        for (resource, amount) in asked {
            let amount = Quantity::parse(&amount.0).map_err(|error| Refusal {
                reason: "UnexpectedAdmissionError".to_owned(),
                message: format!("{resource}: {error}"),
            })?;
            sum.entry(resource).or_default().milli += amount.milli;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(cpu: &str, disk: &str) -> Pod {
        let resources = serde_json::json!({ "requests": { "cpu": cpu, "fleet.coffer/disk-bytes": disk } });
        let spec = serde_json::json!({ "containers": [{ "name": "site", "resources": resources }] });
        serde_json::from_value(serde_json::json!({ "spec": spec })).unwrap()
    }

    fn node() -> Admission {
        let have = [("cpu", "2"), ("fleet.coffer/disk-bytes", "10Gi"), ("pods", "3")];
        Admission::new(have.map(|(name, amount)| (name.to_owned(), Quantity::parse(amount).unwrap())).into())
    }

    #[test]
    fn a_pod_that_does_not_fit_is_refused_by_what_is_short() {
        let node = node();
        node.admit("a", &pod("1500m", "1Gi")).unwrap();
        assert_eq!(node.admit("b", &pod("501m", "1Gi")).unwrap_err().reason, "OutOfcpu");
        let refusal = node.admit("b", &pod("1m", "10Gi")).unwrap_err();
        assert_eq!(refusal.reason, "OutOffleet.coffer/disk-bytes");
        node.admit("b", &pod("500m", "9Gi")).unwrap();
    }

    #[test]
    fn what_the_node_never_heard_of_is_none() {
        let mut pod = pod("1", "1");
        let requests =
            pod.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap().requests.as_mut().unwrap();
        requests.insert(
            "example.org/gpu".to_owned(),
            k8s_openapi::apimachinery::pkg::api::resource::Quantity("1".into()),
        );
        assert_eq!(node().admit("a", &pod).unwrap_err().reason, "OutOfexample.org/gpu");
    }

    #[test]
    fn what_was_given_back_can_be_had_again_and_nobody_counts_twice() {
        let node = node();
        for _ in 0..3 {
            node.admit("a", &pod("2", "1Gi")).unwrap();
        }
        node.release("a");
        node.admit("b", &pod("2", "1Gi")).unwrap();
    }

    #[test]
    fn a_node_takes_no_more_pods_than_it_says() {
        let node = node();
        for uid in ["a", "b", "c"] {
            node.admit(uid, &pod("1m", "1")).unwrap();
        }
        assert_eq!(node.admit("d", &pod("1m", "1")).unwrap_err().reason, "OutOfpods");
    }
}
