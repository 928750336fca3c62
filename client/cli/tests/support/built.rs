//! The programs that a fleet starts, beside the one that is tested.

use std::path::{Path, PathBuf};

/// Where the nodes' program is. That of the pods is there as well.
pub(crate) fn node_program() -> PathBuf {
    let beside = |name: &str| Path::new(env!("CARGO_BIN_EXE_coffer")).with_file_name(name);
    for name in ["coffer-node", "coffer-site"] {
        assert!(beside(name).exists(), "build the programs first: cargo build --workspace --bins");
    }
    beside("coffer-node")
}
