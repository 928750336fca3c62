//! The life of one pod on its node: admitted, made ready, started, watched,
//! started again, stopped, forgotten. Nothing here waits for the API except to
//! fetch a secret and to say the last word.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use serde_json::Value;
use tokio::sync::watch;

use super::describe::{self, Declared};
use super::record::{Over, PodRecord};
use super::report::{self, Shown, Since};
use super::volumes::VolumeError;
use super::{Context, pulling, volumes, worker_probes};
use crate::image::Wanted;
use crate::runtime::{Container, Exit, State};

/// The data is another pod's still.
const IN_USE: &str = "VolumeInUse";
/// How long the message of a failed pull may be, in characters.
const MESSAGE_MAX: usize = 800;
/// How often a pod looks whether its predecessor has ended.
const PREDECESSOR: Duration = Duration::from_millis(200);

/// What the API wants of a pod.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// It should run.
    Run(Box<Pod>),
    /// It should end, within this time.
    Stop(Box<Pod>, Duration),
    /// It is not there any more.
    Gone,
}

impl Wish {
    pub(crate) fn of(pod: &Pod) -> Self {
        let pod = Box::new(pod.clone());
        if pod.metadata.deletion_timestamp.is_none() {
            return Self::Run(pod);
        }
        let grace = pod
            .metadata
            .deletion_grace_period_seconds
            .or_else(|| pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds));
        let grace = u64::try_from(grace.unwrap_or(30)).unwrap_or(0);
        Self::Stop(pod, Duration::from_secs(grace))
    }

    pub(crate) fn pod(&self) -> Option<&Pod> {
        match self {
            Self::Run(pod) | Self::Stop(pod, _) => Some(pod),
            Self::Gone => None,
        }
    }

    fn stops(&self) -> bool {
        !matches!(self, Self::Run(_))
    }
}

/// Why a pod is not started yet.
struct NotYet {
    reason: &'static str,
    message: String,
}

impl NotYet {
    fn of(reason: &'static str, error: impl std::fmt::Display) -> Self {
        Self { reason, message: error.to_string() }
    }
}

/// The life of one pod.
pub(crate) struct Worker {
    context: Arc<Context>,
    record: PodRecord,
    wishes: watch::Receiver<Wish>,
    told: watch::Sender<Option<Value>>,
    since: Since,
    attempts: u32,
    /// Keeps the image from being removed as long as the pod is here, whether it is noted already or not.
    wanted: Vec<Wanted>,
}

impl Worker {
    pub(crate) fn new(context: Arc<Context>, record: PodRecord, wishes: watch::Receiver<Wish>) -> Self {
        let (told, _) = watch::channel(None);
        Self { context, record, wishes, told, since: Since::default(), attempts: 0, wanted: Vec::new() }
    }

    pub(crate) async fn run(mut self) {
        let uid = self.record.uid().to_owned();
        let telling =
            report::keep_telling(Arc::clone(&self.context), uid, self.told.subscribe(), self.wishes.clone());
        tokio::select! {
            () = telling => {}
            () = self.live() => {}
        }
    }

    async fn live(&mut self) {
        let phase =
            self.record.pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        if self.record.over.is_none()
            && self.record.started_unix_ms.is_none()
            && phase != "Failed"
            && phase != "Succeeded"
        {
            self.admit();
        } else {
            // One that was admitted before an agent was killed keeps its place.
            drop(self.context.admission.admit(self.record.uid(), &self.record.pod));
        }
        let finished = phase == "Failed" || phase == "Succeeded";
        while !self.wishes.borrow().stops() {
            if finished || self.record.over.is_some() {
                if self.record.over.is_some() {
                    self.show_end();
                }
                self.changed().await;
            } else {
                self.attempt().await;
            }
        }
        self.end().await;
    }

    /// Waits for the next wish, and remembers the pod in it.
    async fn changed(&mut self) {
        if self.wishes.changed().await.is_err() {
            // Without anybody to wish there is nobody to end it: it runs on.
            std::future::pending::<()>().await;
        }
        if let Some(pod) = self.wishes.borrow_and_update().pod() {
            self.record.pod = pod.clone();
        }
    }

    fn admit(&mut self) {
        let refused = match describe::declared(&self.record.pod) {
            Err(error) => Some(("CreateContainerConfigError".to_owned(), error.to_string())),
            Ok(_) => {
                let admitted = self.context.admission.admit(self.record.uid(), &self.record.pod);
                admitted.err().map(|refusal| (refusal.reason, refusal.message))
            }
        };
        if let Some((reason, message)) = refused {
            self.context.note(&self.record, "Warning", &reason, &message);
            let message = Some(message);
            self.record.over = Some(Over { phase: "Failed".to_owned(), reason: Some(reason), message });
        }
    }

    fn show(&mut self, shown: &Shown) {
        let status = report::status(&self.context, &self.record, shown, &mut self.since);
        self.told.send_replace(Some(status));
    }

    fn show_end(&mut self) {
        let shown = match self.record.last_end.clone() {
            Some(end) => Shown::Ended(end),
            None => Shown::Waiting { reason: "ContainerCreating", message: String::new() },
        };
        self.show(&shown);
    }

    /// One container, from its start to its end, or to the wish that it ends.
    async fn attempt(&mut self) {
        let Ok(id) = self.record.container() else { return self.give_up("its uid is no name") };
        let state = self.context.runtime.state(&id).await;
        match state {
            Ok(State::Running { started_unix_ms }) => self.watch(started_unix_ms).await,
            Ok(State::Exited(exit)) => self.ended(&exit).await,
            Ok(State::Absent) => match self.begin().await {
                Ok(()) => {}
                Err(_) if self.wishes.borrow().stops() => {}
                Err(NotYet { reason: pulling::FAILED, message }) => self.pull_later(message).await,
                Err(NotYet { reason, message }) => {
                    self.attempts = self.attempts.saturating_add(1);
                    if reason != IN_USE {
                        self.context.note(&self.record, "Warning", reason, &message);
                    }
                    self.show(&Shown::Waiting { reason, message });
                    let pause = self.context.config.backoff.after(self.attempts);
                    // A predecessor ends soon, and nothing of the pod's own has failed.
                    let pause = if reason == IN_USE { pause.min(PREDECESSOR) } else { pause };
                    self.pause(pause).await;
                }
            },
            Err(error) => {
                self.show(&Shown::Waiting { reason: "RuntimeError", message: error.to_string() });
                self.pause(self.context.config.backoff.first).await;
            }
        }
    }

    /// Waits until the image is asked for again: first the failure is shown, then that it is waited for.
    async fn pull_later(&mut self, message: String) {
        // Part of it may be a registry's own words.
        let message: String = message.chars().take(MESSAGE_MAX).collect();
        self.attempts = self.attempts.saturating_add(1);
        let half = self.context.config.backoff.after(self.attempts) / 2;
        self.context.note(&self.record, "Warning", "Failed", &message);
        self.context.note(&self.record, "Warning", "Failed", "Error: ErrImagePull");
        self.show(&Shown::Waiting { reason: pulling::FAILED, message: message.clone() });
        self.pause(half).await;
        if self.wishes.borrow().stops() {
            return;
        }
        let image =
            self.record.pod.spec.iter().flat_map(|spec| &spec.containers).find_map(|one| one.image.clone());
        let message = format!("Back-off pulling image {:?}: {message}", image.unwrap_or_default());
        self.context.note(&self.record, "Normal", "BackOff", &message);
        self.show(&Shown::Waiting { reason: pulling::BACK_OFF, message });
        self.pause(half).await;
    }

    fn give_up(&mut self, why: &str) {
        let message = Some(why.to_owned());
        self.record.over =
            Some(Over { phase: "Failed".to_owned(), reason: Some("Refused".to_owned()), message });
    }

    /// Waits, or until the pod should end.
    async fn pause(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while !self.wishes.borrow().stops() {
            tokio::select! {
                () = tokio::time::sleep_until(end) => return,
                () = self.changed() => {}
            }
        }
    }

    /// Makes everything ready and starts the container.
    async fn begin(&mut self) -> Result<(), NotYet> {
        if self.attempts == 0 && self.record.restarts == 0 {
            self.show(&Shown::Waiting { reason: "ContainerCreating", message: String::new() });
        }
        // Nothing on the disk says that its image is used while it waits for anything else.
        self.wanted = pulling::want(&self.context, &self.record);
        let container = self.container().await?;
        self.record.root = container.root.name();
        if self.record.started_unix_ms.is_none() {
            self.record.started_unix_ms = Some(crate::clock::millis(crate::clock::wall()));
        }
        self.record.save(&self.context.places).map_err(|error| NotYet::of("RecordError", error))?;
        match self.context.runtime.start(&container).await {
            Ok(()) => {
                self.attempts = 0;
                if let Some(why) = self.context.runtime.not_held(&container) {
                    self.context.note(&self.record, "Warning", "LimitNotHeld", &why);
                }
            }
            Err(error) => {
                let message = error.to_string();
                self.context.note(&self.record, "Warning", "Failed", &message);
                // What it left is an end like any other, with its reason; if it left nothing, it is tried again.
                if matches!(self.context.runtime.state(&container.id).await, Ok(State::Absent)) {
                    return Err(NotYet::of("RunContainerError", message));
                }
            }
        }
        Ok(())
    }

    async fn container(&mut self) -> Result<Container, NotYet> {
        let config = |error: &dyn std::fmt::Display| NotYet::of("CreateContainerConfigError", error);
        let declared = describe::declared(&self.record.pod).map_err(|error| config(&error))?;
        let mut wishes = self.wishes.clone();
        let image = tokio::select! {
            image = pulling::image(&self.context, &self.record, &declared.container) => image,
            // A pull may take long, and nobody wants it any more.
            _ = wishes.wait_for(|wish| wish.stops()) => return Err(NotYet::of("Stopped", "the pod is to end")),
        };
        let image = image.map_err(|error| NotYet::of(error.reason(), error))?;
        let prepared = volumes::prepare(&self.context, &mut self.record).await;
        let mut volumes = prepared.map_err(|error| match error {
            VolumeError::InUse => NotYet::of(IN_USE, error),
            error => NotYet::of("FailedMount", error),
        })?;
        self.attach(&declared).await?;
        let lease = self.context.places.pod(self.record.uid()).join("lease");
        let node = &self.context.config.name;
        let fenced = self.context.fences.add(node, self.record.uid(), lease.clone(), declared.epoch);
        fenced.map_err(|error| NotYet::of("FailedMount", error))?;
        volumes.push(crate::Volume { source: lease, target: super::fence::INSIDE.into(), writable: false });
        describe::container(&self.context, &self.record, &declared, image, volumes)
            .map_err(|error| config(&error))
    }

    async fn attach(&mut self, declared: &Declared) -> Result<(), NotYet> {
        let has = self.record.network.as_ref().is_some_and(crate::PodNetwork::exists);
        if declared.host_network || self.context.networks.is_none() || has {
            return Ok(());
        }
        let (context, uid) = (Arc::clone(&self.context), self.record.uid().to_owned());
        let (listen, egress) = (declared.listen.clone(), declared.egress.clone());
        let attached = tokio::task::spawn_blocking(move || {
            context.networks.as_ref().map(|networks| networks.attach(&uid, &listen, &egress)).transpose()
        });
        let attached = attached.await.map_err(|error| NotYet::of("FailedCreatePodSandBox", error))?;
        self.record.network = attached.map_err(|error| NotYet::of("FailedCreatePodSandBox", error))?;
        Ok(())
    }

    /// Watches a container that runs: an agent that was killed begins here.
    async fn watch(&mut self, started_unix_ms: u64) {
        let Ok(id) = self.record.container() else { return };
        if let Ok(declared) = describe::declared(&self.record.pod) {
            let lease = self.context.places.pod(self.record.uid()).join("lease");
            self.context.fences.adopt(self.record.uid(), lease, declared.epoch);
        }
        let context = Arc::clone(&self.context);
        let (verdicts, mut verdict) =
            worker_probes::begin(&context, &self.record, id.clone(), started_unix_ms);
        let end = context.runtime.wait(&id);
        tokio::pin!(verdicts, end);
        loop {
            let health = *verdict.borrow_and_update();
            self.show(&Shown::Running { started_unix_ms, ready: health.ready, started: health.started });
            tokio::select! {
                // What comes after is looked at anew: the runtime knows how it ended.
                _ = &mut end => return,
                () = self.changed() => if self.wishes.borrow().stops() { return },
                () = &mut verdicts => {}
                _ = verdict.changed() => {}
            }
            if !verdict.borrow().alive {
                context.note(
                    &self.record,
                    "Warning",
                    "Unhealthy",
                    "the container failed its liveness probe and is started again",
                );
                let grace =
                    self.record.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
                let grace = Duration::from_secs(u64::try_from(grace.unwrap_or(30)).unwrap_or(0));
                drop(context.runtime.stop(&id, grace).await);
                return;
            }
        }
    }

    /// The container has ended: it is started again, after a while, or never.
    async fn ended(&mut self, exit: &Exit) {
        let policy = self.record.pod.spec.as_ref().and_then(|spec| spec.restart_policy.clone());
        let again = match policy.as_deref() {
            Some("Never") => false,
            Some("OnFailure") => exit.code != 0,
            _ => true,
        };
        self.record.last_end = Some(report::terminated(exit));
        if !again {
            self.record.over = Some(report::over(exit));
            drop(self.record.save(&self.context.places));
            return;
        }
        let backoff = self.context.config.backoff;
        let ran = Duration::from_millis(exit.finished_unix_ms.saturating_sub(exit.started_unix_ms));
        self.record.failures = if ran >= backoff.reset { 1 } else { self.record.failures.saturating_add(1) };
        self.record.restarts = self.record.restarts.saturating_add(1);
        // Written before anything of the old one goes: a kill in between finds the new count.
        drop(self.record.save(&self.context.places));
        self.remove_before(self.record.restarts.saturating_sub(1)).await;
        let pause = backoff.after(self.record.failures);
        let message = format!("the container ended with {}; it is started again in {pause:?}", exit.code);
        self.show(&Shown::Waiting { reason: "CrashLoopBackOff", message });
        self.pause(pause).await;
    }

    /// Forgets the containers of attempts before `first`; the last one's log is kept.
    async fn remove_before(&self, first: u32) {
        let prefix = format!("{}.", self.record.uid());
        for id in self.context.runtime.list().await.unwrap_or_default() {
            let attempt = id.as_str().strip_prefix(&prefix).and_then(|number| number.parse::<u32>().ok());
            if attempt.is_some_and(|attempt| attempt < first) {
                drop(self.context.runtime.remove(&id).await);
            }
        }
    }

    /// Ends the pod, gives back all that it had, and lets the API forget it.
    async fn end(&mut self) {
        let wish = self.wishes.borrow_and_update().clone();
        let grace = match &wish {
            Wish::Stop(_, grace) => *grace,
            Wish::Run(_) => Duration::from_secs(30),
            // Nobody waits for it, and its data may be wanted by another one.
            Wish::Gone => Duration::ZERO,
        };
        if let Ok(id) = self.record.container()
            && let Some(exit) = self.until_ended(&id, grace).await
        {
            self.record.last_end = Some(report::terminated(&exit));
            self.record.over.get_or_insert_with(|| report::over(&exit));
            self.show_end();
        }
        self.clear().await;
        self.delete().await;
    }

    async fn until_ended(&mut self, id: &crate::ContainerId, grace: Duration) -> Option<Exit> {
        let (context, record) = (Arc::clone(&self.context), self.record.clone());
        let told = |why: &str| context.note(&record, "Warning", "FailedKillPod", why);
        super::ending::until_ended(context.runtime.as_ref(), id, grace, &mut self.wishes, told).await
    }

    async fn clear(&mut self) {
        self.remove_before(u32::MAX).await;
        self.context.fences.remove(self.record.uid());
        let (context, record) = (Arc::clone(&self.context), self.record.clone());
        let cleared = tokio::task::spawn_blocking(move || {
            if let (Some(networks), Some(network)) = (&context.networks, &record.network) {
                networks.detach(record.uid(), network);
            }
            for directory in volumes::data_directories(&context, &record).unwrap_or_default() {
                if context.claims.has(&directory, record.uid()) {
                    // One that cannot be taken away is found mounted by the next pod.
                    drop(crate::disk::unmount_sized(&directory));
                }
            }
            context.claims.release(record.uid());
            record.forget(&context.places)
        });
        drop(cleared.await);
        if let Some(user) = self.record.user.take() {
            self.context.users.give_back(user);
        }
        self.context.admission.release(self.record.uid());
    }

    /// Says that the pod is gone, until the API has heard it.
    async fn delete(&mut self) {
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), self.record.namespace());
        let preconditions = Preconditions { uid: Some(self.record.uid().to_owned()), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let mut retry = super::backoff::Retry::default();
        while !matches!(*self.wishes.borrow(), Wish::Gone) {
            match pods.delete(self.record.name(), &params).await {
                Ok(_) => return,
                Err(kube::Error::Api(refused)) if refused.code == 404 || refused.code == 409 => return,
                Err(_) => {
                    let pause = retry.pause();
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        _ = self.wishes.changed() => {}
                    }
                }
            }
        }
    }
}
