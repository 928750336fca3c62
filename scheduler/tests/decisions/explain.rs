//! What cannot be placed is explained: the conflict is one, it is minimal, and
//! the repair works.

use std::collections::BTreeSet;

use crate::instance::{bind, least_moved, node, pod, random, set};
use crate::wishes::{a_set_shuns, without_shunning};
use coffer_model::Tier;
use coffer_scheduler::{Affinity, Cluster, Constraint, Costs, Explanation, Repair, SiteSet, decide, explain};

/// The instance with constraints taken out of its data, not out of the
/// solver: nodes that have no such obstacle any more, a set that asks for less.
fn without(cluster: &Cluster, set: &SiteSet, dropped: &BTreeSet<Constraint>) -> (Cluster, SiteSet) {
    let (mut cluster, mut set) = (cluster.clone(), set.clone());
    let names: Vec<_> = cluster.nodes().map(|(node, _)| node.name.clone()).collect();
    for name in names {
        let mut node = cluster.node(&name).unwrap().clone();
        for constraint in dropped {
            match constraint {
                Constraint::Ready => node.ready = true,
                Constraint::Cordon => node.cordoned = false,
                Constraint::Taints => node.taints.clear(),
                Constraint::Room(resource) => *node.total.of_mut(*resource) = 1 << 40,
                Constraint::Tier => {
                    if let Some(attested) = &mut node.attested {
                        attested.tier = Tier::IV;
                    }
                }
                _ => {}
            }
        }
        cluster.put_node(node);
    }
    let pods = u32::try_from(set.pods.len()).unwrap();
    for constraint in dropped {
        match constraint {
            Constraint::NodeAffinity => wishes(&mut set, |one| one.nodes.clear()),
            Constraint::PodAffinity => wishes(&mut set, |one| one.near.clear()),
            Constraint::PodAntiAffinity => {
                wishes(&mut set, |one| one.apart.clear());
                without_shunning(&mut cluster);
            }
            Constraint::Labels => set.pods.iter_mut().for_each(|pod| pod.selector.clear()),
            Constraint::Jurisdiction => (set.residency.allow, set.residency.deny) = Default::default(),
            Constraint::PerDomain => set.spread.per_domain = pods,
            Constraint::PerCountry => set.spread.per_country = None,
            Constraint::CountrySkew => set.spread.country_skew = None,
            _ => {}
        }
    }
    (cluster, set)
}

fn wishes(set: &mut SiteSet, change: impl Fn(&mut Affinity)) {
    set.pods.iter_mut().filter_map(|pod| pod.affinity.as_deref_mut()).for_each(change);
}

fn apply(repairs: &[Repair], cluster: &Cluster, set: &SiteSet) -> (Cluster, SiteSet) {
    let (mut cluster, mut set) = (cluster.clone(), set.clone());
    repairs.iter().enumerate().for_each(|(n, repair)| repair.apply(&mut cluster, &mut set, n));
    (cluster, set)
}

#[test]
fn of_what_cannot_be_placed_the_conflict_is_minimal_and_its_repair_works() {
    let (mut seen, mut seed, mut unattested) = (0, 0, 0);
    while seen < 200 {
        seed += 1;
        let (cluster, set) = random(seed, 7, 5);
        // Only by its data can the oracle be asked; what nobody attests has none.
        if cluster.nodes().any(|(node, _)| node.attested.is_none()) {
            unattested += 1;
            continue;
        }
        let explained = explain(&cluster, &set, &Costs::default());
        assert_eq!(explained.is_none(), least_moved(&cluster, &set).is_some(), "seed {seed}");
        let Some(Explanation { conflict, repairs }) = explained else { continue };
        seen += 1;
        let dropped: BTreeSet<Constraint> =
            Constraint::ALL.into_iter().filter(|one| !conflict.contains(one)).collect();
        let (rest, asked) = without(&cluster, &set, &dropped);
        assert_eq!(least_moved(&rest, &asked), None, "seed {seed}: {conflict:?} is no conflict");
        for one in &conflict {
            let dropped = dropped.iter().copied().chain([*one]).collect();
            let (rest, asked) = without(&cluster, &set, &dropped);
            assert!(least_moved(&rest, &asked).is_some(), "seed {seed}: {one:?} is not needed");
        }
        if repairs.is_empty() {
            assert!(a_set_shuns(&cluster), "seed {seed}: no repair for {conflict:?}");
            continue;
        }
        let (mut after, revised) = apply(&repairs, &cluster, &set);
        assert!(least_moved(&after, &revised).is_some(), "seed {seed}: {repairs:?} does not help");
        let decision = decide(&after, &revised, &Costs::default()).unwrap();
        bind(&mut after, &revised, &decision);
        // No repair moves a jurisdiction.
        assert_eq!(revised.residency, set.residency);
    }
    assert!(unattested > 0);
}

#[test]
fn a_cordoned_node_is_uncordoned_before_a_new_one_is_bought() {
    let mut cluster = Cluster::new();
    cluster.put_node(node("a", "DE", "a", 100));
    let mut second = node("b", "DE", "b", 100);
    second.cordoned = true;
    cluster.put_node(second);
    let explained = explain(&cluster, &set(vec![pod(0, 50), pod(1, 50)]), &Costs::default()).unwrap();
    assert_eq!(explained.repairs, [Repair::Uncordon("b".parse().unwrap())]);
    assert_eq!(explained.conflict, [Constraint::Cordon].into());
}

#[test]
fn a_country_that_the_set_may_not_use_is_never_the_advice() {
    let mut cluster = Cluster::new();
    for n in 0..6 {
        cluster.put_node(node(&format!("us{n}"), "US", &format!("us{n}"), 1000));
    }
    let mut set = set(vec![pod(0, 50)]);
    set.residency.allow = vec!["DE".parse().unwrap()];
    let explained = explain(&cluster, &set, &Costs::default()).unwrap();
    assert_eq!(explained.conflict, [Constraint::Jurisdiction].into());
    let [Repair::AddNode { country, free }] = &explained.repairs[..] else { unreachable!("{explained:?}") };
    assert_eq!((country.as_str(), free), ("DE", &set.pods[0].needs));
}
