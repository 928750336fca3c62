//! The `kubectl` of this machine. What dispatches to several versions is not used:
//! it would choose by the server, and the test says which version it is about.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

/// The version that the contract is about.
const VERSION: &str = "v1.32";

/// The binary, or None where there is none of that version.
pub(crate) fn kubectl() -> Option<&'static Path> {
    static FOUND: LazyLock<Option<PathBuf>> = LazyLock::new(find);
    FOUND.as_deref()
}

/// Says, past the capture of the test's output, that a test could not be carried out.
pub(crate) fn say_that_there_is_none(test: &str) {
    let mut out = std::io::stderr();
    let _ = writeln!(out, "NOT TESTED: {test}: this machine has no kubectl {VERSION}.");
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    // A dispatcher lies beside those that it dispatches to.
    let behind: Vec<PathBuf> = places
        .iter()
        .filter_map(|place| {
            std::fs::canonicalize(place.join("kubectl")).ok()?.parent().map(Path::to_path_buf)
        })
        .collect();
    places.extend(behind);
    let named = |name: &'static str| places.iter().map(move |place| place.join(name));
    named("kubectl.1.32").chain(named("kubectl")).find(|binary| is_of_version(binary))
}

fn is_of_version(binary: &Path) -> bool {
    let said = Command::new(binary).args(["version", "--client", "-o", "json"]).output();
    let text = |output: Output| String::from_utf8_lossy(&output.stdout).into_owned();
    said.map(text).is_ok_and(|said| {
        said.contains(&format!("\"gitVersion\": \"{VERSION}")) && !said.contains("dispatcher")
    })
}
