//! Lists in pages that belong together: every page shows the objects as they
//! were at the revision of the first one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{Place, State};
use super::{HistoryError, Stored};

/// What to list.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest<'a> {
    /// Resource, as the store calls it.
    pub resource: &'a str,
    /// One namespace, or all.
    pub namespace: Option<&'a str>,
    /// As of which revision; the newest if none is given.
    pub revision: Option<u64>,
    /// Only what comes behind this namespace and name.
    pub after: Option<(&'a str, &'a str)>,
}

/// Objects of a resource as of one revision.
#[derive(Debug)]
pub struct Page {
    /// The revision.
    pub revision: u64,
    /// The objects in order of namespace and name.
    pub objects: Vec<Arc<Stored>>,
}

pub(super) fn read(state: &State, request: &PageRequest<'_>) -> Result<Page, HistoryError> {
    let newest = state.revision;
    let revision = request.revision.unwrap_or(newest);
    let after: Option<Place> = request.after.map(|(namespace, name)| (namespace.into(), name.into()));
    let is_asked = |stored: &Stored| {
        request.namespace.is_none_or(|namespace| namespace == &*stored.key.namespace)
            && after
                .as_ref()
                .is_none_or(|(namespace, name)| (&stored.key.namespace, &stored.key.name) > (namespace, name))
    };
    let present = state.range(request.resource, request.namespace).filter(|stored| is_asked(stored));
    if revision == newest {
        return Ok(Page { revision, objects: present.cloned().collect() });
    }
    if revision > newest {
        return Err(HistoryError::Future { asked: revision, newest });
    }
    let Some(table) = state.tables.get(request.resource) else {
        return Ok(Page { revision, objects: Vec::new() });
    };
    if revision < table.floor {
        return Err(HistoryError::Expired { asked: revision, oldest: table.floor });
    }
    // The present, with every change since then undone: an object is as it was before its first change.
    let place = |stored: &Stored| (Arc::clone(&stored.key.namespace), Arc::clone(&stored.key.name));
    let mut past: BTreeMap<Place, Arc<Stored>> =
        present.map(|stored| (place(stored), Arc::clone(stored))).collect();
    for event in table.ring.range(table.after(revision)..).rev() {
        match &event.previous {
            Some(previous) if is_asked(previous) => past.insert(place(previous), Arc::clone(previous)),
            Some(_) => None,
            None => past.remove(&place(&event.object)),
        };
    }
    Ok(Page { revision, objects: past.into_values().collect() })
}
