//! What must be written where so that every version is whole again at legal
//! sites: a plan made from an inventory, before anything is touched.
//!
//! The inventory says what was listed or read back with the right digest,
//! never what ought to be there. The plan goes by least remaining redundancy,
//! names what is beyond repair instead of trying it, and asks for nothing at
//! a site that the policy does not admit, that takes no new data, or that
//! fails together with another site of the version.

use std::collections::BTreeMap;

use coffer_model::{Geometry, RecordId, ResidencyPolicy, SiteDescription, SiteId, TenantId, VersionId};
use serde::{Deserialize, Serialize};

use crate::shard_bytes;

mod plan;
mod target;
mod version;

pub use plan::{Plan, PlanBuilder, SiteNames};

/// What a deployment wants of a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Standing {
    /// It holds data and takes more.
    #[default]
    Active,
    /// It takes no new data; what it holds is read, and moves away.
    Draining,
    /// It came back older than it was: nothing that it shows counts, and
    /// nothing is written to it, until it was compared record by record.
    Quarantined,
    /// It is gone for good.
    Retired,
}

impl Standing {
    /// Every standing with its name.
    pub const NAMES: [(Self, &'static str); 4] = [
        (Self::Active, "active"),
        (Self::Draining, "draining"),
        (Self::Quarantined, "quarantined"),
        (Self::Retired, "retired"),
    ];

    /// The name for people and programs.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(standing, _)| *standing == self).map_or("unknown", |(_, name)| name)
    }

    /// The standing of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(_, known)| *known == name).map(|(standing, _)| standing)
    }
}

/// A site as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairSite {
    /// What the topology says about it.
    pub site: SiteDescription,
    /// What is wanted of it.
    pub standing: Standing,
    /// Whether it answered just now.
    pub alive: bool,
}

impl RepairSite {
    /// Whether what it shows counts.
    pub fn counts(&self) -> bool {
        self.alive && matches!(self.standing, Standing::Active | Standing::Draining)
    }

    /// Whether data under this policy may be written to it now.
    pub fn takes(&self, policy: &ResidencyPolicy) -> bool {
        self.alive && self.standing == Standing::Active && policy.admits(&self.site)
    }
}

/// How the sealed bytes of a version lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Whole, inside each copy of its manifest record.
    Whole,
    /// In stripes, a shard of each at every site of the layout.
    Striped {
        /// The coding.
        geometry: Geometry,
        /// Sealed bytes of every stripe but the last.
        stripe_bytes: u32,
        /// Sealed bytes altogether.
        sealed_size: u64,
    },
}

impl Coding {
    /// How many stripes there are.
    pub fn stripes(&self) -> u32 {
        match self {
            Self::Whole => 0,
            Self::Striped { stripe_bytes, sealed_size, .. } => {
                u32::try_from(sealed_size.div_ceil(u64::from((*stripe_bytes).max(1)))).unwrap_or(u32::MAX)
            }
        }
    }

    /// Losses of sites that a version with so many homes was promised to survive.
    pub fn losses(&self, homes: usize) -> usize {
        match self {
            Self::Whole => homes.saturating_sub(1),
            Self::Striped { geometry, .. } => geometry.m(),
        }
    }

    /// Bytes of each shard of one stripe.
    pub fn shard_bytes(&self, stripe: u32) -> u64 {
        match self {
            Self::Whole => 0,
            Self::Striped { geometry, stripe_bytes, sealed_size } => {
                let start = u64::from(stripe) * u64::from(*stripe_bytes);
                let sealed = sealed_size.saturating_sub(start).min(u64::from(*stripe_bytes));
                shard_bytes(usize::try_from(sealed).unwrap_or(0), *geometry) as u64
            }
        }
    }
}

/// For each shard index of a stripe, the sites that hold it as the manifest
/// wants it, in order.
pub type Holdings = Vec<Vec<SiteId>>;

/// A record that lies where the layout does not want it, good or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stray {
    /// Which record.
    pub record: RecordId,
    /// Where it lies.
    pub site: SiteId,
    /// Which shard it is; `None`: a copy of the manifest, or an older one.
    pub shard: Option<(u32, u8)>,
}

/// What was found of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInventory {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which version.
    pub version: VersionId,
    /// Whether a tombstone hides it: it is repaired after all that is seen.
    pub hidden: bool,
    /// The policy of its bucket now.
    pub policy: ResidencyPolicy,
    /// The sites of its layout, in shard order.
    pub sites: Vec<SiteId>,
    /// How its bytes lie.
    pub coding: Coding,
    /// Stripes of which not exactly every shard lies at its own site, as far
    /// as its sites answer. Of the stripes that are not here, each shard lies
    /// at its site, or that site does not answer.
    pub odd: BTreeMap<u32, Holdings>,
    /// Sites that hold the manifest record as it must be, those outside the
    /// layout included, in order.
    pub copies: Vec<SiteId>,
    /// Bytes of that record.
    pub record_bytes: u64,
    /// Records of it that lie where they should not.
    pub strays: Vec<Stray>,
}

impl VersionInventory {
    /// Losses of sites that it was promised to survive.
    pub fn promised(&self) -> usize {
        self.coding.losses(self.sites.len())
    }
}

/// What is to be done for one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read these shards of a stripe, write those: a shard that is read is
    /// copied, one that is not is computed from what is read.
    Stripe {
        /// Which stripe.
        stripe: u32,
        /// Shard indices and where to read them.
        reads: Vec<(u8, SiteId)>,
        /// Shard indices and where to write them.
        writes: Vec<(u8, SiteId)>,
    },
    /// Copy the manifest record.
    Copies {
        /// From one of these.
        from: Vec<SiteId>,
        /// To each of these.
        to: Vec<SiteId>,
    },
    /// Write a new manifest for these sites, whose shards are all there. A
    /// small version's bytes are taken along from one of `from`.
    Manifest {
        /// Holders of the old record.
        from: Vec<SiteId>,
        /// The new layout, in shard order.
        sites: Vec<SiteId>,
    },
    /// Delete what lies where it should not, after its replacement was read
    /// back once more.
    Remove(Stray),
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whose version.
    pub tenant: TenantId,
    /// Which version.
    pub version: VersionId,
    /// Losses that what it is about survives now.
    pub redundancy: usize,
    /// Bytes read and written.
    pub bytes: u64,
    /// What to do.
    pub action: Action,
    hidden: bool,
}

/// Why a version is not made whole by the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Too few shards or copies are left, and no silent site can bring enough
    /// of them back.
    BeyondRepair {
        /// The first stripe of which too little is left; `None`: it lay whole.
        stripe: Option<u32>,
        /// Different shards, or copies, that are left.
        have: usize,
        /// How many it takes.
        need: usize,
    },
    /// Too little answers now; enough would, if silent sites came back.
    Silent {
        /// The first stripe of which too little answers; `None`: it lies whole.
        stripe: Option<u32>,
        /// Different shards, or copies, that answer.
        have: usize,
        /// How many it takes.
        need: usize,
    },
    /// A site of its layout does not answer: its shards wait for it.
    Waits {
        /// Which sites.
        sites: Vec<SiteId>,
    },
    /// It must leave a site, and no legal one with a failure domain of its
    /// own is free.
    NoPlace {
        /// Which sites it should leave.
        sites: Vec<SiteId>,
    },
}

/// A version and its trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Troubled {
    /// Whose version.
    pub tenant: TenantId,
    /// Which version.
    pub version: VersionId,
    /// What is wrong.
    pub trouble: Trouble,
}

/// What one version needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionPlan {
    /// Steps that can be done now, in order.
    pub steps: Vec<Step>,
    /// What cannot.
    pub troubles: Vec<Trouble>,
    /// The fewest losses that any part of it survives; less than nothing left
    /// is nothing.
    pub redundancy: usize,
    /// Records where the layout does not want them, and those where it wants
    /// them but the policy no longer admits them.
    pub out_of_place: u64,
}

/// The sites by their ids.
pub struct SiteTable<'a> {
    by_id: BTreeMap<SiteId, &'a RepairSite>,
}

impl<'a> SiteTable<'a> {
    /// Of two sites with one id the first counts.
    pub fn new(sites: &'a [RepairSite]) -> Self {
        let mut by_id = BTreeMap::new();
        for site in sites {
            by_id.entry(site.site.id).or_insert(site);
        }
        Self { by_id }
    }

    fn get(&self, id: SiteId) -> Option<&'a RepairSite> {
        self.by_id.get(&id).copied()
    }

    fn counts(&self, id: SiteId) -> bool {
        self.get(id).is_some_and(RepairSite::counts)
    }

    /// Whether it may still come back with what it held.
    fn may_return(&self, id: SiteId) -> bool {
        self.get(id).is_some_and(|site| !site.counts() && site.standing != Standing::Retired)
    }
}

/// Plans the repair of one version.
pub fn plan_version(found: &VersionInventory, sites: &SiteTable<'_>) -> VersionPlan {
    version::plan(found, sites)
}
