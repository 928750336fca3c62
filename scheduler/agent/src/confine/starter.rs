//! The starter: the agent's own binary, executed once more, with one thread and
//! no state. It puts on every layer of its plan, in an order in which none
//! locks out the next, and then becomes the pod's program. Whatever it cannot
//! do ends it before that: a pod never runs with less than was planned.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::LinkNameSpaceType;

use super::plan::{Plan, Program, Root};
use super::unshare::{Space, leave};
use super::{landlock, memory_files, mounts, privileges, seccomp};
use crate::files;
use crate::layer::Layer;

/// A step of the starter that failed, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The kernel refused.
    #[error("cannot {step}{}: {cause}", place.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default())]
    Refused {
        /// What was tried.
        step: &'static str,
        /// On what.
        place: Option<PathBuf>,
        /// What the kernel said.
        cause: io::Error,
    },
    /// Landlock does not hold.
    #[error("landlock: {0}")]
    Landlock(#[from] landlock::LandlockError),
    /// The filter of system calls does not hold.
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccomp::SeccompError),
}

/// Names the step whose result this is.
pub(crate) trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, StepError>;
    fn step_at(self, step: &'static str, place: &Path) -> Result<T, StepError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, StepError> {
        self.map_err(|cause| StepError::Refused { step, place: None, cause: cause.into() })
    }

    fn step_at(self, step: &'static str, place: &Path) -> Result<T, StepError> {
        self.map_err(|cause| StepError::Refused { step, place: Some(place.to_owned()), cause: cause.into() })
    }
}

/// Runs the plan in the file `path`; returns only if it failed. Standard input
/// is a socket to the shim: it closes when the program has started, and takes
/// the reason if it has not.
pub(crate) fn run(path: &Path) -> std::process::ExitCode {
    let report = match take_report() {
        Ok(report) => report,
        Err(error) => {
            tell(&mut io::stderr(), &error);
            return std::process::ExitCode::from(crate::confine::shim::NOT_STARTED);
        }
    };
    let error = match start(path) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    tell(&mut std::fs::File::from(report), &error);
    std::process::ExitCode::from(crate::confine::shim::NOT_STARTED)
}

fn tell(to: &mut dyn Write, error: &StepError) {
    // Nobody is left to be told that telling failed.
    drop(write!(to, "{error}"));
}

/// Moves the socket out of the way of the program, which gets `/dev/null`.
pub(crate) fn take_report() -> Result<OwnedFd, StepError> {
    let report =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).step("keep the way to the shim")?;
    let null = files::open(Path::new("/dev/null")).step("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).step("close standard input")?;
    Ok(report)
}

fn start(path: &Path) -> Result<std::convert::Infallible, StepError> {
    let plan: Plan = files::read_json(path)
        .and_then(|plan| plan.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)))
        .step_at("read the plan", path)?;
    enter_groups(&plan)?;
    enter_spaces(&plan)?;
    if plan.layers.has(Layer::Pid) {
        // While the machine's own /proc is there.
        memory_files::refuse().step("refuse files in memory that can be run")?;
    }
    if plan.layers.has(Layer::Mount) {
        mounts::enter_root(&plan)?;
    }
    confine(&plan)?;
    Err(become_program(&plan.root, &plan.program, plan.layers.has(Layer::Mount)))
}

pub(crate) fn enter_groups(plan: &Plan) -> Result<(), StepError> {
    if plan.layers.has(Layer::Cgroup) {
        for group in &plan.cgroups {
            files::set(group, "0").step_at("enter the control group", group)?;
        }
    }
    Ok(())
}

fn enter_spaces(plan: &Plan) -> Result<(), StepError> {
    if let Some(network) = plan.network.as_ref().filter(|_| plan.layers.has(Layer::Network)) {
        let space = files::open(network).step_at("open the network", network)?;
        rustix::thread::move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&space),
            Some(LinkNameSpaceType::Network),
        )
        .step_at("enter the network", network)?;
    }
    let wanted = [
        (Layer::Mount, Space::Mount),
        (Layer::Ipc, Space::Ipc),
        (Layer::Uts, Space::Uts),
        (Layer::CgroupView, Space::Cgroup),
    ];
    let spaces: Vec<Space> =
        wanted.into_iter().filter(|(layer, _)| plan.layers.has(*layer)).map(|(_, space)| space).collect();
    leave(&spaces).step("leave the machine's name spaces")?;
    if plan.layers.has(Layer::Uts) {
        rustix::system::sethostname(plan.hostname.as_bytes()).step("set the host name")?;
    }
    Ok(())
}

/// Gives up everything that the plan says, in the order in which it is possible.
pub(crate) fn confine(plan: &Plan) -> Result<(), StepError> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    if plan.layers.has(Layer::Rlimits) {
        privileges::limit(&plan.rlimits).step("set the limits of the process")?;
    }
    if plan.layers.has(Layer::Capabilities) {
        privileges::drop_bounding().step("drop the bounding set")?;
    }
    if plan.layers.has(Layer::User) {
        privileges::become_user(plan.uid).step("become the pod's user")?;
    }
    // After the change of user, which clears it: a pod whose shim is gone would
    // write its log into nothing, and nobody would learn how it ended.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .step("end with the shim")?;
    // Both filters need either no_new_privs or a capability; while there still
    // is one they go on without the first, so that each layer stands alone.
    if plan.layers.has(Layer::Capabilities) {
        privileges::drop_sets().step("drop the capabilities")?;
    }
    if plan.layers.has(Layer::Landlock) {
        landlock::restrict(plan)?;
    }
    if plan.layers.has(Layer::Seccomp) {
        seccomp::restrict(plan)?;
    }
    Ok(())
}

/// Executes the program; returns why it could not.
pub(crate) fn become_program(root: &Root, program: &Program, inside: bool) -> StepError {
    let path = match root {
        Root::Executable { file, .. } if !inside => file.clone(),
        Root::Image { directory } if !inside => {
            directory.join(program.path.strip_prefix("/").unwrap_or(&program.path))
        }
        _ => program.path.clone(),
    };
    let mut command = Command::new(&path);
    command.args(&program.args).env_clear().envs(program.env.iter().map(|(name, value)| (name, value)));
    if inside {
        command.current_dir(&program.directory);
    }
    StepError::Refused { step: "execute", place: Some(path), cause: command.exec() }
}
