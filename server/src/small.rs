//! Small objects, which ride whole in their manifest records: from the holder
//! that answers first with a copy that opens.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffer_catalog::ManifestRow;
use coffer_keys::Dek;
use coffer_model::{Manifest, RecordId};
use coffer_regions::{Record, Site, SiteError};

use crate::damage::Version;
use crate::hedge::{Preference, Size};
use crate::race::Race;
use crate::service::Service;
use crate::stored::ManifestBody;
use crate::terms::Terms;

/// No holder returned a good copy: their names, and what each did.
#[derive(Debug, thiserror::Error)]
#[error("no holder of this object returned it: {}", .0.join(", "))]
pub(crate) struct NoHolder(Vec<String>);

/// What a copy must be, and what opens it.
struct Wanted {
    record: RecordId,
    manifest: Manifest,
    dek: Dek,
}

/// A good copy.
struct Copy {
    record: Record,
    plain: Bytes,
}

impl Service {
    /// The part `range` of a small object's plaintext. Holders that answered
    /// wrongly are reported, and get the good copy.
    pub(crate) async fn read_small(
        &self,
        row: &ManifestRow,
        dek: Dek,
        range: Range<u64>,
        terms: &Terms,
    ) -> Result<Bytes, NoHolder> {
        let sites = row.manifest.layout.sites();
        let candidates = self.candidates(sites, terms);
        let wanted = Arc::new(Wanted { record: row.record, manifest: row.manifest.clone(), dek });
        let prefer = Preference::Nearest;
        let race = Race { habits: &self.reads, size: Size::Small, candidates: &candidates, prefer };
        let finish = race
            .run(1, |place| {
                let site = sites.get(place).and_then(|site| self.sites.get(*site));
                read_holder(site, Arc::clone(&wanted))
            })
            .await;
        let (place, copy) = finish.have.into_iter().enumerate().find(|(_, copy)| copy.is_some()).unzip();
        let copy = copy.flatten();
        if let Some(site) = place.and_then(|place: usize| sites.get(place)) {
            terms.answered(*site);
        }
        let mut failed = Vec::new();
        for barred in sites.iter().filter(|site| terms.bar(**site)) {
            failed.push(format!("{} (left out by the caller)", self.sites.name(*barred)));
        }
        for (place, error) in finish.failed {
            let Some(id) = sites.get(place).copied() else { continue };
            failed.push(format!("{} ({error})", self.sites.name(id)));
            let version = Version::of(&row.manifest);
            // A silent site is charged with nothing: the catalogue is not asked for that.
            let charged = error != SiteError::Unreachable
                && self.is_record_now(row).await
                && self.charge(&version, (place, id), row.record, &error).await;
            if charged
                && let Some(copy) = &copy
                && self.write_anew(&version, (place, id), copy.record.clone()).await
            {
                self.damage.mended(id, row.record);
            }
        }
        let within = |plain: &Bytes, at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(plain.len());
        let copy = copy.ok_or(NoHolder(failed))?;
        Ok(copy.plain.slice(within(&copy.plain, range.start)..within(&copy.plain, range.end)))
    }
}

impl Service {
    /// Whether this is still the record of a small object.
    async fn is_record_now(&self, row: &ManifestRow) -> bool {
        let Some(tenant) = self.tenant(row.manifest.tenant) else { return false };
        let now = tenant.catalog.version(row.manifest.version).await;
        matches!(now, Ok(Some(now)) if now.record == row.record)
    }
}

async fn read_holder(site: Option<Arc<dyn Site>>, wanted: Arc<Wanted>) -> Result<Copy, SiteError> {
    let record = site.ok_or(SiteError::Unreachable)?.get(wanted.record).await?;
    let body = ManifestBody::parse(&record).map_err(|_| SiteError::Damaged)?;
    // A site can make up a record whose digest is right; it cannot make up one
    // that opens. Opened here, so that the next holder is asked if it does not.
    let opened = body.open_whole(wanted.manifest.tenant, &wanted.dek).map_err(|_| SiteError::Damaged)?;
    if opened.manifest == wanted.manifest {
        Ok(Copy { record, plain: opened.content })
    } else {
        Err(SiteError::Damaged)
    }
}
