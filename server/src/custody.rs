//! Who gives the root key: told by the program that opened the deployment,
//! noted in the service's own log, and a fact from then on.

use coffer_model::{Operation, Outcome};

use crate::audit::AuditError;
use crate::service::Service;

/// What opens a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustodyKind {
    /// A passphrase in a file of the machine that runs the service.
    PassphraseFile,
    /// Shares of people, who brought them for this start.
    Quorum,
}

impl CustodyKind {
    /// As the facts say it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PassphraseFile => "passphrase file",
            Self::Quorum => "quorum",
        }
    }
}

/// How the root key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Custody {
    /// What opened it this time.
    pub kind: CustodyKind,
    /// So many shares open it.
    pub threshold: u8,
    /// Of so many that there are.
    pub shares: u8,
}

impl Service {
    /// Notes in the service's own log that the deployment was opened, and by
    /// whose means. Only the first call counts.
    ///
    /// # Errors
    /// [`AuditError`]: what is not in the log is not served.
    pub async fn kept_by(&self, custody: Custody) -> Result<(), AuditError> {
        if self.custody.set(custody).is_ok() {
            self.note_own(Operation::Unseal, custody.kind.name()).await?;
        }
        Ok(())
    }

    /// Notes that the service leaves, where it was noted that it was opened.
    pub(crate) async fn note_sealing(&self) -> Result<(), AuditError> {
        match self.custody.get() {
            Some(_) => self.note_own(Operation::Seal, "").await,
            None => Ok(()),
        }
    }

    async fn note_own(&self, operation: Operation, subject: &str) -> Result<(), AuditError> {
        if let Some(realm) = self.service_realm() {
            let event = self.own_event(Some(realm.id), operation, subject.to_owned(), Outcome::Done);
            realm.note(&event).await?;
        }
        Ok(())
    }
}
