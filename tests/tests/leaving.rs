//! A site leaves for good, and takes nothing with it that no other site has.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use coffer_regions::{Record, RecordKind, Site};
use coffer_server::RecoveryKit;
use coffer_site::DirectorySite;
use coffer_tests::{Deployment, bucket_name, policy};

const LEAVING: &str = "fra1";
const STAYING: [&str; 5] = ["par1", "ams1", "zrh1", "sto1", "mad1"];

async fn records(site: &DirectorySite, kind: RecordKind) -> Vec<Record> {
    let mut records = Vec::new();
    for line in site.list(kind, None, usize::MAX).await.unwrap() {
        records.push(site.get(line.id).await.unwrap());
    }
    records
}

/// Makes the one site the only one that has any record of this kind.
async fn leave_it_alone_with(kind: RecordKind, deployment: &Deployment, kit: &RecoveryKit) {
    let alone = deployment.open_site(kit, LEAVING);
    for name in STAYING {
        let site = deployment.open_site(kit, name);
        let all = records(&site, kind).await;
        site.delete(all.iter().map(Record::id).collect()).await.unwrap();
        alone.put(all).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_copies_of_logs_and_facts_are_not_let_go_with_a_site() {
    for kind in [RecordKind::Log, RecordKind::Registry] {
        let mut deployment = Deployment::six_sites().await;
        let mut two_and_one = policy(&[]);
        two_and_one.geometry = "2+1".parse().unwrap();
        let mut tenant = deployment.tenant_with("acme", two_and_one).await;
        tenant.client.create_bucket(&bucket_name("things"), None).await.unwrap();
        let kit = deployment.service().kit().await.unwrap();
        deployment
            .between(&mut tenant, async |deployment| leave_it_alone_with(kind, deployment, &kit).await)
            .await;
        let service = deployment.service();
        service.drain_site(LEAVING, false).await.unwrap();
        service.retire_site(LEAVING).await.unwrap();
        deployment.stop().await;
        std::fs::remove_dir_all(deployment.site_dir(LEAVING)).unwrap();
        deployment.lose_all_but_sites();
        deployment.try_recover(&kit).await.unwrap();
        deployment.reconnect(&mut tenant).await;
        let buckets = tenant.client.list_buckets().await.unwrap();
        assert!(buckets.iter().any(|bucket| bucket.name == bucket_name("things")), "{kind:?}");
    }
}
