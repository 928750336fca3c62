//! Both runtimes keep the promises of their port, on the real kernel. What this
//! machine cannot do is said on standard error, and is then not demanded.

use std::sync::Arc;

use coffer_agent::conformance::conformance;
use coffer_agent::{Layers, LogLimits, ProcessRuntime, RuncRuntime, Runtime, RuntimeConfig};

use crate::bench::{self, Scratch};

fn config(scratch: &Scratch, node: &str) -> RuntimeConfig {
    RuntimeConfig {
        node: node.to_owned(),
        directory: scratch.path().join("runtime"),
        program: bench::node_program(),
        demanded: Layers::none(),
        logs: LogLimits::default(),
    }
}

#[tokio::test]
async fn a_confined_process_keeps_the_promises_of_a_runtime() {
    let Some(scratch) = Scratch::as_root("a_confined_process_keeps_the_promises_of_a_runtime") else {
        return;
    };
    let probe = scratch.probe();
    let (config, had) = (config(&scratch, "conf-process"), probe.clone());
    let open = move || Arc::new(ProcessRuntime::new(config.clone(), &had).unwrap()) as Arc<dyn Runtime>;
    conformance(&scratch.bench(812_345, Box::new(open))).await;
}

#[tokio::test]
async fn a_container_of_runc_keeps_the_promises_of_a_runtime() {
    let Some(scratch) = Scratch::as_root("a_container_of_runc_keeps_the_promises_of_a_runtime") else {
        return;
    };
    if let Err(reason) = scratch.probe().runc {
        eprintln!("NOT TESTED HERE: runc: {reason}");
        return;
    }
    let config = config(&scratch, "conf-runc");
    let open = move || Arc::new(RuncRuntime::new(config.clone()).unwrap()) as Arc<dyn Runtime>;
    conformance(&scratch.bench(812_346, Box::new(open))).await;
}
