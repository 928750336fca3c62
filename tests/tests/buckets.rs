//! What a tenant changes about its buckets stays changed, whatever the clock
//! and the sites do, and a catalogue rebuilt from the sites agrees.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use coffer_client::CallError;
use coffer_model::{BucketName, ResidencyPolicy, Tier};
use coffer_server::Host;
use coffer_tests::{
    COUNTRIES, Deployment, HandClock, TenantClient, bucket_name, host, object_key, pattern, policy, roomy,
};

async fn policy_of(tenant: &TenantClient, bucket: &BucketName) -> ResidencyPolicy {
    let buckets = tenant.client.list_buckets().await.unwrap();
    buckets.into_iter().find(|found| found.name == *bucket).unwrap().policy
}

/// Loses everything but the sites, and recovers from them.
async fn rebuild(deployment: &mut Deployment, tenant: &mut TenantClient) {
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_policy_outlives_the_catalogue_even_where_the_clock_went_back_between_two_changes() {
    let clock = Arc::new(HandClock::still());
    let mut deployment = Deployment::six_sites_on(Host { clock: Arc::clone(&clock) as _, ..host() }).await;
    let mut tenant = deployment.tenant_with("acme", roomy(&[])).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    // Three changes, the clock going back before each.
    for country in ["DE", "FR", "NL"] {
        clock.set_back(Duration::from_secs(3600));
        tenant.client.set_bucket_policy(&bucket, &roomy(&[country])).await.unwrap();
    }
    rebuild(&mut deployment, &mut tenant).await;
    assert_eq!(policy_of(&tenant, &bucket).await, roomy(&["NL"]));
    // The rebuilt catalogue goes on from there.
    clock.set_back(Duration::from_secs(3600));
    tenant.client.set_bucket_policy(&bucket, &roomy(&["SE"])).await.unwrap();
    rebuild(&mut deployment, &mut tenant).await;
    assert_eq!(policy_of(&tenant, &bucket).await, roomy(&["SE"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_at_once_end_as_one_of_them_and_a_rebuild_says_the_same() {
    // A clock that stands still gives both the same time.
    let clock = Arc::new(HandClock::still());
    let mut deployment = Deployment::six_sites_on(Host { clock: Arc::clone(&clock) as _, ..host() }).await;
    let mut tenant = deployment.tenant_with("acme", roomy(&[])).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for _ in 0..4 {
        let policies = COUNTRIES.map(|(_, country)| roomy(&[country]));
        let changes = policies.iter().map(|policy| tenant.client.set_bucket_policy(&bucket, policy));
        for change in futures::future::join_all(changes).await {
            change.unwrap();
        }
        let before = policy_of(&tenant, &bucket).await;
        rebuild(&mut deployment, &mut tenant).await;
        assert_eq!(policy_of(&tenant, &bucket).await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_whose_removal_came_too_late_stands_with_its_objects_after_a_rebuild() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant_with("acme", policy(&[])).await;
    let buckets: Vec<BucketName> = (0..24).map(|n| bucket_name(&format!("bucket-{n}"))).collect();
    for bucket in &buckets {
        tenant.client.create_bucket(bucket, None).await.unwrap();
    }
    // A put and a removal at once, the one a little earlier and then the other.
    let key = object_key("object");
    let races = buckets.iter().enumerate().map(|(n, bucket)| {
        let (client, key) = (&tenant.client, &key);
        async move {
            let put = async {
                for _ in 0..n % 8 {
                    client.list_buckets().await.unwrap();
                }
                client.put_bytes(bucket, key, &Default::default(), pattern(1, 4096)).await.is_ok()
            };
            tokio::join!(put, client.remove_bucket(bucket))
        }
    });
    let mut stand = Vec::new();
    for (bucket, race) in buckets.iter().zip(races) {
        if race.await.0 {
            stand.push(bucket);
        }
    }
    rebuild(&mut deployment, &mut tenant).await;
    for bucket in stand {
        tenant.client.stat(bucket, &key).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_too_few_sites_would_take_is_refused_before_anything_of_it_is_written() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant_with("acme", policy(&[])).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let before = policy_of(&tenant, &bucket).await;
    let operator = deployment.operator().await;
    let dead = ["fra1", "ams1", "zrh1", "sto1"];
    for name in dead {
        operator.set_site_alive(name, false).await.unwrap();
    }
    let stricter = ResidencyPolicy { tier_min: Tier::II, ..before.clone() };
    let refused = tenant.client.set_bucket_policy(&bucket, &stricter).await.unwrap_err();
    assert!(
        matches!(&refused, CallError::Unavailable(text) if text.contains("2 of the 3 sites")),
        "{refused}"
    );
    let refused = tenant.client.create_bucket(&bucket_name("never"), None).await.unwrap_err();
    assert!(matches!(refused, CallError::Unavailable(_)), "{refused}");
    let refused = tenant.client.remove_bucket(&bucket).await.unwrap_err();
    assert!(matches!(refused, CallError::Unavailable(_)), "{refused}");
    for name in dead {
        operator.set_site_alive(name, true).await.unwrap();
    }
    assert_eq!(policy_of(&tenant, &bucket).await, before);
    rebuild(&mut deployment, &mut tenant).await;
    assert_eq!(policy_of(&tenant, &bucket).await, before);
    let names: Vec<String> =
        tenant.client.list_buckets().await.unwrap().iter().map(|bucket| bucket.name.to_string()).collect();
    assert_eq!(names, ["things"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_a_copy_where_the_policy_no_longer_admits_it_can_be_deleted() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant_with("acme", roomy(&[])).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "doomed", pattern(5, 200)).await;
    tenant.put(&bucket, "striped", pattern(6, 70_000)).await;
    let holders = tenant.client.stat(&bucket, &object_key("doomed")).await.unwrap().sites;
    let denied = COUNTRIES.iter().find(|(name, _)| holders.iter().any(|holder| holder == name)).unwrap().1;
    tenant.client.set_bucket_policy(&bucket, &roomy(&[denied])).await.unwrap();
    for key in ["doomed", "striped"] {
        tenant.client.delete(&bucket, &object_key(key)).await.unwrap();
    }
    rebuild(&mut deployment, &mut tenant).await;
    for key in ["doomed", "striped"] {
        assert!(tenant.get(&bucket, key).await.is_err(), "{key} stays deleted");
    }
}
