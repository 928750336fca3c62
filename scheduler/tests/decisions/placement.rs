//! Sets are placed if they can be, at the least cost, and never otherwise:
//! against every assignment on small clusters, and against another algorithm
//! on large ones.

use crate::instance::{Chance, bind, least_moved, node, pod, random, set};
use coffer_scheduler::{Cluster, Costs, Home, NodeName, SiteSet, decide};

/// Bytes alone, so that the costs of two algorithms can be compared.
const BYTES: Costs = Costs { byte_moved: 1, per_mille_full: 0 };

#[test]
fn a_set_is_placed_exactly_when_some_assignment_exists_and_never_moves_more_than_it_must() {
    let (mut feasible, mut infeasible, mut seed) = (0, 0, 0);
    while feasible < 1000 || infeasible < 200 {
        seed += 1;
        let (cluster, set) = random(seed, 7, 5);
        let moved = decide(&cluster, &set, &BYTES)
            .ok()
            .map(|decision| decision.placed.iter().map(|placed| placed.moved_bytes).sum::<u64>());
        let least = least_moved(&cluster, &set);
        assert_eq!(moved, least, "seed {seed}: {set:?}");
        match least {
            Some(_) => feasible += 1,
            None => infeasible += 1,
        }
    }
}

#[test]
fn what_is_decided_can_be_bound_and_then_nothing_is_left_to_decide() {
    for seed in 0..300 {
        let (mut cluster, set) = random(seed, 12, 6);
        if let Ok(decision) = decide(&cluster, &set, &Costs::default()) {
            bind(&mut cluster, &set, &decision);
            assert!(decide(&cluster, &set, &Costs::default()).unwrap().placed.is_empty(), "seed {seed}");
        }
    }
}

#[test]
fn six_pods_on_six_fitting_slots_are_placed_every_time() {
    for seed in 0..100 {
        let mut chance = Chance(seed);
        let mut cluster = Cluster::new();
        // Three countries with two slots each; sizes so that each pod fits on few of them.
        let mut sizes: Vec<u64> = (0..6).map(|n| 100 + 10 * n).collect();
        for i in (1..6).rev() {
            sizes.swap(i, usize::try_from(chance.below(i as u64 + 1)).unwrap());
        }
        for (n, size) in sizes.iter().enumerate() {
            let country = ["DE", "FR", "NL"][n / 2];
            cluster.put_node(node(&format!("slot{n}"), country, &format!("domain{n}"), *size));
        }
        // Others that must not be taken: the wrong country, or too small.
        for n in 0..50 {
            cluster.put_node(node(&format!("abroad{n}"), "US", &format!("abroad{n}"), 1000));
            cluster.put_node(node(&format!("small{n}"), "DE", &format!("small{n}"), 50));
        }
        let mut set = set((0..6).map(|n| pod(n, 100 + 10 * u64::from(n))).collect());
        set.residency.allow = vec!["EU".parse().unwrap()];
        set.spread.country_skew = Some(1);
        assert_eq!(decide(&cluster, &set, &Costs::default()).map(|done| done.placed.len()), Ok(6), "{seed}");
    }
}

/// 60 to 200 nodes, each a domain of its own, and 10 to 40 pods with shards here and there.
fn large(seed: u64) -> (Cluster, SiteSet) {
    let mut chance = Chance(seed);
    let mut cluster = Cluster::new();
    let nodes = 60 + chance.below(140);
    for n in 0..nodes {
        let country = *chance.pick(&crate::instance::COUNTRIES);
        cluster.put_node(node(&format!("n{n}"), country, &format!("d{n}"), 100 + chance.below(100)));
    }
    let names: Vec<NodeName> = cluster.nodes().map(|(node, _)| node.name.clone()).collect();
    let pods = (0..u32::try_from(10 + chance.below(30)).unwrap()).map(|n| {
        let mut pod = pod(n, 80 + chance.below(110));
        pod.home = Some(Home { node: chance.pick(&names).clone(), bytes: 1 + chance.below(10_000) });
        pod
    });
    let set = set(pods.collect());
    (cluster, set)
}

/// The Hungarian method (Kuhn 1955, in the O(n²m) form with potentials), on a
/// matrix of pods by nodes: another algorithm, with nothing of the product's.
pub(crate) fn hungarian(costs: &[Vec<i64>]) -> i64 {
    let (n, m) = (costs.len(), costs[0].len());
    let (mut u, mut v) = (vec![0; n + 1], vec![0; m + 1]);
    let mut row_of = vec![0; m + 1];
    for row in 1..=n {
        row_of[0] = row;
        let mut column = 0;
        let mut least = vec![i64::MAX; m + 1];
        let (mut used, mut way) = (vec![false; m + 1], vec![0; m + 1]);
        while row_of[column] != 0 {
            used[column] = true;
            let (at, mut delta, mut next) = (row_of[column], i64::MAX, 0);
            for j in (1..=m).filter(|j| !used[*j]).collect::<Vec<_>>() {
                let reduced = costs[at - 1][j - 1] - u[at] - v[j];
                if reduced < least[j] {
                    (least[j], way[j]) = (reduced, column);
                }
                if least[j] < delta {
                    (delta, next) = (least[j], j);
                }
            }
            for j in 0..=m {
                if used[j] {
                    u[row_of[j]] += delta;
                    v[j] -= delta;
                } else {
                    least[j] = least[j].saturating_sub(delta);
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[way[column]];
            column = way[column];
        }
    }
    (1..=m).filter(|j| row_of[*j] != 0).map(|j| costs[row_of[j] - 1][j - 1]).sum()
}

#[test]
fn large_sets_cost_what_the_hungarian_method_finds() {
    const NEVER: i64 = 1 << 40;
    let (mut placed, mut not) = (0, 0);
    for seed in 0..60 {
        let (cluster, set) = large(seed);
        let matrix: Vec<Vec<i64>> = set
            .pods
            .iter()
            .map(|pod| {
                let price = |home: &Home, name: &NodeName| if home.node == *name { 0 } else { home.bytes };
                let cost = |node: &coffer_scheduler::Node| match pod.needs.disk_bytes <= node.total.disk_bytes
                {
                    true => i64::try_from(price(pod.home.as_ref().unwrap(), &node.name)).unwrap(),
                    false => NEVER,
                };
                cluster.nodes().map(|(node, _)| cost(node)).collect()
            })
            .collect();
        let best = hungarian(&matrix);
        match decide(&cluster, &set, &BYTES) {
            Ok(decision) => {
                let moved: u64 = decision.placed.iter().map(|placed| placed.moved_bytes).sum();
                assert_eq!(i64::try_from(moved).unwrap(), best, "seed {seed}");
                placed += 1;
            }
            Err(_) => {
                assert!(best >= NEVER, "seed {seed}: {best}");
                not += 1;
            }
        }
    }
    assert!(placed >= 40, "{placed} placed, {not} not");
}

#[test]
fn ten_pods_that_shrink_to_three_over_three_countries_end_as_one_each() {
    let mut cluster = Cluster::new();
    for country in ["DE", "FR", "NL"] {
        for n in 0..4 {
            let name = format!("{}-{n}", country.to_lowercase());
            cluster.put_node(node(&name, country, &name, 1000));
        }
    }
    let mut three = set((0..3).map(|n| pod(n, 100)).collect());
    three.spread.country_skew = Some(0);
    let decision = decide(&cluster, &three, &Costs::default()).unwrap();
    let countries: std::collections::BTreeSet<_> = decision
        .placed
        .iter()
        .map(|placed| cluster.node(&placed.node).unwrap().attested.as_ref().unwrap().country)
        .collect();
    assert_eq!(countries.len(), 3);
}
