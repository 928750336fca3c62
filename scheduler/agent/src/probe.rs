//! What this machine can do, layer by layer, tried and not guessed: each layer
//! is put on by a small process of its own, and what the kernel said is told.

mod attempt;

use std::io;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::cgroup::{Controller, Homes, Kind};
use crate::layer::{Layer, Layers};
use crate::{disk, files, tool};

pub(crate) use attempt::run as attempt;

/// What was found out about one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which layer.
    pub layer: Layer,
    /// Whether the machine has it.
    pub had: bool,
    /// How it has it, or why it lacks it.
    pub detail: String,
}

/// What was found out about the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Every layer, in the order of [`Layer::ALL`].
    pub layers: Vec<Finding>,
    /// Version of `runc`, if it is there, or why not.
    pub runc: Result<String, String>,
    /// Release of the kernel.
    pub kernel: String,
}

impl Probe {
    /// Tries every layer. `program` is the binary that knows the stages,
    /// `scratch` a directory in which files may be made. Blocks.
    pub fn run(program: &Path, scratch: &Path, node: &str) -> Self {
        let layers = Layer::ALL.into_iter().map(|layer| {
            let found = find(layer, program, scratch, node);
            let (had, detail) = match found {
                Ok(detail) => (true, detail),
                Err(detail) => (false, detail),
            };
            Finding { layer, had, detail }
        });
        let runc = tool::run("runc", &["--version"]).map_err(|error| error.to_string());
        Self {
            layers: layers.collect(),
            runc: runc.map(|said| said.lines().next().unwrap_or_default().to_owned()),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    /// The layers that the machine has.
    pub fn had(&self) -> Layers {
        Layers::of(self.layers.iter().filter(|finding| finding.had).map(|finding| finding.layer))
    }

    /// What was found about `layer`.
    pub fn of(&self, layer: Layer) -> Option<&Finding> {
        self.layers.iter().find(|finding| finding.layer == layer)
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Finding { layer, had, detail } in &self.layers {
            writeln!(f, "{:<8}{:<14}{detail}", if *had { "have" } else { "LACK" }, layer.name())?;
        }
        match &self.runc {
            Ok(version) => writeln!(f, "{:<8}{:<14}{version}", "have", "runc")?,
            Err(reason) => writeln!(f, "{:<8}{:<14}{reason}", "LACK", "runc")?,
        }
        write!(f, "kernel  {}", self.kernel)
    }
}

fn find(layer: Layer, program: &Path, scratch: &Path, node: &str) -> Result<String, String> {
    match layer {
        Layer::Cgroup => groups(node),
        Layer::Disk => sized(scratch),
        Layer::Network => {
            let detail = tried(layer, program)?;
            for (tool, arg) in [("ip", "-V"), ("nft", "--version")] {
                tool::run(tool, &[arg]).map_err(|error| error.to_string())?;
            }
            Ok(detail)
        }
        _ => tried(layer, program),
    }
}

/// Runs the attempt of one layer in a process of its own.
fn tried(layer: Layer, program: &Path) -> Result<String, String> {
    let output = Command::new(program).arg(crate::stage::ATTEMPT).arg(layer.name()).output();
    let output = output.map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn groups(node: &str) -> Result<String, String> {
    let mut homes = Homes::find(node).map_err(|error| error.to_string())?;
    let reasons = homes.prepare();
    // Groups that were tried are in nobody's way.
    let _ = homes.clear();
    let mut parts = Vec::new();
    let mut lacking = Vec::new();
    for controller in [Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Io] {
        match (homes.of.get(&controller), reasons.get(&controller)) {
            (Some(home), _) => {
                let kind = if home.kind == Kind::First { "v1" } else { "v2" };
                parts.push(format!("{controller:?} {kind}"));
            }
            (None, Some(reason)) => lacking.push(format!("{controller:?}: {reason}")),
            (None, None) => lacking.push(format!("{controller:?}: no such controller is mounted")),
        }
    }
    // Memory, processes and time must be held; a disk without throttling is slow, not unsafe.
    let needed = [Controller::Cpu, Controller::Memory, Controller::Pids];
    let detail = parts.into_iter().chain(lacking.into_iter().map(|text| format!("no {text}")));
    let detail = detail.collect::<Vec<_>>().join(", ").to_lowercase();
    if needed.iter().all(|controller| homes.of.contains_key(controller)) { Ok(detail) } else { Err(detail) }
}

fn sized(scratch: &Path) -> Result<String, String> {
    let directory = scratch.join("probe-disk");
    let attempt = || -> Result<(), disk::DiskError> {
        disk::mount_sized(&directory, disk::SIZE_MIN)?;
        disk::unmount_sized(&directory)
    };
    let found = attempt().map_err(|error| error.to_string());
    let clean = || -> io::Result<()> {
        files::remove_tree(&directory)?;
        match std::fs::remove_file(directory.with_added_extension("img")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    drop(clean());
    found.map(|()| "ext4 in a file, loop-mounted; no project quotas are needed".to_owned())
}
