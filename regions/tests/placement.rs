//! Every placement is legal, judged by an oracle that reads the policy anew;
//! little moves when a site comes or goes; nothing is placed that cannot be.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{
    Degraded, FailureDomain, Geometry, Layout, ResidencyPolicy, SiteDescription, SiteId, Tier, Topology,
};
use coffer_regions::{Denial, Placement, PlacementError, acknowledgeable, place, place_small, satisfiable};
use proptest::prelude::*;

const EU: [&str; 4] = ["DE", "FR", "FI", "PL"];

fn site(index: u8, country: &str, domain: u8, tier: Tier) -> SiteDescription {
    SiteDescription {
        id: SiteId::from_bytes([index; 16]),
        name: format!("{}{index}", country.to_lowercase()),
        country: country.parse().unwrap(),
        domain: FailureDomain(format!("d{domain}")),
        tier,
    }
}

fn german(sites: u8) -> Topology {
    Topology { sites: (0..sites).map(|i| site(i, "DE", i, Tier::III)).collect() }
}

fn policy(k: u8, m: u8, degraded: Degraded) -> ResidencyPolicy {
    ResidencyPolicy {
        allow: vec![],
        deny: vec![],
        tier_min: Tier::I,
        geometry: Geometry::new(k, m).unwrap(),
        degraded,
    }
}

fn topologies() -> impl Strategy<Value = Topology> {
    let one = (
        prop::sample::select(vec!["DE", "FR", "FI", "PL", "CH", "NO", "US"]),
        0..12_u8,
        prop::sample::select(vec![Tier::I, Tier::II, Tier::III, Tier::IV]),
    );
    prop::collection::vec(one, 0..16).prop_map(|sites| Topology {
        sites: (0..).zip(sites).map(|(i, (country, domain, tier))| site(i, country, domain, tier)).collect(),
    })
}

fn policies() -> impl Strategy<Value = ResidencyPolicy> {
    let lists = |texts: &[&str]| {
        let list: Vec<Vec<&'static str>> = match texts {
            [] => vec![vec![], vec!["EU"], vec!["EEA"], vec!["DE", "CH"]],
            _ => vec![vec![], vec!["US"], vec!["FI", "US"], vec!["EU"]],
        };
        prop::sample::select(list)
    };
    let tiers = prop::sample::select(vec![Tier::I, Tier::II, Tier::III]);
    let degraded = prop::sample::select(vec![Degraded::Refuse, Degraded::Accept]);
    (lists(&[]), lists(&["deny"]), tiers, 1..5_u8, 1..4_u8, degraded).prop_map(
        |(allow, deny, tier_min, k, m, degraded)| ResidencyPolicy {
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
            deny: deny.iter().map(|text| text.parse().unwrap()).collect(),
            tier_min,
            geometry: Geometry::new(k, m).unwrap(),
            degraded,
        },
    )
}

/// Whether a site may hold a byte, written down a second time from texts.
fn may_hold(policy: &ResidencyPolicy, site: &SiteDescription) -> bool {
    let country = site.country.to_string();
    let names = |text: String| match text.as_str() {
        "EU" => EU.contains(&country.as_str()),
        "EEA" => EU.contains(&country.as_str()) || country == "NO",
        code => code == country,
    };
    let denied = policy.deny.iter().any(|j| names(j.to_string()));
    let allowed = policy.allow.is_empty() || policy.allow.iter().any(|j| names(j.to_string()));
    allowed && !denied && site.tier >= policy.tier_min
}

fn legal_domains(topology: &Topology, policy: &ResidencyPolicy, alive: &[bool]) -> usize {
    let legal = topology.sites.iter().zip(alive).filter(|(site, alive)| **alive && may_hold(policy, site));
    legal.map(|(site, _)| &site.domain).collect::<BTreeSet<_>>().len()
}

/// Everything that a placement promises, checked anew.
fn check(
    placed: &Placement,
    topology: &Topology,
    policy: &ResidencyPolicy,
    alive: &[bool],
    needed: usize,
    floor: usize,
) {
    assert_eq!(placed.sites().len(), needed);
    assert_eq!(placed.sites().iter().collect::<BTreeSet<_>>().len(), needed, "a site is there twice");
    let mut domains = BTreeSet::new();
    let mut dead = Vec::new();
    for id in placed.sites() {
        let index = topology.sites.iter().position(|site| site.id == *id).expect("a known site");
        let site = &topology.sites[index];
        assert!(may_hold(policy, site), "{} is not legal", site.name);
        assert!(domains.insert(&site.domain), "{} shares its failure domain", site.name);
        if !alive[index] {
            dead.push(*id);
        }
    }
    assert_eq!(placed.absent(), dead);
    assert_eq!(placed.reduced_by(), dead.len());
    if !dead.is_empty() {
        assert_eq!(policy.degraded, Degraded::Accept);
        assert!(needed - dead.len() >= floor, "accepted below the floor");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_placement_is_legal_or_refused_for_a_true_reason(
        topology in topologies(),
        policy in policies(),
        seed in any::<[u8; 16]>(),
        dead in prop::collection::vec(prop::bool::weighted(0.2), 16),
    ) {
        let alive: Vec<bool> = topology.sites.iter().zip(&dead).map(|(_, dead)| !dead).collect();
        let answers = |id: SiteId| alive[usize::from(id.as_bytes()[0])];
        let all = vec![true; alive.len()];
        let geometry = policy.geometry;
        for small in [false, true] {
            let (placed, needed, floor) = if small {
                (place_small(&seed, &topology, &policy, answers), geometry.m() + 1, 2)
            } else {
                (place(&seed, &topology, &policy, answers), geometry.n(), geometry.k() + 1)
            };
            let ever = legal_domains(&topology, &policy, &all);
            let now = legal_domains(&topology, &policy, &alive);
            match placed {
                Ok(placed) => check(&placed, &topology, &policy, &alive, needed, floor),
                Err(PlacementError::Unsatisfiable(unmet)) => {
                    prop_assert!(ever < needed);
                    prop_assert_eq!((unmet.needed, unmet.distinct_domains), (needed, ever));
                    let excluded: BTreeSet<_> = unmet.denied.iter().map(|(name, _)| name).collect();
                    prop_assert_eq!(excluded.len() + ever, topology.sites.len());
                }
                Err(PlacementError::TooFewAlive { alive: stated, dead, .. }) => {
                    prop_assert!(ever >= needed && now < needed);
                    prop_assert_eq!(stated, now);
                    prop_assert!(policy.degraded == Degraded::Refuse || now < floor);
                    prop_assert!(!dead.is_empty());
                }
            }
        }
        let fits = legal_domains(&topology, &policy, &all) >= geometry.n();
        prop_assert_eq!(satisfiable(&topology, &policy).is_ok(), fits);
    }

    #[test]
    fn a_site_that_goes_moves_its_own_shard_and_no_other(
        seed in any::<[u8; 16]>(),
        gone in 0..10_u8,
        only_dead in any::<bool>(),
    ) {
        let policy = policy(4, 2, Degraded::Refuse);
        let before = place(&seed, &german(10), &policy, |_| true).unwrap();
        let mut topology = german(10);
        let lost = SiteId::from_bytes([gone; 16]);
        if !only_dead {
            topology.sites.retain(|site| site.id != lost);
        }
        let after = place(&seed, &topology, &policy, |id| id != lost).unwrap();
        let kept: BTreeSet<_> = before.sites().iter().filter(|id| **id != lost).collect();
        prop_assert!(kept.iter().all(|id| after.sites().contains(id)));
        if !before.sites().contains(&lost) {
            prop_assert_eq!(before.sites(), after.sites());
        }
        if only_dead {
            for (old, new) in before.sites().iter().zip(after.sites()) {
                prop_assert!(old == new || *old == lost, "a living site changed its position");
            }
        }
    }
}

#[test]
fn ten_thousand_versions_spread_evenly_over_sites_and_positions() {
    let policy = policy(4, 2, Degraded::Refuse);
    let topology = german(9);
    let mut held: BTreeMap<SiteId, u32> = BTreeMap::new();
    let mut first: BTreeMap<SiteId, u32> = BTreeMap::new();
    for version in 0..10_000_u128 {
        let placed = place(&version.to_be_bytes(), &topology, &policy, |_| true).unwrap();
        placed.sites().iter().for_each(|id| *held.entry(*id).or_default() += 1);
        *first.entry(placed.sites()[0]).or_default() += 1;
    }
    // Expected 6667 and 1111; the bounds are about five standard deviations.
    assert_eq!((held.len(), first.len()), (9, 9));
    assert!(held.values().all(|count| (6430..=6900).contains(count)), "{held:?}");
    assert!(first.values().all(|count| (950..=1270).contains(count)), "{first:?}");
}

#[test]
fn a_version_is_placed_where_it_was_placed_in_earlier_releases() {
    let placed = place(&[7; 16], &german(8), &policy(4, 2, Degraded::Refuse), |_| true).unwrap();
    let order: Vec<u8> = placed.sites().iter().map(|id| id.as_bytes()[0]).collect();
    assert_eq!(order, [1, 3, 2, 7, 5, 6]);
}

#[test]
fn the_refusal_names_each_excluded_site_and_says_why() {
    let mut topology = german(3);
    topology.sites.push(site(3, "CH", 3, Tier::IV));
    topology.sites.push(site(4, "FR", 4, Tier::I));
    topology.sites.push(site(5, "FI", 5, Tier::III));
    topology.sites.push(site(6, "PL", 0, Tier::III));
    let policy = ResidencyPolicy {
        allow: vec!["EU".parse().unwrap()],
        deny: vec!["FI".parse().unwrap()],
        tier_min: Tier::II,
        ..policy(4, 2, Degraded::Accept)
    };
    let refused = place(&[0; 16], &topology, &policy, |_| true).unwrap_err();
    let text = refused.to_string();
    for sentence in [
        "needs 6 sites in distinct failure domains, and the deployment has 3",
        "ch3: CH is outside EU",
        "fr4: tier I is below II",
        "fi5: FI is denied",
        "pl6: it shares the failure domain \"d0\" with de0",
    ] {
        assert!(text.contains(sentence), "{sentence:?} is missing in {text:?}");
    }
    let PlacementError::Unsatisfiable(unmet) = refused else { panic!("{refused:?}") };
    assert_eq!((unmet.admitted, unmet.denied.len()), (4, 4));
    assert!(matches!(&unmet.denied[0], (name, Denial::OutsideAllowed { .. }) if name == "ch3"));
}

#[test]
fn a_policy_that_refuses_refuses_with_one_site_down_and_names_it() {
    let down = SiteId::from_bytes([2; 16]);
    let refused = place(&[0; 16], &german(6), &policy(4, 2, Degraded::Refuse), |id| id != down).unwrap_err();
    let expected =
        PlacementError::TooFewAlive { needed: 6, alive: 5, floor: 6, dead: vec!["de2".to_owned()] };
    assert_eq!(refused, expected);
    assert!(refused.to_string().contains("not alive: de2"));
}

#[test]
fn a_policy_that_accepts_stops_at_k_plus_one() {
    let accepting = policy(4, 2, Degraded::Accept);
    let down = |count: u8| move |id: SiteId| id.as_bytes()[0] >= count;
    let placed = place(&[0; 16], &german(6), &accepting, down(1)).unwrap();
    assert_eq!(placed.absent(), [SiteId::from_bytes([0; 16])]);
    let refused = place(&[0; 16], &german(6), &accepting, down(2)).unwrap_err();
    assert!(matches!(refused, PlacementError::TooFewAlive { alive: 4, floor: 5, .. }));
}

#[test]
fn a_small_version_is_never_accepted_on_a_single_site() {
    let accepting = policy(4, 2, Degraded::Accept);
    let living = |count: u8| move |id: SiteId| id.as_bytes()[0] < count;
    let placed = place_small(&[0; 16], &german(6), &accepting, living(2)).unwrap();
    assert_eq!((placed.sites().len(), placed.reduced_by()), (3, 1));
    let refused = place_small(&[0; 16], &german(6), &accepting, living(1)).unwrap_err();
    assert!(matches!(refused, PlacementError::TooFewAlive { needed: 3, alive: 1, floor: 2, .. }));
}

#[test]
fn what_lies_on_fewer_sites_than_a_placement_would_take_is_not_acknowledged_later_either() {
    let sites = |count: u8| (0..count).map(|index| SiteId::from_bytes([index; 16])).collect();
    let striped = Layout::Striped {
        geometry: Geometry::new(4, 2).unwrap(),
        sites: sites(6),
        stripe_bytes: 4,
        locator: [0; 32],
        digests: vec![],
    };
    let small = Layout::Inline { sites: sites(3) };
    for layout in [&striped, &small] {
        let taken = |degraded, missing| acknowledgeable(layout, degraded, missing);
        assert_eq!(
            [0, 1, 2, 3, 9].map(|missing| taken(Degraded::Refuse, missing)),
            [true, false, false, false, false]
        );
        assert_eq!(
            [0, 1, 2, 3, 9].map(|missing| taken(Degraded::Accept, missing)),
            [true, true, false, false, false]
        );
    }
}

#[test]
fn a_site_that_is_listed_twice_holds_one_shard() {
    let mut topology = german(6);
    topology.sites[5] =
        SiteDescription { domain: FailureDomain("other".to_owned()), ..topology.sites[0].clone() };
    let refused = place(&[0; 16], &topology, &policy(4, 2, Degraded::Accept), |_| true).unwrap_err();
    assert!(matches!(refused, PlacementError::Unsatisfiable(unmet) if unmet.distinct_domains == 5));
}
