//! The real program: once, and as a process that others talk to.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The program, as somebody with a home of his own calls it.
pub(crate) fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer"));
    command.args(arguments).current_dir(dir).env_clear().env("HOME", dir);
    command
}

/// What it came to.
pub(crate) fn coffer(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, &[&["--json", "-q"], arguments].concat()).output().unwrap()
}

/// The last object that a command printed which must succeed.
pub(crate) fn good(dir: &Path, arguments: &[&str]) -> Value {
    let output = coffer(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().last().map(|line| serde_json::from_str(line).unwrap()).unwrap_or_default()
}

/// Its exit code.
pub(crate) fn code(dir: &Path, arguments: &[&str]) -> Option<i32> {
    coffer(dir, arguments).status.code()
}

/// A process that ends with its parent, and what it said when it was ready.
pub(crate) struct Running(Child, Value);

impl Running {
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Self {
        let arguments = [&["--json", "-q"], arguments, &["--exit-with-stdin"]].concat();
        let mut child =
            command(dir, &arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut values = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let ready = values.find(|value| value["ready"] == true).unwrap();
        Self(child, ready)
    }

    pub(crate) fn said(&self, field: &str) -> String {
        self.1[field].as_str().unwrap().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A service in `data`, on a free port.
pub(crate) const SERVE: [&str; 7] =
    ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--repair-every", "0s"];
