//! Principals of tenants: certified, entered in the registry and the log.

use coffer_model::{Actor, AuditEvent, Operation, Outcome, PrincipalId, Role, TenantId};

use crate::audit::AuditError;
use crate::authority::IssuedCredential;
use crate::registry::{RegistryError, write_fact};
use crate::service::Service;
use crate::service_error::IssueError;
use crate::stored::{Fact, Principal};
use crate::tenant::Tenant;

impl Service {
    /// Issues a fresh credential of a tenant, for a recovery in which its own
    /// is lost. Audited in the tenant's log.
    ///
    /// # Errors
    /// [`IssueError`].
    pub async fn issue_tenant_credential(&self, tenant: TenantId) -> Result<IssuedCredential, IssueError> {
        let tenant = self.tenant(tenant).ok_or(IssueError::NoTenant(tenant))?;
        let principal = PrincipalId::generate(self.host.entropy.as_ref());
        let (credential, fingerprint) = self.authority.issue(principal)?;
        self.enrol(&tenant, principal, fingerprint).await?;
        Ok(credential)
    }

    /// Makes a certified principal of a tenant known, durably and audited.
    pub(crate) async fn enrol(
        &self,
        tenant: &Tenant,
        id: PrincipalId,
        fingerprint: [u8; 32],
    ) -> Result<(), IssueError> {
        let created = self.host.clock.now();
        let principal = Principal { id, fingerprint, role: Role::Tenant, tenant: Some(tenant.id), created };
        let event = |outcome| AuditEvent {
            time: created,
            tenant: Some(tenant.id),
            actor: Actor::Service,
            operation: Operation::TenantCreate,
            subject: id.to_string(),
            outcome,
        };
        tenant.note(&event(Outcome::Intent)).await?;
        if let Err(error) = self.enter_principal(tenant, &principal).await {
            tenant.note(&event(Outcome::Failed)).await?;
            return Err(error);
        }
        tenant.note(&event(Outcome::Done)).await?;
        self.insert_principal(principal);
        Ok(())
    }

    /// The fact of a principal, at the sites and in the catalogue.
    async fn enter_principal(&self, tenant: &Tenant, principal: &Principal) -> Result<(), IssueError> {
        write_fact(&self.host, &self.sites, tenant, &Fact::PrincipalCreated(principal.clone())).await?;
        let body = postcard::to_allocvec(principal).map_err(|_| RegistryError::Seal)?;
        tenant
            .catalog
            .put_fact("principal", *principal.id.as_bytes(), body)
            .await
            .map_err(AuditError::Catalog)?;
        Ok(())
    }
}
