//! The service's signature under a drill record.

use bytes::Bytes;
use coffer_keys::{CanonicalError, to_canonical};
use coffer_model::{BucketName, ObjectKey, TenantId};
use coffer_proto::v1;
use serde_json::Value;

use crate::call::{CallError, once};
use crate::connect::Client;
use crate::drill::DrillRecord;
use crate::objects::GetError;

/// A signed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedDrill {
    /// The DSSE envelope, canonical JSON.
    pub envelope: Vec<u8>,
    /// The leaf with the record's digest.
    pub audit_seq: u64,
}

/// Why a record was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignDrillError {
    /// The record has no canonical form.
    #[error("the record cannot be written as canonical JSON: {0}")]
    Form(#[from] CanonicalError),
    /// The service refused or failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Client {
    /// Has the service log the record's digest and sign it.
    ///
    /// # Errors
    /// [`SignDrillError`].
    pub async fn sign_drill(&self, record: &DrillRecord) -> Result<SignedDrill, SignDrillError> {
        self.sign_drill_statement(&record.to_statement()).await
    }

    /// The same for the statement of a record of any version.
    pub(crate) async fn sign_drill_statement(
        &self,
        statement: &Value,
    ) -> Result<SignedDrill, SignDrillError> {
        let statement = to_canonical(statement)?;
        let request = v1::SignRecordRequest { tenant: Bytes::new(), statement: statement.into() };
        let answer = once(self, || async { self.drill_calls().sign_record(request.clone()).await })
            .await?
            .into_inner();
        Ok(SignedDrill { envelope: answer.envelope.to_vec(), audit_seq: answer.audit_seq })
    }

    /// Tries what must not be possible: to reach another tenant by its id, with
    /// the credentials of this one. How many of the attempts were answered with
    /// anything but a refusal, and how many there were. All of them only read:
    /// where the other tenant can be reached, nothing of it may be harmed.
    ///
    /// # Errors
    /// [`CallError`] if the service does not answer, so that nothing is known.
    pub async fn reach_for(
        &self,
        tenant: TenantId,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<(u64, u64), CallError> {
        let id = || Bytes::copy_from_slice(tenant.as_bytes());
        let (bucket, key) = (bucket.to_string(), || Bytes::copy_from_slice(key.as_bytes()));
        let list = v1::ListBucketsRequest { tenant: id() };
        let get =
            v1::GetObjectRequest { tenant: id(), bucket: bucket.clone(), key: key(), ..Default::default() };
        let stat = v1::StatObjectRequest { tenant: id(), bucket: bucket.clone(), key: key(), as_of_ns: 0 };
        let objects = v1::ListObjectsRequest { tenant: id(), bucket, ..Default::default() };
        let facts = v1::GetFactsRequest { tenant: id() };
        let residency = v1::ListResidencyRequest { tenant: id(), after: Bytes::new(), limit: 1 };
        let holds = v1::ListHoldsRequest { tenant: id() };
        let checkpoint = v1::GetCheckpointRequest { tenant: id(), since_size: 0, cosigned: false };
        let leaf = v1::GetLeafRequest { tenant: id(), index: 0, size: 1 };
        let answers = [
            once(self, || async { self.buckets().list_buckets(list.clone()).await }).await.map(|_| ()),
            once(self, || async { self.objects().get_object(get.clone()).await }).await.map(|_| ()),
            once(self, || async { self.objects().stat_object(stat.clone()).await }).await.map(|_| ()),
            once(self, || async { self.objects().list_objects(objects.clone()).await }).await.map(|_| ()),
            once(self, || async { self.evidence_calls().get_facts(facts.clone()).await }).await.map(|_| ()),
            once(self, || async { self.evidence_calls().list_residency(residency.clone()).await })
                .await
                .map(|_| ()),
            once(self, || async { self.hold_calls().list_holds(holds.clone()).await }).await.map(|_| ()),
            once(self, || async { self.log_calls().get_checkpoint(checkpoint.clone()).await })
                .await
                .map(|_| ()),
            once(self, || async { self.log_calls().get_leaf(leaf.clone()).await }).await.map(|_| ()),
        ];
        let mut possible = 0;
        let tried = u64::try_from(answers.len()).unwrap_or(u64::MAX);
        for answer in answers {
            match answer {
                Err(CallError::PermissionDenied(_)) => {}
                Err(error @ (CallError::Unavailable(_) | CallError::TimedOut(_))) => return Err(error),
                // Even "not found" would say something of another tenant.
                Ok(()) | Err(_) => possible += 1,
            }
        }
        Ok((possible, tried))
    }

    /// Tries what must not be possible: to read what was deleted. How many of
    /// these keys still open, and how many there were.
    ///
    /// # Errors
    /// [`CallError`] if the service does not answer, so that nothing is known.
    pub async fn reach_for_deleted(
        &self,
        bucket: &BucketName,
        keys: &[ObjectKey],
    ) -> Result<(u64, u64), CallError> {
        let (mut possible, mut tried) = (0, 0);
        for key in keys {
            tried += 1;
            match self.get(bucket, key, None).await {
                Err(GetError::Call(CallError::NotFound(_))) => {}
                Err(GetError::Call(error @ (CallError::Unavailable(_) | CallError::TimedOut(_)))) => {
                    return Err(error);
                }
                // It was found, whether or not it came whole.
                Ok(_) | Err(_) => possible += 1,
            }
        }
        Ok((possible, tried))
    }
}
