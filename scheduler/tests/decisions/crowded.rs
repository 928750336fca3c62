//! Who gives way where there are many: on nodes with a hundred pods, in fleets with thousands of sites. And what
//! priority and attested places mean for pods that are alike otherwise.

use std::collections::{BTreeMap, BTreeSet};

use coffer_scheduler::{
    Claim, Cluster, Costs, Ledger, Line, Obstacle, PodId, Runner, ShardGroup, SiteSet, Traits, Yielding,
    decide, is_room, may_run,
};

use crate::instance::{COUNTRIES, node, pod, set};
use crate::preemption::{disk, elder, full, name, plan, somebody};

#[test]
fn on_a_node_with_a_hundred_pods_as_few_go_as_can_although_there_are_countless_choices() {
    let mut cluster = Cluster::new();
    cluster.put_node(node("a", "DE", "a", 400));
    for n in 0..50 {
        // Names by which the small ones come first.
        cluster.put_neighbour(somebody(100 + n, "a", 3, 0)).unwrap();
        cluster.put_neighbour(somebody(200 + n, "a", 5, 0)).unwrap();
    }
    let mut one = pod(0, 60);
    one.priority = 5;
    let victims = plan(&cluster, &set(vec![one]), &Yielding::default()).unwrap().victims;
    assert_eq!(victims.len(), 12, "twelve of the greater ones, and not twenty of the small ones");
}

#[test]
fn many_different_pods_on_a_node_are_no_endless_search_and_the_answer_is_always_the_same() {
    let mut cluster = Cluster::new();
    cluster.put_node(node("a", "DE", "a", 1_000_000));
    let mut free = 1_000_000;
    for n in 0..110 {
        let mut one = somebody(n, "a", 5_000 + (n * 7919) % 4001, 0);
        one.needs.iops = (n * 104_729) % 9;
        free -= one.needs.disk_bytes;
        cluster.put_neighbour(one).unwrap();
    }
    let mut wanted = pod(0, free + 123_457);
    wanted.needs.iops = 800;
    wanted.priority = 5;
    let wanted = set(vec![wanted]);
    let found = plan(&cluster, &wanted, &Yielding::default()).unwrap();
    assert_eq!(Some(&found), plan(&cluster, &wanted, &Yielding::default()).as_ref());
    let gone = found.victims.iter().map(|one| one.runner.clone()).collect();
    assert!(is_room(&cluster, &wanted, &found.claims, &gone));
    // None of them goes for nothing.
    for stays in &gone {
        let but_one: BTreeSet<Runner> = gone.iter().filter(|one| *one != stays).cloned().collect();
        assert!(!is_room(&cluster, &wanted, &found.claims, &but_one), "{stays} need not go");
    }
}

/// A node that is over-committed in what the pod does not need: its room is nothing until that is put right.
#[test]
fn where_a_node_has_less_than_what_runs_there_those_go_who_put_that_right() {
    let mut cluster = Cluster::new();
    cluster.put_node(node("a", "DE", "a", 100));
    for ordinal in 0..3 {
        cluster.bind_as(elder(ordinal), disk(30), Traits::default(), &"a".parse().unwrap()).unwrap();
    }
    cluster.put_node(node("a", "DE", "a", 50));
    let mut one = pod(0, 0);
    one.priority = 5;
    let yielding = Yielding { sites: (0..3).map(|n| (elder(n), 0)).collect(), ..Yielding::default() };
    let victims = plan(&cluster, &set(vec![one]), &yielding).unwrap().victims;
    assert_eq!(victims.len(), 2);
}

/// A thousand nodes with three sites each, of sets of ten, and a set that needs the room of one of them.
fn great() -> (Ledger, Vec<String>, Yielding, SiteSet) {
    let (mut ledger, mut lines, mut yielding) = (Ledger::new(), Vec::new(), Yielding::default());
    for n in 0..1000 {
        let node = node(&format!("node-{n}.fleet.example.org"), COUNTRIES[n % 4], &format!("d{n}"), 100);
        let name = node.name.clone();
        lines.push(ledger.change(Line::Node(Box::new(node))).unwrap());
        for of_node in 0..3 {
            let number = u32::try_from(n * 3 + of_node).unwrap();
            let id = PodId { set: format!("elder-{}", number / 10).parse().unwrap(), ordinal: number % 10 };
            yielding.sites.insert(id.clone(), u64::from(1 + number % 7));
            let bound =
                Line::Bound { pod: id, needs: disk(30), node: name.clone(), traits: Traits::default() };
            lines.push(ledger.change(bound).unwrap());
        }
    }
    let ids: Vec<PodId> = yielding.sites.keys().cloned().collect();
    for ids in ids.chunks(10) {
        for first in 0..4 {
            let readable = ids[first..first + 6].iter().cloned().collect();
            yielding.groups.push(ShardGroup { needed: 4, readable, objects: 9 });
        }
    }
    let mut pods: Vec<_> = (0..6).map(|ordinal| pod(ordinal, 35)).collect();
    pods.iter_mut().for_each(|pod| pod.priority = 5);
    (ledger, lines, yielding, set(pods))
}

#[test]
fn a_plan_of_a_great_fleet_is_one_short_line_and_is_made_again_from_it() {
    let (mut ledger, mut lines, yielding, wanted) = great();
    let all = yielding.sites.len();
    let (plan, line) = ledger.preempt(&wanted, &Costs::default(), yielding).unwrap().unwrap();
    assert_eq!((all, plan.victims.len()), (3000, 6));
    assert!(plan.victims.iter().all(|victim| victim.held == 1), "{:?}", plan.victims);
    assert!(line.len() < 16 << 10, "{} bytes", line.len());
    assert!(line.contains("\"sites\":3000"), "how many there were is said");
    lines.push(line.clone());
    let replay = |lines: &[String]| Ledger::replay(lines.iter().map(String::as_str), None).map(|_| ());
    assert!(replay(&lines).is_ok(), "{:?}", replay(&lines));
    // Somebody else in the place of who was found.
    let victim = plan.victims.first().unwrap().runner.to_string();
    let (set, ordinal) = victim.rsplit_once('-').unwrap();
    let of = |ordinal: u32| format!("{{\"set\":\"{set}\",\"ordinal\":{ordinal}}}");
    let forged = line.replace(&of(ordinal.parse().unwrap()), &of(77));
    assert_ne!(forged, line);
    *lines.last_mut().unwrap() = forged;
    assert!(replay(&lines).is_err());
}

#[test]
fn of_what_was_shortened_the_victims_are_still_those_whom_the_ledger_of_shards_lets_go() {
    let (ledger, _, mut yielding, wanted) = great();
    // Of every set but two one shard is missing already.
    for (number, group) in yielding.groups.iter_mut().enumerate() {
        if number >= 8 {
            let first = group.readable.first().unwrap().clone();
            group.readable.remove(&first);
        }
    }
    let free: BTreeSet<&PodId> = yielding.groups[..8].iter().flat_map(|group| &group.readable).collect();
    let free: BTreeSet<String> = free.into_iter().map(|id| id.set.to_string()).collect();
    let mut wanted = wanted;
    wanted.pods.truncate(2);
    let way = ledger.find_way(&wanted, &Costs::default(), yielding).unwrap();
    let of = |runner: &Runner| match runner {
        Runner::Pod(id) => id.clone(),
        Runner::Neighbour(_) => unreachable!(),
    };
    let victims: Vec<PodId> = way.preemption.victims.iter().map(|victim| of(&victim.runner)).collect();
    let of_one = |id: &PodId| free.contains(id.set.as_str()) || id.ordinal < 1 || id.ordinal > 8;
    assert!(victims.iter().all(of_one), "{victims:?}");
    assert!(way.yielding.whole.is_some() && way.yielding.groups.len() <= victims.len());
}

#[test]
fn kept_room_is_kept_where_it_was_and_nowhere_else() {
    let (mut cluster, wanted) = full();
    cluster.put_node(node("b", "DE", "b", 100));
    cluster.put_neighbour(somebody(1, "b", 80, 0)).unwrap();
    let kept =
        |at: &str| Yielding { kept: BTreeMap::from([(0, at.parse().unwrap())]), ..Yielding::default() };
    for at in ["a", "b"] {
        let plan = plan(&cluster, &wanted, &kept(at)).unwrap();
        assert_eq!(plan.claims[0].node.as_str(), at);
    }
    assert_eq!(plan(&cluster, &wanted, &kept("c")), None);
}

#[test]
fn room_is_none_any_more_where_the_node_died_or_a_higher_priority_took_it() {
    let (mut cluster, wanted) = full();
    let claims = plan(&cluster, &wanted, &Yielding::default()).unwrap().claims;
    let gone = [Runner::Neighbour(name(0))].into();
    assert!(is_room(&cluster, &wanted, &claims, &gone));
    assert!(!is_room(&cluster, &wanted, &claims, &BTreeSet::new()), "he is there still");
    let mut other = claims.clone();
    other.iter_mut().for_each(|claim| (claim.priority, claim.needs) = (6, disk(60)));
    cluster.claim(&"other".parse().unwrap(), other);
    assert!(!is_room(&cluster, &wanted, &claims, &gone));
    cluster.release_claims(&"other".parse().unwrap());
    let before = cluster.node(&"a".parse().unwrap()).unwrap().clone();
    let mut dead = before.clone();
    dead.ready = false;
    cluster.put_node(dead);
    assert!(!is_room(&cluster, &wanted, &claims, &gone));
    cluster.put_node(before);
    let mut higher = wanted.clone();
    higher.pods[0].priority = 7;
    assert!(!is_room(&cluster, &higher, &claims, &gone), "it was kept for another pod");
}

#[test]
fn two_pods_that_are_alike_but_for_priority_do_not_both_get_room_that_is_kept_from_one() {
    let mut cluster = Cluster::new();
    for at in ["a", "b"] {
        cluster.put_node(node(at, "DE", at, 100));
    }
    let kept =
        |at: &str, ordinal| Claim { ordinal, node: at.parse().unwrap(), needs: disk(100), priority: 5 };
    cluster.claim(&"other".parse().unwrap(), vec![kept("a", 0), kept("b", 1)]);
    let mut two = set(vec![pod(0, 50), pod(1, 50)]);
    two.pods[0].priority = 9;
    assert!(decide(&cluster, &two, &Costs::default()).is_err(), "pod 1 may take nothing of what is kept");
    two.pods[1].priority = 9;
    assert!(decide(&cluster, &two, &Costs::default()).is_ok());
}

#[test]
fn a_selector_of_a_region_or_zone_asks_what_is_attested_and_no_label() {
    let region = "topology.kubernetes.io/region";
    let mut forged = node("a", "US", "us-1", 100);
    forged.labels.insert(region.to_owned(), "DE".to_owned());
    let mut cluster = Cluster::new();
    cluster.put_node(forged);
    let mut one = set(vec![pod(0, 50)]);
    one.pods[0].selector.insert(region.to_owned(), "DE".to_owned());
    let ways = |cluster: &Cluster, at: &str| {
        may_run(cluster, &one, &one.pods[0], cluster.node(&at.parse().unwrap()).unwrap())
    };
    assert_eq!(ways(&cluster, "a"), [Obstacle::Label(region.to_owned())]);
    cluster.put_node(node("b", "DE", "de-1", 100));
    assert_eq!(ways(&cluster, "b"), [], "it is attested, and has no label");
    assert_eq!(decide(&cluster, &one, &Costs::default()).unwrap().placed[0].node.as_str(), "b");
}
