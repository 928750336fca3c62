//! Where the shards of one version go: rendezvous hashing inside the policy.
//!
//! Every site gets a score from BLAKE3 over the version's seed and the site's
//! id; the best n sites that the policy admits, no two in one failure domain,
//! are the placement. Whoever knows seed and topology finds the same sites,
//! no table is kept, and a site that comes or goes moves only its own shards.
//!
//! There is no other way to make a [`Placement`] than these functions, so one
//! that exists is legal: complete, domain-disjoint, inside the jurisdictions.

use std::collections::BTreeSet;

use coffer_model::{Degraded, Geometry, Layout, ResidencyPolicy, SiteDescription, SiteId, Topology};

mod refusal;

pub use refusal::{Denial, PlacementError, Unmet};

/// A legal choice of sites for one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    geometry: Geometry,
    sites: Vec<SiteId>,
    absent: Vec<SiteId>,
}

impl Placement {
    /// All sites, in shard order; the absent ones too, for theirs is the
    /// shard that repair will write.
    pub fn sites(&self) -> &[SiteId] {
        &self.sites
    }

    /// The geometry of the policy. A placement by [`place_small`] has m + 1
    /// sites, each of which holds the whole.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Members that were not alive; nothing can be written to them now.
    pub fn absent(&self) -> &[SiteId] {
        &self.absent
    }

    /// How many further losses the version survives less than it was promised.
    pub fn reduced_by(&self) -> usize {
        self.absent.len()
    }
}

/// What is asked of a placement, besides the policy.
struct Demand {
    /// Sites in the placement.
    sites: usize,
    /// Fewest alive among them when the policy accepts a reduced budget.
    floor: usize,
}

/// With two copies of the whole a version survives one loss.
const SMALL_FLOOR: usize = 2;

impl Demand {
    /// One shard at each of n sites. With k + 1 of them it survives one loss.
    fn striped(geometry: Geometry) -> Self {
        Self { sites: geometry.n(), floor: geometry.k() + 1 }
    }

    /// The whole at each of m + 1 sites.
    fn small(geometry: Geometry) -> Self {
        Self { sites: geometry.m() + 1, floor: SMALL_FLOOR }
    }
}

/// Whether a version may be acknowledged that so many of its sites lack: the
/// same floors as those of [`place`] and [`place_small`].
pub fn acknowledgeable(layout: &Layout, degraded: Degraded, missing: usize) -> bool {
    let floor = match layout {
        Layout::Inline { .. } => SMALL_FLOOR,
        Layout::Striped { geometry, .. } => Demand::striped(*geometry).floor,
    };
    missing == 0 || (degraded == Degraded::Accept && layout.sites().len().saturating_sub(missing) >= floor)
}

/// The n sites for the shards of a striped version. `seed` is the version's
/// id; `alive` says which sites answer now.
///
/// A dead site is replaced by the next legal one that is alive, and the living
/// keep their positions. Where no substitute is left, the policy decides: it
/// refuses, or it accepts with at least k + 1 alive and the dead marked absent.
///
/// # Errors
/// [`PlacementError`], before any byte has moved.
pub fn place(
    seed: &[u8; 16],
    topology: &Topology,
    policy: &ResidencyPolicy,
    alive: impl Fn(SiteId) -> bool,
) -> Result<Placement, PlacementError> {
    choose(seed, topology, policy, &alive, &Demand::striped(policy.geometry))
}

/// The m + 1 sites for a small version, each of which holds the whole. The
/// rules are those of [`place`]; a reduced budget is accepted with at least
/// two alive.
///
/// # Errors
/// [`PlacementError`], before any byte has moved.
pub fn place_small(
    seed: &[u8; 16],
    topology: &Topology,
    policy: &ResidencyPolicy,
    alive: impl Fn(SiteId) -> bool,
) -> Result<Placement, PlacementError> {
    choose(seed, topology, policy, &alive, &Demand::small(policy.geometry))
}

/// Whether the topology, with every site alive, can hold the policy's n
/// shards; asked before a bucket with this policy is made.
///
/// # Errors
/// [`Unmet`], which names the sites that are excluded and why.
pub fn satisfiable(topology: &Topology, policy: &ResidencyPolicy) -> Result<(), Unmet> {
    // Any seed does: how many domains there are does not depend on the order.
    let ranked = ranked(&[0; 16], topology, policy);
    let needed = policy.geometry.n();
    if one_per_domain(&ranked, |_| true).len() < needed {
        return Err(Unmet::explain(needed, topology, policy));
    }
    Ok(())
}

fn choose(
    seed: &[u8; 16],
    topology: &Topology,
    policy: &ResidencyPolicy,
    alive: &dyn Fn(SiteId) -> bool,
    demand: &Demand,
) -> Result<Placement, PlacementError> {
    let ranked = ranked(seed, topology, policy);
    let mut ideal = one_per_domain(&ranked, |_| true);
    if ideal.len() < demand.sites {
        return Err(PlacementError::Unsatisfiable(Unmet::explain(demand.sites, topology, policy)));
    }
    // Asked once for each site, so that an answer which changes meanwhile
    // cannot make two halves of one decision disagree.
    let living: BTreeSet<SiteId> = ranked.iter().map(|site| site.id).filter(|id| alive(*id)).collect();
    let mut members = one_per_domain(&ranked, |site| living.contains(&site.id));
    members.truncate(demand.sites);
    if members.len() < demand.sites {
        let accepted = policy.degraded == Degraded::Accept;
        if !accepted || members.len() < demand.floor {
            return Err(PlacementError::TooFewAlive {
                needed: demand.sites,
                alive: members.len(),
                floor: if accepted { demand.floor } else { demand.sites },
                dead: ranked
                    .iter()
                    .filter(|site| !living.contains(&site.id))
                    .map(|site| site.name.clone())
                    .collect(),
            });
        }
        // Dead sites of domains that no member covers fill the rest. There
        // are enough: the ideal placement found a domain for each position.
        let covered: BTreeSet<_> = members.iter().map(|site| &site.domain).collect();
        let missing = demand.sites - members.len();
        let dead = ideal.iter().filter(|site| !covered.contains(&site.domain)).take(missing).copied();
        members.extend(dead.collect::<Vec<_>>());
    }
    ideal.truncate(demand.sites);
    let sites = in_position(&ideal, &members);
    let absent = sites.iter().copied().filter(|id| !living.contains(id)).collect();
    Ok(Placement { geometry: policy.geometry, sites, absent })
}

/// Members that the ideal placement has keep their position in it; the others
/// take the free positions in their order. So a dead site's shard index goes
/// to its substitute, and no other shard changes places.
fn in_position(ideal: &[&SiteDescription], members: &[&SiteDescription]) -> Vec<SiteId> {
    let kept: BTreeSet<SiteId> = members.iter().map(|site| site.id).collect();
    let wished: BTreeSet<SiteId> = ideal.iter().map(|site| site.id).collect();
    let mut substitutes = members.iter().map(|site| site.id).filter(|id| !wished.contains(id));
    ideal
        .iter()
        .filter_map(|site| if kept.contains(&site.id) { Some(site.id) } else { substitutes.next() })
        .collect()
}

/// The sites that the policy admits, best score first. A site id that occurs
/// twice counts once, as the topology's first entry describes it.
pub(crate) fn ranked<'t>(
    seed: &[u8; 16],
    topology: &'t Topology,
    policy: &ResidencyPolicy,
) -> Vec<&'t SiteDescription> {
    let mut seen = BTreeSet::new();
    let mut scored: Vec<_> = topology
        .sites
        .iter()
        .filter(|site| seen.insert(site.id) && policy.admits(site))
        .map(|site| (score(seed, site.id), site))
        .collect();
    scored.sort_by(|(a, site_a), (b, site_b)| b.cmp(a).then_with(|| site_a.id.cmp(&site_b.id)));
    scored.into_iter().map(|(_, site)| site).collect()
}

/// The best site of each failure domain among those that `usable` keeps.
fn one_per_domain<'t>(
    ranked: &[&'t SiteDescription],
    usable: impl Fn(&SiteDescription) -> bool,
) -> Vec<&'t SiteDescription> {
    let mut domains = BTreeSet::new();
    ranked.iter().copied().filter(|site| usable(site) && domains.insert(&site.domain)).collect()
}

/// The first eight bytes, big-endian, of BLAKE3 over
/// `"coffer placement v1" ‖ seed ‖ site id`.
fn score(seed: &[u8; 16], site: SiteId) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"coffer placement v1");
    hasher.update(seed);
    hasher.update(site.as_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_be_bytes(first)
}
