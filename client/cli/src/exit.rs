//! How a command ends: its exit code, and what is told when it fails.

use std::any::Any;
use std::fmt::Display;

use coffer_client::keys::Unwitnessed;
use coffer_client::{CallError, GetError, LogError, PutError};

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
    /// Nothing wrong was found, and not all could be checked.
    Unchecked = 5,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::Partial => 3,
            Exit::Differences => 4,
            Exit::Unchecked => 5,
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

/// An error of any kind becomes a failure; its text says what happened. What
/// the service answered brings its own advice.
impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &dyn Any = &error;
        let call = any.downcast_ref::<CallError>().or_else(|| match any.downcast_ref::<PutError>() {
            Some(PutError::Call(call)) => Some(call),
            _ => match any.downcast_ref::<GetError>() {
                Some(GetError::Call(call)) => Some(call),
                _ => match any.downcast_ref::<LogError>() {
                    Some(LogError::Call(call)) => Some(call),
                    _ => None,
                },
            },
        });
        let failure = Self::new(&error);
        if let Some(LogError::Witnesses(unwitnessed)) = any.downcast_ref::<LogError>() {
            let next = match unwitnessed {
                Unwitnessed::OtherLog(_) => "name the policy that is for this log",
                Unwitnessed::NoQuorum { .. } => {
                    "ask the operator which witnesses the service shows its logs to, and why these are silent"
                }
            };
            let safe = "nothing was done; the checkpoint that this profile remembers was kept";
            return failure.exit(Exit::Differences).safe(safe).next(next);
        }
        // A log that was answered, and is not believed: the service is refused.
        if call.is_none() && any.is::<LogError>() {
            return failure
                .exit(Exit::Differences)
                .safe("nothing was done; the checkpoint that this profile remembers was kept")
                .next("do not write to this service before the cause is known");
        }
        match call.map(advice) {
            Some((safe, next)) => failure.safe(safe).next(next),
            None => failure,
        }
    }
}

/// What is safe after an answer of the service, and what to do.
fn advice(call: &CallError) -> (&'static str, &'static str) {
    match call {
        CallError::NotFound(_) => {
            ("nothing was changed", "`coffer bucket ls` and `coffer object ls BUCKET` show what is there")
        }
        CallError::AlreadyExists(_) => ("what exists was not touched", "choose another name"),
        CallError::PermissionDenied(_) | CallError::Unauthenticated(_) => (
            "nothing was changed; the refusal is in the audit log",
            "act as another --tenant, or ask the operator",
        ),
        CallError::Invalid(_) | CallError::Precondition(_) => {
            ("nothing was changed", "mend what is refused, then run it again")
        }
        CallError::Unavailable(_) => (
            "what was acknowledged is durable",
            "`coffer site ls` shows which sites answer; run it again when they are back",
        ),
        CallError::TimedOut(_) => {
            ("what was acknowledged is durable", "look whether it happened, then run it again")
        }
        CallError::Damaged(_) => (
            "damaged bytes were not returned",
            "bring back lost sites; if none is lost, restore from a backup elsewhere",
        ),
        CallError::Internal(_) | CallError::Answer(_) => {
            ("what was acknowledged is durable", "ask the operator to look at the service")
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_went_back_is_refused_and_one_that_fails_only_fails() {
        let back = Failure::from(LogError::WentBack { size: None, remembered: 7 });
        assert_eq!(back.exit, Exit::Differences);
        for call in [CallError::Internal("disk full".into()), CallError::Unavailable("sites".into())] {
            let failed = Failure::from(LogError::from(call));
            assert_eq!((failed.exit, failed.next.is_some()), (Exit::Failure, true));
        }
    }
}
