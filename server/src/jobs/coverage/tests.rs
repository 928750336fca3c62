//! The figure is never better than the truth, whatever the clock does.

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const PROMISED: Duration = Duration::from_secs(30 * 24 * 3600);
const START: Timestamp = Timestamp(1_800_000_000_000_000_000);

fn cursor(byte: u8) -> Option<ScrubCursor> {
    Some(ScrubCursor([byte; 16]))
}

fn step(bytes: u64, next: Option<ScrubCursor>) -> Progress {
    Progress { bytes, records: 1, findings: 0, next, at_work: Duration::from_secs(1) }
}

#[test]
fn the_age_counts_from_the_start_of_the_last_pass_until_the_next_has_ended() {
    let mut ledger = SiteLedger::unknown(START);
    assert_eq!(ledger.coverage(START, PROMISED), Coverage::Unknown);
    ledger.run(START);
    assert!(!ledger.advance(None, step(10, cursor(1)), START.plus(DAY)));
    assert_eq!(ledger.coverage(START.plus(DAY), PROMISED), Coverage::Unknown);
    assert!(ledger.advance(cursor(1), step(10, None), START.plus(DAY * 2)));
    assert_eq!(ledger.coverage(START.plus(DAY * 2), PROMISED), Coverage::Kept(DAY * 2));
    ledger.run(START.plus(DAY * 2));
    ledger.advance(None, step(10, cursor(2)), START.plus(DAY * 29));
    assert_eq!(ledger.coverage(START.plus(DAY * 30), PROMISED), Coverage::Kept(DAY * 30));
    assert_eq!(ledger.coverage(START.plus(DAY * 31), PROMISED), Coverage::Slipped(DAY * 31));
}

#[test]
fn a_step_from_a_place_that_the_pass_has_left_is_not_counted() {
    let mut ledger = SiteLedger::unknown(START);
    ledger.run(START);
    ledger.advance(None, step(10, cursor(1)), START);
    assert!(!ledger.advance(None, step(10, None), START));
    assert_eq!(ledger.running.unwrap().bytes, 10);
    ledger.forget(START);
    assert!(!ledger.advance(cursor(1), step(10, None), START), "a pass that was forgotten does not end");
}

#[test]
fn a_pass_that_will_end_says_when() {
    let mut ledger = SiteLedger::unknown(START);
    ledger.run(START);
    assert_eq!(ledger.predicted_end(START, 100), None);
    ledger.advance(None, step(10, cursor(1)), START);
    let end = START.plus(Duration::from_secs(9));
    assert_eq!(ledger.predicted_end(START, 100), Some(end), "ten bytes a second");
    assert_eq!(ledger.predicted_end(START, 5), Some(START), "a site that shrank");
}

#[test]
fn a_ledger_of_another_format_or_cut_short_counts_as_none() {
    let mut ledger = SiteLedger::unknown(START);
    ledger.run(START).cursor = cursor(200);
    let stored = serde_json::to_vec(&ledger).unwrap();
    assert_eq!(SiteLedger::parse(&stored), Some(ledger));
    for length in 0..stored.len() {
        assert_eq!(SiteLedger::parse(&stored[..length]), None);
    }
    let newer = String::from_utf8(stored).unwrap().replace("\"format\":2", "\"format\":3");
    assert_eq!(SiteLedger::parse(newer.as_bytes()), None);
}

#[test]
fn a_ledger_of_format_1_is_read_as_it_was_written() {
    let stored = br#"{"format":1,"seen":1800000000000000002,"running":{"started":1800000000000000001,"cursor":[0,0,0,0,0,0,0,1,0,0,0,0,0,0,2,88],"bytes":7,"records":2,"findings":1,"at_work":{"secs":3,"nanos":4}},"last":{"started":1799999999000000000,"ended":1799999999500000000,"bytes":70,"records":20,"findings":0},"alarmed":true}"#;
    let ledger = SiteLedger::parse(stored).unwrap();
    assert_eq!(ledger.since, Timestamp(1_799_999_999_000_000_000), "the start of the last whole pass");
    assert_eq!(SiteLedger::parse(&serde_json::to_vec(&ledger).unwrap()), Some(ledger));
    assert_eq!((ledger.running.unwrap().bytes, ledger.last.unwrap().records, ledger.alarmed), (7, 20, true));
}

#[test]
fn a_small_site_is_read_once_a_day_and_a_late_one_at_once() {
    let mut ledger = SiteLedger::unknown(START);
    assert!(ledger.due(START, PROMISED));
    ledger.run(START);
    ledger.advance(None, step(10, None), START);
    assert!(!ledger.due(START.plus(DAY / 2), PROMISED));
    assert!(ledger.due(START.plus(DAY), PROMISED));
    assert!(ledger.due(START.plus(DAY * 40), PROMISED));
}

#[test]
fn the_clock_is_followed_ahead_and_not_back() {
    let (mut time, turn) = Time::start(START, Duration::ZERO, None);
    assert_eq!(turn, Turn::Steady);
    let hour = Duration::from_secs(3600);
    assert_eq!(time.read(START.plus(hour), hour), (START.plus(hour), Turn::Steady));
    // A step back that setting the clock right explains: time stands on its own feet.
    assert_eq!(time.read(START.plus(hour), hour + TOLERANCE), (START.plus(hour + TOLERANCE), Turn::Steady));
    assert_eq!(time.read(START.plus(DAY * 9), hour * 2), (START.plus(DAY * 9), Turn::Steady));
    assert_eq!(time.read(START.plus(hour * 3), hour * 3), (START.plus(hour * 3), Turn::Back));
    let later = Some(START.plus(DAY));
    assert_eq!(Time::start(START, Duration::ZERO, later).1, Turn::Back, "the ledger is from the future");
}

/// What happens to a site, its service and its clock.
#[derive(Clone, Debug)]
enum Event {
    /// Time passes.
    Wait(u64),
    /// The wall clock is set, by so many seconds, while the service runs.
    Set(i64),
    /// A step of a pass; whether it is the last one.
    Step(bool),
    /// The service stops, and starts again after so many seconds.
    Restart(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0_u64..40 * 86_400).prop_map(Event::Wait),
        (-50_i64 * 86_400..50 * 86_400).prop_map(Event::Set),
        (-400_i64..400).prop_map(Event::Set),
        any::<bool>().prop_map(Event::Step),
        (0_u64..40 * 86_400).prop_map(Event::Restart),
    ]
}

proptest! {
    /// The truth is kept beside the ledger in a time that nobody can set. A
    /// service that runs reads its clock now and then; here after every event.
    #[test]
    fn no_moved_clock_makes_the_figure_better_than_the_truth(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut truth = 0_i64;
        let mut offset = 0_i64;
        let mut restarts = 0;
        let mut begun = None;
        let mut complete = None;
        let wall = |truth: i64, offset: i64| {
            let seconds = 1_800_000_000_i64 + truth + offset;
            Timestamp(u64::try_from(seconds).unwrap() * 1_000_000_000)
        };
        let monotonic = |truth: i64| Duration::from_secs(u64::try_from(truth).unwrap());
        let (mut time, _) = Time::start(wall(0, 0), Duration::ZERO, None);
        let mut ledger = SiteLedger::unknown(wall(0, 0));
        for event in events {
            match event {
                Event::Wait(seconds) => truth += i64::try_from(seconds).unwrap(),
                Event::Set(seconds) => offset += seconds,
                Event::Step(last) => {
                    let (now, _) = time.read(wall(truth, offset), monotonic(truth));
                    if ledger.running.is_none() {
                        begun = Some(truth);
                    }
                    let from = ledger.run(now).cursor;
                    if ledger.advance(from, step(1, if last { None } else { cursor(1) }), now) {
                        complete = begun;
                    }
                }
                Event::Restart(seconds) => {
                    let stored = SiteLedger::parse(&serde_json::to_vec(&ledger).unwrap()).unwrap();
                    truth += i64::try_from(seconds).unwrap();
                    restarts += 1;
                    let (started, turn) = Time::start(wall(truth, offset), monotonic(truth), Some(stored.seen));
                    (time, ledger) = (started, stored);
                    if turn == Turn::Back {
                        ledger.forget(wall(truth, offset));
                    }
                }
            }
            let (now, turn) = time.read(wall(truth, offset), monotonic(truth));
            if turn == Turn::Back {
                ledger.forget(now);
            }
            ledger.seen = now;
            if let Coverage::Kept(age) = ledger.coverage(now, PROMISED) {
                let Some(complete) = complete else { panic!("a pass is claimed that never ended") };
                let real = monotonic(truth - complete);
                // Each run may be late by the tolerance once.
                let slack = TOLERANCE * (restarts + 1);
                prop_assert!(age + slack >= real, "said {age:?}, is {real:?}");
            }
        }
    }

    #[test]
    fn a_pass_stays_below_its_rate_and_leaves_its_site_three_quarters_of_the_time(
        rate in 1_u64..1 << 32,
        steps in prop::collection::vec((0_u64..64 << 20, 0_u64..10_000), 1..50),
    ) {
        let pace = Pace(NonZeroU64::new(rate).unwrap());
        let (mut bytes, mut busy, mut all) = (0_u128, Duration::ZERO, Duration::ZERO);
        for (read, millis) in steps {
            let took = Duration::from_millis(millis);
            bytes += u128::from(read);
            busy += took;
            all += took + pace.pause(read, took);
        }
        let within = u128::from(rate) * all.as_nanos() / 1_000_000_000;
        prop_assert!(bytes <= within + 50 + u128::from(rate) / 1_000_000_000 * 50);
        prop_assert!(busy * 4 <= all);
    }
}

#[test]
fn a_ledger_of_format_2_is_read_as_it_was_written() {
    let stored = br#"{"format":2,"seen":1800000000000000002,"running":null,"last":null,"alarmed":false,"since":1799000000000000000}"#;
    let ledger = SiteLedger::parse(stored).unwrap();
    assert_eq!(serde_json::to_vec(&ledger).unwrap(), stored);
    assert_eq!(ledger.since, Timestamp(1_799_000_000_000_000_000));
}

#[test]
fn a_site_of_which_no_pass_ever_ended_is_late_after_the_same_time() {
    let mut ledger = SiteLedger::unknown(START);
    ledger.run(START);
    ledger.advance(None, step(10, cursor(1)), START.plus(DAY));
    assert!(!ledger.is_late(START.plus(PROMISED), PROMISED));
    assert!(ledger.is_late(START.plus(PROMISED + DAY), PROMISED));
    assert_eq!(ledger.coverage(START.plus(PROMISED + DAY), PROMISED), Coverage::Unknown);
}

#[test]
fn a_clock_that_is_set_back_again_and_again_does_not_keep_the_alarm_away() {
    let mut ledger = SiteLedger::unknown(START);
    for days in 1..=4 {
        // Nine days pass, and somebody says that they did not.
        ledger.seen = START.plus(DAY * 9);
        assert!(!ledger.is_late(ledger.seen, PROMISED) || days == 4, "{days}");
        ledger.forget(START);
    }
    assert!(ledger.is_late(START, PROMISED), "thirty-six days");
}
