//! What cannot be placed is explained: the conflict is one, it is minimal, and
//! the repair works.

use std::collections::BTreeSet;

use crate::instance::{bind, is_placeable, least_moved, node, pod, random, set};
use crate::wishes::{a_set_shuns, without_shunning};
use coffer_model::{Jurisdiction, Tier};
use coffer_scheduler::{
    Affinity, Cluster, Constraint, Costs, Explanation, Node, PodId, Repair, Resource, SiteSet, decide,
    explain,
};

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

pub(crate) fn wishes(set: &mut SiteSet, change: impl Fn(&mut Affinity)) {
    set.pods.iter_mut().filter_map(|pod| pod.affinity.as_deref_mut()).for_each(change);
}

pub(crate) fn apply(repairs: &[Repair], cluster: &Cluster, set: &SiteSet) -> (Cluster, SiteSet) {
    let (mut cluster, mut set) = (cluster.clone(), set.clone());
    repairs.iter().enumerate().for_each(|(n, repair)| repair.apply(&mut cluster, &mut set, n));
    (cluster, set)
}

/// That the constraints exclude each other, and that any one of them can be left out. Nodes that nobody attests are
/// part of it: where the attestation is left aside they are nodes like others.
fn is_minimal(cluster: &Cluster, set: &SiteSet, conflict: &BTreeSet<Constraint>, when: &str) {
    let fits = |dropped: &BTreeSet<Constraint>| {
        let (rest, asked) = without(cluster, set, dropped);
        is_placeable(&rest, &asked, dropped.contains(&Constraint::Attestation))
    };
    let dropped: BTreeSet<Constraint> =
        Constraint::ALL.into_iter().filter(|one| !conflict.contains(one)).collect();
    assert!(!fits(&dropped), "{when}: {conflict:?} is no conflict");
    for one in conflict {
        let dropped = dropped.iter().copied().chain([*one]).collect();
        assert!(fits(&dropped), "{when}: {one:?} is not needed");
    }
}

/// Whether all that could be done, done at once, would not help: every node put right and made large, everybody else
/// who shuns gone, every demand and bound of the set waived, and new nodes wherever it may stand.
fn nothing_helps(cluster: &Cluster, set: &SiteSet) -> bool {
    let (mut cluster, mut set) = (cluster.clone(), set.clone());
    let labels: Vec<(String, String)> =
        set.pods.iter().flat_map(|pod| pod.selector.clone()).collect::<Vec<_>>();
    let mut better: Vec<Node> = cluster.nodes().map(|(node, _)| node.clone()).collect();
    for code in ["DE", "FR", "CH", "US", "NL", "NO", "AT", "JP"] {
        for n in 0..set.pods.len() {
            let name = format!("new-{}-{n}", code.to_lowercase());
            let mut new = node(&name, code, &name, 0);
            new.attested.as_mut().unwrap().tier = Tier::IV;
            better.push(new);
        }
    }
    for mut node in better {
        (node.ready, node.cordoned) = (true, false);
        node.taints.clear();
        node.labels.extend(labels.iter().cloned());
        Resource::ALL.into_iter().for_each(|resource| *node.total.of_mut(resource) = 1 << 40);
        let others: Vec<_> = cluster.neighbours_on(&node.name).map(|one| one.name.clone()).collect();
        others.iter().for_each(|name| _ = cluster.remove_neighbour(name));
        cluster.put_node(node);
    }
    set.pods.iter_mut().for_each(|pod| pod.affinity = None);
    (set.spread.per_country, set.spread.country_skew) = (None, None);
    !is_placeable(&cluster, &set, false)
}

#[test]
fn of_what_cannot_be_placed_the_conflict_is_minimal_and_its_repair_works() {
    let (mut repaired, mut seed, mut unattested) = (0, 0, 0);
    while repaired < 200 || unattested < 50 {
        seed += 1;
        let (cluster, set) = random(seed, 7, 5);
        let explained = explain(&cluster, &set, &Costs::default());
        assert_eq!(explained.is_none(), least_moved(&cluster, &set).is_some(), "seed {seed}");
        let Some(Explanation { conflict, repairs, cut_off }) = explained else { continue };
        assert!(!cut_off, "seed {seed}");
        is_minimal(&cluster, &set, &conflict, &format!("seed {seed}"));
        if !works(&repairs, &cluster, &set, seed) {
            continue;
        }
        repaired += 1;
        unattested += usize::from(cluster.nodes().any(|(node, _)| node.attested.is_none()));
    }
}

/// Whether there is a repair. If so, it works; if not, there is none.
fn works(repairs: &[Repair], cluster: &Cluster, set: &SiteSet, seed: u64) -> bool {
    if repairs.is_empty() {
        assert!(nothing_helps(cluster, set), "seed {seed}: something helps, and was not found");
        assert!(a_set_shuns(cluster), "seed {seed}: nobody keeps it from being mended");
        return false;
    }
    let (mut after, revised) = apply(repairs, cluster, set);
    assert!(least_moved(&after, &revised).is_some(), "seed {seed}: {repairs:?} does not help");
    let decision = decide(&after, &revised, &Costs::default()).unwrap();
    bind(&mut after, &revised, &decision);
    // No repair moves a jurisdiction.
    assert_eq!(revised.residency, set.residency);
    true
}

/// Pods of another set are never moved: where they shun this one wherever it may stand, nothing can be advised.
#[test]
fn what_has_no_repair_has_none_whatever_is_done() {
    let (mut hopeless, mut repaired) = (0, 0);
    for seed in 0..4000 {
        let (cluster, mut set) = random(seed, 7, 5);
        let shuns = |id: &PodId| !cluster.traits(id).unwrap().apart.is_empty();
        let at = |id: &PodId| cluster.node_of(id).unwrap().attested.as_ref().map(|one| one.country);
        let others = cluster.bound().map(|(id, _)| id).filter(|id| id.set != set.name && shuns(id));
        let countries: BTreeSet<_> = others.filter_map(at).collect();
        if countries.is_empty() {
            continue;
        }
        set.residency.allow = countries.into_iter().map(Jurisdiction::Country).collect();
        set.residency.deny.clear();
        let explained = explain(&cluster, &set, &Costs::default());
        let Some(Explanation { conflict, repairs, cut_off }) = explained else { continue };
        assert!(!cut_off, "seed {seed}");
        is_minimal(&cluster, &set, &conflict, &format!("seed {seed}"));
        match works(&repairs, &cluster, &set, seed) {
            true => repaired += 1,
            false => hopeless += 1,
        }
    }
    assert!(hopeless >= 20 && repaired >= 100, "{hopeless} have none, {repaired} have one");
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
