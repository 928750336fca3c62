//! Where a tenant's bytes may lie, read off the words of its policy: a checker
//! that asked the product what a policy means would believe what it checks.

use coffer_model::{Jurisdiction, ResidencyPolicy, SiteDescription, Tier};

/// The member states of the European Union, in its own order of precedence (Treaty on European
/// Union, article 52, with the accessions since and without the United Kingdom), by ISO 3166-1.
const UNION: &str = "BE BG CZ DK DE EE IE GR ES FR HR IT CY LV LT LU HU MT NL AT PL PT RO SI SK FI SE";

/// Those that the Agreement on the European Economic Area adds to them.
const BESIDE_THE_UNION: &str = "IS LI NO";

/// Whether the policy lets bytes lie at the site.
pub(crate) fn is_lawful(policy: &ResidencyPolicy, site: &SiteDescription) -> bool {
    let country = site.country.to_string();
    let named = |places: &[Jurisdiction]| places.iter().any(|place| lies_in(&country, &place.to_string()));
    if named(&policy.deny) || rank(site.tier) < rank(policy.tier_min) {
        return false;
    }
    policy.allow.is_empty() || named(&policy.allow)
}

fn lies_in(country: &str, place: &str) -> bool {
    let among = |list: &str| list.split(' ').any(|code| code == country);
    match place {
        "EU" => among(UNION),
        "EEA" => among(UNION) || among(BESIDE_THE_UNION),
        _ => place == country,
    }
}

fn rank(tier: Tier) -> u8 {
    match tier {
        Tier::I => 1,
        Tier::II => 2,
        Tier::III => 3,
        Tier::IV => 4,
    }
}

#[cfg(test)]
mod tests {
    use coffer_model::{Degraded, FailureDomain, Geometry, SiteId};

    use super::*;

    fn site(country: &str, tier: Tier) -> SiteDescription {
        let domain = FailureDomain("one".to_owned());
        let id = SiteId::from_bytes([1; 16]);
        SiteDescription { id, name: "one".to_owned(), country: country.parse().unwrap(), domain, tier }
    }

    fn policy(allow: &[&str], deny: &[&str], tier_min: Tier) -> ResidencyPolicy {
        let places = |places: &[&str]| places.iter().map(|place| place.parse().unwrap()).collect();
        let (allow, deny) = (places(allow), places(deny));
        let geometry = Geometry::DEFAULT;
        ResidencyPolicy { allow, deny, tier_min, geometry, degraded: Degraded::Refuse }
    }

    #[test]
    fn neighbours_are_not_in_the_union_and_some_of_them_are_in_the_economic_area() {
        for (country, in_union, in_area) in
            [("FR", true, true), ("NO", false, true), ("CH", false, false), ("GB", false, false)]
        {
            let at = site(country, Tier::I);
            assert_eq!(is_lawful(&policy(&["EU"], &[], Tier::I), &at), in_union, "{country}");
            assert_eq!(is_lawful(&policy(&["EEA"], &[], Tier::I), &at), in_area, "{country}");
            assert!(is_lawful(&policy(&["EU", country], &[], Tier::I), &at), "{country}");
        }
        assert_eq!(UNION.split(' ').count(), 27);
    }

    #[test]
    fn what_is_denied_is_unlawful_although_it_lies_in_what_is_allowed() {
        assert!(!is_lawful(&policy(&["EU", "FR"], &["FR"], Tier::I), &site("FR", Tier::IV)));
        assert!(!is_lawful(&policy(&[], &["EEA"], Tier::I), &site("FR", Tier::IV)));
        assert!(is_lawful(&policy(&[], &["EEA"], Tier::I), &site("CH", Tier::IV)));
    }

    #[test]
    fn a_site_of_a_lower_tier_is_unlawful_wherever_it_is() {
        for (tier, lawful) in [(Tier::I, false), (Tier::II, false), (Tier::III, true), (Tier::IV, true)] {
            assert_eq!(is_lawful(&policy(&["EU"], &[], Tier::III), &site("DE", tier)), lawful);
        }
    }
}
