//! The real program, called for its answer.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::program::command;

/// What it came to.
pub(crate) fn coffer(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, &[&["--json", "-q"], arguments].concat()).output().unwrap()
}

/// What a command prints that must succeed.
pub(crate) fn good(dir: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = coffer(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
