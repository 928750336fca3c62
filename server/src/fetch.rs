//! Reading a stripe: the k data shards first, parity where they fail; every
//! shard held against the digest that the manifest signs; what was damaged or
//! missing is reported and healed, never returned.

use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{Digest, SiteId};
use coffer_regions::{
    ClearGeometry, Codec, CodecError, Record, RecordKind, Site, SiteError, join, shard_record_id,
};
use tokio::task::JoinSet;

use crate::service::Service;

/// Why a stripe cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("stripe {stripe}: only {have} of the {need} shards that it takes are readable; sites that failed: {}", failed.join(", "))]
    TooFewShards { stripe: u32, have: usize, need: usize, failed: Vec<String> },
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the manifest does not describe stripe {0}")]
    NoStripe(u32),
}

/// The striped layout of one version, as its manifest has it.
pub(crate) struct Stripes {
    /// Made once for the whole read: its matrix costs more than a small stripe.
    pub(crate) codec: Codec,
    pub(crate) sites: Vec<SiteId>,
    pub(crate) stripe_bytes: u64,
    pub(crate) locator: [u8; 32],
    pub(crate) digests: Vec<Vec<Digest>>,
    pub(crate) sealed_size: u64,
}

impl Stripes {
    /// Sealed bytes in a stripe.
    fn bytes_in(&self, stripe: u32) -> usize {
        let start = u64::from(stripe) * self.stripe_bytes;
        usize::try_from(self.sealed_size.saturating_sub(start).min(self.stripe_bytes)).unwrap_or(0)
    }
}

struct Shards {
    have: Vec<Option<Bytes>>,
    failed: Vec<(u8, SiteError)>,
}

impl Service {
    /// The sealed bytes of one stripe.
    pub(crate) async fn fetch_stripe(&self, stripes: &Stripes, stripe: u32) -> Result<Bytes, FetchError> {
        let digests = usize::try_from(stripe).ok().and_then(|i| stripes.digests.get(i));
        let digests =
            digests.filter(|list| list.len() == stripes.sites.len()).ok_or(FetchError::NoStripe(stripe))?;
        let shards = self.collect(stripes, stripe, digests).await;
        let have = shards.have.iter().flatten().count();
        if have < stripes.codec.geometry().k() {
            let failed =
                shards.failed.iter().map(|(index, error)| self.blame(stripes, *index, error)).collect();
            return Err(FetchError::TooFewShards {
                stripe,
                have,
                need: stripes.codec.geometry().k(),
                failed,
            });
        }
        self.heal(stripes, stripe, &shards).await;
        let length = stripes.bytes_in(stripe);
        let data = stripes.codec.decode(shards.have, length)?;
        let mut sealed = Vec::with_capacity(length);
        join(&data, length).for_each(|piece| sealed.extend_from_slice(piece));
        Ok(Bytes::from(sealed))
    }

    /// Asks the data sites at once; for each that fails, the next parity site.
    async fn collect(&self, stripes: &Stripes, stripe: u32, digests: &[Digest]) -> Shards {
        let mut shards = Shards { have: vec![None; stripes.sites.len()], failed: Vec::new() };
        let candidates = (0_u8..).zip(stripes.sites.iter().zip(digests));
        let mut reads = candidates.map(|(index, (site, digest))| {
            let (adapter, want) = (self.sites.get(*site), Want::new(stripes, stripe, index, *digest));
            async move { (index, want.read(adapter).await) }
        });
        let mut asked: JoinSet<_> = reads.by_ref().take(stripes.codec.geometry().k()).collect();
        while let Some(answer) = asked.join_next().await {
            // A read that was cut off says nothing about its site.
            let Ok((index, read)) = answer else { continue };
            match read {
                Ok(body) => {
                    if let Some(slot) = shards.have.get_mut(usize::from(index)) {
                        *slot = Some(body);
                    }
                }
                Err(error) => {
                    shards.failed.push((index, error));
                    if let Some(read) = reads.next() {
                        asked.spawn(read);
                    }
                }
            }
        }
        shards
    }

    fn blame(&self, stripes: &Stripes, index: u8, error: &SiteError) -> String {
        let site = stripes.sites.get(usize::from(index));
        format!("{} ({error})", site.map_or("unknown", |id| self.sites.name(*id)))
    }

    /// Reports the sites that answered wrongly, and writes the right shard
    /// back where the site answers.
    async fn heal(&self, stripes: &Stripes, stripe: u32, shards: &Shards) {
        let (k, m) = stripes.codec.geometry().into();
        for (index, error) in &shards.failed {
            let Some(site) = stripes.sites.get(usize::from(*index)) else { continue };
            if *error == SiteError::Unreachable {
                continue;
            }
            self.sites.report(*site);
            self.damage.note(*site, shard_record_id(&stripes.locator, stripe, *index));
            let Ok(rebuilt) = stripes.codec.rebuild(shards.have.clone(), &[*index]) else { continue };
            let Some(body) = rebuilt.into_iter().next() else { continue };
            let id = shard_record_id(&stripes.locator, stripe, *index);
            let geometry = ClearGeometry { k, m, index: *index };
            if let Ok(record) = Record::new(RecordKind::Shard, id, geometry, body)
                && self.sites.replace(*site, record).await
            {
                self.damage.mended(*site, id);
            }
        }
    }
}

/// One shard as the manifest wants it.
struct Want {
    id: coffer_model::RecordId,
    digest: Digest,
}

impl Want {
    fn new(stripes: &Stripes, stripe: u32, index: u8, digest: Digest) -> Self {
        Self { id: shard_record_id(&stripes.locator, stripe, index), digest }
    }

    /// Reads it; a record that is whole but not the one that the manifest
    /// signs counts as damaged.
    async fn read(self, site: Option<Arc<dyn Site>>) -> Result<Bytes, SiteError> {
        let record = site.ok_or(SiteError::Unreachable)?.get(self.id).await?;
        if record.digest() == self.digest { Ok(record.into_body()) } else { Err(SiteError::Damaged) }
    }
}
