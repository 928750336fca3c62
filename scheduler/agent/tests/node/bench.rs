//! What the tests of the agent stand on: a scratch directory, the programs, and
//! the machine's abilities, said aloud where they are missing.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use coffer_agent::conformance::Bench;
use coffer_agent::{Probe, Runtime};

/// The agent's binary, which knows the stages.
pub(crate) fn node_program() -> PathBuf {
    env!("CARGO_BIN_EXE_coffer-node").into()
}

/// The sample program of `examples/pod.rs`.
pub(crate) fn sample_program() -> PathBuf {
    node_program().with_file_name("examples").join("pod")
}

/// Puts a program there, by another process: what this one writes is held open by whatever it starts meanwhile, and what
/// is held open for writing cannot be run.
pub(crate) fn place_program(from: &Path, to: &Path) {
    let done = Command::new("install").arg("-m755").arg(from).arg(to).status();
    assert!(done.as_ref().is_ok_and(ExitStatus::success), "{}: {done:?}", to.display());
}

/// A directory of one test, whose parents a pod's user can pass.
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    /// A scratch, or `None` with a word on standard error where the tests do not run as root.
    pub(crate) fn as_root(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT TESTED HERE: {test} makes name spaces and users; run the tests as root");
            return None;
        }
        let directory = tempfile::tempdir().ok()?;
        open_to_all(directory.path());
        Some(Self { directory })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What this machine can do; what it lacks is said.
    pub(crate) fn probe(&self) -> Probe {
        // Tests run at once, and each probe takes away the groups that it made.
        static PROBES: AtomicU32 = AtomicU32::new(0);
        let name = format!("probe-{}", PROBES.fetch_add(1, Ordering::Relaxed));
        let probe = Probe::run(&node_program(), self.path(), &name);
        for finding in probe.layers.iter().filter(|finding| !finding.had) {
            eprintln!("THIS MACHINE LACKS {}: {}", finding.layer, finding.detail);
        }
        probe
    }

    /// With a user of its own: two that run at once would count each other's processes.
    pub(crate) fn bench(&self, uid: u32, open: Box<dyn Fn() -> Arc<dyn Runtime>>) -> Bench {
        let data = self.path().join("data");
        let made = std::fs::create_dir_all(&data)
            .and_then(|()| std::os::unix::fs::chown(&data, Some(uid), Some(uid)));
        assert!(made.is_ok(), "the scratch is writable: {made:?}");
        Bench { sample: sample_program(), data, uid, open }
    }
}

fn open_to_all(path: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    assert!(std::fs::set_permissions(path, mode).is_ok());
}
