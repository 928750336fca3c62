//! A range of a log, read with what proves it: for tenants their own log, for
//! operators that of the service.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::{Digest, Outcome};
use tokio::sync::mpsc;

use crate::audit::{Around, AuditError};
use crate::authorize::{Grant, Granted};
use crate::service::Service;

/// The arguments of a reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLeaves {
    /// Index of the first leaf.
    pub(crate) first: u64,
    /// Most leaves.
    pub(crate) limit: u64,
    /// Size of the checkpoint that the caller has; `None`: one is signed.
    pub(crate) size: Option<u64>,
    /// What a new checkpoint is proven to extend.
    pub(crate) since: u64,
    /// Goes on as the log grows.
    pub(crate) follow: bool,
    /// The last so many leaves, in place of `first`.
    pub(crate) last: Option<u64>,
}

/// What a reader is told.
pub(crate) enum Part {
    Range(Range),
    Run(Vec<Vec<u8>>),
}

/// Which leaves follow, and what proves them.
pub(crate) struct Range {
    /// The signed note; none if the caller has it.
    pub(crate) note: Option<String>,
    pub(crate) consistency: Vec<Digest>,
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) size: u64,
    pub(crate) around: Around,
}

/// Parts that wait for the wire.
const PARTS_WAITING: usize = 4;
/// Leaves of one part, and their bytes, but for the last of them.
const RUN_LEAVES: usize = 1024;
const RUN_BYTES: usize = 1 << 20;
/// How often a follower's log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

type Parts = mpsc::Sender<Result<Part, AuditError>>;

/// The whole story: the reading is a leaf itself, then parts come through the
/// receiver. Nothing is signed or read before that leaf is there.
pub(crate) async fn read(
    service: &Arc<Service>,
    read: Granted<ReadLeaves>,
) -> Result<mpsc::Receiver<Result<Part, AuditError>>, AuditError> {
    let (wanted, grant) = read.into_parts();
    grant.tenant().note(&grant.event(service, None, Outcome::Done)).await?;
    let range = range(service, &grant, wanted).await?;
    let (send, parts) = mpsc::channel(PARTS_WAITING);
    let service = Arc::clone(service);
    tokio::spawn(async move {
        if let Err(error) = deliver(&service, &grant, wanted, range, &send).await {
            // Nobody may listen any more.
            let _ = send.send(Err(error)).await;
        }
    });
    Ok(parts)
}

/// Which leaves are meant, and what proves them.
async fn range(service: &Service, grant: &Grant, wanted: ReadLeaves) -> Result<Range, AuditError> {
    let tenant = grant.tenant();
    let (log, catalog) = (&tenant.log, &tenant.catalog);
    let (size, note, consistency) = match wanted.size {
        Some(size) => (size, None, Vec::new()),
        None => {
            let signed = service.checkpoint(tenant).await?;
            let consistency = log.consistency(catalog, wanted.since, signed.size).await?;
            (signed.size, Some(signed.note), consistency)
        }
    };
    let first = wanted.last.map_or(wanted.first, |last| size.saturating_sub(last));
    if first > size {
        return Err(AuditError::Beyond { size, asked: first });
    }
    let end = first.saturating_add(wanted.limit).min(size);
    let around = log.around(catalog, first, end, size).await?;
    Ok(Range { note, consistency, first, end, size, around })
}

async fn deliver(
    service: &Service,
    grant: &Grant,
    wanted: ReadLeaves,
    mut next: Range,
    send: &Parts,
) -> Result<(), AuditError> {
    let tenant = grant.tenant();
    loop {
        let (mut at, end, size) = (next.first, next.end, next.size);
        if send.send(Ok(Part::Range(next))).await.is_err() {
            return Ok(());
        }
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(RUN_LEAVES).min(RUN_LEAVES);
            let leaves = bounded(tenant.catalog.leaves(at, most).await?);
            if leaves.is_empty() {
                return Err(AuditError::Beyond { size: at, asked: end });
            }
            at += leaves.len() as u64;
            if send.send(Ok(Part::Run(leaves))).await.is_err() {
                return Ok(());
            }
        }
        if !wanted.follow || !grown(service, grant, size, send).await? {
            return Ok(());
        }
        let more = ReadLeaves { first: end, size: None, since: size, last: None, ..wanted };
        next = range(service, grant, more).await?;
    }
}

/// As many of these leaves as fit a message.
fn bounded(mut leaves: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut bytes = 0;
    let fit = leaves.iter().take_while(|leaf| {
        let fits = bytes < RUN_BYTES;
        bytes += leaf.len();
        fits
    });
    let fit = fit.count();
    leaves.truncate(fit);
    leaves
}

/// Waits until the log has more leaves than `size`; false if the follower or
/// the service leaves before.
async fn grown(service: &Service, grant: &Grant, size: u64, send: &Parts) -> Result<bool, AuditError> {
    loop {
        if service.watch.is_leaving() || send.is_closed() {
            return Ok(false);
        }
        if grant.tenant().catalog.log_size().await? > size {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
