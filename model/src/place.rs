//! Places: countries, jurisdiction groups, tiers, failure domains, sites.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::assigned::meant_text;
use crate::{Day, PrincipalId, SiteId, Timestamp};

/// Why a place is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Not two upper-case letters.
    #[error("a country is an ISO 3166-1 alpha-2 code, for example DE, not \"{0}\"")]
    Country(String),
    /// Two letters that are assigned to no country.
    #[error("{code} is no country of ISO 3166-1{}", meant_text(*meant))]
    Unassigned {
        /// What was typed.
        code: Country,
        /// What was probably meant.
        meant: Option<&'static str>,
    },
    /// Neither a country nor a known group.
    #[error("a jurisdiction is a country code or one of EU, EEA, not \"{0}\"")]
    Jurisdiction(String),
    /// Not I, II, III or IV.
    #[error("a tier is I, II, III or IV, not \"{0}\"")]
    Tier(String),
}

/// An ISO 3166-1 alpha-2 country code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

/// Groups whose codes ISO 3166-1 reserves or leaves free: no country is lost to them.
const GROUP_EU: &str = "EU";
const GROUP_EEA: &str = "EEA";

impl Country {
    /// The two letters.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or("??")
    }
}

impl FromStr for Country {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() && text != GROUP_EU => {
                Ok(Self([*a, *b]))
            }
            _ => Err(PlaceError::Country(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Country {
    type Error = PlaceError;
    fn try_from(text: String) -> Result<Self, PlaceError> {
        text.parse()
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.as_str().to_owned()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A named set of countries. Membership as of 2026-01-01; a change of the
/// table is a change of policy meaning and enters the changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JurisdictionGroup {
    /// The European Union, 27 member states.
    Eu,
    /// The European Economic Area: the EU with Iceland, Liechtenstein, Norway.
    Eea,
}

const EU_MEMBERS: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT",
    "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];
const EEA_OTHERS: [&str; 3] = ["IS", "LI", "NO"];

/// What a policy names: one country or a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Jurisdiction {
    /// One country.
    Country(Country),
    /// Every country of a group.
    Group(JurisdictionGroup),
}

impl Jurisdiction {
    /// Whether `country` lies inside.
    pub fn contains(&self, country: Country) -> bool {
        match self {
            Self::Country(own) => *own == country,
            Self::Group(JurisdictionGroup::Eu) => EU_MEMBERS.contains(&country.as_str()),
            Self::Group(JurisdictionGroup::Eea) => {
                EU_MEMBERS.contains(&country.as_str()) || EEA_OTHERS.contains(&country.as_str())
            }
        }
    }

    /// What lies in both, if anything does.
    pub fn common(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Country(country), place) | (place, Self::Country(country)) => {
                place.contains(country).then_some(Self::Country(country))
            }
            // The smaller group lies in the larger one.
            (Self::Group(one), Self::Group(two)) => Some(Self::Group(one.min(two))),
        }
    }
}

impl FromStr for Jurisdiction {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text {
            GROUP_EU => Ok(Self::Group(JurisdictionGroup::Eu)),
            GROUP_EEA => Ok(Self::Group(JurisdictionGroup::Eea)),
            code => code.parse().map(Self::Country).map_err(|_| PlaceError::Jurisdiction(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Jurisdiction {
    type Error = PlaceError;
    fn try_from(text: String) -> Result<Self, PlaceError> {
        text.parse()
    }
}

impl From<Jurisdiction> for String {
    fn from(jurisdiction: Jurisdiction) -> Self {
        jurisdiction.to_string()
    }
}

impl fmt::Display for Jurisdiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Country(country) => country.fmt(f),
            Self::Group(JurisdictionGroup::Eu) => f.write_str(GROUP_EU),
            Self::Group(JurisdictionGroup::Eea) => f.write_str(GROUP_EEA),
        }
    }
}

/// Uptime Institute tier of a site's building.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// Basic capacity.
    I,
    /// Redundant components.
    II,
    /// Concurrently maintainable.
    III,
    /// Fault tolerant.
    IV,
}

impl FromStr for Tier {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text {
            "I" => Ok(Self::I),
            "II" => Ok(Self::II),
            "III" => Ok(Self::III),
            "IV" => Ok(Self::IV),
            _ => Err(PlaceError::Tier(text.to_owned())),
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What fails together: two sites of one domain count as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FailureDomain(pub String);

/// What an operator declares about the certificate of a building's tier. The
/// paper itself is not here: its number is, so that its issuer can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierCertificate {
    /// Who certified, for example `Uptime Institute`.
    pub issuer: String,
    /// Its number there.
    pub number: String,
    /// Which tier.
    pub tier: Tier,
    /// First day of its validity.
    pub from: Day,
    /// Last day of its validity.
    pub until: Day,
    /// When it was declared.
    pub declared: Timestamp,
    /// By which operator.
    pub declared_by: PrincipalId,
}

/// Characters of an issuer's name, or of a number.
pub const CERTIFICATE_TEXT_MAX: usize = 128;

impl TierCertificate {
    /// Whether its texts are short and plain, and its days in order.
    pub fn is_sound(&self) -> bool {
        let plain = |text: &str| {
            (1..=CERTIFICATE_TEXT_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        };
        plain(&self.issuer) && plain(&self.number) && self.from <= self.until
    }
}

/// One site as the topology describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteDescription {
    /// Random id, minted when the site is added; the placement hash uses it.
    pub id: SiteId,
    /// Short name for people, unique in the topology, for example `fra1`.
    pub name: String,
    /// Where its disks stand.
    pub country: Country,
    /// What it fails together with.
    pub domain: FailureDomain,
    /// Tier of the building.
    pub tier: Tier,
}

/// The sites of a deployment, in the order of its site file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// All sites, dead or alive.
    pub sites: Vec<SiteDescription>,
}

impl Topology {
    /// The site with this id.
    pub fn site(&self, id: SiteId) -> Option<&SiteDescription> {
        self.sites.iter().find(|site| site.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eea_holds_norway_and_the_eu_does_not() {
        let norway = "NO".parse().unwrap();
        assert!("EEA".parse::<Jurisdiction>().unwrap().contains(norway));
        assert!(!"EU".parse::<Jurisdiction>().unwrap().contains(norway));
    }

    #[test]
    fn a_group_is_no_country_and_lower_case_is_nothing() {
        assert!("EU".parse::<Country>().is_err());
        for text in ["de", "DEU", "D", "", "EUR", "D1"] {
            assert!(text.parse::<Jurisdiction>().is_err(), "{text}");
        }
    }
}
