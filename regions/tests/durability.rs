//! The model against simulated lives of sites, drawn from a fixed seed: what
//! it says must lie within the bounds that so many lives allow.
#![expect(clippy::unwrap_used, reason = "a test may fail loudly, in its helpers too")]

use coffer_regions::durability::{Chain, Crews, at_least_up};

/// A small generator (xorshift64*), so that the same lives are drawn for ever.
struct Dice(u64);

impl Dice {
    /// Uniform in (0, 1).
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        (f64::from(u32::try_from(bits).unwrap()) + 0.5) / 4_294_967_296.0
    }

    fn exponential(&mut self, rate: f64) -> f64 {
        -self.uniform().ln() / rate
    }
}

/// One life: every site has its own clock. Shares nothing with the chain.
/// Returns when more than `m` were lost at once, or none until `years`.
fn life(dice: &mut Dice, n: usize, m: usize, losses: f64, repairs: f64, crews: Crews, years: f64) -> f64 {
    let mut next: Vec<(f64, bool)> = (0..n).map(|_| (dice.exponential(losses), true)).collect();
    let mut queue: Vec<usize> = Vec::new();
    loop {
        let due = next.iter().enumerate().min_by(|a, b| a.1.0.total_cmp(&b.1.0)).unwrap();
        let (site, (now, up)) = (due.0, *due.1);
        if now > years {
            return f64::INFINITY;
        }
        if up {
            queue.push(site);
            if queue.len() > m {
                return now;
            }
            // With one crew only the first of the queue is being worked on.
            let waits = crews == Crews::One && queue.len() > 1;
            next[site] = (if waits { f64::INFINITY } else { now + dice.exponential(repairs) }, false);
        } else {
            queue.retain(|lost| *lost != site);
            next[site] = (now + dice.exponential(losses), true);
            if let (Crews::One, Some(first)) = (crews, queue.first()) {
                next[*first] = (now + dice.exponential(repairs), false);
            }
        }
    }
}

const LIVES: u32 = 40_000;

#[test]
fn the_probability_of_loss_is_that_of_simulated_lives_within_four_standard_errors() {
    let mut dice = Dice(0x5eed_0001);
    let cases = [
        (6_u8, 2_u8, 0.5, 6.0, Crews::One),
        (6, 2, 0.5, 6.0, Crews::Each),
        (3, 2, 1.0, 4.0, Crews::Each),
        (14, 4, 0.4, 5.0, Crews::Each),
        (14, 4, 0.3, 12.0, Crews::One),
        (2, 1, 0.2, 20.0, Crews::One),
    ];
    for (n, m, losses, repairs, crews) in cases {
        let model = Chain::new(n, m, losses, repairs, crews).unwrap().loss_within(1.0);
        let mut lost = 0_u32;
        for _ in 0..LIVES {
            let end = life(&mut dice, n.into(), m.into(), losses, repairs, crews, 1.0);
            lost += u32::from(end.is_finite());
        }
        let seen = f64::from(lost) / f64::from(LIVES);
        let error = (model * (1.0 - model) / f64::from(LIVES)).sqrt();
        assert!(
            (seen - model).abs() < 4.0 * error,
            "{n} sites, {m} losable, {crews:?}: {seen} seen, {model}"
        );
        assert!(lost > 100, "enough were lost to say something: {lost}");
    }
}

#[test]
fn the_mean_time_to_loss_is_that_of_simulated_lives_within_four_standard_errors() {
    let mut dice = Dice(0x5eed_0002);
    for crews in [Crews::One, Crews::Each] {
        let (n, m, losses, repairs) = (6_u8, 2_u8, 0.8, 6.0);
        let model = Chain::new(n, m, losses, repairs, crews).unwrap().mean_years_to_loss();
        let lives = 10_000_u32;
        let ends: Vec<f64> = (0..lives)
            .map(|_| life(&mut dice, n.into(), m.into(), losses, repairs, crews, f64::MAX))
            .collect();
        let mean = ends.iter().sum::<f64>() / f64::from(lives);
        let variance = ends.iter().map(|end| (end - mean).powi(2)).sum::<f64>() / f64::from(lives - 1);
        let error = (variance / f64::from(lives)).sqrt();
        assert!((mean - model).abs() < 4.0 * error, "{crews:?}: {mean} seen, {model}, error {error}");
    }
}

#[test]
fn the_availability_of_unequal_sites_is_that_of_simulated_moments_within_four_standard_errors() {
    let mut dice = Dice(0x5eed_0003);
    let sites = [0.9, 0.8, 0.95, 0.7, 0.99, 0.6];
    for needed in 3..=6_usize {
        let model = at_least_up(needed, &sites);
        let moments = 50_000_u32;
        let mut good = 0_u32;
        for _ in 0..moments {
            let up = sites.iter().filter(|up| dice.uniform() < **up).count();
            good += u32::from(up >= needed);
        }
        let seen = f64::from(good) / f64::from(moments);
        let error = (model * (1.0 - model) / f64::from(moments)).sqrt();
        assert!((seen - model).abs() < 4.0 * error, "{needed} needed: {seen} seen, {model}");
    }
}
