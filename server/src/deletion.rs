//! A deletion under way: its sealed tombstone stands in the catalogue, in one
//! transaction with the intent leaf, before the first site gets it. A crash or
//! a refusal after that is always finished, never taken back: a tombstone that
//! one site may have is one that a rebuild may find.

use bytes::Bytes;
use coffer_catalog::{CatalogError, ManifestRow, TombstoneError};
use coffer_model::{Entropy, Layout, Operation, Outcome, RecordId, ResidencyPolicy, SiteId, VersionId};
use coffer_regions::{ClearGeometry, Record, RecordKind};
use serde::{Deserialize, Serialize};

use crate::audit::AuditError;
use crate::leaf::leaf;
use crate::registry::copies_needed;
use crate::service::Service;
use crate::stored::{EncodeError, Tombstone, seal_fact};
use crate::sweep::{SweepError, tombstone_row};
use crate::tenant::Tenant;

/// The first byte of a pending deletion in the catalogue.
const FORMAT: u8 = 1;

/// A deletion that has begun: what it says, and the record that says it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Deletion {
    pub(crate) tombstone: Tombstone,
    /// The body of the tombstone's record, sealed once: whoever writes it
    /// later writes the same bytes under the same id.
    body: Vec<u8>,
}

/// Why a deletion is not at enough sites yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpreadError {
    #[error("only {stored} sites stored the tombstone, {needed} are needed")]
    TooFewSites { stored: usize, needed: usize },
    #[error("only {acknowledged} of the {needed} holders that a deletion needs acknowledged it")]
    TooFewHolders { acknowledged: usize, needed: usize },
    #[error("the tombstone is no record")]
    Record,
}

impl Deletion {
    /// Seals a tombstone; its record's id is the deletion's.
    pub(crate) fn new(
        tenant: &Tenant,
        tombstone: Tombstone,
        entropy: &dyn Entropy,
    ) -> Result<(RecordId, Self), EncodeError> {
        let key = tenant.secrets.tombstone_key();
        let record = seal_fact(RecordKind::Tombstone, &key, tenant.id, &tombstone, entropy)?;
        Ok((record.id(), Self { tombstone, body: record.into_body().to_vec() }))
    }

    /// As the catalogue keeps it.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        Ok(postcard::to_extend(self, vec![FORMAT])?)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        (*format == FORMAT).then(|| postcard::from_bytes(rest).ok()).flatten()
    }

    /// Writes the tombstone to every site that the bucket's policy admits. It
    /// stands when more of them have it than may be lost, among them enough of
    /// the version's own.
    pub(crate) async fn spread(
        &self,
        service: &Service,
        record: RecordId,
        policy: &ResidencyPolicy,
        holders: &Layout,
    ) -> Result<(), SpreadError> {
        let body = Bytes::from(self.body.clone());
        let record = Record::new(RecordKind::Tombstone, record, ClearGeometry::default(), body)
            .map_err(|_| SpreadError::Record)?;
        let admitted = service.sites.admitted(policy);
        let by = service.sites.put_everywhere(&admitted, &record).await.by;
        let (stored, needed) = (by.len(), copies_needed(policy));
        if stored < needed {
            return Err(SpreadError::TooFewSites { stored, needed });
        }
        let acknowledged = holders.sites().iter().filter(|id| by.contains(id)).count();
        let needed = holders_needed(holders, &admitted);
        if acknowledged < needed {
            return Err(SpreadError::TooFewHolders { acknowledged, needed });
        }
        Ok(())
    }
}

/// More than n - k of the version's sites; every holder of a small object. A
/// holder that the bucket's policy no longer admits gets no tombstone: it gives
/// up what it has as soon as repair moves it, and until then every rebuild
/// meets the tombstone elsewhere.
pub(crate) fn holders_needed(layout: &Layout, admitted: &[SiteId]) -> usize {
    let holders = layout.sites().iter().filter(|id| admitted.contains(id)).count();
    match layout {
        Layout::Inline { .. } => holders,
        Layout::Striped { geometry, .. } => holders.min(geometry.m() + 1),
    }
}

/// Versions whose deletion has begun and is not over.
pub(crate) async fn pending(tenant: &Tenant) -> Result<Vec<VersionId>, CatalogError> {
    let deletions = tenant.catalog.deletions().await?;
    let version = |(_, body): (RecordId, Vec<u8>)| Deletion::decode(&body).map(|it| it.tombstone.version);
    Ok(deletions.into_iter().filter_map(version).collect())
}

/// What still shows although its deletion has begun. One that a later deletion
/// hides has nothing left to lose.
pub(crate) async fn undecided(tenant: &Tenant) -> Result<Vec<ManifestRow>, CatalogError> {
    let mut undecided = Vec::new();
    for version in pending(tenant).await? {
        if tenant.catalog.stands(version).await? {
            undecided.extend(tenant.catalog.version(version).await?);
        }
    }
    Ok(undecided)
}

/// Finishes the deletions of a tenant that the last run of the service left
/// open; how many it could not, because too few sites answer. Their objects
/// show until a later start finishes them.
pub(crate) async fn finish(service: &Service, tenant: &Tenant) -> Result<u64, SweepError> {
    let mut unsettled = 0;
    for (id, body) in tenant.catalog.deletions().await? {
        let Some(deletion) = Deletion::decode(&body) else {
            return Err(CatalogError::Damaged("deletion").into());
        };
        let tombstone = &deletion.tombstone;
        let event = service.own_event(
            Some(tenant.id),
            Operation::Sweep,
            tombstone.version.to_string(),
            Outcome::Done,
        );
        let outcome = leaf(&event).map_err(AuditError::from)?;
        // Without its version there is nothing that it could still hide.
        let Some(ManifestRow { manifest, .. }) = tenant.catalog.version(tombstone.version).await? else {
            tenant.catalog.drop_deletion(id, outcome).await?;
            continue;
        };
        let policy = tenant.policy_of(tombstone.bucket).await?;
        if deletion.spread(service, id, &policy, &manifest.layout).await.is_err() {
            unsettled += 1;
            continue;
        }
        let row = tombstone_row(id, tombstone);
        match tenant.catalog.tombstone(tombstone.version, row, outcome.clone()).await {
            Ok(_) => {}
            // Deleted again, and with success, while this one was open.
            Err(TombstoneError::Missing) => drop(tenant.catalog.drop_deletion(id, outcome).await?),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(unsettled)
}
