//! Readers that meet a site which was asked too late, is wrong for a moment,
//! or never had what it is asked for: nothing is lost, nobody is blamed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use coffer_model::{Degraded, RecordId, ResidencyPolicy};
use coffer_regions::{Receipt, Record, RecordKind, Site, SiteError};
use coffer_server::{JobSettings, RepairBudget};
use coffer_tests::{
    Deployment, Gate, Gated, Twist, bucket_name, fast_sites, host, object_key, pattern, policy, roomy,
    twisted,
};
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_began_before_the_version_moved_is_answered_from_where_it_is_now() {
    let mut host = host();
    let (sites, gate) = Gate::before(host.sites, Gated::Gets);
    host.sites = sites;
    let deployment = Deployment::six_sites_on(host).await;
    let tenant = Arc::new(deployment.tenant_with("acme", roomy(&[])).await);
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "moving", pattern(7, 300)).await;
    let holders = tenant.client.stat(&bucket, &object_key("moving")).await.unwrap().sites;
    let mut countries = Vec::new();
    for holder in &holders {
        countries.push(deployment.site(holder).await.country.to_string());
    }
    let denied: Vec<&str> = countries.iter().map(String::as_str).collect();

    gate.shut();
    let reader = Arc::clone(&tenant);
    let read = tokio::spawn(async move { reader.get(&bucket_name("things"), "moving").await });
    gate.holds_one().await;
    gate.let_others_pass();
    tenant.client.set_bucket_policy(&bucket, &roomy(&denied)).await.unwrap();
    let report = deployment.service().repair_once(RepairBudget::default()).await.unwrap();
    assert_eq!(report.moved, 1, "{report:?}");
    gate.open();
    assert!(read.await.unwrap().unwrap() == pattern(7, 300));
}

/// A site whose next read of a shard says that it is damaged, and which from
/// then on takes no shard.
struct Moment {
    inner: Arc<dyn Site>,
    armed: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
}

#[async_trait]
impl Twist for Moment {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        let record = self.inner.get(id).await?;
        if record.kind() == RecordKind::Shard && self.armed.swap(false, Ordering::SeqCst) {
            self.full.store(true, Ordering::SeqCst);
            return Err(SiteError::Damaged);
        }
        Ok(record)
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let shards = records.iter().any(|record| record.kind() == RecordKind::Shard);
        if shards && self.full.load(Ordering::SeqCst) {
            return Err(SiteError::Full);
        }
        self.inner.put(records).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_takes_no_shard_from_a_site_that_cannot_take_a_new_one() {
    let (armed, full) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let all = Arc::new(Mutex::new(Vec::<Arc<dyn Site>>::new()));
    let mut host = host();
    let (of_armed, of_full, of_all) = (Arc::clone(&armed), Arc::clone(&full), Arc::clone(&all));
    host.sites = twisted(host.sites, move |inner| {
        of_all.lock().unwrap().push(Arc::clone(&inner));
        let (armed, full) = (Arc::clone(&of_armed), Arc::clone(&of_full));
        Moment { inner, armed, full }
    });
    let deployment = Deployment::six_sites_on(host).await;
    let tenant = deployment.tenant_with("acme", policy(&[])).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "striped", pattern(7, 90_000)).await;
    let sites: Vec<Arc<dyn Site>> = all.lock().unwrap().clone();
    let shards = async || {
        let mut count = 0;
        for site in &sites {
            count += site.list(RecordKind::Shard, None, 100).await.unwrap().len();
        }
        count
    };
    let before = shards().await;
    assert_eq!(before, 6);
    armed.store(true, Ordering::SeqCst);
    assert!(tenant.get(&bucket, "striped").await.unwrap() == pattern(7, 90_000));
    assert!(full.load(Ordering::SeqCst), "a read met the site at its bad moment");
    assert_eq!(shards().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_away_while_a_put_was_accepted_without_it_is_charged_with_nothing() {
    let deployment = Deployment::with_sites(&fast_sites()).await;
    let accepting = ResidencyPolicy { degraded: Degraded::Accept, ..policy(&[]) };
    let tenant = deployment.tenant_with("acme", accepting).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let operator = deployment.operator().await;
    operator.set_site_alive("fra1", false).await.unwrap();
    let keys: Vec<String> = (0..12).map(|n| format!("reduced-{n}")).collect();
    for key in &keys {
        tenant.put(&bucket, key, pattern(3, 80_000)).await;
    }
    operator.set_site_alive("fra1", true).await.unwrap();
    for key in &keys {
        assert!(tenant.get(&bucket, key).await.unwrap() == pattern(3, 80_000));
    }
    assert_eq!(deployment.site("fra1").await.reported, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_told_to_leave_does_not_wait_for_a_repair_that_somebody_runs() {
    let mut deployment = Deployment::six_sites().await;
    deployment.set_jobs(JobSettings::BY_HAND);
    let tenant = deployment.tenant_with("acme", policy(&[])).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "striped", pattern(3, 3 << 20)).await;
    let dir = deployment.site_dir("fra1");
    drop(tenant);
    deployment.stop().await;
    std::fs::remove_dir_all(dir).unwrap();
    deployment.start().await;
    let operator = deployment.operator().await;
    operator.change_site("fra1", coffer_client::SiteChange::Replace).await.unwrap();
    let (send, mut began) = watch::channel(false);
    let run = tokio::spawn(async move {
        let request = coffer_client::RepairOptions { bytes_per_second: 1, ..Default::default() };
        operator.run_repair(request, |_| _ = send.send_replace(true)).await.map(drop)
    });
    began.wait_for(|began| *began).await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(120), deployment.stop()).await;
    assert!(stopped.is_ok(), "a repair of one byte a second holds the service");
    assert!(run.await.unwrap().is_err(), "whoever waits for the repair is told");
}
