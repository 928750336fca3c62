//! The table of detection and false alarms by added latency, over seeds:
//! `cargo run -p coffer-regions --release --example delays`.
#![expect(clippy::print_stdout, reason = "it prints a table")]

#[path = "../tests/seeded/mod.rs"]
mod seeded;

use std::error::Error;
use std::time::Duration;

use coffer_regions::{Baseline, DelayVerdict};
use seeded::{Chance, LINES, Tally};

const BASELINES: u64 = 60;
const EACH: u32 = 2_000;
const ADDED: [f64; 5] = [10.0, 15.0, 20.0, 30.0, 50.0];

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{} honest rounds for each line, and as many for each added latency",
        BASELINES * u64::from(EACH)
    );
    println!("{:<22} {:>7} {:>12}  detection at + {ADDED:?} ms", "jitter, line", "answers", "false alarms");
    let mut all = Tally::default();
    for (seed, line) in (1_u64..).zip(&LINES) {
        let mut honest = Tally::default();
        let mut relayed = [Tally::default(); ADDED.len()];
        for n in 0..BASELINES {
            let mut chance = Chance(seed << 32 | n);
            let learned = Baseline::learn(line.delays(&mut chance, 0.0, 512))?;
            let plan = learned.plan(Duration::from_millis(20))?;
            honest.answers = honest.answers.max(plan.answers());
            for _ in 0..EACH {
                let mut late = |added| {
                    let verdict = plan.judge(&line.delays(&mut chance, added, plan.answers()));
                    u32::from(verdict == Some(DelayVerdict::Later))
                };
                honest.honest += 1;
                honest.alarms += late(0.0);
                for (tally, added) in relayed.iter_mut().zip(ADDED) {
                    tally.relayed += 1;
                    tally.found += late(added);
                }
            }
        }
        all = all.and(honest).and(relayed[2]);
        let detection: Vec<String> =
            relayed.iter().map(|tally| format!("{:8.3} %", tally.detection() * 100.0)).collect();
        let alarms = honest.false_alarms() * 100.0;
        println!("{:<22} {:>7} {alarms:>10.4} %  {}", line.name, honest.answers, detection.join(" "));
    }
    println!(
        "all lines, + 20 ms: {} rounds judged, false alarms {:.5}, detection {:.5}",
        all.honest + all.relayed,
        all.false_alarms(),
        all.detection()
    );
    Ok(())
}
