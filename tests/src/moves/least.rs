//! Where the objects lie, as `coffer object stat --shards` says, and how many
//! bytes that is, reckoned from the sizes that were put.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Home, until};

/// Bytes of a stripe.
const STRIPE: u64 = 4 << 20;
/// What is put up to this size lies whole at some sites.
pub(super) const WHOLE: u64 = 64 << 10;

/// Where everything lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lies {
    /// Bytes of shards, and of objects that lie whole, at each site: a little less than there are, since what seals and describes them is left out.
    pub bytes: BTreeMap<String, u64>,
    /// The sites of each object.
    pub sites: BTreeMap<String, BTreeSet<String>>,
    /// Shards and copies that are not where they should be.
    pub not_well: usize,
}

impl Lies {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.bytes.values().sum()
    }

    /// At one site.
    pub fn at(&self, site: &str) -> u64 {
        self.bytes.get(site).copied().unwrap_or(0)
    }

    fn add(&mut self, (name, size): (&str, u64), shards: &[Value], data_shards: u64) {
        for state in shards {
            let site = state["site"].as_str().unwrap().to_owned();
            let good = matches!(state["state"].as_str(), Some("listed" | "verified"));
            self.not_well += usize::from(!good || state["out_of_place"] == true);
            let own = match state["stripe"].as_u64() {
                Some(stripe) => size.saturating_sub(stripe * STRIPE).min(STRIPE).div_ceil(data_shards),
                None if size <= WHOLE => size,
                // The record of an object whose bytes lie in shards.
                None => 0,
            };
            *self.bytes.entry(site.clone()).or_default() += own;
            self.sites.entry(name.to_owned()).or_default().insert(site);
        }
    }
}

impl Home {
    /// Where the objects lie that were put into a bucket with so many data shards.
    pub fn lies(&self, data_shards: u64) -> Lies {
        let mut lies = Lies::default();
        for (name, size) in &self.objects {
            lies.add((name, *size), &self.shards(name), data_shards);
        }
        lies
    }

    /// What is heard of every shard and copy of an object.
    fn shards(&self, name: &str) -> Vec<Value> {
        let output = self.coffer(&["object", "stat", &format!("documents/{name}"), "--shards"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let told: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        told["shards"].as_array().unwrap().clone()
    }

    /// How many more losses an object with so many data shards survives, where no pod is stopped: one that
    /// is there and was not heard just now is only slow, and has lost nothing.
    pub(super) fn survives(&self, name: &str, data_shards: usize) -> usize {
        let shards = self.shards(name);
        // Asked afterwards: a pod that went meanwhile is not there.
        let homes = self.homes();
        let is_there = |site: &str| homes.get(site).is_some_and(|node| !node.is_empty());
        let mut stripes: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for shard in &shards {
            let Some(stripe) = shard["stripe"].as_u64() else { continue };
            let had = stripes.entry(stripe).or_default();
            let has = match shard["state"].as_str() {
                Some("listed" | "verified") => true,
                Some("silent") => is_there(shard["site"].as_str().unwrap()),
                _ => false,
            };
            had.extend(shard["index"].as_u64().filter(|_| has));
        }
        stripes.values().map(|had| had.len().saturating_sub(data_shards)).min().unwrap()
    }

    /// The same, once every shard and copy is heard to be where it should be: a site that is silent
    /// for a moment says nothing of its own.
    pub(super) fn lies_well(&self, data_shards: u64) -> Lies {
        until("everything lies where it should", || {
            let lies = self.lies(data_shards);
            (lies.not_well == 0).then_some(lies)
        })
    }
}
