//! `coffer fleet`: the nodes and storage pods of a fleet, by its Kubernetes API,
//! whether that is the embedded one or a real cluster's.

mod apply;
mod attest;
mod certificates;
mod control;
mod drain;
mod events;
mod explain;
mod ledger;
mod logs;
mod nodes;
mod operator;
mod placements;
mod pods;
mod revoke;
mod serve;
mod top;

use std::path::PathBuf;

pub(super) use attest::attester;
pub(super) use certificates::{CERTIFICATE_LASTS, Certificates, site_id};
pub(super) use ledger::{Keeper, KeptLedger, Wish};
pub(super) use operator::OfProfile;

use kube::Client;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::{FleetCommand, FleetFlags};

/// A fleet, and how this command speaks of it.
struct Fleet {
    client: Client,
    namespace: String,
}

pub(super) async fn run(context: &Context<'_>, flags: FleetFlags) -> Result<Exit, Failure> {
    let command = match flags.command {
        FleetCommand::Attest { node, country, domain, tier, days, key } => {
            let wish = attest::Wish { node, country, domain, tier, days };
            return attest::attest(context, &wish, key);
        }
        FleetCommand::Serve(flags) => return serve::run(context, *flags).await,
        other => other,
    };
    let fleet = connect(context, flags.kubeconfig, flags.namespace).await?;
    match command {
        FleetCommand::Control(flags) => control::run(context, fleet, *flags).await,
        // Answered above, without a fleet.
        FleetCommand::Attest { .. } | FleetCommand::Serve(_) => Ok(Exit::Success),
        FleetCommand::Logs(flags) => logs::show(context, &fleet, &flags).await,
        FleetCommand::Nodes => nodes::list(context, &fleet).await,
        FleetCommand::Pods => pods::list(context, &fleet).await,
        FleetCommand::Drain { node, no_wait } => drain::drain(context, &fleet, &node, !no_wait).await,
        FleetCommand::Cordon { node } => drain::cordon(context, &fleet, &node).await,
        FleetCommand::Uncordon { node } => drain::uncordon(context, &fleet, &node).await,
        FleetCommand::Explain { set } => explain::explain(context, &fleet, &set).await,
        FleetCommand::Placements { verify } => placements::run(context, &fleet, verify).await,
        FleetCommand::Revoke { node, attestation, reason } => {
            revoke::revoke(context, &fleet, node, attestation, &reason).await
        }
        FleetCommand::Top => top::top(context, &fleet).await,
        FleetCommand::Events { limit } => events::list(context, &fleet, limit).await,
        FleetCommand::Apply { file, dry_run } => apply::apply(context, &fleet, &file, dry_run).await,
    }
}

async fn connect(
    context: &Context<'_>,
    kubeconfig: Option<PathBuf>,
    namespace: String,
) -> Result<Fleet, Failure> {
    Ok(Fleet { client: super::api::client(context, kubeconfig).await?, namespace })
}

/// What the API answered, as advice.
fn failed(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let failure = Failure::new(&status.message);
            match status.code {
                404 => failure.safe("nothing was changed").next(
                    "`coffer fleet nodes` and `coffer fleet pods` show what there is; --namespace names another",
                ),
                401 | 403 => failure
                    .safe("nothing was changed")
                    .next("ask the operator of the fleet for a kubeconfig that may do this"),
                429 => failure
                    .safe("nothing was taken down; every object still has its loss budget")
                    .next("wait for the repair that `coffer repair status` shows, then run it again"),
                _ => failure.safe("what was not answered with success was not changed"),
            }
        }
        other => Failure::new(format!("the fleet's API does not answer: {other}"))
            .safe("pods that run keep running without it")
            .next("start it with `coffer serve --fleet`, then run this again"),
    }
}

/// A table with its columns as wide as they must be.
fn table(context: &Context<'_>, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|title| title.len())).max().unwrap_or(0)
    };
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (column, cell) in cells.enumerate() {
            text.push_str(&format!("{cell:<width$}  ", width = width(column)));
        }
        text.trim_end().to_owned()
    };
    context.output.text(line(&mut head.iter().copied()));
    for row in rows {
        context.output.text(line(&mut row.iter().map(String::as_str)));
    }
}
