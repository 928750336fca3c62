//! Reads that do without sites, and reads of a moment that is past: what a
//! drill on a running service is made of.
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::sync::Arc;

use bytes::Bytes;
use coffer_client::{CallError, GetError, ReadTerms, SitesSeen};
use coffer_custody::SystemClock;
use coffer_model::{BucketName, Clock as _, Timestamp};
use coffer_tests::{Deployment, TenantClient, bucket_name, object_key, pattern};

const NAMES: [&str; 6] = ["fra1", "par1", "ams1", "zrh1", "sto1", "mad1"];

async fn read_on(
    tenant: &TenantClient,
    bucket: &BucketName,
    key: &str,
    terms: &ReadTerms,
) -> Result<Bytes, GetError> {
    let (info, body) = tenant.client.get_on(bucket, &object_key(key), None, terms).await?;
    body.collect(info.size).await
}

fn without(names: &[&str]) -> ReadTerms {
    let seen = Some(Arc::new(SitesSeen::default()));
    ReadTerms { as_of: None, without: names.iter().map(|name| (*name).to_owned()).collect(), seen }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_never_asks_a_site_that_it_does_without_and_says_who_answered() {
    let (deployment, watches) = Deployment::six_watched_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let bodies = [("small", pattern(1, 9000)), ("striped", pattern(2, 9 << 20))];
    for (key, body) in &bodies {
        tenant.put(&bucket, key, body.clone()).await;
    }
    for first in NAMES {
        for second in NAMES {
            let terms = without(&[first, second]);
            let placed = tenant.client.stat(&bucket, &object_key("small")).await.unwrap().sites;
            // What the reads before asked of these two is over.
            watches.quiet().await;
            let before = [first, second].map(|name| watches.of(name).returned());
            let readable = placed.iter().any(|site| *site != first && *site != second);
            let small = read_on(&tenant, &bucket, "small", &terms).await;
            match small {
                Ok(bytes) => assert!(readable && bytes == bodies[0].1),
                Err(error) => assert!(!readable, "{error}"),
            }
            let striped = read_on(&tenant, &bucket, "striped", &terms).await.unwrap();
            assert_eq!(striped, bodies[1].1);
            // A range goes another way through the service: parts of shards.
            let range = Some(5_000_000..5_070_000);
            let (_, body) =
                tenant.client.get_on(&bucket, &object_key("striped"), range, &terms).await.unwrap();
            assert_eq!(body.collect(1 << 20).await.unwrap(), bodies[1].1.slice(5_000_000..5_070_000));
            watches.quiet().await;
            assert_eq!([first, second].map(|name| watches.of(name).returned()), before);
            let seen = terms.seen.unwrap().counts();
            assert!(!seen.is_empty() && seen.keys().all(|name| name != first && name != second), "{seen:?}");
        }
    }
    // Nobody's reputation suffered from what was only supposed.
    for name in NAMES {
        assert!(!deployment.service().site_reading(name).unwrap().silent, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_lost_sites_than_parity_make_a_read_fail_and_an_unknown_name_is_refused() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "striped", pattern(2, 1 << 20)).await;
    let lost = read_on(&tenant, &bucket, "striped", &without(&["fra1", "par1", "ams1"])).await;
    let Err(GetError::Call(CallError::Unavailable(told))) = lost else { panic!("{lost:?}") };
    assert!(told.contains("only 3 of the 4 shards") && told.contains("left out by the caller"), "{told}");
    let unknown = read_on(&tenant, &bucket, "striped", &without(&["atlantis1"])).await;
    let Err(GetError::Call(CallError::Invalid(told))) = unknown else { panic!("{unknown:?}") };
    assert!(told.contains("atlantis1"), "{told}");
    assert_eq!(tenant.get(&bucket, "striped").await.unwrap(), pattern(2, 1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rewritten_and_deleted_is_read_as_of_before_and_after_a_rebuild_as_well() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("t").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for (key, seed, size) in [("a", 1, 1000), ("b", 2, 300_000), ("c", 3, 10)] {
        tenant.put(&bucket, key, pattern(seed, size)).await;
    }
    let moment = SystemClock.now();
    tenant.put(&bucket, "a", pattern(11, 999)).await;
    tenant.client.delete(&bucket, &object_key("a")).await.unwrap();
    tenant.client.delete(&bucket, &object_key("b")).await.unwrap();
    tenant.put(&bucket, "b", pattern(12, 5)).await;
    tenant.client.delete(&bucket, &object_key("b")).await.unwrap();
    tenant.put(&bucket, "new", pattern(13, 5)).await;
    check_past(&tenant, &bucket, moment).await;
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    check_past(&tenant, &bucket, moment).await;
}

async fn check_past(tenant: &TenantClient, bucket: &BucketName, moment: Timestamp) {
    let past = ReadTerms { as_of: Some(moment), ..ReadTerms::default() };
    for (key, seed, size) in [("a", 1, 1000), ("b", 2, 300_000), ("c", 3, 10)] {
        assert_eq!(read_on(tenant, bucket, key, &past).await.unwrap(), pattern(seed, size), "{key}");
        let stat = tenant.client.stat_at(bucket, &object_key(key), Some(moment)).await.unwrap();
        assert_eq!(stat.object.size, u64::try_from(size).unwrap());
    }
    let names = |list: Vec<coffer_client::ObjectInfo>| -> Vec<String> {
        list.into_iter().map(|info| info.key.to_string()).collect()
    };
    assert_eq!(names(tenant.client.list_at(bucket, b"", Some(moment)).await.unwrap()), ["a", "b", "c"]);
    assert_eq!(names(tenant.client.list(bucket, b"").await.unwrap()), ["c", "new"]);
    let missing = |result| matches!(result, Err(GetError::Call(CallError::NotFound(_))));
    assert!(missing(read_on(tenant, bucket, "new", &past).await));
    assert!(missing(read_on(tenant, bucket, "a", &ReadTerms::default()).await));
    let before_all = ReadTerms { as_of: Some(Timestamp(1)), ..ReadTerms::default() };
    assert!(missing(read_on(tenant, bucket, "c", &before_all).await));
}
