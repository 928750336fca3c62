//! Coding stripes and writing their shards, a bounded number of stripes in
//! flight; durable when every fsync receipt of the acknowledgement rule is in.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use coffer_catalog::NewChallenges;
use coffer_model::{Degraded, Layout, ShardDigests, SiteId};
use coffer_regions::{
    ClearGeometry, Codec, CodecError, Placement, Record, RecordError, RecordKind, SiteError, shard_record_id,
};
use tokio::sync::OwnedRwLockReadGuard;
use tokio::task::{JoinError, JoinSet};

use crate::jobs::Sampler;
use crate::sites::{Sites, put_verified};

/// Why a stripe is not durable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error("{} site(s) of the placement did not store their shards and the policy does not accept fewer; {alive} of {n} did", n - alive)]
    TooFewSites { alive: usize, n: usize },
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the object has more stripes than can be numbered")]
    TooManyStripes,
    #[error("a write was cut off by the service stopping")]
    Stopped(#[from] JoinError),
}

/// Stripes written but not yet known durable: the price of a slow site in memory.
const IN_FLIGHT_MAX: usize = 3;

type ShardWrite = (SiteId, Result<(), SiteError>);

/// Writes the stripes of one version in order.
pub(crate) struct StripeWriter<'a> {
    sites: &'a Sites,
    placement: &'a Placement,
    codec: Codec,
    locator: [u8; 32],
    degraded: Degraded,
    digests: Vec<ShardDigests>,
    sealed_size: u64,
    missed: BTreeSet<SiteId>,
    in_flight: VecDeque<JoinSet<ShardWrite>>,
    sampler: Sampler,
}

/// A version's shards, all durable.
pub(crate) struct Striped {
    pub(crate) layout: Layout,
    pub(crate) sealed_size: u64,
    pub(crate) missed: Vec<SiteId>,
    pub(crate) challenges: NewChallenges,
}

impl<'a> StripeWriter<'a> {
    pub(crate) fn new(
        sites: &'a Sites,
        placement: &'a Placement,
        locator: [u8; 32],
        degraded: Degraded,
        sampler: Sampler,
    ) -> Result<Self, WriteError> {
        let codec = Codec::new(placement.geometry())?;
        let missed = placement.absent().iter().copied().collect();
        let (digests, in_flight) = (Vec::new(), VecDeque::new());
        let sealed_size = 0;
        Ok(Self {
            sites,
            placement,
            codec,
            locator,
            degraded,
            digests,
            sealed_size,
            missed,
            in_flight,
            sampler,
        })
    }

    /// Codes one stripe and starts its writes; waits for the oldest stripe
    /// when too many are in flight. `placing` is held until all of it arrived.
    pub(crate) async fn write(
        &mut self,
        sealed: Vec<u8>,
        placing: &Arc<OwnedRwLockReadGuard<()>>,
    ) -> Result<(), WriteError> {
        let number = u32::try_from(self.digests.len()).map_err(|_| WriteError::TooManyStripes)?;
        self.sealed_size += sealed.len() as u64;
        let stripe = self.codec.encode_owned(sealed)?;
        let (k, m) = self.placement.geometry().into();
        let (mut digests, mut records) = (Vec::with_capacity(stripe.shards.len()), Vec::new());
        for (index, (shard, site)) in (0_u8..).zip(stripe.shards.into_iter().zip(self.placement.sites())) {
            let id = shard_record_id(&self.locator, number, index);
            let record = Record::new(RecordKind::Shard, id, ClearGeometry { k, m, index }, shard)?;
            digests.push(record.digest());
            self.sampler.offer(index, &record);
            if !self.missed.contains(site) {
                records.push((*site, record));
            }
        }
        let mut writes = JoinSet::new();
        for (site, record) in records {
            let (adapter, placing) = (self.sites.get(site), Arc::clone(placing));
            writes.spawn(async move {
                let stored = put_verified(adapter, site, record).await;
                drop(placing);
                (site, stored)
            });
        }
        self.digests.push(digests);
        self.in_flight.push_back(writes);
        while self.in_flight.len() > IN_FLIGHT_MAX {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Waits until every stripe has arrived at enough sites.
    pub(crate) async fn arrived(&mut self) -> Result<(), WriteError> {
        while !self.in_flight.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// The version whose stripes have [arrived](Self::arrived).
    pub(crate) fn finish(self, stripe_bytes: usize) -> Result<Striped, WriteError> {
        let layout = Layout::Striped {
            geometry: self.placement.geometry(),
            sites: self.placement.sites().to_vec(),
            stripe_bytes: u32::try_from(stripe_bytes).map_err(|_| WriteError::TooManyStripes)?,
            locator: self.locator,
            digests: self.digests,
        };
        let missed: Vec<SiteId> = self.missed.into_iter().collect();
        let challenges = self.sampler.finish(self.placement.sites(), &missed);
        Ok(Striped { layout, sealed_size: self.sealed_size, missed, challenges })
    }

    /// Waits for everything in flight of a version that is given up.
    pub(crate) async fn settle(&mut self) {
        while let Some(mut writes) = self.in_flight.pop_front() {
            while writes.join_next().await.is_some() {}
        }
    }

    async fn settle_oldest(&mut self) -> Result<(), WriteError> {
        let Some(mut writes) = self.in_flight.pop_front() else { return Ok(()) };
        let mut stopped = None;
        while let Some(done) = writes.join_next().await {
            match done {
                Ok((_, Ok(()))) => {}
                Ok((site, Err(_))) => drop(self.missed.insert(site)),
                Err(error) => stopped = Some(error),
            }
        }
        if let Some(error) = stopped {
            return Err(error.into());
        }
        self.check_budget()
    }

    /// All n, or, where the policy accepts it, at least k + 1 sites that hold
    /// every stripe so far.
    fn check_budget(&self) -> Result<(), WriteError> {
        let n = self.placement.geometry().n();
        let alive = n - self.missed.len();
        let newly_missed = self.missed.len() > self.placement.absent().len();
        let accepted = self.degraded == Degraded::Accept && alive > self.placement.geometry().k();
        if newly_missed && !accepted { Err(WriteError::TooFewSites { alive, n }) } else { Ok(()) }
    }
}
