//! `kill -9` in the midst of a repair, again and again: nothing is lost, what
//! was under way goes on, and the end is the same.

use std::time::Duration;

use coffer_client::{RepairOptions, SiteChange};
use coffer_model::{Geometry, ResidencyPolicy};
use coffer_server::RepairBudget;
use coffer_tests::{Deployment, Held, Process, bucket_name, object_key, pattern, policy};

/// The program that [`Process`] runs.
const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-test-service");

/// Runs a repair and kills the process when the sites took so many shards and
/// manifests; whether the repair came to its end before that.
async fn repair_and_kill(deployment: &Deployment, held: &Held) -> bool {
    let process = Process::start_held(PROGRAM, deployment, held);
    let operator = process.connect(deployment, deployment.operator_credentials()).await;
    let run = tokio::spawn(async move {
        let options = RepairOptions { budget_bytes: 24 << 20, ..RepairOptions::default() };
        let ended = operator.run_repair(options, |_| ()).await;
        ended.is_ok_and(|(_, last)| last.failed == 0 && last.plan.versions_short == 0)
    });
    let mut look = tokio::time::interval(Duration::from_millis(2));
    while !run.is_finished() && !held.had_enough() {
        look.tick().await;
    }
    process.kill();
    run.await.unwrap_or(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_while_it_repairs_and_moves_it_loses_nothing_and_comes_to_its_end() {
    let mut deployment = Deployment::six_sites().await;
    let anywhere = ResidencyPolicy { geometry: Geometry::new(3, 2).unwrap(), ..policy(&[]) };
    let mut tenant = deployment.tenant_with("acme", anywhere.clone()).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, Some(&anywhere)).await.unwrap();
    let mut objects = vec![("large".to_owned(), pattern(1, 21 << 20))];
    for n in 0..12_usize {
        objects.push((format!("small-{n}"), pattern(n as u64, 900)));
        objects.push((format!("striped-{n}"), pattern(50 + n as u64, 90_000)));
    }
    for (key, body) in &objects {
        tenant.put(&bucket, key, body.clone()).await;
    }
    let eu = ResidencyPolicy { allow: vec!["EU".parse().unwrap()], ..anywhere };
    tenant.client.set_bucket_policy(&bucket, &eu).await.unwrap();
    deployment.stop().await;
    std::fs::remove_dir_all(deployment.site_dir("par1")).unwrap();
    deployment.start().await;
    deployment.operator().await.change_site("par1", SiteChange::Replace).await.unwrap();
    deployment.stop().await;

    let (mut lives, mut ended) = (0_u64, false);
    while !ended {
        // Later and later, and at another place of a step each time.
        let notes = deployment.scratch().join(format!("life-{lives}"));
        ended = repair_and_kill(&deployment, &Held::after(1 + lives * 7 % 23, &notes)).await;
        lives += 1;
        assert!(lives < 200, "it does not come to its end");
    }
    assert!(lives > 3, "it was killed before its end: {lives} lives");

    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    let plan = deployment.service().plan_repair(RepairBudget::default()).await.unwrap();
    assert_eq!((plan.steps.len(), plan.versions_short, plan.out_of_place), (0, 0, 0));
    for (key, body) in &objects {
        assert!(tenant.get(&bucket, key).await.unwrap() == *body, "{key}");
        let ledger = tenant.client.stat_shards(&bucket, &object_key(key), true).await.unwrap();
        let right = |s: &coffer_client::ShardState| s.state == "verified" && !s.out_of_place;
        assert!(ledger.states.iter().all(right), "{key}: {ledger:?}");
        assert!(ledger.states.iter().all(|state| state.site != "zrh1"), "{key}");
    }
    // The sites alone say the same.
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    for (key, body) in &objects {
        assert!(tenant.get(&bucket, key).await.unwrap() == *body, "{key} after a rebuild");
    }
    assert_eq!(tenant.client.list(&bucket, b"").await.unwrap().len(), objects.len());
}
