//! `coffer.v1.Tenants`.

use std::sync::Arc;

use coffer_model::Operation;
use coffer_proto::v1::tenants_server::Tenants;
use coffer_proto::v1::{CreateTenantRequest, CreateTenantResponse};
use coffer_proto::{InvalidMessage, policy};
use tonic::{Request, Response, Status};

use super::status::status;
use super::{bearer, operator_call};
use crate::service::Service;
use crate::tenant_create::{CreateTenant, create};

/// The service over gRPC.
pub(crate) struct TenantsApi(pub(crate) Arc<Service>);

#[tonic::async_trait]
impl Tenants for TenantsApi {
    async fn create_tenant(
        &self,
        request: Request<CreateTenantRequest>,
    ) -> Result<Response<CreateTenantResponse>, Status> {
        let bearer = bearer(&request);
        let message = request.into_inner();
        let wanted = message.policy.ok_or(InvalidMessage::Missing("policy")).map_err(status)?;
        let arguments = CreateTenant {
            name: message.name,
            policy: policy(wanted).map_err(status)?,
            certificate_request: message.certificate_request.to_vec(),
        };
        let call = operator_call(Operation::TenantCreate, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let created = create(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(CreateTenantResponse {
            tenant: created.tenant.id.as_bytes().to_vec().into(),
            principal: created.principal.as_bytes().to_vec().into(),
            certificate_pem: created.certificate_pem,
            log_origin: created.tenant.log.origin().to_owned(),
            log_key: self.0.verifying_key().0.to_vec().into(),
        }))
    }
}
