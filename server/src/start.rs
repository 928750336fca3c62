//! A start: the keys from the sites, the realm of the service, which knows the
//! sites and the tenants, the catalogues that are gone, and what a crash left.

use std::path::Path;
use std::sync::Arc;

use coffer_catalog::Catalog;
use coffer_keys::RootKey;

use crate::authority::Authority;
use crate::disk::set_aside;
use crate::keystore::{self, TenantKeys};
use crate::kit::SiteAddress;
use crate::owner::scope_of;
use crate::service::{Host, RecoveryProgress, RecoveryReport, Service};
use crate::service_error::OpenError;
use crate::sites::Sites;
use crate::stored::Principal;
use crate::sweep::sweep;
use crate::tenant::{OpenTenantError, Tenant, TenantSecrets, catalog_path, open_or_create};

/// Tenants whose keys are open and whose catalogue is gone.
#[derive(Default)]
struct Opened {
    realm: Vec<Arc<Tenant>>,
    lost: Vec<Arc<Tenant>>,
}

impl Service {
    pub(crate) async fn start(
        host: Host,
        data_dir: &Path,
        addresses: Vec<SiteAddress>,
        root: &RootKey,
        progress: RecoveryProgress<'_>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let state = data_dir.join("service").join("catalogues");
        std::fs::create_dir_all(&state).map_err(|source| OpenError::Disk { path: state, source })?;
        progress("sites", addresses.len() as u64);
        let sites = Sites::open(&host, data_dir, &addresses).await?;
        progress("keys", 0);
        let found = keystore::read(&sites, root).await?;
        let taken = sites.take_up(scope_of(&found.deployment.deployment), data_dir).await?;
        let key_pem = zeroize::Zeroizing::new(found.deployment.authority_key_pem.clone());
        let authority = Authority::load(found.deployment.authority_ca_pem.clone(), key_pem)?;
        let service = Self::assemble(host, data_dir, sites, authority, found.deployment, root);
        let mut report = RecoveryReport {
            tenants: 0,
            versions: 0,
            unreadable: 0,
            newest_write: None,
            missing_sites: Vec::new(),
            unsettled: 0,
        };
        // The service's own realm comes first: its log says how far the sites
        // were seen to reach, where nothing else does any more.
        let mut opened = service.open_tenants(&found.tenants, root).await?;
        let held = service.hold_sites_against_the_last_run().await;
        service.rebuild_lost(&opened.realm, progress, &mut report).await?;
        // It also knows which sites there are: what they hold is looked at
        // when all of them are open.
        // Who takes over from another service has a topology file of before.
        let others = service.adopt_sites(opened.realm.is_empty()).await?;
        service.refuse_unknown_given_up()?;
        if !held {
            service.hold_sites_against_the_log().await.map_err(OpenError::Catalog)?;
        } else if others {
            service.hold_sites_against_the_last_run().await;
        }
        // And which tenants.
        opened.lost.extend(service.open_the_rest(root).await?);
        report.tenants = service.tenants().len();
        report.missing_sites = service.missing_sites();
        service.rebuild_lost(&opened.lost, progress, &mut report).await?;
        service.took_up(taken).await?;
        service.load_principals().await?;
        report.unsettled = sweep(&service).await?;
        // Before anybody is served: nothing else changes the catalogues.
        crate::rebuild::hear(&service).await?;
        for tenant in service.all_tenants() {
            crate::open_intents::close(&service, &tenant).await?;
        }
        service.note_reach().await?;
        service.note_log_sizes().await?;
        Ok((service, report))
    }

    /// Opens these tenants, and sorts out whose catalogue is gone.
    async fn open_tenants(&self, tenants: &[TenantKeys], root: &RootKey) -> Result<Opened, OpenError> {
        let mut opened = Opened::default();
        for keys in tenants {
            let (secrets, catalog, whole) = self.open_current(keys, root).await?;
            let tenant = self.insert_tenant(self.tenant_of(keys, secrets, catalog));
            match (whole, tenant.service) {
                (true, _) => {}
                (false, true) => opened.realm.push(tenant),
                (false, false) => opened.lost.push(tenant),
            }
        }
        Ok(opened)
    }

    /// Opens a tenant's catalogue, but not one of an earlier moment: what was
    /// deleted since would be there again.
    async fn open_current(
        &self,
        keys: &TenantKeys,
        root: &RootKey,
    ) -> Result<(TenantSecrets, Catalog, bool), OpenTenantError> {
        let open = || open_or_create(&self.data_dir, keys, root, self.host.catalogues);
        let mut opened = open().await?;
        if opened.2 && self.went_back(keys.tenant, &opened.1).await? {
            opened.1.close().await;
            let path = catalog_path(&self.data_dir, keys.tenant);
            set_aside(&path, "older").map_err(|source| OpenTenantError::Disk { path, source })?;
            opened = open().await?;
        }
        if !opened.2 {
            self.forget_log_size(keys.tenant).await?;
        }
        Ok(opened)
    }

    /// Opens the tenants of the roll that the sites which were asked first did
    /// not know; those whose catalogue is gone. A start without one of them
    /// would turn its callers away as strangers.
    async fn open_the_rest(&self, root: &RootKey) -> Result<Vec<Arc<Tenant>>, OpenError> {
        let mut tenants = self.tenants_without_keys().await?;
        if tenants.is_empty() {
            return Ok(Vec::new());
        }
        let mut keys = keystore::read(&self.sites, root).await?.tenants;
        keys.retain(|keys| tenants.remove(&keys.tenant));
        if !tenants.is_empty() {
            return Err(OpenError::NoKeys { tenants, silent: self.missing_sites() });
        }
        Ok(self.open_tenants(&keys, root).await?.lost)
    }

    async fn load_principals(&self) -> Result<(), OpenError> {
        for tenant in self.all_tenants() {
            for (_, body) in tenant.catalog.facts("principal").await? {
                if let Ok(principal) = postcard::from_bytes::<Principal>(&body) {
                    self.insert_principal(principal);
                }
            }
        }
        Ok(())
    }
}
