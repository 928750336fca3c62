//! What is said, and where: results on stdout, either text for people or, with
//! `--json`, one object or one object per line; everything else on stderr.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use serde_json::{Value, json};

use crate::exit::{Exit, Failure};

/// A line on stderr from work in the background, which no command waits for. That
/// nobody reads it stops nothing.
pub(crate) fn trouble(what: impl Display) {
    drop(writeln!(io::stderr(), "coffer: {what}"));
}

/// The two streams.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// The reader of stdout has gone: nobody listens, the work goes on.
    closed: Cell<bool>,
    /// Why a result could not be written.
    unwritten: RefCell<Option<io::Error>>,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, closed: Cell::new(false), unwritten: RefCell::new(None) }
    }

    /// Whether results are objects.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether remarks are unwanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether the reader of stdout has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether bars may be drawn.
    pub(crate) fn shows_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// A result for people; silent with `--json`.
    pub(crate) fn text(&self, line: impl Display) {
        if !self.json {
            self.line(&line.to_string());
        }
    }

    /// A result for programs; silent without `--json`.
    pub(crate) fn object(&self, value: &Value) {
        if self.json {
            self.line(&value.to_string());
        }
    }

    /// A remark for people that is no result.
    pub(crate) fn remark(&self, line: impl Display) {
        if !self.quiet {
            // A closed stderr is nobody's loss.
            drop(writeln!(io::stderr(), "{line}"));
        }
    }

    /// A text that is a program's input, whatever the flags.
    pub(crate) fn script(&self, text: &str) {
        self.line(text.trim_end());
    }

    /// Bytes of somebody else, as they are; silent with `--json`.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        if !self.json && !self.closed.get() {
            let mut stdout = io::stdout().lock();
            self.note(stdout.write_all(bytes).and_then(|()| stdout.flush()));
        }
    }

    fn line(&self, line: &str) {
        if self.closed.get() {
            return;
        }
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(line.as_bytes()).and_then(|()| stdout.write_all(b"\n"));
        self.note(written.and_then(|()| stdout.flush()));
    }

    fn note(&self, written: io::Result<()>) {
        let Err(error) = written else { return };
        self.closed.set(true);
        if error.kind() != io::ErrorKind::BrokenPipe {
            *self.unwritten.borrow_mut() = Some(error);
        }
    }

    /// The exit code of a command that ended with `exit`: results that were
    /// not written are a failure, whatever else went well.
    pub(crate) fn finish(&self, exit: Exit) -> Exit {
        if !self.closed.get() {
            self.note(io::stdout().flush());
        }
        let Some(error) = self.unwritten.take() else { return exit };
        let failure = Failure::new(format!("the results could not be written: {error}"))
            .safe("what was to be done is done; only what was to be told of it is not whole")
            .next("make room where the output goes; a command that only lists can be run again");
        self.failure(&failure);
        // Differences and failures stay what they are.
        if matches!(exit, Exit::Success | Exit::Partial) { Exit::Failure } else { exit }
    }

    /// Tells a failure, on stderr for people and with `--json` also as an
    /// object; gives its exit code back.
    pub(crate) fn failure(&self, failure: &Failure) -> Exit {
        self.object(&json!({
            "error": { "what": failure.what, "safe": failure.safe, "next": failure.next },
        }));
        let mut text = format!("error: {}", sentence(&failure.what));
        for (label, part) in [("safe", &failure.safe), ("next", &failure.next)] {
            if let Some(part) = part {
                text.push_str(&format!("\n{label}:  {}", sentence(part)));
            }
        }
        drop(writeln!(io::stderr(), "{text}"));
        failure.exit
    }
}

fn sentence(text: &str) -> String {
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{text}{end}")
}

/// Bytes for people, in powers of 1024.
pub(crate) fn bytes_text(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A rate for people; nothing for what has no bytes or took no time.
pub(crate) fn rate_text(bytes: u64, nanos: u64) -> String {
    let per_second = u128::from(bytes) * 1_000_000_000 / u128::from(nanos.max(1));
    match u64::try_from(per_second) {
        Ok(rate) if bytes > 0 && nanos > 0 => format!("{}/s", bytes_text(rate)),
        _ => String::new(),
    }
}

/// Seconds with milliseconds, out of nanoseconds.
pub(crate) fn seconds_text(nanos: u64) -> String {
    let millis = nanos / 1_000_000;
    format!("{}.{:03} s", millis / 1000, millis % 1000)
}

/// Seconds as a JSON number with millisecond digits.
pub(crate) fn seconds_json(nanos: u64) -> Value {
    let millis = u32::try_from(nanos / 1_000_000).unwrap_or(u32::MAX);
    json!(f64::from(millis) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_that_were_not_written_are_a_failure_unless_nobody_wanted_them() {
        let after = |kind: io::ErrorKind, exit| {
            let output = Output::new(false, true);
            output.note(Err(kind.into()));
            output.finish(exit)
        };
        assert_eq!(after(io::ErrorKind::StorageFull, Exit::Success), Exit::Failure);
        assert_eq!(after(io::ErrorKind::StorageFull, Exit::Differences), Exit::Differences);
        assert_eq!(after(io::ErrorKind::BrokenPipe, Exit::Success), Exit::Success);
    }

    #[test]
    fn rates_and_seconds_are_those_of_the_numbers() {
        assert_eq!(rate_text(1 << 20, 500_000_000), "2.00 MiB/s");
        assert_eq!(rate_text(0, 1), "");
        assert_eq!(seconds_text(1_234_567_890), "1.234 s");
        assert_eq!(seconds_json(1_234_567_890), json!(1.234));
    }
}
