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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Ours,
    Anothers,
}

struct Watched {
    version: Option<String>,
    since: Duration,
}

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
    let mut watched = Watched { version: None, since: clock.monotonic() };
    let pause = leadership.lasts / 5;
    while look(&api, &leadership, clock.as_ref(), &mut watched).await? != Look::Ours {
        tokio::time::sleep(pause).await;
    }
    let (tell, told) = watch::channel(true);
    tokio::spawn(async move {
        let mut renewed = clock.monotonic();
        // Stops with a fifth of the lease left, so that nobody else leads before it stopped.
        while clock.monotonic().saturating_sub(renewed) < leadership.lasts * 4 / 5 {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = tell.closed() => return,
            }
            let asked = clock.monotonic();
            let look = look(&api, &leadership, clock.as_ref(), &mut watched);
            match tokio::time::timeout(leadership.lasts / 2, look).await {
                Ok(Ok(Look::Ours)) => renewed = asked,
                Ok(Ok(Look::Anothers)) => break,
                // Perhaps the next one arrives in time.
                Ok(Err(_)) | Err(_) => {}
            }
        }
        tell.send_replace(false);
    });
    Ok(told)
}

/// Takes or renews the lease, if it is ours or nobody has renewed it for as long as it lasts: measured here, by
/// whether it changes, never by the times that others wrote into it.
async fn look(
    api: &Api<Lease>,
    leadership: &Leadership,
    clock: &dyn Clock,
    watched: &mut Watched,
) -> Result<Look, LeaderError> {
    let nanos = i128::from(clock.now().0);
    let now = MicroTime(Moment::from_nanosecond(nanos).map_err(|_| LeaderError::Clock)?);
    let found = api.get_opt(&leadership.name).await?;
    let lasts = i32::try_from(leadership.lasts.as_secs().max(1)).unwrap_or(i32::MAX);
    let spec = |before: Option<&LeaseSpec>| {
        let ours = before.and_then(|spec| spec.holder_identity.as_deref()) == Some(&leadership.holder);
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(-1);
        let acquired = before.filter(|_| ours).and_then(|spec| spec.acquire_time.clone());
        LeaseSpec {
            holder_identity: Some(leadership.holder.clone()),
            lease_duration_seconds: Some(lasts),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now.clone()),
            lease_transitions: Some(if ours { transitions.max(0) } else { transitions.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    };
    let written = match found {
        None => {
            let metadata = ObjectMeta { name: Some(leadership.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(spec(None)) };
            api.create(&PostParams::default(), &lease).await
        }
        Some(mut lease) => {
            let before = lease.spec.clone().unwrap_or_default();
            let ours = before.holder_identity.as_deref() == Some(&leadership.holder);
            if watched.version != lease.metadata.resource_version {
                watched.version = lease.metadata.resource_version.clone();
                watched.since = clock.monotonic();
            }
            let free = before.holder_identity.as_deref().unwrap_or_default().is_empty();
            let old = clock.monotonic().saturating_sub(watched.since) >= leadership.lasts;
            if !(ours || free || old) {
                return Ok(Look::Anothers);
            }
            lease.spec = Some(spec(Some(&before)));
            api.replace(&leadership.name, &PostParams::default(), &lease).await
        }
    };
    match written {
        Ok(_) => Ok(Look::Ours),
        // Somebody else was quicker.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Look::Anothers),
        Err(error) => Err(error.into()),
    }
}
