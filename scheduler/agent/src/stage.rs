//! The door through which the agent's binary executes itself: a starter must
//! have one thread and nothing open, which only a fresh process has.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::confine;

/// The shim of one container.
pub(crate) const SHIM: &str = "coffer-stage-shim";
/// The starter, which becomes the container's program.
pub(crate) const STARTER: &str = "coffer-stage-starter";
/// One more command in a container that runs.
pub(crate) const ENTER: &str = "coffer-stage-enter";
/// Its second part.
pub(crate) const INSIDE: &str = "coffer-stage-inside";
/// The process that talks to a registry.
pub(crate) const PULL: &str = "coffer-stage-pull";

/// One layer, tried by the probe.
pub(crate) const ATTEMPT: &str = "coffer-stage-attempt";

/// Runs a stage if the arguments (the program's name among them) ask for one.
///
/// A binary that runs an [`Agent`](crate::Agent) calls this first in `main`,
/// before it makes a thread, and ends with the code if there is one:
///
/// ```
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     if let Some(code) = coffer_agent::stage(std::env::args_os()) {
///         return code;
///     }
///     ExitCode::SUCCESS
/// }
/// ```
pub fn stage(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    let stage = args.next()?;
    let run = match stage.to_str()? {
        SHIM => confine::shim::run,
        STARTER => confine::starter::run,
        ENTER => confine::enter::run,
        INSIDE => confine::enter::run_inside,
        PULL => crate::pull::fetcher::run,
        ATTEMPT => crate::probe::attempt,
        _ => return None,
    };
    Some(run(&PathBuf::from(args.next()?)))
}
