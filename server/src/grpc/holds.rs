//! `coffer.v1.Holds`.

use std::sync::Arc;

use coffer_model::{HoldId, ObjectKey, Operation};
use coffer_proto::v1::holds_server::Holds;
use coffer_proto::v1::{
    Hold as HoldMessage, ListHoldsRequest, ListHoldsResponse, PlaceHoldRequest, PlaceHoldResponse,
    ReleaseHoldRequest, ReleaseHoldResponse, SignCaseRequest, SignCaseResponse,
};
use coffer_proto::{InvalidMessage, bucket_name, id, own_or};
use tonic::{Request, Response, Status};

use super::status::status;
use super::{bearer, tenant_call};
use crate::hold::{Hold, PlaceHold, list, place, release, sign_case};
use crate::service::Service;
use crate::tenant::Tenant;

/// The service over gRPC.
pub(crate) struct HoldsApi(pub(crate) Arc<Service>);

async fn message(tenant: &Tenant, hold: Hold) -> Result<HoldMessage, Status> {
    let bucket = tenant.catalog.bucket_by_id(hold.bucket).await.map_err(status)?;
    let (released_ns, released_by) = match hold.released {
        Some((time, by)) => (time.0, by.as_bytes().to_vec()),
        None => (0, Vec::new()),
    };
    Ok(HoldMessage {
        id: hold.id.as_bytes().to_vec().into(),
        bucket: bucket.map(|bucket| bucket.name.to_string()).unwrap_or_default(),
        prefix: hold.prefix.into(),
        exact: hold.exact,
        reason: hold.reason,
        placed_ns: hold.placed.0,
        placed_by: hold.by.as_bytes().to_vec().into(),
        released_ns,
        released_by: released_by.into(),
    })
}

#[tonic::async_trait]
impl Holds for HoldsApi {
    async fn place_hold(
        &self,
        request: Request<PlaceHoldRequest>,
    ) -> Result<Response<PlaceHoldResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        if wire.prefix.len() > ObjectKey::BYTES_MAX {
            return Err(status(InvalidMessage::OverLimit("prefix")));
        }
        let arguments = PlaceHold {
            bucket: bucket_name(wire.bucket).map_err(status)?,
            prefix: wire.prefix.to_vec(),
            exact: wire.exact,
            reason: wire.reason,
        };
        let call = tenant_call(Operation::HoldPlace, tenant, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let tenant = Arc::clone(granted.tenant());
        let (hold, audit_seq) = place(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(PlaceHoldResponse { hold: Some(message(&tenant, hold).await?), audit_seq }))
    }

    async fn release_hold(
        &self,
        request: Request<ReleaseHoldRequest>,
    ) -> Result<Response<ReleaseHoldResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let hold: HoldId = id("hold", &wire.hold).map_err(status)?;
        let call = tenant_call(Operation::HoldRelease, tenant, hold.to_string(), hold);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let tenant = Arc::clone(granted.tenant());
        let (hold, audit_seq) = release(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(ReleaseHoldResponse { hold: Some(message(&tenant, hold).await?), audit_seq }))
    }

    async fn list_holds(
        &self,
        request: Request<ListHoldsRequest>,
    ) -> Result<Response<ListHoldsResponse>, Status> {
        let bearer = bearer(&request);
        let tenant = own_or(&request.get_ref().tenant).map_err(status)?;
        let call = tenant_call(Operation::HoldList, tenant, String::new(), ());
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (found, grant) = list(&self.0, granted).await.map_err(status)?;
        let mut holds = Vec::with_capacity(found.len());
        for hold in found {
            holds.push(message(grant.tenant(), hold).await?);
        }
        Ok(Response::new(ListHoldsResponse { holds }))
    }

    async fn sign_case(
        &self,
        request: Request<SignCaseRequest>,
    ) -> Result<Response<SignCaseResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let hold: HoldId = id("hold", &wire.hold).map_err(status)?;
        let arguments = (hold, wire.statement.to_vec());
        let call = tenant_call(Operation::CaseExport, tenant, hold.to_string(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (envelope, audit_seq) = sign_case(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(SignCaseResponse { envelope: envelope.into(), audit_seq }))
    }
}
