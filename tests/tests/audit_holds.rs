//! What lies under a legal hold is not deleted, whatever is lost meanwhile,
//! and the log names the hold that stood in the way.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the files of cases are changed as somebody with the disk could"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use coffer_client::CallError;
use coffer_client::case::{export_case, verify_case};
use coffer_client::keys::VerifierName;
use coffer_model::HoldId;
use coffer_regions::{Receipt, Record, RecordKind, Site, SiteError};
use coffer_tests::{
    Deployment, TenantClient, Twist, bucket_name, host, object_key, pattern, policy, twisted,
};

async fn with_objects() -> (Deployment, TenantClient) {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("acme").await;
    for bucket in ["things", "others"] {
        tenant.client.create_bucket(&bucket_name(bucket), None).await.unwrap();
        for key in ["case/a", "case/b", "free"] {
            tenant.put(&bucket_name(bucket), key, pattern(1, 300)).await;
        }
    }
    (deployment, tenant)
}

async fn delete(tenant: &TenantClient, bucket: &str, key: &str) -> Result<(), CallError> {
    tenant.client.delete(&bucket_name(bucket), &object_key(key)).await.map(drop)
}

/// The reason of a refusal that the state gave.
fn refused_because(refused: Result<(), CallError>) -> String {
    assert!(matches!(refused, Err(CallError::Precondition(_))), "{refused:?}");
    refused.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_under_a_hold_is_deleted_until_it_is_released_and_the_log_names_it() {
    let (deployment, tenant) = with_objects().await;
    let things = bucket_name("things");
    let hold = tenant.client.place_hold(&things, b"case/", false, "case 7 of 2026").await.unwrap();
    let before = tenant.leaves().await.len();
    for key in ["case/a", "case/b"] {
        let refused = delete(&tenant, "things", key).await;
        let reason = refused_because(refused);
        assert!(reason.contains("case 7 of 2026") && reason.contains(&hold.id.to_string()), "{reason}");
        assert!(tenant.get(&things, key).await.unwrap() == pattern(1, 300));
    }
    let leaves = tenant.leaves().await;
    let denied = leaves[before..].iter().filter(|leaf| leaf.outcome == "denied");
    let denied: Vec<_> =
        denied.map(|leaf| (&*leaf.operation, leaf.subject.ends_with(&hold.id.to_string()))).collect();
    assert_eq!(denied, [("object_delete", true), ("object_delete", true)]);
    delete(&tenant, "things", "free").await.unwrap();
    delete(&tenant, "others", "case/a").await.unwrap();

    // A newer version does not push the held one out, and is held itself.
    tenant.put(&things, "case/a", pattern(2, 200)).await;
    assert!(delete(&tenant, "things", "case/a").await.is_err());
    let other = deployment.tenant("other").await;
    assert!(matches!(other.client.release_hold(hold.id).await, Err(CallError::NotFound(_))), "another's");
    let released = tenant.client.release_hold(hold.id).await.unwrap();
    assert!(released.released.is_some());
    assert!(matches!(tenant.client.release_hold(hold.id).await, Err(CallError::Precondition(_))));
    for key in ["case/a", "case/b"] {
        delete(&tenant, "things", key).await.unwrap();
    }
    let missing = tenant.client.release_hold(HoldId::from_bytes([3; 16])).await;
    assert!(matches!(missing, Err(CallError::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_under_a_hold_is_not_removed_and_one_key_may_be_held_alone() {
    let (_deployment, tenant) = with_objects().await;
    let things = bucket_name("things");
    let hold = tenant.client.place_hold(&things, b"case/a", true, "one letter").await.unwrap();
    for key in ["case/b", "free"] {
        delete(&tenant, "things", key).await.unwrap();
    }
    tenant.put(&things, "case/a2", pattern(3, 10)).await;
    delete(&tenant, "things", "case/a2").await.unwrap();
    assert!(delete(&tenant, "things", "case/a").await.is_err());
    let empty = bucket_name("empty");
    tenant.client.create_bucket(&empty, None).await.unwrap();
    let of_bucket = tenant.client.place_hold(&empty, b"", false, "all of it").await.unwrap();
    assert!(matches!(tenant.client.remove_bucket(&empty).await, Err(CallError::Precondition(_))));
    tenant.client.release_hold(of_bucket.id).await.unwrap();
    tenant.client.remove_bucket(&empty).await.unwrap();
    for reason in ["", "a\nb", &"x".repeat(257)] {
        let refused = tenant.client.place_hold(&things, b"", false, reason).await;
        assert!(matches!(refused, Err(CallError::Invalid(_))), "{reason:?}");
    }
    let gone = tenant.client.place_hold(&bucket_name("nowhere"), b"", false, "why").await;
    assert!(matches!(gone, Err(CallError::NotFound(_))));
    assert_eq!(
        tenant.client.list_holds().await.unwrap().iter().filter(|held| held.released.is_none()).count(),
        1
    );
    tenant.client.release_hold(hold.id).await.unwrap();
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(inner) = waiting.pop() {
        for entry in fs::read_dir(inner).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_verifies_with_the_key_alone_and_each_changed_byte_of_it_is_found_and_named() {
    let (deployment, tenant) = with_objects().await;
    let things = bucket_name("things");
    let hold = tenant.client.place_hold(&things, b"case/", false, "case 7 of 2026").await.unwrap();
    assert!(delete(&tenant, "things", "case/a").await.is_err());
    let dir = deployment.scratch().join("case");
    let words = ("2026-11-24T10:00:00Z".to_owned(), "an officer".to_owned());
    let case =
        export_case(&tenant.client, &mut tenant.watch(), &hold, &dir, words, &mut |_| ()).await.unwrap();
    assert_eq!((case.objects, case.bytes), (2, 600));
    let name = tenant.log_origin.split_once("/log/").unwrap().0.to_owned();
    let key = VerifierName { name, key: tenant.log_key };
    let report = verify_case(&dir, &key).unwrap();
    assert!(report.is_good(), "{report:?}");
    let contents = report.contents.unwrap();
    let about: Vec<_> = contents.leaves.iter().map(|leaf| leaf.about.as_str()).collect();
    assert!(about.contains(&&*hold.id.to_string()), "{about:?}");
    for object in &contents.objects {
        assert!(about.contains(&&*object.version), "{about:?}");
    }
    assert!(about.len() >= 7, "two puts, the refused deletion, the hold and the reading: {about:?}");

    let later = |name: &str| {
        name.starts_with("leaves/") && !name.ends_with(&format!("/{}.tlog-proof", contents.leaves[0].index))
    };
    for path in names(&dir) {
        let (name, whole) = (path.strip_prefix(&dir).unwrap().to_str().unwrap(), fs::read(&path).unwrap());
        // One proof is as good as another: of the first one every byte.
        for at in (0..whole.len()).step_by(if later(name) { 29 } else { 1 }) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let report = verify_case(&dir, &key).unwrap();
            assert!(
                report.findings.iter().any(|found| found.item == name),
                "byte {at} of {name}: {report:?}"
            );
        }
        fs::remove_file(&path).unwrap();
        let report = verify_case(&dir, &key).unwrap();
        assert!(report.findings.iter().any(|found| found.item == name), "{name} is missing: {report:?}");
        fs::write(&path, &whole).unwrap();
    }
    fs::write(dir.join("objects/more"), b"more").unwrap();
    let report = verify_case(&dir, &key).unwrap();
    assert_eq!(report.findings.iter().map(|found| &*found.item).collect::<Vec<_>>(), ["objects/more"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_placed_and_released_are_what_they_were_after_the_catalogue_and_two_sites_are_lost() {
    let (mut deployment, mut tenant) = with_objects().await;
    let things = bucket_name("things");
    let stands = tenant.client.place_hold(&things, b"case/", false, "stands").await.unwrap();
    let lifted = tenant.client.place_hold(&things, b"free", false, "lifted").await.unwrap();
    tenant.client.release_hold(lifted.id).await.unwrap();
    let before = tenant.client.list_holds().await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    for lost in ["par1", "mad1"] {
        fs::remove_dir_all(deployment.site_dir(lost)).unwrap();
    }
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    assert_eq!(tenant.client.list_holds().await.unwrap(), before);
    let refused = delete(&tenant, "things", "case/a").await;
    let reason = refused_because(refused);
    assert!(reason.contains(&stands.id.to_string()), "{reason}");
}

/// A site that takes no facts while it is told so, and answers all the same.
struct NoFacts {
    inner: Arc<dyn Site>,
    refuses: Arc<AtomicBool>,
}

#[async_trait]
impl Twist for NoFacts {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let fact = records.iter().any(|record| record.kind() == RecordKind::Registry);
        if fact && self.refuses.load(Ordering::SeqCst) {
            return Err(SiteError::Full);
        }
        self.inner.put(records).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_held_in_a_bucket_whose_removal_has_begun() {
    let refuses = Arc::new(AtomicBool::new(false));
    let (mut host, told) = (host(), Arc::clone(&refuses));
    host.sites = twisted(host.sites, move |inner| NoFacts { inner, refuses: Arc::clone(&told) });
    let deployment = Deployment::six_sites_on(host).await;
    let tenant = deployment.tenant_with("acme", policy(&[])).await;
    let things = bucket_name("things");
    tenant.client.create_bucket(&things, None).await.unwrap();
    refuses.store(true, Ordering::SeqCst);
    let cut_off = tenant.client.remove_bucket(&things).await;
    assert!(matches!(cut_off, Err(CallError::Unavailable(_))), "{cut_off:?}");
    refuses.store(false, Ordering::SeqCst);
    let refused = tenant.client.place_hold(&things, b"", false, "all of it").await;
    let says = |error: &CallError| matches!(error, CallError::Precondition(why) if why.contains("removal"));
    assert!(refused.as_ref().is_err_and(says), "{refused:?}");
    assert_eq!(tenant.client.list_holds().await.unwrap(), []);
    tenant.client.remove_bucket(&things).await.unwrap();
    let gone = tenant.client.place_hold(&things, b"", false, "all of it").await;
    assert!(matches!(gone, Err(CallError::NotFound(_))), "{gone:?}");
}
