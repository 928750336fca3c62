//! How long a full restoration takes, by the slowest of what it needs: links,
//! decoding, the catalogue, people.

use coffer_model::Geometry;

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stored {
    /// Object versions.
    pub objects: f64,
    /// Their bytes, before coding.
    pub bytes: f64,
}

/// What was measured, or is assumed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Bytes a second between the service and one site, each way.
    pub site: f64,
    /// Bytes of objects a second that the service decodes or codes.
    pub decode: f64,
    /// Bytes a second between the service and whoever restores.
    pub client: f64,
    /// Objects a second that a rebuild of the catalogue enters.
    pub rebuild: f64,
    /// Bytes a second that a repair reads and writes together.
    pub repair: f64,
    /// Seconds until the custodians have opened the root key.
    pub custodians: f64,
}

/// What was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// The catalogue, the service with it; all sites stand.
    Catalogue,
    /// So many sites, replaced by empty ones; the service stands.
    Sites(u8),
    /// Everything but the other sites, the kit and a quorum: so many sites
    /// are gone, and every byte is wanted back.
    Cold(u8),
}

/// One step of a restoration. Steps follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// What is done.
    pub name: &'static str,
    /// Seconds.
    pub seconds: f64,
    /// What it waits for, in bytes or objects over rates.
    pub formula: &'static str,
}

/// A restoration, step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Restoration {
    /// In order.
    pub steps: Vec<Step>,
}

impl Restoration {
    /// Seconds of all steps.
    pub fn seconds(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }
}

/// Predicts a restoration over `sites` sites; `None` where more are lost than
/// the geometry can lose, or no site is left: then nothing comes back.
pub fn restoration(
    scenario: Scenario,
    geometry: Geometry,
    sites: u8,
    stored: Stored,
    rates: Rates,
) -> Option<Restoration> {
    let (k, m) = geometry.into();
    let lost = match scenario {
        Scenario::Catalogue => 0,
        Scenario::Sites(lost) | Scenario::Cold(lost) => lost,
    };
    let standing = sites.checked_sub(lost).filter(|standing| *standing >= k && lost <= m)?;
    let links = f64::from(standing) * rates.site;
    let custodians =
        Step { name: "custodians open the root key", seconds: rates.custodians, formula: "an input" };
    let catalogue = Step {
        name: "the catalogue is rebuilt",
        seconds: stored.objects / rates.rebuild,
        formula: "objects / rebuild rate",
    };
    let data = |name, formula, others: f64| {
        let reading = stored.bytes / links;
        Step { name, seconds: reading.max(stored.bytes / rates.decode).max(others), formula }
    };
    let steps = match scenario {
        Scenario::Catalogue => vec![custodians, catalogue],
        Scenario::Sites(0) => Vec::new(),
        Scenario::Sites(_) => {
            // Any k shards bring back all that a stripe lost; at worst every
            // stripe had one at each site that is gone.
            let stored_there = stored.bytes * f64::from(k + m) / f64::from(k) / f64::from(sites);
            let moved = stored.bytes * (1.0 + f64::from(lost) / f64::from(k));
            vec![data(
                "lost shards are made again",
                "max(bytes / (sites left * site rate), bytes / decode rate, bytes of one site / site rate, bytes * (1 + lost / k) / repair rate)",
                (stored_there / rates.site).max(moved / rates.repair),
            )]
        }
        Scenario::Cold(_) => vec![
            custodians,
            catalogue,
            data(
                "every byte is read",
                "max(bytes / (sites left * site rate), bytes / decode rate, bytes / client rate)",
                stored.bytes / rates.client,
            ),
        ],
    };
    Some(Restoration { steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Stored = Stored { objects: 1e6, bytes: 6e12 };
    const RATES: Rates =
        Rates { site: 1e8, decode: 1e9, client: 1e9, rebuild: 1e4, repair: 1e9, custodians: 3600.0 };

    fn seconds(scenario: Scenario) -> Option<f64> {
        restoration(scenario, Geometry::DEFAULT, 6, STORED, RATES).map(|all| all.seconds())
    }

    #[test]
    fn each_scenario_waits_for_its_slowest_part() {
        assert_eq!(seconds(Scenario::Catalogue), Some(3600.0 + 100.0));
        // A replaced site takes 1.5e12 bytes at 1e8; four that are left read 6e12 at 4e8.
        assert_eq!(seconds(Scenario::Sites(2)), Some(15_000.0));
        // A repair that is held to a quarter of the reading moves half as much again.
        let gentle = Rates { repair: 1e8, ..RATES };
        let again = restoration(Scenario::Sites(2), Geometry::DEFAULT, 6, STORED, gentle).unwrap();
        assert_eq!(again.seconds(), 90_000.0);
        assert_eq!(seconds(Scenario::Cold(2)), Some(3600.0 + 100.0 + 15_000.0));
        let slow_client = Rates { client: 1e8, ..RATES };
        let cold = restoration(Scenario::Cold(2), Geometry::DEFAULT, 6, STORED, slow_client).unwrap();
        assert_eq!(cold.seconds(), 3600.0 + 100.0 + 60_000.0);
    }

    #[test]
    fn more_lost_than_the_geometry_can_lose_comes_back_never_and_nothing_lost_takes_nothing() {
        assert_eq!(seconds(Scenario::Sites(3)), None);
        assert_eq!(seconds(Scenario::Cold(7)), None);
        assert_eq!(seconds(Scenario::Sites(0)), Some(0.0));
    }
}
