//! The power fails, or the process is killed, at every step of every story
//! with an intent: after the next start each intent has exactly one outcome.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use async_trait::async_trait;
use coffer_client::{Client, Credentials, NewTenant};
use coffer_model::{Digest, RecordId};
use coffer_regions::{Receipt, Record, Site, SiteError, UnverifiedBytes};
use coffer_server::{Host, Service, serve};
use coffer_tests::{
    AuditLeaf, Deployment, Process, TenantClient, Twist, bucket_name, copy_tree, object_key, pattern, policy,
    twisted,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// The program that [`Process`] runs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-test-service");

/// Counts the records that sites write and read, and ends it all at one of them.
struct Moment {
    left: AtomicI64,
    /// Whether the step itself still happens.
    after: bool,
    over: AtomicBool,
    reached: Notify,
}

impl Moment {
    /// Before the `at`-th step, or after it; from then on nothing ends.
    fn at(at: i64, after: bool) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicI64::new(at),
            after,
            over: AtomicBool::new(false),
            reached: Notify::new(),
        })
    }

    async fn step<T>(&self, work: impl Future<Output = T>) -> T {
        let last = self.left.fetch_sub(1, Ordering::SeqCst) == 1;
        let over = last || self.over.load(Ordering::SeqCst);
        if last {
            self.over.store(true, Ordering::SeqCst);
        }
        let result = if !over || last && self.after { Some(work.await) } else { None };
        if last {
            self.reached.notify_one();
        }
        match result {
            Some(result) if !over => result,
            _ => std::future::pending().await,
        }
    }
}

struct Mortal {
    inner: Arc<dyn Site>,
    moment: Arc<Moment>,
}

#[async_trait]
impl Twist for Mortal {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        self.moment.step(self.inner.put(records)).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.moment.step(self.inner.get(id)).await
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.moment.step(self.inner.get_range(id, range)).await
    }
}

fn mortal(host: Host, moment: &Arc<Moment>) -> Host {
    let moment = Arc::clone(moment);
    let sites = twisted(host.sites, move |inner| Mortal { inner, moment: Arc::clone(&moment) });
    Host { sites, ..host }
}

/// Every story of a tenant that has an intent, one after the other; what fails
/// goes on with the next.
async fn live(client: &Client, operator: &Client, round: u64) {
    let (things, fresh) = (bucket_name("things"), bucket_name(&format!("fresh-{round}")));
    let put = |key: &str, length| {
        let (key, things) = (object_key(key), things.clone());
        async move { client.put_bytes(&things, &key, &BTreeMap::new(), pattern(round, length)).await }
    };
    drop(put("small", 300).await);
    drop(put("large", 1_200_000).await);
    if let Ok((info, body)) = client.get(&things, &object_key("large"), None).await {
        drop(body.collect(info.size).await);
    }
    drop(client.delete(&things, &object_key("small")).await);
    drop(client.create_bucket(&fresh, None).await);
    drop(client.set_bucket_policy(&fresh, &policy(&["EEA", "CH"])).await);
    drop(client.remove_bucket(&fresh).await);
    drop(client.note_digest("round", &Digest([7; 32])).await);
    let new = NewTenant { name: format!("tenant-{round}"), policy: policy(&[]) };
    drop(operator.create_tenant(&new, &coffer_custody::OsEntropy).await);
}

/// Each operation that announces itself has as many outcomes as intents, and
/// each version and bucket exactly one; whoever wrote it.
fn open_intents(leaves: &[AuditLeaf]) -> (usize, Vec<String>) {
    let (mut intents, mut outcomes): (BTreeMap<_, usize>, BTreeMap<_, usize>) = Default::default();
    let versions =
        |leaf: &AuditLeaf| matches!(leaf.operation.as_str(), "object_put" | "object_delete" | "sweep");
    for leaf in leaves {
        // A tenant's creation is announced by its principal, and told by its id.
        let subject = if leaf.operation == "tenant_create" { "" } else { leaf.subject.as_str() };
        let operation = if versions(leaf) { "version" } else { leaf.operation.as_str() };
        let count = if leaf.outcome == "intent" { &mut intents } else { &mut outcomes };
        *count.entry((operation, subject)).or_default() += 1;
    }
    let other = |(key, count): (&(&str, &str), &usize)| {
        let ended = outcomes.get(key).copied().unwrap_or_default();
        (ended != *count).then(|| format!("{key:?}: {count} intents, {ended} outcomes"))
    };
    (intents.values().sum(), intents.iter().filter_map(other).collect())
}

/// The leaves of every log below `data`, which no service has open.
async fn logs(data: &Path, deployment: &Deployment) -> Vec<Vec<AuditLeaf>> {
    let keys = coffer_tests::catalogue_keys(data, deployment.root()).await;
    let leaves = |(tenant, key): (&_, &_)| {
        let leaves = coffer_tests::leaves(data, *tenant, key);
        leaves.iter().map(|leaf| AuditLeaf::read(leaf)).collect()
    };
    // A tenant whose creation was cut off may have keys and no catalogue yet.
    let there = |(tenant, _): &(&coffer_model::TenantId, &_)| {
        data.join(format!("service/catalogues/{tenant}.db")).exists()
    };
    keys.iter().filter(there).map(leaves).collect()
}

async fn settled(data: &Path, deployment: &Deployment, when: &str) -> (usize, usize) {
    let logs = logs(data, deployment).await;
    let (mut intents, mut interrupted) = (0, 0);
    for leaves in &logs {
        let (count, open) = open_intents(leaves);
        assert!(open.is_empty(), "{when}: {open:?}");
        intents += count;
        interrupted += leaves.iter().filter(|leaf| leaf.outcome == "interrupted").count();
    }
    (intents, interrupted)
}

/// Opens the deployment with that moment and lives until it comes; none if it
/// never does. While the service is held, its files stay as they are.
async fn cut(
    deployment: &Deployment,
    tenant: &TenantClient,
    base: &Path,
    run: &Path,
    moment: &Arc<Moment>,
) -> Option<Arc<Service>> {
    copy_tree(base, run);
    let service = Service::open(mortal(deployment.host(), moment), run, deployment.root()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(serve(Arc::clone(&service), listener, std::future::pending()));
    let at = |credentials: &Credentials| Credentials {
        ca_pem: credentials.ca_pem.clone(),
        certificate_pem: credentials.certificate_pem.clone(),
        key_pem: credentials.key_pem.clone(),
        endpoint: endpoint.clone(),
    };
    let client = Client::connect(&at(&tenant.credentials), deployment.options()).await.unwrap();
    let operator =
        Client::connect(&at(deployment.operator_credentials()), deployment.options()).await.unwrap();
    let came = tokio::select! {
        () = moment.reached.notified() => true,
        () = live(&client, &operator, 1) => false,
    };
    server.abort();
    // Its watch over the sites is over too, and writes nothing any more.
    drop(server.await);
    came.then_some(service)
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_the_power_fails_the_next_start_gives_each_intent_exactly_one_outcome() {
    let mut deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    tenant.client.create_bucket(&bucket_name("things"), None).await.unwrap();
    deployment.stop().await;
    let base = deployment.data();
    let (mut step, mut interrupted, mut cuts) = (1, 0, 0);
    loop {
        let moment = Moment::at(step, step % 2 == 0);
        let run = deployment.scratch().join(format!("run-{step}"));
        let Some(service) = cut(&deployment, &tenant, &base, &run, &moment).await else { break };
        // What was cut off may still hold its locks; its disks are copied.
        let after = deployment.scratch().join(format!("after-{step}"));
        copy_tree(&run, &after);
        drop(service);
        let mut before = 0;
        let starts = ["the first start", "the second start"];
        for start in starts.into_iter().take(if step % 4 == 0 { 2 } else { 1 }) {
            let service = Service::open(deployment.host(), &after, deployment.root()).await.unwrap();
            service.shut_down().await.unwrap();
            drop(service);
            let (intents, found) = settled(&after, &deployment, &format!("step {step}, {start}")).await;
            assert!(start == "the first start" || found == before, "step {step}: told twice");
            assert!(intents > 0);
            before = found;
        }
        interrupted += before;
        std::fs::remove_dir_all(&after).unwrap();
        std::fs::remove_dir_all(&run).unwrap();
        (step, cuts) = (step + 1, cuts + 1);
    }
    assert!(cuts >= 40, "{cuts} moments");
    assert!(interrupted > 0, "some moment left an intent that only a start could end");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_of_all_kinds_of_calls_it_leaves_no_intent_open_and_none_ended_twice() {
    let mut deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    tenant.client.create_bucket(&bucket_name("things"), None).await.unwrap();
    deployment.stop().await;
    for life in 0..8_u64 {
        let process = Process::start(PROGRAM, &deployment);
        let done = Arc::new(Notify::new());
        let mut calls = tokio::task::JoinSet::new();
        for writer in 0..3 {
            let client = process.connect(&deployment, &tenant.credentials).await;
            let operator = process.connect(&deployment, deployment.operator_credentials()).await;
            let done = Arc::clone(&done);
            calls.spawn(async move {
                for turn in 0..3 {
                    live(&client, &operator, life * 100 + writer * 10 + turn).await;
                    done.notify_one();
                }
            });
        }
        // As soon as one of three is through, the others are in the midst of it.
        done.notified().await;
        process.kill();
        calls.shutdown().await;
    }
    deployment.start().await;
    deployment.stop().await;
    let (intents, _) = settled(&deployment.data(), &deployment, "after eight kills").await;
    assert!(intents > 100, "{intents} intents");
}
