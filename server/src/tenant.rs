//! One tenant as the service holds it while its keys are open: the unwrapped
//! hierarchy, the catalogue, the log.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use coffer_catalog::{Catalog, CatalogError, Grouping, OpenCatalogError};
use coffer_keys::{
    Dek, Kek, RootKey, TenantRoot, UnwrapError, Wrap, WrapFormatError, unwrap_catalog_key, unwrap_dek,
    unwrap_kek, unwrap_tenant_root, wrap_catalog_key, wrap_dek, wrap_kek, wrap_tenant_root,
};
use coffer_model::{
    AuditEvent, BucketId, CatalogKey, Entropy, Execution, KeyId, ObjectId, ObjectKey, ResidencyPolicy,
    TenantId, VersionId,
};

use crate::audit::AuditLog;
use crate::keystore::{TenantKeys, WrappedKek};
use crate::leaf::leaf;
use crate::metrics::Appends;
use crate::service::Service;

/// Why a tenant's keys did not open.
#[derive(Debug, thiserror::Error)]
pub enum TenantKeyError {
    /// A wrap is damaged or belongs elsewhere.
    #[error("a wrapped key of tenant {0} does not open: {1}")]
    Unwrap(TenantId, UnwrapError),
    /// The slot holds no KEK.
    #[error("the key slot of tenant {0} holds no key epoch")]
    NoEpoch(TenantId),
    /// A wrap is not of the stored form.
    #[error("a wrapped key is not of the stored form: {0}")]
    Form(#[from] WrapFormatError),
}

struct KekEpoch {
    id: KeyId,
    epoch: u32,
    kek: Kek,
}

/// Whom fresh keys are for.
pub(crate) struct NewTenantKeys {
    pub(crate) tenant: TenantId,
    pub(crate) name: String,
    pub(crate) policy: ResidencyPolicy,
    /// The service's own realm.
    pub(crate) service: bool,
}

/// A tenant's opened keys.
pub(crate) struct TenantSecrets {
    tenant: TenantId,
    root: TenantRoot,
    /// Oldest first; the last one wraps.
    keks: Vec<KekEpoch>,
}

impl TenantSecrets {
    /// Fresh keys for a new tenant, every one wrapped, for its slot. They are
    /// opened from there like any others, so that what was stored is what works.
    pub(crate) fn generate(
        new: NewTenantKeys,
        root: &RootKey,
        root_key: KeyId,
        entropy: &dyn Entropy,
    ) -> TenantKeys {
        let NewTenantKeys { tenant, name, policy, service } = new;
        let (root_secret, kek) = (TenantRoot::generate(entropy), Kek::generate(entropy));
        let (tenant_root, kek_id) = (KeyId::generate(entropy), KeyId::generate(entropy));
        let mut catalog_bytes = zeroize::Zeroizing::new([0; 32]);
        entropy.fill(catalog_bytes.as_mut_slice());
        let catalog_key = CatalogKey::new(catalog_bytes);
        let root_wrap = wrap_tenant_root(root, root_key, 1, tenant, tenant_root, &root_secret, entropy);
        let kek_wrap = wrap_kek(&root_secret, tenant_root, 1, tenant, kek_id, &kek, entropy);
        let catalog_wrap = wrap_catalog_key(&kek, kek_id, 1, tenant, &catalog_key, entropy);
        let keks = vec![WrappedKek { id: kek_id, epoch: 1, wrap: kek_wrap.to_bytes().to_vec() }];
        let (root_wrap, catalog_wrap) = (root_wrap.to_bytes().to_vec(), catalog_wrap.to_bytes().to_vec());
        TenantKeys { tenant, name, policy, service, root_key, tenant_root, root_wrap, keks, catalog_wrap }
    }

    /// Opens the wrapped keys of a slot.
    pub(crate) fn open(keys: &TenantKeys, root: &RootKey) -> Result<(Self, CatalogKey), TenantKeyError> {
        let tenant = keys.tenant;
        let bad = |error| TenantKeyError::Unwrap(tenant, error);
        let root_wrap = Wrap::from_bytes(&keys.root_wrap)?;
        let tenant_root =
            unwrap_tenant_root(root, keys.root_key, 1, tenant, keys.tenant_root, &root_wrap).map_err(bad)?;
        let mut keks = Vec::with_capacity(keys.keks.len());
        for wrapped in &keys.keks {
            let wrap = Wrap::from_bytes(&wrapped.wrap)?;
            let kek =
                unwrap_kek(&tenant_root, keys.tenant_root, 1, tenant, wrapped.id, &wrap).map_err(bad)?;
            keks.push(KekEpoch { id: wrapped.id, epoch: wrapped.epoch, kek });
        }
        let newest = keks.last().ok_or(TenantKeyError::NoEpoch(tenant))?;
        let catalog_wrap = Wrap::from_bytes(&keys.catalog_wrap)?;
        let catalog =
            unwrap_catalog_key(&newest.kek, newest.id, newest.epoch, tenant, &catalog_wrap).map_err(bad)?;
        Ok((Self { tenant, root: tenant_root, keks }, catalog))
    }

    /// Wraps a version's DEK under the newest KEK epoch.
    pub(crate) fn wrap(
        &self,
        version: VersionId,
        dek: &Dek,
        entropy: &dyn Entropy,
    ) -> Result<Wrap, TenantKeyError> {
        let newest = self.keks.last().ok_or(TenantKeyError::NoEpoch(self.tenant))?;
        Ok(wrap_dek(&newest.kek, newest.id, newest.epoch, self.tenant, version, dek, entropy))
    }

    /// The ids of this tenant's KEK epochs.
    pub(crate) fn epochs(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.keks.iter().map(|kek| kek.id)
    }

    /// The same with their numbers, oldest first.
    pub(crate) fn numbered_epochs(&self) -> impl Iterator<Item = (KeyId, u32)> + '_ {
        self.keks.iter().map(|kek| (kek.id, kek.epoch))
    }

    /// Unwraps a version's DEK.
    pub(crate) fn unwrap(&self, version: VersionId, wrap: &Wrap) -> Result<Dek, TenantKeyError> {
        let kek = self
            .keks
            .iter()
            .find(|kek| kek.id == wrap.key_id())
            .ok_or(TenantKeyError::NoEpoch(self.tenant))?;
        unwrap_dek(&kek.kek, kek.id, kek.epoch, self.tenant, version, wrap)
            .map_err(|error| TenantKeyError::Unwrap(self.tenant, error))
    }

    /// The object that a key of a bucket names, for who has no other yet: always
    /// the same, so that a put which a lost catalogue forgot, and whose manifest
    /// comes to light later, lies under the tombstones of its key.
    pub(crate) fn object(&self, bucket: BucketId, key: &ObjectKey) -> ObjectId {
        let secret = self.root.sealing_key("object v1");
        let mut hasher = blake3::Hasher::new_keyed(secret.danger_expose());
        hasher.update(b"coffer object v1").update(bucket.as_bytes()).update(key.as_bytes());
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        ObjectId::from_bytes(id)
    }

    /// Seals facts of the registry.
    pub(crate) fn registry_key(&self) -> Dek {
        self.root.sealing_key("registry v1")
    }

    /// Seals tombstones.
    pub(crate) fn tombstone_key(&self) -> Dek {
        self.root.sealing_key("tombstone v1")
    }

    /// Keys the challenges of shards; no site ever sees it.
    pub(crate) fn challenge_key(&self) -> Dek {
        self.root.sealing_key("challenge v1")
    }

    /// Seals runs of log leaves.
    pub(crate) fn log_key(&self) -> Dek {
        self.root.sealing_key("log v1")
    }
}

/// A tenant whose keys are open.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    pub(crate) name: String,
    pub(crate) policy: ResidencyPolicy,
    pub(crate) service: bool,
    pub(crate) secrets: TenantSecrets,
    pub(crate) catalog: Catalog,
    pub(crate) log: AuditLog,
    pub(crate) appends: Arc<Appends>,
    /// Deletions, and removals of buckets, read it from their look at the holds
    /// until they have begun; a hold that is placed writes it.
    pub(crate) holding: tokio::sync::RwLock<()>,
    /// One change of its buckets at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// Puts read it while they send something to the sites of their placement;
    /// whoever has changed a policy writes it, so that nothing is on its way to
    /// a site that is excluded by now.
    pub(crate) placing: Arc<tokio::sync::RwLock<()>>,
    /// Held while a figure of the catalogue is read and written back.
    pub(crate) counting: tokio::sync::Mutex<()>,
    /// Whether orders may be given: where they begin is at the sites.
    pub(crate) orders_open: AtomicBool,
}

impl Tenant {
    /// Appends one event to the tenant's log.
    pub(crate) async fn note(&self, event: &AuditEvent) -> Result<u64, crate::audit::AuditError> {
        self.appends.timed(self.log.append(&self.catalog, event)).await
    }

    /// Appends intent and outcome of a call in one commit: both are there, or
    /// neither is.
    pub(crate) async fn note_both(
        &self,
        intent: &AuditEvent,
        outcome: &AuditEvent,
    ) -> Result<u64, crate::audit::AuditError> {
        let leaves = vec![leaf(intent)?, leaf(outcome)?];
        Ok(self.appends.timed(self.catalog.append_leaves(leaves)).await?)
    }
}

impl Service {
    /// How well the commits of all catalogues were grouped since they were opened.
    pub fn grouping(&self) -> Grouping {
        self.all_tenants().iter().map(|tenant| tenant.catalog.grouping()).fold(
            Grouping::default(),
            |sum, one| Grouping {
                operations: sum.operations + one.operations,
                commits: sum.commits + one.commits,
            },
        )
    }
}

/// The catalogue's file. Named by the tenant's id: a name at rest is sealed.
pub(crate) fn catalog_path(data_dir: &Path, tenant: TenantId) -> PathBuf {
    data_dir.join("service").join("catalogues").join(format!("{tenant}.db"))
}

/// The fact that says that a catalogue is whole: written last by whoever fills
/// it, so that a rebuild which a crash cut short is begun again, not believed.
const WHOLE: &str = "whole";

/// There while a catalogue is filled without fsyncs: after a power cut its
/// pages are of different moments, and it is not even to be opened.
pub(crate) fn filling_path(data_dir: &Path, tenant: TenantId) -> PathBuf {
    catalog_path(data_dir, tenant).with_extension("filling")
}

/// Opens a tenant's catalogue, or makes an empty one where the file is gone,
/// cannot be read (then it is set aside: the sites hold the truth), or was
/// never finished. Returns whether it is whole.
pub(crate) async fn open_or_create(
    data_dir: &Path,
    keys: &TenantKeys,
    root: &RootKey,
    execution: Execution,
) -> Result<(TenantSecrets, Catalog, bool), OpenTenantError> {
    let (secrets, key) = TenantSecrets::open(keys, root)?;
    let path = catalog_path(data_dir, keys.tenant);
    let disk = |source| OpenTenantError::Disk { path: path.clone(), source };
    if filling_path(data_dir, keys.tenant).exists() {
        crate::disk::remove_catalogue(&path).map_err(disk)?;
    }
    if path.exists() {
        match open_whole(&path, key, keys.tenant, execution).await {
            Ok(Some(catalog)) => return Ok((secrets, catalog, true)),
            Ok(None) => crate::disk::remove_catalogue(&path).map_err(disk)?,
            Err(error) if unreadable(&error) => crate::disk::set_aside(&path, "damaged").map_err(disk)?,
            Err(error) => return Err(error.into()),
        }
    }
    let (secrets, key) = TenantSecrets::open(keys, root)?;
    Ok((secrets, Catalog::create_with(path, key, keys.tenant, execution).await?, false))
}

/// The catalogue, if it was ever filled.
async fn open_whole(
    path: &Path,
    key: CatalogKey,
    tenant: TenantId,
    execution: Execution,
) -> Result<Option<Catalog>, OpenCatalogError> {
    let catalog = Catalog::open_with(path.to_owned(), key, tenant, execution).await?;
    if catalog.facts(WHOLE).await?.is_empty() {
        catalog.close().await;
        return Ok(None);
    }
    Ok(Some(catalog))
}

/// Whether the file itself is at fault. Its key is authenticated by the key
/// slot, so that a key which does not open it means a damaged file; a later
/// format, a lock or a failing disk are other people's to settle.
fn unreadable(error: &OpenCatalogError) -> bool {
    use OpenCatalogError::{Catalog, NotACatalogue, WrongKey};
    matches!(error, NotACatalogue(_) | WrongKey(_) | Catalog(CatalogError::Damaged(_)))
}

/// Marks a catalogue as filled.
pub(crate) async fn mark_whole(catalog: &Catalog) -> Result<(), CatalogError> {
    catalog.put_fact(WHOLE, [0; 16], Vec::new()).await
}

/// Why a tenant did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenTenantError {
    /// Its keys did not open.
    #[error(transparent)]
    Keys(#[from] TenantKeyError),
    /// Its catalogue is there and does not open.
    #[error("a catalogue does not open: {0}")]
    Open(#[from] OpenCatalogError),
    /// Its catalogue failed.
    #[error("a catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    /// How far its log went could not be forgotten, so that its catalogue was not made again.
    #[error(transparent)]
    LogSizes(#[from] crate::log_sizes::LogSizesError),
    /// An unfinished catalogue could not be removed.
    #[error("{path}: {source}")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
