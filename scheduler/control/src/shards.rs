//! The port to the ledger of shards: where shards can be read now, how many lie
//! on each pod, and the wish that they lie elsewhere. Whoever serves the objects
//! knows; the fleet sees counts, never data.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use coffer_scheduler::{PodId, SetName, ShardGroup};

/// What the ledger says of one set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shards {
    /// Objects by where their shards can be read now.
    pub groups: Vec<ShardGroup>,
    /// How many shards should lie on each pod, readable or not.
    pub held: BTreeMap<PodId, u64>,
}

/// Why the ledger says nothing. Then nothing is taken down by choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardLedgerError {
    /// Whoever keeps it does not answer.
    #[error("the ledger of shards does not answer ({0}); nothing is taken down meanwhile")]
    Silent(String),
}

/// Where shards lie.
#[async_trait]
pub trait ShardLedger: Send + Sync {
    /// Where the shards of a set lie now. `serving` are the pods of the set that are ready.
    ///
    /// # Errors
    /// [`ShardLedgerError`].
    async fn look(&self, set: &SetName, serving: &BTreeSet<PodId>) -> Result<Shards, ShardLedgerError>;

    /// The shards on this pod are to lie on others of its set. Asked for again and again until none is left.
    ///
    /// # Errors
    /// [`ShardLedgerError`].
    async fn evacuate(&self, pod: &PodId) -> Result<(), ShardLedgerError>;
}

/// Where no ledger can be asked: every pod is presumed to hold a shard of every
/// object, for ever. So one pod may be restarted while all others serve, and
/// none leaves that would be missed.
#[derive(Clone, Copy, Debug)]
pub struct Presumed {
    /// Shards that suffice to read an object.
    pub needed: u32,
}

#[async_trait]
impl ShardLedger for Presumed {
    async fn look(&self, _: &SetName, serving: &BTreeSet<PodId>) -> Result<Shards, ShardLedgerError> {
        let held = serving.iter().map(|pod| (pod.clone(), 1)).collect();
        let group = ShardGroup { needed: self.needed, readable: serving.clone(), objects: 1 };
        Ok(Shards { groups: vec![group], held })
    }

    async fn evacuate(&self, _: &PodId) -> Result<(), ShardLedgerError> {
        Ok(())
    }
}
