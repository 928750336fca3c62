//! The site file: which sites a deployment has, in TOML that a reader can
//! edit. The shipped one has six simulated sites.

use std::collections::BTreeSet;

use coffer_model::{Country, Entropy, FailureDomain, PlaceError, SiteDescription, SiteId, Tier};
use coffer_site::is_pod_endpoint;
use serde::{Deserialize, Deserializer};

use crate::home::SiteHome;
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
    /// A pod and a bucket at once.
    #[error("the site {0:?} is a pod or a bucket, not both")]
    TwoHomes(String),
    /// A pod without the id that its certificate names.
    #[error("the pod {0:?} has no id; `coffer site enroll` prints the one in its certificate")]
    PodId(String),
    /// An id given to a site that gets one by itself, or the same to two.
    #[error("the site {0:?} has an id that is another's, or that only a pod has")]
    Id(String),
    /// Not an endpoint.
    #[error("{0:?} is not the endpoint of a pod; it reads https://HOST:PORT")]
    Endpoint(String),
    /// A simulated link before a real one.
    #[error("the site {0:?} is real: latency_ms and bandwidth_mib are for directories")]
    Simulated(String),
    /// A name of credentials that is no plain name.
    #[error("credentials are called by 1 to 32 of a-z, 0-9 and '-', not {0:?}")]
    Credentials(String),
    /// A country that there is not.
    #[error("the site {name:?} stands nowhere: {source}")]
    Country {
        /// Which site.
        name: String,
        /// What is wrong with it.
        source: PlaceError,
    },
    /// Nothing that it fails together with.
    #[error("the site {0:?} has an empty domain; say what it fails together with, for example its building")]
    Domain(String),
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
    #[serde(default, deserialize_with = "site_id")]
    pub(crate) id: Option<SiteId>,
    pod: Option<String>,
    bucket: Option<BucketEntry>,
    credentials: Option<String>,
}

/// A bucket as the file describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BucketEntry {
    endpoint: String,
    name: String,
    #[serde(default)]
    prefix: String,
    region: String,
}

/// An id as people read it, `site-…`.
fn site_id<'de, D: Deserializer<'de>>(text: D) -> Result<Option<SiteId>, D::Error> {
    String::deserialize(text)?.parse().map(Some).map_err(serde::de::Error::custom)
}

/// What the credentials of pods are called unless the file says otherwise:
/// one certificate opens all of a deployment's pods.
const POD_CREDENTIALS: &str = "pods";

impl SiteEntry {
    /// Where it lives.
    pub(crate) fn home(&self) -> SiteHome {
        let credentials = |default: &str| self.credentials.clone().unwrap_or_else(|| default.to_owned());
        match (&self.pod, &self.bucket) {
            (Some(endpoint), _) => {
                SiteHome::Pod { endpoint: endpoint.clone(), credentials: credentials(POD_CREDENTIALS) }
            }
            (None, Some(bucket)) => SiteHome::Bucket {
                endpoint: bucket.endpoint.clone(),
                name: bucket.name.clone(),
                prefix: bucket.prefix.clone(),
                region: bucket.region.clone(),
                credentials: credentials(&self.name),
            },
            (None, None) => SiteHome::Directory,
        }
    }

    /// Whether it stands somewhere: asked of a site that is about to be one. What stands in the file beside it, and
    /// is a site already, is as it is.
    pub(crate) fn check_place(&self) -> Result<(), SiteFileError> {
        let name = || self.name.clone();
        self.country.assigned().map_err(|source| SiteFileError::Country { name: name(), source })?;
        if self.domain.0.trim().is_empty() { Err(SiteFileError::Domain(name())) } else { Ok(()) }
    }

    fn check_home(&self) -> Result<(), SiteFileError> {
        let name = || self.name.clone();
        if self.pod.is_some() && self.bucket.is_some() {
            return Err(SiteFileError::TwoHomes(name()));
        }
        if let Some(credentials) = &self.credentials
            && !is_plain(credentials)
        {
            return Err(SiteFileError::Credentials(credentials.clone()));
        }
        match &self.pod {
            Some(endpoint) if !is_pod_endpoint(endpoint) => {
                return Err(SiteFileError::Endpoint(endpoint.clone()));
            }
            Some(_) if self.id.is_none() => return Err(SiteFileError::PodId(name())),
            None if self.id.is_some() => return Err(SiteFileError::Id(name())),
            _ => {}
        }
        let simulated = self.latency_ms > 0 || self.bandwidth_mib > 0;
        if simulated && (self.pod.is_some() || self.bucket.is_some()) {
            return Err(SiteFileError::Simulated(name()));
        }
        Ok(())
    }
}

/// Whether a name can be that of a directory, and no way out of one.
fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(plain)
}

impl SiteEntry {
    /// The site with an id of its own, for life.
    pub(crate) fn mint(&self, entropy: &dyn Entropy) -> SiteAddress {
        SiteAddress {
            site: SiteDescription {
                id: self.id.unwrap_or_else(|| SiteId::generate(entropy)),
                name: self.name.clone(),
                country: self.country,
                domain: self.domain.clone(),
                tier: self.tier,
            },
            home: self.home(),
            certificate: None,
            refilling: false,
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

/// Where a site of a file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SitePlace {
    /// The site's name.
    pub name: String,
    /// Where its disks stand.
    pub country: Country,
    /// What it fails together with.
    pub domain: FailureDomain,
    /// Tier of the building.
    pub tier: Tier,
}

impl SiteFile {
    /// Where its sites stand, in the order of the file.
    pub fn places(&self) -> impl Iterator<Item = SitePlace> {
        self.sites.iter().map(|site| SitePlace {
            name: site.name.clone(),
            country: site.country,
            domain: site.domain.clone(),
            tier: site.tier,
        })
    }

    /// Whether a site may be called so.
    pub fn takes_name(name: &str) -> bool {
        is_plain(name)
    }

    /// The most sites of one deployment.
    pub const SITES_MAX: usize = 256;

    /// Reads and checks a site file, whose sites are all to be founded.
    ///
    /// # Errors
    /// [`SiteFileError`], which says what to mend.
    pub fn parse(text: &str) -> Result<Self, SiteFileError> {
        Self::parse_where_some_are(text, |_| false)
    }

    /// Reads a site file of which some sites, by their names, are there already. Whether there are the countries in
    /// which these stand is not asked, as nobody asked when they came.
    ///
    /// # Errors
    /// [`SiteFileError`], which says what to mend.
    pub fn parse_where_some_are(text: &str, is_there: impl Fn(&str) -> bool) -> Result<Self, SiteFileError> {
        let file = Self::parse_unplaced(text)?;
        file.sites.iter().filter(|site| !is_there(&site.name)).try_for_each(SiteEntry::check_place)?;
        Ok(file)
    }

    /// Reads a site file; where its sites stand is still to be checked.
    pub(crate) fn parse_unplaced(text: &str) -> Result<Self, SiteFileError> {
        let file: Self = toml::from_str(text)?;
        if file.sites.is_empty() || file.sites.len() > Self::SITES_MAX {
            return Err(SiteFileError::Count);
        }
        let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for site in &file.sites {
            if !is_plain(&site.name) {
                return Err(SiteFileError::Name(site.name.clone()));
            }
            if !names.insert(&site.name) {
                return Err(SiteFileError::Twice(site.name.clone()));
            }
            site.check_home()?;
            if site.id.is_some_and(|id| !ids.insert(id)) {
                return Err(SiteFileError::Id(site.name.clone()));
            }
        }
        Ok(file)
    }

    /// The text of the shipped file: six simulated sites.
    pub const SHIPPED: &str = include_str!("../sites.toml");

    /// Its sites with ids of their own, for life.
    pub fn addresses(&self, entropy: &dyn Entropy) -> Vec<SiteAddress> {
        self.sites.iter().map(|entry| entry.mint(entropy)).collect()
    }

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

    #[test]
    fn a_site_stands_in_a_country_that_there_is_and_fails_together_with_something() {
        let with = |country: &str, domain: &str| {
            let place = format!("country = \"{country}\"\ndomain = \"{domain}\"");
            format!("[[site]]\nname = \"ok\"\n{place}\ntier = \"I\"\n")
        };
        for country in ["XX", "UK", "QQ"] {
            let text = with(country, "d");
            assert!(matches!(SiteFile::parse(&text), Err(SiteFileError::Country { .. })), "{country}");
            let old = SiteFile::parse_where_some_are(&text, |name| name == "ok");
            assert!(old.is_ok(), "it may have been a site before anybody asked");
        }
        for domain in ["", "  "] {
            assert!(matches!(SiteFile::parse(&with("GB", domain)), Err(SiteFileError::Domain(_))));
        }
        assert!(SiteFile::parse(&with("XK", "d")).is_ok());
    }

    #[test]
    fn pods_and_buckets_have_what_they_need_and_nothing_that_is_not_theirs() {
        let with = |more: &str| {
            SiteFile::parse(&format!(
                "[[site]]\nname = \"ok\"\ncountry = \"DE\"\ndomain = \"d\"\ntier = \"I\"\n{more}"
            ))
        };
        let id = format!("id = \"site-{}\"\n", "0a".repeat(16));
        let pod = format!("{id}pod = \"https://127.0.0.2:7441\"\n");
        let bucket = "bucket = { endpoint = \"https://s3\", name = \"b\", region = \"r\" }\n";
        let home = |more: &str| with(more).unwrap().sites[0].home();
        assert!(matches!(home(&pod), SiteHome::Pod { credentials, .. } if credentials == "pods"));
        assert!(matches!(home(bucket), SiteHome::Bucket { credentials, .. } if credentials == "ok"));
        assert_eq!(home(""), SiteHome::Directory);
        assert!(matches!(with("pod = \"https://a:1\""), Err(SiteFileError::PodId(_))));
        assert!(matches!(with(&id), Err(SiteFileError::Id(_))));
        assert!(matches!(with(&format!("{pod}{bucket}")), Err(SiteFileError::TwoHomes(_))));
        assert!(matches!(with(&format!("{id}pod = \"http://a:1\"")), Err(SiteFileError::Endpoint(_))));
        assert!(matches!(with(&format!("{pod}latency_ms = 1")), Err(SiteFileError::Simulated(_))));
        let out = format!("{pod}credentials = \"../up\"");
        assert!(matches!(with(&out), Err(SiteFileError::Credentials(_))));
        assert!(matches!(with("id = \"rec-00\""), Err(SiteFileError::Form(_))));
    }
}
