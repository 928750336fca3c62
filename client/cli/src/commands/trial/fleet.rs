//! The sites of a trial as storage pods of a fleet. The fleet lives in this
//! process, the service in one of its own: it can be killed, and pods beside it.

use std::path::PathBuf;

use coffer_client::profile::{Profile, write_atomically};

use super::places::Places;
use crate::commands::home::{Home, Wanted};
use crate::context::Context;
use crate::exit::Failure;
use crate::flags::TryFlags;

/// Where the service finds the pods.
pub(super) struct Pods {
    /// The site file.
    pub(super) sites: PathBuf,
    /// The file that says where they are now.
    pub(super) endpoints: PathBuf,
}

/// The operator of the fleet, whose keys are not the client's.
fn operator<'a>(context: &Context<'a>, places: &Places) -> Context<'a> {
    Context::new(context.output, Profile::at(places.data.join("operator")), None)
}

/// Starts a node with its agent for each site; pods follow by themselves.
pub(super) async fn start(context: &Context<'_>, flags: &TryFlags, places: &Places) -> Result<Home, Failure> {
    let sites = crate::commands::serve::sites(flags.sites.as_deref())?;
    let mut wanted = Wanted::of(&sites, std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    wanted.runtime = flags.fleet_runtime;
    Home::start(&operator(context, places), &places.data, wanted).await
}

/// Waits until the pods serve, and writes down where.
pub(super) async fn sites(context: &Context<'_>, places: &Places, home: &Home) -> Result<Pods, Failure> {
    let context = operator(context, places);
    let pods = home.serving(&context, false).await?;
    let text = home.site_text(&context, &places.data, &pods).await?;
    let sites = places.data.join("fleet").join("sites.toml");
    write_atomically(&sites, text.as_bytes())?;
    Ok(Pods { sites, endpoints: Home::endpoints_file(&places.data) })
}
