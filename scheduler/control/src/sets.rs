//! The controller of site sets. It owns pods directly: makes those that are
//! wanted, moves data before a pod goes, rolls out, and tells how things stand.
//! What to do is decided by `coffer_scheduler::plan`; here it is carried out.

mod carry_out;
mod certificates;
mod departed;
mod discovery;
mod disruption;
mod failures;
mod giving_way;
mod pods;
mod status;
mod taken;
mod unborne;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_scheduler::{PodId, SetName};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch};
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::events::EventType;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;

use crate::book::Book;
use crate::events::Teller;
use crate::names::{FINALIZER, LABEL_SET, ours};
use crate::resources::{SiteSet, SiteSetStatus};
use crate::run::Control;
use crate::shards::ShardLedgerError;
use crate::translate::{self, SetRefusal};

pub(crate) use failures::Failures;
pub(crate) use taken::TakenDown;
pub(crate) use unborne::Unborne;

pub use certificates::{CertificateError, NoCertificates, SiteCertificates, SiteIdentity};

/// Why a set was left as it is, until the next look.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetError {
    #[error("the API did not do as it was asked: {}", said(.0))]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Refused(#[from] SetRefusal),
    #[error(transparent)]
    Shards(#[from] ShardLedgerError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("an object could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// What the API said; all else that is in its answer is for programs.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl SetError {
    /// Whether the API said no: then nothing was done.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if (400..500).contains(&status.code))
    }

    /// Whether somebody else changed the object meanwhile: the look was at what is no more.
    fn is_old(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409 && status.reason == "Conflict")
    }
}

/// Everything that the controller stands on.
pub(crate) struct Sets {
    pub(crate) control: Control,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) teller: Teller,
    /// Whether everything was seen once.
    pub(crate) seen: watch::Receiver<bool>,
    /// Looks that failed.
    pub(crate) failures: Failures,
    /// Epochs that were given and that no pod bears.
    pub(crate) unborne: Unborne,
    /// Whose turn it is to take pods down: sets may lie in one service, and share what it can spare. Held
    /// from the question to the ledger until what it allowed was done.
    pub(crate) turn: tokio::sync::Mutex<TakenDown>,
}

/// One look at one set.
struct Look<'a> {
    sets: &'a Sets,
    object: Arc<SiteSet>,
    name: SetName,
    namespace: String,
    /// Its pods, by number.
    pods: BTreeMap<u32, Pod>,
    /// Which site each pod is, as its certificate's secret says.
    sites: BTreeMap<u32, String>,
    /// What its status will be.
    status: SiteSetStatus,
    /// Something is under way.
    busy: bool,
    /// Numbers of pods that this look itself made or took down: the book hears of it when it does.
    touched: BTreeSet<u32>,
}

/// How much of a plan is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// All of it.
    Whole,
    /// Only what the law demands: the plan does not know all pods that there are by now, and pods that stand where
    /// they may not do not wait for it.
    Forced,
}

impl Sets {
    pub(crate) async fn run(mut self) {
        if self.seen.wait_for(|seen| *seen).await.is_err() {
            return;
        }
        let client = self.control.client.clone();
        // Those of this fleet: another one's control plane looks at its own.
        let namespace = &self.control.namespace;
        let all: Api<SiteSet> = Api::namespaced(client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let owned = watcher::Config::default().labels(LABEL_SET);
        let trouble = Arc::clone(&self.control.trouble);
        Controller::new(all, watcher::Config::default())
            .owns(pods, owned)
            .with_config(Config::default().concurrency(4).debounce(Duration::from_millis(20)))
            .run(look_and_tell, error_policy, Arc::new(self))
            .for_each(|done| {
                // What a look ran into was told where it happened.
                if let Err(error) = done
                    && !matches!(error, controller::Error::ReconcilerFailed(..))
                {
                    trouble(&format!("site sets are not watched as they should be: {error}"));
                }
                std::future::ready(())
            })
            .await;
    }

    fn locked<T>(&self, with: impl FnOnce(&Book) -> T) -> T {
        with(&self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn changed<T>(&self, with: impl FnOnce(&mut Book) -> T) -> T {
        with(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the controller hands its objects over")]
fn error_policy(_: Arc<SiteSet>, _: &SetError, sets: Arc<Sets>) -> Action {
    Action::requeue(sets.control.pace.calm)
}

/// One look. What it runs into is an event on the set and a line for whoever runs the control plane.
pub(crate) async fn look_and_tell(object: Arc<SiteSet>, sets: Arc<Sets>) -> Result<Action, SetError> {
    let looked = reconcile(Arc::clone(&object), Arc::clone(&sets)).await;
    match &looked {
        Ok(_) => sets.failures.over(&object),
        Err(error) if error.is_old() => return Ok(Action::requeue(sets.control.pace.busy / 4)),
        Err(error) => {
            let text = error.to_string();
            if sets.failures.is_to_be_told(&object, &text) {
                (sets.control.trouble)(&format!(
                    "the site set {} is left as it is: {text}",
                    object.name_any()
                ));
                sets.teller.tell(object.as_ref(), EventType::Warning, ("Look", "LeftAsItIs"), &text).await;
            }
        }
    }
    looked
}

async fn reconcile(object: Arc<SiteSet>, sets: Arc<Sets>) -> Result<Action, SetError> {
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<SiteSet> = Api::namespaced(sets.control.client.clone(), &namespace);
    // The newest one: what was carried out last is in its status.
    let Some(object) = api.get_opt(&object.name_any()).await? else { return Ok(Action::await_change()) };
    let seen = match translate::site_set(&object) {
        Ok(seen) => seen,
        Err(why) => {
            sets.refuse(&object, &why).await?;
            return Err(why.into());
        }
    };
    let has_finalizer = object.finalizers().iter().any(|one| one == FINALIZER);
    if !has_finalizer && object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if !has_finalizer {
        set_finalizers(&api, &object, true).await?;
        return Ok(Action::requeue(sets.control.pace.busy));
    }
    let mut look = Look::new(&sets, Arc::new(object), seen.name).await?;
    if !look.agrees() {
        return Ok(Action::requeue(sets.control.pace.busy / 4));
    }
    look.act().await?;
    let gone = look.pods.is_empty() && look.status.members.is_empty() && !look.leaves_bytes();
    if gone && look.object.metadata.deletion_timestamp.is_some() {
        set_finalizers(&api, &look.object, false).await?;
        return Ok(Action::await_change());
    }
    let pace = sets.control.pace;
    Ok(Action::requeue(if look.busy { pace.busy } else { pace.calm }))
}

/// Ours comes or goes, the others stay. The resource version goes along, so that
/// nobody else's change is undone.
async fn set_finalizers(api: &Api<SiteSet>, object: &SiteSet, with: bool) -> Result<(), kube::Error> {
    let mut finalizers: Vec<&str> =
        object.finalizers().iter().map(String::as_str).filter(|one| *one != FINALIZER).collect();
    if with {
        finalizers.push(FINALIZER);
    }
    let version = object.metadata.resource_version.as_deref();
    let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": version } });
    api.patch(&object.name_any(), &ours(), &Patch::Merge(&patch)).await?;
    Ok(())
}

impl<'a> Look<'a> {
    async fn new(sets: &'a Sets, object: Arc<SiteSet>, name: SetName) -> Result<Self, kube::Error> {
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(sets.control.client.clone(), &namespace);
        let found = api.list(&ListParams::default().labels(&format!("{LABEL_SET}={name}"))).await?;
        let ordinal = |pod: &Pod| match translate::pod(pod).whose {
            translate::Whose::Ours(id) if id.set == name => Some(id.ordinal),
            _ => None,
        };
        let pods = found.items.into_iter().filter_map(|pod| Some((ordinal(&pod)?, pod))).collect();
        let status = object.status.clone().unwrap_or_default();
        let (sites, touched) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { sets, object, name, namespace, pods, sites, status, busy: false, touched })
    }

    fn id(&self, ordinal: u32) -> PodId {
        PodId { set: self.name.clone(), ordinal }
    }

    /// Whether the book has seen what we see: a plan over an older state would do things twice. What this look did
    /// itself meanwhile is no difference: its plan knows of it.
    fn agrees(&self) -> bool {
        self.sets.locked(|book| {
            let Some(seen) = book.set(&self.name) else { return false };
            let mut theirs = self.pods.iter().filter(|(ordinal, _)| !self.touched.contains(ordinal));
            let same = theirs.all(|(ordinal, pod)| {
                let known = book.pod(&self.id(*ordinal)).map(|pod| (pod.uid.as_str(), pod.phase, pod.ready));
                let seen = translate::pod(pod);
                // One that ended is in no book.
                let ended = seen.phase == translate::Phase::Ended;
                ended || known == Some((seen.uid.as_str(), seen.phase, seen.ready))
            });
            let wanted = translate::site_set(&self.object);
            let wanted = wanted.is_ok_and(|own| {
                (own.replicas, own.version, &own.members) == (seen.replicas, seen.version, &seen.members)
            });
            same && wanted && book.pods_of(&self.name).count() <= self.pods.len()
        })
    }

    async fn act(&mut self) -> Result<(), SetError> {
        self.let_stay().await?;
        let made = self.make_pods().await;
        if made.as_ref().is_err_and(SetError::is_old) {
            return made.map(drop);
        }
        // What was just made is in no book yet, and what could not be made keeps nobody where he may not be.
        let part = if matches!(made, Ok(false)) { Part::Whole } else { Part::Forced };
        self.busy |= part == Part::Forced;
        self.carry_out(part).await?;
        self.note_homes();
        // What is refused of one holds up none of the others.
        let told = [self.discard().await, self.certify().await, self.publish().await];
        // Whatever others refuse: where the members' disks are must not be forgotten.
        self.write_status().await?;
        made?;
        told.into_iter().collect()
    }
}
