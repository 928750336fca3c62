//! Moves that level sites, on versions that are only described: legal, no more than
//! is missing, and enough that a new site gets its share.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{
    FailureDomain, ResidencyPolicy, SiteDescription, SiteId, TenantId, Tier, Topology, VersionId,
};
use coffer_regions::{Action, Coding, Loads, RepairSite, ShardMove, Standing, VersionInventory, place};
use proptest::prelude::*;

mod policies;

use policies::policy;

const COUNTRIES: [&str; 3] = ["DE", "FR", "NL"];

fn site(number: u8, country: &str, domain: u8) -> RepairSite {
    let site = SiteDescription {
        id: SiteId::from_bytes([number + 1; 16]),
        name: format!("s{number}"),
        country: country.parse().unwrap(),
        domain: FailureDomain(format!("d{domain}")),
        tier: Tier::III,
    };
    RepairSite { site, standing: Standing::Active, alive: true }
}

/// Whole versions where the placement puts them.
fn versions(sites: &[RepairSite], sizes: &[u64], policy: &ResidencyPolicy) -> Vec<VersionInventory> {
    let topology = Topology { sites: sites.iter().map(|site| site.site.clone()).collect() };
    let version = |(number, size): (usize, &u64)| {
        let mut seed = [0x5a; 16];
        seed[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let placed = place(&seed, &topology, policy, |_| true).unwrap().sites().to_vec();
        VersionInventory {
            tenant: TenantId::from_bytes([9; 16]),
            version: VersionId::from_bytes(seed),
            hidden: false,
            policy: policy.clone(),
            copies: placed.clone(),
            sites: placed,
            coding: Coding::Striped { geometry: policy.geometry, stripe_bytes: 4 << 20, sealed_size: *size },
            odd: BTreeMap::new(),
            record_bytes: 500,
            strays: vec![],
        }
    };
    sizes.iter().enumerate().map(version).collect()
}

/// Both looks; the moves are done.
fn level(sites: &[RepairSite], versions: &mut [VersionInventory]) -> (Loads, Vec<ShardMove>) {
    let mut loads = Loads::default();
    versions.iter().for_each(|found| loads.add(found, sites));
    let mut level = loads.level();
    let mut moves = Vec::new();
    for found in versions {
        if let Some(one) = level.choose(found, sites) {
            found.sites = one.sites().to_vec();
            found.copies.clone_from(&found.sites);
            moves.push(one);
        }
    }
    (loads, moves)
}

/// Bytes at each site, added up without the code under test.
fn held(versions: &[VersionInventory]) -> BTreeMap<SiteId, u64> {
    let mut held = BTreeMap::new();
    for found in versions {
        let shard: u64 = (0..found.coding.stripes()).map(|stripe| found.coding.shard_bytes(stripe)).sum();
        found.sites.iter().for_each(|site| *held.entry(*site).or_default() += shard);
    }
    held
}

#[test]
fn a_new_site_gets_its_share_for_no_more_than_its_share() {
    let before: Vec<RepairSite> = (0..6).map(|n| site(n, COUNTRIES[usize::from(n) % 3], n)).collect();
    let mut found = versions(&before, &vec![9 << 20; 100], &policy(4, 2, &[]));
    let mut sites = before;
    sites.push(site(6, "DE", 6));
    let total: u64 = held(&found).values().sum();
    let (loads, moves) = level(&sites, &mut found);
    let moved: u64 = moves.iter().map(|one| one.bytes).sum();
    let written: u64 = moves.iter().map(|one| one.bytes + one.records).sum();
    // Seven alike, of which one is empty: a seventh of everything is the least that can move.
    let least = total / 7;
    assert!(loads.missing().abs_diff(least) < 1000, "{} of {least}", loads.missing());
    assert!(moved <= least && moved * 100 >= least * 98, "{moved} of {least}");
    assert!(written * 10 <= least * 11, "{written} of {least}");
    let after = held(&found);
    let shard = total / 600;
    assert!(after.values().all(|bytes| bytes.abs_diff(least) <= 2 * shard), "{after:?}");
    assert!(level(&sites, &mut found).1.is_empty(), "what is level stays as it is");
}

#[test]
fn what_costs_more_than_it_levels_and_what_is_not_whole_stays() {
    let mut sites: Vec<RepairSite> = (0..6).map(|n| site(n, "DE", n)).collect();
    // Six records of 500 bytes beside a shard of less than 60,000.
    let mut small = versions(&sites, &[200_000; 20], &policy(4, 2, &[]));
    let mut short = versions(&sites, &[9 << 20; 20], &policy(4, 2, &[]));
    sites.push(site(6, "DE", 6));
    let (loads, moves) = level(&sites, &mut small);
    assert!(moves.is_empty() && loads.dear() >= 300_000 * 20, "{} {moves:?}", loads.dear());
    for found in &mut short {
        found.copies.pop();
    }
    assert!(level(&sites, &mut short).1.is_empty());
    // Nor is anything moved while a site of it is silent: that is the business of repair.
    let mut whole = versions(&sites[..6], &[9 << 20; 20], &policy(4, 2, &[]));
    sites[0].alive = false;
    assert!(level(&sites, &mut whole).1.is_empty());
}

#[test]
fn a_move_copies_every_stripe_then_writes_the_manifest_and_only_then_removes() {
    let before: Vec<RepairSite> = (0..6).map(|n| site(n, "DE", n)).collect();
    let mut found = versions(&before, &[9 << 20; 20], &policy(4, 2, &[]));
    let sites: Vec<RepairSite> = before.into_iter().chain([site(6, "FR", 6)]).collect();
    let (_, moves) = level(&sites, &mut found);
    let ids = [1, 2, 3].map(|stripe| coffer_model::RecordId::from_bytes([stripe; 16]));
    let kinds: Vec<&str> = moves[0]
        .actions(&ids)
        .iter()
        .map(|action| match action {
            Action::Stripe { .. } => "copy",
            Action::Manifest { .. } => "manifest",
            Action::Remove(_) => "remove",
            Action::Copies { .. } => "copies",
        })
        .collect();
    assert_eq!(kinds, ["copy", "copy", "copy", "manifest", "remove", "remove", "remove"]);
}

proptest! {
    #[test]
    fn moves_are_legal_and_never_more_than_what_is_missing(
        domains in prop::collection::vec(0_u8..9, 8..12),
        sizes in prop::collection::vec(500_000_u64..40_000_000, 1..60),
        narrow in any::<bool>(),
    ) {
        let one = |(n, domain): (usize, &u8)| site(u8::try_from(n).unwrap(), COUNTRIES[n % 3], *domain);
        let sites: Vec<RepairSite> = domains.iter().enumerate().map(one).collect();
        let allow: &[&str] = if narrow { &["DE", "FR"] } else { &[] };
        let policy = policy(2, 1, allow);
        let old = Topology { sites: sites[..6].iter().map(|site| site.site.clone()).collect() };
        prop_assume!(coffer_regions::satisfiable(&old, &policy).is_ok());
        let mut found = versions(&sites[..6], &sizes, &policy);
        let worst = |of: &Loads| sites.iter().map(|site| {
            let load = of.of(site.site.id);
            load.held.abs_diff(load.share)
        }).sum::<u64>();
        let (loads, moves) = level(&sites, &mut found);
        let moved: u64 = moves.iter().map(|one| one.bytes).sum();
        prop_assert!(moved <= loads.missing(), "{moved} of {}", loads.missing());
        for one in &found {
            let own: Vec<&RepairSite> =
                one.sites.iter().map(|id| sites.iter().find(|site| site.site.id == *id).unwrap()).collect();
            let different: BTreeSet<&FailureDomain> = own.iter().map(|site| &site.site.domain).collect();
            prop_assert_eq!(different.len(), 3);
            prop_assert!(own.iter().all(|site| policy.admits(&site.site)));
        }
        let mut after = Loads::default();
        found.iter().for_each(|found| after.add(found, &sites));
        prop_assert!(worst(&after) <= worst(&loads));
    }
}
