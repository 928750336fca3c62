//! Writes the definitions of the fleet's resources anew, from their types.
//!
//! `cargo run -p coffer-control --example definitions -- scheduler/deploy/definitions`
#![expect(clippy::unwrap_used, reason = "a generator stops at the first failure")]
#![expect(
    clippy::disallowed_methods,
    reason = "it writes plain files that people look at before they commit them"
)]

use kube::ResourceExt as _;

fn main() {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    for definition in coffer_control::definitions() {
        let text = serde_json::to_string_pretty(&definition).unwrap();
        std::fs::write(dir.join(format!("{}.json", definition.name_any())), text + "\n").unwrap();
    }
}
