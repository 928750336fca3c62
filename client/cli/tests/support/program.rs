//! The real program.

use std::path::Path;
use std::process::Command;

/// As somebody with a home of his own calls it.
pub(crate) fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer"));
    command.args(arguments).current_dir(dir).env_clear().env("HOME", dir);
    // The programs of mounts and networks that node agents call.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}
