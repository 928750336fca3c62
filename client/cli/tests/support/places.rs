//! Where the nodes of a fleet are.

use std::fs;
use std::path::Path;

/// Name and country of each: one more than a deployment has sites.
pub(crate) const PLACES: [(&str, &str); 7] = [
    ("fra1", "DE"),
    ("ams1", "NL"),
    ("par1", "FR"),
    ("mil1", "IT"),
    ("vie1", "AT"),
    ("mad1", "ES"),
    ("war1", "PL"),
];

/// A file of sites, each in a failure domain of its own.
pub(crate) const FILE: &str = "places.toml";

/// Writes the file.
pub(crate) fn write(dir: &Path, places: &[(&str, &str)]) {
    let site = |(name, country): &(&str, &str)| {
        format!("[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"{name}\"\ntier = \"III\"\n")
    };
    fs::write(dir.join(FILE), places.iter().map(site).collect::<String>()).unwrap();
}
