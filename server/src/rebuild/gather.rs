//! The first good copy of every record of a kind: read in batches from the
//! sites that list it, opened on every core, handed on in order of id. Bounded
//! in memory by a few batches. A site whose listing goes on and on without
//! anything that opens has fallen silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::CatalogError;
use coffer_model::{Digest, Execution, RecordId, SiteId};
use coffer_regions::{Record, RecordKind, SiteError};
use futures::stream::{self, StreamExt};

use crate::listing;
use crate::rebuild::merge::{ASKED_AGAIN, Listed, Merge};
use crate::service::Service;
use crate::sites::Sites;

/// What a copy turned out to be.
pub(crate) enum Opened<T> {
    /// What it should be.
    Good(T),
    /// Nobody's whose records are looked for.
    Foreign,
    /// Claims to be one of theirs, and does not open.
    Bad,
}

/// Opens a copy: the check that makes untrusted bytes a value.
pub(crate) type Open<T> = Arc<dyn Fn(&Record) -> Opened<T> + Send + Sync>;

/// A record that opened, and the sites that list it.
pub(crate) struct Found<T> {
    pub(crate) id: RecordId,
    pub(crate) value: T,
    pub(crate) holders: Vec<SiteId>,
    /// Length of the body it was opened from.
    pub(crate) body_bytes: usize,
}

/// What the walk over one kind left open.
#[derive(Default)]
pub(crate) struct Walk {
    /// Sites that did not answer at some moment of it.
    pub(crate) silent: BTreeSet<SiteId>,
    /// Records that are listed as somebody's, and of which no copy opens.
    pub(crate) unreadable: u64,
}

/// Records and bytes of bodies in one batch, and batches at once.
const BATCH_RECORDS: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;
const BATCHES: usize = 4;

/// Walks through every record of a kind; `take` gets what opened, batch by
/// batch. Reading and opening go on while it works.
pub(crate) async fn each<T: Send + 'static, E: From<CatalogError>>(
    service: &Service,
    kind: RecordKind,
    open: Open<T>,
    mut take: impl AsyncFnMut(Vec<Found<T>>) -> Result<(), E>,
) -> Result<Walk, E> {
    let sites = &service.sites;
    let mut merge = Merge::begin(sites, kind, listing::known(service, kind).await?);
    let opened = merge.opened();
    let (send, mut receive) = tokio::sync::mpsc::channel(1);
    let produce = async {
        let listings = stream::unfold(&mut merge, async |merge| {
            let batch = merge.next(BATCH_RECORDS, BATCH_BYTES).await;
            (!batch.is_empty()).then_some((batch, merge))
        });
        let (open, opened) = (&open, &opened);
        let read = move |listed| async move {
            let batch = read(sites, listed, Arc::clone(open)).await;
            batch.found.iter().for_each(|found| opened.note(&found.holders));
            batch.foreign.iter().for_each(|holders| opened.note_foreign(holders));
            batch
        };
        let mut batches = std::pin::pin!(listings.map(read).buffered(BATCHES));
        while let Some(batch) = batches.next().await {
            if send.send(batch).await.is_err() {
                break;
            }
        }
        drop(send);
    };
    let consume = async {
        let mut walk = Walk::default();
        while let Some(batch) = receive.recv().await {
            walk.silent.extend(batch.silent);
            walk.unreadable += batch.unreadable;
            take(batch.found).await?;
        }
        // The producer must not wait for a reader that has gone.
        receive.close();
        Ok(walk)
    };
    let produce = async {
        produce.await;
        Ok::<(), E>(())
    };
    let mut walk = futures::try_join!(produce, consume)?.1;
    walk.silent.extend(merge.silent());
    Ok(walk)
}

/// What one batch brought.
pub(crate) struct Batch<T> {
    pub(crate) found: Vec<Found<T>>,
    /// Sites that did not answer.
    pub(crate) silent: BTreeSet<SiteId>,
    /// Of each record that nobody here can open, the sites that list what was read.
    foreign: Vec<Vec<SiteId>>,
    unreadable: u64,
}

/// Reads a batch, each record from one of its holders, and opens it; what does
/// not open is looked for at the other holders.
pub(crate) async fn read<T: Send + 'static>(sites: &Sites, listed: Vec<Listed>, open: Open<T>) -> Batch<T> {
    let found = Vec::with_capacity(listed.len());
    let mut batch = Batch { found, silent: BTreeSet::new(), foreign: Vec::new(), unreadable: 0 };
    let copies = first_copies(sites, &listed).await;
    let opening = Arc::clone(&open);
    let look_at_all = move || {
        let look = |copy: Result<Record, SiteError>| Look::at(copy, &opening);
        copies.into_iter().map(look).collect::<Vec<_>>()
    };
    let mut opened = match sites.execution() {
        Execution::Threads => tokio::task::spawn_blocking(look_at_all).await.unwrap_or_default(),
        Execution::Inline => look_at_all(),
    };
    // Whatever became of the look at one of them, none is passed over.
    opened.resize_with(listed.len(), || Look::Silent);
    for (listed, look) in listed.into_iter().zip(opened) {
        let Listed { id, holders, .. } = listed;
        let settled = match look {
            Look::Good(value, bytes) => Settled::Good(value, bytes),
            first => others(sites, id, &holders, first, &open, &mut batch.silent).await,
        };
        match settled {
            Settled::Good(value, body_bytes) => {
                let holders = holders.into_iter().map(|(site, _)| site).collect();
                batch.found.push(Found { id, value, holders, body_bytes });
            }
            Settled::Foreign(read) => {
                let same = holders.iter().filter(|(_, digest)| read.contains(digest));
                batch.foreign.push(same.map(|(site, _)| *site).collect());
            }
            Settled::Unreadable => batch.unreadable += 1,
        }
    }
    batch
}

/// Which of the holders is asked first: spread by the id, so that every site
/// carries its part.
fn first_holder(listed: &Listed) -> usize {
    let spread = listed.id.as_bytes().last().copied().unwrap_or(0);
    usize::from(spread) % listed.holders.len().max(1)
}

/// One copy of each record, from all sites at once.
async fn first_copies(sites: &Sites, listed: &[Listed]) -> Vec<Result<Record, SiteError>> {
    let mut by_site: BTreeMap<SiteId, Vec<usize>> = BTreeMap::new();
    for (place, record) in listed.iter().enumerate() {
        if let Some((site, _)) = record.holders.get(first_holder(record)) {
            by_site.entry(*site).or_default().push(place);
        }
    }
    let reads = by_site.into_iter().map(|(site, places)| async move {
        let ids = places.iter().filter_map(|place| listed.get(*place)).map(|record| record.id).collect();
        let answers = match sites.get(site) {
            Some(site) => site.get_many(ids).await,
            None => Vec::new(),
        };
        (places, answers)
    });
    let mut copies = vec![Err(SiteError::Unreachable); listed.len()];
    for (places, answers) in futures::future::join_all(reads).await {
        for (place, answer) in places.into_iter().zip(answers) {
            if let Some(copy) = copies.get_mut(place) {
                *copy = answer;
            }
        }
    }
    copies
}

/// One copy, read and opened.
enum Look<T> {
    Good(T, usize),
    Foreign(Digest),
    Silent,
    /// Damaged, missing, or not what it claims to be.
    Bad,
}

impl<T> Look<T> {
    fn at(copy: Result<Record, SiteError>, open: &Open<T>) -> Self {
        match copy {
            Ok(record) => match open(&record) {
                Opened::Good(value) => Self::Good(value, record.body().len()),
                Opened::Foreign => Self::Foreign(record.digest()),
                Opened::Bad => Self::Bad,
            },
            Err(SiteError::Unreachable) => Self::Silent,
            Err(_) => Self::Bad,
        }
    }
}

enum Settled<T> {
    Good(T, usize),
    /// With the digests of what was read.
    Foreign(Vec<Digest>),
    Unreadable,
}

/// The first copy that opens among the other holders. A copy that is not
/// looked for is not read twice, and hides no other copy: a site that lies
/// about whose a record is would otherwise make it disappear. A copy that does
/// not open is its site's fault. A call may fail once, and what is left out of a
/// catalogue is left out for good: who did not answer is asked again.
async fn others<T>(
    sites: &Sites,
    id: RecordId,
    holders: &[(SiteId, Digest)],
    first: Look<T>,
    open: &Open<T>,
    silent: &mut BTreeSet<SiteId>,
) -> Settled<T> {
    let start = first_holder(&Listed { id, holders: holders.to_vec(), body_bytes: 0 });
    let mut foreign: Vec<(SiteId, Digest)> = Vec::new();
    let mut first = Some(first);
    let mut asked: Vec<_> = holders.iter().cycle().skip(start).take(holders.len()).copied().collect();
    for _ in 0..=ASKED_AGAIN {
        let mut unanswered = Vec::new();
        for (site_id, listed) in asked {
            if foreign.iter().any(|(_, digest)| *digest == listed) {
                continue;
            }
            let look = match first.take() {
                Some(look) => look,
                None => match sites.get(site_id) {
                    Some(site) => Look::at(site.get(id).await, open),
                    None => Look::Silent,
                },
            };
            match look {
                Look::Good(value, bytes) => {
                    foreign.iter().for_each(|(liar, _)| sites.report(*liar));
                    return Settled::Good(value, bytes);
                }
                Look::Foreign(digest) => foreign.push((site_id, digest)),
                Look::Silent => unanswered.push((site_id, listed)),
                Look::Bad => sites.report(site_id),
            }
        }
        asked = unanswered;
    }
    silent.extend(asked.into_iter().map(|(site, _)| site));
    match foreign.is_empty() {
        true => Settled::Unreadable,
        false => Settled::Foreign(foreign.into_iter().map(|(_, digest)| digest).collect()),
    }
}
