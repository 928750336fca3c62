//! What takes its time.

use std::time::{Duration, Instant};

use crate::process::STUCK;

/// Looks again and again until it is so.
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < STUCK, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
