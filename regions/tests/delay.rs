//! A site that fetches what it is asked for is found out by its delay: the
//! two promised figures, over seeds, with heavy-tailed delays.
#![expect(clippy::unwrap_used, reason = "cases of tests: what fails here fails the test")]

mod seeded;

use std::time::Duration;

use coffer_regions::{BASELINE_MAX, Baseline, DelayVerdict, RoundPlan};
use seeded::{Chance, LINES, Line, Tally};

const ADDED: Duration = Duration::from_millis(20);

/// Learns until a round can be planned, as the service does.
fn enrol(line: &Line, chance: &mut Chance, first: usize) -> RoundPlan {
    let mut delays = line.delays(chance, 0.0, first);
    loop {
        match Baseline::learn(delays.clone()).unwrap().plan(ADDED) {
            Ok(plan) => return plan,
            Err(error) => assert!(delays.len() < BASELINE_MAX, "{}: {error}", line.name),
        }
        delays.extend(line.delays(chance, 0.0, 256));
    }
}

/// Learns baselines of one line and judges rounds against each.
fn rounds(line: &Line, seed: u64, baselines: u64, each: u32, added: f64) -> Tally {
    let mut tally = Tally::default();
    for n in 0..baselines {
        let mut chance = Chance(seed << 32 | n);
        let plan = enrol(line, &mut chance, [256, 512, 1024][usize::try_from(n % 3).unwrap()]);
        tally.answers = tally.answers.max(plan.answers());
        for _ in 0..each {
            let judge = |delays: Vec<Duration>| plan.judge(&delays).unwrap() == DelayVerdict::Later;
            tally.honest += 1;
            tally.alarms += u32::from(judge(line.delays(&mut chance, 0.0, plan.answers())));
            tally.relayed += 1;
            tally.found += u32::from(judge(line.delays(&mut chance, added, plan.answers())));
        }
    }
    tally
}

#[test]
fn of_a_hundred_thousand_rounds_a_relay_is_found_in_99_of_100_and_an_honest_site_blamed_in_1_of_1000() {
    let mut all = Tally::default();
    for (seed, line) in (1..).zip(&LINES) {
        let tally = rounds(line, seed, 30, 420, 20.0);
        assert!(tally.detection() >= 0.99, "{}: {} of {}", line.name, tally.found, tally.relayed);
        assert!(tally.false_alarms() <= 0.001, "{}: {} of {}", line.name, tally.alarms, tally.honest);
        all = all.and(tally);
    }
    assert!(all.honest >= 100_000 && all.relayed >= 100_000, "{} and {}", all.honest, all.relayed);
}

#[test]
fn a_longer_way_is_found_at_least_as_often() {
    for (seed, line) in (101..).zip(&LINES) {
        for added in [30.0, 100.0] {
            assert!(rounds(line, seed, 3, 100, added).detection() >= 0.99, "{} + {added} ms", line.name);
        }
    }
}

#[test]
fn drift_in_small_steps_is_held_against_the_first_day_and_not_followed() {
    let line = LINES[2];
    let mut chance = Chance(7);
    let plan = enrol(&line, &mut chance, 512);
    let verdict =
        |chance: &mut Chance, added| plan.judge(&line.delays(chance, added, plan.answers())).unwrap();
    let steps: Vec<DelayVerdict> =
        (0..=40_u32).map(|step| verdict(&mut chance, f64::from(step) / 2.0)).collect();
    assert_eq!(steps[0], DelayVerdict::AsEnrolled);
    assert_eq!(steps[40], DelayVerdict::Later, "twenty milliseconds are late however slowly they came");
}
