//! A deployment for a story: founded in a temporary directory, served on
//! loopback, stopped, damaged, started again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use coffer_client::{Client, ConnectOptions, Credentials, NewTenant};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::RootKey;
use coffer_model::{BucketName, Degraded, Entropy, Geometry, ObjectKey, ResidencyPolicy, TenantId, Tier};
use coffer_server::{Host, RecoveryKit, Service, SiteFile, serve};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// One deployment and the directory it lives in.
pub struct Deployment {
    dir: TempDir,
    root: RootKey,
    host: Host,
    running: Option<Running>,
    operator: Credentials,
}

struct Running {
    service: Arc<Service>,
    endpoint: String,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// A tenant and a connection with its credential.
pub struct TenantClient {
    /// Its id.
    pub tenant: TenantId,
    /// The connection.
    pub client: Client,
    /// What the connection was made with.
    pub credentials: Credentials,
}

fn host() -> Host {
    Host { clock: Arc::new(SystemClock::default()), entropy: Arc::new(OsEntropy) }
}

impl Deployment {
    /// Six sites without latency, in six countries: DE FR NL CH SE ES.
    pub async fn six_sites() -> Self {
        let fast = SiteFile::SHIPPED
            .lines()
            .filter(|line| !line.starts_with("latency_ms") && !line.starts_with("bandwidth_mib"))
            .collect::<Vec<_>>()
            .join("\n");
        Self::with_sites(&fast).await
    }

    /// The sites of a site file.
    pub async fn with_sites(site_file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = host();
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
        let mut deployment = Self { dir, root, host, running: None, operator };
        deployment.run(service).await;
        deployment
    }

    async fn run(&mut self, service: Arc<Service>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&service);
        let server = tokio::spawn(async move {
            let shutdown = async {
                // A dropped sender stops the server as well as a sent word.
                let _ = stopped.await;
            };
            serve(served, listener, shutdown).await.unwrap();
        });
        self.operator.endpoint.clone_from(&endpoint);
        self.running = Some(Running { service, endpoint, stop, server });
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
        let running = self.running.take().unwrap();
        running.stop.send(()).unwrap();
        running.server.await.unwrap();
    }

    /// Starts it again over what lies in the directory now.
    pub async fn start(&mut self) {
        let service = Service::open(self.host.clone(), &self.data(), &self.root).await.unwrap();
        self.run(service).await;
    }

    /// Removes all that is not a site: catalogues, topology, service state.
    pub fn lose_all_but_sites(&self) {
        std::fs::remove_dir_all(self.data().join("service")).unwrap();
        std::fs::remove_file(self.data().join("topology.json")).unwrap();
    }

    /// Recovers from the sites and the kit.
    pub async fn recover(&mut self, kit: &RecoveryKit) {
        let recovered = Service::recover(self.host.clone(), &self.data(), &self.root, kit, &|_, _| ()).await;
        let (service, _) = recovered.unwrap();
        self.run(service).await;
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
        let credentials = Credentials {
            ca_pem: credentials.ca_pem.clone(),
            certificate_pem: credentials.certificate_pem.clone(),
            key_pem: credentials.key_pem.clone(),
            endpoint: self.endpoint().to_owned(),
        };
        Client::connect(&credentials, self.options()).await.unwrap()
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
        TenantClient { tenant: grant.tenant, client, credentials }
    }

    /// Chance for the tests themselves.
    pub fn entropy(&self) -> &dyn Entropy {
        self.host.entropy.as_ref()
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
