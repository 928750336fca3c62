//! `coffer.v1.Evidence`.

use std::sync::Arc;

use coffer_model::{Operation, VersionId};
use coffer_proto::v1::evidence_server::Evidence;
use coffer_proto::v1::{
    GetFactsRequest, GetFactsResponse, ListResidencyRequest, ListResidencyResponse,
    ResidencyLine as WireLine, SignStatementRequest, SignStatementResponse,
};
use coffer_proto::{id, own_or};
use tonic::{Request, Response, Status};

use super::status::status;
use super::{bearer, tenant_call};
use crate::facts::{ListResidency, ResidencyLine, list_residency, sign, signed_facts};
use crate::service::Service;

/// Lines of one answer.
const LINES_MAX: usize = 1000;

/// The service over gRPC.
pub(crate) struct EvidenceApi(pub(crate) Arc<Service>);

fn wire(line: ResidencyLine) -> WireLine {
    let manifest = &line.row.manifest.manifest;
    WireLine {
        version: manifest.version.as_bytes().to_vec().into(),
        bucket: manifest.bucket.as_bytes().to_vec().into(),
        object: manifest.object.as_bytes().to_vec().into(),
        created_ns: manifest.created.0,
        revision: manifest.revision,
        hidden: line.row.hidden,
        sites: line.sites,
        countries: line.countries.into_iter().collect(),
        inside: line.inside,
    }
}

#[tonic::async_trait]
impl Evidence for EvidenceApi {
    async fn get_facts(
        &self,
        request: Request<GetFactsRequest>,
    ) -> Result<Response<GetFactsResponse>, Status> {
        let bearer = bearer(&request);
        let tenant = own_or(&request.into_inner().tenant).map_err(status)?;
        let call = tenant_call(Operation::FactsRead, tenant, String::new(), ());
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (envelope, audit_seq) = signed_facts(&self.0, granted).await.map_err(status)?;
        let ca_pem = self.0.ca_pem().to_owned();
        Ok(Response::new(GetFactsResponse { envelope: envelope.into(), audit_seq, ca_pem }))
    }

    async fn list_residency(
        &self,
        request: Request<ListResidencyRequest>,
    ) -> Result<Response<ListResidencyResponse>, Status> {
        let bearer = bearer(&request);
        let wanted = request.into_inner();
        let tenant = own_or(&wanted.tenant).map_err(status)?;
        let after = match wanted.after.is_empty() {
            true => None,
            false => Some(id::<VersionId>("after", &wanted.after).map_err(status)?),
        };
        let limit = match usize::try_from(wanted.limit) {
            Ok(limit) if (1..LINES_MAX).contains(&limit) => limit,
            _ => LINES_MAX,
        };
        let call = tenant_call(Operation::FactsRead, tenant, String::new(), ListResidency { after, limit });
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (lines, more) = list_residency(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(ListResidencyResponse { lines: lines.into_iter().map(wire).collect(), more }))
    }

    async fn sign_statement(
        &self,
        request: Request<SignStatementRequest>,
    ) -> Result<Response<SignStatementResponse>, Status> {
        let bearer = bearer(&request);
        let wanted = request.into_inner();
        let tenant = own_or(&wanted.tenant).map_err(status)?;
        let call = tenant_call(Operation::EvidenceSign, tenant, String::new(), wanted.statement.to_vec());
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (envelope, audit_seq) = sign(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(SignStatementResponse { envelope: envelope.into(), audit_seq }))
    }
}
