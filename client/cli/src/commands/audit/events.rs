//! Events of a log, shown: a line for people, an object for programs, or OCSF.

use std::io;
use std::path::Path;

use coffer_client::audit::{EventFilter, LeafRange, LogEvent};
use coffer_model::Timestamp;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::Failure;
use crate::files::{self, Sink};
use crate::flags::OcsfFlags;
use crate::output::Output;

use super::syslog::Syslog;

/// The way out for OCSF.
enum Way {
    File(Sink),
    Syslog(Syslog),
    /// The reader of stdout or of a pipe has gone.
    Gone,
}

/// Where events go.
pub(super) struct Events<'a> {
    output: &'a Output,
    ocsf: Option<Way>,
    shown: u64,
}

impl<'a> Events<'a> {
    pub(super) fn open(context: &Context<'a>, flags: &OcsfFlags) -> Result<Self, Failure> {
        let ocsf = match (&flags.ocsf, &flags.syslog) {
            (Some(file), _) => Some(Way::File(Sink::open(file)?)),
            (None, Some(target)) => Some(Way::Syslog(Syslog::connect(target).map_err(unsent)?)),
            (None, None) => None,
        };
        Ok(Self { output: context.output, ocsf, shown: 0 })
    }

    pub(super) fn show_range(
        &mut self,
        range: &LeafRange,
        filter: &EventFilter,
        log: &str,
    ) -> Result<(), Failure> {
        for (index, leaf) in (range.first..).zip(&range.leaves) {
            self.show(index, leaf, filter, log)?;
        }
        Ok(())
    }

    pub(super) fn show(
        &mut self,
        index: u64,
        leaf: &[u8],
        filter: &EventFilter,
        log: &str,
    ) -> Result<(), Failure> {
        let event = LogEvent::read(index, leaf)?;
        if !filter.admits(&event) {
            return Ok(());
        }
        self.shown += 1;
        match &mut self.ocsf {
            Some(Way::File(sink)) => {
                let written = sink.write(format!("{}\n", event.to_ocsf(log)).as_bytes());
                self.noted(written)
            }
            Some(Way::Gone) => Ok(()),
            Some(Way::Syslog(syslog)) => syslog.send(&event, &event.to_ocsf(log).to_string()).map_err(unsent),
            None => {
                self.output.object(&object(&event));
                self.output.text(line(&event));
                Ok(())
            }
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        match &mut self.ocsf {
            Some(Way::File(sink)) => {
                let flushed = sink.flush();
                self.noted(flushed)
            }
            Some(Way::Syslog(_) | Way::Gone) | None => Ok(()),
        }
    }

    /// A reader that has gone is no failure, as it is none for lines of text.
    fn noted(&mut self, written: io::Result<()>) -> Result<(), Failure> {
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.ocsf = Some(Way::Gone),
            written => written.map_err(files::at(Path::new("the file of the events")))?,
        }
        Ok(())
    }

    /// Whether somebody took what was shown.
    pub(super) fn is_heard(&self) -> bool {
        match &self.ocsf {
            Some(way) => !matches!(way, Way::Gone),
            None => !self.output.is_closed(),
        }
    }

    /// How many were shown.
    pub(super) fn finish(self) -> Result<u64, Failure> {
        if let Some(Way::File(sink)) = self.ocsf {
            sink.finish()?;
        }
        Ok(self.shown)
    }
}

fn unsent(error: io::Error) -> Failure {
    Failure::new(format!("the syslog takes no events: {error}"))
        .safe("what was sent before is with it; the log itself has all")
        .next(
            "mend the way to it and run this again, with --follow --resume FILE so that nothing is left out",
        )
}

fn time_of(event: &LogEvent) -> Timestamp {
    Timestamp(event.time_ms.saturating_mul(1_000_000))
}

fn object(event: &LogEvent) -> Value {
    json!({
        "index": event.index,
        "time": time_of(event).to_string(),
        "operation": event.operation,
        "outcome": event.outcome,
        "actor": event.actor,
        "subject": event.subject,
        "leaf_hash": event.leaf_hash,
    })
}

/// Control characters of a leaf never reach a terminal.
fn line(event: &LogEvent) -> String {
    let plain =
        |text: &str| text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    format!(
        "{:>8}  {:<24}  {:<16} {:<11} {}  {}",
        event.index,
        time_of(event).to_string(),
        plain(&event.operation),
        plain(&event.outcome),
        plain(&event.actor),
        plain(&event.subject)
    )
}
