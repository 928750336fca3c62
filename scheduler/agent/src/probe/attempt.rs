//! One layer put on by a process that exists for nothing else.

use std::path::Path;
use std::process::ExitCode;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::confine::plan::{Limit, Plan, Program, Root};
use crate::confine::unshare::{Space, leave};
use crate::confine::{landlock, memory_files, privileges, seccomp};
use crate::layer::{Layer, Layers};

/// Tries the layer of that name and prints what came of it.
#[expect(clippy::print_stdout, reason = "the parent reads it there")]
pub(crate) fn run(name: &Path) -> ExitCode {
    let layer = Layer::ALL.into_iter().find(|layer| Path::new(layer.name()) == name);
    let Some(layer) = layer else { return ExitCode::FAILURE };
    match attempt(layer) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn attempt(layer: Layer) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let space = |space| leave(&[space]).map_err(said);
    match layer {
        Layer::Mount => {
            space(Space::Mount)?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
                .map_err(|error| error.to_string())?;
            // In a name space that ends with this process.
            mount("tmpfs", "/dev", "tmpfs", MountFlags::NOSUID, None).map_err(|error| error.to_string())?;
            Ok("a name space of its own".to_owned())
        }
        Layer::Pid => {
            let memory = if memory_files::can_be_refused() { "no" } else { "the kernel lets it have" };
            let own = "a name space of its own, /proc with hidepid and subset";
            space(Space::Pid).map(|()| format!("{own}, {memory} files in memory that can be run"))
        }
        Layer::Ipc => space(Space::Ipc).map(|()| "a name space of its own".to_owned()),
        Layer::Uts => space(Space::Uts).map(|()| "a name space of its own".to_owned()),
        Layer::CgroupView => space(Space::Cgroup).map(|()| "a name space of its own".to_owned()),
        Layer::Network => {
            space(Space::Network).map(|()| "veth and nftables in a name space of its own".to_owned())
        }
        Layer::Seccomp => {
            seccomp::restrict(&nothing()).map_err(|error| error.to_string())?;
            Ok("an allow list of system calls".to_owned())
        }
        Layer::Landlock => landlock::restrict(&nothing()).map_err(|error| error.to_string()),
        Layer::Capabilities => {
            privileges::drop_bounding().and_then(|()| privileges::drop_sets()).map_err(said)?;
            Ok("all dropped, no_new_privs".to_owned())
        }
        Layer::User => {
            privileges::become_user(65_534).map_err(said).map(|()| "an id for each pod".to_owned())
        }
        Layer::Rlimits => {
            privileges::limit(&[(Limit::Core, 0)]).map_err(said)?;
            Ok("always set; a limit above the machine's own is lowered to it".to_owned())
        }
        Layer::Cgroup | Layer::Disk => Err("tried by the agent itself".to_owned()),
    }
}

/// A plan that allows nothing.
fn nothing() -> Plan {
    Plan {
        layers: Layers::none(),
        hostname: String::new(),
        cgroups: Vec::new(),
        network: None,
        scaffold: "/".into(),
        root: Root::Image { directory: "/usr".into() },
        volumes: Vec::new(),
        tmp_bytes: 0,
        uid: 65_534,
        rlimits: Vec::new(),
        listen: Vec::new(),
        connect: Some(Vec::new()),
        program: Program { path: "/".into(), args: Vec::new(), env: Vec::new(), directory: "/".into() },
    }
}
