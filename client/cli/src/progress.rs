//! Bars on stderr, where it is a terminal; in a process that another one
//! watches, lines on stdout instead.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_client::backup::Progress;
use coffer_model::Clock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::output::Output;

/// One bar at a time.
pub(crate) struct Bars {
    visible: bool,
    current: Mutex<ProgressBar>,
}

impl Bars {
    pub(crate) fn new(output: &Output) -> Arc<Self> {
        Arc::new(Self { visible: output.shows_progress(), current: Mutex::new(ProgressBar::hidden()) })
    }

    fn bar(&self) -> ProgressBar {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says where the current stage is, for stages that count in totals.
    pub(crate) fn position(&self, bytes: u64) {
        self.bar().set_position(bytes);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar().finish_and_clear();
    }
}

const WITH_TOTAL: &str =
    "{msg:<22} [{bar:30}] {binary_bytes:>11}/{binary_total_bytes} {binary_bytes_per_sec:>13} eta {eta}";
const WITHOUT_TOTAL: &str = "{msg:<22} {spinner} {binary_bytes:>11} {binary_bytes_per_sec:>13} {elapsed}";

impl Progress for Bars {
    fn stage(&self, name: &str, total_bytes: Option<u64>, _total_items: Option<u64>) {
        if !self.visible {
            return;
        }
        let bar = total_bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let template = if total_bytes.is_some() { WITH_TOTAL } else { WITHOUT_TOTAL };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.finish_and_clear();
        *current = bar;
    }

    fn advance(&self, bytes: u64, _items: u64) {
        self.bar().inc(bytes);
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Progress as events on stdout, for a process that watches this one.
pub(crate) struct Events {
    clock: Arc<dyn Clock>,
    state: Mutex<EventState>,
}

#[derive(Default)]
struct EventState {
    stage: String,
    bytes: u64,
    last: Duration,
}

impl Events {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }
}

impl Progress for Events {
    fn stage(&self, name: &str, total_bytes: Option<u64>, _total_items: Option<u64>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = EventState { stage: name.to_owned(), bytes: 0, last: self.clock.monotonic() };
        print_event(&json!({ "event": "stage", "stage": name, "total_bytes": total_bytes }));
    }

    fn advance(&self, bytes: u64, _items: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += bytes;
        let now = self.clock.monotonic();
        // Ten lines a second are as smooth as a bar can show.
        if now.saturating_sub(state.last) >= Duration::from_millis(100) {
            state.last = now;
            print_event(&json!({ "event": "progress", "stage": state.stage, "bytes": state.bytes }));
        }
    }
}

/// One event as a line on stdout; a watcher that has gone misses it.
pub(crate) fn print_event(event: &serde_json::Value) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    drop(stdout.write_all(format!("{event}\n").as_bytes()).and_then(|()| stdout.flush()));
}
