//! What small objects take at all sites together: the promise of fewer bytes
//! than three times the object and half a kibibyte, with everything that a put
//! leaves behind, its share of the log included.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use coffer_tests::{Deployment, TenantClient, bucket_name, pattern};

const OBJECT: usize = 1024;
const OBJECTS: u64 = 200;
/// Three times the object and 512 bytes.
const MOST: u64 = 3 * (OBJECT as u64 + 512);

/// Bytes in the volumes of all sites, with every leaf so far at its sites.
async fn stored(tenant: &TenantClient) -> u64 {
    tenant.watch().advance(&tenant.client).await.unwrap();
    tenant.client.list_sites().await.unwrap().iter().map(|site| site.volume_bytes).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_a_kibibyte_takes_less_than_three_times_itself_and_half_of_one() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("benchmark").await;
    let bucket = bucket_name("objects");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let before = stored(&tenant).await;
    // One after the other: no batch carries two, which costs the most.
    for n in 0..OBJECTS {
        tenant.put(&bucket, &format!("small/{n}"), pattern(n, OBJECT)).await;
    }
    let taken = (stored(&tenant).await - before) / OBJECTS;
    assert!(taken < MOST, "{taken} bytes an object, promised are less than {MOST}");
    // Whole copies, and more of them than sites may be lost.
    assert!(taken > 3 * OBJECT as u64, "{taken} bytes an object are no three copies of it");
}
