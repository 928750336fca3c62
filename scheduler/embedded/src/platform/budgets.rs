//! The arithmetic of disruption budgets: how many pods a budget covers, how
//! many of them must stay healthy, how many may go now. An eviction obeys what
//! this writes into the status. Whatever is not known counts against disruption.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Why a status could not be computed; then nothing may be disrupted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unknown {
    /// A share of the pods was asked for, and some have no owner that could say how many there should be.
    #[error(
        "pod {0} has no controller with a scale, so that there is no whole to take a share of; set minAvailable to a number"
    )]
    NoScale(String),
    /// Neither a number nor a percentage.
    #[error("{0:?} is neither a number nor a percentage")]
    NotANumber(String),
    /// An operator of a label selector that does not exist.
    #[error("the selector has an expression with the unknown operator {0:?}")]
    Operator(String),
}

/// Whether the selector selects these labels. An empty one selects all of its
/// namespace, none at all selects nothing.
///
/// # Errors
/// An operator that does not exist.
pub fn selects(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> Result<bool, Unknown> {
    let Some(selector) = selector else { return Ok(false) };
    let equal = selector.match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
    let mut all = equal;
    for expression in selector.match_expressions.iter().flatten() {
        let value = labels.get(&expression.key);
        let listed = |value: &String| expression.values.iter().flatten().any(|listed| listed == value);
        all &= match expression.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            other => return Err(Unknown::Operator(other.to_owned())),
        };
    }
    Ok(all)
}

/// Whether the budget needs to know how many pods there should be.
#[must_use]
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// What the budget's status should be. `pods` are those that it selects; `scale`
/// says how many pods their controllers want together, and is asked
/// only if [`needs_scale`].
#[must_use]
pub fn status(
    budget: &PodDisruptionBudget,
    pods: &[&Pod],
    scale: Result<i32, Unknown>,
    now: &Time,
    granted: Duration,
) -> PodDisruptionBudgetStatus {
    let disrupted = disrupted(budget, pods, now, granted);
    let healthy = pods.iter().filter(|pod| healthy(pod) && !disrupted.contains_key(name(pod))).count();
    let current = i32::try_from(healthy).unwrap_or(i32::MAX);
    let (result, error) = match expected_and_desired(budget, pods.len(), scale) {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error)),
    };
    let (expected, desired) =
        result.unwrap_or_else(|| (i32::try_from(pods.len()).unwrap_or(i32::MAX), current));
    let allowed = match error {
        Some(_) => 0,
        None if expected <= 0 => 0,
        None => current.saturating_sub(desired).max(0),
    };
    let generation = budget.metadata.generation;
    PodDisruptionBudgetStatus {
        conditions: Some(vec![verdict(budget, allowed, error.as_ref(), now)]),
        current_healthy: current,
        desired_healthy: desired,
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: allowed,
        expected_pods: expected,
        observed_generation: generation,
    }
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Ready, and not on its way out.
fn healthy(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Evictions that were granted and whose pods are not seen going yet. One that was
/// granted long ago and never carried out is forgotten, and so is one whose pod was
/// made anew: an eviction marks the pod with the very commit that grants it, so that
/// what is there after that commit and is not marked is another pod of the same name.
fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[&Pod],
    now: &Time,
    granted: Duration,
) -> BTreeMap<String, Time> {
    let known = budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let granted_by = revision(&budget.metadata);
    let is_later = |pod: &Pod| revision(&pod.metadata).is_some_and(|seen| Some(seen) > granted_by);
    let still = |pod: &String, since: &Time| {
        let mut named = pods.iter().filter(|other| name(other) == pod);
        let there = named.any(|other| other.metadata.deletion_timestamp.is_none() && !is_later(other));
        let age = now.0.as_second().saturating_sub(since.0.as_second());
        there && u64::try_from(age).unwrap_or(0) < granted.as_secs()
    };
    known.into_iter().filter(|(pod, since)| still(pod, since)).collect()
}

/// The commit of the store that wrote this object last; one store counts them for all kinds.
fn revision(of: &ObjectMeta) -> Option<u64> {
    of.resource_version.as_deref()?.parse().ok()
}

fn expected_and_desired(
    budget: &PodDisruptionBudget,
    pods: usize,
    scale: Result<i32, Unknown>,
) -> Result<(i32, i32), Unknown> {
    let pods = i32::try_from(pods).unwrap_or(i32::MAX);
    let Some(spec) = &budget.spec else { return Ok((pods, 0)) };
    if let Some(most) = &spec.max_unavailable {
        let expected = scale?;
        return Ok((expected, expected.saturating_sub(amount(most, expected)?).max(0)));
    }
    match &spec.min_available {
        None => Ok((pods, 0)),
        Some(IntOrString::Int(least)) => Ok((pods, *least)),
        Some(share) => {
            let expected = scale?;
            Ok((expected, amount(share, expected)?))
        }
    }
}

/// A number, or a percentage of the whole, rounded up.
fn amount(of: &IntOrString, whole: i32) -> Result<i32, Unknown> {
    match of {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|percent| percent.parse::<u32>().ok());
            let percent = percent.ok_or_else(|| Unknown::NotANumber(text.clone()))?;
            let share = (i64::from(percent) * i64::from(whole) + 99) / 100;
            Ok(i32::try_from(share).unwrap_or(i32::MAX))
        }
    }
}

fn verdict(budget: &PodDisruptionBudget, allowed: i32, error: Option<&Unknown>, now: &Time) -> Condition {
    let (status, reason) = match error {
        Some(_) => ("False", "SyncFailed"),
        None if allowed > 0 => ("True", "SufficientPods"),
        None => ("False", "InsufficientPods"),
    };
    let before = budget.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let before = before.iter().find(|condition| condition.type_ == "DisruptionAllowed");
    let since =
        before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: error.map(Unknown::to_string).unwrap_or_default(),
        last_transition_time: since.unwrap_or_else(|| now.clone()),
        observed_generation: budget.metadata.generation,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff;
    use serde_json::{Value, json};

    use super::*;

    fn made<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn pods(healthy: usize, sick: usize) -> Vec<Pod> {
        (0..healthy + sick)
            .map(|at| {
                let ready = if at < healthy { "True" } else { "False" };
                made(json!({
                    "metadata": {"name": format!("p{at}"), "labels": {"a": "b"}},
                    "status": {"conditions": [{"type": "Ready", "status": ready}]},
                }))
            })
            .collect()
    }

    fn at(second: i64) -> Time {
        Time(jiff::Timestamp::from_second(second).unwrap())
    }

    fn of(
        spec: Value,
        before: Value,
        pods: &[Pod],
        scale: Result<i32, Unknown>,
    ) -> PodDisruptionBudgetStatus {
        let budget = made(json!({"metadata": {"generation": 3}, "spec": spec, "status": before}));
        status(&budget, &pods.iter().collect::<Vec<_>>(), scale, &at(1000), Duration::from_secs(120))
    }

    fn before(disrupted: Value) -> Value {
        json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0, "disruptedPods": disrupted})
    }

    #[test]
    fn what_may_go_is_what_is_healthy_beyond_what_must_stay() {
        for (spec, healthy, sick, scale, allowed) in [
            (json!({"minAvailable": 5}), 6, 0, 0, 1),
            (json!({"minAvailable": 5}), 5, 1, 0, 0),
            (json!({"minAvailable": 0}), 6, 0, 0, 6),
            (json!({"maxUnavailable": 1}), 6, 0, 6, 1),
            (json!({"maxUnavailable": 1}), 5, 1, 6, 0),
            (json!({"maxUnavailable": 0}), 6, 0, 6, 0),
            (json!({"maxUnavailable": "50%"}), 6, 0, 6, 3),
            (json!({"minAvailable": "51%"}), 6, 0, 6, 2),
            // A pod that has not been replaced yet counts as one that is away.
            (json!({"maxUnavailable": 1}), 5, 0, 6, 0),
            (json!({"minAvailable": 1}), 0, 0, 0, 0),
        ] {
            let status = of(spec.clone(), before(json!({})), &pods(healthy, sick), Ok(scale));
            assert_eq!(status.disruptions_allowed, allowed, "{spec} {healthy} {sick}");
            assert_eq!(status.observed_generation, Some(3));
        }
    }

    #[test]
    fn a_granted_eviction_counts_until_the_pod_goes_or_never_went() {
        let spec = json!({"minAvailable": 5});
        let stamp = |second| serde_json::to_value(at(second)).unwrap();
        let fresh = of(spec.clone(), before(json!({"p0": stamp(990)})), &pods(6, 0), Ok(0));
        assert_eq!((fresh.current_healthy, fresh.disruptions_allowed), (5, 0));
        let old = of(spec.clone(), before(json!({"p0": stamp(100)})), &pods(6, 0), Ok(0));
        assert_eq!((old.disruptions_allowed, old.disrupted_pods), (1, None));
        let gone = of(spec, before(json!({"gone": stamp(990)})), &pods(6, 0), Ok(0));
        assert_eq!((gone.disruptions_allowed, gone.disrupted_pods), (1, None));
    }

    #[test]
    fn a_pod_that_was_made_anew_under_its_name_is_not_the_one_that_was_evicted() {
        let status_before = before(json!({"p0": serde_json::to_value(at(990)).unwrap()}));
        let mut six = pods(6, 0);
        let mut allowed = |granted_by: &str, seen: &str| {
            let budget: PodDisruptionBudget = made(json!({
                "metadata": {"resourceVersion": granted_by}, "spec": {"minAvailable": 5}, "status": status_before,
            }));
            six[0].metadata.resource_version = Some(seen.to_owned());
            let pods: Vec<&Pod> = six.iter().collect();
            status(&budget, &pods, Ok(0), &at(1000), Duration::from_secs(120)).disruptions_allowed
        };
        // What was read before the eviction may be the pod that goes.
        assert_eq!((allowed("12", "9"), allowed("12", "12"), allowed("12", "13")), (0, 0, 1));
    }

    #[test]
    fn a_pod_on_its_way_out_is_not_healthy() {
        let mut pods = pods(6, 0);
        pods[0].metadata.deletion_timestamp = Some(at(1));
        assert_eq!(of(json!({"minAvailable": 5}), before(json!({})), &pods, Ok(0)).disruptions_allowed, 0);
    }

    #[test]
    fn what_cannot_be_computed_allows_nothing_and_says_why() {
        let status = of(
            json!({"maxUnavailable": 3}),
            before(json!({})),
            &pods(6, 0),
            Err(Unknown::NoScale("p0".into())),
        );
        assert_eq!(status.disruptions_allowed, 0);
        let condition = &status.conditions.unwrap()[0];
        assert_eq!(condition.reason, "SyncFailed");
        assert!(condition.message.contains("p0"), "{}", condition.message);
        let status = of(json!({"minAvailable": "many"}), before(json!({})), &pods(6, 0), Ok(6));
        assert_eq!(status.disruptions_allowed, 0);
    }

    #[test]
    fn selectors_select_what_they_say() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let on = |selector: Value| selects(Some(&made(selector)), &labels);
        assert_eq!(selects(None, &labels), Ok(false));
        assert_eq!(on(json!({})), Ok(true));
        assert_eq!(on(json!({"matchLabels": {"a": "c"}})), Ok(false));
        for (operator, values, selected) in [
            ("In", json!(["b"]), true),
            ("NotIn", json!(["b"]), false),
            ("Exists", json!([]), true),
            ("DoesNotExist", json!([]), false),
        ] {
            let expression = json!({"key": "a", "operator": operator, "values": values});
            assert_eq!(on(json!({"matchExpressions": [expression]})), Ok(selected), "{operator}");
        }
        assert!(on(json!({"matchExpressions": [{"key": "a", "operator": "Like"}]})).is_err());
    }
}
