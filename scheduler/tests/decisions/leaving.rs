//! Who goes, and when what lies there is copied: a node that comes back costs no
//! copy, and of pods that are too many the one goes that costs the least.

use std::collections::{BTreeMap, BTreeSet};

use coffer_scheduler::{Cluster, Costs, Fleet, Managed, NodeName, PodId, Step, Why, plan};

use crate::instance::{node, pod, set};

/// Pods of one set, each on a node of its own, and what they hold.
struct World {
    cluster: Cluster,
    managed: Managed,
    held: BTreeMap<PodId, u64>,
    drained: BTreeSet<NodeName>,
    lost: BTreeSet<NodeName>,
    given_up: BTreeSet<NodeName>,
    preempted: BTreeSet<PodId>,
}

impl World {
    /// A pod in each of these countries, and so many wanted.
    fn new(countries: &[&str], size: usize) -> Self {
        let mut cluster = Cluster::new();
        let mut pods = Vec::new();
        let mut running = BTreeMap::new();
        for (ordinal, country) in (0..).zip(countries) {
            let name = format!("n{ordinal}");
            cluster.put_node(node(&name, country, &format!("d{ordinal}"), 1000));
            pods.push(pod(ordinal, 300));
            running.insert(ordinal, 1);
        }
        let set = set(pods);
        let managed = Managed { template: pod(0, 300), size, version: 1, running, set };
        for pod in &managed.set.pods {
            let node = format!("n{}", pod.ordinal).parse().unwrap();
            cluster.bind(managed.set.id(pod), pod.needs, &node).unwrap();
        }
        let held = managed.set.pods.iter().map(|pod| (managed.set.id(pod), 100)).collect();
        let (drained, lost, given_up, preempted) = Default::default();
        Self { cluster, managed, held, drained, lost, given_up, preempted }
    }

    fn id(&self, ordinal: u32) -> PodId {
        PodId { set: self.managed.set.name.clone(), ordinal }
    }

    fn plan(&self) -> Vec<Step> {
        plan(&Fleet {
            cluster: &self.cluster,
            sets: std::slice::from_ref(&self.managed),
            drained: &self.drained,
            lost: &self.lost,
            given_up: &self.given_up,
            abroad: &BTreeSet::new(),
            preempted: &self.preempted,
            groups: &[],
            held: &self.held,
            restarting: &BTreeSet::new(),
            costs: &Costs::default(),
        })
    }
}

fn n1() -> NodeName {
    "n1".parse().unwrap()
}

#[test]
fn what_lies_on_a_silent_node_is_copied_only_when_nobody_waits_for_it_any_more() {
    let mut world = World::new(&["DE", "FR", "NL", "DE"], 4);
    world.lost.insert(n1());
    let joins = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::Join(..)));
    let steps = world.plan();
    assert!(joins(&steps) && steps.contains(&Step::Await(world.id(1))), "{steps:?}");
    assert!(!steps.iter().any(|step| matches!(step, Step::Evacuate(..) | Step::Leave(..))), "{steps:?}");
    let copied = Step::Evacuate(world.id(1), Why::NodeLost);
    world.given_up.insert(n1());
    assert!(world.plan().contains(&copied));
    // Nor is it waited for where an operator wants it empty.
    world.given_up.clear();
    world.drained.insert(n1());
    assert!(world.plan().contains(&copied));
}

#[test]
fn whoever_stood_in_for_a_node_that_came_back_goes_again_wherever_it_stands() {
    // Two pods stand in DE, and the newest, which holds little, alone in ES.
    let mut world = World::new(&["DE", "FR", "NL", "DE", "ES"], 4);
    world.held.insert(world.id(4), 3);
    let gone = |world: &World| {
        let steps = world.plan();
        let goes = steps.into_iter().filter_map(|step| match step {
            Step::Evacuate(id, Why::ScaledDown) => Some(id.ordinal),
            _ => None,
        });
        goes.collect::<Vec<u32>>()
    };
    assert_eq!(gone(&world), [4]);
    // With half of what others hold it is one like them, and the country with the most is first.
    world.held.insert(world.id(4), 50);
    assert_eq!(gone(&world), [3]);
    // A bound on how far countries may differ comes before the price.
    let mut bounded = World::new(&["DE", "DE", "FR"], 2);
    bounded.managed.set.spread.country_skew = Some(1);
    bounded.held.insert(bounded.id(2), 3);
    assert_eq!(gone(&bounded), [1]);
}

#[test]
fn one_that_is_empty_takes_nothing_while_it_goes_after_another() {
    // Two are too many; the last goes first, and holds something still.
    let mut world = World::new(&["DE", "DE", "DE", "DE"], 2);
    world.held.insert(world.id(3), 3);
    world.held.insert(world.id(2), 0);
    let queues = Step::Queue(world.id(2), Why::ScaledDown);
    assert_eq!(world.plan(), [Step::Evacuate(world.id(3), Why::ScaledDown), queues.clone()]);
    world.held.insert(world.id(3), 0);
    assert_eq!(world.plan(), [Step::Leave(world.id(3), Why::ScaledDown), queues]);
    // Nobody is before it any more.
    world.managed.set.pods.pop();
    assert_eq!(world.plan(), [Step::Leave(world.id(2), Why::ScaledDown)]);
}

#[test]
fn whoever_stands_where_it_may_not_goes_before_those_who_could_wait() {
    // Four that hold nothing: the first is drained, the second gives way, the third's node is lost.
    let mut world = World::new(&["DE", "FR", "NL", "US"], 4);
    world.managed.set.residency.allow = vec!["EU".parse().unwrap()];
    world.held.values_mut().for_each(|held| *held = 0);
    world.drained.insert("n0".parse().unwrap());
    world.preempted.insert(world.id(1));
    world.lost.insert("n2".parse().unwrap());
    let steps = world.plan().into_iter();
    let gone: Vec<(u32, Why)> = steps
        .filter_map(|step| match step {
            Step::Leave(id, why) => Some((id.ordinal, why)),
            _ => None,
        })
        .collect();
    assert_eq!(gone, [(3, Why::OutOfPlace), (2, Why::NodeLost), (0, Why::Drained), (1, Why::Preempted)]);
}
