//! Ranges of a log: fetched, and proven against the checkpoint that the
//! watch accepted. Nothing of a range is handed on before all of it is proven.

use bytes::Bytes;
use coffer_keys::{Checkpoint, Tree, WitnessPolicy, leaf_hash, verify_consistency};
use coffer_proto::v1;
use coffer_proto::v1::read_leaves_response::Part;
use tonic::{Status, Streaming};

use crate::call::{CallError, bad_answer, once, repeat};
use crate::connect::Client;
use crate::log::{LogError, LogWatch, digests};

/// Which leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// From this index, at most so many.
    From(u64, u64),
    /// The last so many.
    Last(u64),
}

/// Leaves, each proven to be in the log of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafRange {
    /// Index of the first.
    pub first: u64,
    /// Their bytes, in order.
    pub leaves: Vec<Vec<u8>>,
}

/// Leaves that one call may bring: bounds what an answer can take of memory.
const RANGE_LEAVES_MAX: u64 = 16 * 1024;

impl LogWatch {
    /// Fetches leaves of the log as it is now: a new checkpoint, which must
    /// extend the remembered one, and the leaves proven against it.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn read_now(
        &mut self,
        client: &Client,
        wanted: RangeRequest,
    ) -> Result<(Checkpoint, LeafRange), LogError> {
        let request = self.request(wanted, false);
        let (range, leaves) = fetch(client, request).await?;
        let checkpoint = self.accept_range(&range)?;
        Ok((checkpoint.clone(), prove(range, leaves, &checkpoint)?))
    }

    /// Fetches leaves of the log of a checkpoint that was accepted before.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn read_at(
        &self,
        client: &Client,
        wanted: RangeRequest,
        checkpoint: &Checkpoint,
    ) -> Result<LeafRange, LogError> {
        let mut request = self.request(wanted, false);
        request.size = checkpoint.size;
        let (range, leaves) = fetch(client, request).await?;
        prove(range, leaves, checkpoint)
    }

    /// Fetches every leaf from `first` on, of the log as it is now, or as a
    /// policy's witnesses have cosigned it; `take` gets range after range, each
    /// proven, and may end it. The checkpoint of all of them.
    ///
    /// # Errors
    /// [`LogError`], or what `take` says.
    pub async fn read_from<E: From<LogError>>(
        &mut self,
        client: &Client,
        policy: Option<&WitnessPolicy>,
        first: u64,
        mut take: impl FnMut(LeafRange) -> Result<(), E>,
    ) -> Result<Checkpoint, E> {
        let mut at = first;
        let checkpoint = match policy {
            Some(policy) => self.advance_witnessed(client, policy).await?,
            None => {
                let (checkpoint, range) = self.read_now(client, RangeRequest::From(first, u64::MAX)).await?;
                at += range.leaves.len() as u64;
                take(range)?;
                checkpoint
            }
        };
        while at < checkpoint.size {
            let range = self.read_at(client, RangeRequest::From(at, u64::MAX), &checkpoint).await?;
            at += range.leaves.len() as u64;
            take(range)?;
        }
        Ok(checkpoint)
    }

    /// Follows the log: the wanted leaves, then each new one as it is signed.
    ///
    /// # Errors
    /// [`LogError::Call`].
    pub async fn follow(&self, client: &Client, wanted: RangeRequest) -> Result<FollowedLog, LogError> {
        let request = self.request(wanted, true);
        let stream =
            once(client, || async { client.audit_calls().read_leaves(request.clone()).await }).await?;
        Ok(FollowedLog { stream: stream.into_inner() })
    }

    fn request(&self, wanted: RangeRequest, follow: bool) -> v1::ReadLeavesRequest {
        let (first, limit, last) = match wanted {
            RangeRequest::From(first, limit) => (first, limit.min(RANGE_LEAVES_MAX), 0),
            RangeRequest::Last(last) => (0, RANGE_LEAVES_MAX, last.clamp(1, RANGE_LEAVES_MAX)),
        };
        let limit = if follow { u64::MAX } else { limit };
        v1::ReadLeavesRequest {
            tenant: Bytes::new(),
            first,
            limit,
            size: 0,
            since_size: self.size(),
            follow,
            last,
        }
    }

    fn accept_range(&mut self, range: &v1::LeafRange) -> Result<Checkpoint, LogError> {
        let proof = digests("consistency", &range.consistency)?;
        self.accept(&range.checkpoint, &proof)
    }
}

/// A log that is read as it grows.
pub struct FollowedLog {
    stream: Streaming<v1::ReadLeavesResponse>,
}

impl FollowedLog {
    /// The next leaves, proven against the newest checkpoint, which the watch
    /// accepts; nothing once the service ends the stream.
    ///
    /// # Errors
    /// [`LogError`].
    pub async fn next(&mut self, watch: &mut LogWatch) -> Result<Option<LeafRange>, LogError> {
        let range = match message(&mut self.stream).await? {
            Some(Part::Range(range)) => range,
            Some(Part::Run(_)) => return Err(bad_answer("leaves of no range").into()),
            None => return Ok(None),
        };
        let checkpoint = watch.accept_range(&range)?;
        let mut leaves = Vec::new();
        let wanted = wanted(&range)?;
        while (leaves.len() as u64) < wanted {
            match message(&mut self.stream).await? {
                Some(Part::Run(run)) => take(&mut leaves, run, wanted)?,
                Some(Part::Range(_)) | None => return Err(bad_answer("a range is cut short").into()),
            }
        }
        prove(range, leaves, &checkpoint).map(Some)
    }
}

async fn message(stream: &mut Streaming<v1::ReadLeavesResponse>) -> Result<Option<Part>, CallError> {
    let answer = stream.message().await.map_err(|status: Status| CallError::from_status(&status))?;
    answer.map(|answer| answer.part.ok_or_else(|| bad_answer("an empty part"))).transpose()
}

/// Leaves of a range that the service announces. A follower's may be long, but
/// never longer than the log.
fn wanted(range: &v1::LeafRange) -> Result<u64, CallError> {
    let count = range.end.checked_sub(range.first).filter(|_| range.end <= range.size);
    count.ok_or_else(|| bad_answer("a range that ends before it begins, or beyond the log"))
}

fn take(leaves: &mut Vec<Vec<u8>>, run: v1::LeafRun, wanted: u64) -> Result<(), CallError> {
    leaves.extend(run.leaves.into_iter().map(Vec::from));
    if leaves.len() as u64 > wanted { Err(bad_answer("more leaves than announced")) } else { Ok(()) }
}

/// One range that ends, whole; repeated where its failure may pass.
async fn fetch(
    client: &Client,
    request: v1::ReadLeavesRequest,
) -> Result<(v1::LeafRange, Vec<Vec<u8>>), CallError> {
    let (first, limit, named) = (request.first, request.limit, request.last == 0);
    let attempt = || async {
        let answer = client.audit_calls().read_leaves(request.clone()).await;
        let mut stream = answer.map_err(|status| CallError::from_status(&status))?.into_inner();
        let Some(Part::Range(range)) = message(&mut stream).await? else {
            return Err(bad_answer("no range"));
        };
        let wanted = wanted(&range)?;
        // Of the last ones the service knows where they begin; of others it is told.
        let asked = range.first == first && range.end == first.saturating_add(limit).min(range.size);
        if wanted > limit || (named && !asked) {
            return Err(bad_answer("other leaves than were asked for"));
        }
        let mut leaves = Vec::new();
        while let Some(part) = message(&mut stream).await? {
            let Part::Run(run) = part else { return Err(bad_answer("two ranges")) };
            take(&mut leaves, run, wanted)?;
        }
        Ok((range, leaves))
    };
    repeat(&client.patience, client.entropy.as_ref(), attempt).await
}

/// Proves the leaves: the tree before them, continued by them, is one that the
/// checkpoint's extends.
fn prove(range: v1::LeafRange, leaves: Vec<Vec<u8>>, checkpoint: &Checkpoint) -> Result<LeafRange, LogError> {
    let first = range.first;
    if range.size != checkpoint.size || leaves.len() as u64 != wanted(&range)? {
        return Err(bad_answer("a range of another log, or cut short").into());
    }
    let before = digests("before", &range.before)?;
    let tree = Tree::from_subtrees(first, before);
    let mut tree = tree.ok_or_else(|| bad_answer("a tree with another number of subtrees"))?;
    leaves.iter().for_each(|leaf| tree.append(leaf_hash(leaf)));
    let after = digests("after", &range.after)?;
    verify_consistency(tree.size(), tree.root(), checkpoint.size, checkpoint.root, &after)
        .map_err(|reason| LogError::Leaf { index: first, reason })?;
    Ok(LeafRange { first, leaves })
}
