//! What was asked for and never answered, and comes to light at a slow site
//! long after: it is older than all that was acknowledged since, through every
//! rebuild of a catalogue that never heard of it.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use coffer_client::{CallError, GetError};
use coffer_model::{BucketName, RecordId};
use coffer_regions::{ClearGeometry, Receipt, Record, RecordKind, Site, SiteError};
use coffer_server::RecoveryKit;
use coffer_tests::{
    Deployment, TenantClient, Twist, bucket_name, host, object_key, pattern, policy, twisted,
};

/// Records that no answer is given for: the named site stores them later, the
/// others never.
#[derive(Default)]
struct Post {
    kinds: Vec<RecordKind>,
    slow: String,
    late: Vec<Record>,
    /// The sites as they are open now.
    sites: BTreeMap<String, Weak<dyn Site>>,
}

type Shared = Arc<Mutex<Post>>;

struct Slow {
    inner: Arc<dyn Site>,
    post: Shared,
}

#[async_trait]
impl Twist for Slow {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        {
            let mut post = self.post.lock().unwrap();
            if records.iter().any(|record| post.kinds.contains(&record.kind())) {
                if self.inner.description().name == post.slow {
                    post.late.extend(records);
                }
                return Err(SiteError::Unreachable);
            }
        }
        self.inner.put(records).await
    }
}

/// From now on these kinds of records get no answer.
fn lose(post: &Shared, kinds: &[RecordKind], slow: &str) {
    let mut post = post.lock().unwrap();
    (post.kinds, post.slow) = (kinds.to_vec(), slow.to_owned());
}

/// What was late arrives.
async fn deliver(post: &Shared, slow: &str) {
    let (late, site) = {
        let mut post = post.lock().unwrap();
        (std::mem::take(&mut post.late), post.sites[slow].upgrade().unwrap())
    };
    assert!(!late.is_empty(), "something was on its way");
    for record in late {
        site.put(vec![record]).await.unwrap();
    }
}

async fn slow_deployment() -> (Deployment, TenantClient, Shared) {
    let post = Shared::default();
    let mut host = host();
    let shared = Arc::clone(&post);
    host.sites = twisted(host.sites, move |inner| {
        let name = inner.description().name.clone();
        shared.lock().unwrap().sites.insert(name, Arc::downgrade(&inner));
        Slow { inner, post: Arc::clone(&shared) }
    });
    let deployment = Deployment::six_sites_on(host).await;
    let tenant = deployment.tenant_with("acme", policy(&[])).await;
    (deployment, tenant, post)
}

async fn rebuild(deployment: &mut Deployment, tenant: &mut TenantClient) {
    let kit = deployment.service().kit().await.unwrap();
    lose_catalogues(deployment, tenant, &kit).await;
}

async fn lose_catalogues(deployment: &mut Deployment, tenant: &mut TenantClient, kit: &RecoveryKit) {
    deployment.stop().await;
    deployment.lose_all_but_sites();
    deployment.recover(kit).await;
    deployment.reconnect(tenant).await;
}

/// A put of which nobody tells that it stands. It is not repeated.
async fn put_in_vain(tenant: &TenantClient, bucket: &BucketName, key: &str, body: Bytes) {
    let put = futures::stream::iter([Ok(body)]);
    let told = tenant.client.put(bucket, &object_key(key), Default::default(), put).await.unwrap_err();
    assert!(told.to_string().contains("undecided"), "{told}");
}

const KEYS: u64 = 8;
/// The site at which late records arrive.
const SLOW: &str = "sto1";

fn name(n: u64) -> String {
    format!("key-{n}")
}

/// Puts of all keys whose manifests are late. Of the tombstones that were to
/// withdraw them nothing ever arrives.
async fn put_all_in_vain(tenant: &TenantClient, bucket: &BucketName, post: &Shared, from: u64) {
    lose(post, &[RecordKind::Manifest, RecordKind::Tombstone], SLOW);
    for n in 0..KEYS {
        put_in_vain(tenant, bucket, &name(n), pattern(from + n, 500)).await;
    }
    post.lock().unwrap().late.retain(|record| record.kind() == RecordKind::Manifest);
    lose(post, &[], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_a_lost_catalogue_forgot_is_older_than_what_was_put_or_deleted_since() {
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    put_all_in_vain(&tenant, &bucket, &post, 0).await;
    lose_catalogues(&mut deployment, &mut tenant, &kit).await;

    for n in 0..KEYS {
        tenant.put(&bucket, &name(n), pattern(100 + n, 500)).await;
    }
    deliver(&post, SLOW).await;
    rebuild(&mut deployment, &mut tenant).await;
    for n in 0..KEYS {
        assert_eq!(tenant.get(&bucket, &name(n)).await.unwrap(), pattern(100 + n, 500), "the last put shows");
        tenant.client.delete(&bucket, &object_key(&name(n))).await.unwrap();
    }
    rebuild(&mut deployment, &mut tenant).await;
    for n in 0..KEYS {
        let read = tenant.get(&bucket, &name(n)).await;
        assert!(matches!(read, Err(GetError::Call(CallError::NotFound(_)))), "{read:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_lost_catalogues_forgot_is_older_than_what_the_third_stored() {
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    for life in 0..2 {
        put_all_in_vain(&tenant, &bucket, &post, life * 10).await;
        // Nothing was stored since: the sites show the same as before.
        lose_catalogues(&mut deployment, &mut tenant, &kit).await;
    }
    for n in 0..KEYS {
        tenant.put(&bucket, &name(n), pattern(100 + n, 500)).await;
    }
    deliver(&post, SLOW).await;
    rebuild(&mut deployment, &mut tenant).await;
    for n in 0..KEYS {
        assert_eq!(tenant.get(&bucket, &name(n)).await.unwrap(), pattern(100 + n, 500), "the last put shows");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_into_a_bucket_whose_removal_is_undecided_is_refused_or_outlives_the_catalogue() {
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    lose(&post, &[RecordKind::Registry], SLOW);
    let told = tenant.client.remove_bucket(&bucket).await.unwrap_err();
    assert!(told.to_string().contains("undecided"), "{told}");
    lose(&post, &[], "");
    let put = futures::stream::iter([Ok(pattern(1, 500))]);
    let key = object_key("object");
    let put = tenant.client.put(&bucket, &key, Default::default(), put);
    let stands = put.await.is_ok();
    deliver(&post, SLOW).await;
    rebuild(&mut deployment, &mut tenant).await;
    let there = tenant.get(&bucket, "object").await.is_ok();
    assert_eq!(stands, there, "what was acknowledged is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_was_undecided_is_finished_by_asking_again() {
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    lose(&post, &[RecordKind::Registry], SLOW);
    assert!(tenant.client.remove_bucket(&bucket).await.is_err());
    let again = tenant.client.remove_bucket(&bucket).await.unwrap_err();
    assert!(again.to_string().contains("undecided"), "{again}");
    lose(&post, &[], "");
    tenant.client.remove_bucket(&bucket).await.unwrap();
    assert!(tenant.client.list_buckets().await.unwrap().is_empty());
    // The name is free, and the late copies say nothing of the new bucket.
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "object", pattern(1, 500)).await;
    deliver(&post, SLOW).await;
    rebuild(&mut deployment, &mut tenant).await;
    assert_eq!(tenant.get(&bucket, "object").await.unwrap(), pattern(1, 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_was_undecided_is_finished_by_the_next_start_and_counts_no_more_once_it_was_removed()
{
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let bucket = bucket_name("things");
    lose(&post, &[RecordKind::Registry], SLOW);
    let told = tenant.client.create_bucket(&bucket, None).await.unwrap_err();
    assert!(told.to_string().contains("undecided"), "{told}");
    lose(&post, &[], "");
    deployment.between(&mut tenant, async |_| ()).await;
    assert_eq!(tenant.client.list_buckets().await.unwrap().len(), 1, "it was asked for");
    tenant.client.remove_bucket(&bucket).await.unwrap();
    deliver(&post, SLOW).await;
    rebuild(&mut deployment, &mut tenant).await;
    assert!(tenant.client.list_buckets().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_a_lost_catalogue_forgot_does_not_come_back_after_a_later_bucket_of_its_name() {
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let bucket = bucket_name("things");
    let kit = deployment.service().kit().await.unwrap();
    lose(&post, &[RecordKind::Registry], SLOW);
    assert!(tenant.client.create_bucket(&bucket, None).await.is_err());
    lose(&post, &[], "");
    lose_catalogues(&mut deployment, &mut tenant, &kit).await;
    assert!(tenant.client.list_buckets().await.unwrap().is_empty());
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.client.remove_bucket(&bucket).await.unwrap();
    deliver(&post, SLOW).await;
    rebuild(&mut deployment, &mut tenant).await;
    assert!(tenant.client.list_buckets().await.unwrap().is_empty());
}

/// What is deleted is not shown by a rebuild, nor by the next one, which lacks the
/// site that knew of it.
async fn stays_deleted(
    deployment: &mut Deployment,
    tenant: &mut TenantClient,
    kit: &RecoveryKit,
    bucket: &BucketName,
) {
    lose_catalogues(deployment, tenant, kit).await;
    let read = tenant.get(bucket, "a").await;
    assert!(matches!(read, Err(GetError::Call(CallError::NotFound(_)))), "{read:?}");

    deployment.stop().await;
    deployment.lose_all_but_sites();
    std::fs::remove_dir_all(deployment.site_dir(SLOW)).unwrap();
    deployment.recover(kit).await;
    deployment.reconnect(tenant).await;
    let read = tenant.get(bucket, "a").await;
    assert!(matches!(read, Err(GetError::Call(CallError::NotFound(_)))), "{read:?}");
}

/// A deletion of which, in the end, one site alone knows.
async fn delete_in_vain(tenant: &TenantClient, bucket: &BucketName, key: &str, post: &Shared) {
    lose(post, &[RecordKind::Tombstone], SLOW);
    let told = tenant.client.delete(bucket, &object_key(key)).await.unwrap_err();
    assert!(told.to_string().contains("undecided"), "{told}");
    lose(post, &[], "");
}

/// A bucket with such an object, `a`, and a kit of before.
async fn deleted_in_vain(
    deployment: &Deployment,
    tenant: &TenantClient,
    post: &Shared,
) -> (BucketName, RecoveryKit) {
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "a", pattern(1, 300_000)).await;
    let kit = deployment.service().kit().await.unwrap();
    delete_in_vain(tenant, &bucket, "a", post).await;
    (bucket, kit)
}

fn away(deployment: &Deployment) -> PathBuf {
    deployment.scratch().join("away")
}

/// The only site that knows is away while the catalogue is made again.
async fn rebuild_without_slow(deployment: &mut Deployment, tenant: &mut TenantClient, kit: &RecoveryKit) {
    deployment.stop().await;
    std::fs::rename(deployment.site_dir(SLOW), away(deployment)).unwrap();
    deployment.lose_all_but_sites();
    deployment.recover(kit).await;
    deployment.reconnect(tenant).await;
}

fn slow_returns(deployment: &Deployment) {
    std::fs::rename(away(deployment), deployment.site_dir(SLOW)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_one_rebuild_has_shown_is_shown_by_the_next_whatever_another_site_says_of_it() {
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let (bucket, kit) = deleted_in_vain(&deployment, &tenant, &post).await;
    // A site that is asked before the one that knows has something else under its id.
    let liar = {
        let post = post.lock().unwrap();
        let [tombstone] = &post.late[..] else { panic!("{} records", post.late.len()) };
        let body = Bytes::from(vec![1; tombstone.body().len()]);
        let lie = Record::new(RecordKind::Tombstone, tombstone.id(), ClearGeometry::default(), body).unwrap();
        (post.sites["fra1"].upgrade().unwrap(), lie)
    };
    liar.0.put(vec![liar.1]).await.unwrap();
    drop(liar.0);
    deliver(&post, SLOW).await;
    stays_deleted(&mut deployment, &mut tenant, &kit, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_comes_to_light_late_hides_nothing_that_was_put_under_a_legal_hold_meanwhile() {
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for key in ["case/held", "free"] {
        tenant.put(&bucket, key, pattern(1, 300)).await;
    }
    let kit = deployment.service().kit().await.unwrap();
    for key in ["case/held", "free"] {
        delete_in_vain(&tenant, &bucket, key, &post).await;
    }
    deliver(&post, SLOW).await;
    rebuild_without_slow(&mut deployment, &mut tenant, &kit).await;
    assert_eq!(tenant.get(&bucket, "case/held").await.unwrap(), pattern(1, 300));
    let hold = tenant.client.place_hold(&bucket, b"case/", false, "case 7").await.unwrap();
    deployment.between(&mut tenant, async |stopped| slow_returns(stopped)).await;
    assert_eq!(tenant.get(&bucket, "case/held").await.unwrap(), pattern(1, 300), "what is held stands");
    let free = tenant.get(&bucket, "free").await;
    assert!(matches!(free, Err(GetError::Call(CallError::NotFound(_)))), "{free:?}");
    let leaves = tenant.leaves().await;
    let told =
        leaves.iter().find(|leaf| leaf.operation == "rebuild" && leaf.subject.contains("came to light"));
    assert!(told.unwrap().subject.contains(&hold.id.to_string()), "the log says why");
    // No later rebuild takes it up either.
    rebuild(&mut deployment, &mut tenant).await;
    assert_eq!(tenant.get(&bucket, "case/held").await.unwrap(), pattern(1, 300));
}

/// The sites as they are open now.
fn open_sites(post: &Shared) -> Vec<Arc<dyn Site>> {
    post.lock().unwrap().sites.values().map(|site| site.upgrade().unwrap()).collect()
}

/// The manifest records at all sites.
async fn manifests(post: &Shared) -> BTreeSet<RecordId> {
    let mut all = BTreeSet::new();
    for site in open_sites(post) {
        let listed = site.list(RecordKind::Manifest, None, usize::MAX).await.unwrap();
        all.extend(listed.into_iter().map(|line| line.id));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_the_deletion_of_a_later_version_that_no_site_has_any_more() {
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "case/held", pattern(1, 300)).await;
    let kit = deployment.service().kit().await.unwrap();
    let before = manifests(&post).await;
    tenant.put(&bucket, "case/held", pattern(2, 300)).await;
    delete_in_vain(&tenant, &bucket, "case/held", &post).await;
    deliver(&post, SLOW).await;
    let later: Vec<_> = manifests(&post).await.difference(&before).copied().collect();
    assert_eq!(later.len(), 1);
    for site in open_sites(&post) {
        site.delete(later.clone()).await.unwrap();
    }
    rebuild_without_slow(&mut deployment, &mut tenant, &kit).await;
    assert_eq!(tenant.get(&bucket, "case/held").await.unwrap(), pattern(1, 300), "more was lost than may be");
    tenant.client.place_hold(&bucket, b"case/", false, "case 7").await.unwrap();
    deployment.between(&mut tenant, async |stopped| slow_returns(stopped)).await;
    assert_eq!(tenant.get(&bucket, "case/held").await.unwrap(), pattern(1, 300), "what is held stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_one_rebuild_has_shown_is_shown_by_the_next_whichever_site_is_lost() {
    let (mut deployment, mut tenant, post) = slow_deployment().await;
    let (bucket, kit) = deleted_in_vain(&deployment, &tenant, &post).await;
    // One site alone knows of it, and the catalogue that did is gone.
    deliver(&post, SLOW).await;
    stays_deleted(&mut deployment, &mut tenant, &kit, &bucket).await;
}
