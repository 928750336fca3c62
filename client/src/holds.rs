//! Legal holds of the caller's tenant.

use bytes::Bytes;
use coffer_model::{BucketName, HoldId, PrincipalId, Timestamp};
use coffer_proto::v1;

use crate::call::{CallError, bad_answer, once, repeat};
use crate::connect::Client;

/// One hold as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldInfo {
    /// Its id.
    pub id: HoldId,
    /// The bucket's name; none if the bucket is gone.
    pub bucket: Option<BucketName>,
    /// Keys that begin so lie under it.
    pub prefix: Vec<u8>,
    /// Only the key that is the prefix does.
    pub exact: bool,
    /// What it is for.
    pub reason: String,
    /// When it was placed.
    pub placed: Timestamp,
    /// By whom.
    pub placed_by: PrincipalId,
    /// When it was released, and by whom; none if it stands.
    pub released: Option<(Timestamp, PrincipalId)>,
}

fn info(hold: Option<v1::Hold>) -> Result<HoldInfo, CallError> {
    let hold = hold.ok_or_else(|| bad_answer("no hold"))?;
    let name = (!hold.bucket.is_empty()).then(|| coffer_proto::bucket_name(hold.bucket));
    let principal = |field, bytes: &[u8]| coffer_proto::id(field, bytes).map_err(bad_answer);
    let released = match hold.released_ns {
        0 => None,
        time => Some((Timestamp(time), principal("released_by", &hold.released_by)?)),
    };
    Ok(HoldInfo {
        id: coffer_proto::id("id", &hold.id).map_err(bad_answer)?,
        bucket: name.transpose().map_err(bad_answer)?,
        prefix: hold.prefix.to_vec(),
        exact: hold.exact,
        reason: hold.reason,
        placed: Timestamp(hold.placed_ns),
        placed_by: principal("placed_by", &hold.placed_by)?,
        released,
    })
}

impl Client {
    /// Puts the keys of a bucket that begin with `prefix`, or only the one that
    /// is the prefix, under a hold: none of them is deleted while it stands.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn place_hold(
        &self,
        bucket: &BucketName,
        prefix: &[u8],
        exact: bool,
        reason: &str,
    ) -> Result<HoldInfo, CallError> {
        let request = v1::PlaceHoldRequest {
            tenant: Bytes::new(),
            bucket: bucket.to_string(),
            prefix: Bytes::copy_from_slice(prefix),
            exact,
            reason: reason.to_owned(),
        };
        let answer = once(self, || async { self.hold_calls().place_hold(request.clone()).await }).await?;
        info(answer.into_inner().hold)
    }

    /// Lifts a hold.
    ///
    /// # Errors
    /// [`CallError::Precondition`] if it was lifted before.
    pub async fn release_hold(&self, hold: HoldId) -> Result<HoldInfo, CallError> {
        let hold = Bytes::copy_from_slice(hold.as_bytes());
        let request = v1::ReleaseHoldRequest { tenant: Bytes::new(), hold };
        let answer = once(self, || async { self.hold_calls().release_hold(request.clone()).await }).await?;
        info(answer.into_inner().hold)
    }

    /// Every hold, released ones among them.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_holds(&self) -> Result<Vec<HoldInfo>, CallError> {
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let answer = self.hold_calls().list_holds(v1::ListHoldsRequest::default()).await;
            answer.map_err(|status| CallError::from_status(&status))
        });
        answer.await?.into_inner().holds.into_iter().map(|hold| info(Some(hold))).collect()
    }

    /// Has the service sign a statement about what was exported of a hold; the
    /// envelope, and the leaf that notes the statement's digest.
    ///
    /// # Errors
    /// [`CallError::Invalid`] if the statement is not of the form.
    pub async fn sign_case(&self, hold: HoldId, statement: &[u8]) -> Result<(Vec<u8>, u64), CallError> {
        let request = v1::SignCaseRequest {
            tenant: Bytes::new(),
            hold: Bytes::copy_from_slice(hold.as_bytes()),
            statement: Bytes::copy_from_slice(statement),
        };
        let answer =
            once(self, || async { self.hold_calls().sign_case(request.clone()).await }).await?.into_inner();
        Ok((answer.envelope.to_vec(), answer.audit_seq))
    }
}
