//! `coffer fleet logs`: what a pod writes, from the node that runs it.

use futures::io::{AsyncBufReadExt as _, AsyncReadExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use serde_json::json;

use super::{Fleet, failed};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::LogsFlags;

/// Bytes that are shown at a time.
const PIECE: usize = 16 << 10;
/// Bytes of a line, with --json; what is longer comes in several.
const LINE_MAX: u64 = 1 << 20;

pub(super) async fn show(context: &Context<'_>, fleet: &Fleet, flags: &LogsFlags) -> Result<Exit, Failure> {
    let pods: Api<Pod> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    let params = LogParams {
        follow: flags.follow,
        previous: flags.previous,
        timestamps: flags.timestamps,
        tail_lines: flags.tail.map(i64::from),
        ..LogParams::default()
    };
    let log = pods.log_stream(&flags.pod, &params).await.map_err(|error| refused(&error, flags))?;
    let mut log = std::pin::pin!(log);
    let broken = |error: std::io::Error| {
        Failure::new(format!("the log of {} broke off: {error}", flags.pod))
            .safe("the pod runs on; its log is kept on its node")
            .next("run it again; with --tail it begins near the end")
    };
    if context.output.is_json() {
        let mut line = Vec::new();
        while (&mut log).take(LINE_MAX).read_until(b'\n', &mut line).await.map_err(broken)? > 0 {
            let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
            context.output.object(&json!({ "pod": flags.pod, "line": text }));
            line.clear();
            if context.output.is_closed() {
                break;
            }
        }
        return Ok(Exit::Success);
    }
    let mut piece = vec![0; PIECE];
    loop {
        match log.read(&mut piece).await.map_err(broken)? {
            0 => return Ok(Exit::Success),
            read => context.output.raw(piece.get(..read).unwrap_or_default()),
        }
        if context.output.is_closed() {
            return Ok(Exit::Success);
        }
    }
}

/// What is wrong with this question, rather than with the fleet.
fn refused(error: &kube::Error, flags: &LogsFlags) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 404 && flags.previous => {
            Failure::new(format!("there is no pod {}, or no container before its present one", flags.pod))
                .safe("nothing was changed")
                .next("leave --previous out; `coffer fleet pods` shows the pods")
        }
        kube::Error::Api(status) if status.code == 503 => Failure::new(&status.message)
            .safe("the pod's log is kept on its node")
            .next("`coffer fleet nodes` shows whether the node is there"),
        other => failed(other),
    }
}
