//! A service that is told to stop does not wait for a look at everything.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::sync::Arc;

use coffer_tests::{Deployment, Gate, Gated, bucket_name, host, pattern};
use tokio::net::TcpStream;

/// Lets `look` begin, tells the service to stop while it is held back, and lets it go on; how many more pages
/// it asked for.
async fn stop_during(
    gate: &Gate,
    deployment: &mut Deployment,
    look: impl Future<Output = ()> + Send + 'static,
) -> u64 {
    gate.shut();
    let look = tokio::spawn(look);
    gate.holds_one().await;
    let address = deployment.endpoint().strip_prefix("https://").unwrap().to_owned();
    let ((), ()) = tokio::join!(deployment.stop(), async {
        // Nobody new is heard once it knows that it is to stop.
        while TcpStream::connect(&address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        gate.open();
    });
    look.abort();
    gate.passed()
}

async fn gated() -> (Deployment, Arc<Gate>) {
    let mut host = host();
    let (sites, gate) = Gate::before(host.sites, Gated::Lists);
    host.sites = sites;
    let deployment = Deployment::six_sites_on(host).await;
    let tenant = deployment.tenant("acme").await;
    tenant.client.create_bucket(&bucket_name("things"), None).await.unwrap();
    tenant.put(&bucket_name("things"), "large", pattern(1, 100_000)).await;
    (deployment, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_all_versions_ends_at_its_next_page_when_the_service_leaves() {
    let (mut deployment, gate) = gated().await;
    let operator = deployment.operator().await;
    let look = async move { drop(operator.plan_repair(1 << 30, 0).await) };
    assert_eq!(stop_during(&gate, &mut deployment, look).await, 0);
}
