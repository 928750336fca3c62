//! `coffer.v1.Buckets`.

use std::sync::Arc;

use coffer_catalog::BucketRow;
use coffer_model::Operation;
use coffer_proto::v1::buckets_server::Buckets;
use coffer_proto::v1::{
    Bucket, CreateBucketRequest, CreateBucketResponse, ListBucketsRequest, ListBucketsResponse,
    RemoveBucketRequest, RemoveBucketResponse,
};
use coffer_proto::{bucket_name, own_or, policy, policy_message};
use tonic::{Request, Response, Status};

use super::status::status;
use super::{bearer, tenant_call};
use crate::bucket::{CreateBucket, create, list, remove};
use crate::service::Service;

/// The service over gRPC.
pub(crate) struct BucketsApi(pub(crate) Arc<Service>);

pub(super) fn message(row: BucketRow) -> Bucket {
    Bucket {
        id: row.id.as_bytes().to_vec().into(),
        name: row.name.to_string(),
        policy: Some(policy_message(&row.policy)),
        created_ns: row.created.0,
    }
}

#[tonic::async_trait]
impl Buckets for BucketsApi {
    async fn create_bucket(
        &self,
        request: Request<CreateBucketRequest>,
    ) -> Result<Response<CreateBucketResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let policy = wire.policy.map(policy).transpose().map_err(status)?;
        let arguments = CreateBucket { name: bucket_name(wire.name).map_err(status)?, policy };
        let call = tenant_call(Operation::BucketCreate, tenant, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (row, audit_seq) = create(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(CreateBucketResponse { bucket: Some(message(row)), audit_seq }))
    }

    async fn list_buckets(
        &self,
        request: Request<ListBucketsRequest>,
    ) -> Result<Response<ListBucketsResponse>, Status> {
        let bearer = bearer(&request);
        let tenant = own_or(&request.get_ref().tenant).map_err(status)?;
        let call = tenant_call(Operation::BucketList, tenant, String::new(), ());
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let rows = list(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(ListBucketsResponse { buckets: rows.into_iter().map(message).collect() }))
    }

    async fn remove_bucket(
        &self,
        request: Request<RemoveBucketRequest>,
    ) -> Result<Response<RemoveBucketResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let name = bucket_name(wire.name).map_err(status)?;
        let call = tenant_call(Operation::BucketRemove, tenant, String::new(), name);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let audit_seq = remove(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(RemoveBucketResponse { audit_seq }))
    }
}
