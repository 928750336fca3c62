//! How a command ends: its exit code, and what is told when it fails.

use std::fmt::Display;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Success = 0,
    /// Nothing, or not all of it, was done.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Done, but for single entries that are listed.
    Partial = 3,
    /// Differences were found, or a verification failed.
    Differences = 4,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Partial => 3,
            Exit::Differences => 4,
        })
    }
}

/// What happened, what is safe, and what to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) safe: Option<String>,
    pub(crate) next: Option<String>,
    pub(crate) exit: Exit,
}

impl Failure {
    pub(crate) fn new(what: impl Display) -> Self {
        Self { what: what.to_string(), safe: None, next: None, exit: Exit::Failure }
    }

    pub(crate) fn usage(what: impl Display) -> Self {
        Self { exit: Exit::Usage, ..Self::new(what) }.safe("nothing was done")
    }

    pub(crate) fn safe(mut self, safe: impl Into<String>) -> Self {
        self.safe = Some(safe.into());
        self
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

/// An error of any kind becomes a failure; its text says what happened.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// Adds what is safe and what to do next to whatever went wrong.
pub(crate) trait Advise<T> {
    fn advise(self, safe: &str, next: &str) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Advise<T> for Result<T, E> {
    fn advise(self, safe: &str, next: &str) -> Result<T, Failure> {
        self.map_err(|error| error.into().safe(safe).next(next))
    }
}
