//! The `kubectl` of this machine, as the operator of a fleet at home would use it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Home, KUBECONFIG};

/// The version that the API answers as.
const VERSION: &str = "v1.32";

/// What a run said.
pub(super) struct Said {
    pub(super) good: bool,
    pub(super) text: String,
}

/// The binary of that version. What dispatches to several versions is passed over for those beside it.
pub(super) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let behind = |place: &PathBuf| Some(place.join("kubectl").canonicalize().ok()?.parent()?.to_owned());
    places.extend(places.iter().filter_map(behind).collect::<Vec<_>>());
    let named = |name: &'static str| places.iter().map(move |place| place.join(name));
    named("kubectl.1.32").chain(named("kubectl")).find(|binary| is_of_version(binary))
}

fn is_of_version(binary: &Path) -> bool {
    let said = Command::new(binary).args(["version", "--client", "-o", "json"]).output();
    let text = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.contains(&format!("\"gitVersion\": \"{VERSION}")) && !text.contains("dispatcher")
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
