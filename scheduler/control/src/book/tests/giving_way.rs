//! Plans by which others give way: each of them ends, or is undone and not made again at once.

use super::*;
use crate::shards::Shards;
use coffer_scheduler::ShardGroup;

const IMAGE: &str = "coffer.local/site@sha256:";

pub(super) fn id(set: &str, ordinal: u32) -> PodId {
    PodId { set: set.parse().unwrap(), ordinal }
}

impl World {
    /// Some nodes with room for one great pod each, in one country.
    pub(super) fn of_nodes(count: usize) -> Self {
        let mut world = Self::new();
        world.until = 1_000_000;
        world.book.let_give_way();
        (0..count).for_each(|n| world.node(n, "DE", |_| ()));
        world
    }

    /// A set of pods that take a node each.
    pub(super) fn great_set(
        &mut self,
        name: &str,
        replicas: u32,
        members: &[u32],
        change: impl FnOnce(&mut Value),
    ) {
        let members: Vec<Value> = members.iter().map(|ordinal| json!({ "ordinal": ordinal })).collect();
        let mut object = json!({
            "apiVersion": "fleet.coffer/v1", "kind": "SiteSet", "metadata": { "name": name, "namespace": "coffer" },
            "spec": {
                "replicas": replicas, "dataShards": 1, "parityShards": 0,
                "template": {
                    "image": format!("{IMAGE}{}", "0".repeat(64)),
                    "resources": { "cpu": "1", "memory": "2", "diskBytes": 1, "iops": 1 },
                },
            },
            "status": { "members": members },
        });
        change(&mut object);
        let object = serde_json::from_value(object).unwrap();
        self.book.see_set(translate::site_set(&object).unwrap(), &BTreeMap::new()).unwrap();
    }

    /// One of its pods.
    pub(super) fn great_pod(
        &mut self,
        name: &str,
        ordinal: u32,
        priority: i32,
        node: Option<&str>,
    ) -> SeenPod {
        self.uids += 1;
        let object = json!({
            "metadata": { "name": format!("{name}-{ordinal}"), "namespace": "coffer", "uid": self.uids.to_string(),
                "labels": { LABEL_SET: name, LABEL_ORDINAL: ordinal.to_string() } },
            "spec": { "schedulerName": "coffer", "nodeName": node, "priority": priority, "containers": [{
                "name": "site", "resources": { "requests":
                    { "cpu": "1", "memory": "2", "fleet.coffer/disk-bytes": "1", "fleet.coffer/iops": "1" } } }] },
        });
        let seen = translate::pod(&serde_json::from_value(object).unwrap());
        self.book.see_pod(seen.clone()).unwrap();
        seen
    }

    /// Somebody else's pod that fills a node.
    pub(super) fn other(&mut self, name: &str, node: &str, phase: Phase) -> SeenPod {
        self.uids += 1;
        let object = json!({
            "metadata": { "name": name, "namespace": "shop", "uid": self.uids.to_string() },
            "spec": { "schedulerName": "another", "nodeName": node, "containers": [{
                "name": "c", "resources": { "requests": { "memory": "2" } } }] },
        });
        let mut seen = translate::pod(&serde_json::from_value(object).unwrap());
        seen.phase = phase;
        self.book.see_pod(seen.clone()).unwrap();
        seen
    }

    /// As the scheduler does: whoever waits is decided over, until nobody does; how many decisions that took.
    pub(super) fn settle(&mut self) -> usize {
        for count in 0..200 {
            let waiting = self.book.take_waiting(1);
            let Some(set) = waiting.first() else {
                self.lines.extend(self.book.take_lines().into_iter().flat_map(|(_, lines)| lines));
                self.book.lines_are_written();
                return count;
            };
            if let Verdict::Bind(bindings) = self.book.decide(set).unwrap() {
                for binding in bindings {
                    let mut seen = self.book.pod(&binding.pod).unwrap().clone();
                    seen.node = Some(binding.node);
                    self.book.see_pod(seen).unwrap();
                }
            }
            self.lines.extend(self.book.take_lines().into_iter().flat_map(|(_, lines)| lines));
            self.book.lines_are_written();
        }
        unreachable!("it goes on for ever");
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
        self.book.time_passes().unwrap();
        self.settle();
    }

    pub(super) fn plans(&self) -> usize {
        self.lines.iter().filter(|line| line.contains("{\"preempted\"")).count()
    }

    pub(super) fn claims(&self, set: &str) -> usize {
        self.book.ledger().cluster().claims(&set.parse().unwrap()).len()
    }

    fn evicted(&self, set: &str) -> Vec<String> {
        let all = self.book.evicted_for(&set.parse().unwrap());
        all.into_iter().map(|one| one.victim.name).collect()
    }

    pub(super) fn replays(&self) {
        let replayed = Ledger::replay(self.lines.iter().map(String::as_str), Some(&self.book.ledger().end()));
        assert!(replayed.is_ok(), "{:?}", replayed.map(|_| ()));
    }
}

#[test]
fn two_sets_that_wait_for_room_that_comes_free_by_itself_do_not_undo_each_others_plans() {
    let mut world = World::of_nodes(2);
    let ending: Vec<SeenPod> =
        (0..2).map(|n| world.other(&format!("o{n}"), &format!("n{n}"), Phase::Ending)).collect();
    for set in ["amber", "ruby"] {
        world.great_set(set, 1, &[0], |_| ());
        world.great_pod(set, 0, 5, None);
    }
    assert!(world.settle() < 20);
    assert_eq!((world.plans(), world.claims("amber"), world.claims("ruby")), (2, 1, 1));
    for n in 0..20 {
        world.node(0, "DE", |node| node["metadata"]["labels"] = json!({ "try": n.to_string() }));
        assert!(world.settle() < 20);
    }
    assert_eq!(world.plans(), 2, "what is under way is not planned again");
    ending.iter().for_each(|one| world.book.lose_pod(one).unwrap());
    world.settle();
    assert!(
        [id("amber", 0), id("ruby", 0)].iter().all(|id| world.book.ledger().cluster().node_of(id).is_some())
    );
    world.replays();
}

#[test]
fn who_came_again_under_the_name_of_one_that_gave_way_is_not_told_to_end() {
    let mut world = World::of_nodes(1);
    let first = world.other("o", "n0", Phase::Alive);
    world.great_set("ruby", 1, &[0], |_| ());
    world.great_pod("ruby", 0, 5, None);
    world.settle();
    assert_eq!(world.evicted("ruby"), ["o"]);
    let again = SeenPod { uid: "another".to_owned(), ..first.clone() };
    world.book.see_pod(again).unwrap();
    assert_eq!(world.evicted("ruby"), Vec::<String>::new());
    // Nor one that is of another priority by now.
    world.book.see_pod(first.clone()).unwrap();
    assert_eq!(world.evicted("ruby"), ["o"]);
    let mut higher = first;
    higher.pod.priority = 5;
    world.book.see_pod(higher).unwrap();
    assert_eq!(world.evicted("ruby"), Vec::<String>::new());
}

/// Sites of gold on the first nodes, each with a shard that moves if another pod of gold finds a node; and so many
/// nodes besides, of which the pods of ruby may have none.
fn sites(count: u32, spare: usize) -> World {
    let mut world = World::of_nodes(0);
    let sites = usize::try_from(count).unwrap();
    for n in 0..sites + spare {
        let rack = if n < sites { "x" } else { "y" };
        world.node(n, "DE", |node| node["metadata"]["labels"] = json!({ "rack": rack }));
    }
    let members: Vec<u32> = (0..count).collect();
    world.great_set("gold", count, &members, |_| ());
    for ordinal in 0..count {
        world.great_pod("gold", ordinal, 0, Some(&format!("n{ordinal}")));
    }
    world.settle();
    world
}

fn tells(world: &mut World, held: u64, readable: u32) {
    let gold: SetName = "gold".parse().unwrap();
    let members: BTreeSet<PodId> =
        world.book.set(&gold).unwrap().members.iter().map(|n| id("gold", *n)).collect();
    let held = members.iter().map(|id| (id.clone(), held)).collect();
    let readable = (0..readable).map(|n| id("gold", n)).collect();
    let groups = vec![ShardGroup { needed: 0, readable, objects: 1 }];
    world.book.see_shards(&gold, &members, &Shards { groups, held });
}

fn ruby(world: &mut World, count: u32) {
    let members: Vec<u32> = (0..count).collect();
    world.great_set("ruby", count, &members, |object| {
        object["spec"]["template"]["nodeSelector"] = json!({ "rack": "x" });
    });
    for ordinal in 0..count {
        let mut pod = world.great_pod("ruby", ordinal, 5, None);
        pod.pod.selector.insert("rack".to_owned(), "x".to_owned());
        world.book.see_pod(pod).unwrap();
    }
}

#[test]
fn of_two_sites_that_would_move_to_the_same_node_one_gives_way_and_two_do_not() {
    let mut world = sites(3, 1);
    tells(&mut world, 4, 3);
    ruby(&mut world, 2);
    world.settle();
    assert_eq!(world.plans(), 0, "there is one node for two successors");
    assert!(world.book.why_not(&"ruby".parse().unwrap()).is_some());
    let mut world = sites(3, 2);
    tells(&mut world, 4, 3);
    ruby(&mut world, 2);
    world.settle();
    assert_eq!((world.plans(), world.book.standing(&"gold".parse().unwrap()).preempted.len()), (1, 2));
    world.replays();
}

#[test]
fn room_that_is_kept_is_no_room_for_who_moves_out_of_another() {
    // The spare node is kept for amber, which waits for nobody but time. Half of it is free.
    let mut world = sites(2, 1);
    world.node(2, "DE", |node| {
        node["metadata"]["labels"] = json!({ "rack": "y" });
        node["status"]["allocatable"]["memory"] = json!("4");
    });
    world.other("o", "n2", Phase::Ending);
    world.great_set("amber", 1, &[0], |object| {
        object["spec"]["template"]["nodeSelector"] = json!({ "rack": "y" });
    });
    let mut pod = world.great_pod("amber", 0, 5, None);
    pod.pod.needs.memory_bytes = 4;
    pod.pod.selector.insert("rack".to_owned(), "y".to_owned());
    world.book.see_pod(pod).unwrap();
    world.settle();
    assert_eq!(world.claims("amber"), 1);
    tells(&mut world, 4, 2);
    ruby(&mut world, 1);
    world.settle();
    assert_eq!(world.claims("ruby"), 0, "what lies on a site of gold could move nowhere");
}

#[test]
fn who_does_not_end_in_time_is_not_waited_for_any_more() {
    let mut world = World::of_nodes(1);
    let other = world.other("o", "n0", Phase::Alive);
    world.great_set("ruby", 1, &[0], |_| ());
    world.great_pod("ruby", 0, 5, None);
    world.settle();
    world.book.see_pod(SeenPod { phase: Phase::Ending, ..other }).unwrap();
    world.settle();
    assert_eq!(world.claims("ruby"), 1);
    world.pass(1000);
    assert_eq!(world.claims("ruby"), 0, "its node has died, or somebody holds it");
    // Nor is his room counted on again and again.
    for _ in 0..100 {
        world.pass(60);
    }
    assert!(world.plans() < 12, "{} plans", world.plans());
    world.replays();
}

#[test]
fn a_site_whose_data_moves_is_waited_for_and_one_whose_data_does_not_is_not() {
    let mut world = sites(2, 1);
    tells(&mut world, 100, 2);
    ruby(&mut world, 1);
    world.settle();
    for held in (10..100).rev() {
        tells(&mut world, held, 2);
        world.pass(60);
        assert_eq!((world.claims("ruby"), world.plans()), (1, 1), "{held}");
    }
    world.pass(1000);
    assert_eq!(world.claims("ruby"), 0);
    assert!(world.book.standing(&"gold".parse().unwrap()).preempted.is_empty(), "it stays");
}

#[test]
fn room_on_a_node_that_died_is_kept_no_more() {
    let mut world = World::of_nodes(2);
    world.other("a", "n0", Phase::Alive);
    let mut higher = world.other("b", "n1", Phase::Alive);
    higher.pod.priority = 9;
    world.book.see_pod(higher).unwrap();
    world.great_set("ruby", 1, &[0], |_| ());
    world.great_pod("ruby", 0, 5, None);
    world.settle();
    assert_eq!(world.evicted("ruby"), ["a"]);
    world.node(0, "DE", |node| node["status"]["conditions"][0]["status"] = json!("Unknown"));
    world.settle();
    assert_eq!((world.claims("ruby"), world.evicted("ruby")), (0, Vec::new()));
    world.pass(5);
    world.node(0, "DE", |_| ());
    world.pass(5);
    assert_eq!(world.evicted("ruby"), ["a"]);
}

#[test]
fn room_that_somebody_else_takes_each_time_is_asked_for_less_and_less_often_and_that_is_said() {
    let mut world = World::of_nodes(1);
    let mut there = world.other("o", "n0", Phase::Alive);
    world.great_set("ruby", 1, &[0], |_| ());
    world.great_pod("ruby", 0, 5, None);
    world.settle();
    let mut evictions = 0;
    for n in 0..3600 {
        if world.evicted("ruby").contains(&there.name) {
            evictions += 1;
            world.book.lose_pod(&there).unwrap();
            // Before we are asked.
            there = world.other(&format!("o{n}"), "n0", Phase::Alive);
        }
        world.pass(1);
        if evictions == 6 {
            let why = world.book.why_not(&"ruby".parse().unwrap()).unwrap();
            assert!(why.contains("taken by others") || world.claims("ruby") > 0, "{why}");
        }
    }
    assert!((5..20).contains(&evictions), "{evictions} evictions in an hour");
    world.replays();
}

#[test]
fn who_could_give_way_is_not_looked_for_at_each_change_of_the_fleet() {
    let mut world = World::of_nodes(1);
    let mut higher = world.other("o", "n0", Phase::Alive);
    higher.pod.priority = 9;
    world.book.see_pod(higher.clone()).unwrap();
    world.great_set("gold", 1, &[0], |_| ());
    world.great_set("ruby", 1, &[0], |_| ());
    world.great_pod("ruby", 0, 5, None);
    // Somebody is below, elsewhere: it is looked for whom to ask.
    world.node(1, "DE", |node| node["spec"]["unschedulable"] = json!(true));
    world.other("low", "n1", Phase::Alive);
    world.settle();
    assert_eq!(world.plans(), 0);
    higher.pod.priority = 1;
    world.book.see_pod(higher).unwrap();
    world.settle();
    assert_eq!(world.plans(), 0, "not before a pause");
    world.pass(2);
    assert_eq!(world.plans(), 1);
}

#[test]
fn a_pod_that_loses_its_labels_is_one_pod_still() {
    let mut world = World::of_nodes(2);
    world.great_set("gold", 1, &[], |_| ());
    let pod = world.great_pod("gold", 0, 0, Some("n0"));
    let room = |world: &World| world.book.ledger().cluster().room(&"n0".parse().unwrap()).memory_bytes;
    assert_eq!(room(&world), 0);
    let lost = SeenPod { whose: Whose::Refused(translate::PodRefusal::Site), ..pod.clone() };
    world.book.see_pod(lost.clone()).unwrap();
    assert!(world.book.pod(&id("gold", 0)).is_none(), "it is no pod of the set any more");
    assert_eq!((world.book.foreign.len(), room(&world)), (1, 0));
    world.book.see_pod(pod.clone()).unwrap();
    assert_eq!((world.book.foreign.len(), room(&world)), (0, 0));
    world.book.see_pod(lost.clone()).unwrap();
    world.book.lose_pod(&lost).unwrap();
    assert_eq!((world.book.foreign.len(), room(&world)), (0, 2));
}

/// A book that begins while a plan is under way: a pod of somebody else has gone, a site has not.
#[test]
fn what_was_under_way_before_a_new_beginning_goes_on_where_it_was() {
    let mut world = sites(3, 1);
    // As the API has it: room is kept for ruby-0 on n1, and gold-1 gives way there.
    world.book.sets.clear();
    world.great_set("gold", 3, &[0, 1, 2], |object| {
        object["status"]["members"][1]["leaves"] = json!("Preempted");
    });
    let gold: SetName = "gold".parse().unwrap();
    assert_eq!(world.book.standing(&gold).preempted, [id("gold", 1)].into(), "it goes on from the first");
    world.great_set("amber", 1, &[0], |_| ());
    world.great_set("ruby", 1, &[0], |_| ());
    world.great_pod("amber", 0, 5, None);
    let pod = world.great_pod("ruby", 0, 5, None);
    world.book.see_pod(SeenPod { nominated: Some("n1".parse().unwrap()), ..pod }).unwrap();
    world.node(3, "DE", |node| {
        node["metadata"]["labels"] = json!({ "rack": "y" });
        node["spec"]["unschedulable"] = json!(true);
    });
    world.settle();
    let claims = world.book.ledger().cluster().claims(&"ruby".parse().unwrap());
    assert_eq!(claims.iter().map(|claim| claim.node.as_str()).collect::<Vec<_>>(), ["n1"]);
    assert_eq!(world.book.standing(&gold).preempted, [id("gold", 1)].into());
    // What the ledger of shards says by and by does not undo it.
    tells(&mut world, 4, 3);
    world.pass(200);
    assert_eq!((world.claims("ruby"), world.book.standing(&gold).preempted), (1, [id("gold", 1)].into()));
    world.replays();
}

#[test]
fn who_gave_way_before_a_new_beginning_stays_if_nobody_wants_its_room_any_more() {
    let mut world = sites(2, 1);
    world.book.sets.clear();
    world.great_set("gold", 2, &[0, 1], |object| {
        object["status"]["members"][1]["leaves"] = json!("Preempted")
    });
    let gold: SetName = "gold".parse().unwrap();
    world.pass(60);
    assert_eq!(world.book.standing(&gold).preempted, [id("gold", 1)].into());
    world.pass(100);
    assert!(world.book.standing(&gold).preempted.is_empty());
}
