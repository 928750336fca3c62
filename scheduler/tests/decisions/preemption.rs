//! Who gives way: against every choice of victims that there is, on small clusters.

use std::collections::{BTreeMap, BTreeSet};

use coffer_scheduler::{
    Budget, Claim, Cluster, Costs, Ledger, LedgerError, Line, Neighbour, NeighbourName, NodeName, PodId,
    Preemption, Resources, Runner, ShardGroup, SiteSet, Space, Traits, Victim, Yielding, decide, may_run,
    preempt,
};

use crate::instance::{COUNTRIES, Chance, node, pod, random, set};

pub(crate) fn disk(bytes: u64) -> Resources {
    Resources { disk_bytes: bytes, ..Resources::default() }
}

pub(crate) fn name(n: u64) -> NeighbourName {
    NeighbourName { space: Space::Named("shop".to_owned()), name: format!("other-{n}") }
}

pub(crate) fn somebody(n: u64, at: &str, bytes: u64, priority: i32) -> Neighbour {
    let traits = Traits { priority, ..Traits::default() };
    Neighbour { name: name(n), node: at.parse().unwrap(), needs: disk(bytes), traits }
}

pub(crate) fn elder(ordinal: u32) -> PodId {
    PodId { set: "elder".parse().unwrap(), ordinal }
}

struct Case {
    cluster: Cluster,
    set: SiteSet,
    yielding: Yielding,
}

/// Few nodes that are nearly full, with everybody who can be on them.
fn case(seed: u64) -> Case {
    let mut chance = Chance(seed);
    let mut cluster = Cluster::new();
    let nodes = 2 + chance.below(3);
    for n in 0..nodes {
        let country = *chance.pick(&COUNTRIES);
        cluster.put_node(node(&format!("n{n}"), country, &format!("d{}", chance.below(4)), 100));
    }
    let at = |chance: &mut Chance| format!("n{}", chance.below(nodes));
    let priority = |chance: &mut Chance| *chance.pick(&[-1, 0, 3, 9]);
    let mut yielding = Yielding::default();
    for n in 0..2 + chance.below(4) {
        let (at, bytes, priority) = (at(&mut chance), 10 + chance.below(50), priority(&mut chance));
        if cluster.room(&at.parse().unwrap()).disk_bytes < bytes {
            continue;
        }
        cluster.put_neighbour(somebody(n, &at, bytes, priority)).unwrap();
        match chance.below(8) {
            0 => _ = yielding.ending.insert(Runner::Neighbour(name(n))),
            1 => _ = yielding.spared.insert(Runner::Neighbour(name(n))),
            _ => {}
        }
    }
    let mut readable = BTreeSet::new();
    for ordinal in 0..u32::try_from(chance.below(6)).unwrap() {
        let (at, needs) = (at(&mut chance).parse().unwrap(), disk(10 + chance.below(50)));
        let traits = Traits { priority: priority(&mut chance), ..Traits::default() };
        if cluster.bind_as(elder(ordinal), needs, traits, &at).is_err() {
            continue;
        }
        if !chance.one_in(4) {
            yielding.sites.insert(elder(ordinal), chance.below(3) * 100);
        }
        if !chance.one_in(4) {
            readable.insert(elder(ordinal));
        }
    }
    let needed = u32::try_from(chance.below(3)).unwrap();
    yielding.groups.push(ShardGroup { needed, readable, objects: 1 });
    let pods = (0..1 + u32::try_from(chance.below(2)).unwrap()).map(|ordinal| {
        let mut one = pod(ordinal, 30 + chance.below(60));
        one.priority = 5;
        one
    });
    let mut set = set(pods.collect());
    set.spread.country_skew = chance.one_in(3).then_some(1);
    Case { cluster, set, yielding }
}

/// The same cluster without some.
fn without<'a>(cluster: &Cluster, gone: impl IntoIterator<Item = &'a Runner>) -> Cluster {
    let mut cluster = cluster.clone();
    for runner in gone {
        match runner {
            Runner::Pod(id) => _ = cluster.unbind(id).unwrap(),
            Runner::Neighbour(name) => assert!(cluster.remove_neighbour(name)),
        }
    }
    cluster
}

/// What a choice costs: whose priority is the highest, how many they are, what they hold.
type Cost = (i32, usize, u64);

fn cost<'a>(victims: impl Iterator<Item = &'a Victim> + Clone) -> Cost {
    let highest = victims.clone().map(|one| one.priority).max().unwrap_or(i32::MIN);
    (highest, victims.clone().count(), victims.map(|one| one.held).sum())
}

/// Everybody who may be asked, and who may go alone.
fn eligible(case: &Case) -> Vec<Victim> {
    let mut all = Vec::new();
    let nodes: Vec<NodeName> = case.cluster.nodes().map(|(node, _)| node.name.clone()).collect();
    for at in nodes {
        for one in case.cluster.neighbours_on(&at) {
            let (runner, priority) = (Runner::Neighbour(one.name.clone()), one.traits.priority);
            let asked = !case.yielding.ending.contains(&runner) && !case.yielding.spared.contains(&runner);
            if asked && priority < 5 {
                all.push(Victim { runner, node: at.clone(), priority, held: 0 });
            }
        }
        for id in case.cluster.pods_on(&at) {
            let priority = case.cluster.traits(id).unwrap().priority;
            let Some(held) = case.yielding.sites.get(id).copied() else { continue };
            let readable = case.yielding.groups.iter().any(|group| group.readable.contains(id));
            if priority < 5 && (held == 0 || readable) {
                all.push(Victim { runner: Runner::Pod(id.clone()), node: at.clone(), priority, held });
            }
        }
    }
    all
}

fn may_go(yielding: &Yielding, victims: &[&Victim]) -> bool {
    let sites = victims.iter().filter_map(|one| match &one.runner {
        Runner::Pod(id) => Some(id.clone()),
        Runner::Neighbour(_) => None,
    });
    Budget::new(yielding.groups.clone()).allow(&sites.collect()).is_ok()
}

/// The least that any choice costs.
fn least(case: &Case) -> Option<Cost> {
    let all = eligible(case);
    let choices = (0..1_usize << all.len()).filter_map(|bits| {
        let victims = all.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0).map(|(_, one)| one);
        let victims: Vec<&Victim> = victims.collect();
        let gone = victims.iter().map(|one| &one.runner).chain(&case.yielding.ending);
        let fits = may_go(&case.yielding, &victims)
            && decide(&without(&case.cluster, gone), &case.set, &Costs::default()).is_ok();
        fits.then(|| cost(victims.into_iter()))
    });
    choices.min()
}

fn planned(case: &Case) -> Option<Preemption> {
    preempt(&case.cluster, &case.set, &Costs::default(), &case.yielding)
}

/// What every plan has to keep to.
fn is_sound(case: &Case, plan: &Preemption, seed: u64) {
    for victim in &plan.victims {
        assert!(victim.priority < 5, "seed {seed}: {victim:?}");
        assert!(!case.yielding.spared.contains(&victim.runner), "seed {seed}: {victim:?}");
        if let Runner::Pod(id) = &victim.runner {
            assert!(
                id.set != case.set.name && case.yielding.sites.contains_key(id),
                "seed {seed}: {victim:?}"
            );
        }
    }
    assert!(
        may_go(&case.yielding, &plan.victims.iter().collect::<Vec<_>>()),
        "seed {seed}: the budget is broken"
    );
    let gone = plan.victims.iter().map(|one| &one.runner).chain(&case.yielding.ending);
    let after = without(&case.cluster, gone);
    assert!(decide(&after, &case.set, &Costs::default()).is_ok(), "seed {seed}: {plan:?} does not help");
    for claim in &plan.claims {
        let pod = case.set.pods.iter().find(|pod| pod.ordinal == claim.ordinal).unwrap();
        let there = may_run(&after, &case.set, pod, after.node(&claim.node).unwrap());
        assert!(there.is_empty(), "seed {seed}: {there:?}");
    }
}

#[test]
fn victims_are_as_low_as_few_and_as_empty_as_any_choice_lets_them_be() {
    let (mut seen, mut with_sites, mut together, mut seed) = (0, 0, 0, 0);
    while seen < 2000 || with_sites < 100 || together < 20 {
        seed += 1;
        let case = case(seed);
        if decide(&case.cluster, &case.set, &Costs::default()).is_ok() {
            assert_eq!(planned(&case), None, "seed {seed}: it fits");
            continue;
        }
        let plan = planned(&case);
        let paid = plan.as_ref().map(|plan| cost(plan.victims.iter()));
        assert_eq!(paid, least(&case), "seed {seed}: {plan:?}");
        let Some(plan) = plan else { continue };
        is_sound(&case, &plan, seed);
        seen += 1;
        let sites = plan.victims.iter().filter(|one| matches!(one.runner, Runner::Pod(_))).count();
        with_sites += usize::from(sites > 0);
        together += usize::from(sites > 1);
    }
}

#[test]
fn whatever_pods_wish_besides_the_plan_helps_and_takes_nobody_of_the_same_priority() {
    let (mut seen, mut seed) = (0, 0);
    while seen < 100 {
        seed += 1;
        let (mut cluster, mut set) = random(seed, 7, 4);
        let mut chance = Chance(seed);
        set.pods.iter_mut().for_each(|pod| pod.priority = 5);
        let nodes: Vec<NodeName> = cluster.nodes().map(|(node, _)| node.name.clone()).collect();
        for n in 20..28 {
            let (at, priority) = (chance.pick(&nodes).clone(), *chance.pick(&[0, 4, 5, 7]));
            cluster.put_neighbour(somebody(n, at.as_str(), 20 + chance.below(80), priority)).unwrap();
        }
        let case = Case { cluster, set, yielding: Yielding::default() };
        if let Some(plan) = planned(&case) {
            is_sound(&case, &plan, seed);
            assert!(!plan.victims.is_empty(), "seed {seed}");
            seen += 1;
        }
    }
}

/// One node that somebody of priority 0 fills, and a pod of priority 5.
pub(crate) fn full() -> (Cluster, SiteSet) {
    let mut cluster = Cluster::new();
    cluster.put_node(node("a", "DE", "a", 100));
    cluster.put_neighbour(somebody(0, "a", 80, 0)).unwrap();
    let mut one = pod(0, 50);
    one.priority = 5;
    (cluster, set(vec![one]))
}

pub(crate) fn plan(cluster: &Cluster, set: &SiteSet, yielding: &Yielding) -> Option<Preemption> {
    preempt(cluster, set, &Costs::default(), yielding)
}

#[test]
fn a_pod_that_never_preempts_waits_whatever_its_priority() {
    let (cluster, mut set) = full();
    assert_eq!(plan(&cluster, &set, &Yielding::default()).unwrap().victims.len(), 1);
    set.pods[0].waits = true;
    assert_eq!(plan(&cluster, &set, &Yielding::default()), None);
}

#[test]
fn nobody_goes_where_that_does_not_help_and_nobody_more_where_enough_end_already() {
    let (mut cluster, mut set) = full();
    let ending = Yielding { ending: [Runner::Neighbour(name(0))].into(), ..Yielding::default() };
    assert_eq!(plan(&cluster, &set, &ending).unwrap().victims, BTreeSet::new());
    cluster.put_neighbour(somebody(1, "a", 60, 9)).unwrap();
    assert_eq!(plan(&cluster, &set, &Yielding::default()), None, "who is left takes too much");
    set.pods[0].priority = 10;
    assert_eq!(plan(&cluster, &set, &Yielding::default()).unwrap().victims.len(), 2);
}

#[test]
fn a_site_whose_shards_cannot_be_lost_or_read_is_never_a_victim() {
    let (mut cluster, set) = full();
    cluster.remove_neighbour(&name(0));
    cluster.bind(elder(0), disk(80), &"a".parse().unwrap()).unwrap();
    let yields = |needed, held, readable: &[u32]| {
        let readable = readable.iter().map(|ordinal| elder(*ordinal)).collect();
        let groups = vec![ShardGroup { needed, readable, objects: 1 }];
        let yielding = Yielding { sites: BTreeMap::from([(elder(0), held)]), groups, ..Yielding::default() };
        plan(&cluster, &set, &yielding).is_some()
    };
    assert!(yields(1, 7, &[0, 1, 2]));
    assert!(!yields(1, 7, &[0, 1]), "one readable shard would be left, and two must be");
    assert!(!yields(1, 7, &[1, 2]), "what lies there cannot be read, and so cannot move");
    assert!(yields(1, 0, &[1, 2]), "it holds nothing");
    assert!(plan(&cluster, &set, &Yielding::default()).is_none(), "of whom the ledger knows nothing stays");
}

#[test]
fn of_two_sites_that_may_not_go_together_one_goes_and_somebody_dearer() {
    let mut cluster = Cluster::new();
    for at in ["a", "b", "c"] {
        cluster.put_node(node(at, "DE", at, 100));
    }
    cluster.bind(elder(0), disk(80), &"a".parse().unwrap()).unwrap();
    cluster.bind(elder(1), disk(80), &"b".parse().unwrap()).unwrap();
    cluster.put_neighbour(somebody(0, "c", 80, 1)).unwrap();
    let mut two = set(vec![pod(0, 50), pod(1, 50)]);
    two.pods.iter_mut().for_each(|pod| pod.priority = 5);
    let readable = BTreeSet::from([elder(0), elder(1), elder(2)]);
    let groups = |needed| vec![ShardGroup { needed, readable: readable.clone(), objects: 1 }];
    let sites = BTreeMap::from([(elder(0), 3), (elder(1), 7)]);
    let victims = |needed| {
        let yielding = Yielding { sites: sites.clone(), groups: groups(needed), ..Yielding::default() };
        let plan = plan(&cluster, &two, &yielding)?;
        Some(plan.victims.into_iter().map(|one| one.runner).collect::<Vec<_>>())
    };
    assert_eq!(victims(0).unwrap(), [Runner::Pod(elder(0)), Runner::Pod(elder(1))]);
    assert_eq!(
        victims(1).unwrap(),
        [Runner::Pod(elder(0)), Runner::Neighbour(name(0))],
        "who holds less goes"
    );
    assert_eq!(victims(2), None);
}

#[test]
fn kept_room_is_taken_by_whom_it_is_kept_for_or_by_a_higher_priority() {
    let (mut cluster, wanted) = full();
    let claims = plan(&cluster, &wanted, &Yielding::default()).unwrap().claims;
    cluster.claim(&wanted.name, claims);
    cluster.remove_neighbour(&name(0));
    let other = |priority| {
        let mut one = wanted.clone();
        one.name = "other".parse().unwrap();
        one.pods[0].priority = priority;
        one.pods[0].needs.disk_bytes = 60;
        decide(&cluster, &one, &Costs::default()).is_ok()
    };
    assert_eq!([4, 5, 6].map(other), [false, false, true]);
    assert!(decide(&cluster, &wanted, &Costs::default()).is_ok());
    cluster.release_claims(&wanted.name);
    assert_eq!(cluster.free(&"a".parse().unwrap()).disk_bytes, 100);
}

#[test]
fn who_gave_way_is_in_the_ledger_and_another_victim_there_is_found() {
    let (cluster, wanted) = full();
    let mut ledger = Ledger::new();
    let mut lines = Vec::new();
    lines.push(
        ledger.change(Line::Node(Box::new(cluster.node(&"a".parse().unwrap()).unwrap().clone()))).unwrap(),
    );
    for (n, bytes) in [(0, 60), (1, 40)] {
        lines.push(ledger.change(Line::Neighbour(Box::new(somebody(n, "a", bytes, 0)))).unwrap());
    }
    let (plan, line) = ledger.preempt(&wanted, &Costs::default(), Yielding::default()).unwrap().unwrap();
    assert_eq!(
        plan.claims,
        [Claim { ordinal: 0, node: "a".parse().unwrap(), needs: wanted.pods[0].needs, priority: 5 }]
    );
    lines.push(line.clone());
    lines.push(ledger.change(Line::NeighbourGone(name(0))).unwrap());
    let (decision, decided) = ledger.decide(wanted.clone(), Costs::default()).unwrap();
    assert!(decision.is_some() && ledger.cluster().claims(&wanted.name).is_empty());
    lines.push(decided);
    let texts = |lines: &[String]| lines.to_vec();
    let replay = |lines: &[String]| Ledger::replay(lines.iter().map(String::as_str), None).map(|_| ());
    assert!(replay(&texts(&lines)).is_ok());
    let mut forged = lines[..4].to_vec();
    forged[3] = line.replacen("other-0", "other-1", 1);
    assert_ne!(forged[3], line);
    assert!(matches!(replay(&forged), Err(LedgerError::Decision { line: 3 })), "{:?}", replay(&forged));
    forged[3] = line.replacen("\"format\":2", "\"format\":9", 1);
    assert!(matches!(replay(&forged), Err(LedgerError::Format { line: 3, format: 9 })));
}
