//! What a seed stands for: sites, tenants and their policies, which sites
//! belong to the loss budget, which faults there are and how many operations.

use std::collections::BTreeSet;

use coffer_model::{
    Degraded, FailureDomain, Geometry, Jurisdiction, ResidencyPolicy, SiteDescription, SiteId, Tier,
};

use super::chance::Chance;
use super::lawful::is_lawful;
use super::weather::Rates;

/// Name and country of each site. The last one is outside of every tenant.
const SITES: [(&str, &str); 8] = [
    ("fra1", "DE"),
    ("par1", "FR"),
    ("ams1", "NL"),
    ("zrh1", "CH"),
    ("sto1", "SE"),
    ("mad1", "ES"),
    ("waw1", "PL"),
    ("nyc1", "US"),
];

/// A tenant about to be made.
#[derive(Clone)]
pub(crate) struct TenantPlan {
    pub(crate) name: String,
    pub(crate) policy: ResidencyPolicy,
}

/// One seed, drawn.
pub(crate) struct Plan {
    /// The site file.
    pub(crate) sites: String,
    pub(crate) tenants: Vec<TenantPlan>,
    pub(crate) rates: Rates,
    /// Operations of each worker.
    pub(crate) operations: u64,
    /// Workers of each tenant.
    pub(crate) workers: u64,
    /// Whether some objects are large enough for several stripes.
    pub(crate) large: bool,
    /// Large faults, which come one after the other.
    pub(crate) blows: u64,
    /// Rounds of repair, scrub and challenges, one after the other.
    pub(crate) rounds: u64,
    /// Sites that join and leave, and levellings, one after the other.
    pub(crate) growth: u64,
    /// How many sites belong to the loss budget.
    expendable: usize,
}

/// How many sites may join.
pub(crate) const NEWCOMERS: usize = 6;

/// Sites that may join, one after the other from any of them on; one lies outside of every tenant's places.
const JOINING: [(&str, &str); NEWCOMERS] =
    [("vie1", "AT"), ("gva1", "CH"), ("lon1", "GB"), ("lis1", "PT"), ("muc1", "DE"), ("lyo1", "FR")];

/// The site that joins in the end where a tenant has too few left for its log.
const RELIEF: (&str, &str) = ("bru1", "BE");

/// The sites, with ids that mean nothing: a policy looks at places.
fn described() -> Vec<SiteDescription> {
    let site = |(name, country): &(&str, &str)| {
        Some(SiteDescription {
            id: SiteId::from_bytes(*blake3::hash(name.as_bytes()).as_bytes().first_chunk()?),
            name: (*name).to_owned(),
            country: country.parse().ok()?,
            domain: FailureDomain((*name).to_owned()),
            tier: Tier::III,
        })
    };
    SITES.iter().filter_map(site).collect()
}

fn policy(allow: &[&str], k: u8, m: u8, degraded: Degraded) -> Option<ResidencyPolicy> {
    let allow: Option<Vec<Jurisdiction>> = allow.iter().map(|place| place.parse().ok()).collect();
    let geometry = Geometry::new(k, m).ok()?;
    Some(ResidencyPolicy { allow: allow?, deny: vec![], tier_min: Tier::I, geometry, degraded })
}

/// A site as a site file describes it.
fn entry((name, country): &(&str, &str)) -> String {
    format!("[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"{name}\"\ntier = \"III\"\n")
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let chance = Chance::new(seed, "plan");
        let sites = SITES.iter().map(entry).collect();
        let degraded = || if chance.permille(250) { Degraded::Accept } else { Degraded::Refuse };
        // Each has a geometry of its own: that is how its shards are told apart.
        let kinds = [
            policy(&["EU"], 4, 2, degraded()),
            policy(&["EU", "CH"], 3, 2, degraded()),
            policy(&["DE", "FR", "CH", "NL"], 2, 1, degraded()),
            policy(&["EU"], 2, 2, degraded()),
        ];
        let mut kinds: Vec<ResidencyPolicy> = kinds.into_iter().flatten().collect();
        let count = 1 + chance.index(3);
        let mut tenants = Vec::new();
        for n in 1..=count {
            let policy = kinds.remove(chance.index(kinds.len()));
            tenants.push(TenantPlan { name: format!("tenant-{n}-of-{:08x}", chance.below(1 << 32)), policy });
        }
        Self {
            sites,
            tenants,
            rates: Rates::draw(&chance),
            operations: 6 + chance.below(16),
            workers: 1 + chance.below(2),
            large: chance.permille(80),
            blows: chance.below(14),
            expendable: chance.index(3),
            // Last of all, so that what was drawn before stays as it was.
            rounds: chance.below(9),
            growth: if chance.permille(500) { 2 + chance.below(8) } else { 0 },
        }
    }

    /// The name of the newcomer of that number, and a site file with it beside the first ones.
    pub(crate) fn newcomer(&self, number: usize) -> Option<(&'static str, String)> {
        let (name, country) = JOINING.get(number % NEWCOMERS)?;
        Some((name, format!("{}{}", self.sites, entry(&(name, country)))))
    }

    /// The site that joins where too few are left, and a site file with it beside the first ones.
    pub(crate) fn relief(&self) -> (&'static str, String) {
        (RELIEF.0, format!("{}{}", self.sites, entry(&RELIEF)))
    }

    /// Policies that a bucket of this tenant may have: the tenant's own, and
    /// one without one of its places, where enough others are left.
    pub(crate) fn policies(policy: &ResidencyPolicy, denied: usize) -> Vec<ResidencyPolicy> {
        let sites = described();
        let mut all = vec![policy.clone()];
        let admitted: Vec<&SiteDescription> = sites.iter().filter(|site| is_lawful(policy, site)).collect();
        let place = admitted.get(denied.checked_rem(admitted.len()).unwrap_or(0));
        if let Some(place) = place.and_then(|site| site.country.to_string().parse().ok()) {
            let narrow = ResidencyPolicy { deny: vec![place], ..policy.clone() };
            if sites.iter().filter(|site| is_lawful(&narrow, site)).count() >= policy.geometry.n() {
                all.push(narrow);
            }
        }
        all
    }

    /// The sites that may lose what they acknowledged: as many as every
    /// tenant's geometry survives, among those where it has anything.
    pub(crate) fn expendable(&self, seed: u64) -> BTreeSet<String> {
        let chance = Chance::new(seed, "expendable");
        let sites = described();
        let mut chosen: Vec<&SiteDescription> = Vec::new();
        for _ in 0..20 {
            let Some(site) = chance.pick(&sites) else { break };
            if chosen.len() >= self.expendable || chosen.iter().any(|known| known.id == site.id) {
                continue;
            }
            let with = chosen.iter().copied().chain([site]);
            let survives = |policy: &ResidencyPolicy| {
                with.clone().filter(|site| is_lawful(policy, site)).count() <= policy.geometry.m()
            };
            if self.tenants.iter().all(|tenant| survives(&tenant.policy)) {
                chosen.push(site);
            }
        }
        chosen.iter().map(|site| site.name.clone()).collect()
    }
}
