//! Levelling of sites: what would move, what it costs, and doing it.

use coffer_proto::v1;

use crate::call::{CallError, once};
use crate::connect::Client;

/// A site, with what it holds and what would be its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteShare {
    /// Its name.
    pub name: String,
    /// Bytes of shards that lay there as it began.
    pub held: u64,
    /// Bytes that would lie there if sites were filled alike, as far as policies let them.
    pub share: u64,
    /// Bytes that the moves bring.
    pub receives: u64,
    /// Bytes that they take away.
    pub gives: u64,
}

/// What moves, and what it costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebalance {
    /// The sites, in the order of the topology.
    pub sites: Vec<SiteShare>,
    /// Bytes that have to move at the least for every site to hold its share.
    pub missing: u64,
    /// Bytes of versions so small that they stay where they are.
    pub dear: u64,
    /// Shards that move.
    pub moves: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of manifest records that are written for them.
    pub records: u64,
    /// Shards that have moved.
    pub done: u64,
    /// Those that could not.
    pub failed: u64,
    /// Why, for the first few.
    pub reasons: Vec<String>,
    /// Bytes that sites acknowledged.
    pub bytes_written: u64,
}

/// How to level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebalanceOptions {
    /// Bytes read and written a second at most; 0: the service's default.
    pub bytes_per_second: u64,
    /// No bound, and no regard for other calls.
    pub full_speed: bool,
}

fn read(message: v1::RebalanceResponse) -> Rebalance {
    let share = |site: v1::SiteShare| SiteShare {
        name: site.name,
        held: site.held,
        share: site.share,
        receives: site.receives,
        gives: site.gives,
    };
    Rebalance {
        sites: message.sites.into_iter().map(share).collect(),
        missing: message.missing,
        dear: message.dear,
        moves: message.moves,
        bytes: message.bytes,
        records: message.records,
        done: message.done,
        failed: message.failed,
        reasons: message.reasons,
        bytes_written: message.bytes_written,
    }
}

impl Client {
    /// What a levelling would move now, and what that costs.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn plan_rebalance(&self) -> Result<Rebalance, CallError> {
        self.level(v1::RebalanceRequest::default(), |_| ()).await
    }

    /// Levels the sites and tells how far it is; it goes on if this is dropped.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn rebalance(
        &self,
        options: RebalanceOptions,
        told: impl FnMut(&Rebalance),
    ) -> Result<Rebalance, CallError> {
        let RebalanceOptions { bytes_per_second, full_speed } = options;
        self.level(v1::RebalanceRequest { run: true, bytes_per_second, full_speed }, told).await
    }

    async fn level(
        &self,
        request: v1::RebalanceRequest,
        mut told: impl FnMut(&Rebalance),
    ) -> Result<Rebalance, CallError> {
        let mut stream =
            once(self, || async { self.repair_calls().rebalance(request).await }).await?.into_inner();
        while let Some(message) = stream.message().await.map_err(|status| CallError::from_status(&status))? {
            let ended = message.ended;
            let so_far = read(message);
            told(&so_far);
            if ended {
                return Ok(so_far);
            }
        }
        Err(CallError::Unavailable("the service stopped while it levelled sites".to_owned()))
    }
}
