//! Small objects, which ride whole in their manifest records: from the holder
//! that answers first with a copy that opens.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffer_catalog::ManifestRow;
use coffer_keys::open_bytes;
use coffer_regions::{Record, Site, SiteError};

use crate::hedge::{Preference, Size};
use crate::plain::Seal;
use crate::race::Race;
use crate::service::Service;
use crate::stored::ManifestBody;

/// No holder returned a good copy: their names, and what each did.
#[derive(Debug, thiserror::Error)]
#[error("no holder of this object returned it: {}", .0.join(", "))]
pub(crate) struct NoHolder(Vec<String>);

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
        seal: &Arc<Seal>,
        range: Range<u64>,
    ) -> Result<Bytes, NoHolder> {
        let sites = row.manifest.layout.sites();
        let candidates = self.candidates(sites);
        let prefer = Preference::Nearest;
        let race = Race { habits: &self.reads, size: Size::Small, candidates: &candidates, prefer };
        let finish = race
            .run(1, |place| {
                let site = sites.get(place).and_then(|site| self.sites.get(*site));
                read_holder(site, row.record, row.manifest.sealed_size, Arc::clone(seal))
            })
            .await;
        let copy = finish.have.into_iter().flatten().next();
        let mut failed = Vec::new();
        for (place, error) in finish.failed {
            let Some(id) = sites.get(place).copied() else { continue };
            failed.push(format!("{} ({error})", self.sites.name(id)));
            if error == SiteError::Unreachable {
                continue;
            }
            self.sites.report(id);
            self.damage.note(id, row.record);
            if let Some(copy) = &copy
                && self.sites.replace(id, copy.record.clone()).await
            {
                self.damage.mended(id, row.record);
            }
        }
        let within = |plain: &Bytes, at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(plain.len());
        let copy = copy.ok_or(NoHolder(failed))?;
        Ok(copy.plain.slice(within(&copy.plain, range.start)..within(&copy.plain, range.end)))
    }
}

async fn read_holder(
    site: Option<Arc<dyn Site>>,
    id: coffer_model::RecordId,
    sealed_size: u64,
    seal: Arc<Seal>,
) -> Result<Copy, SiteError> {
    let record = site.ok_or(SiteError::Unreachable)?.get(id).await?;
    let body = ManifestBody::parse(&record).map_err(|_| SiteError::Damaged)?;
    // A site can make up a record whose digest is right; it cannot make up one
    // that opens. Opened here, so that the next holder is asked if it does not.
    let plain = open_bytes(&seal.key, &seal.context, &body.inline).map_err(|_| SiteError::Damaged)?;
    if body.inline.len() as u64 == sealed_size {
        Ok(Copy { record, plain: Bytes::copy_from_slice(&plain) })
    } else {
        Err(SiteError::Damaged)
    }
}
