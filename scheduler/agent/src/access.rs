//! What only the node can tell: the logs of its pods, and what they use, as a
//! kubelet's summary has it. Whoever serves it decides who may ask.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock;
use crate::logs::{LogOptions, LogReader};
use crate::node::Context;
use crate::node::record::PodRecord;
use crate::runtime::{ContainerId, Usage};

/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Between two looks where nobody has asked before.
const WHILE: Duration = Duration::from_millis(500);
/// Over how long a rate says something of now.
const SPANS: RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(120);

/// The logs and the usage of one node.
#[derive(Clone)]
pub struct NodeLogs {
    context: Arc<Context>,
    samples: Arc<Mutex<Samples>>,
}

/// There is no such pod, container or log on this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this node has no log of container {container} of pod {namespace}/{pod}")]
pub struct NoLog {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Container in the pod.
    pub container: String,
}

/// A log that is read: what is there, and then, if wanted, what comes.
pub struct LogStream {
    reader: LogReader,
    follow: bool,
    begun: bool,
    id: ContainerId,
    context: Arc<Context>,
}

impl LogStream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        if !self.begun {
            self.begun = true;
            return self.reader.present().map(Some);
        }
        while self.follow && !self.reader.is_over() {
            // Asked before the log is read: what an ended container wrote is all there.
            let state = self.context.runtime.state(&self.id).await;
            let runs = matches!(state, Ok(crate::State::Running { .. }));
            let more = self.reader.more()?;
            if !more.is_empty() {
                return Ok(Some(more));
            }
            if !runs {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(None)
    }
}

impl NodeLogs {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context, samples: Arc::default() }
    }

    /// The log of a container, or of the one before it.
    ///
    /// # Errors
    /// This node has none of that name.
    pub fn log(
        &self,
        (namespace, pod, container): (&str, &str, &str),
        previous: bool,
        follow: bool,
        options: LogOptions,
    ) -> Result<LogStream, NoLog> {
        let none = || NoLog {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
        };
        let records = PodRecord::all(&self.context.places);
        let this = |record: &&PodRecord| record.name() == pod && record.namespace() == namespace;
        let mut record = records.iter().find(this).cloned().ok_or_else(none)?;
        let names = record.pod.spec.iter().flat_map(|spec| &spec.containers);
        if !names.into_iter().any(|one| container.is_empty() || one.name == container) {
            return Err(none());
        }
        if previous {
            record.restarts = record.restarts.checked_sub(1).ok_or_else(none)?;
        }
        let mut id = record.container().map_err(|_| none())?;
        let mut path = self.context.runtime.log(&id);
        if !path.exists() && !previous && record.restarts > 0 {
            // Between two attempts the last one's words are the ones that matter.
            record.restarts -= 1;
            id = record.container().map_err(|_| none())?;
            path = self.context.runtime.log(&id);
        }
        if !path.exists() {
            return Err(none());
        }
        let context = Arc::clone(&self.context);
        Ok(LogStream { reader: LogReader::new(&path, options), follow, begun: false, id, context })
    }

    /// What the node and its pods use, as the `Summary` of a kubelet. The rates
    /// are those since the last question, or else of a short while.
    pub async fn usage(&self) -> Value {
        let mut before = self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen = self.look().await;
        if seen.iter().any(|pod| pod.nanocores(&before).is_none()) {
            for pod in &seen {
                if pod.nanocores(&before).is_none() {
                    before.insert(pod.id.clone(), pod.sample);
                }
            }
            tokio::time::sleep(WHILE).await;
            seen = self.look().await;
        }
        *self.samples.lock().unwrap_or_else(PoisonError::into_inner) =
            seen.iter().map(|pod| (pod.id.clone(), pod.sample)).collect();
        summary(&self.context.config.name, &seen, &before)
    }

    /// Every pod that runs, with what it has used so far.
    async fn look(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for record in PodRecord::all(&self.context.places) {
            let Ok(id) = record.container() else { continue };
            let Ok(usage) = self.context.runtime.usage(&id).await else { continue };
            let sample = Sample { at: clock::boottime(), cpu: usage.cpu };
            seen.push(Seen { id: id.as_str().to_owned(), record, usage, sample });
        }
        seen
    }
}

/// How much time on processors a container had used at a moment.
#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    cpu: Duration,
}

/// The samples of the last question, by container.
type Samples = BTreeMap<String, Sample>;

/// A pod that runs.
struct Seen {
    id: String,
    record: PodRecord,
    usage: Usage,
    sample: Sample,
}

impl Seen {
    /// Nanoseconds on processors in each second since a sample; `None` if that is no good measure.
    fn nanocores(&self, before: &Samples) -> Option<u64> {
        let before = before.get(&self.id)?;
        let span = self.sample.at.checked_sub(before.at).filter(|span| SPANS.contains(span))?;
        let used = self.sample.cpu.saturating_sub(before.cpu);
        u64::try_from(used.as_nanos().saturating_mul(1_000_000_000) / span.as_nanos()).ok()
    }
}

fn summary(node: &str, seen: &[Seen], before: &Samples) -> Value {
    let now = clock::timestamp(Duration::from_secs(clock::wall().as_secs())).to_string();
    let cpu = |all: Duration, rate: u64| json!({ "time": now, "usageNanoCores": rate, "usageCoreNanoSeconds": nanos(all) });
    let memory = |bytes: u64| json!({ "time": now, "workingSetBytes": bytes });
    let rate = |pod: &Seen| pod.nanocores(before).unwrap_or(0);
    let pod = |pod: &Seen| {
        let (cpu, memory) = (cpu(pod.usage.cpu, rate(pod)), memory(pod.usage.memory));
        let containers = pod.record.pod.spec.iter().flat_map(|spec| &spec.containers);
        let containers: Vec<Value> = containers
            .map(|container| json!({ "name": container.name, "cpu": cpu, "memory": memory }))
            .collect();
        let record = &pod.record;
        json!({
            "podRef": { "name": record.name(), "namespace": record.namespace(), "uid": record.uid() },
            "cpu": cpu, "memory": memory,
            "process_stats": { "process_count": pod.usage.pids },
            "containers": containers,
        })
    };
    let all: Duration = seen.iter().map(|pod| pod.usage.cpu).sum();
    let bytes = seen.iter().map(|pod| pod.usage.memory).fold(0, u64::saturating_add);
    json!({
        "node": {
            "nodeName": node,
            "cpu": cpu(all, seen.iter().map(rate).fold(0, u64::saturating_add)),
            "memory": memory(bytes),
        },
        "pods": seen.iter().map(pod).collect::<Vec<_>>(),
    })
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
