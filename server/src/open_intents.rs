//! Intents that a crash left without their outcome: each start gives them one.
//! What a put or a deletion left at the sites was settled before; of the rest
//! nobody knows more than that nothing more will come of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coffer_catalog::{CatalogError, Leaf, ManifestRow};
use coffer_model::{Actor, AuditEvent, Operation, Outcome, VersionId};

use crate::audit::AuditError;
use crate::leaf::{leaf, operation_name, operation_named};
use crate::leaf_text::LeafText;
use crate::service::Service;
use crate::tenant::Tenant;

/// The fact that says up to where every intent has its outcome.
const SETTLED: &str = "settled";
/// The service itself, as leaves name it.
const SERVICE: &str = "service";
/// There is one, under this id.
const ONLY: [u8; 16] = [0; 16];
/// Leaves that are read at once.
const PAGE: usize = 1024;

/// Operation and actor, as the leaves name them.
type Caller = (String, String);

/// The intents that have no outcome yet, by whose they are, in order.
#[derive(Default)]
pub(crate) struct Open {
    by_caller: BTreeMap<Caller, VecDeque<(u64, String)>>,
}

/// Operations whose outcome may speak of something else than their intent: of
/// what was made, or how much was done.
const TOLD_OTHERWISE: [Operation; 3] = [Operation::TenantCreate, Operation::Repair, Operation::Sites];

impl Open {
    /// Takes the next leaf of the log.
    pub(crate) fn take(&mut self, index: u64, body: &[u8]) {
        // What cannot be read is no intent of ours.
        let Some(leaf) = LeafText::read(body) else { return };
        let (operation, subject) = (leaf.operation().to_owned(), leaf.subject().to_owned());
        match leaf.outcome() {
            "intent" => {
                let caller = (operation, leaf.actor().to_owned());
                self.by_caller.entry(caller).or_default().push_back((index, subject));
            }
            _ if operation == operation_name(Operation::Sweep) => {
                for of in [Operation::ObjectPut, Operation::ObjectDelete] {
                    self.close_anyones(operation_name(of), &subject);
                }
            }
            _ => {
                let otherwise = TOLD_OTHERWISE.iter().any(|told| operation_name(*told) == operation);
                let caller = (operation, leaf.actor().to_owned());
                // What was cut off, the service itself brings to an end.
                if !self.close(&caller, &subject, otherwise) && caller.1 == SERVICE {
                    self.close_anyones(&caller.0, &subject);
                }
            }
        }
    }

    fn close(&mut self, caller: &Caller, subject: &str, otherwise: bool) -> bool {
        let Some(intents) = self.by_caller.get_mut(caller) else { return false };
        let same = intents.iter().position(|(_, of)| of == subject);
        let at = same.or_else(|| (otherwise && !intents.is_empty()).then_some(0));
        let closed = at.and_then(|at| intents.remove(at)).is_some();
        if intents.is_empty() {
            self.by_caller.remove(caller);
        }
        closed
    }

    /// A start settles what whoever began.
    fn close_anyones(&mut self, operation: &str, subject: &str) {
        let callers: Vec<Caller> =
            self.by_caller.keys().filter(|(name, _)| name == operation).cloned().collect();
        for caller in callers {
            if self.close(&caller, subject, false) {
                return;
            }
        }
    }

    /// What is left, in the order of the log.
    pub(crate) fn left(self) -> BTreeMap<u64, (Caller, String)> {
        let all = self.by_caller.into_iter();
        let each = |(caller, intents): (Caller, VecDeque<(u64, String)>)| {
            intents.into_iter().map(move |(index, subject)| (index, (caller.clone(), subject)))
        };
        all.flat_map(each).collect()
    }
}

/// Gives every open intent of a tenant its outcome, but for what waits for sites.
pub(crate) async fn close(service: &Service, tenant: &Tenant) -> Result<(), AuditError> {
    let catalog = &tenant.catalog;
    let known = catalog.facts(SETTLED).await?;
    let settled =
        known.first().and_then(|(_, body)| body.as_slice().try_into().ok()).map_or(0, u64::from_be_bytes);
    let mut at = settled;
    let mut open = Open::default();
    loop {
        let leaves = catalog.leaves(at, PAGE).await?;
        if leaves.is_empty() {
            break;
        }
        for body in leaves {
            open.take(at, &body);
            at += 1;
        }
    }
    let waiting = waiting(tenant).await?;
    let mut outcomes: Vec<Leaf> = Vec::new();
    for (index, ((operation, actor), subject)) in open.left() {
        if waiting.contains(&subject) {
            // The next scan begins with the first one that waits.
            at = at.min(index);
            continue;
        }
        if let Some(event) = outcome_of(service, tenant, &operation, &actor, subject).await? {
            outcomes.push(leaf(&event)?);
        }
    }
    if !outcomes.is_empty() {
        catalog.append_leaves(outcomes).await?;
    }
    // Not where nothing has come since: each start would cost every tenant a commit.
    if at != settled {
        catalog.put_fact(SETTLED, ONLY, at.to_be_bytes().to_vec()).await?;
    }
    Ok(())
}

/// Versions whose put or deletion, and buckets whose change, too few sites
/// could settle; as their leaves name them.
async fn waiting(tenant: &Tenant) -> Result<BTreeSet<String>, CatalogError> {
    let reserved = tenant.catalog.reservations().await?;
    let mut waiting: BTreeSet<String> = reserved.iter().map(|row| row.version.to_string()).collect();
    waiting.extend(crate::deletion::pending(tenant).await?.iter().map(ToString::to_string));
    waiting.extend(crate::bucket_change::pending(tenant).await?.iter().map(ToString::to_string));
    Ok(waiting)
}

/// The outcome of an intent. Of versions the catalogue knows more than the
/// log: it may have been rebuilt, from sites that had them.
async fn outcome_of(
    service: &Service,
    tenant: &Tenant,
    operation: &str,
    actor: &str,
    subject: String,
) -> Result<Option<AuditEvent>, CatalogError> {
    let Some(operation) = operation_named(operation) else { return Ok(None) };
    let version: Option<VersionId> = subject.parse().ok();
    if let (Operation::ObjectPut | Operation::ObjectDelete, Some(version)) = (operation, version) {
        let row = tenant.catalog.version(version).await?;
        let stands = match (&row, operation) {
            (Some(row), Operation::ObjectDelete) => !is_visible(tenant, row).await?,
            (row, _) => row.is_some(),
        };
        let outcome = if stands { Outcome::Done } else { Outcome::Failed };
        return Ok(Some(service.own_event(Some(tenant.id), Operation::Sweep, subject, outcome)));
    }
    let actor = match (actor.parse(), actor) {
        (Ok(principal), _) => Actor::Principal(principal),
        (Err(_), "anonymous") => Actor::Anonymous,
        (Err(_), _) => Actor::Service,
    };
    let mut event = service.own_event(Some(tenant.id), operation, subject, Outcome::Interrupted);
    event.actor = actor;
    Ok(Some(event))
}

async fn is_visible(tenant: &Tenant, row: &ManifestRow) -> Result<bool, CatalogError> {
    let manifest = &row.manifest;
    let latest = tenant.catalog.latest(manifest.bucket, &manifest.key).await?;
    // Behind a newer version it may still stand; only a tombstone hides it.
    Ok(latest.is_some_and(|latest| latest.manifest.version == manifest.version))
}

#[cfg(test)]
mod tests {
    use coffer_model::{PrincipalId, Timestamp};

    use super::*;

    fn event(operation: Operation, actor: u8, subject: &str, outcome: Outcome) -> Vec<u8> {
        let actor =
            if actor == 0 { Actor::Service } else { Actor::Principal(PrincipalId::from_bytes([actor; 16])) };
        let subject = subject.to_owned();
        let event = AuditEvent { time: Timestamp(7), tenant: None, actor, operation, subject, outcome };
        leaf(&event).unwrap().body
    }

    fn left(leaves: &[Vec<u8>]) -> Vec<u64> {
        let mut open = Open::default();
        (0..).zip(leaves).for_each(|(index, body)| open.take(index, body));
        open.left().into_keys().collect()
    }

    #[test]
    fn an_outcome_closes_the_oldest_intent_of_its_operation_actor_and_subject_only() {
        use Operation::{BucketCreate, ObjectDelete, ObjectGet, ObjectPut, Sweep, TenantCreate};
        use Outcome::{Denied, Done, Failed, Intent, Interrupted};
        const NONE: [u64; 0] = [];
        let put = |actor, subject, outcome| event(ObjectPut, actor, subject, outcome);
        assert_eq!(left(&[put(1, "a", Intent), put(1, "a", Done)]), NONE);
        assert_eq!(left(&[put(1, "a", Intent), put(2, "a", Done)]), [0], "another's");
        assert_eq!(left(&[put(1, "a", Intent), put(1, "b", Failed)]), [0], "of another version");
        assert_eq!(left(&[put(1, "a", Failed), put(1, "a", Intent)]), [1], "before its intent");
        assert_eq!(left(&[put(1, "a", Intent), event(Sweep, 0, "a", Done)]), NONE);
        let delete = event(ObjectDelete, 1, "a", Intent);
        assert_eq!(left(&[delete, put(1, "a", Done)]), [0], "of another operation");
        let get = |outcome| event(ObjectGet, 1, "a", outcome);
        assert_eq!(left(&[get(Intent), get(Intent), get(Done)]), [1]);
        assert_eq!(left(&[get(Intent), get(Interrupted)]), NONE);
        let bucket = |subject, outcome| event(BucketCreate, 1, subject, outcome);
        assert_eq!(left(&[bucket("a", Intent), bucket("", Denied)]), [0]);
        assert_eq!(left(&[bucket("a", Intent), event(BucketCreate, 0, "a", Done)]), NONE, "finished later");
        assert_eq!(left(&[bucket("a", Intent), event(BucketCreate, 2, "a", Done)]), [0], "another's");
        let tenant = |subject, outcome| event(TenantCreate, 1, subject, outcome);
        assert_eq!(left(&[tenant("pri-1", Intent), tenant("ten-1", Done)]), NONE);
        assert_eq!(left(&[b"no leaf".to_vec(), b"{}".to_vec()]), NONE);
    }
}
