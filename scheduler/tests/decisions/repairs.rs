//! The cheapest repair, against every one that there is: on few nodes, with few pods.

use std::collections::BTreeSet;

use coffer_model::Country;
use coffer_scheduler::{
    Cluster, Constraint, Costs, Explanation, Neighbour, Node, NodeName, Pod, Repair, Resource, SiteSet,
    explain,
};

use crate::explain::{apply, wishes};
use crate::instance::{is_legal, random, stands_well};
use crate::wishes::{demands_met, shuns_set};

/// Countries where a node could be bought; more than there are pods, whatever the residency.
const SOMEWHERE: [&str; 8] = ["DE", "FR", "CH", "US", "NL", "NO", "AT", "JP"];

/// What a change of a node, or around it, costs. Changes of the set have no price: they come one after the other.
fn price(repair: &Repair, known: &BTreeSet<Country>) -> u64 {
    match repair {
        Repair::Uncordon(_) => 1,
        Repair::Label(..) => 2,
        Repair::RemoveTaint(..) => 4,
        Repair::BringBack(_) => 16,
        Repair::Grow(..) => 64,
        Repair::MoveAway(_) => 128,
        Repair::AddNode { country, .. } => {
            if known.contains(country) {
                1024
            } else {
                1025
            }
        }
        Repair::Waive(_) | Repair::RaisePerCountry(_) | Repair::RaiseCountrySkew(_) => 0,
    }
}

fn is_of_set(repair: &Repair) -> bool {
    matches!(repair, Repair::Waive(_) | Repair::RaisePerCountry(_) | Repair::RaiseCountrySkew(_))
}

/// Every change of the set, what is to be tried first at first: as few demands waived as can be, and of the bounds
/// none raised, the skew, what a country may have, or both.
fn changes(set: &SiteSet) -> Vec<Vec<Repair>> {
    let some = |is: fn(&coffer_scheduler::Affinity) -> bool| {
        set.pods.iter().any(|pod| pod.affinity.as_deref().is_some_and(is))
    };
    let demands = [
        (Constraint::PodAffinity, some(|one| !one.near.is_empty())),
        (Constraint::PodAntiAffinity, some(|one| !one.apart.is_empty())),
        (Constraint::NodeAffinity, some(|one| !one.nodes.is_empty())),
    ];
    let mut waived: Vec<Vec<Repair>> = (0..8_u32)
        .map(|bits| (0..3_usize).filter(|n| (bits >> n) & 1 == 1).collect::<Vec<_>>())
        .filter(|all| all.iter().all(|n| demands[*n].1))
        .map(|all| all.into_iter().map(|n| Repair::Waive(demands[n].0)).collect())
        .collect();
    waived.sort_by_key(Vec::len);
    let pods = u32::try_from(set.pods.len()).unwrap();
    let above = |bound: Option<u32>| bound.map_or(0..0, |bound| bound + 1..pods.max(bound + 1) + 1);
    let mut raised = vec![Vec::new()];
    raised.extend(above(set.spread.country_skew).map(|skew| vec![Repair::RaiseCountrySkew(skew)]));
    raised.extend(above(set.spread.per_country).map(|most| vec![Repair::RaisePerCountry(most)]));
    for skew in above(set.spread.country_skew) {
        let both = |most| vec![Repair::RaiseCountrySkew(skew), Repair::RaisePerCountry(most)];
        raised.extend(above(set.spread.per_country).map(both));
    }
    waived
        .iter()
        .flat_map(|waived| raised.iter().map(|raised| [waived.clone(), raised.clone()].concat()))
        .collect()
}

fn changed(set: &SiteSet, change: &[Repair]) -> SiteSet {
    let mut set = set.clone();
    for one in change {
        match one {
            Repair::Waive(Constraint::PodAffinity) => wishes(&mut set, |one| one.near.clear()),
            Repair::Waive(Constraint::PodAntiAffinity) => wishes(&mut set, |one| one.apart.clear()),
            Repair::Waive(_) => wishes(&mut set, |one| one.nodes.clear()),
            Repair::RaiseCountrySkew(skew) => set.spread.country_skew = Some(*skew),
            Repair::RaisePerCountry(most) => set.spread.per_country = Some(*most),
            _ => {}
        }
    }
    set
}

/// What has to be done with a node before a pod may run there; `None` where that is not for sale.
fn put_right(cluster: &Cluster, set: &SiteSet, pod: &Pod, node: &Node) -> Option<Vec<Repair>> {
    if !stands_well(set, node, false) || !demands_met(cluster, set, pod, node) {
        return None;
    }
    let (name, free) = (|| node.name.clone(), cluster.free(&node.name));
    let mut all = Vec::new();
    all.extend(node.cordoned.then(|| Repair::Uncordon(name())));
    all.extend((!node.ready).then(|| Repair::BringBack(name())));
    let minded = node.taints.iter().filter(|taint| !pod.tolerations.iter().any(|one| one.covers(taint)));
    all.extend(minded.map(|taint| Repair::RemoveTaint(name(), taint.clone())));
    for (label, value) in pod.selector.iter().filter(|pair| node.labels.get_key_value(pair.0) != Some(*pair))
    {
        all.push(Repair::Label(name(), label.clone(), value.clone()));
    }
    for resource in Resource::ALL {
        if let Some(more) = pod.needs.of(resource).checked_sub(free.of(resource)).filter(|more| *more > 0) {
            all.push(Repair::Grow(name(), resource, more));
        }
    }
    Some(all)
}

/// A place for a pod: a node that there is, or one to be bought.
#[derive(Clone)]
enum At {
    Node(NodeName),
    New,
}

struct Search<'a> {
    cluster: Cluster,
    set: &'a SiteSet,
    options: Vec<Vec<(At, Vec<Repair>)>>,
    known: BTreeSet<Country>,
    best: Option<u64>,
}

impl<'a> Search<'a> {
    fn new(cluster: Cluster, set: &'a SiteSet, best: Option<u64>) -> Self {
        let known = cluster.countries();
        let pods = set.pods.iter().filter(|pod| cluster.node_of(&set.id(pod)).is_none());
        let options = pods.map(|pod| {
            let nodes = cluster.nodes().filter_map(|(node, _)| {
                Some((At::Node(node.name.clone()), put_right(&cluster, set, pod, node)?))
            });
            let new = SOMEWHERE.iter().map(|country| {
                (At::New, vec![Repair::AddNode { country: country.parse().unwrap(), free: pod.needs }])
            });
            nodes.chain(new).collect()
        });
        let options = options.collect();
        Self { cluster, set, options, known, best }
    }

    /// Every choice of a place for each pod, as long as it is not dearer than what is known.
    fn go(&mut self, chosen: &mut Vec<(At, Vec<Repair>)>, so_far: u64) {
        if self.best.is_some_and(|best| so_far >= best) {
            return;
        }
        let Some(options) = self.options.get(chosen.len()).cloned() else {
            if self.works(chosen) {
                self.best = Some(so_far);
            }
            return;
        };
        for one in options {
            let more: u64 = one.1.iter().map(|repair| price(repair, &self.known)).sum();
            chosen.push(one);
            self.go(chosen, so_far + more);
            chosen.pop();
        }
    }

    fn works(&self, chosen: &[(At, Vec<Repair>)]) -> bool {
        let repairs: Vec<Repair> = chosen.iter().flat_map(|(_, repairs)| repairs.clone()).collect();
        let (after, set) = apply(&repairs, &self.cluster, self.set);
        let (mut on, mut before) = (Vec::new(), 0);
        for (at, repairs) in chosen {
            on.push(match at {
                At::Node(name) => name.clone(),
                // Called after its place in the list.
                At::New => format!("added-{before}").parse().unwrap(),
            });
            before += repairs.len();
        }
        is_legal(&after, &set, &on)
    }
}

/// Which change of the set is the first with which anything helps, and what the cheapest changes beside it cost.
fn by_hand(cluster: &Cluster, set: &SiteSet) -> Option<(usize, u64)> {
    let nodes: Vec<NodeName> = cluster.nodes().map(|(node, _)| node.name.clone()).collect();
    let others: Vec<Neighbour> = nodes.iter().flat_map(|node| cluster.neighbours_on(node).cloned()).collect();
    let shunning: Vec<Neighbour> = others.into_iter().filter(|one| shuns_set(one, set)).collect();
    for (number, change) in changes(set).iter().enumerate() {
        let revised = changed(set, change);
        let mut best = None;
        for bits in 0..1_u32 << shunning.len() {
            let mut after = cluster.clone();
            let away = shunning.iter().enumerate().filter(|(n, _)| (bits >> n) & 1 == 1);
            away.for_each(|(_, one)| _ = after.remove_neighbour(&one.name));
            let mut search = Search::new(after, &revised, best);
            search.go(&mut Vec::new(), 128 * u64::from(bits.count_ones()));
            best = search.best;
        }
        if let Some(best) = best {
            return Some((number, best));
        }
    }
    None
}

#[test]
fn no_repair_is_cheaper_than_the_one_that_is_told() {
    let (mut seen, mut seed, mut dear, mut of_set, mut skewed, mut away) = (0, 0, 0, 0, 0, 0);
    while seen < 150 || away < 3 {
        seed += 1;
        let (cluster, set) = random(seed, 4, 3);
        let explained = explain(&cluster, &set, &Costs::default());
        let Some(Explanation { repairs, cut_off, .. }) = explained else { continue };
        assert!(!cut_off, "seed {seed}");
        let known = cluster.countries();
        let change: Vec<Repair> = repairs.iter().filter(|one| is_of_set(one)).cloned().collect();
        let told = (!repairs.is_empty()).then(|| {
            let number = changes(&set).iter().position(|one| *one == change);
            (number.unwrap(), repairs.iter().map(|one| price(one, &known)).sum::<u64>())
        });
        assert_eq!(told, by_hand(&cluster, &set), "seed {seed}: {repairs:?}");
        seen += 1;
        dear += usize::from(told.is_some_and(|(_, price)| price > 1024));
        of_set += usize::from(!change.is_empty());
        skewed += usize::from(set.spread.country_skew.is_some());
        away += usize::from(repairs.iter().any(|one| matches!(one, Repair::MoveAway(_))));
    }
    assert!(dear > 10 && of_set > 10 && skewed > 30, "{dear} {of_set} {skewed}");
}

#[test]
fn whoever_shuns_several_pods_is_moved_away_once() {
    use coffer_scheduler::{NeighbourName, PodTerm, Space, Topology, Traits};

    use crate::instance::{Chance, node, pod, set};
    use crate::wishes::neighbour;

    // Nine pods that one neighbour shuns in all of Germany: dearer than a new node if each of them paid for it.
    let mut cluster = Cluster::new();
    for n in 0..9 {
        cluster.put_node(node(&format!("n{n}"), "DE", &format!("d{n}"), 1000));
    }
    let everybody =
        PodTerm { topology: Topology::Country, spaces: [Space::Fleet].into(), selector: Vec::new() };
    let mut one = neighbour(&mut Chance(1), 0, cluster.node(&"n0".parse().unwrap()).unwrap());
    one.name = NeighbourName { space: Space::Fleet, name: "hermit".to_owned() };
    one.traits = Traits { apart: vec![everybody], ..Traits::default() };
    let name = one.name.clone();
    cluster.put_neighbour(one).unwrap();
    let nine = set((0..9).map(|n| pod(n, 50)).collect());
    let why = explain(&cluster, &nine, &Costs::default()).unwrap();
    assert_eq!(why.repairs, [Repair::MoveAway(name)]);
}

/// So many pods that want to be near one that runs nowhere, one in a country at most, of countries that are not to differ.
fn crowd(pods: u32, change: impl FnOnce(&mut SiteSet)) -> (Cluster, SiteSet) {
    use coffer_scheduler::{Affinity, PodTerm, Space, Topology};

    use crate::instance::{node, pod, set};

    let mut cluster = Cluster::new();
    for n in 0..pods {
        let country = ["DE", "FR", "NL"][usize::try_from(n % 3).unwrap()];
        cluster.put_node(node(&format!("n{n}"), country, &format!("d{n}"), 1000));
    }
    let term = PodTerm {
        topology: Topology::Country,
        spaces: [Space::Fleet].into(),
        selector: vec![coffer_scheduler::Requirement {
            key: "app".to_owned(),
            is: coffer_scheduler::Operator::Exists,
        }],
    };
    let mut set = set((0..pods).map(|n| pod(n, 50)).collect());
    set.residency.allow = vec!["DE".parse().unwrap(), "FR".parse().unwrap(), "NL".parse().unwrap()];
    for pod in &mut set.pods {
        pod.affinity = Some(Box::new(Affinity { near: vec![term.clone()], ..Affinity::default() }));
    }
    (set.spread.per_country, set.spread.country_skew) = (Some(1), Some(1));
    change(&mut set);
    (cluster, set)
}

#[test]
fn sixty_pods_that_nothing_helps_but_a_waiver_are_explained_in_a_bounded_search() {
    let (cluster, set) = crowd(60, |_| ());
    let why = explain(&cluster, &set, &Costs::default()).unwrap();
    assert_eq!(why.repairs, [Repair::Waive(Constraint::PodAffinity), Repair::RaisePerCountry(20)]);
    assert!(!why.cut_off);
}

#[test]
fn a_bound_that_is_as_high_as_can_be_is_not_raised() {
    let (cluster, set) = crowd(6, |set| set.spread.per_country = Some(u32::MAX));
    let why = explain(&cluster, &set, &Costs::default()).unwrap();
    assert_eq!(why.repairs, [Repair::Waive(Constraint::PodAffinity)]);
}
