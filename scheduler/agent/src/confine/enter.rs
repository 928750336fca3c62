//! Running one more command inside a container that runs, for its probes: two
//! small processes of the agent's binary. The first enters the process id name
//! space, which only its child is in; the child enters the rest, gives up what
//! the container gave up, and becomes the command.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::shim::NOT_STARTED;
use super::starter::{self, Step, StepError};
use crate::files;
use crate::layer::Layer;

/// What to run, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The container's plan; its program is replaced by the command.
    pub plan: Plan,
    /// The container's first process, as the machine numbers it.
    pub init: i32,
}

/// Enters the process id name space and runs the second part in it.
pub(crate) fn run(path: &Path) -> ExitCode {
    match outer(path) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &StepError) -> ExitCode {
    // Nobody is left to be told that telling failed.
    drop(writeln!(io::stderr(), "{error}"));
    ExitCode::from(NOT_STARTED)
}

fn outer(path: &Path) -> Result<ExitCode, StepError> {
    let entry = read(path)?;
    // A probe that takes too long is killed here; its command must go with it.
    let die = Some(Signal::KILL);
    rustix::process::set_parent_process_death_signal(die).step("end with the agent")?;
    if entry.plan.layers.has(Layer::Pid) {
        let link = Path::new("/proc").join(entry.init.to_string()).join("ns/pid");
        let space = files::open(&link).step_at("open the name space", &link)?;
        rustix::thread::move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::ProcessID))
            .step("enter the process id name space")?;
    }
    let status = Command::new("/proc/self/exe")
        .arg(crate::stage::INSIDE)
        .arg(path)
        .status()
        .step("run the second part")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_STARTED)))
}

/// The second part: enters everything else and becomes the command.
pub(crate) fn run_inside(path: &Path) -> ExitCode {
    match inside(path) {
        Ok(never) => match never {},
        Err(error) => fail(&error),
    }
}

fn inside(path: &Path) -> Result<std::convert::Infallible, StepError> {
    let entry = read(path)?;
    let plan = entry.plan;
    starter::enter_groups(&plan)?;
    // In the name space of the container its first process is number 1.
    let number = if plan.layers.has(Layer::Pid) { 1 } else { entry.init };
    let pid = Pid::from_raw(number).ok_or(io::ErrorKind::InvalidData).step("find the container")?;
    let init = pidfd_open(pid, PidfdFlags::empty()).step("find the container")?;
    let mut spaces = ThreadNameSpaceType::empty();
    let wanted = [
        (Layer::Mount, ThreadNameSpaceType::MOUNT),
        (Layer::Ipc, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
        (Layer::Uts, ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        (Layer::CgroupView, ThreadNameSpaceType::CONTROL_GROUP),
        (Layer::Network, ThreadNameSpaceType::NETWORK),
    ];
    for (layer, space) in wanted {
        if plan.layers.has(layer) && (layer != Layer::Network || plan.network.is_some()) {
            spaces |= space;
        }
    }
    if !spaces.is_empty() {
        rustix::thread::move_into_thread_name_spaces(init.as_fd(), spaces).step("enter the container")?;
    }
    starter::confine(&plan)?;
    Err(starter::become_program(&plan.root, &plan.program, plan.layers.has(Layer::Mount)))
}

fn read(path: &Path) -> Result<Entry, StepError> {
    files::read_json(path)
        .and_then(|entry| entry.ok_or_else(|| io::ErrorKind::NotFound.into()))
        .step_at("read the entry", path)
}
