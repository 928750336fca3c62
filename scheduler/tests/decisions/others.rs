//! What the pods of the storm's set wish, and the pods of others that are around them.

use coffer_scheduler::{
    Affinity, LABEL_SET, Neighbour, NeighbourName, Node, NodeTerm, Operator, PodTerm, Preferred, Requirement,
    Resources, Space, Topology, Traits,
};

use crate::instance::Chance;
use crate::wishes::requirement;

/// The priority of the set's pods: others with a lower one give way.
pub(crate) const PRIORITY: i32 = 5;
/// The rack where none of them may be placed.
pub(crate) const HOT: &str = "r9";

/// Neither in the hot rack nor beside a database; rather not in the domain of a shop, and rather in the first rack.
pub(crate) fn wishes() -> Affinity {
    let one_of = |value: &str| Operator::In([value.to_owned()].into());
    let others = |topology, app: &str| PodTerm {
        topology,
        spaces: [Space::Named("shop".to_owned())].into(),
        selector: vec![requirement("app", one_of(app))],
    };
    let rack = |is: Operator| NodeTerm { labels: vec![requirement("rack", is)], names: Vec::new() };
    Affinity {
        nodes: vec![rack(Operator::NotIn([HOT.to_owned()].into()))],
        prefers_nodes: vec![Preferred { weight: 3, term: rack(one_of("r0")) }],
        apart: vec![others(Topology::Node, "db")],
        prefers_apart: vec![Preferred { weight: 5, term: others(Topology::Domain, "web") }],
        ..Affinity::default()
    }
}

/// A pod of somebody else; some shun the fleet's, some do not give way to them.
pub(crate) fn other(chance: &mut Chance, node: &Node) -> Neighbour {
    let fleet = Requirement { key: LABEL_SET.to_owned(), is: Operator::Exists };
    let shuns = PodTerm { topology: Topology::Node, spaces: [Space::Fleet].into(), selector: vec![fleet] };
    let name = format!("other-{}", chance.below(30));
    let app = *chance.pick(&["web", "web", "mail", "db"]);
    Neighbour {
        name: NeighbourName { space: Space::Named("shop".to_owned()), name },
        node: node.name.clone(),
        needs: Resources { disk_bytes: 300 + chance.below(600), ..Resources::default() },
        traits: Traits {
            labels: [("app".to_owned(), app.to_owned())].into(),
            apart: if chance.one_in(6) { vec![shuns] } else { Vec::new() },
            priority: *chance.pick(&[0, 0, 0, 3, 9]),
        },
    }
}
