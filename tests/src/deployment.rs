//! A deployment for a story: founded in a temporary directory, served on
//! loopback, stopped, damaged, started again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use coffer_client::{Client, ConnectOptions, Credentials, LogWatch, NewTenant};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::{RootKey, VerifyingKey};
use coffer_model::{BucketName, Degraded, Entropy, Geometry, ObjectKey, ResidencyPolicy, TenantId, Tier};
use coffer_server::{
    Host, JobSettings, OpenError, OwnerLease, RecoverError, RecoveryKit, RecoveryReport, ServeError, Service,
    SiteFile, serve_with,
};
use coffer_site::DirectorySite;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::watched::Watches;
use crate::wire::Wire;

/// One deployment and the directory it lives in.
pub struct Deployment {
    dir: TempDir,
    root: RootKey,
    host: Host,
    running: Option<Running>,
    operator: Credentials,
    jobs: JobSettings,
}

struct Running {
    service: Arc<Service>,
    endpoint: String,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), ServeError>>,
}

/// A tenant and a connection with its credential.
pub struct TenantClient {
    /// Its id.
    pub tenant: TenantId,
    /// The connection.
    pub client: Client,
    /// What the connection was made with.
    pub credentials: Credentials,
    /// The origin line of its log.
    pub log_origin: String,
    /// The key that signs its log.
    pub log_key: VerifyingKey,
}

/// The host that deployments run on if the story brings none.
pub fn host() -> Host {
    Host::of_this_machine(Arc::new(SystemClock), Arc::new(OsEntropy))
}

/// The shipped sites, without their links.
pub fn fast_sites() -> String {
    let of_a_link = |line: &&str| line.starts_with("latency_ms") || line.starts_with("bandwidth_mib");
    SiteFile::SHIPPED.lines().filter(|line| !of_a_link(line)).collect::<Vec<_>>().join("\n")
}

/// The same and more of them: their names and countries.
pub fn fast_sites_and(more: &[(&str, &str)]) -> String {
    more.iter().fold(fast_sites(), |file, (name, country)| {
        file + &format!(
            "\n[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"{name}\"\ntier = \"III\"\n"
        )
    })
}

impl Deployment {
    /// Six sites without latency, in six countries: [`COUNTRIES`].
    pub async fn six_sites() -> Self {
        Self::six_sites_on(host()).await
    }

    /// The same on a host of the story's own.
    pub async fn six_sites_on(host: Host) -> Self {
        Self::on(host, &fast_sites()).await
    }

    /// The same, each behind a watch.
    pub async fn six_watched_sites() -> (Self, Watches) {
        let watches = Watches::default();
        let mut host = host();
        host.sites = watches.before(host.sites);
        (Self::on(host, &fast_sites()).await, watches)
    }

    /// The sites of a site file.
    pub async fn with_sites(site_file: &str) -> Self {
        Self::on(host(), site_file).await
    }

    /// The sites of a site file, on a host of the story's own.
    pub async fn on(host: Host, site_file: &str) -> Self {
        Self::founded_in(tempfile::tempdir().unwrap(), host, site_file).await
    }

    /// The sites of a site file, in a directory whose `data` may hold the
    /// credentials of pods and buckets already.
    pub async fn with_credentials(dir: TempDir, site_file: &str) -> Self {
        Self::founded_in(dir, host(), site_file).await
    }

    /// The same, on a host of the story's own.
    pub async fn with_credentials_on(dir: TempDir, host: Host, site_file: &str) -> Self {
        Self::founded_in(dir, host, site_file).await
    }

    /// Another replica over the same sites, in a directory of its own, which
    /// it makes from what lies at the sites.
    ///
    /// # Errors
    /// The service's own.
    pub async fn replica(&self, host: Host, kit: &RecoveryKit) -> Result<Self, RecoverError> {
        let dir = tempfile::tempdir().unwrap();
        crate::copy_tree(&self.data().join("credentials"), &dir.path().join("data/credentials"));
        let root = RootKey::danger_from_bytes(zeroize::Zeroizing::new(*self.root.danger_expose()));
        let operator = Credentials {
            ca_pem: self.operator.ca_pem.clone(),
            certificate_pem: self.operator.certificate_pem.clone(),
            key_pem: self.operator.key_pem.clone(),
            endpoint: String::new(),
        };
        let mut replica = Self { dir, root, host, running: None, operator, jobs: JobSettings::BY_HAND };
        replica.try_recover(kit).await?;
        Ok(replica)
    }

    async fn founded_in(dir: TempDir, host: Host, site_file: &str) -> Self {
        let root = RootKey::generate(host.entropy.as_ref());
        let sites = SiteFile::parse(site_file).unwrap();
        let (service, operator) =
            Service::found(host.clone(), &dir.path().join("data"), &root, &sites).await.unwrap();
        let operator = Credentials {
            ca_pem: operator.ca_pem,
            certificate_pem: operator.certificate_pem,
            key_pem: operator.key_pem,
            endpoint: String::new(),
        };
        let mut deployment = Self { dir, root, host, running: None, operator, jobs: JobSettings::BY_HAND };
        deployment.run(service).await;
        deployment
    }

    async fn run(&mut self, service: Arc<Service>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let (served, jobs) = (Arc::clone(&service), self.jobs);
        let server = tokio::spawn(async move {
            let shutdown = async {
                // A dropped sender stops the server as well as a sent word.
                let _ = stopped.await;
            };
            serve_with(served, listener, jobs, shutdown).await
        });
        self.operator.endpoint.clone_from(&endpoint);
        self.running = Some(Running { service, endpoint, stop, server });
    }

    /// What runs in the background from the next start on.
    pub fn set_jobs(&mut self, jobs: JobSettings) {
        self.jobs = jobs;
    }

    /// Under which lease it owns its sites from the next start on.
    pub fn set_owner(&mut self, lease: Arc<dyn OwnerLease>) {
        self.host.owner = Some(lease);
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The directory of one site.
    pub fn site_dir(&self, name: &str) -> PathBuf {
        self.data().join("sites").join(name)
    }

    /// A directory beside the data, for sources and restored trees.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// The running service.
    pub fn service(&self) -> &Arc<Service> {
        &self.running.as_ref().unwrap().service
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.running.as_ref().unwrap().endpoint
    }

    /// Stops the service in good order. Clients must be gone.
    pub async fn stop(&mut self) {
        self.stop_whatever().await.unwrap();
    }

    /// Stops the service, which may say that not all ended well.
    ///
    /// # Errors
    /// The service's own.
    pub async fn stop_whatever(&mut self) -> Result<(), ServeError> {
        let running = self.running.take().unwrap();
        running.stop.send(()).unwrap();
        running.server.await.unwrap()
    }

    /// Starts it again over what lies in the directory now.
    pub async fn start(&mut self) {
        self.try_start().await.unwrap();
    }

    /// Stops it, changes something that lies there, and starts it again.
    pub async fn between(&mut self, tenant: &mut TenantClient, change: impl AsyncFnOnce(&Self)) {
        self.stop().await;
        change(self).await;
        self.start().await;
        self.reconnect(tenant).await;
    }

    /// Starts it again, or says why it does not start.
    ///
    /// # Errors
    /// The service's own.
    pub async fn try_start(&mut self) -> Result<(), OpenError> {
        let service = Service::open(self.host.clone(), &self.data(), &self.root).await?;
        self.run(service).await;
        Ok(())
    }

    /// At the next start these sites, and no others, are given up for good.
    pub fn give_up(&mut self, names: &[String]) {
        self.host.given_up = names.iter().cloned().collect();
    }

    /// Removes all that is not a site: catalogues, topology, service state.
    pub fn lose_all_but_sites(&self) {
        std::fs::remove_dir_all(self.data().join("service")).unwrap();
        std::fs::remove_file(self.data().join("topology.json")).unwrap();
    }

    /// Recovers from the sites and the kit.
    pub async fn recover(&mut self, kit: &RecoveryKit) -> RecoveryReport {
        self.try_recover(kit).await.unwrap()
    }

    /// Recovers, or says why not.
    ///
    /// # Errors
    /// The service's own.
    pub async fn try_recover(&mut self, kit: &RecoveryKit) -> Result<RecoveryReport, RecoverError> {
        let recovered = Service::recover(self.host.clone(), &self.data(), &self.root, kit, &|_, _| ()).await;
        let (service, report) = recovered?;
        self.run(service).await;
        Ok(report)
    }

    /// Opens one site beside a service that is stopped, to see and change what
    /// it holds as somebody with its disk could.
    pub fn open_site(&self, kit: &RecoveryKit, name: &str) -> DirectorySite {
        let address = kit.sites.iter().find(|address| address.site.name == name).unwrap();
        let entropy = Arc::clone(&self.host.entropy);
        DirectorySite::open(&self.site_dir(name), address.site.clone(), entropy).unwrap()
    }

    /// The root key, for stories that open the deployment themselves.
    pub fn root(&self) -> &RootKey {
        &self.root
    }

    /// Time and chance.
    pub fn host(&self) -> Host {
        self.host.clone()
    }

    /// A connection as the operator.
    pub async fn operator(&self) -> Client {
        self.connect(&self.operator).await
    }

    /// A connection with any credential, to where the service listens now.
    pub async fn connect(&self, credentials: &Credentials) -> Client {
        self.connect_at(self.endpoint(), credentials).await
    }

    /// The same to another process that serves this deployment.
    pub(crate) async fn connect_at(&self, endpoint: &str, credentials: &Credentials) -> Client {
        let credentials = Credentials {
            ca_pem: credentials.ca_pem.clone(),
            certificate_pem: credentials.certificate_pem.clone(),
            key_pem: credentials.key_pem.clone(),
            endpoint: endpoint.to_owned(),
        };
        Client::connect(&credentials, self.options()).await.unwrap()
    }

    /// The operator's credential.
    pub fn operator_credentials(&self) -> &Credentials {
        &self.operator
    }

    /// The generated clients over one connection, for requests that the SDK
    /// does not make.
    pub async fn wire(&self, credentials: &Credentials) -> Wire {
        Wire::connect(self.endpoint(), credentials).await.unwrap()
    }

    /// Connects a tenant again after a restart.
    pub async fn reconnect(&self, tenant: &mut TenantClient) {
        tenant.client = self.connect(&tenant.credentials).await;
    }

    /// How clients connect.
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions::new(Arc::clone(&self.host.entropy))
    }

    /// A tenant that may lie anywhere, 4+2.
    pub async fn tenant(&self, name: &str) -> TenantClient {
        self.tenant_with(name, policy(&[])).await
    }

    /// A tenant with a policy.
    pub async fn tenant_with(&self, name: &str, policy: ResidencyPolicy) -> TenantClient {
        let operator = self.operator().await;
        let new = NewTenant { name: name.to_owned(), policy };
        let grant = operator.create_tenant(&new, self.host.entropy.as_ref()).await.unwrap();
        let credentials = Credentials {
            ca_pem: self.operator.ca_pem.clone(),
            certificate_pem: grant.certificate_pem,
            key_pem: grant.key_pem,
            endpoint: self.endpoint().to_owned(),
        };
        let client = self.connect(&credentials).await;
        let (log_origin, log_key) = (grant.log_origin, grant.log_key);
        TenantClient { tenant: grant.tenant, client, credentials, log_origin, log_key }
    }

    /// What the operator sees of one site.
    pub async fn site(&self, name: &str) -> coffer_client::SiteInfo {
        let sites = self.operator().await.list_sites().await.unwrap();
        sites.into_iter().find(|site| site.name == name).unwrap()
    }

    /// The log of the service's own realm, read from its catalogue while the
    /// service is stopped.
    pub async fn service_leaves(&self) -> Vec<AuditLeaf> {
        let keys = crate::catalogue_keys(&self.data(), &self.root).await;
        let (realm, key) = keys.iter().find(|(_, key)| key.name == "service").unwrap();
        crate::leaves(&self.data(), *realm, key).iter().map(|leaf| AuditLeaf::read(leaf)).collect()
    }

    /// Chance for the tests themselves.
    pub fn entropy(&self) -> &dyn Entropy {
        self.host.entropy.as_ref()
    }
}

/// Name and country of each of the six sites.
pub const COUNTRIES: [(&str, &str); 6] =
    [("fra1", "DE"), ("par1", "FR"), ("ams1", "NL"), ("zrh1", "CH"), ("sto1", "SE"), ("mad1", "ES")];

/// 3+1, so that two sites of six may be denied, refusing degraded writes; these jurisdictions are.
pub fn roomy(deny: &[&str]) -> ResidencyPolicy {
    ResidencyPolicy {
        deny: deny.iter().map(|place| place.parse().unwrap()).collect(),
        geometry: Geometry::new(3, 1).unwrap(),
        ..policy(&[])
    }
}

/// 4+2, refusing degraded writes, in these jurisdictions (none: anywhere).
pub fn policy(allow: &[&str]) -> ResidencyPolicy {
    ResidencyPolicy {
        allow: allow.iter().map(|place| place.parse().unwrap()).collect(),
        deny: vec![],
        tier_min: Tier::I,
        geometry: Geometry::DEFAULT,
        degraded: Degraded::Refuse,
    }
}

impl TenantClient {
    /// Puts bytes without metadata.
    pub async fn put(&self, bucket: &BucketName, key: &str, body: Bytes) {
        self.client.put_bytes(bucket, &object_key(key), &Default::default(), body).await.unwrap();
    }

    /// Gets a whole object.
    pub async fn get(&self, bucket: &BucketName, key: &str) -> Result<Bytes, coffer_client::GetError> {
        let (info, body) = self.client.get(bucket, &object_key(key), None).await?;
        body.collect(info.size).await
    }
}

impl TenantClient {
    /// A watch over the tenant's log that remembers nothing yet.
    pub fn watch(&self) -> LogWatch {
        LogWatch::new(self.log_origin.clone(), self.log_key, None).unwrap()
    }

    /// Every leaf up to a checkpoint made now, each proven to be in the log.
    pub async fn leaves(&self) -> Vec<AuditLeaf> {
        let mut watch = self.watch();
        let checkpoint = watch.advance(&self.client).await.unwrap();
        let mut leaves = Vec::new();
        for index in 0..checkpoint.size {
            let proof = watch.leaf(&self.client, index, &checkpoint).await.unwrap();
            leaves.push(AuditLeaf::read(&proof.leaf));
        }
        leaves
    }
}

/// What an auditor reads in a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLeaf {
    /// For example `object_put`.
    pub operation: String,
    /// `intent`, `done`, `denied` or `failed`.
    pub outcome: String,
    /// On what.
    pub subject: String,
}

impl AuditLeaf {
    /// Reads a leaf's body.
    pub fn read(leaf: &[u8]) -> Self {
        let value: serde_json::Value = serde_json::from_slice(leaf).unwrap();
        let text = |pointer: &str| value.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        Self {
            operation: text("/api/operation"),
            outcome: text("/status_detail"),
            subject: text("/resources/0/uid"),
        }
    }
}

/// An object key of text.
pub fn object_key(key: &str) -> ObjectKey {
    ObjectKey::new(key.as_bytes()).unwrap()
}

/// A bucket name.
pub fn bucket_name(name: &str) -> BucketName {
    BucketName::new(name).unwrap()
}

/// Bytes that no compressor likes and every test can compute again.
pub fn pattern(seed: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
    Bytes::from(bytes)
}
