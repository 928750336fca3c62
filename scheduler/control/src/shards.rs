//! The port to the ledger of shards: where shards can be read now, how many lie
//! on each pod, and which pods are sites, are to be emptied, or go. Whoever serves
//! the objects knows; the fleet sees counts, never data.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use coffer_scheduler::{PodId, SetName, ShardGroup};

use crate::sets::SiteIdentity;

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
    /// It does not do what is wished for a pod.
    #[error("{pod}: {why}")]
    Refused {
        /// The pod.
        pod: PodId,
        /// What it says.
        why: String,
    },
}

/// Where shards lie.
#[async_trait]
pub trait ShardLedger: Send + Sync {
    /// Where the shards of a set lie now. `members` are its sites, whether pods of theirs run or not;
    /// `serving` are its pods that are ready, `away` those of other sets that are not: one service may have the
    /// sites of several sets.
    ///
    /// # Errors
    /// [`ShardLedgerError`].
    async fn look(
        &self,
        set: &SetName,
        members: &BTreeSet<PodId>,
        serving: &BTreeSet<PodId>,
        away: &BTreeSet<PodId>,
    ) -> Result<Shards, ShardLedgerError>;

    /// This pod serves, on a node that is attested, at this `https://HOST:PORT`: it is a site from now on. Told
    /// with every look; only the first time of a site is news.
    ///
    /// # Errors
    /// [`ShardLedgerError`].
    async fn join(&self, site: &SiteIdentity, endpoint: &str) -> Result<(), ShardLedgerError>;

    /// No new shard is to come to this pod, and those on it are to lie on others of its set. Told with every
    /// look until none is left. With `must` no byte may go there any more, whatever else cannot be kept then.
    ///
    /// # Errors
    /// [`ShardLedgerError`].
    async fn evacuate(&self, pod: &PodId, must: bool) -> Result<(), ShardLedgerError>;

    /// This pod was to be emptied, and stays after all.
    ///
    /// # Errors
    /// [`ShardLedgerError`].
    async fn keep(&self, pod: &PodId) -> Result<(), ShardLedgerError>;

    /// Whether what lies on a site can move at all. Where it cannot, no site that holds anything gives way to others.
    fn moves_data(&self) -> bool {
        true
    }

    /// This pod, which holds nothing, goes for good.
    ///
    /// # Errors
    /// [`ShardLedgerError`] if something lies there after all: then it stays.
    async fn leave(&self, pod: &PodId) -> Result<(), ShardLedgerError>;
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
    async fn look(
        &self,
        _: &SetName,
        members: &BTreeSet<PodId>,
        serving: &BTreeSet<PodId>,
        _: &BTreeSet<PodId>,
    ) -> Result<Shards, ShardLedgerError> {
        // A pod that does not serve holds what it held: it is not empty because nobody can read it.
        let held = members.union(serving).map(|pod| (pod.clone(), 1)).collect();
        let group = ShardGroup { needed: self.needed, readable: serving.clone(), objects: 1 };
        Ok(Shards { groups: vec![group], held })
    }

    fn moves_data(&self) -> bool {
        false
    }

    async fn join(&self, _: &SiteIdentity, _: &str) -> Result<(), ShardLedgerError> {
        Ok(())
    }

    async fn evacuate(&self, _: &PodId, _: bool) -> Result<(), ShardLedgerError> {
        Ok(())
    }

    async fn keep(&self, _: &PodId) -> Result<(), ShardLedgerError> {
        Ok(())
    }

    async fn leave(&self, _: &PodId) -> Result<(), ShardLedgerError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_site_whose_pod_is_gone_is_presumed_to_hold_what_it_held() {
        let pod = |ordinal| PodId { set: "gold".parse().unwrap(), ordinal };
        let members = BTreeSet::from([pod(0), pod(1)]);
        let presumed = Presumed { needed: 1 };
        let (set, serving, away) = ("gold".parse().unwrap(), [pod(0)].into(), BTreeSet::new());
        let shards = presumed.look(&set, &members, &serving, &away).await.unwrap();
        assert_eq!(shards.held, [(pod(0), 1), (pod(1), 1)].into());
        assert_eq!(shards.groups[0].readable, [pod(0)].into());
    }
}
