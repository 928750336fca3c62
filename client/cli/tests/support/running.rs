//! The real program: once, and as a service that others talk to.

use std::path::Path;

use serde_json::Value;

use crate::calls::{self, coffer};
use crate::process::Process;

/// The last object that a command printed which must succeed.
pub(crate) fn good(dir: &Path, arguments: &[&str]) -> Value {
    calls::good(dir, arguments).pop().unwrap_or_default()
}

/// Its exit code.
pub(crate) fn code(dir: &Path, arguments: &[&str]) -> Option<i32> {
    coffer(dir, arguments).status.code()
}

/// A process that ends with its parent, and what it said when it was ready.
pub(crate) struct Running {
    ready: Value,
    _process: Process,
}

impl Running {
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Self {
        let process = Process::start(dir, &[&["-q"], arguments, &["--exit-with-stdin"]].concat());
        let ready = process.until("ready");
        assert_eq!(ready["ready"], true);
        Self { ready, _process: process }
    }

    pub(crate) fn said(&self, field: &str) -> String {
        self.ready[field].as_str().unwrap().to_owned()
    }
}

/// A service in `data`, on a free port.
pub(crate) const SERVE: [&str; 7] =
    ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--repair-every", "0s"];
