//! The loss: what is deleted, and nothing else.

use coffer_server::RecoveryKit;

use super::places::Places;
use crate::exit::Failure;
use crate::files;

/// What is gone.
pub(super) struct Loss {
    pub(super) sites: Vec<String>,
    pub(super) scenario: String,
}

/// Deletes the first `count` sites of the topology, whose shards carry data
/// and not only parity, and everything that the service and the client kept.
pub(super) fn destroy(places: &Places, count: usize) -> Result<Loss, Failure> {
    let text = coffer_client::profile::read_text(&places.kit())?;
    let kit = RecoveryKit::from_json(&text)?;
    let sites: Vec<String> = kit.sites.iter().take(count).map(|address| address.site.name.clone()).collect();
    for site in &sites {
        files::remove_tree(&places.data.join("sites").join(site))?;
    }
    // Catalogues, key slots' caches and topology of the service; credentials
    // and repository key of the client.
    files::remove_tree(&places.data.join("service"))?;
    files::remove_tree(&places.data.join("topology.json"))?;
    files::remove_tree(&places.profile())?;
    let scenario = format!(
        "trial: {} of {} sites deleted, every catalogue deleted, the key service killed, the client's keys deleted",
        sites.len(),
        kit.sites.len()
    );
    Ok(Loss { sites, scenario })
}
