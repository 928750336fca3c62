//! When each pod came how far, and for how long the scheduler bound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use coffer_control::{Batch, Bind, BindError, Bound};
use coffer_custody::SystemClock;
use coffer_model::Clock as _;

/// The steps of a pod's way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Its creation was sent.
    Sent,
    /// Its creation was answered: it is on the disk.
    Created,
    /// Its node is decided, and the transaction begins.
    Decided,
    /// The transaction was answered: it is on the disk.
    Bound,
    /// A watch showed it bound.
    Seen,
}

#[derive(Default)]
pub(crate) struct Times {
    steps: Mutex<BTreeMap<Step, BTreeMap<String, Duration>>>,
    binding: Mutex<(Duration, u32)>,
}

impl Times {
    pub(crate) fn note(&self, step: Step, names: impl Iterator<Item = String>) {
        let now = SystemClock.monotonic();
        let mut steps = self.steps.lock().unwrap();
        let of_step = steps.entry(step).or_default();
        names.for_each(|name| _ = of_step.entry(name).or_insert(now));
    }

    /// How long each pod took from one step to another, shortest first.
    pub(crate) fn between(&self, from: Step, to: Step) -> Vec<Duration> {
        let steps = self.steps.lock().unwrap();
        let (from, to) = (&steps[&from], &steps[&to]);
        let mut times: Vec<Duration> =
            to.iter().filter_map(|(name, at)| Some(at.saturating_sub(*from.get(name)?))).collect();
        times.sort_unstable();
        times
    }

    /// For how long transactions were under way, and how many there were.
    pub(crate) fn binding(&self) -> (Duration, u32) {
        *self.binding.lock().unwrap()
    }
}

/// Binds by another, and takes the times.
pub(crate) struct Timed {
    pub(crate) by: Box<dyn Bind>,
    pub(crate) times: Arc<Times>,
}

#[async_trait]
impl Bind for Timed {
    async fn bind(&self, batch: &Batch) -> Result<Bound, BindError> {
        let names = || batch.bindings.iter().map(|binding| binding.name.clone());
        self.times.note(Step::Decided, names());
        let start = SystemClock.monotonic();
        let bound = self.by.bind(batch).await;
        let took = SystemClock.monotonic().saturating_sub(start);
        self.times.note(Step::Bound, names());
        let mut binding = self.times.binding.lock().unwrap();
        *binding = (binding.0 + took, binding.1 + u32::from(!batch.bindings.is_empty()));
        bound
    }
}
