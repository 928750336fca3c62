//! Affinity of the API. What is not supported is refused by name: a wish that is silently left aside is worse
//! than none.

use std::collections::BTreeSet;

use coffer_scheduler::{Affinity, NodeTerm, Operator, PodTerm, Preferred, Requirement, Space, Topology};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Why an affinity cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AffinityError {
    /// A part that the fleet's scheduler does not know.
    #[error("{0} is not supported by the fleet's scheduler; leave it out")]
    Unsupported(&'static str),
    /// An operator that there is not.
    #[error(
        "{0}: the operators are In, NotIn, Exists and DoesNotExist, for labels of nodes Gt and Lt, not \"{1}\""
    )]
    Operator(&'static str, String),
    /// Values that do not go with the operator.
    #[error("{0}: {1} takes {2}")]
    Values(&'static str, &'static str, &'static str),
    /// A field of nodes that nothing can be asked of.
    #[error("matchFields: only metadata.name can be asked for, with In or NotIn, not \"{0}\"")]
    Field(String),
    /// A list that would fit no node.
    #[error("nodeSelectorTerms: an empty list fits no node; name a term, or leave the affinity out")]
    NoTerm,
    /// A weight that there is not.
    #[error("weight: from 1 to 100, not {0}")]
    Weight(i32),
    /// A term without a place.
    #[error("{0}: topologyKey is missing")]
    NoTopology(&'static str),
    /// A term that speaks of the pod's own set.
    #[error("{0}: the term means pods of the set itself; how a set is spread is said by its spec.spread")]
    OwnSet(&'static str),
}

const NODE: &str = "spec.affinity.nodeAffinity";
const NEAR: &str = "spec.affinity.podAffinity";
const APART: &str = "spec.affinity.podAntiAffinity";

/// Affinity of a pod in a namespace.
///
/// # Errors
/// [`AffinityError`].
pub(super) fn affinity(object: &core::Affinity, namespace: &str) -> Result<Affinity, AffinityError> {
    let mut one = Affinity::default();
    if let Some(node) = &object.node_affinity {
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            let terms: Result<Vec<NodeTerm>, _> =
                required.node_selector_terms.iter().map(node_term).collect();
            one.nodes = terms?;
            if one.nodes.is_empty() {
                return Err(AffinityError::NoTerm);
            }
        }
        for wish in node.preferred_during_scheduling_ignored_during_execution.iter().flatten() {
            let term = node_term(&wish.preference)?;
            let weight = weight(wish.weight)?;
            // One that asks nothing is fulfilled everywhere.
            if term != NodeTerm::default() {
                one.prefers_nodes.push(Preferred { weight, term });
            }
        }
    }
    if let Some(near) = &object.pod_affinity {
        let required = near.required_during_scheduling_ignored_during_execution.iter().flatten();
        one.near = terms(required, NEAR, namespace)?;
        let wishes = near.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        one.prefers_near = preferred(wishes, NEAR, namespace)?;
    }
    if let Some(apart) = &object.pod_anti_affinity {
        let required = apart.required_during_scheduling_ignored_during_execution.iter().flatten();
        one.apart = terms(required, APART, namespace)?;
        let wishes = apart.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        one.prefers_apart = preferred(wishes, APART, namespace)?;
    }
    Ok(one)
}

/// Affinity of the pods of a set. Two of them never share a node anyway, so that a demand to be apart from each other
/// by node says nothing; any other term that means the set itself is refused.
///
/// # Errors
/// [`AffinityError`].
pub(super) fn of_set(
    object: Option<&core::Affinity>,
    namespace: &str,
    set: &str,
    labels: &std::collections::BTreeMap<String, String>,
) -> Result<Option<Box<Affinity>>, AffinityError> {
    let Some(object) = object else { return Ok(None) };
    let mut one = affinity(object, namespace)?;
    one.in_fleet(namespace);
    let is_own = |term: &PodTerm| term.may_mean_set(set, labels);
    let apart = one.apart.iter().filter(|term| term.topology != Topology::Node);
    if apart.chain(one.prefers_apart.iter().map(|wish| &wish.term)).any(is_own) {
        return Err(AffinityError::OwnSet(APART));
    }
    if one.near.iter().chain(one.prefers_near.iter().map(|wish| &wish.term)).any(is_own) {
        return Err(AffinityError::OwnSet(NEAR));
    }
    Ok((one != Affinity::default()).then(|| Box::new(one)))
}

/// Whom a pod of somebody else does not want near, as far as it can be read. Where it names namespaces by their
/// labels the fleet's is taken to be one of them: nobody is put where he is perhaps not to be.
pub(super) fn of_other(
    object: Option<&core::Affinity>,
    namespace: &str,
    fleet: &str,
) -> Option<Box<Affinity>> {
    let apart = object?.pod_anti_affinity.as_ref()?;
    let required = apart.required_during_scheduling_ignored_during_execution.iter().flatten();
    let read = |term: &core::PodAffinityTerm| {
        let mut one = pod_term(term, APART, namespace).ok()?;
        if term.namespace_selector.is_some() {
            one.spaces.insert(Space::Fleet);
        }
        one.in_fleet(fleet);
        one.spaces.contains(&Space::Fleet).then_some(one)
    };
    let apart: Vec<PodTerm> = required.filter_map(read).collect();
    (!apart.is_empty()).then(|| Box::new(Affinity { apart, ..Affinity::default() }))
}

fn weight(weight: i32) -> Result<u32, AffinityError> {
    u32::try_from(weight).ok().filter(|one| (1..=100).contains(one)).ok_or(AffinityError::Weight(weight))
}

fn node_term(term: &core::NodeSelectorTerm) -> Result<NodeTerm, AffinityError> {
    let expressions = term.match_expressions.iter().flatten();
    let labels: Result<Vec<Requirement>, _> = expressions
        .map(|one| {
            let is = operator(NODE, &one.operator, one.values.as_deref(), true)?;
            Ok(Requirement { key: one.key.clone(), is })
        })
        .collect();
    let fields = term.match_fields.iter().flatten();
    let names: Result<Vec<Operator>, _> = fields
        .map(|one| match operator(NODE, &one.operator, one.values.as_deref(), false)? {
            is @ (Operator::In(_) | Operator::NotIn(_)) if one.key == "metadata.name" => Ok(is),
            _ => Err(AffinityError::Field(one.key.clone())),
        })
        .collect();
    Ok(NodeTerm { labels: labels?, names: names? })
}

fn operator(
    path: &'static str,
    name: &str,
    values: Option<&[String]>,
    numbers: bool,
) -> Result<Operator, AffinityError> {
    let values = values.unwrap_or_default();
    let list = |name| match values {
        [] => Err(AffinityError::Values(path, name, "one value or more")),
        some => Ok(some.iter().cloned().collect::<BTreeSet<String>>()),
    };
    let none = |name, is| match values {
        [] => Ok(is),
        _ => Err(AffinityError::Values(path, name, "no values")),
    };
    let number = |name| {
        let bound = match values {
            [one] => one.parse::<i64>().ok(),
            _ => None,
        };
        bound.ok_or(AffinityError::Values(path, name, "one whole number"))
    };
    match name {
        "In" => list("In").map(Operator::In),
        "NotIn" => list("NotIn").map(Operator::NotIn),
        "Exists" => none("Exists", Operator::Exists),
        "DoesNotExist" => none("DoesNotExist", Operator::DoesNotExist),
        "Gt" if numbers => number("Gt").map(Operator::Gt),
        "Lt" if numbers => number("Lt").map(Operator::Lt),
        other => Err(AffinityError::Operator(path, other.to_owned())),
    }
}

fn terms<'a>(
    all: impl Iterator<Item = &'a core::PodAffinityTerm>,
    path: &'static str,
    namespace: &str,
) -> Result<Vec<PodTerm>, AffinityError> {
    all.map(|term| whole(term).and_then(|term| pod_term(term, path, namespace))).collect()
}

fn preferred<'a>(
    all: impl Iterator<Item = &'a core::WeightedPodAffinityTerm>,
    path: &'static str,
    namespace: &str,
) -> Result<Vec<Preferred<PodTerm>>, AffinityError> {
    let one = |wish: &core::WeightedPodAffinityTerm| {
        let term = pod_term(whole(&wish.pod_affinity_term)?, path, namespace)?;
        Ok(Preferred { weight: weight(wish.weight)?, term })
    };
    all.map(one).collect()
}

/// A term without the parts that are not known here.
fn whole(term: &core::PodAffinityTerm) -> Result<&core::PodAffinityTerm, AffinityError> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    if term.namespace_selector.is_some() {
        Err(AffinityError::Unsupported("spec.affinity: namespaceSelector"))
    } else if some(&term.match_label_keys) {
        Err(AffinityError::Unsupported("spec.affinity: matchLabelKeys"))
    } else if some(&term.mismatch_label_keys) {
        Err(AffinityError::Unsupported("spec.affinity: mismatchLabelKeys"))
    } else {
        Ok(term)
    }
}

fn pod_term(
    term: &core::PodAffinityTerm,
    path: &'static str,
    namespace: &str,
) -> Result<PodTerm, AffinityError> {
    if term.topology_key.is_empty() {
        return Err(AffinityError::NoTopology(path));
    }
    let named = term.namespaces.iter().flatten().cloned().map(Space::Named);
    let mut spaces: BTreeSet<Space> = named.collect();
    if spaces.is_empty() && term.namespace_selector.is_none() {
        spaces.insert(Space::Named(namespace.to_owned()));
    }
    let topology = Topology::from(term.topology_key.as_str());
    let selector = term.label_selector.as_ref().map(|one| selector(one, path)).transpose()?;
    // Kubernetes takes a selector that is not there for one that means nobody.
    let nobody = || vec![Requirement { key: String::new(), is: Operator::In(BTreeSet::new()) }];
    Ok(PodTerm { topology, spaces, selector: selector.unwrap_or_else(nobody) })
}

fn selector(object: &LabelSelector, path: &'static str) -> Result<Vec<Requirement>, AffinityError> {
    let labels = object.match_labels.iter().flatten();
    let labels = labels
        .map(|(key, value)| Ok(Requirement { key: key.clone(), is: Operator::In([value.clone()].into()) }));
    let expressions = object.match_expressions.iter().flatten().map(|one| {
        let is = operator(path, &one.operator, one.values.as_deref(), false)?;
        Ok(Requirement { key: one.key.clone(), is })
    });
    labels.chain(expressions).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<Option<Box<Affinity>>, AffinityError> {
        let object: core::Affinity = serde_json::from_value(value).unwrap();
        of_set(Some(&object), "coffer", "gold", &BTreeMap::new())
    }

    fn node(term: Value) -> Result<Option<Box<Affinity>>, AffinityError> {
        let required = json!({ "nodeSelectorTerms": [term] });
        read(json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } }))
    }

    fn apart(term: Value) -> Result<Option<Box<Affinity>>, AffinityError> {
        read(json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } }))
    }

    fn db(more: &Value) -> Value {
        let mut term = json!({ "topologyKey": "rack", "labelSelector": { "matchLabels": { "app": "db" } } });
        term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        term
    }

    #[test]
    fn everything_that_nobody_would_keep_is_refused_by_name() {
        let keyed = |key: &str, value: Value| apart(db(&json!({ key: value })));
        let unsupported = |name| Err(AffinityError::Unsupported(name));
        let by_labels = keyed("namespaceSelector", json!({}));
        assert_eq!(by_labels, unsupported("spec.affinity: namespaceSelector"));
        assert_eq!(keyed("matchLabelKeys", json!(["x"])), unsupported("spec.affinity: matchLabelKeys"));
        assert_eq!(keyed("mismatchLabelKeys", json!(["x"])), unsupported("spec.affinity: mismatchLabelKeys"));
        assert_eq!(keyed("topologyKey", json!("")), Err(AffinityError::NoTopology(APART)));
        let expression = |operator: &str, values: Value| {
            node(json!({ "matchExpressions": [{ "key": "size", "operator": operator, "values": values }] }))
        };
        assert!(matches!(expression("Near", json!(["1"])), Err(AffinityError::Operator(NODE, _))));
        for (operator, values) in
            [("Gt", json!(["x"])), ("Lt", json!(["1", "2"])), ("In", json!([])), ("Exists", json!(["1"]))]
        {
            assert!(matches!(expression(operator, values), Err(AffinityError::Values(..))), "{operator}");
        }
        let field = |key: &str, operator: &str| {
            node(json!({ "matchFields": [{ "key": key, "operator": operator, "values": ["a"] }] }))
        };
        assert!(field("metadata.name", "In").is_ok());
        assert!(matches!(field("metadata.uid", "In"), Err(AffinityError::Field(_))));
        let required = json!({ "nodeSelectorTerms": [] });
        let empty = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } });
        assert_eq!(read(empty), Err(AffinityError::NoTerm));
        let wish = json!([{ "weight": 101, "podAffinityTerm": db(&json!({})) }]);
        let heavy = json!({ "podAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": wish } });
        assert_eq!(read(heavy), Err(AffinityError::Weight(101)));
    }

    #[test]
    fn a_set_says_how_it_is_spread_itself() {
        let own =
            |key: &str, selector: Value| apart(json!({ "topologyKey": key, "labelSelector": selector }));
        let gold = || json!({ "matchLabels": { "fleet.coffer/site-set": "gold" } });
        assert!(own("kubernetes.io/hostname", gold()).is_ok(), "two pods of a set never share a node");
        for selector in [gold(), json!({}), json!({ "matchLabels": { "fleet.coffer/ordinal": "3" } })] {
            assert_eq!(own("rack", selector), Err(AffinityError::OwnSet(APART)));
        }
        let other = json!({ "matchLabels": { "fleet.coffer/site-set": "silver" } });
        assert!(own("rack", other.clone()).is_ok());
        let near = json!([{ "topologyKey": "rack", "labelSelector": gold() }]);
        let near = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": near } });
        assert_eq!(read(near), Err(AffinityError::OwnSet(NEAR)));
    }

    #[test]
    fn a_term_without_namespaces_speaks_of_the_pods_own_and_one_without_a_selector_of_nobody() {
        let terms = |object: Value| apart(object).unwrap().unwrap().apart;
        let one = &terms(db(&json!({})))[0];
        assert_eq!((&one.spaces, &one.topology), (&[Space::Fleet].into(), &Topology::Label("rack".into())));
        let one = &terms(db(&json!({ "namespaces": ["shop"] })))[0];
        assert_eq!(one.spaces, [Space::Named("shop".into())].into());
        let one = &terms(json!({ "topologyKey": "rack" }))[0];
        assert!(!one.selector[0].is_met(Some("anything")) && !one.selector[0].is_met(None));
    }

    #[test]
    fn of_somebody_elses_pod_only_whom_it_shuns_is_read_and_what_is_not_clear_holds_for_us() {
        let read = |term: Value| {
            let apart = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] });
            let object: core::Affinity = serde_json::from_value(json!({ "podAntiAffinity": apart })).unwrap();
            of_other(Some(&object), "shop", "coffer")
        };
        assert_eq!(read(db(&json!({}))), None, "its own namespace is not ours");
        assert!(read(db(&json!({ "namespaces": ["coffer"] }))).is_some());
        assert!(read(db(&json!({ "namespaceSelector": { "matchLabels": { "a": "b" } } }))).is_some());
    }
}
