//! `coffer.v1.Audit`.

use std::pin::Pin;
use std::sync::Arc;

use coffer_proto::own_or;
use coffer_proto::v1::audit_server::Audit;
use coffer_proto::v1::read_leaves_response::Part as WirePart;
use coffer_proto::v1::{LeafRange, LeafRun, ReadLeavesRequest, ReadLeavesResponse};
use futures::Stream;
use tonic::{Request, Response, Status};

use super::log::proof;
use super::status::status;
use super::{bearer, log_call};
use crate::log_range::{Part, Range, ReadLeaves, read};
use crate::service::Service;

/// The service over gRPC.
pub(crate) struct AuditApi(pub(crate) Arc<Service>);

fn message(part: Part) -> ReadLeavesResponse {
    let part = match part {
        Part::Range(Range { note, consistency, first, end, size, around }) => WirePart::Range(LeafRange {
            checkpoint: note.unwrap_or_default(),
            consistency: proof(consistency),
            first,
            end,
            size,
            before: proof(around.before),
            after: proof(around.after),
        }),
        Part::Run(leaves) => {
            WirePart::Run(LeafRun { leaves: leaves.into_iter().map(bytes::Bytes::from).collect() })
        }
    };
    ReadLeavesResponse { part: Some(part) }
}

#[tonic::async_trait]
impl Audit for AuditApi {
    type ReadLeavesStream = Pin<Box<dyn Stream<Item = Result<ReadLeavesResponse, Status>> + Send>>;

    async fn read_leaves(
        &self,
        request: Request<ReadLeavesRequest>,
    ) -> Result<Response<Self::ReadLeavesStream>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let arguments = ReadLeaves {
            first: wire.first,
            limit: wire.limit,
            size: (wire.size > 0).then_some(wire.size),
            since: wire.since_size,
            follow: wire.follow,
            last: (wire.last > 0).then_some(wire.last),
        };
        let subject = match arguments.last {
            Some(last) => format!("last {last}"),
            None if wire.limit == u64::MAX => format!("from {} on", wire.first),
            None => format!("{} and {} more", wire.first, wire.limit),
        };
        let call = log_call(&self.0, bearer, tenant, subject, arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let parts = read(&self.0, granted).await.map_err(status)?;
        let stream = futures::stream::unfold(parts, async |mut parts| {
            let part = parts.recv().await?;
            Some((part.map(message).map_err(status), parts))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}
