//! The `kubectl` of this machine, as the operator of a fleet at home would use it.

/// The one that the contract of the embedded API is about.
#[path = "../../../scheduler/embedded/tests/kubectl/binary.rs"]
mod binary;

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Home, KUBECONFIG};

pub(super) use binary::{kubectl as find, say_that_there_is_none};

/// What a run said.
pub(super) struct Said {
    pub(super) good: bool,
    pub(super) text: String,
}

impl Home {
    /// Runs it with the operator's kubeconfig.
    ///
    /// # Panics
    /// If it does not start.
    pub(super) fn kubectl(&self, binary: &Path, words: &str) -> Said {
        let mut command = Command::new(binary);
        command.args(words.split(' ')).env_clear().env("HOME", self.dir.path()).stdin(Stdio::null());
        command.env("KUBECONFIG", self.file(KUBECONFIG));
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Said { good: output.status.success(), text: String::from_utf8_lossy(&text).into_owned() }
    }
}
