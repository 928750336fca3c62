//! How sites are shown: a line for each, and in a word or two how it is.

use coffer_client::SiteInfo;

use crate::output::bytes_text;

/// How a site is: whether it answers, and everything that keeps it from taking data. A site that is gone for good is
/// nothing else.
pub(super) fn state(site: &SiteInfo) -> String {
    if site.standing == "retired" {
        return site.standing.clone();
    }
    let mut words = vec![if site.alive { "alive" } else { "down" }];
    if site.quarantined {
        words.push("quarantined");
    }
    if site.refilling {
        words.push("refilling");
    }
    if site.standing != "active" && !words.contains(&site.standing.as_str()) {
        words.push(&site.standing);
    }
    if site.read_only {
        words.push("read-only");
    }
    if site.full {
        words.push("full");
    }
    words.join(", ")
}

/// The bytes that may still be written there, for people.
pub(super) fn free(site: &SiteInfo) -> String {
    site.free_bytes.map_or_else(|| "unknown".to_owned(), bytes_text)
}

/// A line for each site. Columns are as wide as what stands in them.
pub(super) fn lines(sites: &[SiteInfo]) -> Vec<String> {
    let width = |text: &dyn Fn(&SiteInfo) -> String| sites.iter().map(text).map(|text| text.len()).max();
    let (name, how) = (width(&|site| site.name.clone()), width(&state));
    let line = |site: &SiteInfo| {
        format!(
            "{:<name$} {} tier {:<3} {:<how$} {:>9} records {:>12}  free {:>12}  damaged {} reported {}",
            site.name,
            site.country,
            site.tier.to_string(),
            state(site),
            site.records,
            bytes_text(site.volume_bytes),
            free(site),
            site.damaged,
            site.reported,
            name = name.unwrap_or_default().max(12),
            how = how.unwrap_or_default(),
        )
    };
    sites.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_model::SiteId;

    fn site(name: &str) -> SiteInfo {
        SiteInfo {
            id: SiteId::from_bytes([7; 16]),
            name: name.to_owned(),
            country: "DE".parse().unwrap(),
            domain: "fra".to_owned(),
            tier: "III".parse().unwrap(),
            alive: true,
            simulated: false,
            records: 12,
            volume_bytes: 3 << 20,
            damaged: 0,
            reported: 0,
            standing: "active".to_owned(),
            dead_bytes: 0,
            free_bytes: Some(5 << 30),
            full: false,
            read_only: false,
            known_damage: 0,
            unnamed_shards: None,
            last_seen: None,
            written_bytes: 0,
            quarantined: false,
            refilling: false,
        }
    }

    #[test]
    fn everything_that_keeps_a_site_from_taking_data_is_said_and_not_only_the_first_of_it() {
        let with = |change: fn(&mut SiteInfo)| {
            let mut one = site("fra1");
            change(&mut one);
            state(&one)
        };
        assert_eq!(with(|_| ()), "alive");
        assert_eq!(with(|one| one.alive = false), "down");
        assert_eq!(with(|one| one.read_only = true), "alive, read-only");
        assert_eq!(with(|one| one.full = true), "alive, full");
        assert_eq!(with(|one| one.refilling = true), "alive, refilling");
        assert_eq!(with(|one| one.standing = "draining".to_owned()), "alive, draining");
        assert_eq!(with(|one| (one.alive, one.quarantined) = (false, true)), "down, quarantined");
        let drained_and_full = with(|one| (one.standing, one.full) = ("draining".to_owned(), true));
        assert_eq!(drained_and_full, "alive, draining, full");
        let quarantined = with(|one| (one.standing, one.quarantined) = ("quarantined".to_owned(), true));
        assert_eq!(quarantined, "alive, quarantined");
        assert_eq!(with(|one| (one.standing, one.alive) = ("retired".to_owned(), false)), "retired");
    }

    #[test]
    fn a_line_says_where_a_site_is_how_it_is_and_what_is_free_and_columns_stand_below_each_other() {
        let (mut full, mut gone) = (site("a-site-with-a-longer-name"), site("ams1"));
        (full.full, full.free_bytes) = (true, Some(1000));
        (gone.standing, gone.alive, gone.free_bytes) = ("retired".to_owned(), false, None);
        let said = lines(&[site("fra1"), full, gone]);
        assert!(said[0].contains("DE tier III alive ") && said[0].contains("free     5.00 GiB"), "{said:?}");
        assert!(said[1].contains("alive, full") && said[2].contains("retired"), "{said:?}");
        assert!(said[2].contains("free      unknown"), "{said:?}");
        let columns: Vec<_> = said.iter().map(|line| line.find(" free ")).collect();
        assert!(columns.iter().all(|at| *at == columns[0]), "{said:#?}");
        assert!(lines(&[]).is_empty());
    }
}
