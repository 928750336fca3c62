//! One leader at a time, by a Lease. Whoever cannot renew in time stops before
//! another may begin; whoever finds itself replaced stops at once.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::Clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp as Moment;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;

/// Why there is no leadership to be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The API does not answer.
    #[error("the lease of the leader cannot be reached: {0}")]
    Api(#[from] kube::Error),
    /// The clock says no time that a lease can bear.
    #[error("the clock of this machine says no time that a lease can bear")]
    Clock,
}

/// Who wants to lead what.
#[derive(Clone)]
pub struct Leadership {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// Who we are; no two have one name.
    pub holder: String,
    /// How long a lease holds without renewal.
    pub lasts: Duration,
}

/// What a look at the lease led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// We have it, after so many changes of hands.
    Ours(u32),
    /// Somebody else has it, and may have said where he answers.
    Anothers(Option<String>),
}

/// Since when a lease has looked as it does.
pub(crate) struct Watched {
    version: Option<String>,
    since: Duration,
}

impl Watched {
    /// From now on.
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        Self { version: None, since: clock.monotonic() }
    }
}

/// Annotation of a lease: where its holder answers.
pub(crate) const ANSWERS_AT: &str = "coffer/answers-at";

/// Waits until we lead; then the answer says so until it says that we do not any more. It is dropped
/// to give the leadership up; the lease then ends by itself.
///
/// # Errors
/// [`LeaderError`].
pub async fn lead(
    client: Client,
    leadership: Leadership,
    clock: Arc<dyn Clock>,
) -> Result<watch::Receiver<bool>, LeaderError> {
    let api: Api<Lease> = Api::namespaced(client, &leadership.namespace);
    let mut watched = Watched::new(clock.as_ref());
    let pause = leadership.lasts / 5;
    // Counted from before the request: whoever hears of it begins to wait later.
    let mut renewed = clock.monotonic();
    while let Look::Anothers(_) = look(&api, &leadership, None, clock.as_ref(), &mut watched).await? {
        tokio::time::sleep(pause).await;
        renewed = clock.monotonic();
    }
    // An answer that took longer than the leadership that it gives is none.
    let led = left(&leadership, clock.as_ref(), renewed) > Duration::ZERO;
    let (tell, told) = watch::channel(led);
    tokio::spawn(async move {
        loop {
            let left = left(&leadership, clock.as_ref(), renewed);
            let round = async {
                tokio::time::sleep(pause).await;
                let asked = clock.monotonic();
                let look = look(&api, &leadership, None, clock.as_ref(), &mut watched);
                (asked, tokio::time::timeout(leadership.lasts / 2, look).await)
            };
            tokio::select! {
                // Whatever is under way is dropped when the time is over.
                () = tokio::time::sleep(left) => break,
                () = tell.closed() => return,
                (asked, looked) = round => match looked {
                    Ok(Ok(Look::Ours(_))) => renewed = asked,
                    Ok(Ok(Look::Anothers(_))) => break,
                    // Perhaps the next one arrives in time.
                    Ok(Err(_)) | Err(_) => {}
                },
            }
        }
        tell.send_replace(false);
    });
    Ok(told)
}

/// For how long we lead still, if the lease was renewed by a request sent at `renewed`: with a fifth of the
/// lease to spare, so that nobody else leads before we have stopped.
fn left(leadership: &Leadership, clock: &dyn Clock, renewed: Duration) -> Duration {
    usable(leadership.lasts).saturating_sub(clock.monotonic().saturating_sub(renewed))
}

/// What of a lease its holder may use.
pub(crate) fn usable(lasts: Duration) -> Duration {
    lasts * 4 / 5
}

/// Takes or renews the lease, if it is ours or nobody has renewed it for as long as it lasts: measured here, by
/// whether it changes, never by the times that others wrote into it.
pub(crate) async fn look(
    api: &Api<Lease>,
    leadership: &Leadership,
    answers_at: Option<&str>,
    clock: &dyn Clock,
    watched: &mut Watched,
) -> Result<Look, LeaderError> {
    let nanos = i128::from(clock.now().0);
    let now = MicroTime(Moment::from_nanosecond(nanos).map_err(|_| LeaderError::Clock)?);
    let found = api.get_opt(&leadership.name).await?;
    let written = match found {
        None => {
            let metadata = ObjectMeta { name: Some(leadership.name.clone()), ..ObjectMeta::default() };
            let spec = Some(ours(leadership, None, now));
            let lease = Lease { metadata: saying(metadata, answers_at), spec };
            api.create(&PostParams::default(), &lease).await
        }
        Some(lease) => {
            let before = lease.spec.clone().unwrap_or_default();
            let is_ours = before.holder_identity.as_deref() == Some(&leadership.holder);
            if watched.version != lease.metadata.resource_version {
                watched.version = lease.metadata.resource_version.clone();
                watched.since = clock.monotonic();
            }
            let free = before.holder_identity.as_deref().unwrap_or_default().is_empty();
            // The holder counts on what he said, not on what we would have.
            let said = before.lease_duration_seconds.and_then(|said| u64::try_from(said).ok());
            let lasts = said.map_or(leadership.lasts, |said| leadership.lasts.max(Duration::from_secs(said)));
            let old = clock.monotonic().saturating_sub(watched.since) >= lasts;
            if !(is_ours || free || old) {
                return Ok(Look::Anothers(said_by(&lease)));
            }
            let spec = Some(ours(leadership, Some(&before), now));
            let lease = Lease { metadata: saying(lease.metadata, answers_at), spec };
            api.replace(&leadership.name, &PostParams::default(), &lease).await
        }
    };
    match written {
        Ok(lease) => Ok(Look::Ours(changes_of(&lease))),
        // Somebody else was quicker.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Look::Anothers(None)),
        Err(error) => Err(error.into()),
    }
}

/// The lease as we hold it from now on.
fn ours(leadership: &Leadership, before: Option<&LeaseSpec>, now: MicroTime) -> LeaseSpec {
    let lasts = i32::try_from(leadership.lasts.as_secs().max(1)).unwrap_or(i32::MAX);
    let ours = before.and_then(|spec| spec.holder_identity.as_deref()) == Some(&leadership.holder);
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(-1);
    let next = transitions.saturating_add(1).max(floor(&now));
    let acquired = before.filter(|_| ours).and_then(|spec| spec.acquire_time.clone());
    LeaseSpec {
        holder_identity: Some(leadership.holder.clone()),
        lease_duration_seconds: Some(lasts),
        acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
        renew_time: Some(now),
        lease_transitions: Some(if ours { transitions.max(0) } else { next }),
        ..LeaseSpec::default()
    }
}

/// Nobody begins to hold a lease with fewer changes than this: one that was deleted, or restored from an older
/// state of the API, must not give an epoch again that another holder has written under. Seconds since 2020.
fn floor(now: &MicroTime) -> i32 {
    i32::try_from(now.0.as_second().saturating_sub(1_577_836_800)).unwrap_or(i32::MAX).max(0)
}

/// How often a lease changed hands, and more: it rises with every holder.
fn changes_of(lease: &Lease) -> u32 {
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
    transitions.and_then(|transitions| u32::try_from(transitions).ok()).unwrap_or(0)
}

/// The metadata with where we answer; who was there before is there no more.
fn saying(mut metadata: ObjectMeta, answers_at: Option<&str>) -> ObjectMeta {
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.remove(ANSWERS_AT);
    annotations.extend(answers_at.map(|at| (ANSWERS_AT.to_owned(), at.to_owned())));
    metadata
}

/// Where the holder of a lease says that he answers.
fn said_by(lease: &Lease) -> Option<String> {
    lease.metadata.annotations.as_ref()?.get(ANSWERS_AT).cloned()
}

/// Gives the lease up if it is still ours, so that nobody waits until it ends.
pub(crate) async fn give_up(api: &Api<Lease>, leadership: &Leadership) -> Result<(), LeaderError> {
    loop {
        let Some(mut lease) = api.get_opt(&leadership.name).await? else { return Ok(()) };
        let Some(spec) = &mut lease.spec else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(&leadership.holder) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        lease.metadata = saying(lease.metadata, None);
        match api.replace(&leadership.name, &PostParams::default(), &lease).await {
            // Renewed meanwhile, or taken.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            written => return written.map(drop).map_err(LeaderError::from),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use coffer_model::Timestamp;
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Bytes;
    use tokio::time::Instant;

    use super::*;

    /// The clock of the runtime, which stands still but for its timers.
    pub(crate) struct Paused(pub(crate) Instant);

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            Timestamp(1_800_000_000_000_000_000)
        }
        fn monotonic(&self) -> Duration {
            self.0.elapsed()
        }
    }

    /// What the first of those who want the lease says.
    pub(crate) fn first(lasts: Duration) -> Leadership {
        Leadership {
            namespace: "coffer".to_owned(),
            name: "lease".to_owned(),
            holder: "first".to_owned(),
            lasts,
        }
    }

    /// An API that has one lease, answers each request after `slow`, and those after the first `answered`
    /// renewals never. It keeps when a renewal arrived.
    pub(crate) fn api(
        slow: Duration,
        answered: usize,
        since: Instant,
    ) -> (Client, Arc<Mutex<Vec<Duration>>>) {
        let renewals = Arc::new(Mutex::new(Vec::new()));
        let stored: Arc<Mutex<Option<Lease>>> = Arc::default();
        let kept = Arc::clone(&renewals);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (stored, renewals) = (Arc::clone(&stored), Arc::clone(&kept));
            async move {
                tokio::time::sleep(slow).await;
                let writes = request.method() != http::Method::GET;
                let body = request.into_body().collect().await.unwrap().to_bytes();
                if writes {
                    if renewals.lock().unwrap().len() == answered {
                        std::future::pending::<()>().await;
                    }
                    renewals.lock().unwrap().push(since.elapsed());
                    let mut lease: Lease = serde_json::from_slice(&body).unwrap();
                    lease.metadata.resource_version = Some(renewals.lock().unwrap().len().to_string());
                    *stored.lock().unwrap() = Some(lease);
                }
                let (code, text) = match &*stored.lock().unwrap() {
                    Some(lease) => (200, serde_json::to_vec(lease).unwrap()),
                    None => {
                        let gone = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"","reason":"NotFound","code":404}"#;
                        (404, gone.as_bytes().to_vec())
                    }
                };
                let answer = http::Response::builder().status(code).body(Full::new(Bytes::from(text)));
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        (Client::new(service, "coffer"), renewals)
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_api_falls_silent_stops_before_its_last_renewal_can_have_run_out() {
        for millis in [1, 700, 1900] {
            let since = Instant::now();
            let (client, renewals) = api(Duration::from_millis(millis), 3, since);
            let lasts = Duration::from_secs(10);
            let mut leads = lead(client, first(lasts), Arc::new(Paused(since))).await.unwrap();
            leads.wait_for(|leads| !leads).await.unwrap();
            // Another one may begin a whole lease after it saw the last renewal, which was not before it arrived.
            let another = *renewals.lock().unwrap().last().unwrap() + lasts;
            assert!(since.elapsed() < another, "{millis}: {:?} of {another:?}", since.elapsed());
        }
    }
}
