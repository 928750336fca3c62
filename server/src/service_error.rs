//! Why a deployment was not founded, opened or recovered: one enum for each,
//! split by whose move is next.

use std::collections::BTreeSet;
use std::path::PathBuf;

use coffer_catalog::CatalogError;
use coffer_model::TenantId;
use coffer_site::OpenSiteError;

use crate::audit::AuditError;
use crate::authority::AuthorityError;
use crate::keystore::KeystoreError;
use crate::log_sizes::LogSizesError;
use crate::owner::TakeUpError;
use crate::rebuild::RebuildError;
use crate::registry::RegistryError;
use crate::sweep::SweepError;
use crate::tenant::OpenTenantError;

fn ids(tenants: &BTreeSet<TenantId>) -> String {
    tenants.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Why a deployment was not founded. What was begun is named and can be removed.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The directory already holds a deployment.
    #[error("{0} already holds a deployment; it was not touched")]
    Exists(PathBuf),
    /// There are sites, and no topology file that says which.
    #[error("{0} holds sites, but not the topology file of their deployment; nothing was touched")]
    Remains(PathBuf),
    /// A file or directory could not be made.
    #[error("{path}: {source}")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A site's store could not be made.
    #[error("a site could not be created: {0}")]
    Site(#[from] OpenSiteError),
    /// The CA could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The sites are another replica's.
    #[error(transparent)]
    TakeUp(#[from] TakeUpError),
    /// The keys could not be stored.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// The tenant's catalogue could not be made.
    #[error(transparent)]
    Tenant(#[from] OpenTenantError),
    /// The roll of tenants did not take it.
    #[error(transparent)]
    Roll(#[from] RegistryError),
}

/// Why a deployment did not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no deployment here.
    #[error("{0} holds no deployment")]
    NotFounded(PathBuf),
    /// The topology file cannot be read.
    #[error("{path}: {source}")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The topology file is not what was written.
    #[error("the topology file is damaged: {0}; restore it from the recovery kit")]
    Topology(serde_json::Error),
    /// A site's store is there and does not open.
    #[error("a site does not open: {0}")]
    Site(#[from] OpenSiteError),
    /// The keys did not open.
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    /// This replica does not own the deployment.
    #[error(transparent)]
    TakeUp(#[from] TakeUpError),
    /// A tenant did not open.
    #[error(transparent)]
    Tenant(#[from] OpenTenantError),
    /// A catalogue is gone, and so are more of its tenant's sites than its
    /// geometry can lose: a rebuild could leave out versions in silence.
    #[error("the catalogue of tenant {tenant} is gone and {} of its sites do not answer with what they knew ({}); {more} more would suffice to rebuild it. Nothing was changed: bring them back; or, if they are gone for good, start once with --without-site for each: what they alone knew is left out then", missing.len(), missing.join(", "))]
    TooManyLost {
        /// Whose catalogue.
        tenant: TenantId,
        /// Names of the sites that do not answer.
        missing: Vec<String>,
        /// How many of them must come back.
        more: usize,
    },
    /// A site was given up that the deployment does not have.
    #[error("there is no site {name} to go without; the sites are {}", known.join(", "))]
    NoSuchSite {
        /// Which.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// No site that answers has the keys of the service's own realm.
    #[error("none of the sites that answer has the keys of the service's own log; these do not answer: {}. Nothing was changed: bring one of them back", silent.join(", "))]
    NoRealm {
        /// Names of the sites that do not answer.
        silent: Vec<String>,
    },
    /// There are tenants whose keys no site gave: without them their callers
    /// would be strangers.
    #[error("none of the sites that answer has the keys of {}; these sites do not answer: {}. No key and no object was changed: bring one of them back", ids(tenants), silent.join(", "))]
    NoKeys {
        /// Whose keys.
        tenants: BTreeSet<TenantId>,
        /// Names of the sites that do not answer.
        silent: Vec<String>,
    },
    /// A catalogue failed.
    #[error("a catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    /// The list of sites that the realm of the service knows cannot be taken.
    #[error("the list of sites cannot be taken: {0}")]
    Sites(#[from] crate::standing::SiteChangeError),
    /// The CA's key is damaged.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A catalogue could not be rebuilt from the sites.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// The log did not take the start's events.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// What a crash left could not be settled.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// It cannot be remembered how far the logs go.
    #[error(transparent)]
    LogSizes(#[from] LogSizesError),
}

/// What a service that stopped leaves to the next start.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The logs could not be made durable at the end; their leaves stay in the catalogues and follow at the next
    /// start.
    #[error("stopped, but the newest log leaves are not at the sites yet: {0}")]
    Audit(#[from] AuditError),
    /// An older copy of a catalogue, put back now, could be believed.
    #[error("stopped, but {0}")]
    LogSizes(#[from] LogSizesError),
}

/// Why a recovery did not succeed. The sites were only read.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// More sites are gone than the geometry can lose.
    #[error("{} of {total} sites are missing ({}); {more} more would suffice. Nothing was changed: bring back any {more} of them and run this again", missing.len(), missing.join(", "))]
    TooManyLost {
        /// Names of the missing sites.
        missing: Vec<String>,
        /// Sites of the deployment.
        total: usize,
        /// How many of them must come back.
        more: usize,
    },
    /// The directory already holds a catalogue: this is no recovery.
    #[error("{0} holds service state; recover into a directory that has only sites")]
    Occupied(PathBuf),
    /// The topology could not be written.
    #[error("{path}: {source}")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The deployment did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The recovered log does not contain what the kit pinned.
    #[error("the log {origin} does not extend the checkpoint pinned in the recovery kit: {reason}")]
    History {
        /// Which log.
        origin: String,
        /// What is wrong.
        reason: HistoryError,
    },
}

/// How a recovered log differs from its pinned checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The pinned note does not verify.
    #[error("the pinned checkpoint is not signed by this deployment")]
    Signature,
    /// Leaves are missing.
    #[error("{have} leaves were recovered, {pinned} were pinned")]
    Short {
        /// Leaves recovered.
        have: u64,
        /// Leaves pinned.
        pinned: u64,
    },
    /// The leaves are others.
    #[error("the recovered leaves have another root")]
    Root,
}

/// Why a credential was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// No such tenant.
    #[error("there is no tenant {0}")]
    NoTenant(TenantId),
    /// The certificate could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The log did not take it, so it does not stand.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The registry did not take it, so it does not stand.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}
