//! The service's signature under a drill record.

use bytes::Bytes;
use coffer_keys::{CanonicalError, to_canonical};
use coffer_proto::v1;

use crate::call::{CallError, once};
use crate::connect::Client;
use crate::drill::DrillRecord;

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
        let statement = to_canonical(&record.to_statement())?;
        let request = v1::SignRecordRequest { tenant: Bytes::new(), statement: statement.into() };
        let answer = once(&self.patience, self.drill_calls().sign_record(request)).await?.into_inner();
        Ok(SignedDrill { envelope: answer.envelope.to_vec(), audit_seq: answer.audit_seq })
    }
}
