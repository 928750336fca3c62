//! The book by itself: objects of the API go in, bindings and lines come out.

use std::sync::atomic::{AtomicU64, Ordering};

use coffer_model::{FailureDomain, Tier, Timestamp};
use coffer_scheduler::{Fleet, Step, Why, plan};
use serde_json::{Value, json};

use super::*;
use crate::attestation::{Attester, Statement, TrustedKeys};
use crate::names::{LABEL_ORDINAL, LABEL_SET};
use crate::translate;

mod giving_way;
mod squall;

/// A clock that the test moves; seconds.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed) * 1_000_000_000)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

struct World {
    clock: Arc<Hand>,
    book: Book,
    lines: Vec<String>,
    uids: u64,
    /// Until when nodes are attested.
    until: u64,
}

fn attester() -> Attester {
    Attester::danger_from_seed(&[3; 32])
}

fn trusted() -> TrustedKeys {
    TrustedKeys::new(&[attester().verifying_key()]).unwrap()
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(Hand(AtomicU64::new(1000)));
        let book = Book::new(clock.clone(), Costs::default());
        Self { clock, book, lines: Vec::new(), uids: 0, until: 2000 }
    }

    /// Six nodes in three countries, each with room for two pods.
    fn with_nodes() -> Self {
        let mut world = Self::new();
        for n in 0..6 {
            world.node(n, ["DE", "FR", "NL"][n % 3], |_| ());
        }
        world
    }

    fn node(&mut self, n: usize, country: &str, change: impl FnOnce(&mut Value)) {
        let name = format!("n{n}");
        let statement = Statement {
            node: name.parse().unwrap(),
            country: country.parse().unwrap(),
            domain: FailureDomain(name.clone()),
            tier: Tier::III,
            not_before: 0,
            not_after: self.until,
        };
        let mut object = json!({
            "metadata": { "name": name, "annotations": { "fleet.coffer/attestation": attester().sign(&statement) } },
            "spec": {},
            "status": {
                "allocatable": { "cpu": "2", "memory": "2", "fleet.coffer/disk-bytes": "2", "fleet.coffer/iops": "2" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        });
        change(&mut object);
        let object: k8s_openapi::api::core::v1::Node = serde_json::from_value(object).unwrap();
        let base = translate::node(&object).unwrap();
        let text = object.metadata.annotations.as_ref().and_then(|all| all.get("fleet.coffer/attestation"));
        let statement = trusted().verify(&base.name, text.map(String::as_str));
        self.book
            .see_node(SeenNode {
                base,
                statement,
                drain: false,
                discards: Discards::default(),
                silent_since: None,
            })
            .unwrap();
    }

    fn set(&mut self, members: &[u32]) {
        let members: Vec<Value> = members.iter().map(|ordinal| json!({ "ordinal": ordinal })).collect();
        let object = json!({
            "apiVersion": "fleet.coffer/v1", "kind": "SiteSet",
            "metadata": { "name": "gold", "namespace": "coffer" },
            "spec": {
                "replicas": 3, "dataShards": 2, "parityShards": 1,
                "residency": { "allow": ["EU"] }, "spread": { "countrySkew": 1 },
                "template": {
                    "image": format!("coffer.local/site@sha256:{}", "0".repeat(64)),
                    "resources": { "cpu": "1", "memory": "1", "diskBytes": 1, "iops": 1 },
                },
            },
            "status": { "members": members },
        });
        let object = serde_json::from_value(object).unwrap();
        self.book.see_set(translate::site_set(&object).unwrap(), &BTreeMap::new()).unwrap();
    }

    fn pod(&mut self, ordinal: u32, node: Option<&str>) -> SeenPod {
        self.uids += 1;
        let object = json!({
            "metadata": { "name": format!("gold-{ordinal}"), "namespace": "coffer", "uid": self.uids.to_string(),
                "labels": { LABEL_SET: "gold", LABEL_ORDINAL: ordinal.to_string() } },
            "spec": { "schedulerName": "coffer", "nodeName": node, "containers": [{ "name": "site", "resources": {
                "requests": { "cpu": "1", "memory": "1", "fleet.coffer/disk-bytes": "1", "fleet.coffer/iops": "1" } } }] },
        });
        let seen = translate::pod(&serde_json::from_value(object).unwrap());
        self.book.see_pod(seen.clone()).unwrap();
        seen
    }

    fn decide(&mut self) -> Verdict {
        let verdict = self.book.decide(&"gold".parse().unwrap()).unwrap();
        self.lines.extend(self.book.take_lines().into_iter().flat_map(|(_, lines)| lines));
        verdict
    }

    /// Decides, and lets the pods be seen where they were bound.
    fn place(&mut self, pods: &[SeenPod]) -> BTreeMap<u32, NodeName> {
        let Verdict::Bind(bindings) = self.decide() else { unreachable!("nothing was bound") };
        for binding in &bindings {
            let mut seen = pods.iter().find(|pod| pod.uid == binding.uid).unwrap().clone();
            seen.node = Some(binding.node.clone());
            self.book.see_pod(seen).unwrap();
        }
        bindings.into_iter().map(|binding| (binding.pod.ordinal, binding.node)).collect()
    }

    fn steps(&self) -> Vec<Step> {
        let name = "gold".parse().unwrap();
        let (managed, standing) = (self.book.managed(&name).unwrap(), self.book.standing(&name));
        plan(&Fleet {
            cluster: self.book.ledger().cluster(),
            sets: &[managed],
            drained: &standing.drained,
            lost: &standing.lost,
            given_up: &standing.given_up,
            abroad: &standing.abroad,
            preempted: &standing.preempted,
            groups: &[],
            held: &BTreeMap::new(),
            restarting: &standing.restarting,
            costs: self.book.costs(),
        })
    }

    fn placed() -> (Self, BTreeMap<u32, NodeName>, Vec<SeenPod>) {
        let mut world = Self::with_nodes();
        world.set(&[0, 1, 2]);
        let pods = vec![world.pod(0, None), world.pod(1, None), world.pod(2, None)];
        let placed = world.place(&pods);
        (world, placed, pods)
    }
}

#[test]
fn a_set_is_placed_whole_and_not_before_all_of_it_is_there() {
    let mut world = World::with_nodes();
    world.set(&[]);
    let mut pods = vec![world.pod(0, None), world.pod(1, None)];
    assert_eq!(world.decide(), Verdict::Nothing);
    pods.push(world.pod(2, None));
    let placed = world.place(&pods);
    let countries: BTreeSet<usize> =
        placed.values().map(|node| node.as_str()[1..].parse::<usize>().unwrap() % 3).collect();
    assert_eq!((placed.len(), countries.len()), (3, 3));
    assert_eq!(world.decide(), Verdict::Nothing);
}

#[test]
fn pods_of_a_set_that_nobody_asked_for_wait() {
    let mut world = World::with_nodes();
    world.pod(0, None);
    assert_eq!(world.decide(), Verdict::Nothing);
}

#[test]
fn a_pod_that_comes_again_returns_to_its_bytes_and_nobody_took_their_room() {
    let (mut world, placed, pods) = World::placed();
    world.book.lose_pod(&pods[1]).unwrap();
    assert_eq!(
        world
            .book
            .ledger()
            .cluster()
            .node_of(&PodId { set: "gold".parse().unwrap(), ordinal: 1 })
            .unwrap()
            .name,
        placed[&1]
    );
    let again = world.pod(1, None);
    let back = world.place(&[again]);
    assert_eq!(back, [(1, placed[&1].clone())].into());
}

#[test]
fn a_pod_does_not_return_to_where_others_took_its_room_and_says_so_until_they_go() {
    let (mut world, placed, pods) = World::placed();
    let gold: SetName = "gold".parse().unwrap();
    world.book.lose_pod(&pods[1]).unwrap();
    // A scheduler that knows nothing of sites fills the node while the pod is made anew.
    let batch = world.other("batch", placed[&1].as_str(), Phase::Alive);
    let again = world.pod(1, None);
    assert_eq!(world.decide(), Verdict::Nothing);
    let why = world.book.why_not(&gold).unwrap();
    assert!(why.contains("gold-1 waits for room") && why.contains(placed[&1].as_str()), "{why}");
    while !world.book.take_waiting(9).is_empty() {}
    world.book.lose_pod(&batch).unwrap();
    assert_eq!(world.book.take_waiting(9), std::slice::from_ref(&gold));
    assert_eq!(world.place(&[again]), [(1, placed[&1].clone())].into());
    assert_eq!(world.book.why_not(&gold), None);
}

#[test]
fn a_pod_returns_to_a_node_that_only_became_smaller() {
    let (mut world, placed, pods) = World::placed();
    let n = placed[&1].as_str()[1..].parse::<usize>().unwrap();
    world.book.lose_pod(&pods[1]).unwrap();
    world.other("batch", placed[&1].as_str(), Phase::Ended);
    world.node(n, ["DE", "FR", "NL"][n % 3], |node| node["status"]["allocatable"]["memory"] = json!("0"));
    let again = world.pod(1, None);
    assert_eq!(world.place(&[again]), [(1, placed[&1].clone())].into());
}

#[test]
fn a_pod_does_not_return_to_a_cordoned_node_and_whoever_emptied_that_wants_it_empty() {
    let (mut world, placed, pods) = World::placed();
    let n = placed[&1].as_str()[1..].parse::<usize>().unwrap();
    world.book.lose_pod(&pods[1]).unwrap();
    world.node(n, ["DE", "FR", "NL"][n % 3], |node| node["spec"]["unschedulable"] = json!(true));
    assert_eq!(world.decide(), Verdict::Nothing);
    let gone = PodId { set: "gold".parse().unwrap(), ordinal: 1 };
    let steps = world.steps();
    assert!(steps.contains(&Step::Leave(gone, Why::Drained)), "{steps:?}");
    assert!(steps.iter().any(|step| matches!(step, Step::Join(..))), "{steps:?}");
}

#[test]
fn a_pod_that_is_no_member_any_more_gives_its_room_back() {
    let (mut world, placed, pods) = World::placed();
    world.set(&[0, 2]);
    world.book.lose_pod(&pods[1]).unwrap();
    assert_eq!(world.book.ledger().cluster().pods_on(&placed[&1]).count(), 0);
}

#[test]
fn a_node_whose_attestation_ends_is_forged_or_revoked_gets_nothing_new_and_loses_what_it_has() {
    let ways: [fn(&mut World, usize); 4] = [
        |world, _| world.clock.0.store(2000, Ordering::Relaxed),
        |world, n| world.node(n, "US", |_| ()),
        |world, n| {
            world.node(n, "DE", |node| {
                node["metadata"]["annotations"] = json!({ "fleet.coffer/attestation": "v1.e30.e30" });
                node["metadata"]["labels"] = json!({ "topology.kubernetes.io/region": "DE" });
            });
        },
        |world, n| {
            let seen = &world.book.nodes[&format!("n{n}").parse().unwrap()];
            let id = seen.statement.as_ref().unwrap().id().to_owned();
            world.book.see_revocations([id].into()).unwrap();
        },
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let (mut world, placed, _) = World::placed();
        let n = placed[&1].as_str()[1..].parse::<usize>().unwrap();
        way(&mut world, n);
        world.book.time_passes().unwrap();
        let gone = PodId { set: "gold".parse().unwrap(), ordinal: 1 };
        let steps = world.steps();
        assert!(steps.contains(&Step::Leave(gone, Why::OutOfPlace)), "way {number}: {steps:?}");
        assert!(world.book.unattested(&placed[&1]).is_some() || number == 1, "way {number}");
    }
}

#[test]
fn a_silent_node_is_lost_after_the_grace_and_given_up_after_the_longer_one() {
    let (mut world, placed, _) = World::placed();
    let n = placed[&1].as_str()[1..].parse::<usize>().unwrap();
    let silent = |node: &mut Value| node["status"]["conditions"][0]["status"] = json!("Unknown");
    world.node(n, ["DE", "FR", "NL"][n % 3], silent);
    let name = "gold".parse().unwrap();
    assert!(world.book.standing(&name).lost.is_empty());
    world.clock.0.store(1005, Ordering::Relaxed);
    world.node(n, ["DE", "FR", "NL"][n % 3], silent);
    assert_eq!(world.book.standing(&name).lost, [placed[&1].clone()].into());
    // A reboot takes longer than a replacement may.
    assert!(world.book.standing(&name).given_up.is_empty());
    world.clock.0.store(1600, Ordering::Relaxed);
    assert_eq!(world.book.standing(&name).given_up, [placed[&1].clone()].into());
    world.node(n, ["DE", "FR", "NL"][n % 3], |_| ());
    assert!(world.book.standing(&name).lost.is_empty());
}

#[test]
fn a_node_that_is_no_more_stays_known_while_sites_have_their_bytes_there() {
    let (mut world, placed, pods) = World::placed();
    world.book.lose_node(&placed[&1]).unwrap();
    assert!(world.book.ledger().cluster().node(&placed[&1]).is_some_and(|node| node.attested.is_none()));
    world.set(&[0, 2]);
    world.book.lose_pod(&pods[1]).unwrap();
    assert!(world.book.ledger().cluster().node(&placed[&1]).is_none());
}

#[test]
fn a_refused_binding_is_taken_back_and_tried_again_with_the_next_beat() {
    let mut world = World::with_nodes();
    world.set(&[]);
    (0..3).for_each(|ordinal| drop(world.pod(ordinal, None)));
    let Verdict::Bind(bindings) = world.decide() else { unreachable!() };
    bindings.iter().for_each(|binding| world.book.was_refused(binding).unwrap());
    assert_eq!(world.book.ledger().cluster().bound().count(), 0);
    world.book.take_waiting(10);
    world.clock.0.fetch_add(1, Ordering::Relaxed);
    world.book.time_passes().unwrap();
    assert_eq!(world.book.take_waiting(10), ["gold".parse().unwrap()]);
    assert!(matches!(world.decide(), Verdict::Bind(_)));
}

#[test]
fn bindings_that_are_always_refused_fill_no_ledger() {
    let mut world = World::with_nodes();
    world.set(&[]);
    (0..3).for_each(|ordinal| drop(world.pod(ordinal, None)));
    let mut refused = 0;
    // A quarter of an hour, with a beat each second.
    for _ in 0..900 {
        world.clock.0.fetch_add(1, Ordering::Relaxed);
        world.book.time_passes().unwrap();
        if world.book.take_waiting(10).is_empty() {
            continue;
        }
        if let Verdict::Bind(bindings) = world.decide() {
            refused += 1;
            bindings.iter().for_each(|binding| world.book.was_refused(binding).unwrap());
        }
    }
    assert!((15..30).contains(&refused), "{refused}");
}

#[test]
fn a_set_that_stays_stuck_is_written_down_once_whatever_changes_elsewhere() {
    let mut world = World::new();
    world.node(0, "DE", |_| ());
    world.set(&[]);
    (0..3).for_each(|ordinal| drop(world.pod(ordinal, None)));
    assert!(matches!(world.decide(), Verdict::Unplaceable(_)));
    let decided = |world: &World| world.lines.iter().filter(|line| line.contains("decided")).count();
    for n in 0..20 {
        world.node(0, "DE", |node| node["metadata"]["labels"] = json!({ "try": n.to_string() }));
        assert_eq!(world.decide(), Verdict::Nothing);
    }
    assert_eq!(decided(&world), 1);
    // Another answer is news.
    world.node(1, "FR", |_| ());
    assert!(matches!(world.decide(), Verdict::Unplaceable(_)));
    assert_eq!(decided(&world), 2);
    let replayed = Ledger::replay(world.lines.iter().map(String::as_str), Some(&world.book.ledger().end()));
    assert!(replayed.is_ok());
}

#[test]
fn what_cannot_be_placed_is_explained_once_and_tried_again_when_something_changed() {
    let mut world = World::new();
    world.node(0, "DE", |_| ());
    world.node(1, "FR", |_| ());
    world.set(&[]);
    (0..3).for_each(|ordinal| drop(world.pod(ordinal, None)));
    let Verdict::Unplaceable(why) = world.decide() else { unreachable!() };
    assert!(!why.repairs.is_empty());
    assert!(world.book.why_not(&"gold".parse().unwrap()).unwrap().contains("add a node"));
    assert_eq!(world.decide(), Verdict::Nothing);
    world.node(2, "NL", |_| ());
    assert!(matches!(world.decide(), Verdict::Bind(_)));
}

#[test]
fn pods_of_others_take_their_room_and_give_it_back() {
    let mut world = World::new();
    (0..3).for_each(|n| world.node(n, ["DE", "FR", "NL"][n], |_| ()));
    let mut other = world.pod(9, Some("n1"));
    world.book.lose_pod(&other).unwrap();
    other.whose = Whose::Foreign;
    other.pod.needs.memory_bytes = 2;
    world.book.see_pod(other.clone()).unwrap();
    world.set(&[]);
    (0..3).for_each(|ordinal| drop(world.pod(ordinal, None)));
    assert!(matches!(world.decide(), Verdict::Unplaceable(_)));
    world.book.lose_pod(&other).unwrap();
    assert!(matches!(world.decide(), Verdict::Bind(_)));
}

#[test]
fn a_book_that_begins_anew_finds_what_there_is_and_both_ledgers_replay() {
    let (world, placed, _) = World::placed();
    let replayed = Ledger::replay(world.lines.iter().map(String::as_str), Some(&world.book.ledger().end()));
    assert!(replayed.unwrap().cluster().bound().eq(world.book.ledger().cluster().bound()));
    let mut anew = World::with_nodes();
    for (ordinal, node) in &placed {
        anew.pod(*ordinal, Some(node.as_str()));
    }
    anew.set(&[0, 1, 2]);
    assert_eq!(anew.decide(), Verdict::Nothing);
    let replayed = Ledger::replay(anew.lines.iter().map(String::as_str), Some(&anew.book.ledger().end()));
    assert!(replayed.unwrap().cluster().bound().eq(world.book.ledger().cluster().bound()));
}

#[test]
fn a_pod_found_where_there_is_no_room_takes_all_that_there_is() {
    let mut world = World::with_nodes();
    (0..3).for_each(|ordinal| drop(world.pod(ordinal, Some("n0"))));
    let free = world.book.ledger().cluster().free(&"n0".parse().unwrap());
    assert_eq!((free.cpu_millis, world.book.ledger().cluster().bound().count()), (0, 3));
}

#[test]
fn a_pod_that_was_just_taken_down_serves_no_set_although_the_book_holds_it_for_ready() {
    let (mut world, _, _) = World::placed();
    let set: SetName = "gold".parse().unwrap();
    let id = |ordinal| PodId { set: set.clone(), ordinal };
    for ordinal in 0..3 {
        let seen = world.book.pod(&id(ordinal)).unwrap().clone();
        world.book.see_pod(SeenPod { ready: true, ..seen }).unwrap();
    }
    let other = "silver".parse().unwrap();
    let mut taken = crate::sets::TakenDown::default();
    assert_eq!(taken.serving(&world.book, &other).away, BTreeSet::new());
    taken.note(id(1), world.book.pod(&id(1)).unwrap().uid.clone());
    assert_eq!(taken.serving(&world.book, &other).away, [id(1)].into());
    assert_eq!(taken.serving(&world.book, &set).own, [id(0), id(2)].into());
    // Another one came in its place, and does not serve yet; then it does.
    let node = world.book.pod(&id(1)).unwrap().node.clone();
    let again = SeenPod { node, ..world.pod(1, None) };
    world.book.see_pod(again.clone()).unwrap();
    assert_eq!(taken.serving(&world.book, &other).away, [id(1)].into());
    world.book.see_pod(SeenPod { ready: true, ..again }).unwrap();
    assert_eq!(taken.serving(&world.book, &other).away, BTreeSet::new());
}

/// Three nodes that pods of others fill, and a set of a higher priority.
fn filled() -> (World, Vec<SeenPod>) {
    let mut world = World::new();
    world.book.let_give_way();
    (0..3).for_each(|n| world.node(n, ["DE", "FR", "NL"][n], |_| ()));
    let mut others = Vec::new();
    for n in 0..3 {
        let mut other = world.pod(9, Some(&format!("n{n}")));
        world.book.lose_pod(&other).unwrap();
        (other.whose, other.name, other.pod.needs.memory_bytes) = (Whose::Foreign, format!("other-{n}"), 2);
        other.is_site = false;
        world.book.see_pod(other.clone()).unwrap();
        others.push(other);
    }
    world.set(&[]);
    for ordinal in 0..3 {
        let mut pod = world.pod(ordinal, None);
        pod.pod.priority = 5;
        world.book.see_pod(pod).unwrap();
    }
    (world, others)
}

#[test]
fn nobody_is_told_to_end_before_the_plan_is_written_and_the_set_waits_until_all_have() {
    let (mut world, others) = filled();
    let set: SetName = "gold".parse().unwrap();
    assert_eq!(world.decide(), Verdict::Nothing);
    assert!(world.book.evicted_for(&set).is_empty());
    world.book.lines_are_written();
    assert_eq!(world.book.evicted_for(&set).len(), 3);
    assert!(world.book.why_not(&set).unwrap().contains("other-1"));
    for (n, other) in others.iter().enumerate() {
        world.book.see_pod(SeenPod { phase: Phase::Ending, ..other.clone() }).unwrap();
        assert_eq!((world.book.evicted_for(&set).len(), world.decide()), (2 - n, Verdict::Nothing));
    }
    others.iter().take(2).for_each(|other| world.book.lose_pod(other).unwrap());
    assert_eq!(world.decide(), Verdict::Nothing);
    world.book.lose_pod(&others[2]).unwrap();
    assert!(matches!(world.decide(), Verdict::Bind(bindings) if bindings.len() == 3));
    assert!(world.book.nomination(&set).is_none());
    assert_eq!(world.lines.iter().filter(|line| line.contains("\"preempted\"")).count(), 1);
    let replayed = Ledger::replay(world.lines.iter().map(String::as_str), Some(&world.book.ledger().end()));
    assert!(replayed.is_ok());
}

#[test]
fn who_does_not_go_is_asked_again_only_after_a_while_and_no_room_is_kept_meanwhile() {
    let (mut world, _) = filled();
    let set: SetName = "gold".parse().unwrap();
    assert_eq!(world.decide(), Verdict::Nothing);
    world.book.lines_are_written();
    let stubborn = world.book.evicted_for(&set).remove(1).victim;
    world.book.does_not_go(stubborn);
    assert!(matches!(world.decide(), Verdict::Unplaceable(_)), "nobody else makes room");
    assert!(world.book.nomination(&set).is_none());
    assert!(world.book.ledger().cluster().claims(&set).is_empty());
    world.clock.0.fetch_add(61, Ordering::Relaxed);
    world.book.time_passes().unwrap();
    assert_eq!(world.decide(), Verdict::Nothing);
    world.book.lines_are_written();
    assert_eq!(world.book.evicted_for(&set).len(), 3);
}

#[test]
fn without_somebody_who_looks_after_sets_nobody_gives_way() {
    let (mut world, _) = filled();
    world.book.giving_way = GivingWay::default();
    assert!(matches!(world.decide(), Verdict::Unplaceable(_)));
}

#[test]
fn sites_of_another_fleet_do_not_give_way_they_would_come_back_to_their_disks() {
    let (mut world, others) = filled();
    for other in others {
        world.book.see_pod(SeenPod { is_site: true, ..other }).unwrap();
    }
    assert!(matches!(world.decide(), Verdict::Unplaceable(_)));
}

#[test]
fn a_site_of_whose_shards_nothing_was_heard_stays() {
    let (mut world, placed, _) = World::placed();
    world.book.let_give_way();
    for n in 0..6 {
        let memory =
            if placed.values().any(|node| *node == format!("n{n}").parse().unwrap()) { "1" } else { "0" };
        world.node(n, ["DE", "FR", "NL"][n % 3], |node| {
            node["status"]["allocatable"]["memory"] = json!(memory);
        });
    }
    let silver = json!({ "metadata": { "name": "silver", "namespace": "coffer" }, "apiVersion": "fleet.coffer/v1",
        "kind": "SiteSet", "spec": { "replicas": 1, "dataShards": 1, "parityShards": 0, "template": {
            "image": format!("coffer.local/site@sha256:{}", "0".repeat(64)),
            "resources": { "cpu": "1", "memory": "1", "diskBytes": 1, "iops": 1 } } } });
    let silver = translate::site_set(&serde_json::from_value(silver).unwrap()).unwrap();
    world.book.see_set(silver, &BTreeMap::new()).unwrap();
    let id = PodId { set: "silver".parse().unwrap(), ordinal: 0 };
    let mut pod = world.pod(7, None);
    world.book.lose_pod(&pod).unwrap();
    (pod.whose, pod.pod.ordinal, pod.pod.priority, pod.name) =
        (Whose::Ours(id.clone()), 0, 5, id.to_string());
    world.book.see_pod(pod).unwrap();
    assert!(matches!(world.book.decide(&id.set).unwrap(), Verdict::Unplaceable(_)));
    // The ledger says that they hold nothing: the first of them gives way, and leaves by the plan of its own set.
    let gold: SetName = "gold".parse().unwrap();
    let members: BTreeSet<PodId> = (0..3).map(|ordinal| PodId { set: gold.clone(), ordinal }).collect();
    let held = members.iter().map(|id| (id.clone(), 0)).collect();
    world.book.see_shards(&gold, &members, &crate::shards::Shards { groups: Vec::new(), held });
    assert_eq!(world.book.decide(&id.set).unwrap(), Verdict::Nothing);
    assert!(world.book.standing(&gold).preempted.is_empty());
    world.book.lines_are_written();
    let gone = world.book.standing(&gold).preempted.pop_first().unwrap();
    assert!(world.steps().contains(&Step::Leave(gone, Why::Preempted)));
}
