//! The calls of `coffer.v1.Evidence`: signed facts, where versions lie, and
//! signatures under statements.

use bytes::Bytes;
use coffer_model::{BucketId, ObjectId, Timestamp, VersionId};
use coffer_proto::v1;

use crate::call::{CallError, bad_answer, once, repeat};
use crate::connect::Client;
use crate::report::ResidencyItem;

/// What the service says about the tenant, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFacts {
    /// The DSSE envelope, canonical JSON.
    pub envelope: Vec<u8>,
    /// The leaf that notes the statement's digest.
    pub audit_seq: u64,
    /// The deployment's certificate authority.
    pub ca_pem: String,
}

/// A statement that the service signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    /// The DSSE envelope, canonical JSON.
    pub envelope: Vec<u8>,
    /// The leaf that notes the statement's digest.
    pub audit_seq: u64,
}

fn item(wire: v1::ResidencyLine) -> Result<ResidencyItem, CallError> {
    Ok(ResidencyItem {
        version: VersionId::try_from(wire.version.as_ref()).map_err(bad_answer)?.to_string(),
        bucket: BucketId::try_from(wire.bucket.as_ref()).map_err(bad_answer)?.to_string(),
        object: ObjectId::try_from(wire.object.as_ref()).map_err(bad_answer)?.to_string(),
        created: Timestamp(wire.created_ns),
        revision: wire.revision,
        hidden: wire.hidden,
        sites: wire.sites,
        countries: wire.countries,
        inside: wire.inside,
    })
}

impl Client {
    /// The facts of now about the tenant. Whoever uses them verifies them.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn signed_facts(&self) -> Result<SignedFacts, CallError> {
        let request = v1::GetFactsRequest { tenant: Bytes::new() };
        let answer = once(self, || async { self.evidence_calls().get_facts(request.clone()).await })
            .await?
            .into_inner();
        let v1::GetFactsResponse { envelope, audit_seq, ca_pem } = answer;
        Ok(SignedFacts { envelope: envelope.to_vec(), audit_seq, ca_pem })
    }

    /// Where each version of the tenant lies, in order of version.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn residency(&self) -> Result<Vec<ResidencyItem>, CallError> {
        let mut items: Vec<ResidencyItem> = Vec::new();
        let mut after = Bytes::new();
        loop {
            let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
                let request =
                    v1::ListResidencyRequest { tenant: Bytes::new(), after: after.clone(), limit: 0 };
                let answer = self.evidence_calls().list_residency(request).await;
                answer.map_err(|status| CallError::from_status(&status))
            });
            let page = answer.await?.into_inner();
            let last = page.lines.last().map(|line| line.version.clone());
            for line in page.lines {
                items.push(item(line)?);
            }
            match last.filter(|last| page.more && *last > after) {
                Some(last) => after = last,
                None => return Ok(items),
            }
        }
    }

    /// Has the service note a statement's digest and sign it.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn sign_statement(&self, statement: Vec<u8>) -> Result<SignedStatement, CallError> {
        let request = v1::SignStatementRequest { tenant: Bytes::new(), statement: statement.into() };
        let answer = once(self, || async { self.evidence_calls().sign_statement(request.clone()).await })
            .await?
            .into_inner();
        Ok(SignedStatement { envelope: answer.envelope.to_vec(), audit_seq: answer.audit_seq })
    }
}
