//! What the service counts and times of itself, for whoever predicts how long
//! a restoration takes.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use coffer_client::Measured;
use coffer_server::RepairRun;
use coffer_tests::{Deployment, bucket_name, pattern};

async fn measured(deployment: &Deployment) -> Measured {
    deployment.operator().await.list_sites_measured().await.unwrap().1.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_counted_for_whom_they_concern_and_a_rebuild_and_a_repair_are_timed() {
    let mut deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    let things = bucket_name("things");
    tenant.client.create_bucket(&things, None).await.unwrap();
    let other = deployment.tenant("other").await;
    other.client.create_bucket(&things, None).await.unwrap();
    let none = measured(&deployment).await;
    assert_eq!((none.versions, none.bytes, none.rebuild, none.repair), (0, 0, None, None));
    tenant.put(&things, "large", pattern(1, 200_000)).await;
    tenant.put(&things, "replaced", pattern(2, 500)).await;
    tenant.put(&things, "replaced", pattern(3, 700)).await;
    other.put(&things, "small", pattern(4, 900)).await;
    let counted = measured(&deployment).await;
    assert_eq!((counted.versions, counted.bytes), (4, 202_100), "hidden ones come back as well");
    let own = other.client.list_sites_measured().await.unwrap().1.unwrap();
    assert_eq!(
        (own.versions, own.bytes, own.all_tenants),
        (1, 900, false),
        "a tenant learns nothing of others"
    );

    // A repair that finds nothing to move has measured nothing.
    deployment.service().repair(RepairRun::default(), &|_| ()).await.unwrap();
    assert_eq!(measured(&deployment).await.repair, None);
    deployment.stop().await;
    std::fs::remove_dir_all(deployment.site_dir("par1")).unwrap();
    deployment.start().await;
    deployment.service().replace_site("par1").await.unwrap();
    let (_, progress) = deployment.service().repair(RepairRun::default(), &|_| ()).await.unwrap();
    let repaired = measured(&deployment).await.repair.unwrap();
    assert_eq!(repaired.amount, progress.bytes);
    assert!(repaired.amount >= 5 * 50_000 && repaired.nanos > 0, "four shards read and one written");
    let asked = deployment.connect(&tenant.credentials).await.list_sites_measured().await.unwrap().1.unwrap();
    assert_eq!((asked.versions, asked.repair), (3, None), "nor how much was moved of others");
    deployment.service().repair(RepairRun::default(), &|_| ()).await.unwrap();
    assert_eq!(measured(&deployment).await.repair, Some(repaired), "one without work does not hide it");

    deployment.stop().await;
    std::fs::remove_dir_all(deployment.data().join("service/catalogues")).unwrap();
    deployment.start().await;
    let rebuilt = measured(&deployment).await;
    assert_eq!(rebuilt.rebuild.map(|timed| timed.amount), Some(rebuilt.versions));
    let asked = deployment.connect(&tenant.credentials).await.list_sites_measured().await.unwrap().1.unwrap();
    assert_eq!((asked.versions, asked.rebuild), (3, None), "nor how much was rebuilt of others");
    assert_eq!((rebuilt.versions, rebuilt.repair), (4, None), "a new run knows of no repair");
    deployment.stop().await;
    deployment.start().await;
    assert_eq!(measured(&deployment).await.rebuild, None, "nothing was rebuilt at this start");
}
