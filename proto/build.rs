//! Compiles the .proto files with a Rust compiler: no `protoc` is needed.
#![expect(clippy::disallowed_methods, reason = "a build script writes to OUT_DIR")]

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = [
        "proto/coffer/v1/coffer.proto",
        "proto/coffer/v1/audit.proto",
        "proto/coffer/v1/evidence.proto",
        "proto/coffer/v1/hold.proto",
        "proto/coffer/site/v1/site.proto",
    ];
    let set = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    // For gRPC reflection: clients can ask the server for its own description.
    std::fs::write(out.join("coffer.v1.descriptors"), prost::Message::encode_to_vec(&set))?;
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(set)?;
    Ok(())
}
