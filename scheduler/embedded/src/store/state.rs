//! The present of every resource, and the ring of its newest events.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::watch;

use super::{Figures, Key, Stored};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was not there before.
    Added,
    /// It was there, and is different.
    Modified,
    /// It is gone; the event shows it as it was last.
    Deleted,
}

/// One change.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The object, at the revision of the event.
    pub object: Arc<Stored>,
    /// The object as it was before.
    pub previous: Option<Arc<Stored>>,
}

pub(super) type Place = (Arc<str>, Arc<str>);

/// One resource.
pub(super) struct Table {
    pub(super) objects: BTreeMap<Place, Arc<Stored>>,
    pub(super) ring: VecDeque<Event>,
    /// Events up to here are no longer in the ring.
    pub(super) floor: u64,
    /// Carries the revision of the last event of this resource.
    pub(super) changed: watch::Sender<u64>,
}

impl Table {
    fn new(floor: u64) -> Self {
        Self { objects: BTreeMap::new(), ring: VecDeque::new(), floor, changed: watch::Sender::new(0) }
    }

    /// Where in the ring the events after `revision` begin.
    pub(super) fn after(&self, revision: u64) -> usize {
        self.ring.partition_point(|event| event.object.revision <= revision)
    }

    fn forget(&mut self, revision: u64) {
        let old = self.after(revision);
        self.ring.drain(..old);
        self.floor = self.floor.max(revision);
    }
}

pub(super) struct State {
    pub(super) revision: u64,
    /// Up to here the file has forgotten the history; where rings of resources without events begin.
    pub(super) compacted: u64,
    pub(super) tables: HashMap<Arc<str>, Table>,
    /// Nothing is written any more: watches end.
    pub(super) closed: bool,
    pub(super) figures: Figures,
    ring: usize,
}

impl State {
    pub(super) fn new(ring: usize, revision: u64, compacted: u64) -> Self {
        Self {
            revision,
            compacted,
            tables: HashMap::new(),
            closed: false,
            figures: Figures::default(),
            ring: ring.max(1),
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Arc<Stored>> {
        let place = (Arc::clone(&key.namespace), Arc::clone(&key.name));
        self.tables.get(&key.resource)?.objects.get(&place)
    }

    pub(super) fn table(&mut self, resource: &Arc<str>) -> &mut Table {
        let floor = self.compacted;
        self.tables.entry(Arc::clone(resource)).or_insert_with(|| Table::new(floor))
    }

    /// The objects of a resource in order, in one namespace or in all.
    pub(super) fn range(
        &self,
        resource: &str,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &Arc<Stored>> {
        let first: Place = (namespace.unwrap_or_default().into(), "".into());
        let wanted = namespace.map(str::to_owned);
        self.tables
            .get(resource)
            .into_iter()
            .flat_map(move |table| table.objects.range(first.clone()..))
            .map_while(move |((namespace, _), object)| {
                wanted.as_deref().is_none_or(|wanted| wanted == &**namespace).then_some(object)
            })
    }

    /// Makes a change visible. Watches hear of it by [`State::announce`].
    pub(super) fn apply(&mut self, event: Event) {
        let ring = self.ring;
        let key = &event.object.key;
        self.revision = self.revision.max(event.object.revision);
        let place = (Arc::clone(&key.namespace), Arc::clone(&key.name));
        let table = self.table(&Arc::clone(&key.resource));
        match event.kind {
            EventKind::Deleted => table.objects.remove(&place),
            EventKind::Added | EventKind::Modified => table.objects.insert(place, Arc::clone(&event.object)),
        };
        table.ring.push_back(event);
        if table.ring.len() > ring
            && let Some(oldest) = table.ring.pop_front()
        {
            table.floor = table.floor.max(oldest.object.revision);
        }
    }

    /// Tells the watches of these resources that there is something new.
    pub(super) fn announce<'a>(&self, resources: impl Iterator<Item = &'a Arc<str>>) {
        for resource in resources {
            if let Some(table) = self.tables.get(resource) {
                table.changed.send_replace(self.revision);
            }
        }
    }

    /// Forgets all events up to `revision`.
    pub(super) fn forget(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision);
        self.tables.values_mut().for_each(|table| table.forget(revision));
    }

    /// Ends all watches.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.tables.values().for_each(|table| {
            table.changed.send_replace(u64::MAX);
        });
    }
}
