//! Reading a stripe: the fastest k shards, data before parity; every shard
//! held against the digest that the manifest signs; what was damaged or
//! missing is reported and healed, never returned.

use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{Digest, Layout, Manifest, RecordId, SiteId};
use coffer_regions::{
    ClearGeometry, Codec, CodecError, Record, RecordKind, Site, SiteError, join, shard_bytes, shard_record_id,
};

use crate::damage::Version;
use crate::hedge::{Candidate, Preference, Size};
use crate::race::{Finish, Race};
use crate::service::Service;
use crate::terms::Terms;

/// Why a stripe cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("stripe {stripe}: only {have} of the {need} shards that it takes are readable; sites that failed: {}", failed.join(", "))]
    TooFewShards { stripe: u32, have: usize, need: usize, failed: Vec<String> },
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the manifest does not describe stripe {0}")]
    NoStripe(u32),
    #[error("the object has no stripes")]
    NotStriped,
}

/// The striped layout of one version, as its manifest has it.
pub(crate) struct Stripes {
    /// Whose shards they are.
    pub(crate) version: Version,
    /// On which terms they are read.
    pub(crate) terms: Terms,
    /// Made once for the whole read: its matrix costs more than a small stripe.
    pub(crate) codec: Codec,
    sites: Vec<SiteId>,
    stripe_bytes: u64,
    locator: [u8; 32],
    digests: Vec<Vec<Digest>>,
    sealed_size: u64,
}

impl Stripes {
    /// Those of a version, as its manifest has them, read on these terms.
    pub(crate) fn of(manifest: &Manifest, terms: Terms) -> Result<Self, FetchError> {
        let Layout::Striped { geometry, sites, stripe_bytes, locator, digests } = &manifest.layout else {
            return Err(FetchError::NotStriped);
        };
        Ok(Self {
            version: Version::of(manifest),
            terms,
            codec: Codec::new(*geometry)?,
            sites: sites.clone(),
            stripe_bytes: u64::from((*stripe_bytes).max(1)),
            locator: *locator,
            digests: digests.clone(),
            sealed_size: manifest.sealed_size,
        })
    }

    /// The stripe that holds a sealed offset.
    pub(crate) fn at(&self, offset: u64) -> u32 {
        u32::try_from(offset / self.stripe_bytes).unwrap_or(u32::MAX)
    }

    /// Sealed offset of a stripe's first byte.
    pub(crate) fn start(&self, stripe: u32) -> u64 {
        u64::from(stripe) * self.stripe_bytes
    }

    /// Sealed bytes in a stripe.
    pub(crate) fn bytes_in(&self, stripe: u32) -> usize {
        let rest = self.sealed_size.saturating_sub(self.start(stripe));
        usize::try_from(rest.min(self.stripe_bytes)).unwrap_or(0)
    }

    /// Bytes in each of a stripe's shards.
    pub(crate) fn shard_bytes(&self, stripe: u32) -> usize {
        shard_bytes(self.bytes_in(stripe), self.codec.geometry())
    }

    /// Who holds the shards of every stripe, in their order.
    pub(crate) fn sites(&self) -> &[SiteId] {
        &self.sites
    }

    /// Who holds shard `index` of every stripe.
    pub(crate) fn site(&self, index: usize) -> Option<SiteId> {
        self.sites.get(index).copied()
    }

    /// The record of one shard.
    pub(crate) fn record(&self, stripe: u32, index: u8) -> RecordId {
        shard_record_id(&self.locator, stripe, index)
    }

    fn digests(&self, stripe: u32) -> Result<&[Digest], FetchError> {
        let digests = usize::try_from(stripe).ok().and_then(|stripe| self.digests.get(stripe));
        let whole = digests.filter(|digests| digests.len() == self.sites.len());
        whole.map(Vec::as_slice).ok_or(FetchError::NoStripe(stripe))
    }
}

impl Service {
    /// The sealed bytes of one whole stripe, as slices of its data shards.
    /// Shards in `suspects` are among those that are read, so that one which
    /// is damaged is found and healed.
    pub(crate) async fn fetch_stripe(
        &self,
        stripes: &Stripes,
        stripe: u32,
        suspects: &[usize],
    ) -> Result<Vec<Bytes>, FetchError> {
        let digests = stripes.digests(stripe)?;
        let shards = self.collect(stripes, stripe, digests, suspects).await;
        let (have, need) = (shards.have.iter().flatten().count(), stripes.codec.geometry().k());
        if have < need {
            let failed = shards.failed.iter().map(|(index, error)| self.blame(stripes, *index, error));
            let failed = failed.chain(self.left_out(stripes)).collect();
            return Err(FetchError::TooFewShards { stripe, have, need, failed });
        }
        for (site, _) in stripes.sites.iter().zip(&shards.have).filter(|(_, shard)| shard.is_some()) {
            stripes.terms.answered(*site);
        }
        self.heal(stripes, stripe, &shards).await;
        let length = stripes.bytes_in(stripe);
        let data = stripes.codec.decode(shards.have, length)?;
        Ok(join(&data, length).zip(&data).map(|(piece, shard)| shard.slice_ref(piece)).collect())
    }

    async fn collect(
        &self,
        stripes: &Stripes,
        stripe: u32,
        digests: &[Digest],
        suspects: &[usize],
    ) -> Finish<Bytes> {
        let prefer = if suspects.is_empty() { Preference::InOrder } else { Preference::First(suspects) };
        let candidates = self.candidates(&stripes.sites, &stripes.terms);
        let size = Size::of(stripes.shard_bytes(stripe));
        let race = Race { habits: &self.reads, size, candidates: &candidates, prefer };
        let read = |index: usize| {
            let site = stripes.site(index).and_then(|site| self.sites.get(site));
            let wanted = digests.get(index).copied();
            let id = u8::try_from(index).map(|index| stripes.record(stripe, index));
            async move {
                let (Some(wanted), Ok(id)) = (wanted, id) else { return Err(SiteError::Missing) };
                read_shard(site, id, wanted).await
            }
        };
        race.run(stripes.codec.geometry().k(), read).await
    }

    /// Sites as a race takes them.
    pub(crate) fn candidates(&self, sites: &[SiteId], terms: &Terms) -> Vec<Candidate> {
        let answers = |site: SiteId| self.sites.get(site).is_some_and(|site| site.answers());
        let candidate = |site: SiteId| Candidate { site, answers: answers(site), barred: terms.bar(site) };
        sites.iter().map(|site| candidate(*site)).collect()
    }

    /// The holders that the read did without, for people.
    fn left_out(&self, stripes: &Stripes) -> impl Iterator<Item = String> {
        let barred = stripes.sites.iter().filter(|site| stripes.terms.bar(**site));
        barred.map(|site| format!("{} (left out by the caller)", self.sites.name(*site)))
    }

    fn blame(&self, stripes: &Stripes, index: usize, error: &SiteError) -> String {
        let name = stripes.site(index).map_or("unknown", |id| self.sites.name(id));
        format!("{name} ({error})")
    }

    /// Reports the sites that answered wrongly, and writes the right shard
    /// back where the site answers and the shard still belongs there.
    async fn heal(&self, stripes: &Stripes, stripe: u32, shards: &Finish<Bytes>) {
        let (k, m) = stripes.codec.geometry().into();
        for (place, error) in &shards.failed {
            let (Some(site), Ok(index)) = (stripes.site(*place), u8::try_from(*place)) else { continue };
            let id = stripes.record(stripe, index);
            if !self.charge(&stripes.version, (*place, site), id, error).await {
                continue;
            }
            let Ok(rebuilt) = stripes.codec.rebuild(shards.have.clone(), &[index]) else { continue };
            let Some(body) = rebuilt.into_iter().next() else { continue };
            let geometry = ClearGeometry { k, m, index };
            if let Ok(record) = Record::new(RecordKind::Shard, id, geometry, body)
                && self.write_anew(&stripes.version, (*place, site), record).await
            {
                self.damage.mended(site, id);
            }
        }
    }
}

/// Reads one shard; a record that is whole but not the one that the manifest
/// signs counts as damaged.
async fn read_shard(site: Option<Arc<dyn Site>>, id: RecordId, wanted: Digest) -> Result<Bytes, SiteError> {
    let record = site.ok_or(SiteError::Unreachable)?.get(id).await?;
    if record.digest() == wanted { Ok(record.into_body()) } else { Err(SiteError::Damaged) }
}
