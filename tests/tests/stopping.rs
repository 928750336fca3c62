//! A service that is told to stop does not wait for a look at everything.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use coffer_model::RecordId;
use coffer_regions::{ListedRecord, RecordKind, Site, SiteError};
use coffer_server::OpenedSite;
use coffer_tests::{Deployment, OpenedThrough, Twist, Twisted, bucket_name, host, pattern};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Where looks at sites are held back, and counted.
struct Gate {
    open: watch::Sender<bool>,
    /// Those that came since it was shut.
    looks: watch::Sender<u64>,
    passed: AtomicU64,
}

impl Gate {
    async fn pass(&self) {
        if *self.open.borrow() {
            self.passed.fetch_add(1, Ordering::SeqCst);
            return;
        }
        self.looks.send_modify(|looks| *looks += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }

    /// Lets `look` begin, tells the service to stop while it is held back, and lets it go on; how many more pages
    /// it asked for.
    async fn stop_during(
        &self,
        deployment: &mut Deployment,
        look: impl Future<Output = ()> + Send + 'static,
    ) -> u64 {
        self.open.send_replace(false);
        let look = tokio::spawn(look);
        self.looks.subscribe().wait_for(|looks| *looks > 0).await.unwrap();
        let address = deployment.endpoint().strip_prefix("https://").unwrap().to_owned();
        let ((), ()) = tokio::join!(deployment.stop(), async {
            // Nobody new is heard once it knows that it is to stop.
            while TcpStream::connect(&address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            self.passed.store(0, Ordering::SeqCst);
            self.open.send_replace(true);
        });
        look.abort();
        self.passed.load(Ordering::SeqCst)
    }
}

struct Gated {
    inner: Arc<dyn Site>,
    gate: Arc<Gate>,
}

#[async_trait]
impl Twist for Gated {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        self.gate.pass().await;
        self.inner.list(kind, after, limit).await
    }
}

async fn gated() -> (Deployment, Arc<Gate>) {
    let gate = Arc::new(Gate {
        open: watch::Sender::new(true),
        looks: watch::Sender::new(0),
        passed: AtomicU64::new(0),
    });
    let (mut host, at_gate) = (host(), Arc::clone(&gate));
    let before = move |opened: OpenedSite| {
        let site = Gated { inner: opened.site, gate: Arc::clone(&at_gate) };
        OpenedSite { site: Arc::new(Twisted(site)), link: opened.link }
    };
    host.sites = Arc::new(OpenedThrough::new(host.sites, before));
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
    assert_eq!(gate.stop_during(&mut deployment, look).await, 0);
}
