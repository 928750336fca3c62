//! Where the adapters of sites come from: the port that a host fills, so that
//! a simulation hands in sites of its own, and the host's adapter.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coffer_model::Entropy;
use coffer_regions::Site;
use coffer_site::{
    AsListed, BucketOptions, BucketSite, BucketTiming, DirectorySite, Discovery, OpenSiteError, PodOptions,
    PodSite, PodTiming, SimulatedSite, Witness,
};

use crate::home::{CredentialFiles, SiteHome};
use crate::kit::SiteAddress;
use crate::refusals::Refusals;

/// A site that can be asked.
#[derive(Clone)]
pub struct OpenedSite {
    /// Its adapter.
    pub site: Arc<dyn Site>,
    /// The simulated link before it, for killing and reviving, where it has one.
    pub link: Option<Arc<SimulatedSite>>,
}

impl OpenedSite {
    /// A site without a simulated link.
    fn real(site: impl Site + 'static) -> Self {
        Self { site: Arc::new(site), link: None }
    }
}

/// Makes the adapters of a deployment's sites.
#[async_trait]
pub trait SiteOpener: Send + Sync {
    /// Makes a new, empty site; refuses where there is one already.
    async fn create(&self, data_dir: &Path, address: &SiteAddress) -> Result<OpenedSite, OpenSiteError>;

    /// Opens a site and creates nothing; `None` where there is none.
    async fn open(&self, data_dir: &Path, address: &SiteAddress)
    -> Result<Option<OpenedSite>, OpenSiteError>;

    /// What its sites did that no site may do, for the service's log.
    fn refusals(&self) -> Option<Arc<Refusals>> {
        None
    }
}

/// The sites of a real deployment: directories below the data directory,
/// behind the links that the site file describes; pods; buckets.
pub struct HostSites {
    /// For the nonces of volumes and of receipts.
    entropy: Arc<dyn Entropy>,
    refusals: Arc<Refusals>,
    pod_timing: PodTiming,
    /// Where pods are now.
    discovery: Arc<dyn Discovery>,
}

impl HostSites {
    /// With the deadlines that pods have by default.
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self::with_timing(entropy, PodTiming::default())
    }

    /// With deadlines of the caller's.
    pub fn with_timing(entropy: Arc<dyn Entropy>, pod_timing: PodTiming) -> Self {
        Self { entropy, refusals: Arc::default(), pod_timing, discovery: Arc::new(AsListed) }
    }

    /// The same, with pods that may be elsewhere than the topology says.
    #[must_use]
    pub fn finding(self, discovery: Arc<dyn Discovery>) -> Self {
        Self { discovery, ..self }
    }

    fn simulate(site: DirectorySite, address: &SiteAddress) -> OpenedSite {
        let latency = Duration::from_millis(u64::from(address.latency_ms));
        let bandwidth = NonZeroU64::new(u64::from(address.bandwidth_mib) << 20);
        let link = Arc::new(SimulatedSite::new(Arc::new(site), latency, bandwidth));
        OpenedSite { site: Arc::clone(&link) as Arc<dyn Site>, link: Some(link) }
    }

    async fn pod(
        &self,
        data_dir: &Path,
        address: &SiteAddress,
        endpoint: &str,
        credentials: &str,
    ) -> Result<PodSite, OpenSiteError> {
        let options = PodOptions {
            description: address.site.clone(),
            endpoint: endpoint.to_owned(),
            discovery: Arc::clone(&self.discovery),
            credentials: CredentialFiles::of(data_dir, credentials).pod()?,
            timing: self.pod_timing.clone(),
            entropy: Arc::clone(&self.entropy),
            witness: Arc::clone(&self.refusals) as Arc<dyn Witness>,
        };
        PodSite::open(options).await.map_err(OpenSiteError::Pod)
    }

    /// A pod's store is made beside its disk; a new deployment takes it empty.
    async fn new_pod(
        &self,
        data_dir: &Path,
        address: &SiteAddress,
        endpoint: &str,
        credentials: &str,
    ) -> Result<PodSite, OpenSiteError> {
        let pod = self.pod(data_dir, address, endpoint, credentials).await?;
        let name = || address.site.name.clone();
        if let Some(refusal) = pod.refusal() {
            return Err(OpenSiteError::Refused { name: name(), refusal });
        }
        let (state, slots) = (pod.state().await, pod.list_slots().await);
        match slots {
            Ok(slots) if state.alive && slots.is_empty() && state.records == 0 => Ok(pod),
            Ok(_) if state.alive => Err(OpenSiteError::Used { name: name() }),
            _ => Err(OpenSiteError::Silent { name: name(), endpoint: endpoint.to_owned() }),
        }
    }
}

/// What a bucket is reached with; `None` where the home is none.
fn bucket_options(data_dir: &Path, address: &SiteAddress) -> Result<Option<BucketOptions>, OpenSiteError> {
    let SiteHome::Bucket { endpoint, name, prefix, region, credentials } = &address.home else {
        return Ok(None);
    };
    let (access_key_id, secret_access_key) = CredentialFiles::of(data_dir, credentials).bucket()?;
    Ok(Some(BucketOptions {
        description: address.site.clone(),
        endpoint: endpoint.clone(),
        bucket: name.clone(),
        prefix: prefix.clone(),
        region: region.clone(),
        access_key_id,
        secret_access_key,
        timing: BucketTiming::default(),
    }))
}

#[async_trait]
impl SiteOpener for HostSites {
    async fn create(&self, data_dir: &Path, address: &SiteAddress) -> Result<OpenedSite, OpenSiteError> {
        if let SiteHome::Pod { endpoint, credentials } = &address.home {
            return Ok(OpenedSite::real(self.new_pod(data_dir, address, endpoint, credentials).await?));
        }
        if let Some(options) = bucket_options(data_dir, address)? {
            return Ok(OpenedSite::real(BucketSite::create(options).await.map_err(OpenSiteError::Bucket)?));
        }
        let path = data_dir.join("sites").join(&address.site.name);
        let site = DirectorySite::create(&path, address.site.clone(), Arc::clone(&self.entropy))?;
        Ok(Self::simulate(site, address))
    }

    async fn open(
        &self,
        data_dir: &Path,
        address: &SiteAddress,
    ) -> Result<Option<OpenedSite>, OpenSiteError> {
        if let SiteHome::Pod { endpoint, credentials } = &address.home {
            return Ok(Some(OpenedSite::real(self.pod(data_dir, address, endpoint, credentials).await?)));
        }
        if let Some(options) = bucket_options(data_dir, address)? {
            let site = BucketSite::open(options).await.map_err(OpenSiteError::Bucket)?;
            return Ok(Some(OpenedSite::real(site)));
        }
        let path = data_dir.join("sites").join(&address.site.name);
        if !path.is_dir() {
            return Ok(None);
        }
        let site = DirectorySite::open(&path, address.site.clone(), Arc::clone(&self.entropy))?;
        Ok(Some(Self::simulate(site, address)))
    }

    fn refusals(&self) -> Option<Arc<Refusals>> {
        Some(Arc::clone(&self.refusals))
    }
}
