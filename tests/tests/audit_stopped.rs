//! No effect without its leaf: a log that cannot be written refuses every
//! call, and what was refused did not happen.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]
#![expect(clippy::disallowed_methods, reason = "a script of the story starts the service without disk space")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use coffer_client::{CallError, Client, GetError};
use coffer_model::Digest;
use coffer_tests::{Deployment, Process, TenantClient, bucket_name, object_key, pattern, policy};

/// The program that [`Process`] runs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-test-service");

/// A program that runs the service with files that cannot grow beyond so many
/// KiB: the disk of the catalogues is full from there on.
fn with_full_disk(deployment: &Deployment, kib: u64) -> String {
    let path = deployment.scratch().join("full-disk");
    // The signal is ignored, so that writes fail as they do on a full disk.
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nulimit -f {}\nexec {PROGRAM} \"$@\"\n", kib * 2);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Writes leaves until the log takes no more; how many it took.
async fn fill(client: &Client) -> u8 {
    for n in 0..=250 {
        if client.note_digest("filling", &Digest([n; 32])).await.is_err() {
            return n;
        }
    }
    250
}

async fn all_is_refused(client: &Client, operator: &Client) {
    let (things, key) = (bucket_name("things"), object_key("kept"));
    let refused = |what: &str, error: Option<CallError>| {
        assert!(matches!(error, Some(CallError::Internal(_))), "{what}: {error:?}");
    };
    refused("list buckets", client.list_buckets().await.err());
    refused("create bucket", client.create_bucket(&bucket_name("fresh"), None).await.err());
    refused("remove bucket", client.remove_bucket(&bucket_name("empty")).await.err());
    refused("set policy", client.set_bucket_policy(&things, &policy(&["EU"])).await.err());
    refused("stat", client.stat(&things, &key).await.err());
    refused("list", client.list(&things, b"").await.err());
    refused("delete", client.delete(&things, &key).await.err());
    refused("note", client.note_digest("more", &Digest([9; 32])).await.err());
    let got = client.get(&things, &key, None).await.err();
    assert!(matches!(got, Some(GetError::Call(CallError::Internal(_)))), "get: {got:?}");
    let put = client.put_bytes(&things, &object_key("new"), &BTreeMap::new(), pattern(1, 10)).await;
    assert!(put.is_err(), "put");
    // The log of the service is another file, and may still have room.
    drop(operator.list_sites().await);
}

async fn nothing_happened(tenant: &TenantClient) {
    let things = bucket_name("things");
    assert!(tenant.get(&things, "kept").await.unwrap() == pattern(5, 300));
    let names: Vec<_> = tenant.client.list(&things, b"").await.unwrap();
    assert_eq!(names.len(), 1, "nothing new, nothing gone");
    let mut buckets: Vec<_> = tenant
        .client
        .list_buckets()
        .await
        .unwrap()
        .into_iter()
        .map(|bucket| bucket.name.to_string())
        .collect();
    buckets.sort();
    assert_eq!(buckets, ["empty", "things"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_disk_full_the_log_refuses_every_call_and_nothing_of_them_happens() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("acme").await;
    for bucket in ["things", "empty"] {
        tenant.client.create_bucket(&bucket_name(bucket), None).await.unwrap();
    }
    tenant.put(&bucket_name("things"), "kept", pattern(5, 300)).await;
    deployment.stop().await;

    let process = Process::start(&with_full_disk(&deployment, 1024), &deployment);
    let client = process.connect(&deployment, &tenant.credentials).await;
    let operator = process.connect(&deployment, deployment.operator_credentials()).await;
    let taken = fill(&client).await;
    assert!((1..250).contains(&taken), "{taken} leaves fitted");
    all_is_refused(&client, &operator).await;
    process.kill();

    // With room again, what was acknowledged is there and what was refused is not.
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    nothing_happened(&tenant).await;
    let noted = tenant.leaves().await.iter().filter(|leaf| leaf.operation == "digest_note").count();
    assert!(noted >= usize::from(taken), "{noted} of {taken} acknowledged leaves");
}
