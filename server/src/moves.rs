//! A version gets another layout: its shards are at the new sites already. A
//! new manifest record with the next revision goes to them, is read back, and
//! takes the place of the old one in the catalogue together with its leaf;
//! only then the old records go. A crash leaves two manifests of one version,
//! of which the higher revision is true, and the lower is found and removed.

use std::sync::Arc;

use coffer_catalog::{ManifestRow, ReplaceError};
use coffer_model::{Layout, Outcome, RecordId, SiteId};
use coffer_regions::{Record, Standing};
use futures::future::join_all;

use crate::audit::AuditError;
use crate::leaf::leaf;
use crate::repair::{Done, StepError, confirm_shard, first_copy, put_and_read_back};
use crate::service::Service;
use crate::stored::{EncodeError, ManifestBody};
use crate::sweep::wrap_of;
use crate::tenant::{Tenant, TenantKeyError};

/// Why the old manifest stands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MoveError {
    #[error("the catalogue holds no usable wrap of this version; rebuild it from the sites")]
    Wrap,
    #[error(transparent)]
    Keys(#[from] TenantKeyError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("the old record does not open any more")]
    Content,
    #[error("{0} is not a site to write to")]
    Illegal(String),
    #[error("only {have} sites take the new record, and {need} have the old one")]
    Fewer { have: usize, need: usize },
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the catalogue failed: {0}")]
    Replace(#[from] ReplaceError),
}

/// Gives a version the layout `sites`.
pub(crate) async fn relocate(
    service: &Service,
    tenant: &Arc<Tenant>,
    row: &ManifestRow,
    from: &[SiteId],
    sites: &[SiteId],
) -> Result<Done, StepError> {
    if sites.len() != row.manifest.layout.sites().len() {
        return Err(StepError::Stale);
    }
    let policy = tenant.policy_of_version(&service.sites, &row.manifest).await?;
    // Asked again at the last moment: the policy may have changed since.
    let alive = service.sites.alive_for_repair();
    let taking = service.sites.taking();
    let legal = |id: &SiteId| taking.site(*id).is_some_and(|site| policy.admits(site));
    let receivers: Vec<SiteId> = sites.iter().filter(|id| alive.contains(id) && legal(id)).copied().collect();
    let kept = row.manifest.layout.sites();
    let new = sites.iter().zip(kept).filter(|(new, old)| new != old).map(|(new, _)| *new);
    let new: Vec<SiteId> = new.collect();
    if let Some(illegal) = new.iter().find(|id| !receivers.contains(id)) {
        return Err(MoveError::Illegal(service.sites.name(*illegal).to_owned()).into());
    }
    // The new record counts instead of the old one: no fewer sites may have
    // it, and some that the plan counted on may have fallen silent since.
    let (have, need) = (receivers.len(), from.len().min(sites.len()).max(1));
    if have < need {
        return Err(MoveError::Fewer { have, need }.into());
    }
    let mut done = Done::default();
    confirm(service, row, sites, &mut done).await?;
    let (record, next) = next_record(service, tenant, row, from, sites, &mut done).await?;
    // Whoever retires a site looks for what has a place there, for as long as that takes, and no move commits
    // meanwhile: one that began before is over, or finds that the site takes nothing any more. This turn is
    // waited for first: who held `placing` meanwhile would hold up a change of policy, and behind it every put.
    let _sites = service.changing_sites.read().await;
    let taking = service.sites.taking();
    // Reading back takes its time, and the policy may have changed again. From
    // here to the end a change of it is not answered for.
    let _placing = tenant.placing.read().await;
    let policy = tenant.policy_of_version(&service.sites, &row.manifest).await?;
    if let Some(illegal) =
        receivers.iter().find(|id| !taking.site(**id).is_some_and(|site| policy.admits(site)))
    {
        return Err(MoveError::Illegal(service.sites.name(*illegal).to_owned()).into());
    }
    let moved = next.manifest.layout.clone();
    let written = write(service, &record, &receivers, &mut done).await;
    let next = ManifestRow { reduced: short(sites, &receivers), ..next };
    let committed = match written {
        Ok(()) => commit(service, tenant, row.record, next).await,
        Err(error) => Err(error),
    };
    if let Err(error) = committed {
        // A commit that failed may stand or not: the record stays where the
        // row may name it. If it does not, it is superseded, and goes then.
        if !matches!(error, StepError::Move(MoveError::Replace(ReplaceError::Catalog(_)))) {
            delete(service, &receivers, record.id()).await;
        }
        return Err(error);
    }
    let missed: Vec<SiteId> = sites.iter().filter(|id| !receivers.contains(id)).copied().collect();
    service.holders.note(&moved, &missed);
    done.moved += 1;
    let holders: Vec<SiteId> = kept.iter().chain(sites).copied().collect();
    delete(service, &holders, row.record).await;
    Ok(done)
}

/// Reads back every shard at a site that is new to it.
async fn confirm(
    service: &Service,
    row: &ManifestRow,
    sites: &[SiteId],
    done: &mut Done,
) -> Result<(), StepError> {
    let Some(shards) = crate::repair::Shards::of(&row.manifest.layout)? else { return Ok(()) };
    let stripes = match &row.manifest.layout {
        Layout::Striped { digests, .. } => u32::try_from(digests.len()).unwrap_or(u32::MAX),
        Layout::Inline { .. } => 0,
    };
    for (index, (new, old)) in (0_u8..).zip(sites.iter().zip(row.manifest.layout.sites())) {
        if new == old {
            continue;
        }
        for stripe in 0..stripes {
            done.read_back += u64::from(confirm_shard(service, &shards, stripe, index, *new).await?);
        }
    }
    Ok(())
}

/// The record and the row of the same version at other sites.
async fn next_record(
    service: &Service,
    tenant: &Arc<Tenant>,
    row: &ManifestRow,
    from: &[SiteId],
    sites: &[SiteId],
    done: &mut Done,
) -> Result<(Record, ManifestRow), StepError> {
    let wrap = wrap_of(row).ok_or(MoveError::Wrap)?;
    let dek = tenant.secrets.unwrap(row.manifest.version, &wrap).map_err(MoveError::from)?;
    let mut manifest = row.manifest.clone();
    manifest.revision = manifest.revision.saturating_add(1);
    let content = match &mut manifest.layout {
        Layout::Striped { sites: own, .. } => {
            own.clone_from(&sites.to_vec());
            bytes::Bytes::new()
        }
        Layout::Inline { sites: own } => {
            own.clone_from(&sites.to_vec());
            let old = first_copy(service, tenant, row, from).await?;
            done.bytes_read += old.body().len() as u64;
            let body = ManifestBody::parse(&old).map_err(|_| MoveError::Content)?;
            body.open_whole(tenant.id, &dek).map_err(|_| MoveError::Content)?.content
        }
    };
    let entropy = service.host.entropy.as_ref();
    let id = RecordId::generate(entropy);
    let record = ManifestBody::encode(id, &manifest, &dek, &wrap, &content, entropy);
    let record = record.map_err(MoveError::from)?;
    let next = ManifestRow { record: id, manifest, wrap: row.wrap.clone(), reduced: 0, inline: row.inline };
    Ok((record, next))
}

async fn write(
    service: &Service,
    record: &Record,
    receivers: &[SiteId],
    done: &mut Done,
) -> Result<(), StepError> {
    let puts = receivers.iter().map(|site| put_and_read_back(service, *site, record.clone()));
    let mut failed = None;
    for put in join_all(puts).await {
        match put {
            Ok(bytes) => {
                done.bytes_written += bytes;
                done.copies += 1;
                done.read_back += 1;
            }
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn commit(
    service: &Service,
    tenant: &Tenant,
    old: RecordId,
    next: ManifestRow,
) -> Result<(), StepError> {
    let names = next.manifest.layout.sites().iter().map(|id| service.sites.name(*id));
    let subject = format!("{} at {}", next.manifest.version, names.collect::<Vec<_>>().join(" "));
    let event = leaf(&service.repair_event(tenant.id, subject, Outcome::Done));
    let event = event.map_err(|error| MoveError::Audit(error.into()))?;
    tenant.catalog.replace_manifest(old, next, event).await.map_err(MoveError::from)?;
    Ok(())
}

/// Deletes a record where sites answer; where one does not, the next round
/// finds it.
async fn delete(service: &Service, sites: &[SiteId], record: RecordId) {
    let calls = sites.iter().map(|id| async {
        if let Some(site) =
            service.sites.for_repair(*id).filter(|_| service.sites.standing(*id) != Standing::Retired)
        {
            let _ = site.delete(vec![record]).await;
        }
    });
    join_all(calls).await;
}

/// How many sites of a layout do not have the record.
fn short(sites: &[SiteId], receivers: &[SiteId]) -> u8 {
    let missing = sites.iter().filter(|id| !receivers.contains(id)).count();
    u8::try_from(missing).unwrap_or(u8::MAX)
}
