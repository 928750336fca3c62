//! The agent of one node: registers it, keeps its lease, and has a worker for
//! each pod that is bound to it. Written against `kube::Client` alone, so that
//! it cannot know whether a real Kubernetes or the embedded one answers.

mod admission;
mod attestation;
mod backoff;
mod claims;
mod collecting;
mod config;
mod describe;
mod discard;
mod ending;
mod fence;
mod health;
mod ids;
mod lease;
mod leftovers;
mod losses;
mod places;
mod pulling;
mod quantity;
pub(crate) mod record;
mod register;
mod report;
mod volumes;
mod worker;
mod worker_probes;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_events::Teller;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PatchParams;
use kube::runtime::events::{Event, EventType, Reporter};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::image::ImageStore;
use crate::network::Networks;
use crate::oci::RuncRuntime;
use crate::probe::Probe;
use crate::process::{ProcessRuntime, RuntimeConfig};
use crate::pull::{PullProcess, Puller};
use crate::runtime::Runtime;

pub use backoff::Backoff;
pub use config::{AgentConfig, LeaseTimes, RuntimeKind};
pub use fence::PodLease;
pub use quantity::{Quantity, QuantityError};

use admission::Admission;
use claims::Claims;
use fence::Fences;
use ids::UserIds;
use places::Places;
use record::PodRecord;
use worker::{Wish, Worker};

/// Who owns the fields that the agent writes.
const FIELD_MANAGER: &str = "coffer-agent";

/// A merge whose fields are the agent's.
fn ours() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its directory is not usable.
    #[error("the agent's directory: {0}")]
    Directory(#[from] io::Error),
    /// The statement of where the node stands cannot be read.
    #[error("{}: {why}", .file.display())]
    Attestation {
        /// Its file.
        file: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Its configuration asks for what this machine cannot do.
    #[error("this machine lacks what the configuration demands: {0} (`coffer-node probe` says why)")]
    Lacks(crate::layer::Layers),
    /// A declared capacity is no quantity.
    #[error("capacity {0:?}: {1}")]
    Capacity(String, QuantityError),
}

/// What every part of the agent needs.
pub(crate) struct Context {
    pub config: AgentConfig,
    pub client: Client,
    pub teller: Teller,
    pub runtime: Arc<dyn Runtime>,
    pub images: ImageStore,
    pub puller: Puller,
    pub networks: Option<Networks>,
    pub probe: Probe,
    pub places: Places,
    pub admission: Admission,
    pub users: UserIds,
    pub fences: Fences,
    pub claims: Claims,
}

/// After how long an event that the API did not take is given up.
const NOTE: std::time::Duration = std::time::Duration::from_secs(30);

impl Context {
    /// Leaves an event at the pod. Best effort: an API that is away hears of the
    /// pod's status later, and an event is no more than a word beside it.
    pub(crate) fn note(&self, record: &PodRecord, kind: &str, reason: &str, message: &str) {
        let teller = self.teller.clone();
        let event = Event {
            type_: if kind == "Normal" { EventType::Normal } else { EventType::Warning },
            reason: reason.chars().take(128).collect(),
            note: Some(message.chars().take(1000).collect()),
            action: "Run".to_owned(),
            secondary: None,
        };
        let about = record.pod.object_ref(&());
        let told = async move { teller.tell(&event, &about).await };
        drop(tokio::spawn(tokio::time::timeout(NOTE, told)));
    }
}

/// The agent of one node. Dropping it ends the agent, and no pod.
pub struct Agent {
    context: Arc<Context>,
}

impl Agent {
    /// Tries what the machine can do and opens the agent's directory. Blocks.
    ///
    /// # Errors
    /// The directory is not usable, or the machine lacks what is demanded.
    pub fn new(config: AgentConfig, client: Client) -> Result<Self, AgentError> {
        let places = Places::make(&config.directory)?;
        attestation::is_there(&config).map_err(|why| {
            let file = config.attestation.clone().unwrap_or_default();
            AgentError::Attestation { file, why }
        })?;
        let probe = Probe::run(&config.program, &places.scratch(), &config.name);
        let lacking = config.demanded.minus(&probe.had());
        if config.runtime == RuntimeKind::Process && !lacking.is_empty() {
            return Err(AgentError::Lacks(lacking));
        }
        let runtime_config = RuntimeConfig {
            node: config.name.clone(),
            directory: places.runtime(),
            program: config.program.clone(),
            demanded: config.demanded.clone(),
            logs: config.logs,
        };
        let runtime: Arc<dyn Runtime> = match config.runtime {
            RuntimeKind::Process => Arc::new(ProcessRuntime::new(runtime_config, &probe)?),
            RuntimeKind::Runc => Arc::new(RuncRuntime::new(runtime_config)?),
        };
        let images = ImageStore::new(places.images(), config.layouts.clone(), config.executables.clone())?;
        let has_network = probe.had().has(crate::Layer::Network);
        let networks =
            config.subnet.filter(|_| has_network).map(|subnet| Networks::new(subnet, &config.name));
        let capacity = register::capacity(&config)?;
        let users = UserIds::of(&config.name, rustix::process::geteuid());
        let process =
            PullProcess { program: config.program.clone(), had: probe.had(), users: users.of_pulls() };
        let uses = Arc::clone(images.uses());
        let puller = Puller::into_store(config.registries.clone(), process, &places.images(), uses);
        let reporter =
            Reporter { controller: "coffer-agent".to_owned(), instance: Some(config.name.clone()) };
        let context = Context {
            teller: Teller::new(client.clone(), reporter),
            admission: Admission::new(capacity),
            users,
            fences: Fences::default(),
            claims: Claims::default(),
            config,
            client,
            runtime,
            images,
            puller,
            networks,
            probe,
            places,
        };
        Ok(Self { context: Arc::new(context) })
    }

    /// What the machine can do.
    pub fn probe(&self) -> &Probe {
        &self.context.probe
    }

    /// The content of the node's logs and usage, for whoever may read them.
    pub fn access(&self) -> crate::access::NodeLogs {
        crate::access::NodeLogs::new(Arc::clone(&self.context))
    }

    /// In place of running: kills every pod that an agent of this directory left,
    /// unmounts their disks and takes their networks away; the bytes stay. The
    /// agent must have ended, else it starts them again. Returns what could not be ended.
    pub async fn end_leftovers(self) -> Vec<String> {
        leftovers::end(&self.context).await
    }

    /// Runs until it is dropped. Pods that an earlier agent left are taken over
    /// before the first word from the API, and run on without one.
    pub async fn run(self) {
        let mut workers =
            Workers { context: Arc::clone(&self.context), known: BTreeMap::new(), tasks: JoinSet::new() };
        workers.adopt().await;
        let (looked, seen) = watch::channel(None);
        let node = register::keep(Arc::clone(&self.context), looked);
        let collections = collecting::keep(Arc::clone(&self.context), seen.clone());
        let discards = discard::keep(Arc::clone(&self.context), seen);
        let lease = lease::keep(Arc::clone(&self.context));
        let losses = losses::keep(Arc::clone(&self.context));
        tokio::join!(node, discards, collections, lease, losses, workers.follow());
    }
}

struct Known {
    wish: watch::Sender<Wish>,
}

/// One worker for each pod.
struct Workers {
    context: Arc<Context>,
    known: BTreeMap<String, Known>,
    tasks: JoinSet<String>,
}

impl Workers {
    /// Takes over the pods that the directory knows, and ends what nobody knows.
    async fn adopt(&mut self) {
        let records = PodRecord::all(&self.context.places);
        let known: BTreeSet<String> = records.iter().map(|record| record.uid().to_owned()).collect();
        for id in self.context.runtime.list().await.unwrap_or_default() {
            let owner = id.as_str().rsplit_once('.').map_or("", |(pod, _)| pod);
            if !known.contains(owner) {
                // An orphan: started, and its pod forgotten, by an agent that was killed in between.
                drop(self.context.runtime.kill(&id).await);
                drop(self.context.runtime.remove(&id).await);
            }
        }
        for record in records {
            self.context.users.adopt(record.user);
            if record.user.is_some() {
                let data = volumes::data_directories(&self.context, &record).unwrap_or_default();
                self.context.claims.take(&data, record.uid());
            }
            if let (Some(networks), Some(network)) = (&self.context.networks, &record.network) {
                networks.adopt(record.uid(), network);
            }
            self.start(record);
        }
    }

    fn start(&mut self, record: PodRecord) {
        let uid = record.uid().to_owned();
        let (wish, wishes) = watch::channel(Wish::of(&record.pod));
        self.known.insert(uid.clone(), Known { wish });
        let worker = Worker::new(Arc::clone(&self.context), record, wishes);
        self.tasks.spawn(async move {
            worker.run().await;
            uid
        });
    }

    /// Follows the pods that are bound to this node, over every interruption.
    async fn follow(&mut self) {
        let pods: Api<Pod> = Api::all(self.context.client.clone());
        let mine = watcher::Config::default().fields(&format!("spec.nodeName={}", self.context.config.name));
        let mut events = std::pin::pin!(watcher(pods, mine).backoff(backoff::Retry::default()));
        let mut listed: BTreeSet<String> = BTreeSet::new();
        loop {
            tokio::select! {
                event = events.try_next() => match event {
                    Ok(Some(watcher::Event::Init)) => listed.clear(),
                    Ok(Some(watcher::Event::InitApply(pod))) => {
                        listed.extend(pod.metadata.uid.clone());
                        self.wish(pod);
                    }
                    Ok(Some(watcher::Event::InitDone)) => self.only(&listed),
                    Ok(Some(watcher::Event::Apply(pod))) => self.wish(pod),
                    Ok(Some(watcher::Event::Delete(pod))) => self.gone(pod.metadata.uid.as_deref()),
                    // The API is away: what runs, runs on. The stream tries again by itself.
                    Err(_) => {}
                    Ok(None) => return,
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Ok(uid) = ended {
                        self.known.remove(&uid);
                        self.context.fences.forget(&uid);
                    }
                }
            }
        }
    }

    fn wish(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        match self.known.get(&uid) {
            Some(known) => drop(known.wish.send_replace(Wish::of(&pod))),
            None => self.start(PodRecord::new(pod)),
        }
    }

    /// A list is complete: what is not in it is gone.
    fn only(&mut self, listed: &BTreeSet<String>) {
        let missing: Vec<String> = self.known.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in missing {
            self.gone(Some(&uid));
        }
    }

    fn gone(&mut self, uid: Option<&str>) {
        if let Some((uid, known)) = uid.and_then(|uid| self.known.get_key_value(uid)) {
            // Before it is told to end: it may take its time, and must not write meanwhile.
            self.context.fences.lapse(&self.context.config.name, uid);
            known.wish.send_replace(Wish::Gone);
        }
    }
}
