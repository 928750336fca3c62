//! Nodes of a fleet that nobody needs any more: pods outlive their agents.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::built::node_program;

/// Ends what nodes of a fleet in this directory of data have left.
pub(crate) struct GivenUp(pub(crate) PathBuf);

impl GivenUp {
    pub(crate) fn end(&self) -> bool {
        let program = node_program();
        let nodes = fs::read_dir(self.0.join("fleet/nodes")).into_iter().flatten();
        let ended = nodes.map(|node| {
            let node = node.unwrap();
            let mut command = Command::new(&program);
            command.arg("end").arg("--name").arg(node.file_name());
            command.arg("--dir").arg(node.path().join("agent")).status().unwrap().success()
        });
        // Each is tried, whatever became of the one before.
        ended.collect::<Vec<bool>>().into_iter().all(|ended| ended)
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind either.
        self.end();
    }
}
