//! `coffer.v1.Drills`.

use std::sync::Arc;

use coffer_model::Operation;
use coffer_proto::own_or;
use coffer_proto::v1::drills_server::Drills;
use coffer_proto::v1::{SignRecordRequest, SignRecordResponse};
use tonic::{Request, Response, Status};

use super::status::status;
use super::{bearer, tenant_call};
use crate::drill::sign;
use crate::service::Service;

/// The service over gRPC.
pub(crate) struct DrillsApi(pub(crate) Arc<Service>);

#[tonic::async_trait]
impl Drills for DrillsApi {
    async fn sign_record(
        &self,
        request: Request<SignRecordRequest>,
    ) -> Result<Response<SignRecordResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let call = tenant_call(Operation::DrillSign, tenant, String::new(), wire.statement.to_vec());
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (envelope, audit_seq) = sign(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(SignRecordResponse { envelope: envelope.into(), audit_seq }))
    }
}
