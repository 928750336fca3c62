//! Why the pods of a set cannot be placed, and what would help: a minimal set
//! of constraints that exclude each other (without any one of them there would
//! be a placement), and the cheapest change that makes one.

mod repair;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::around::Around;
use crate::decide::View;
use crate::filter::{Obstacle, obstacles};
use crate::{Cluster, Costs, Node, Pod, Residency, Resource, Resources, SiteSet, Spread};

pub use repair::Repair;

/// One kind of what a placement must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Nodes must report.
    Ready,
    /// Cordoned nodes take nothing.
    Cordon,
    /// Where a node stands must be attested.
    Attestation,
    /// The set's jurisdictions.
    Jurisdiction,
    /// The set's lowest tier.
    Tier,
    /// Labels that pods ask for.
    Labels,
    /// Taints that pods do not tolerate.
    Taints,
    /// Nodes that pods demand.
    NodeAffinity,
    /// Pods that pods have to be near to.
    PodAffinity,
    /// Pods that pods have to be apart from, and those that let them not near.
    PodAntiAffinity,
    /// What nodes have free of a resource.
    Room(Resource),
    /// Pods in one failure domain at most.
    PerDomain,
    /// Pods in one country at most.
    PerCountry,
    /// How far countries may differ.
    CountrySkew,
}

impl Constraint {
    /// Every kind; those first that an explanation should rather leave out.
    pub const ALL: [Self; 17] = [
        Self::Ready,
        Self::Cordon,
        Self::Taints,
        Self::Labels,
        Self::PodAffinity,
        Self::PodAntiAffinity,
        Self::NodeAffinity,
        Self::Attestation,
        Self::Room(Resource::Iops),
        Self::Room(Resource::Cpu),
        Self::Room(Resource::Memory),
        Self::Room(Resource::Disk),
        Self::Tier,
        Self::CountrySkew,
        Self::PerCountry,
        Self::PerDomain,
        Self::Jurisdiction,
    ];
}

/// Constraints that are left aside for a question.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relaxed(BTreeSet<Constraint>);

impl Relaxed {
    /// All but these.
    fn all_but(kept: &BTreeSet<Constraint>) -> Self {
        Self(Constraint::ALL.into_iter().filter(|constraint| !kept.contains(constraint)).collect())
    }

    /// Whether nothing is left aside.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a pod may run on a node, leaving these aside.
    pub(crate) fn may_run(
        &self,
        pod: &Pod,
        residency: &Residency,
        around: &Around<'_>,
        node: &Node,
        free: &Resources,
    ) -> bool {
        let mut all = obstacles(pod, residency, node, free).chain(around.obstacles(node));
        all.all(|obstacle| self.0.contains(&constraint(&obstacle)))
    }

    pub(crate) fn spread(&self, spread: Spread, pods: usize) -> Spread {
        let pods = u32::try_from(pods).unwrap_or(u32::MAX);
        Spread {
            per_domain: if self.0.contains(&Constraint::PerDomain) { pods } else { spread.per_domain },
            per_country: spread.per_country.filter(|_| !self.0.contains(&Constraint::PerCountry)),
            country_skew: spread.country_skew.filter(|_| !self.0.contains(&Constraint::CountrySkew)),
        }
    }
}

/// The constraint that an obstacle comes from.
fn constraint(obstacle: &Obstacle) -> Constraint {
    match obstacle {
        Obstacle::NotReady => Constraint::Ready,
        Obstacle::Cordoned => Constraint::Cordon,
        Obstacle::NotAttested => Constraint::Attestation,
        Obstacle::Jurisdiction(_) => Constraint::Jurisdiction,
        Obstacle::Tier(_) => Constraint::Tier,
        Obstacle::Label(_) => Constraint::Labels,
        Obstacle::Tainted(_) => Constraint::Taints,
        Obstacle::NodeAffinity => Constraint::NodeAffinity,
        Obstacle::PodAffinity(_) => Constraint::PodAffinity,
        Obstacle::PodAntiAffinity(_) | Obstacle::Shunned(_) => Constraint::PodAntiAffinity,
        Obstacle::Lacking(resource) => Constraint::Room(*resource),
    }
}

/// Why there is no placement, and what would make one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explanation {
    /// Constraints that cannot all be kept; without any one of them the others
    /// could. Empty where there are fewer nodes than pods.
    pub conflict: BTreeSet<Constraint>,
    /// The cheapest changes that were found after which all pods can be placed;
    /// empty only where none was found.
    pub repairs: Vec<Repair>,
    /// The search for changes was cut off: others may be cheaper, and where none was found there may be some.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_off: bool,
}

/// Explains why the pods of `set` that run nowhere cannot be placed together;
/// `None` if they can.
pub fn explain(cluster: &Cluster, set: &SiteSet, costs: &Costs) -> Option<Explanation> {
    let everything: BTreeSet<Constraint> = Constraint::ALL.into();
    if is_placeable(cluster, set, costs, &everything) {
        return None;
    }
    let conflict = minimal_conflict(cluster, set, costs, everything);
    let (repairs, cut_off) = repair::cheapest(cluster, set, costs);
    Some(Explanation { conflict, repairs, cut_off })
}

/// Whether the pods can be placed with only the constraints in `kept`.
pub(crate) fn is_placeable(
    cluster: &Cluster,
    set: &SiteSet,
    costs: &Costs,
    kept: &BTreeSet<Constraint>,
) -> bool {
    let view = View { cluster, set, costs, relaxed: Relaxed::all_but(kept) };
    view.problem().2.solve().is_some()
}

/// Deletion: a constraint without which the rest still conflicts is not part
/// of the conflict. What is left is minimal, since every other was tried.
fn minimal_conflict(
    cluster: &Cluster,
    set: &SiteSet,
    costs: &Costs,
    mut kept: BTreeSet<Constraint>,
) -> BTreeSet<Constraint> {
    for constraint in Constraint::ALL {
        kept.remove(&constraint);
        if is_placeable(cluster, set, costs, &kept) {
            kept.insert(constraint);
        }
    }
    kept
}
