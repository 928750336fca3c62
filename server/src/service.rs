//! The running deployment: found, open, recover, shut down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError, RwLock};

use coffer_keys::RootKey;
use coffer_keys::{SigningKey, VerifyingKey};
use coffer_model::{
    Actor, AuditEvent, Clock, Entropy, Execution, KeyId, Operation, Outcome, PrincipalId, ResidencyPolicy,
    Role, SlotId, TenantId, Tier, Timestamp,
};
use tokio::sync::Mutex;

use crate::again::UnderWay;
use crate::audit::{AuditError, AuditLog, LogReach, Signed};
use crate::authority::{Authority, IssuedCredential};
use crate::custody::Custody;
use crate::damage::DamageBook;
use crate::hedge::ReadHabits;
use crate::holders::HolderBook;
use crate::jobs::Watch;
use crate::keystore::{self, DangerDeploymentSecrets, TenantKeys};
use crate::kit::{PinnedCheckpoint, RecoveryKit, SiteAddress};
use crate::log_sizes;
use crate::measured::Timed;
use crate::metrics::{Appends, Calls};
use crate::opener::{HostSites, SiteOpener};
use crate::owner::{OwnerLease, scope_of};
use crate::reach;
use crate::registry::service_geometry;
use crate::repair::{Foreground, Repairs};
use crate::service_error::{FoundError, OpenError, RecoverError, StopError};
use crate::site_file::SiteFile;
use crate::sites::Sites;
use crate::stored::Principal;
use crate::strangers::Strangers;
use crate::tenant::{NewTenantKeys, OpenTenantError, Tenant, TenantSecrets, mark_whole, open_or_create};
use crate::witness::Witnesses;

/// Time, chance and sites of the host that runs the service.
#[derive(Clone)]
pub struct Host {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where random numbers come from.
    pub entropy: Arc<dyn Entropy>,
    /// Where the adapters of sites come from.
    pub sites: Arc<dyn SiteOpener>,
    /// On which threads the catalogues work, and whatever else fills a core.
    pub catalogues: Execution,
    /// This replica's lease of the deployment; `None`: there are no replicas.
    pub owner: Option<Arc<dyn OwnerLease>>,
    /// Names of sites that an operator has given up for good. A catalogue is
    /// rebuilt without them however many they are; what they alone knew is gone.
    pub given_up: BTreeSet<String>,
}

impl Host {
    /// A host whose sites are directories of this machine.
    pub fn of_this_machine(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let sites = Arc::new(HostSites::new(Arc::clone(&entropy)));
        Self { clock, entropy, sites, catalogues: Execution::Threads, owner: None, given_up: BTreeSet::new() }
    }
}

/// Told how far a recovery is: phase, and its count of bytes or records.
pub type RecoveryProgress<'a> = &'a (dyn Fn(&'static str, u64) + Send + Sync);

/// What a recovery brought back.
#[derive(Clone, Debug)]
pub struct RecoveryReport {
    /// Tenants.
    pub tenants: usize,
    /// Object versions indexed.
    pub versions: u64,
    /// Records that sites list as a tenant's and of which no copy can be read:
    /// what they said is not in the catalogues.
    pub unreadable: u64,
    /// When the newest of them was written.
    pub newest_write: Option<Timestamp>,
    /// Sites that did not answer.
    pub missing_sites: Vec<String>,
    /// Puts cut off by a crash that could not be settled, because too few
    /// sites answer; nothing of them is visible, and the next start tries again.
    pub unsettled: u64,
}

/// A deployment whose keys are open.
pub struct Service {
    pub(crate) host: Host,
    pub(crate) data_dir: PathBuf,
    pub(crate) sites: Sites,
    pub(crate) authority: Authority,
    pub(crate) evidence: Arc<SigningKey>,
    pub(crate) evidence_name: String,
    pub(crate) deployment: DangerDeploymentSecrets,
    /// Open while tenants may be created.
    pub(crate) root: RootKey,
    pub(crate) root_key: KeyId,
    tenants: RwLock<BTreeMap<TenantId, Arc<Tenant>>>,
    principals: RwLock<BTreeMap<[u8; 32], Principal>>,
    /// What is known to be wrong at the sites.
    pub(crate) damage: DamageBook,
    /// What repair keeps between its rounds.
    pub(crate) repairs: Repairs,
    /// How long the last rebuild of this run took.
    pub(crate) rebuilt: StdMutex<Option<Timed>>,
    /// From where versions can be read, as it was last counted.
    pub(crate) holders: HolderBook,
    /// The calls of tenants, for repair to give way to.
    pub(crate) foreground: Arc<Foreground>,
    /// Whoever changes the sites writes it, alone and perhaps for long; a move
    /// reads it. Always before the `placing` of a tenant.
    pub(crate) changing_sites: tokio::sync::RwLock<()>,
    /// Puts that have begun and not ended.
    pub(crate) puts: Arc<UnderWay>,
    /// What reads have learnt about the sites.
    pub(crate) reads: Arc<ReadHabits>,
    /// What is on disk about how far the sites reach.
    pub(crate) reach_noted: Mutex<reach::Book>,
    /// What is on disk about how long the logs are.
    pub(crate) log_sizes: Mutex<log_sizes::Book>,
    /// What the background jobs keep.
    pub(crate) watch: Watch,
    /// One tenant is created at a time.
    pub(crate) creating: Mutex<()>,
    /// Calls by nobody who is known.
    pub(crate) strangers: Strangers,
    /// The calls that were answered, for the figures.
    pub(crate) calls: Arc<Calls>,
    /// How long leaves waited, for the figures.
    pub(crate) appends: Arc<Appends>,
    /// Who gave the root key.
    pub(crate) custody: OnceLock<Custody>,
    /// Who cosigns the checkpoints.
    pub(crate) witnesses: OnceLock<Witnesses>,
}

impl Service {
    /// Whether `data_dir` holds a deployment.
    pub fn is_founded(data_dir: &Path) -> bool {
        topology_path(data_dir).exists()
    }

    /// Whether `data_dir` holds sites, with or without their topology file.
    pub fn has_sites(data_dir: &Path) -> bool {
        data_dir.join("sites").exists()
    }

    /// Writes a lost topology file anew from the recovery kit. Sites that are
    /// not those of the kit will not open.
    ///
    /// # Errors
    /// What the file system says; one that exists is an error.
    pub fn restore_topology(data_dir: &Path, kit: &RecoveryKit) -> Result<(), std::io::Error> {
        if Self::is_founded(data_dir) {
            return Err(std::io::ErrorKind::AlreadyExists.into());
        }
        write_topology(data_dir, &kit.sites)
    }

    /// Founds a deployment in an empty directory: sites, CA, evidence key,
    /// key store, and the realm of the service itself.
    ///
    /// # Errors
    /// [`FoundError`].
    pub async fn found(
        host: Host,
        data_dir: &Path,
        root: &RootKey,
        sites: &SiteFile,
    ) -> Result<(Arc<Self>, IssuedCredential), FoundError> {
        if Self::is_founded(data_dir) {
            return Err(FoundError::Exists(data_dir.to_owned()));
        }
        if Self::has_sites(data_dir) {
            return Err(FoundError::Remains(data_dir.to_owned()));
        }
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |source| FoundError::Disk { path, source }
        };
        let state = data_dir.join("service").join("catalogues");
        std::fs::create_dir_all(&state).map_err(disk(&state))?;
        let addresses = sites.addresses(host.entropy.as_ref());
        let opened = Sites::create(&host, data_dir, &addresses).await?;
        let authority = Authority::found()?;
        let operator = PrincipalId::generate(host.entropy.as_ref());
        let (credential, fingerprint) = authority.issue(operator)?;
        let evidence = SigningKey::generate(host.entropy.as_ref());
        let secrets = fresh_secrets(&host, &authority, &evidence, operator, fingerprint);
        // Nothing is written before the sites know whose it is.
        opened.take_up(scope_of(&secrets.deployment), data_dir).await?.note(data_dir)?;
        let root_key = root_key_id();
        let slot = SlotId::generate(host.entropy.as_ref());
        keystore::write_deployment(&opened, root, slot, 1, &secrets, host.entropy.as_ref()).await?;
        let service = Self::assemble(host, data_dir, opened, authority, secrets, root);
        let policy = ResidencyPolicy {
            allow: vec![],
            deny: vec![],
            tier_min: Tier::I,
            geometry: service_geometry(addresses.len()),
            degraded: coffer_model::Degraded::Refuse,
        };
        let realm = service.add_tenant("service".to_owned(), policy, true, root, root_key).await?;
        service.enter_on_roll(&realm, realm.id).await?;
        write_topology(data_dir, &addresses).map_err(disk(&topology_path(data_dir)))?;
        Ok((Arc::new(service), credential))
    }

    /// Opens a deployment, rebuilds every catalogue that is gone, and settles
    /// what a crash left.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(host: Host, data_dir: &Path, root: &RootKey) -> Result<Arc<Self>, OpenError> {
        if !Self::is_founded(data_dir) {
            return Err(OpenError::NotFounded(data_dir.to_owned()));
        }
        let addresses = read_topology(data_dir)?;
        let (service, _) = Self::start(host, data_dir, addresses, root, &|_, _| ()).await?;
        Ok(Arc::new(service))
    }

    /// Opens a deployment of which only sites are left, from its recovery kit.
    ///
    /// # Errors
    /// [`RecoverError`]; sites were only read unless it succeeded.
    pub async fn recover(
        host: Host,
        data_dir: &Path,
        root: &RootKey,
        kit: &RecoveryKit,
        progress: RecoveryProgress<'_>,
    ) -> Result<(Arc<Self>, RecoveryReport), RecoverError> {
        let state = data_dir.join("service");
        if state.exists() {
            return Err(RecoverError::Occupied(state));
        }
        refuse_if_too_many_lost(data_dir, kit, &host.given_up)?;
        let recovered = Self::recover_state(host, data_dir, root, kit, progress).await;
        if recovered.is_err() && state.exists() {
            // What this attempt made must not be in the way of the next one.
            std::fs::remove_dir_all(&state).map_err(|source| RecoverError::Disk { path: state, source })?;
        }
        recovered
    }

    /// The topology is written last: without it there is nothing to open, so
    /// that a recovery cut short before its logs were held against the kit is
    /// never served.
    async fn recover_state(
        host: Host,
        data_dir: &Path,
        root: &RootKey,
        kit: &RecoveryKit,
        progress: RecoveryProgress<'_>,
    ) -> Result<(Arc<Self>, RecoveryReport), RecoverError> {
        let (service, report) = Self::start(host, data_dir, kit.sites.clone(), root, progress).await?;
        crate::history::check(&service, kit).await?;
        write_topology(data_dir, &service.sites.addresses())
            .map_err(|source| RecoverError::Disk { path: topology_path(data_dir), source })?;
        Ok((Arc::new(service), report))
    }

    pub(crate) fn assemble(
        host: Host,
        data_dir: &Path,
        sites: Sites,
        authority: Authority,
        deployment: DangerDeploymentSecrets,
        root: &RootKey,
    ) -> Self {
        let evidence =
            Arc::new(SigningKey::danger_from_seed(zeroize::Zeroizing::new(deployment.evidence_seed)));
        let evidence_name = evidence_name(&deployment.deployment);
        let operators =
            deployment.operators.iter().map(|principal| (principal.fingerprint, principal.clone())).collect();
        let foreground = Foreground::new(Arc::clone(&host.clock));
        let calls = Arc::new(Calls::new(Arc::clone(&host.clock)));
        let appends = Arc::new(Appends::new(Arc::clone(&host.clock)));
        Self {
            host,
            data_dir: data_dir.to_owned(),
            sites,
            authority,
            evidence,
            evidence_name,
            deployment,
            root: RootKey::danger_from_bytes(zeroize::Zeroizing::new(*root.danger_expose())),
            root_key: root_key_id(),
            tenants: RwLock::default(),
            principals: RwLock::new(operators),
            damage: DamageBook::default(),
            repairs: Repairs::default(),
            rebuilt: StdMutex::default(),
            holders: HolderBook::default(),
            foreground,
            changing_sites: tokio::sync::RwLock::new(()),
            puts: Arc::default(),
            reads: Arc::default(),
            reach_noted: Mutex::default(),
            log_sizes: Mutex::new(log_sizes::Book::read(data_dir)),
            watch: Watch::default(),
            creating: Mutex::new(()),
            strangers: Strangers::default(),
            calls,
            appends,
            custody: OnceLock::new(),
            witnesses: OnceLock::new(),
        }
    }

    /// Makes a tenant with its keys, slot, catalogue and log.
    pub(crate) async fn add_tenant(
        &self,
        name: String,
        policy: ResidencyPolicy,
        service: bool,
        root: &RootKey,
        root_key: KeyId,
    ) -> Result<Arc<Tenant>, FoundError> {
        let entropy = self.host.entropy.as_ref();
        let id = TenantId::generate(entropy);
        let new = NewTenantKeys { tenant: id, name, policy, service };
        let keys = TenantSecrets::generate(new, root, root_key, entropy);
        let slot = SlotId::generate(entropy);
        keystore::write_tenant(&self.sites, &self.deployment, slot, 1, &keys, entropy).await?;
        if let Some(realm) = self.service_realm() {
            self.enter_on_roll(&realm, id).await?;
        }
        let (secrets, catalog, _) = open_or_create(&self.data_dir, &keys, root, self.host.catalogues).await?;
        mark_whole(&catalog).await.map_err(OpenTenantError::Catalog)?;
        Ok(self.insert_tenant(self.tenant_of(&keys, secrets, catalog)))
    }

    pub(crate) fn tenant_of(
        &self,
        keys: &TenantKeys,
        secrets: TenantSecrets,
        catalog: coffer_catalog::Catalog,
    ) -> Tenant {
        let origin = format!("{}/log/{}", self.evidence_name, keys.tenant);
        let log = AuditLog::new(keys.tenant, origin, Arc::clone(&self.evidence), self.evidence_name.clone());
        Tenant {
            id: keys.tenant,
            name: keys.name.clone(),
            policy: keys.policy.clone(),
            service: keys.service,
            secrets,
            catalog,
            log,
            appends: Arc::clone(&self.appends),
            holding: tokio::sync::RwLock::default(),
            changing: Mutex::default(),
            placing: Arc::default(),
            counting: Mutex::default(),
            orders_open: AtomicBool::new(false),
        }
    }

    pub(crate) fn insert_tenant(&self, tenant: Tenant) -> Arc<Tenant> {
        let tenant = Arc::new(tenant);
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        tenants.insert(tenant.id, Arc::clone(&tenant));
        tenant
    }

    /// What the service itself does now, for a log.
    pub(crate) fn own_event(
        &self,
        tenant: Option<TenantId>,
        operation: Operation,
        subject: String,
        outcome: Outcome,
    ) -> AuditEvent {
        AuditEvent { time: self.host.clock.now(), tenant, actor: Actor::Service, operation, subject, outcome }
    }

    pub(crate) fn insert_principal(&self, principal: Principal) {
        let mut principals = self.principals.write().unwrap_or_else(PoisonError::into_inner);
        principals.insert(principal.fingerprint, principal);
    }

    pub(crate) fn principal(&self, fingerprint: &[u8; 32]) -> Option<Principal> {
        self.principals.read().unwrap_or_else(PoisonError::into_inner).get(fingerprint).cloned()
    }

    pub(crate) fn tenant(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Every tenant, the service's own realm included.
    pub(crate) fn all_tenants(&self) -> Vec<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The realm of the service itself, whose log takes what has no tenant.
    pub(crate) fn service_realm(&self) -> Option<Arc<Tenant>> {
        self.all_tenants().into_iter().find(|tenant| tenant.service)
    }

    /// Tenants and their names, the service's own realm left out.
    pub fn tenants(&self) -> Vec<(TenantId, String)> {
        let all = self.all_tenants();
        all.iter().filter(|tenant| !tenant.service).map(|tenant| (tenant.id, tenant.name.clone())).collect()
    }

    /// Names of the sites whose directory is there and does not open, and why;
    /// they count as lost until that is mended and the service starts again.
    pub fn unopened_sites(&self) -> Vec<(String, String)> {
        self.sites.unopened()
    }

    /// The certificate of the deployment's CA, PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.ca_pem()
    }

    /// The key that verifies checkpoints and drill records.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.evidence.verifying_key()
    }

    /// A signed checkpoint of a tenant's log, its leaves durable at the sites first.
    pub(crate) async fn checkpoint(&self, tenant: &Tenant) -> Result<Signed, AuditError> {
        let key = tenant.secrets.log_key();
        let reach = LogReach {
            sites: &self.sites,
            policy: &tenant.policy,
            key: &key,
            entropy: self.host.entropy.as_ref(),
        };
        tenant.log.checkpoint(&tenant.catalog, &reach).await
    }

    /// The public recovery kit, with checkpoints signed now.
    ///
    /// # Errors
    /// [`AuditError`] if a log cannot be made durable.
    pub async fn kit(&self) -> Result<RecoveryKit, AuditError> {
        self.pin_reach().await?;
        let mut checkpoints = Vec::new();
        for tenant in self.all_tenants() {
            let checkpoint = self.checkpoint(&tenant).await?.note;
            checkpoints.push(PinnedCheckpoint { origin: tenant.log.origin().to_owned(), checkpoint });
        }
        checkpoints.sort_by(|a, b| a.origin.cmp(&b.origin));
        let key = self.evidence.verifying_key();
        let ca_pem = self.authority.ca_pem().to_owned();
        let mut sites = self.sites.addresses();
        // A kit is kept for longer than it takes to fill a disk.
        sites.iter_mut().for_each(|address| address.refilling = false);
        Ok(RecoveryKit::new(sites, ca_pem, self.evidence_name.clone(), &key, checkpoints))
    }

    /// Makes every log durable at the sites and closes the catalogues, so that
    /// nothing touches their files any more. Call before leaving; calls that
    /// come later are refused.
    ///
    /// # Errors
    /// [`StopError`], of the first log that failed; its leaves stay in the
    /// catalogue and follow at the next start.
    pub async fn shut_down(&self) -> Result<(), StopError> {
        self.reads.close();
        let mut outcome = self.pin_reach().await;
        for tenant in self.all_tenants() {
            outcome = outcome.and(self.checkpoint(&tenant).await.map(drop));
        }
        outcome = outcome.and(self.note_reach().await);
        let outcome =
            outcome.map_err(StopError::from).and(self.note_log_sizes().await.map_err(StopError::from));
        for tenant in self.all_tenants() {
            tenant.catalog.clone().close().await;
        }
        outcome
    }
}

fn fresh_secrets(
    host: &Host,
    authority: &Authority,
    evidence: &SigningKey,
    operator: PrincipalId,
    fingerprint: [u8; 32],
) -> DangerDeploymentSecrets {
    let mut keystore_key = [0; 32];
    host.entropy.fill(&mut keystore_key);
    let created = host.clock.now();
    let operator = Principal { id: operator, fingerprint, role: Role::Operator, tenant: None, created };
    DangerDeploymentSecrets {
        deployment: host.entropy.sixteen(),
        keystore_epoch: 1,
        keystore_key,
        evidence_seed: *evidence.danger_seed(),
        authority_key_pem: authority.danger_key_pem().to_owned(),
        authority_ca_pem: authority.ca_pem().to_owned(),
        operators: vec![operator],
    }
}

/// The name of the evidence key and of the logs: says which deployment, not whose.
fn evidence_name(deployment: &[u8; 16]) -> String {
    deployment.iter().fold("coffer-".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Root versions start at one; the id names the version, not the key.
fn root_key_id() -> KeyId {
    let mut bytes = [0; 16];
    bytes[15] = 1;
    KeyId::from_bytes(bytes)
}

fn refuse_if_too_many_lost(
    data_dir: &Path,
    kit: &RecoveryKit,
    given_up: &BTreeSet<String>,
) -> Result<(), RecoverError> {
    let gone = |address: &&SiteAddress| {
        address.home.is_gone(data_dir, &address.site.name) && !given_up.contains(&address.site.name)
    };
    let missing: Vec<String> =
        kit.sites.iter().filter(gone).map(|address| address.site.name.clone()).collect();
    let losable = coffer_model::Geometry::DEFAULT.m().min(kit.sites.len().saturating_sub(1));
    let more = missing.len().saturating_sub(losable);
    if more == 0 { Ok(()) } else { Err(RecoverError::TooManyLost { missing, total: kit.sites.len(), more }) }
}

fn topology_path(data_dir: &Path) -> PathBuf {
    data_dir.join("topology.json")
}

pub(crate) fn write_topology(data_dir: &Path, addresses: &[SiteAddress]) -> Result<(), std::io::Error> {
    let text = serde_json::to_string_pretty(addresses)?;
    crate::disk::write_durably(&topology_path(data_dir), text.as_bytes())
}

fn read_topology(data_dir: &Path) -> Result<Vec<SiteAddress>, OpenError> {
    let path = topology_path(data_dir);
    let text = crate::disk::read_bounded(&path).map_err(|source| OpenError::Disk { path, source })?;
    serde_json::from_slice(&text).map_err(OpenError::Topology)
}
