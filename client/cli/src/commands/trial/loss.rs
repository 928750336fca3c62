//! The loss: what is deleted or killed, and nothing else.

use coffer_server::RecoveryKit;

use super::places::Places;
use crate::commands::home::Home;
use crate::exit::Failure;
use crate::files;

/// What is gone.
pub(super) struct Loss {
    pub(super) sites: Vec<String>,
    pub(super) scenario: String,
}

/// Sites for people.
pub(super) fn names(sites: &[String]) -> String {
    if sites.is_empty() { "no site".to_owned() } else { format!("sites {}", sites.join(", ")) }
}

/// Refuses to lose more sites than there are.
pub(super) fn check(places: &Places, count: usize) -> Result<(), Failure> {
    let kit = read_kit(places)?;
    if count <= kit.sites.len() {
        return Ok(());
    }
    Err(Failure::usage(format!("--lose {count} is more than the {} sites there are", kit.sites.len()))
        .next("lose fewer sites, or name a site file with more of them with --sites"))
}

fn read_kit(places: &Places) -> Result<RecoveryKit, Failure> {
    let text = coffer_client::profile::read_text(&places.kit())?;
    Ok(RecoveryKit::from_json(&text)?)
}

/// Deletes, or in a fleet kills, the first `count` sites of the topology, whose shards carry data
/// and not only parity, and everything that the service and the client kept.
pub(super) async fn destroy(places: &Places, count: usize, home: Option<&mut Home>) -> Result<Loss, Failure> {
    let kit = read_kit(places)?;
    let sites: Vec<String> = kit.sites.iter().take(count).map(|address| address.site.name.clone()).collect();
    let how = match home {
        Some(home) => {
            home.lose(&sites).await?;
            "sites lost by SIGKILL to their pods and their nodes' agents"
        }
        None => {
            for site in &sites {
                files::remove_tree(&places.data.join("sites").join(site))?;
            }
            "sites deleted"
        }
    };
    // Catalogues, key slots' caches and topology of the service; credentials
    // and repository key of the client.
    files::remove_tree(&places.data.join("service"))?;
    files::remove_tree(&places.data.join("topology.json"))?;
    files::remove_tree(&places.profile())?;
    let scenario = format!(
        "trial: {} of {} {how}, every catalogue deleted, the key service killed, the client's keys deleted",
        sites.len(),
        kit.sites.len()
    );
    Ok(Loss { sites, scenario })
}
