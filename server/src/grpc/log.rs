//! `coffer.v1.Log`.

use std::sync::Arc;

use coffer_model::{Digest, Operation, Outcome};
use coffer_proto::v1::log_server::Log;
use coffer_proto::v1::{
    GetCheckpointRequest, GetCheckpointResponse, GetLeafRequest, GetLeafResponse, NoteDigestRequest,
    NoteDigestResponse,
};
use coffer_proto::{InvalidMessage, digest, own_or};
use tonic::{Request, Response, Status};

use super::status::status;
use super::{bearer, log_call, tenant_call};
use crate::audit::AuditError;
use crate::service::Service;

/// The service over gRPC.
pub(crate) struct LogApi(pub(crate) Arc<Service>);

const LABEL_CHARACTERS_MAX: usize = 64;

pub(super) fn proof(hashes: Vec<Digest>) -> Vec<bytes::Bytes> {
    hashes.into_iter().map(|hash| hash.0.to_vec().into()).collect()
}

/// A label is one plain word, so that a log line stays one line.
fn check_label(label: &str) -> Result<(), InvalidMessage> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let good = (1..=LABEL_CHARACTERS_MAX).contains(&label.len()) && label.chars().all(plain);
    if good { Ok(()) } else { Err(InvalidMessage::OverLimit("label")) }
}

#[tonic::async_trait]
impl Log for LogApi {
    async fn note_digest(
        &self,
        request: Request<NoteDigestRequest>,
    ) -> Result<Response<NoteDigestResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        check_label(&wire.label).map_err(status)?;
        let subject = format!("{}:{}", wire.label, digest("digest", &wire.digest).map_err(status)?);
        let call = tenant_call(Operation::DigestNote, tenant, subject, ());
        let ((), grant) = self.0.authorize(bearer, call).await.map_err(status)?.into_parts();
        let event = grant.event(&self.0, None, Outcome::Done);
        let audit_seq = grant.tenant().note(&event).await.map_err(status)?;
        Ok(Response::new(NoteDigestResponse { audit_seq }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let call = log_call(&self.0, bearer, tenant, String::new(), ());
        let ((), grant) = self.0.authorize(bearer, call).await.map_err(status)?.into_parts();
        let event = grant.event(&self.0, None, Outcome::Done);
        grant.tenant().note(&event).await.map_err(status)?;
        let signed = match wire.cosigned {
            true => self.0.cosigned(grant.tenant()).await,
            false => self.0.checkpoint(grant.tenant()).await,
        };
        let signed = signed.map_err(status)?;
        let tenant = grant.tenant();
        let consistency = tenant.log.consistency(&tenant.catalog, wire.since_size, signed.size).await;
        let consistency = consistency.map_err(status)?;
        Ok(Response::new(GetCheckpointResponse { checkpoint: signed.note, consistency: proof(consistency) }))
    }

    async fn get_leaf(&self, request: Request<GetLeafRequest>) -> Result<Response<GetLeafResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let call = log_call(&self.0, bearer, tenant, wire.index.to_string(), ());
        let ((), grant) = self.0.authorize(bearer, call).await.map_err(status)?.into_parts();
        let event = grant.event(&self.0, None, Outcome::Done);
        grant.tenant().note(&event).await.map_err(status)?;
        let tenant = grant.tenant();
        let inclusion = tenant.log.inclusion(&tenant.catalog, wire.index, wire.size).await.map_err(status)?;
        let leaves = tenant.catalog.leaves(wire.index, 1).await.map_err(status)?;
        let missing = AuditError::Beyond { size: wire.size, asked: wire.index };
        let leaf = leaves.into_iter().next().ok_or(missing).map_err(status)?;
        Ok(Response::new(GetLeafResponse { leaf: leaf.into(), inclusion: proof(inclusion) }))
    }
}
