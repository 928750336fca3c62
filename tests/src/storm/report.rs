//! The command: so many seeds, a line of progress now and then, counts of
//! faults and operations at the end; a failing seed prints itself, its last
//! events and how to replay it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the command prints")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use coffer_custody::SystemClock;
use coffer_model::Clock;

use super::trace::FAULTS;
use super::{Counts, Outcome, storm};

/// What the command is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// How many seeds.
    pub seeds: u64,
    /// The first of them.
    pub from: u64,
    /// Seeds at once, each in a thread with a runtime of its own.
    pub jobs: u64,
    /// Go on after a failing seed.
    pub keep_going: bool,
    /// The summary as JSON on standard output.
    pub json: bool,
    /// Print every event.
    pub trace: bool,
    /// Where catalogues and disks of a seed lie while it runs.
    pub scratch: Option<PathBuf>,
}

/// How the command is called.
pub const USAGE: &str =
    "storm [--seeds N] [--from S | --seed S] [--jobs N] [--keep-going] [--json] [--trace] [--scratch DIR]";

impl Default for Arguments {
    fn default() -> Self {
        Self { seeds: 100, from: 0, jobs: 1, keep_going: false, json: false, trace: false, scratch: None }
    }
}

impl Arguments {
    /// Reads the words after `storm`.
    ///
    /// # Errors
    /// The word that is not understood.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|value| value.parse().ok()).ok_or_else(|| word.clone());
            match word.as_str() {
                "--seeds" => arguments.seeds = number()?,
                "--from" => arguments.from = number()?,
                "--seed" => (arguments.from, arguments.seeds) = (number()?, 1),
                "--jobs" => arguments.jobs = number()?.max(1),
                "--keep-going" => arguments.keep_going = true,
                "--json" => arguments.json = true,
                "--trace" => arguments.trace = true,
                "--scratch" => arguments.scratch = Some(words.next().ok_or(word)?.into()),
                _ => return Err(word),
            }
        }
        Ok(arguments)
    }

    /// Memory, where this system offers it as a directory.
    fn scratch(&self) -> PathBuf {
        let memory = Path::new("/dev/shm");
        let here = || if memory.is_dir() { memory.to_owned() } else { PathBuf::from("target") };
        self.scratch.clone().unwrap_or_else(here)
    }
}

#[derive(Default)]
struct Tally {
    seeds: u64,
    events: u64,
    faults: Counts,
    operations: Counts,
    failed: BTreeMap<u64, String>,
    /// Events, trace and end of the last few seeds, for whoever replays them.
    digests: BTreeMap<u64, String>,
}

impl Tally {
    /// Nothing yet, of every kind of fault.
    fn new() -> Self {
        Self { faults: FAULTS.map(|kind| (kind.to_owned(), 0)).into(), ..Self::default() }
    }

    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.events += outcome.events;
        for (total, part) in
            [(&mut self.faults, &outcome.faults), (&mut self.operations, &outcome.operations)]
        {
            part.iter().for_each(|(kind, count)| *total.entry(kind.clone()).or_default() += count);
        }
        let told = format!("{} {} {}", outcome.events, outcome.trace, outcome.state);
        self.digests.insert(outcome.seed, told);
        if self.digests.len() > 100 {
            self.digests.pop_first();
        }
        if let Some(violation) = &outcome.violation {
            self.failed.insert(outcome.seed, format!("{}: {}", violation.checker, violation.finding));
        }
    }
}

/// Runs the seeds; whether every promise held.
pub fn run(arguments: &Arguments) -> bool {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let tally = Mutex::new(Tally::new());
    let clock = SystemClock;
    let start = clock.monotonic();
    let scratch = arguments.scratch();
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= arguments.seeds {
                return;
            }
            let outcome = storm(arguments.from + number, &scratch, arguments.trace);
            if outcome.violation.is_some() {
                print_failure(&outcome);
                stop.store(!arguments.keep_going, Ordering::Relaxed);
            }
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.add(&outcome);
            progress(&tally, arguments, clock.monotonic().saturating_sub(start).as_secs_f64());
        }
    };
    std::thread::scope(|scope| {
        (1..arguments.jobs).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = clock.monotonic().saturating_sub(start).as_secs_f64();
    if arguments.json {
        print_json(&tally, arguments, seconds)
    } else {
        print_summary(&tally, seconds)
    }
    tally.failed.is_empty()
}

fn progress(tally: &Tally, arguments: &Arguments, seconds: f64) {
    let every = (arguments.seeds / 50).clamp(1, 200);
    if tally.seeds.is_multiple_of(every) && arguments.seeds > 1 {
        let rate = rate(tally.seeds, seconds);
        let left = (arguments.seeds - tally.seeds) as f64 / rate.max(1e-9);
        eprintln!(
            "{} of {} seeds, {rate:.1} a second, {left:.0} s left, {} failed",
            tally.seeds,
            arguments.seeds,
            tally.failed.len()
        );
    }
}

fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-9)
}

fn print_failure(outcome: &Outcome) {
    let Some(violation) = &outcome.violation else { return };
    eprintln!("--- seed {} fails: {}: {}", outcome.seed, violation.checker, violation.finding);
    outcome.recent.iter().for_each(|line| eprintln!("{line}"));
    eprintln!("--- seed {} fails: {}: {}", outcome.seed, violation.checker, violation.finding);
    eprintln!("replay: cargo run -p coffer-tests --release -- storm --seed {} --trace", outcome.seed);
}

fn print_summary(tally: &Tally, seconds: f64) {
    for (title, counts) in [("faults", &tally.faults), ("operations", &tally.operations)] {
        println!("{title}:");
        counts.iter().for_each(|(kind, count)| println!("  {count:>10}  {kind}"));
    }
    let (total, events) = (tally.faults.values().sum::<u64>(), tally.events);
    println!(
        "{} seeds, {total} faults, {events} events in {seconds:.0} s ({:.1} seeds a second); {} failed",
        tally.seeds,
        rate(tally.seeds, seconds),
        tally.failed.len()
    );
    tally.failed.iter().for_each(|(seed, finding)| println!("  seed {seed}: {finding}"));
}

fn print_json(tally: &Tally, arguments: &Arguments, seconds: f64) {
    let failed: BTreeMap<String, &String> =
        tally.failed.iter().map(|(seed, finding)| (seed.to_string(), finding)).collect();
    let digests: BTreeMap<String, &String> =
        tally.digests.iter().map(|(seed, told)| (seed.to_string(), told)).collect();
    let summary = serde_json::json!({
        "from": arguments.from,
        "seeds": tally.seeds,
        "seconds": seconds,
        "events": tally.events,
        "faults": tally.faults,
        "operations": tally.operations,
        "failed": failed,
        "digests": digests,
    });
    println!("{summary:#}");
}
