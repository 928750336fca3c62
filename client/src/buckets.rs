//! Buckets of the caller's tenant.

use coffer_model::{BucketId, BucketName, ResidencyPolicy, Timestamp};
use coffer_proto::{policy, policy_message, v1};

use crate::call::{CallError, bad_answer, once, repeat};
use crate::connect::Client;

/// One bucket as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// Its id, for life.
    pub id: BucketId,
    /// Its name.
    pub name: BucketName,
    /// Where its bytes may lie.
    pub policy: ResidencyPolicy,
    /// When it was created.
    pub created: Timestamp,
}

pub(crate) fn info(message: v1::Bucket) -> Result<BucketInfo, CallError> {
    Ok(BucketInfo {
        id: coffer_proto::id("id", &message.id).map_err(bad_answer)?,
        name: coffer_proto::bucket_name(message.name).map_err(bad_answer)?,
        policy: policy(message.policy.unwrap_or_default()).map_err(bad_answer)?,
        created: Timestamp(message.created_ns),
    })
}

impl Client {
    /// Creates a bucket; without a policy it has its tenant's.
    ///
    /// # Errors
    /// [`CallError::Precondition`] if the sites cannot satisfy the policy.
    pub async fn create_bucket(
        &self,
        name: &BucketName,
        policy: Option<&ResidencyPolicy>,
    ) -> Result<BucketInfo, CallError> {
        let request = v1::CreateBucketRequest {
            tenant: Vec::new().into(),
            name: name.to_string(),
            policy: policy.map(policy_message),
        };
        let answer =
            once(self, || async { self.buckets().create_bucket(request.clone()).await }).await?.into_inner();
        info(answer.bucket.ok_or_else(|| bad_answer("no bucket"))?)
    }

    /// All buckets of the tenant.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_buckets(&self) -> Result<Vec<BucketInfo>, CallError> {
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let answer = self.buckets().list_buckets(v1::ListBucketsRequest::default()).await;
            answer.map_err(|status| CallError::from_status(&status))
        });
        answer.await?.into_inner().buckets.into_iter().map(info).collect()
    }

    /// Removes an empty bucket.
    ///
    /// # Errors
    /// [`CallError::Precondition`] if it is not empty.
    pub async fn remove_bucket(&self, name: &BucketName) -> Result<(), CallError> {
        let request = v1::RemoveBucketRequest { tenant: Vec::new().into(), name: name.to_string() };
        once(self, || async { self.buckets().remove_bucket(request.clone()).await }).await.map(|_| ())
    }
}
