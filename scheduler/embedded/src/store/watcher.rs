//! A watch: a place in the ring of a resource. It holds no events of its own,
//! so that a slow one costs nothing; one that the ring has overtaken is told so.

use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use super::{Event, HistoryError, Shared, Stored};

/// Events that one look at the ring takes out.
const BATCH: usize = 256;

/// What a watch saw.
#[derive(Debug)]
pub enum Watched {
    /// Changes in order, and the revision up to which the watcher now knows everything.
    Events(Vec<Event>, u64),
    /// The ring has gone on without the watcher, which must list again.
    Overtaken(HistoryError),
    /// The store is closed.
    Closed,
}

/// The changes of one resource from a revision on.
pub struct Watcher {
    shared: Arc<Shared>,
    resource: Arc<str>,
    cursor: u64,
    changed: watch::Receiver<u64>,
}

impl Watcher {
    pub(super) fn start(
        shared: &Arc<Shared>,
        resource: &Arc<str>,
        revision: u64,
    ) -> Result<Self, HistoryError> {
        let mut state = shared.state.write().unwrap_or_else(PoisonError::into_inner);
        let newest = state.revision;
        let table = state.table(resource);
        if revision > newest {
            return Err(HistoryError::Future { asked: revision, newest });
        }
        if revision < table.floor {
            return Err(HistoryError::Expired { asked: revision, oldest: table.floor });
        }
        let mut changed = table.changed.subscribe();
        changed.mark_changed();
        Ok(Self { shared: Arc::clone(shared), resource: Arc::clone(resource), cursor: revision, changed })
    }

    pub(super) fn snapshot(
        shared: &Arc<Shared>,
        resource: &Arc<str>,
        namespace: Option<&str>,
    ) -> (Vec<Arc<Stored>>, Self) {
        let mut state = shared.state.write().unwrap_or_else(PoisonError::into_inner);
        let cursor = state.revision;
        let mut changed = state.table(resource).changed.subscribe();
        changed.mark_changed();
        let objects = state.range(resource, namespace).cloned().collect();
        (objects, Self { shared: Arc::clone(shared), resource: Arc::clone(resource), cursor, changed })
    }

    /// The revision up to which everything was seen.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Waits until something was changed, or the store closed.
    pub async fn next(&mut self) -> Watched {
        loop {
            if self.changed.changed().await.is_err() {
                return Watched::Closed;
            }
            match self.look() {
                Watched::Events(events, _) if events.is_empty() => {}
                seen => return seen,
            }
        }
    }

    /// What is there now, without waiting; maybe nothing but a newer revision.
    pub fn look(&mut self) -> Watched {
        let state = self.shared.read();
        let Some(table) = state.tables.get(&self.resource) else { return Watched::Closed };
        if self.cursor < table.floor {
            return Watched::Overtaken(HistoryError::Expired { asked: self.cursor, oldest: table.floor });
        }
        let events: Vec<Event> = table.ring.range(table.after(self.cursor)..).take(BATCH).cloned().collect();
        match events.last() {
            Some(last) if events.len() == BATCH => {
                self.cursor = last.object.revision;
                // There may be more than one look takes: do not wait for the next change.
                self.changed.mark_changed();
            }
            _ => self.cursor = state.revision,
        }
        if events.is_empty() && state.closed {
            return Watched::Closed;
        }
        Watched::Events(events, self.cursor)
    }
}
