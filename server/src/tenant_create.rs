//! Creating a tenant: keys, catalogue and log of its own, and its first
//! principal. By operators, in the service's own log.

use std::sync::Arc;

use coffer_model::{Outcome, PrincipalId, ResidencyPolicy};
use coffer_regions::{Unmet, satisfiable};

use crate::audit::AuditError;
use crate::authority::{AuthorityError, Certified};
use crate::authorize::Granted;
use crate::service::Service;
use crate::service_error::{FoundError, IssueError};
use crate::tenant::Tenant;

/// The longest name of a tenant, in characters.
pub(crate) const NAME_CHARACTERS_MAX: usize = 128;

/// The arguments of a creation.
pub(crate) struct CreateTenant {
    pub(crate) name: String,
    pub(crate) policy: ResidencyPolicy,
    /// PKCS#10, DER.
    pub(crate) certificate_request: Vec<u8>,
}

/// Why there is no such tenant now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateTenantError {
    #[error("a tenant's name has 1 to {NAME_CHARACTERS_MAX} characters and no control characters")]
    Name,
    #[error("there is already a tenant of that name")]
    NameTaken,
    #[error("the policy cannot be satisfied by the sites: {0}")]
    Unsatisfiable(Unmet),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("the tenant could not be made: {0}")]
    Make(#[from] FoundError),
    #[error("the tenant's first principal could not be made: {0}")]
    Enrol(#[from] IssueError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
}

/// A tenant that stands, and its first principal's certificate.
pub(crate) struct Created {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) principal: PrincipalId,
    pub(crate) certificate_pem: String,
}

/// The whole story.
pub(crate) async fn create(
    service: &Service,
    create: Granted<CreateTenant>,
) -> Result<Created, CreateTenantError> {
    let (create, grant) = create.into_parts();
    let _one_at_a_time = service.creating.lock().await;
    let principal = PrincipalId::generate(service.host.entropy.as_ref());
    let certified = grant.settled(service, admit(service, &create, principal)).await?;
    let subject = principal.to_string();
    grant.tenant().note(&grant.event(service, Some(subject.clone()), Outcome::Intent)).await?;
    let made = make(service, create, principal, certified.fingerprint).await;
    let tenant = grant.ended(service, &subject, made).await?;
    grant.tenant().note(&grant.event(service, Some(tenant.id.to_string()), Outcome::Done)).await?;
    Ok(Created { tenant, principal, certificate_pem: certified.pem })
}

/// The certificate of the first principal, if there may be such a tenant.
fn admit(
    service: &Service,
    create: &CreateTenant,
    principal: PrincipalId,
) -> Result<Certified, CreateTenantError> {
    let length = create.name.chars().count();
    if !(1..=NAME_CHARACTERS_MAX).contains(&length) || create.name.chars().any(char::is_control) {
        return Err(CreateTenantError::Name);
    }
    satisfiable(service.sites.taking(), &create.policy).map_err(CreateTenantError::Unsatisfiable)?;
    if service.tenants().iter().any(|(_, name)| *name == create.name) {
        return Err(CreateTenantError::NameTaken);
    }
    Ok(service.authority.certify_request(principal, &create.certificate_request)?)
}

async fn make(
    service: &Service,
    create: CreateTenant,
    principal: PrincipalId,
    fingerprint: [u8; 32],
) -> Result<Arc<Tenant>, CreateTenantError> {
    let CreateTenant { name, policy, .. } = create;
    let tenant = service.add_tenant(name, policy, false, &service.root, service.root_key).await?;
    service.enrol(&tenant, principal, fingerprint).await?;
    Ok(tenant)
}
