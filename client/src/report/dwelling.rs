//! Where each object lies and since when: from the list of versions, and from
//! the leaves that say where a version moved. "Only in DE and FR since T" is
//! said only as far back as a layout is known: the log does not say where a
//! version lay before its first move. What a site still holds of an earlier
//! layout is known only while it answers: where one that does not lies
//! elsewhere, "only" is in doubt for every object that moved.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::Timestamp;

use super::facts::SiteFacts;
use super::material::{Material, ResidencyItem};

/// One object: all of its versions that are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dwelling {
    /// The bucket's id.
    pub bucket: String,
    /// The object's id.
    pub object: String,
    /// Its versions, hidden ones included.
    pub versions: u64,
    /// The countries in which any of them lies.
    pub countries: Vec<String>,
    /// Since when they lie nowhere else, as far as is known.
    pub since: Timestamp,
    /// Since when there is a version.
    pub first: Timestamp,
    /// Moves of its versions.
    pub moves: u64,
    /// Whether the policy admits every site.
    pub inside: bool,
    /// What does not fit together; empty: nothing.
    pub doubt: String,
}

impl Dwelling {
    /// Whether it never lay elsewhere since its first version.
    pub fn always(&self) -> bool {
        self.since == self.first
    }

    /// In one sentence.
    pub fn sentence(&self) -> String {
        let places = self.countries.join(", ");
        let how = if self.always() { ", since its first version" } else { ", since it last moved there" };
        let doubt = if self.doubt.is_empty() { String::new() } else { format!("; but {}", self.doubt) };
        format!("object {} lies only in {places} since {}{how}{doubt}", self.object, self.since)
    }
}

/// A layout that a leaf tells of.
struct Layout {
    since: Timestamp,
    countries: BTreeSet<String>,
    sites: Vec<String>,
}

/// Where each object lies, in order of bucket and object; nothing if the list
/// of versions was not read.
pub fn dwellings(material: &Material) -> Option<Vec<Dwelling>> {
    let items = material.residency.as_ref()?;
    let moves = moves(material);
    let mut objects: BTreeMap<(&str, &str), Vec<&ResidencyItem>> = BTreeMap::new();
    for item in items {
        objects.entry((&item.bucket, &item.object)).or_default().push(item);
    }
    let none = Vec::new();
    let of = |version: &str| moves.get(version).unwrap_or(&none);
    let silent = |site: &&SiteFacts| !site.answers || site.quarantined;
    let silent: Vec<&SiteFacts> = material.facts.facts.sites.iter().filter(silent).collect();
    let one = |((bucket, object), items): ((&str, &str), Vec<&ResidencyItem>)| {
        let mut dwelling = dwelling(bucket, object, &items, of);
        if dwelling.doubt.is_empty() {
            dwelling.doubt = left_behind(&dwelling, &silent);
        }
        dwelling
    };
    Some(objects.into_iter().map(one).collect())
}

/// What is not known of sites that do not answer; empty: nothing.
fn left_behind(dwelling: &Dwelling, silent: &[&SiteFacts]) -> String {
    let elsewhere = silent.iter().filter(|site| !dwelling.countries.contains(&site.country.to_string()));
    let names: Vec<String> = elsewhere.map(|site| format!("{} ({})", site.name, site.country)).collect();
    match (dwelling.moves, names.as_slice()) {
        (0, _) | (_, []) => String::new(),
        (_, names) => format!(
            "what {} still holds of it is not known: a site that does not answer may keep what lay there before a move",
            names.join(", ")
        ),
    }
}

/// The moves of each version, oldest first.
fn moves(material: &Material) -> BTreeMap<&str, Vec<Layout>> {
    let sites = &material.facts.facts.sites;
    let country = |name: &str| {
        let site = sites.iter().find(|site| site.name == name);
        site.map_or_else(|| "an unknown place".to_owned(), |site| site.country.to_string())
    };
    let mut moves: BTreeMap<&str, Vec<Layout>> = BTreeMap::new();
    for event in &material.log.events {
        if event.operation != "repair" || event.outcome != "done" {
            continue;
        }
        let Some((version, names)) = event.subject.split_once(" at ") else { continue };
        let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
        let countries = names.iter().map(|name| country(name)).collect();
        moves.entry(version).or_default().push(Layout { since: event.time(), countries, sites: names });
    }
    moves
}

fn dwelling<'a>(
    bucket: &str,
    object: &str,
    items: &[&ResidencyItem],
    moves: impl Fn(&str) -> &'a Vec<Layout>,
) -> Dwelling {
    let countries: BTreeSet<String> = items.iter().flat_map(|item| item.countries.iter().cloned()).collect();
    let first = items.iter().map(|item| item.created).min().unwrap_or(Timestamp(0));
    let mut since = first;
    let mut doubt = String::new();
    for item in items {
        let moves = moves(&item.version);
        match known_since(item, moves, &countries) {
            Some(known) => since = since.max(known),
            None => doubt = format!("the log does not tell of the moves of version {}", item.version),
        }
    }
    Dwelling {
        bucket: bucket.to_owned(),
        object: object.to_owned(),
        versions: items.len() as u64,
        countries: countries.into_iter().collect(),
        since,
        first,
        moves: items.iter().map(|item| u64::from(item.revision)).sum(),
        inside: items.iter().all(|item| item.inside),
        doubt,
    }
}

/// Since when a version is known to lie within these countries; its whole life
/// if it never moved. Nothing if its last move is in no leaf.
fn known_since(item: &ResidencyItem, moves: &[Layout], within: &BTreeSet<String>) -> Option<Timestamp> {
    if item.revision == 0 {
        return Some(Timestamp(0));
    }
    let last = moves.last()?;
    let sorted = |sites: &[String]| sites.iter().cloned().collect::<BTreeSet<_>>();
    if sorted(&last.sites) != sorted(&item.sites) {
        return None;
    }
    let inside = moves.iter().rev().take_while(|layout| layout.countries.is_subset(within));
    inside.last().map(|layout| layout.since)
}
