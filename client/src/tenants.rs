//! Tenants, which operators create.

use coffer_keys::VerifyingKey;
use coffer_model::{Entropy, PrincipalId, ResidencyPolicy, TenantId};
use coffer_proto::{policy_message, v1};

use zeroize::Zeroizing;

use crate::call::{CallError, bad_answer, once};
use crate::certificate::{CertificateRequestError, new_certificate_request};
use crate::connect::Client;

/// The tenant that is wanted.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// 1 to 128 characters.
    pub name: String,
    /// Where its bytes may lie.
    pub policy: ResidencyPolicy,
}

/// What the first principal of a new tenant needs.
pub struct TenantGrant {
    /// The tenant.
    pub tenant: TenantId,
    /// Its first principal.
    pub principal: PrincipalId,
    /// That principal's certificate, PEM.
    pub certificate_pem: String,
    /// That principal's private key, PEM; made here, known to nobody else.
    pub key_pem: Zeroizing<String>,
    /// C2SP origin line of the tenant's log.
    pub log_origin: String,
    /// The key that signs the log's checkpoints.
    pub log_key: VerifyingKey,
}

/// Why no tenant was created.
#[derive(Debug, thiserror::Error)]
pub enum CreateTenantError {
    /// The principal's key could not be made.
    #[error(transparent)]
    Certificate(#[from] CertificateRequestError),
    /// The service refused or failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Client {
    /// Creates a tenant, and certifies a fresh key as its first principal.
    ///
    /// # Errors
    /// [`CreateTenantError`].
    pub async fn create_tenant(
        &self,
        new: &NewTenant,
        entropy: &dyn Entropy,
    ) -> Result<TenantGrant, CreateTenantError> {
        let request = new_certificate_request(entropy)?;
        let message = v1::CreateTenantRequest {
            name: new.name.clone(),
            policy: Some(policy_message(&new.policy)),
            certificate_request: request.csr_der.into(),
        };
        let answer =
            once(self, || async { self.tenants().create_tenant(message.clone()).await }).await?.into_inner();
        let log_key = coffer_proto::digest("log_key", &answer.log_key).map_err(bad_answer)?;
        Ok(TenantGrant {
            tenant: coffer_proto::id("tenant", &answer.tenant).map_err(bad_answer)?,
            principal: coffer_proto::id("principal", &answer.principal).map_err(bad_answer)?,
            certificate_pem: answer.certificate_pem,
            key_pem: request.key_pem,
            log_origin: answer.log_origin,
            log_key: VerifyingKey(log_key.0),
        })
    }
}
