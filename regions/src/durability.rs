//! How durable and how available what lies at sites is, by a model: sites are
//! lost and replaced independently and at constant rates, and are up for the
//! part of the time that their tier promises. Arithmetic only; whoever calls
//! names the rates. `restoration` predicts how long it takes to have all back.
//!
//! What the model does not cover stands in [`NOT_COVERED`] and belongs beside
//! every figure of it.

mod restoration;

use coffer_model::Tier;

pub use restoration::{Rates, Restoration, Scenario, Step, Stored, restoration};

/// What no figure of this model says.
pub const NOT_COVERED: [&str; 6] = [
    "losses that have one cause: a fire in two buildings, a bad release, an operator's mistake, a stolen root key",
    "rates that change with age, season or load; both are taken as constant",
    "sites that lie, and damage that no scrub has found yet",
    "the time between a loss and its discovery, unless the repair time includes it",
    "what each object costs beside its bytes: very many small ones take longer to restore",
    "the loss of keys: without a quorum of their custodians nothing opens, however many sites stand",
];

/// Part of the time that a site of a tier is up, as the Uptime Institute's
/// tiers are commonly quoted: 28.8, 22.7, 1.6 and 0.4 hours down in a year.
pub fn tier_availability(tier: Tier) -> f64 {
    match tier {
        Tier::I => 0.996_71,
        Tier::II => 0.997_41,
        Tier::III => 0.999_82,
        Tier::IV => 0.999_95,
    }
}

/// The probability that at least `needed` of these sites are up at a moment:
/// the upper tail of the Poisson binomial distribution, by its recurrence
/// (Y. H. Wang, "On the number of successes in independent trials", 1993).
pub fn at_least_up(needed: usize, availabilities: &[f64]) -> f64 {
    // chance[j]: exactly j of the sites so far are up.
    let mut chance = vec![1.0];
    for up in availabilities {
        let mut next = vec![0.0; chance.len() + 1];
        for (count, before) in chance.iter().enumerate() {
            if let Some(same) = next.get_mut(count) {
                *same += before * (1.0 - up);
            }
            if let Some(more) = next.get_mut(count + 1) {
                *more += before * up;
            }
        }
        chance = next;
    }
    chance.iter().skip(needed).sum::<f64>().min(1.0)
}

/// How many lost sites are replaced at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crews {
    /// One after the other.
    One,
    /// Each by itself.
    Each,
}

/// Sites that are lost and replaced: a birth-death chain whose state is how
/// many are lost, from none to more than may be. Losing one more than `m` ends it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chain {
    sites: u8,
    losable: u8,
    /// Losses of one site in a year.
    losses: f64,
    /// Replacements in a year of constant work.
    repairs: f64,
    crews: Crews,
}

/// Why rates are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A rate is no number, or not above zero, or beyond what can be computed.
    #[error("a rate is a number above 0 and at most {} a year", Chain::RATE_MAX)]
    Rate,
    /// More sites may be lost than there are, or all of them.
    #[error("of {sites} sites fewer than {losable} + 1 must be enough")]
    Losable {
        /// Sites.
        sites: u8,
        /// How many may be lost.
        losable: u8,
    },
}

impl Chain {
    /// The highest rate: a repair in five minutes.
    pub const RATE_MAX: f64 = 105_120.0;

    /// `sites` of which any `losable` may be lost.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn new(sites: u8, losable: u8, losses: f64, repairs: f64, crews: Crews) -> Result<Self, ChainError> {
        if losable >= sites {
            return Err(ChainError::Losable { sites, losable });
        }
        let good = |rate: f64| rate > 0.0 && rate <= Self::RATE_MAX;
        let chain = Self { sites, losable, losses, repairs, crews };
        if good(losses) && good(repairs) { Ok(chain) } else { Err(ChainError::Rate) }
    }

    /// Rate of the next loss while `lost` are lost.
    fn loss_rate(&self, lost: u8) -> f64 {
        f64::from(self.sites - lost) * self.losses
    }

    fn repair_rate(&self, lost: u8) -> f64 {
        match self.crews {
            _ if lost == 0 => 0.0,
            Crews::One => self.repairs,
            Crews::Each => f64::from(lost) * self.repairs,
        }
    }

    /// Mean time to data loss in years, from all sites whole: the mean first
    /// passage of the birth-death chain,
    /// Σᵢ Σⱼ≤ᵢ 1/λⱼ · Πⱼ<ₗ≤ᵢ μₗ/λₗ (K. S. Trivedi, "Probability and Statistics with
    /// Reliability, Queuing, and Computer Science Applications", chapter 8).
    /// Exact; every term is positive, so that nothing cancels.
    pub fn mean_years_to_loss(&self) -> f64 {
        let mut mean = 0.0;
        // Mean time from `lost` to `lost + 1`.
        let mut onward = 0.0;
        for lost in 0..=self.losable {
            let rate = self.loss_rate(lost);
            onward = 1.0 / rate + self.repair_rate(lost) / rate * onward;
            mean += onward;
        }
        mean
    }

    /// The leading term of the mean, as it is commonly quoted for repairs much
    /// faster than losses: μᵐ · r / (λᵐ⁺¹ · n!/(n-m-1)!), r being 1 for one
    /// crew and m! for one each (D. A. Patterson, G. Gibson, R. H. Katz, "A Case
    /// for Redundant Arrays of Inexpensive Disks", 1988, for m = 1; J. E. Angus,
    /// "On computing MTBF for a k-out-of-n:G repairable system", 1988).
    pub fn approximate_years_to_loss(&self) -> f64 {
        let losses: f64 = (0..=self.losable).map(|lost| self.loss_rate(lost)).product();
        let repairs: f64 = (1..=self.losable).map(|lost| self.repair_rate(lost)).product();
        repairs / losses
    }

    /// The probability that more than may be are lost at once within so many
    /// years, from all sites whole: the chain itself, solved by uniformisation
    /// (A. Jensen, "Markoff chains as an aid in the study of Markoff processes",
    /// 1953). All terms are positive: the smallest probabilities are as exact
    /// as the largest.
    pub fn loss_within(&self, years: f64) -> f64 {
        let states = usize::from(self.losable) + 2;
        let total = |lost: u8| self.loss_rate(lost) + self.repair_rate(lost);
        let rate = (0..=self.losable).map(total).fold(0.0, f64::max);
        // In steps, since the weights of a long time at once would be zero.
        let steps = (rate * years / STEP_EVENTS).ceil().max(1.0);
        let events = rate * years / steps;
        let mut state = vec![0.0; states];
        if let Some(whole) = state.first_mut() {
            *whole = 1.0;
        }
        let mut step = 0.0;
        while step < steps {
            state = self.advance(&state, rate, events);
            step += 1.0;
        }
        state.last().copied().unwrap_or(0.0).min(1.0)
    }

    /// The state after a time in which `events` uniformised events are expected.
    fn advance(&self, state: &[f64], rate: f64, events: f64) -> Vec<f64> {
        let mut weight = (-events).exp();
        let mut jumped = state.to_vec();
        let mut after: Vec<f64> = jumped.iter().map(|chance| chance * weight).collect();
        let mut jumps = 0.0;
        while jumps < events || weight > WEIGHT_MIN {
            jumped = self.jump(&jumped, rate);
            jumps += 1.0;
            weight *= events / jumps;
            for (after, jumped) in after.iter_mut().zip(&jumped) {
                *after += jumped * weight;
            }
        }
        after
    }

    /// One event of the uniformised chain.
    fn jump(&self, state: &[f64], rate: f64) -> Vec<f64> {
        let mut next = vec![0.0; state.len()];
        let mut add = |place: usize, chance: f64| {
            if let Some(sum) = next.get_mut(place) {
                *sum += chance;
            }
        };
        for (lost, chance) in (0..=self.losable).zip(state) {
            let (more, less) = (self.loss_rate(lost) / rate, self.repair_rate(lost) / rate);
            let place = usize::from(lost);
            add(place + 1, chance * more);
            if lost > 0 {
                add(place - 1, chance * less);
            }
            add(place, chance * (1.0 - more - less).max(0.0));
        }
        // What is lost stays lost.
        let end = state.len().saturating_sub(1);
        add(end, state.last().copied().unwrap_or(0.0));
        next
    }
}

/// Events that one step of the solution expects: few enough for `exp`.
const STEP_EVENTS: f64 = 32.0;
/// Below this a further term changes no digit that is shown.
const WEIGHT_MIN: f64 = 1e-20;

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, relative: f64) -> bool {
        ((a - b) / b).abs() < relative
    }

    #[test]
    fn the_mean_is_that_of_published_tables() {
        // C. Ellison, 1993: half a failure a year, one repair crew; n of which k must work.
        let table = [
            (2, 1, 52.0, 107.00),
            (3, 1, 52.0, 3747.67),
            (3, 2, 52.0, 36.33),
            (4, 1, 52.0, 98405.50),
            (4, 2, 52.0, 955.50),
            (4, 3, 52.0, 18.50),
            (3, 1, 350.0, 164_270.33),
            (4, 1, 350.0, 28_788_554.16),
        ];
        for (n, k, repairs, years) in table {
            let chain = Chain::new(n, n - k, 0.5, repairs, Crews::One).unwrap();
            assert!(
                near(chain.mean_years_to_loss(), years, 2e-4),
                "{k} of {n}: {}",
                chain.mean_years_to_loss()
            );
        }
    }

    #[test]
    fn where_repairs_are_fast_the_quoted_formula_and_the_chain_agree_and_where_not_they_do_not() {
        for crews in [Crews::One, Crews::Each] {
            let fast = Chain::new(6, 2, 0.02, 365.0, crews).unwrap();
            assert!(near(fast.approximate_years_to_loss(), fast.mean_years_to_loss(), 0.01));
            let within = fast.loss_within(1.0);
            assert!(near(within, 1.0 / fast.mean_years_to_loss(), 0.02), "{within}");
            let slow = Chain::new(6, 2, 1.0, 2.0, crews).unwrap();
            assert!(!near(slow.approximate_years_to_loss(), slow.mean_years_to_loss(), 0.5));
        }
    }

    #[test]
    fn without_repairs_the_chain_is_the_binomial_of_losses() {
        // Almost none: one repair in a hundred million years.
        let chain = Chain::new(6, 2, 0.3, 1e-8, Crews::Each).unwrap();
        let lost = 1.0 - (-0.3_f64).exp();
        assert!(near(chain.loss_within(1.0), at_least_up(3, &[lost; 6]), 1e-6));
    }

    #[test]
    fn tiny_probabilities_keep_their_digits() {
        let chain = Chain::new(14, 4, 0.001, 8760.0, Crews::Each).unwrap();
        let (within, rate) = (chain.loss_within(1.0), 1.0 / chain.mean_years_to_loss());
        assert!(within > 0.0 && within < 1e-15 && near(within, rate, 0.01), "{within} {rate}");
    }

    #[test]
    fn a_longer_time_and_slower_repairs_lose_more_and_a_wider_budget_less() {
        let of = |m, repairs, years| Chain::new(6, m, 0.05, repairs, Crews::One).unwrap().loss_within(years);
        assert!(of(2, 52.0, 1.0) < of(2, 52.0, 5.0));
        assert!(of(2, 365.0, 1.0) < of(2, 52.0, 1.0));
        assert!(of(3, 52.0, 1.0) < of(2, 52.0, 1.0));
        assert!(of(2, 52.0, 10_000.0) <= 1.0);
    }

    #[test]
    fn rates_that_are_none_and_budgets_that_leave_no_site_are_refused() {
        for (losses, repairs) in [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)]
        {
            assert_eq!(Chain::new(6, 2, losses, repairs, Crews::One), Err(ChainError::Rate));
        }
        assert_eq!(Chain::new(3, 3, 0.1, 1.0, Crews::One), Err(ChainError::Losable { sites: 3, losable: 3 }));
    }

    #[test]
    fn the_tail_of_unequal_sites_is_that_of_every_case_counted() {
        let sites = [0.5, 0.9, 0.99, tier_availability(Tier::I), 0.3];
        for needed in 0..=5_u32 {
            let mut sum = 0.0;
            for up in (0..32_u32).filter(|up| up.count_ones() >= needed) {
                let of = |(place, p): (usize, &f64)| if up >> place & 1 == 1 { *p } else { 1.0 - p };
                sum += sites.iter().enumerate().map(of).product::<f64>();
            }
            let tail = at_least_up(usize::try_from(needed).unwrap(), &sites);
            assert!((tail - sum).abs() < 1e-12, "{needed}: {tail} {sum}");
        }
        assert_eq!(at_least_up(6, &sites), 0.0);
    }
}
