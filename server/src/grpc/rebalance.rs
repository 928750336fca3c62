//! The call that levels sites: how far it is, message by message, and its leaves.

use std::sync::Arc;

use coffer_model::Outcome;
use coffer_proto::v1::{RebalanceRequest, RebalanceResponse, SiteShare};
use tokio::sync::mpsc;
use tonic::Status;

use super::repair::run_of;
use super::status::status;
use super::{Heard, heard};
use crate::authorize::Grant;
use crate::repair::{Rebalance, RepairRun};
use crate::service::Service;

fn message(so_far: &Rebalance, ended: bool) -> RebalanceResponse {
    let share = |site: &crate::repair::SiteShare| SiteShare {
        name: site.name.clone(),
        held: site.load.held,
        share: site.load.share,
        receives: site.receives,
        gives: site.gives,
    };
    RebalanceResponse {
        sites: so_far.sites.iter().map(share).collect(),
        missing: so_far.missing,
        dear: so_far.dear,
        moves: so_far.moves,
        bytes: so_far.bytes,
        records: so_far.records,
        done: so_far.done,
        failed: so_far.failed,
        reasons: so_far.reasons.clone(),
        bytes_written: so_far.bytes_written,
        ended,
    }
}

/// Begins it; a caller that goes away does not stop it.
pub(super) fn begin(
    service: Arc<Service>,
    grant: Grant,
    wire: &RebalanceRequest,
) -> Heard<RebalanceResponse> {
    let (send, messages) = mpsc::channel(64);
    let how = wire.run.then(|| run_of(0, wire.bytes_per_second, wire.full_speed));
    tokio::spawn(carry_out(service, grant, how, send));
    heard(messages)
}

async fn carry_out(
    service: Arc<Service>,
    grant: Grant,
    how: Option<RepairRun>,
    send: mpsc::Sender<Result<RebalanceResponse, Status>>,
) {
    // A caller that reads slowly misses some of them.
    let told = |so_far: &Rebalance| drop(send.try_send(Ok(message(so_far, false))));
    let ended = match how {
        Some(run) => service.rebalance(run, &told).await,
        None => service.plan_rebalance().await,
    };
    let (outcome, subject) = match &ended {
        Ok(all) => {
            let Rebalance { moves, bytes, done, failed, bytes_written, .. } = all;
            let planned = format!("{moves} shards of {bytes} bytes");
            let done = format!("{planned}: {done} moved, {failed} not, {bytes_written} bytes written");
            (Outcome::Done, if how.is_some() { done } else { planned })
        }
        Err(_) => (Outcome::Failed, String::new()),
    };
    let noted = grant.tenant().note(&grant.event(&service, Some(subject), outcome)).await;
    let last = match (ended, noted) {
        (Ok(all), Ok(_)) => Ok(message(&all, true)),
        (Err(error), _) => Err(status(error)),
        (_, Err(error)) => Err(status(error)),
    };
    drop(send.send(last).await);
}
