//! The embedded API's transactions, as the scheduler asks for them.

use async_trait::async_trait;
use coffer_control::{Change, FIELD_MANAGER, Transact, TransactionRefused, Version};
use coffer_embedded::{Embedded, Refusal};

/// The embedded API in this process.
pub(super) struct InProcess(pub(super) Embedded);

#[async_trait]
impl Transact for InProcess {
    async fn transact(&self, changes: Vec<Change>) -> Result<Vec<Version>, TransactionRefused> {
        let changes: Vec<coffer_embedded::Change> = changes
            .into_iter()
            .map(|change| match change {
                Change::Create(object) => coffer_embedded::Change::Create(object),
                Change::Replace(object) => coffer_embedded::Change::Replace(object),
                Change::Bind(binding) => coffer_embedded::Change::Bind(binding),
            })
            .collect();
        let conflict = |name: String, why: &str| TransactionRefused::Conflict { name, why: why.to_owned() };
        let stored = self.0.transaction(FIELD_MANAGER, &changes).await.map_err(|refusal| match refusal {
            Refusal::NotFound(subject) => conflict(subject.name, "it is gone"),
            Refusal::AlreadyExists(subject) => conflict(subject.name, "it is there already"),
            Refusal::Conflict { subject, why, .. } => conflict(subject.name, &why),
            other => TransactionRefused::Unavailable(format!("{other:?}")),
        })?;
        let version = |resource: &str, name: &str, revision: u64| Version {
            resource: resource.to_owned(),
            name: name.to_owned(),
            version: revision.to_string(),
        };
        Ok(stored.iter().map(|one| version(&one.key.resource, &one.key.name, one.revision)).collect())
    }
}
