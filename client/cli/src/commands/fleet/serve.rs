//! `coffer fleet serve`: a fleet on this machine, without the service. So the
//! service outlives its control plane, as it does on a cluster; pods outlive it, too.

use coffer_client::profile::write_atomically;
use coffer_control::NAMESPACE;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::home::{Home, SET, Wanted};
use crate::commands::serve::sites_of_nodes;
use crate::commands::{stdin_closed, until_told};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::FleetServeFlags;

pub(super) async fn run(context: &Context<'_>, flags: FleetServeFlags) -> Result<Exit, Failure> {
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut wanted = Wanted::of(&sites_of_nodes(flags.sites.as_deref(), &flags.data_dir)?, flags.listen);
    wanted.spare = flags.spare;
    wanted.disk_bytes = flags.disk.unwrap_or(wanted.disk_bytes);
    (wanted.agents, wanted.runtime) = (!flags.no_agents, flags.runtime);
    (wanted.control, wanted.asks_profile) = (!flags.no_control, true);
    let home = Home::start(context, &flags.data_dir, wanted).await?;
    let nodes = flags.data_dir.join("fleet").join("nodes");
    context.output.object(&json!({ "nodes": nodes.display().to_string() }));
    context.output.text(format_args!("what the nodes' agents need is in {}", nodes.display()));
    let stdin = flags.exit_with_stdin.then(stdin_closed);
    let told = tokio::select! {
        told = serve(context, &flags, &home) => told,
        () = until_told(terminate, interrupt, stdin) => Ok(()),
    };
    home.leave().await;
    if !flags.no_agents {
        context.output.remark(format_args!(
            "the pods run on, and the next start finds them; `coffer-node end --name NODE --dir {}/NODE/agent` ends those of a node that is given up",
            nodes.display()
        ));
    }
    told.map(|()| Exit::Success)
}

async fn serve(context: &Context<'_>, flags: &FleetServeFlags, home: &Home) -> Result<(), Failure> {
    let file = flags.data_dir.join("fleet").join("sites.toml");
    // Written once all pods served for the first time.
    let pods = home.serving(context, file.exists()).await?;
    let text = home.site_text(context, &flags.data_dir, &pods).await?;
    write_atomically(&file, text.as_bytes())?;
    let endpoints = Home::endpoints_file(&flags.data_dir);
    let (sites, places) = (file.display().to_string(), endpoints.display().to_string());
    context.output.object(&json!({ "ready": true, "sites": sites, "endpoints": places }));
    context.output.text(format_args!(
        "the pods serve; run `coffer serve --sites {sites} --discover kubernetes:{NAMESPACE}/{SET}` beside this, with the same --data-dir, or with --endpoints-file {places}"
    ));
    std::future::pending().await
}
