//! The facts about a tenant's versions: how many there are, what each bucket's
//! lie under, where they lie, and under which key epochs. Found by the same
//! look at every site's listing that repair plans from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::BucketRow;
use coffer_keys::Wrap;
use coffer_model::{BucketId, KeyId, SiteId, Timestamp, Topology};
use coffer_regions::{SiteTable, VersionInventory, plan_version};
use serde_json::{Value, json};

use super::{FactsError, figure, moment, policy};
use crate::inventory::{Census, Found, Superseded, superseded, walk};
use crate::service::Service;
use crate::tenant::Tenant;

/// Sums over the versions of one bucket.
#[derive(Default)]
struct BucketSums {
    versions: u64,
    hidden: u64,
    bytes: u64,
    sealed_bytes: u64,
    /// Fewer losses survived than promised.
    short: u64,
    /// Records where the layout or the policy does not want them.
    out_of_place: u64,
    /// Versions of which a record lies where the policy does not admit it.
    outside: u64,
    /// Versions that moved since they were written.
    moved: u64,
    /// Versions of which something lies in the country.
    countries: BTreeMap<String, u64>,
}

/// Sums over all versions of a tenant.
#[derive(Default)]
pub(super) struct Versions {
    all: BucketSums,
    /// Versions for each key under which their own key is wrapped.
    wrapped: BTreeMap<KeyId, u64>,
    /// Wraps that are not of the stored form.
    unreadable: u64,
}

/// Looks at every version.
pub(super) async fn look(service: &Service, tenant: &Arc<Tenant>) -> Result<(Value, Versions), FactsError> {
    let buckets = tenant.catalog.buckets().await?;
    let mut by_bucket: BTreeMap<BucketId, BucketSums> = BTreeMap::new();
    let mut versions = Versions::default();
    let mut census = Census::new(service);
    let older: Superseded = superseded(service, &mut census).await?;
    let topology = service.sites.topology();
    walk(service, &[Arc::clone(tenant)], &mut census, &older, |census, found| {
        let plan = plan_version(&found.inventory, &SiteTable::new(&census.sites));
        let short = !plan.troubles.is_empty() || plan.redundancy < found.inventory.promised();
        let places = places(&found.inventory);
        let bucket = by_bucket.entry(found.row.manifest.bucket).or_default();
        for sums in [bucket, &mut versions.all] {
            sums.add(&found, short, plan.out_of_place, &places, topology);
        }
        match Wrap::from_bytes(&found.row.wrap) {
            Ok(wrap) => *versions.wrapped.entry(wrap.key_id()).or_default() += 1,
            Err(_) => versions.unreadable += 1,
        }
    })
    .await?;
    let rows = buckets.iter().map(|bucket| line(tenant, bucket, by_bucket.get(&bucket.id)));
    Ok((rows.collect(), versions))
}

/// Every site where something of the version lies, or may lie: those of its
/// layout, those that hold a copy or a shard beyond it, and strays.
fn places(found: &VersionInventory) -> BTreeSet<SiteId> {
    let held = found.odd.values().flatten().flatten();
    let strays = found.strays.iter().map(|stray| &stray.site);
    found.sites.iter().chain(&found.copies).chain(held).chain(strays).copied().collect()
}

impl BucketSums {
    fn add(
        &mut self,
        found: &Found,
        short: bool,
        out_of_place: u64,
        places: &BTreeSet<SiteId>,
        topology: &Topology,
    ) {
        let manifest = &found.row.manifest;
        self.versions += 1;
        self.hidden += u64::from(found.inventory.hidden);
        self.bytes = self.bytes.saturating_add(manifest.size);
        self.sealed_bytes = self.sealed_bytes.saturating_add(manifest.sealed_size);
        self.short += u64::from(short);
        self.out_of_place += out_of_place;
        self.moved += u64::from(manifest.revision > 0);
        let mut countries = BTreeSet::new();
        let mut outside = false;
        for place in places {
            match topology.site(*place) {
                Some(site) => {
                    outside |= !found.inventory.policy.admits(site);
                    countries.insert(site.country.to_string());
                }
                // A site that left the topology holds nothing any more.
                None => continue,
            }
        }
        self.outside += u64::from(outside);
        for country in countries {
            *self.countries.entry(country).or_default() += 1;
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "versions": figure(self.versions),
            "hidden": figure(self.hidden),
            "bytes": figure(self.bytes),
            "sealed_bytes": figure(self.sealed_bytes),
            "short": figure(self.short),
            "out_of_place": figure(self.out_of_place),
            "outside": figure(self.outside),
            "moved": figure(self.moved),
            "countries": self.countries,
        })
    }
}

fn line(tenant: &Tenant, bucket: &BucketRow, sums: Option<&BucketSums>) -> Value {
    let none = BucketSums::default();
    json!({
        "id": bucket.id.to_string(),
        "name": bucket.name.to_string(),
        "created": moment(bucket.created),
        "policy": policy(&tenant.confined(&bucket.policy)),
        "sums": sums.unwrap_or(&none).to_json(),
    })
}

impl Versions {
    pub(super) fn sums(&self) -> Value {
        self.all.to_json()
    }

    /// Key epochs and what is wrapped under each; `founded` is when the first
    /// was made.
    pub(super) fn keys(&self, tenant: &Tenant, founded: Option<u64>) -> Value {
        let epochs: Vec<(KeyId, u32)> = tenant.secrets.numbered_epochs().collect();
        let known: BTreeSet<KeyId> = epochs.iter().map(|(id, _)| *id).collect();
        let strange = self.wrapped.iter().filter(|(id, _)| !known.contains(id)).map(|(_, count)| count);
        let strange = strange.sum::<u64>() + self.unreadable;
        let epoch = |(id, number): &(KeyId, u32)| {
            let made = founded.filter(|_| *number == 1).map(|ms| Timestamp(ms.saturating_mul(1_000_000)));
            json!({
                "id": id.to_string(),
                "epoch": number,
                "created": made.map_or(Value::Null, moment),
                "versions": figure(self.wrapped.get(id).copied().unwrap_or_default()),
            })
        };
        json!({
            "content": "C2SP chunked-encryption, Cobblestone-256",
            "wrap": "AES-256-GCM-SIV",
            "epochs": epochs.iter().map(epoch).collect::<Vec<_>>(),
            "versions_under_no_epoch": figure(strange),
        })
    }
}
