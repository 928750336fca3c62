//! The node's lease: renewed while the API answers, and with it those of the pods.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;

use super::Context;
use super::LeaseTimes;
use super::fence::Moment;

/// Where the leases of nodes are.
const NAMESPACE: &str = "kube-node-lease";
/// One request may take this part of the lease.
const PATIENCE: u32 = 5;
/// Between a failure and the next request: this part of the lease at most.
const PAUSE: u32 = 10;

/// Renews for ever.
pub(super) async fn keep(context: Arc<Context>) {
    let leases: Api<Lease> = Api::namespaced(context.client.clone(), NAMESPACE);
    let times = context.config.lease;
    let granted = |sent| context.fences.renew(&context.config.name, sent, times.duration);
    keep_renewing(times, || renew(&context, &leases), granted).await;
}

/// Asks for renewals for ever; `granted` is told when one that was granted was sent.
///
/// A request that hangs is given up after a part of the lease, and another one
/// is sent before the lease has ended: one lost packet must not fence every pod.
async fn keep_renewing<F: Future<Output = kube::Result<()>>>(
    times: LeaseTimes,
    mut renew: impl FnMut() -> F,
    mut granted: impl FnMut(Moment),
) {
    let (patience, pause) = (times.duration / PATIENCE, times.renew.min(times.duration / PAUSE));
    loop {
        let begun = tokio::time::Instant::now();
        let sent = Moment::now();
        match tokio::time::timeout(patience, renew()).await {
            Ok(Ok(())) => {
                granted(sent);
                tokio::time::sleep_until(begun + times.renew).await;
            }
            Ok(Err(_)) | Err(_) => tokio::time::sleep(pause).await,
        }
    }
}

async fn renew(context: &Context, leases: &Api<Lease>) -> kube::Result<()> {
    let name = &context.config.name;
    let params = PostParams { field_manager: Some(super::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match leases.get_opt(name).await? {
        Some(mut lease) => {
            let spec = lease.spec.get_or_insert_default();
            fill(spec, context);
            leases.replace(name, &params, &lease).await.map(drop)
        }
        None => {
            let mut spec = LeaseSpec::default();
            fill(&mut spec, context);
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            };
            leases.create(&params, &Lease { metadata, spec: Some(spec) }).await.map(drop)
        }
    }
}

fn fill(spec: &mut LeaseSpec, context: &Context) {
    let now = crate::clock::wall();
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(now.subsec_nanos()).unwrap_or(0);
    spec.holder_identity = Some(context.config.name.clone());
    // Whole seconds, rounded up: the platform must not wait less than the pods.
    let duration = context.config.lease.duration.as_millis().div_ceil(1000);
    spec.lease_duration_seconds = i32::try_from(duration).ok();
    spec.renew_time = Timestamp::new(seconds, nanos).ok().map(MicroTime);
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use super::*;

    /// When renewals were granted, in virtual milliseconds, if the answers to these numbers hang.
    async fn granted(times: LeaseTimes, hang: impl Fn(u32) -> bool, lasting: Duration) -> Vec<u128> {
        let (number, granted) = (Cell::new(0), RefCell::new(Vec::new()));
        let begun = tokio::time::Instant::now();
        let renew = || {
            let hangs = hang(number.replace(number.get() + 1));
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Ok(())
            }
        };
        let note = |_| granted.borrow_mut().push(begun.elapsed().as_millis());
        drop(tokio::time::timeout(lasting, keep_renewing(times, renew, note)).await);
        granted.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn one_renewal_that_hangs_lets_no_lease_run_out() {
        for (duration, renew) in [(10, 2), (40, 10), (2, 1)] {
            let times =
                LeaseTimes { duration: Duration::from_secs(duration), renew: Duration::from_secs(renew) };
            for hangs in 1..4 {
                let granted = granted(times, |number| number == hangs, 4 * times.duration).await;
                let worst = granted.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
                assert!(worst < times.duration.as_millis(), "{duration}/{renew}: {granted:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_is_asked_no_more_often_than_it_should_be() {
        let times = LeaseTimes::default();
        let granted = granted(times, |_| false, Duration::from_secs(100)).await;
        assert!(granted.len() <= 11, "{granted:?}");
    }
}
