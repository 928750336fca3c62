//! An operator puts back an older copy of what the service keeps, and starts it: what was deleted since stays
//! deleted, what was stored since is there, and the copy is set aside.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::path::{Path, PathBuf};

use coffer_client::{CallError, GetError};
use coffer_server::{OpenError, ServeError, StopError};
use coffer_tests::{Deployment, TenantClient, bucket_name, copy_tree, pattern, replace_tree};

/// Stores and deletes after a copy of `what` was made, puts the copy back, and starts the service.
async fn put_back(what: &str) -> (Deployment, TenantClient) {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("acme").await;
    tenant.client.create_bucket(&bucket_name("things"), None).await.unwrap();
    for (n, key) in (0..).zip(["kept", "deleted", "replaced"]) {
        tenant.put(&bucket_name("things"), key, pattern(n, 90_000)).await;
    }
    let (folder, copy) = (deployment.data().join(what), deployment.scratch().join("copy"));
    deployment.stop().await;
    copy_tree(&folder, &copy);
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    tenant.client.delete(&bucket_name("things"), &coffer_tests::object_key("deleted")).await.unwrap();
    tenant.put(&bucket_name("things"), "replaced", pattern(12, 300)).await;
    tenant.put(&bucket_name("things"), "new", pattern(13, 90_000)).await;
    deployment.stop().await;
    replace_tree(&copy, &folder);
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    (deployment, tenant)
}

async fn shows_what_happened_last(tenant: &TenantClient) {
    let things = bucket_name("things");
    for (key, body) in
        [("kept", pattern(0, 90_000)), ("replaced", pattern(12, 300)), ("new", pattern(13, 90_000))]
    {
        assert_eq!(tenant.get(&things, key).await.unwrap(), body, "{key}");
    }
    let deleted = tenant.get(&things, "deleted").await;
    assert!(matches!(deleted, Err(GetError::Call(CallError::NotFound(_)))), "it is there again");
}

fn set_aside(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data.join("service/catalogues")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "older-1")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogues_of_an_earlier_moment_are_set_aside_and_made_again_from_the_sites() {
    let (mut deployment, mut tenant) = put_back("service/catalogues").await;
    shows_what_happened_last(&tenant).await;
    // The tenant's and the service's own.
    assert_eq!(set_aside(&deployment.data()).len(), 2);
    // And once they were made again they are believed.
    deployment.stop().await;
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    shows_what_happened_last(&tenant).await;
    assert_eq!(set_aside(&deployment.data()).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_is_the_whole_folder_of_the_service_believed_when_it_is_an_older_one() {
    let (deployment, tenant) = put_back("service").await;
    shows_what_happened_last(&tenant).await;
    assert_eq!(set_aside(&deployment.data()).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_remember_how_far_its_logs_go_says_so_when_it_stops() {
    let mut deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    drop(tenant);
    // In the way of the file that is written beside the one that counts.
    let beside = deployment.data().join("log-sizes.new");
    std::fs::create_dir(&beside).unwrap();
    let stopped = deployment.stop_whatever().await;
    assert!(matches!(stopped, Err(ServeError::Stop(StopError::LogSizes(_)))), "{stopped:?}");
    assert!(matches!(deployment.try_start().await, Err(OpenError::LogSizes(_))));
    std::fs::remove_dir(&beside).unwrap();
    deployment.start().await;
    deployment.stop().await;
}
