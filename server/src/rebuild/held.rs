//! Deletions that come to light late, of what lies under a legal hold by then.
//! A rebuild that no more sites were silent for than may be met every deletion
//! that was acknowledged. One which it did not meet was never told to anybody
//! as done, and the hold was: what is held stands.

use std::collections::BTreeSet;

use coffer_catalog::CatalogError;
use coffer_model::{HoldId, Operation, Outcome, RecordId, SiteId, VersionId};

use super::RebuildError;
use crate::hold::{self, Hold};
use crate::service::Service;
use crate::stored::Tombstone;
use crate::tenant::Tenant;

/// The holds of a tenant that a rebuilt catalogue has granted since, and the
/// deletions that they overrule.
#[derive(Default)]
pub(super) struct Held {
    holds: Vec<Hold>,
    overruled: Vec<Overruled>,
}

/// A tombstone that hides nothing.
struct Overruled {
    record: RecordId,
    /// What it would have hidden.
    version: VersionId,
    hold: HoldId,
    holders: Vec<SiteId>,
}

impl Held {
    pub(super) async fn of(tenant: &Tenant) -> Result<Self, CatalogError> {
        let mut holds = hold::all(tenant).await?;
        holds.retain(|hold| hold.released.is_none());
        Ok(Self { holds, overruled: Vec::new() })
    }

    /// Whether what a tombstone would hide stands, and under a hold.
    pub(super) async fn overrules(
        &mut self,
        tenant: &Tenant,
        record: RecordId,
        tombstone: &Tombstone,
        holders: &[SiteId],
    ) -> Result<bool, CatalogError> {
        if self.holds.is_empty() {
            return Ok(false);
        }
        // Not only its own version: it hides all before that, too.
        let hidden = tenant.catalog.hidden_by(tombstone.object, tombstone.order).await?;
        let Some(manifest) = hidden.map(|row| row.manifest) else { return Ok(false) };
        let covers = |hold: &&Hold| hold.covers(manifest.bucket, manifest.key.as_bytes());
        let Some(hold) = self.holds.iter().find(covers).map(|hold| hold.id) else { return Ok(false) };
        let holders = holders.to_vec();
        self.overruled.push(Overruled { record, version: manifest.version, hold, holders });
        Ok(true)
    }

    /// Removes those tombstones, so that no later rebuild takes them up, each
    /// under a leaf that says so; the sites at which that failed.
    pub(super) async fn settle(
        self,
        service: &Service,
        tenant: &Tenant,
    ) -> Result<BTreeSet<SiteId>, RebuildError> {
        let mut failed = BTreeSet::new();
        for Overruled { record, version, hold, holders } in self.overruled {
            let subject = format!("{version} stands: its deletion came to light under the hold {hold}");
            let event = service.own_event(Some(tenant.id), Operation::Rebuild, subject, Outcome::Done);
            tenant.note(&event).await?;
            for holder in holders {
                let gone = match service.sites.get(holder) {
                    Some(site) => site.delete(vec![record]).await.is_ok(),
                    None => false,
                };
                if !gone {
                    failed.insert(holder);
                }
            }
        }
        Ok(failed)
    }
}
