//! Where the adapters of sites come from: the port that a host fills, so that
//! a simulation hands in sites of its own, and the host's adapter.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coffer_model::Entropy;
use coffer_regions::Site;
use coffer_site::{DirectorySite, OpenSiteError, SimulatedSite};

use crate::kit::SiteAddress;

/// A site that can be asked.
#[derive(Clone)]
pub struct OpenedSite {
    /// Its adapter.
    pub site: Arc<dyn Site>,
    /// The simulated link before it, for killing and reviving, where it has one.
    pub link: Option<Arc<SimulatedSite>>,
}

/// Makes the adapters of a deployment's sites.
#[async_trait]
pub trait SiteOpener: Send + Sync {
    /// Makes a new, empty site; refuses where there is one already.
    async fn create(&self, data_dir: &Path, address: &SiteAddress) -> Result<OpenedSite, OpenSiteError>;

    /// Opens a site and creates nothing; `None` where there is none.
    async fn open(&self, data_dir: &Path, address: &SiteAddress)
    -> Result<Option<OpenedSite>, OpenSiteError>;
}

/// The sites of this machine: directories below the data directory, behind
/// the links that the site file describes.
pub struct HostSites {
    /// For the nonces of volumes.
    pub entropy: Arc<dyn Entropy>,
}

impl HostSites {
    fn simulate(site: DirectorySite, address: &SiteAddress) -> OpenedSite {
        let latency = Duration::from_millis(u64::from(address.latency_ms));
        let bandwidth = NonZeroU64::new(u64::from(address.bandwidth_mib) << 20);
        let link = Arc::new(SimulatedSite::new(Arc::new(site), latency, bandwidth));
        OpenedSite { site: Arc::clone(&link) as Arc<dyn Site>, link: Some(link) }
    }
}

#[async_trait]
impl SiteOpener for HostSites {
    async fn create(&self, data_dir: &Path, address: &SiteAddress) -> Result<OpenedSite, OpenSiteError> {
        let path = data_dir.join("sites").join(&address.site.name);
        let site = DirectorySite::create(&path, address.site.clone(), Arc::clone(&self.entropy))?;
        Ok(Self::simulate(site, address))
    }

    async fn open(
        &self,
        data_dir: &Path,
        address: &SiteAddress,
    ) -> Result<Option<OpenedSite>, OpenSiteError> {
        let path = data_dir.join("sites").join(&address.site.name);
        if !path.is_dir() {
            return Ok(None);
        }
        let site = DirectorySite::open(&path, address.site.clone(), Arc::clone(&self.entropy))?;
        Ok(Some(Self::simulate(site, address)))
    }
}
