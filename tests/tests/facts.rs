//! Facts of a running service, and what a report makes of them: certificates
//! that an operator declared, where each object lies and since when.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use coffer_client::drill::DrillError;
use coffer_client::evidence::{gather_facts, gather_log};
use coffer_client::report::{Material, Period, Report, Status, dwellings};
use coffer_client::{CallError, DeclaredCertificate, SignDrillError};
use coffer_keys::{VerifierName, to_canonical};
use coffer_model::{Degraded, Geometry, ResidencyPolicy, Tier, Timestamp};
use coffer_server::{Custody, CustodyKind, RepairRun};
use coffer_tests::drills::{Driller, conduct, wish};
use coffer_tests::{AuditLeaf, Deployment, TenantClient, bucket_name, pattern};
use serde_json::json;

const SITES: [&str; 6] = ["fra1", "par1", "ams1", "zrh1", "sto1", "mad1"];

fn declared(number: &str) -> DeclaredCertificate {
    DeclaredCertificate {
        issuer: "Uptime Institute".to_owned(),
        number: number.to_owned(),
        tier: Tier::IV,
        from: "2020-01-01".parse().unwrap(),
        until: "2400-12-31".parse().unwrap(),
    }
}

/// Everything that a report of now is made from.
async fn material(tenant: &TenantClient) -> Material {
    let name = tenant.log_origin.split_once("/log/").unwrap().0.to_owned();
    let signer = VerifierName { name, key: tenant.log_key };
    let residency = Some(tenant.client.residency().await.unwrap());
    let gathered = gather_facts(&tenant.client, &signer).await.unwrap();
    let log = gather_log(&tenant.client, &mut tenant.watch(), None).await.unwrap();
    let period = Period { from: Timestamp(0), to: Timestamp(u64::MAX) };
    let (facts, facts_envelope) = (gathered.facts, gathered.envelope);
    Material { period, facts, facts_envelope, log, drills: Vec::new(), residency, witnesses: Vec::new() }
}

fn status(material: &Material, check: &str) -> (Status, String) {
    let report = Report::new(material);
    let finding = report.findings.iter().find(|finding| finding.check.id == check).unwrap();
    (finding.answer.status, finding.answer.reason.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_an_operator_declared_outlive_the_catalogue_and_satisfy_their_check() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("tenant").await;
    let (before, reason) = status(&material(&tenant).await, "place-certified");
    assert_eq!(before, Status::NotSatisfied);
    assert!(reason.contains("no certificate of tier"), "{reason}");
    let operator = deployment.operator().await;
    for site in SITES {
        operator.certify_site(site, declared(&format!("T-{site}"))).await.unwrap();
    }
    assert_eq!(status(&material(&tenant).await, "place-certified").0, Status::Satisfied);
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    let leaves = deployment.service_leaves().await;
    let noted =
        leaves.iter().filter(|leaf| leaf.subject.starts_with("certify site-") && leaf.outcome == "done");
    assert_eq!(noted.count(), 6, "each declaration is a leaf of the service's log");
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    assert_eq!(status(&material(&tenant).await, "place-certified").0, Status::Satisfied);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_certificate_is_refused_and_a_tenant_declares_none() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("tenant").await;
    let operator = deployment.operator().await;
    let refused = |error: CallError| matches!(error, CallError::Invalid(_));
    assert!(refused(operator.certify_site("fra1", declared("")).await.unwrap_err()));
    assert!(refused(operator.certify_site("fra1", declared("two\nlines")).await.unwrap_err()));
    let ended = DeclaredCertificate { until: "2019-12-31".parse().unwrap(), ..declared("T-1") };
    assert!(refused(operator.certify_site("fra1", ended).await.unwrap_err()));
    let nowhere = operator.certify_site("nowhere", declared("T-1")).await.unwrap_err();
    assert!(matches!(nowhere, CallError::NotFound(_)), "{nowhere}");
    let tenant_declares = tenant.client.certify_site("fra1", declared("T-1")).await.unwrap_err();
    assert!(matches!(tenant_declares, CallError::PermissionDenied(_)), "{tenant_declares}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_the_root_key_is_a_fact_that_can_fail_its_check() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("tenant").await;
    assert_eq!(status(&material(&tenant).await, "keys-custody").0, Status::NotSatisfied);
    let custody = Custody { kind: CustodyKind::Quorum, threshold: 3, shares: 5 };
    deployment.service().kept_by(custody).await.unwrap();
    let leaves = deployment.service().own_leaves(0, 1000).await.unwrap();
    let unsealed = |leaf: &AuditLeaf| leaf.operation == "unseal" && leaf.subject == "quorum";
    assert!(leaves.iter().map(|leaf| AuditLeaf::read(leaf)).any(|leaf| unsealed(&leaf)));
    let told = material(&tenant).await;
    assert_eq!(status(&told, "keys-custody").0, Status::Satisfied);
    assert_eq!(status(&told, "keys-certificates").0, Status::Satisfied);
    let (witnessed, reason) = status(&told, "log-witnessed");
    assert_eq!((witnessed, reason.as_str()), (Status::NotSatisfied, "no witness was shown this log"));
}

fn policy(deny: &str) -> ResidencyPolicy {
    let deny = if deny.is_empty() { vec![] } else { vec![deny.parse().unwrap()] };
    let geometry = Geometry::new(2, 1).unwrap();
    ResidencyPolicy { allow: vec![], deny, tier_min: Tier::I, geometry, degraded: Degraded::Refuse }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_moved_lies_only_where_it_does_since_its_move_and_others_since_they_were_written() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant_with("tenant", policy("")).await;
    let (still, moving) = (bucket_name("still"), bucket_name("moving"));
    for bucket in [&still, &moving] {
        tenant.client.create_bucket(bucket, None).await.unwrap();
        tenant.put(bucket, "object", pattern(1, 200_000)).await;
    }
    let before = dwellings(&material(&tenant).await).unwrap();
    assert!(before.iter().all(|object| object.always() && object.moves == 0 && object.doubt.is_empty()));
    let id = |name: &coffer_model::BucketName, buckets: &[coffer_client::BucketInfo]| {
        buckets.iter().find(|bucket| bucket.name == *name).unwrap().id.to_string()
    };
    let buckets = tenant.client.list_buckets().await.unwrap();
    let (still, moving_id) = (id(&still, &buckets), id(&moving, &buckets));
    let lay = before.iter().find(|object| object.bucket == moving_id).unwrap().countries.clone();
    tenant.client.set_bucket_policy(&moving, &policy(&lay[0])).await.unwrap();
    deployment.service().repair(RepairRun::default(), &|_| ()).await.unwrap();
    let material = material(&tenant).await;
    let after = dwellings(&material).unwrap();
    let of = |bucket: &str| after.iter().find(|object| object.bucket == bucket).unwrap();
    assert!(of(&still).always());
    let moved = of(&moving_id);
    assert!(!moved.always() && moved.moves > 0 && moved.doubt.is_empty(), "{}", moved.sentence());
    assert!(!moved.countries.contains(&lay[0]) && moved.since > moved.first, "{}", moved.sentence());
    assert_eq!(status(&material, "place-history").0, Status::Satisfied);
    // A log without the move cannot say since when.
    let mut cut = material.clone();
    cut.log.events.retain(|event| event.operation != "repair");
    assert!(!dwellings(&cut).unwrap().iter().all(|object| object.doubt.is_empty()));
    assert_eq!(status(&cut, "place-history").0, Status::NotSatisfied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_signs_for_a_tenant_nothing_that_names_another_one() {
    let deployment = Deployment::six_sites().await;
    let (one, other) = (deployment.tenant("one").await, deployment.tenant("other").await);
    let digest = "ab".repeat(32);
    let pack = |tenant: &TenantClient| {
        let about = json!({ "tenant": tenant.tenant.to_string() });
        let statement = coffer_keys::statement("MANIFEST.json", &digest, "urn:coffer:pack:v1", &about);
        to_canonical(&statement).unwrap()
    };
    one.client.sign_statement(pack(&one)).await.unwrap();
    let refused = one.client.sign_statement(pack(&other)).await;
    assert!(matches!(refused, Err(CallError::Invalid(_))), "{refused:?}");
    let oscal = |tenant: &str| {
        let how = json!({ "canonicalization": "RFC8785", "tenant": tenant });
        let kind = "https://oscal-compass.github.io/compliance-trestle/predicates/oscal-signing/v1";
        to_canonical(&coffer_keys::statement("plan.json", &digest, kind, &how)).unwrap()
    };
    one.client.sign_statement(oscal(&one.tenant.to_string())).await.unwrap();
    let refused = one.client.sign_statement(oscal(&other.tenant.to_string())).await;
    assert!(matches!(refused, Err(CallError::Invalid(_))), "{refused:?}");
    // A drill of the other tenant, told as this one's service would sign it.
    let bucket = bucket_name("things");
    other.client.create_bucket(&bucket, None).await.unwrap();
    other.put(&bucket, "a", pattern(1, 100)).await;
    let mut driller = Driller::of(&other);
    driller.party.tenant = one.tenant.to_string();
    let at = deployment.scratch().join("drill");
    let planned = driller.plan(&other, &wish(&bucket), None, &at).await;
    let ran = driller.run(&other, &planned, None, conduct(&at)).await;
    let refused = matches!(&ran, Err(DrillError::Sign(SignDrillError::Call(CallError::Invalid(_)))));
    assert!(refused, "{:?}", ran.map(|drilled| drilled.record.tenant));
}
