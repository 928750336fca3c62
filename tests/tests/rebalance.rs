//! A site joins, and an operator levels the sites: a plan moves nothing, what moves is
//! counted and is no more than the new site's share, nothing leaves the policy of its
//! bucket, and whoever cuts it off leaves whole versions.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use coffer_client::{Client, RebalanceOptions};
use coffer_server::{RepairBudget, RepairRun};
use coffer_tests::{Deployment, TenantClient, bucket_name, fast_sites_and, object_key, pattern, policy};

const NEW: (&str, &str) = ("waw1", "PL");
const SWISS: (&str, &str) = ("gva1", "CH");
/// Shards of objects of this size are worth a move.
const SIZE: usize = 1_200_000;

struct Stored {
    deployment: Deployment,
    tenant: TenantClient,
    operator: Client,
}

impl Stored {
    /// Objects in a bucket that may lie everywhere.
    async fn new(objects: usize) -> Self {
        let deployment = Deployment::six_sites().await;
        let tenant = deployment.tenant_with("acme", policy(&[])).await;
        tenant.client.create_bucket(&bucket_name("things"), Some(&policy(&[]))).await.unwrap();
        let operator = deployment.operator().await;
        let stored = Self { deployment, tenant, operator };
        for n in 0..objects {
            stored.tenant.put(&bucket_name("things"), &n.to_string(), pattern(n as u64, SIZE)).await;
        }
        stored
    }

    async fn written(&self) -> BTreeMap<String, u64> {
        let sites = self.operator.list_sites().await.unwrap();
        sites.into_iter().map(|site| (site.name, site.written_bytes)).collect()
    }

    async fn all_right(&self, objects: usize) {
        for n in 0..objects {
            let read = self.tenant.get(&bucket_name("things"), &n.to_string()).await.unwrap();
            assert!(read == pattern(n as u64, SIZE), "{n}");
        }
        let plan = self.deployment.service().plan_repair(RepairBudget::default()).await.unwrap();
        assert!(plan.steps.is_empty() && plan.versions_short == 0, "{plan:?}");
    }

    /// At how many sites each object lies, and how many lie at this one.
    async fn at(&self, site: &str, objects: usize) -> usize {
        let mut there = 0;
        for n in 0..objects {
            let (things, key) = (bucket_name("things"), object_key(&n.to_string()));
            let ledger = self.tenant.client.stat_shards(&things, &key, true).await.unwrap();
            assert!(ledger.states.iter().all(|state| state.state == "verified" && !state.out_of_place));
            there += usize::from(ledger.states.iter().any(|state| state.site == site));
        }
        there
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_site_gets_its_share_and_no_byte_more_is_copied_than_was_told() {
    let stored = Stored::new(14).await;
    stored.operator.add_site(&fast_sites_and(&[NEW]), Some("waw1")).await.unwrap();
    let before = stored.written().await;
    let plan = stored.operator.plan_rebalance().await.unwrap();
    assert_eq!(stored.written().await, before, "a plan moves nothing");
    // Fourteen objects of six shards: twelve of them are a seventh.
    assert_eq!((plan.moves, plan.done), (12, 0), "{plan:?}");
    assert!(plan.bytes <= plan.missing && plan.records * 20 <= plan.bytes, "{plan:?}");
    let ran = stored.operator.rebalance(RebalanceOptions::default(), |_| ()).await.unwrap();
    assert_eq!((ran.done, ran.failed, ran.bytes), (12, 0, plan.bytes), "{ran:?}");
    let after = stored.written().await;
    let copied: u64 = after.iter().map(|(site, bytes)| bytes - before[site]).sum();
    assert_eq!(copied, ran.bytes_written);
    assert!(copied * 10 <= plan.missing * 11, "{copied} of {}", plan.missing);
    assert_eq!(stored.at("waw1", 14).await, 12);
    stored.all_right(14).await;
    assert_eq!(stored.operator.plan_rebalance().await.unwrap().moves, 0, "what is level stays as it is");
    let refused = stored.tenant.client.plan_rebalance().await;
    assert!(matches!(refused, Err(coffer_client::CallError::PermissionDenied(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_to_where_the_policy_of_its_bucket_does_not_admit_it() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant_with("acme", policy(&[])).await;
    let mut european = policy(&["EU"]);
    european.geometry = "2+1".parse().unwrap();
    tenant.client.create_bucket(&bucket_name("things"), Some(&european)).await.unwrap();
    for n in 0..10 {
        tenant.put(&bucket_name("things"), &n.to_string(), pattern(n, SIZE)).await;
    }
    let operator = deployment.operator().await;
    operator.add_site(&fast_sites_and(&[SWISS]), Some("gva1")).await.unwrap();
    let ran = operator.rebalance(RebalanceOptions::default(), |_| ()).await.unwrap();
    let swiss = ran.sites.iter().find(|site| site.name == "gva1").unwrap();
    assert_eq!((swiss.share, swiss.receives), (0, 0), "{ran:?}");
    operator.add_site(&fast_sites_and(&[SWISS, NEW]), Some("waw1")).await.unwrap();
    let ran = operator.rebalance(RebalanceOptions::default(), |_| ()).await.unwrap();
    let polish = ran.sites.iter().find(|site| site.name == "waw1").unwrap();
    assert!(polish.receives > 0 && polish.receives <= polish.share, "{ran:?}");
    assert!(ran.sites.iter().all(|site| site.name != "gva1" || site.receives == 0), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cuts_a_levelling_off_anywhere_leaves_whole_versions_and_what_lies_beside_is_removed() {
    let stored = Stored::new(14).await;
    stored.operator.add_site(&fast_sites_and(&[NEW]), Some("waw1")).await.unwrap();
    let service = stored.deployment.service();
    for n in 0..24 {
        let run = RepairRun { bytes_per_second: None, yields: false, ..RepairRun::default() };
        // Cut off as by a crash, a little later each time.
        let cut = service.rebalance(run, &|_| ());
        drop(tokio::time::timeout(Duration::from_millis(n * 3), cut).await);
        for n in 0..14 {
            let read = stored.tenant.get(&bucket_name("things"), &n.to_string()).await.unwrap();
            assert!(read == pattern(n, SIZE), "{n}");
        }
    }
    stored.operator.run_repair(coffer_client::RepairOptions::default(), |_| ()).await.unwrap();
    stored.all_right(14).await;
    stored.operator.rebalance(RebalanceOptions::default(), |_| ()).await.unwrap();
    // What was levelled bit by bit may end a shard beside the best.
    let there = stored.at("waw1", 14).await;
    assert!((11..=12).contains(&there), "{there}");
    stored.all_right(14).await;
}
