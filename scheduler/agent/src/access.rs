//! What only the node can tell: the logs of its pods, and what they use, as a
//! kubelet's summary has it. Whoever serves it decides who may ask.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock;
use crate::logs::{LogOptions, LogReader};
use crate::node::Context;
use crate::node::record::PodRecord;
use crate::runtime::ContainerId;

/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The logs and the usage of one node.
#[derive(Clone)]
pub struct NodeLogs {
    context: Arc<Context>,
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
        Self { context }
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

    /// What the node and its pods use, as the `Summary` of a kubelet.
    pub async fn usage(&self) -> Value {
        let now = clock::timestamp(Duration::from_secs(clock::wall().as_secs())).to_string();
        let mut pods = Vec::new();
        let (mut cpu, mut memory) = (Duration::ZERO, 0_u64);
        for record in PodRecord::all(&self.context.places) {
            let Ok(id) = record.container() else { continue };
            let Ok(usage) = self.context.runtime.usage(&id).await else { continue };
            cpu += usage.cpu;
            memory = memory.saturating_add(usage.memory);
            let containers = record.pod.spec.iter().flat_map(|spec| &spec.containers);
            let used = json!({
                "time": now, "usageCoreNanoSeconds": nanos(usage.cpu), "workingSetBytes": usage.memory,
            });
            let containers: Vec<Value> = containers
                .map(|container| {
                    json!({
                        "name": container.name,
                        "cpu": { "time": now, "usageCoreNanoSeconds": nanos(usage.cpu) },
                        "memory": { "time": now, "workingSetBytes": usage.memory },
                    })
                })
                .collect();
            pods.push(json!({
                "podRef": { "name": record.name(), "namespace": record.namespace(), "uid": record.uid() },
                "cpu": used, "memory": { "time": now, "workingSetBytes": usage.memory },
                "process_stats": { "process_count": usage.pids },
                "containers": containers,
            }));
        }
        json!({
            "node": {
                "nodeName": self.context.config.name,
                "cpu": { "time": now, "usageCoreNanoSeconds": nanos(cpu) },
                "memory": { "time": now, "workingSetBytes": memory },
            },
            "pods": pods,
        })
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
