//! Which countries there are: asked where people type one, never where stored
//! bytes are read. What was stored before a code was withdrawn, or before
//! anybody asked, still opens.

use crate::{Country, Jurisdiction, PlaceError};

/// The officially assigned alpha-2 codes of ISO 3166-1, as of 2026-01-01: 249, in order. A change of the table
/// enters the changelog.
const ASSIGNED: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ \
    BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ \
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ \
    DE DJ DK DM DO DZ \
    EC EE EG EH ER ES ET \
    FI FJ FK FM FO FR \
    GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY \
    HK HM HN HR HT HU \
    ID IE IL IM IN IO IQ IR IS IT \
    JE JM JO JP \
    KE KG KH KI KM KN KP KR KW KY KZ \
    LA LB LC LI LK LR LS LT LU LV LY \
    MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ \
    NA NC NE NF NG NI NL NO NP NR NU NZ \
    OM \
    PA PE PF PG PH PK PL PM PN PR PS PT PW PY \
    QA \
    RE RO RS RU RW \
    SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ \
    TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ \
    UA UG UM US UY UZ \
    VA VC VE VG VI VN VU \
    WF WS \
    YE YT \
    ZA ZM ZW";

/// Kosovo. Its code is user-assigned, but one that the European Commission, SWIFT and CLDR have agreed on for years:
/// disks stand there, and no other code says so. The other user-assigned codes (AA, QM to QZ, XA to XZ, ZZ) mean what
/// whoever uses them wants, so that no policy can mean anything by them.
const KOSOVO: &str = "XK";

/// Codes that are reserved for what another code is assigned to, and that people type.
const MEANT: [(&str, &str); 2] = [("UK", "GB"), ("EL", "GR")];

impl Country {
    /// Whether there is such a country.
    pub fn is_assigned(&self) -> bool {
        self.as_str() == KOSOVO || ASSIGNED.split(' ').any(|code| code == self.as_str())
    }

    /// This country, if there is one of that code.
    ///
    /// # Errors
    /// [`PlaceError::Unassigned`].
    pub fn assigned(self) -> Result<Self, PlaceError> {
        if self.is_assigned() {
            return Ok(self);
        }
        let meant = MEANT.iter().find(|(typed, _)| *typed == self.as_str()).map(|(_, meant)| *meant);
        Err(PlaceError::Unassigned { code: self, meant })
    }

    /// A country as somebody types it.
    ///
    /// # Errors
    /// [`PlaceError::Country`], [`PlaceError::Unassigned`].
    pub fn typed(text: &str) -> Result<Self, PlaceError> {
        text.parse::<Self>()?.assigned()
    }
}

impl Jurisdiction {
    /// A jurisdiction as somebody types it.
    ///
    /// # Errors
    /// [`PlaceError::Jurisdiction`], [`PlaceError::Unassigned`].
    pub fn typed(text: &str) -> Result<Self, PlaceError> {
        match text.parse()? {
            Self::Country(country) => country.assigned().map(Self::Country),
            group => Ok(group),
        }
    }
}

/// The end of a sentence about a code that is none.
pub(crate) fn meant_text(meant: Option<&str>) -> String {
    meant.map(|code| format!("; did you mean {code}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_249_codes_each_once_and_in_order() {
        let codes: Vec<&str> = ASSIGNED.split(' ').collect();
        assert_eq!(codes.len(), 249);
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        for code in codes {
            assert!(Country::typed(code).is_ok_and(|country| country.as_str() == code), "{code}");
        }
    }

    #[test]
    fn every_member_of_a_group_is_a_country() {
        let group: Jurisdiction = "EEA".parse().unwrap();
        let letters = || (b'A'..=b'Z').map(char::from);
        let all = letters().flat_map(|a| letters().map(move |b| format!("{a}{b}")));
        let members: Vec<Country> = all.filter_map(|code| code.parse().ok()).collect();
        let members = members.into_iter().filter(|country| group.contains(*country));
        assert_eq!(members.filter(Country::is_assigned).count(), 30);
    }

    #[test]
    fn nobody_types_a_country_that_there_is_not_and_stored_ones_are_read() {
        for code in ["AA", "QM", "QQ", "QZ", "XA", "XI", "XX", "XZ", "ZZ", "SU", "YU", "UK", "EL", "AC"] {
            assert!(code.parse::<Country>().is_ok(), "{code} was stored once");
            assert!(matches!(Country::typed(code), Err(PlaceError::Unassigned { .. })), "{code}");
            assert!(matches!(Jurisdiction::typed(code), Err(PlaceError::Unassigned { .. })), "{code}");
        }
        for code in ["XK", "GB", "GR", "EEA"] {
            assert!(Jurisdiction::typed(code).is_ok(), "{code}");
        }
        for code in ["gb", "", "GBR", "EUR"] {
            assert!(matches!(Jurisdiction::typed(code), Err(PlaceError::Jurisdiction(_))), "{code}");
        }
    }

    #[test]
    fn who_types_what_another_code_is_assigned_to_is_told_that_one() {
        let said = |code: &str| Jurisdiction::typed(code).unwrap_err().to_string();
        assert_eq!(said("UK"), "UK is no country of ISO 3166-1; did you mean GB?");
        assert_eq!(said("EL"), "EL is no country of ISO 3166-1; did you mean GR?");
        assert_eq!(said("QQ"), "QQ is no country of ISO 3166-1");
    }
}
