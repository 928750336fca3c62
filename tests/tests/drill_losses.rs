//! Drills that lose sites and jurisdictions of a running service: what was
//! foreseen beforehand and what was measured agree, in every combination.
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::collections::BTreeMap;

use coffer_client::drill::{AnyRecord, ScenarioKind, Subject, verify_any_record, verify_noted};
use coffer_model::{BucketName, Geometry};
use coffer_tests::drills::{Driller, conduct, wish};
use coffer_tests::{Deployment, TenantClient, bucket_name, pattern, policy};

/// The places of the shipped site file, and its one site in each.
const PLACES: [(&str, &str); 6] =
    [("DE", "fra1"), ("FR", "par1"), ("NL", "ams1"), ("CH", "zrh1"), ("SE", "sto1"), ("ES", "mad1")];

/// Every one and every two of them.
fn losses() -> Vec<Vec<(&'static str, &'static str)>> {
    let one = PLACES.iter().map(|place| vec![*place]);
    let two = (0..6).flat_map(|a| (a + 1..6).map(move |b| vec![PLACES[a], PLACES[b]]));
    one.chain(two).collect()
}

/// A bucket of 4+2, and one of 2+1 that may lie in three places only: of it a
/// loss of two of them is more than its budget.
async fn furnish(tenant: &TenantClient) -> [BucketName; 2] {
    let [wide, narrow] = [bucket_name("wide"), bucket_name("narrow")];
    tenant.client.create_bucket(&wide, None).await.unwrap();
    let mut three = policy(&["DE", "FR", "NL"]);
    three.geometry = "2+1".parse::<Geometry>().unwrap();
    tenant.client.create_bucket(&narrow, Some(&three)).await.unwrap();
    for bucket in [&wide, &narrow] {
        for (key, seed, size) in [("small", 1, 900), ("middle", 2, 300_000), ("large", 3, 5 << 20)] {
            tenant.put(bucket, key, pattern(seed, size)).await;
        }
    }
    [wide, narrow]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_foreseen_and_what_is_measured_agree_for_every_one_and_two_lost_jurisdictions() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let buckets = furnish(&tenant).await;
    let mut driller = Driller::of(&tenant);
    let mut outcomes: BTreeMap<(String, bool), u64> = BTreeMap::new();
    for (number, lost) in losses().into_iter().enumerate() {
        for bucket in &buckets {
            let mut wish = wish(bucket);
            wish.kind = ScenarioKind::Jurisdiction;
            wish.places = lost.iter().map(|(place, _)| (*place).to_owned()).collect();
            let directory = deployment.scratch().join(format!("{bucket}-{number}"));
            let planned = driller.plan(&tenant, &wish, None, &directory).await;
            let names: Vec<&str> = planned.plan.scenario.sites_lost.iter().map(String::as_str).collect();
            assert!(lost.iter().all(|(_, site)| names.contains(site)) && names.len() == lost.len());
            let drilled = driller.run(&tenant, &planned, None, conduct(&directory)).await.unwrap();
            let record = &drilled.record;
            assert!(record.is_as_foreseen(), "{lost:?} {bucket}: {:#?}", record.verdicts);
            assert_eq!(record.results.unreadable, record.predicted.unrecoverable, "{lost:?} {bucket}");
            let whole = record.results.restored == 3;
            assert_eq!(record.is_satisfied(), whole, "{lost:?} {bucket}: {:#?}", record.verdicts);
            assert!(record.results.sites_answered.keys().all(|site| !names.contains(&site.as_str())));
            *outcomes.entry((bucket.to_string(), whole)).or_default() += 1;
        }
    }
    // 4+2 over six places loses any two; 2+1 over three loses three pairs of its own.
    let expected = [(("narrow", false), 3), (("narrow", true), 18), (("wide", true), 21)];
    assert_eq!(outcomes, expected.map(|((name, whole), n)| ((name.to_owned(), whole), n)).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_holds_when_the_sites_are_really_killed() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let buckets = furnish(&tenant).await;
    let operator = deployment.operator().await;
    let mut driller = Driller::of(&tenant);
    for (number, lost) in losses().into_iter().enumerate() {
        for bucket in &buckets {
            let mut wish = wish(bucket);
            wish.kind = ScenarioKind::Sites;
            wish.sites = lost.iter().map(|(_, site)| (*site).to_owned()).collect();
            let directory = deployment.scratch().join(format!("{bucket}-{number}"));
            // Foreseen while they live; read while they do not.
            let planned = driller.plan(&tenant, &wish, None, &directory).await;
            for (_, site) in &lost {
                operator.set_site_alive(site, false).await.unwrap();
            }
            let (read, missing) = read_all(&tenant, bucket).await;
            for (_, site) in &lost {
                operator.set_site_alive(site, true).await.unwrap();
            }
            let prediction = &planned.plan.prediction;
            assert_eq!(
                (read, missing),
                (prediction.recoverable, prediction.unrecoverable),
                "{lost:?} {bucket}"
            );
            let drilled = driller.run(&tenant, &planned, None, conduct(&directory)).await.unwrap();
            assert_eq!(drilled.record.results.unreadable, missing, "{lost:?} {bucket}");
        }
    }
}

async fn read_all(tenant: &TenantClient, bucket: &BucketName) -> (u64, u64) {
    let (mut read, mut missing) = (0, 0);
    for key in ["small", "middle", "large"] {
        match tenant.client.get(bucket, &coffer_tests::object_key(key), None).await {
            Ok((info, body)) => match body.collect(info.size).await {
                Ok(_) => read += 1,
                Err(_) => missing += 1,
            },
            Err(_) => missing += 1,
        }
    }
    (read, missing)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_verifies_offline_with_its_log_proof_and_only_for_its_log() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let [bucket, _] = furnish(&tenant).await;
    let mut driller = Driller::of(&tenant);
    let directory = deployment.scratch().join("drill");
    let planned = driller.plan(&tenant, &wish(&bucket), None, &directory).await;
    let drilled = driller.run(&tenant, &planned, None, conduct(&directory)).await.unwrap();
    let party = &driller.party;
    let AnyRecord::V2(record) = verify_any_record(&drilled.envelope, &party.log_key).unwrap() else {
        panic!("a record of the second version");
    };
    assert_eq!(*record, drilled.record);
    assert_eq!((record.scope.subject, record.results.restored), (Subject::Objects, 3));
    verify_noted(&drilled.proof, &record, &party.log_key, &party.log_origin).unwrap();
    assert!(verify_noted(&drilled.proof, &record, &party.log_key, "another/log").is_err());
    let mut other = (*record).clone();
    other.results.restored_bytes -= 1;
    assert!(verify_noted(&drilled.proof, &other, &party.log_key, &party.log_origin).is_err());
    for at in 0..drilled.proof.len() {
        let mut bytes = drilled.proof.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        assert!(verify_noted(&text, &record, &party.log_key, &party.log_origin).is_err(), "byte {at}");
    }
    // A plan is carried out once.
    let again = driller.run(&tenant, &planned, None, conduct(&directory.join("again"))).await;
    assert!(matches!(again, Err(coffer_client::drill::DrillError::Done(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_lives_is_no_ground_for_a_drill_that_begins_with_its_loss() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("t").await;
    let [bucket, _] = furnish(&tenant).await;
    let mut driller = Driller::of(&tenant);
    for (number, kind) in [
        ScenarioKind::Catalogue,
        ScenarioKind::KeyService,
        ScenarioKind::LostHost,
        ScenarioKind::ProviderExit,
    ]
    .into_iter()
    .enumerate()
    {
        let mut wish = wish(&bucket);
        wish.kind = kind;
        let directory = deployment.scratch().join(format!("drill-{number}"));
        let planned = driller.plan(&tenant, &wish, None, &directory).await;
        let refused = driller.run(&tenant, &planned, None, conduct(&directory)).await;
        assert!(matches!(refused, Err(coffer_client::drill::DrillError::Origin(of)) if of == kind));
    }
    let mut wish = wish(&bucket);
    wish.kind = ScenarioKind::Negative;
    let directory = deployment.scratch().join("negative");
    let planned = driller.plan(&tenant, &wish, None, &directory).await;
    let refused = driller.run(&tenant, &planned, None, conduct(&directory)).await;
    assert!(matches!(refused, Err(coffer_client::drill::DrillError::NothingTried)));
}
