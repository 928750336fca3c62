//! The site file: which sites a deployment has, in TOML that a reader can
//! edit. The shipped one has six simulated sites.

use std::collections::BTreeSet;

use coffer_model::{Country, Entropy, FailureDomain, SiteDescription, SiteId, Tier};
use serde::Deserialize;

use crate::kit::SiteAddress;

/// Why a site file is refused.
#[derive(Debug, thiserror::Error)]
pub enum SiteFileError {
    /// Not TOML of the expected form; the text says where.
    #[error("the site file cannot be read: {0}")]
    Form(#[from] toml::de::Error),
    /// Two sites of one name.
    #[error("two sites of the site file are called {0:?}")]
    Twice(String),
    /// A name that is no plain directory name.
    #[error("a site name has 1 to 32 of a-z, 0-9 and '-', not {0:?}")]
    Name(String),
    /// No site at all, or more than [`SiteFile::SITES_MAX`].
    #[error("a site file has 1 to {} sites", SiteFile::SITES_MAX)]
    Count,
}

/// A site as its file describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SiteEntry {
    pub(crate) name: String,
    pub(crate) country: Country,
    pub(crate) domain: FailureDomain,
    pub(crate) tier: Tier,
    #[serde(default)]
    pub(crate) latency_ms: u32,
    #[serde(default)]
    pub(crate) bandwidth_mib: u32,
}

impl SiteEntry {
    /// The site with an id of its own, for life.
    pub(crate) fn mint(&self, entropy: &dyn Entropy) -> SiteAddress {
        SiteAddress {
            site: SiteDescription {
                id: SiteId::generate(entropy),
                name: self.name.clone(),
                country: self.country,
                domain: self.domain.clone(),
                tier: self.tier,
            },
            latency_ms: self.latency_ms,
            bandwidth_mib: self.bandwidth_mib,
        }
    }
}

/// The sites of a deployment about to be founded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteFile {
    #[serde(rename = "site")]
    pub(crate) sites: Vec<SiteEntry>,
}

impl SiteFile {
    /// The most sites of one deployment.
    pub const SITES_MAX: usize = 256;

    /// Reads and checks a site file.
    ///
    /// # Errors
    /// [`SiteFileError`], which says what to mend.
    pub fn parse(text: &str) -> Result<Self, SiteFileError> {
        let file: Self = toml::from_str(text)?;
        if file.sites.is_empty() || file.sites.len() > Self::SITES_MAX {
            return Err(SiteFileError::Count);
        }
        let mut names = BTreeSet::new();
        for site in &file.sites {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            if !(1..=32).contains(&site.name.len()) || !site.name.bytes().all(plain) {
                return Err(SiteFileError::Name(site.name.clone()));
            }
            if !names.insert(&site.name) {
                return Err(SiteFileError::Twice(site.name.clone()));
            }
        }
        Ok(file)
    }

    /// The text of the shipped file: six simulated sites.
    pub const SHIPPED: &str = include_str!("../sites.toml");

    /// The shipped file.
    ///
    /// # Errors
    /// None while the tests of this module pass.
    pub fn shipped() -> Result<Self, SiteFileError> {
        Self::parse(Self::SHIPPED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_has_six_sites_in_six_domains() {
        let sites = SiteFile::shipped().unwrap().sites;
        let domains: BTreeSet<_> = sites.iter().map(|s| &s.domain).collect();
        assert_eq!((sites.len(), domains.len()), (6, 6));
    }

    #[test]
    fn names_that_leave_the_directory_and_unknown_fields_are_refused() {
        let with = |name: &str, more: &str| {
            SiteFile::parse(&format!(
                "[[site]]\nname = \"{name}\"\ncountry = \"DE\"\ndomain = \"d\"\ntier = \"I\"\n{more}"
            ))
        };
        assert!(with("ok-1", "").is_ok());
        for name in ["../up", "", "A", "a/b", "."] {
            assert!(matches!(with(name, ""), Err(SiteFileError::Name(_))), "{name}");
        }
        assert!(matches!(with("ok", "colour = 1"), Err(SiteFileError::Form(_))));
        assert!(matches!(with("ok", "latency_ms = -1"), Err(SiteFileError::Form(_))));
    }
}
