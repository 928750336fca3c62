//! The log outlives its catalogue, extends what was signed, and a service that
//! went back in time is refused.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use coffer_client::{LogError, LogWatch, note_subject_names};
use coffer_model::{Digest, RecordId};
use coffer_regions::{Record, RecordKind, Site, SiteError};
use coffer_server::{OpenError, RecoverError, RecoveryKit, Service};
use coffer_tests::{
    Deployment, TenantClient, Twist, bucket_name, copy_tree, host, pattern, replace_tree, twisted,
};

const SITES: [&str; 6] = ["fra1", "par1", "ams1", "zrh1", "sto1", "mad1"];

async fn with_some_history() -> (Deployment, TenantClient) {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    tenant.client.create_bucket(&bucket_name("things"), None).await.unwrap();
    tenant.put(&bucket_name("things"), "object", pattern(1, 70_000)).await;
    (deployment, tenant)
}

/// A watch that remembers what another remembered, as after a restart of the client.
fn remembering(tenant: &TenantClient, watch: &LogWatch) -> LogWatch {
    let remembered = watch.remembered().map(str::to_owned);
    LogWatch::new(tenant.log_origin.clone(), tenant.log_key, remembered).unwrap()
}

/// The log records of all sites, in order of their ids: no site has every run.
async fn log_records(deployment: &Deployment, kit: &RecoveryKit) -> BTreeSet<RecordId> {
    let mut all = BTreeSet::new();
    for name in SITES {
        let listed = deployment.open_site(kit, name).list(RecordKind::Log, None, usize::MAX).await.unwrap();
        all.extend(listed.iter().map(|line| line.id));
    }
    all
}

/// Removes the log records of a site, but for those that are kept.
async fn lose_log_records(deployment: &Deployment, kit: &RecoveryKit, name: &str, kept: &BTreeSet<RecordId>) {
    let site = deployment.open_site(kit, name);
    let listed = site.list(RecordKind::Log, None, usize::MAX).await.unwrap();
    let ids = listed.iter().map(|line| line.id).filter(|id| !kept.contains(id)).collect();
    site.delete(ids).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_remembers_a_checkpoint_refuses_a_service_that_went_back() {
    let (mut deployment, mut tenant) = with_some_history().await;
    let old = deployment.scratch().join("old");
    deployment.stop().await;
    copy_tree(&deployment.data(), &old);
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    for n in 0..5 {
        tenant.put(&bucket_name("things"), "object", pattern(n, 100)).await;
    }
    let mut watch = tenant.watch();
    let seen = watch.advance(&tenant.client).await.unwrap();

    deployment.stop().await;
    replace_tree(&old, &deployment.data());
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    let mut after = remembering(&tenant, &watch);
    let refused = after.advance(&tenant.client).await;
    assert!(matches!(refused, Err(LogError::WentBack { remembered, .. }) if remembered == seen.size));
    // Nor does it help to grow past the remembered size: the past is another.
    for n in 0..10 {
        tenant.put(&bucket_name("things"), "object", pattern(n, 100)).await;
    }
    assert!(tenant.watch().advance(&tenant.client).await.unwrap().size > seen.size);
    assert!(matches!(after.advance(&tenant.client).await, Err(LogError::WentBack { .. })));
    assert_eq!(after.remembered(), watch.remembered(), "what was remembered stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn consistency_and_inclusion_hold_through_restarts_and_through_the_loss_of_the_catalogue() {
    let (mut deployment, mut tenant) = with_some_history().await;
    let mut watch = tenant.watch();
    let first = watch.advance(&tenant.client).await.unwrap();
    let digest = Digest(*blake3::hash(b"a manifest").as_bytes());
    let index = tenant.client.note_digest("manifest", &digest).await.unwrap();
    let noted = watch.advance(&tenant.client).await.unwrap();
    assert!(noted.size > index && noted.size > first.size);

    for lost in [false, true, true] {
        let kit = deployment.service().kit().await.unwrap();
        deployment.stop().await;
        if lost {
            deployment.lose_all_but_sites();
            deployment.recover(&kit).await;
        } else {
            deployment.start().await;
        }
        deployment.reconnect(&mut tenant).await;
        watch = remembering(&tenant, &watch);
        let now = watch.advance(&tenant.client).await.unwrap();
        assert!(now.size > noted.size);
        for checkpoint in [&noted, &now] {
            let proof = watch.leaf(&tenant.client, index, checkpoint).await.unwrap();
            assert!(note_subject_names(&proof.leaf, &digest));
            assert!(!note_subject_names(&proof.leaf, &Digest([0; 32])));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_checkpoint_covers_survives_the_loss_of_the_catalogue_and_two_sites_without_a_clean_stop() {
    let (mut deployment, mut tenant) = with_some_history().await;
    let index = tenant.client.note_digest("manifest", &Digest([5; 32])).await.unwrap();
    let mut watch = tenant.watch();
    let signed = watch.advance(&tenant.client).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    // The disks as they are at this moment, as if the power had failed.
    let moment = deployment.scratch().join("moment");
    copy_tree(&deployment.data(), &moment);
    deployment.stop().await;
    replace_tree(&moment, &deployment.data());
    deployment.lose_all_but_sites();
    for lost in ["par1", "mad1"] {
        std::fs::remove_dir_all(deployment.site_dir(lost)).unwrap();
    }
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    assert!(watch.advance(&tenant.client).await.unwrap().size > signed.size);
    let proof = watch.leaf(&tenant.client, index, &signed).await.unwrap();
    assert!(note_subject_names(&proof.leaf, &Digest([5; 32])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_misses_leaves_at_every_site_is_refused_by_name_and_never_served() {
    let (mut deployment, tenant) = with_some_history().await;
    let kit = deployment.service().kit().await.unwrap();
    drop(tenant);
    deployment.stop().await;
    let whole = deployment.scratch().join("whole");
    copy_tree(&deployment.data(), &whole);
    for keep in [0, 1] {
        replace_tree(&whole, &deployment.data());
        let kept = log_records(&deployment, &kit).await.into_iter().take(keep).collect();
        for name in SITES {
            lose_log_records(&deployment, &kit, name, &kept).await;
        }
        deployment.lose_all_but_sites();
        for attempt in 1..=2 {
            let refused = deployment.try_recover(&kit).await;
            let Err(error @ RecoverError::History { .. }) = refused else {
                panic!("attempt {attempt} with {keep} log records left was not refused")
            };
            assert!(error.to_string().contains("does not extend the checkpoint pinned"), "{error}");
            assert!(matches!(deployment.try_start().await, Err(OpenError::NotFounded(_))));
            assert!(!Service::is_founded(&deployment.data()));
        }
    }
    // The same kit and the records that were kept: nothing was harmed.
    replace_tree(&whole, &deployment.data());
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_records_lost_at_as_many_sites_as_may_be_lost_are_found_at_the_others() {
    let (mut deployment, mut tenant) = with_some_history().await;
    let mut watch = tenant.watch();
    watch.advance(&tenant.client).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    for name in &SITES[..2] {
        lose_log_records(&deployment, &kit, name, &BTreeSet::new()).await;
    }
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    watch.advance(&tenant.client).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kit_of_another_deployment_or_with_a_forged_checkpoint_recovers_nothing() {
    let (mut deployment, tenant) = with_some_history().await;
    let kit = deployment.service().kit().await.unwrap();
    drop(tenant);
    deployment.stop().await;
    deployment.lose_all_but_sites();
    let forged = RecoveryKit::from_json(&kit.to_json().unwrap().replace("\\n\\n", "\\n1\\n\\n")).unwrap();
    let refused = deployment.try_recover(&forged).await;
    assert!(matches!(refused, Err(RecoverError::History { .. })), "a note that was changed");

    let other = Deployment::six_sites().await;
    let mut foreign = other.service().kit().await.unwrap();
    foreign.sites.clone_from(&kit.sites);
    assert!(matches!(deployment.try_recover(&foreign).await, Err(RecoverError::History { .. })));
    assert!(!Service::is_founded(&deployment.data()));
    deployment.recover(&kit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_not_signed_while_too_few_sites_can_keep_its_leaves() {
    let (deployment, tenant) = with_some_history().await;
    let operator = deployment.operator().await;
    for name in &SITES[..4] {
        operator.set_site_alive(name, false).await.unwrap();
    }
    let mut wire = deployment.wire(&tenant.credentials).await;
    let request =
        coffer_proto::v1::GetCheckpointRequest { tenant: Bytes::new(), since_size: 0, cosigned: false };
    let refused = wire.log.get_checkpoint(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    for name in &SITES[..4] {
        operator.set_site_alive(name, true).await.unwrap();
    }
    assert!(wire.log.get_checkpoint(request).await.is_ok());
}

/// Gives each run of leaves once, and answers nothing when it is asked again.
struct FallsSilent {
    inner: Arc<dyn Site>,
    now: Arc<AtomicBool>,
    given: Arc<Mutex<BTreeSet<RecordId>>>,
}

#[async_trait]
impl Twist for FallsSilent {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        let record = self.inner.get(id).await?;
        let is_run = self.now.load(Ordering::Relaxed) && record.kind() == RecordKind::Log;
        if is_run && !self.given.lock().unwrap().insert(id) {
            return Err(SiteError::Unreachable);
        }
        Ok(record)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_sites_fall_silent_between_two_looks_at_it_is_not_rebuilt_shorter() {
    let (now, given) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let mut host = host();
    let twist = (Arc::clone(&now), Arc::clone(&given));
    host.sites = twisted(host.sites, move |inner| {
        let (now, given) = (Arc::clone(&twist.0), Arc::clone(&twist.1));
        FallsSilent { inner, now, given }
    });
    // No tenant: the walk of the next rebuild would ask again, and be refused for that.
    let mut deployment = Deployment::six_sites_on(host).await;
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    now.store(true, Ordering::Relaxed);
    match deployment.try_recover(&kit).await {
        Err(RecoverError::Open(OpenError::Rebuild(refused))) => {
            let why = refused.to_string();
            assert!(why.contains("fell silent") || why.contains("no site answered"), "{why}");
        }
        other => panic!("recovered with a log that nobody read: {other:?}"),
    }
    now.store(false, Ordering::Relaxed);
    deployment.recover(&kit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaves_that_a_rebuild_found_at_few_sites_are_at_enough_before_a_checkpoint_covers_them() {
    let (mut deployment, mut tenant) = with_some_history().await;
    let mut watch = tenant.watch();
    watch.advance(&tenant.client).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    // Of each run one copy is left, of four.
    let mut elsewhere = BTreeSet::new();
    for name in SITES {
        let listed = deployment.open_site(&kit, name).list(RecordKind::Log, None, usize::MAX).await.unwrap();
        let first: BTreeSet<RecordId> =
            listed.iter().map(|line| line.id).filter(|id| !elsewhere.contains(id)).collect();
        lose_log_records(&deployment, &kit, name, &first).await;
        elsewhere.extend(first);
    }
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    let signed = watch.advance(&tenant.client).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    // The only ones that had copies of most of them then.
    for lost in ["fra1", "par1"] {
        std::fs::remove_dir_all(deployment.site_dir(lost)).unwrap();
    }
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    assert!(watch.advance(&tenant.client).await.unwrap().size > signed.size);
}
