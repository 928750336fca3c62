//! The shortfall against an oracle that tries every set of returning sites.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly, in its helpers too")]

use coffer_model::{FailureDomain, Geometry, SiteDescription, SiteId, Tier, Topology};
use coffer_regions::Survey;
use proptest::prelude::*;

const SITES: u8 = 7;

fn id(index: u8) -> SiteId {
    SiteId::from_bytes([index; 16])
}

fn topology() -> Topology {
    let one = |index| SiteDescription {
        id: id(index),
        name: format!("s{index}"),
        country: "DE".parse().unwrap(),
        domain: FailureDomain(format!("d{index}")),
        tier: Tier::III,
    };
    Topology { sites: (0..SITES).map(one).collect() }
}

fn recoverable(version: &(Geometry, Vec<SiteId>), up: u8) -> bool {
    let have = version.1.iter().filter(|id| id.as_bytes()[0] < SITES && up >> id.as_bytes()[0] & 1 == 1);
    have.count() >= version.0.k()
}

fn versions() -> impl Strategy<Value = Vec<(Geometry, Vec<SiteId>)>> {
    // Sites 7 and 8 have left the topology for good.
    let sites: Vec<SiteId> = (0..SITES + 2).map(id).collect();
    let one = (1..4_u8, 1..3_u8).prop_flat_map(move |(k, m)| {
        let chosen = prop::sample::subsequence(sites.clone(), usize::from(k + m));
        (Just(Geometry::new(k, m).unwrap()), chosen)
    });
    prop::collection::vec(one, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_of_the_stated_number_suffices_and_one_less_may_not(needed in versions(), up in 0..128_u8) {
        let survey = Survey::new(&topology(), |id| up >> id.as_bytes()[0] & 1 == 1);
        let lost = needed.iter().filter(|version| !recoverable(version, up)).count();
        let Some(shortfall) = survey.shortfall(&needed) else {
            prop_assert_eq!(lost, 0);
            return Ok(());
        };
        prop_assert_eq!(shortfall.versions_lost, u64::try_from(lost).unwrap());
        let gone = needed.iter().filter(|version| !recoverable(version, 127)).count();
        prop_assert_eq!(shortfall.versions_gone, u64::try_from(gone).unwrap());
        let helpable: Vec<_> = needed.iter().filter(|version| recoverable(version, 127)).collect();
        let suffices = |more: u32| {
            let returns = (0..128_u8).filter(|set| set & up == 0 && set.count_ones() == more);
            returns.into_iter().all(|set| helpable.iter().all(|version| recoverable(version, up | set)))
        };
        let more = u32::try_from(shortfall.more_needed).unwrap();
        prop_assert!(suffices(more));
        prop_assert!(more == 0 || !suffices(more - 1));
    }
}

#[test]
fn a_loss_within_the_budget_is_no_shortfall_and_one_more_is() {
    let sites: Vec<SiteId> = (0..6).map(id).collect();
    let needed = [(Geometry::DEFAULT, sites)];
    assert_eq!(Survey::new(&topology(), |id| id.as_bytes()[0] >= 2).shortfall(&needed), None);
    let short = Survey::new(&topology(), |id| id.as_bytes()[0] >= 3).shortfall(&needed).unwrap();
    assert_eq!(
        short.to_string(),
        "1 version cannot be recovered; missing sites: s0, s1, s2; with any 1 of them back, all would be. \
         Nothing was changed"
    );
}

#[test]
fn what_has_left_the_topology_is_said_to_be_gone() {
    let needed = [(Geometry::new(2, 1).unwrap(), vec![id(0), id(7), id(8)])];
    let short = Survey::new(&topology(), |_| true).shortfall(&needed).unwrap();
    assert_eq!((short.versions_gone, short.more_needed), (1, 0));
    assert!(short.to_string().contains("no missing site can bring them back"));
}
