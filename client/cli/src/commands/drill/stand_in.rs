//! `coffer drill stand-in`: the service that a drill makes again, in a process
//! of its own: from copies of sites, a kit, and whoever opens the root key. It
//! tells its phases as JSON lines, serves on loopback, and ends without order
//! when its drill does: it signs nothing, and nothing of it is kept.

use std::sync::Arc;

use coffer_custody::{Custodian as _, PassphraseFile, Quorum};
use coffer_server::{Host, RecoverError, Service};
use serde_json::json;
use tokio::net::TcpListener;

use super::recover::read_kit;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::StandInFlags;
use crate::progress::print_event;

pub(super) async fn run(context: &Context<'_>, flags: &StandInFlags) -> Result<Exit, Failure> {
    crate::commands::end_with_stdin(|| std::process::exit(1));
    let kit = read_kit(&flags.kit)?;
    let unlocked = match (&flags.slot, &flags.passphrase_file) {
        (Some(slot), Some(passphrase)) => PassphraseFile::new(slot, passphrase).unlock(),
        _ => Quorum { share_paths: flags.provider_shares.clone() }.unlock(),
    };
    // What the custodians cannot open is their matter, and no result of the drill.
    let root = unlocked?;
    print_event(&json!({ "event": "phase", "phase": "root key" }));
    let host = Host::of_this_machine(context.clock.clone(), context.entropy.clone());
    let recovered = Service::recover(host, &flags.data_dir, &root, &kit, &|_, _| ()).await;
    let (service, report) = match recovered {
        Ok(recovered) => recovered,
        Err(error) => {
            print_event(&json!({ "event": "failed", "class": class_of(&error), "what": error.to_string() }));
            return Ok(Exit::Failure);
        }
    };
    print_event(&json!({ "event": "phase", "phase": "catalogue" }));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let endpoint = format!("https://{}", listener.local_addr()?);
    let mut ready = json!({
        "event": "ready",
        "endpoint": endpoint,
        "versions": report.versions,
        "unreadable": report.unreadable,
        "missing": report.missing_sites,
    });
    if let Some(tenant) = flags.issue_to {
        let issued = service.issue_tenant_credential(tenant).await?;
        ready["ca_pem"] = json!(issued.ca_pem);
        ready["certificate_pem"] = json!(issued.certificate_pem);
        ready["key_pem"] = json!(issued.key_pem.as_str());
    }
    print_event(&ready);
    // An orderly end would sign the logs of the copies: there is none.
    coffer_server::serve(Arc::clone(&service), listener, std::future::pending()).await?;
    Ok(Exit::Success)
}

/// Why there is no service, in a word that names nothing of a tenant.
fn class_of(error: &RecoverError) -> &'static str {
    match error {
        RecoverError::TooManyLost { .. } => "too many sites are lost",
        _ => "the service could not be made again",
    }
}
