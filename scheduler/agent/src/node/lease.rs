//! The node's lease: renewed while the API answers, and with it those of the pods.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;

use super::Context;
use super::fence::Moment;

/// Where the leases of nodes are.
const NAMESPACE: &str = "kube-node-lease";

/// Renews for ever.
pub(super) async fn keep(context: Arc<Context>) {
    let leases: Api<Lease> = Api::namespaced(context.client.clone(), NAMESPACE);
    let times = context.config.lease;
    let mut ticks = tokio::time::interval(times.renew);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sent = Moment::now();
        // A request that hangs must not keep the next one from being tried.
        let renewed = tokio::time::timeout(times.duration, renew(&context, &leases)).await;
        if matches!(renewed, Ok(Ok(()))) {
            context.fences.renew(&context.config.name, sent, times.duration);
        }
    }
}

async fn renew(context: &Context, leases: &Api<Lease>) -> kube::Result<()> {
    let name = &context.config.name;
    let params = PostParams { field_manager: Some("coffer-agent".to_owned()), ..PostParams::default() };
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
