//! Residency: bytes stay inside the jurisdictions that were promised, or
//! nothing is written at all.
#![expect(clippy::unwrap_used, reason = "policies of tests: what does not parse fails the test")]

use coffer_client::{CallError, CreateTenantError, NewTenant, PutError};
use coffer_model::{Geometry, ResidencyPolicy, Tier};
use coffer_regions::{RecordKind, Site as _};
use coffer_server::RecoveryKit;
use coffer_tests::{
    Backups, Deployment, Files, TenantClient, bucket_name, object_key, pattern, policy, site_files,
    source_tree, volumes,
};

/// The five sites inside the EU, and the one outside.
const INSIDE: [&str; 5] = ["fra1", "par1", "ams1", "sto1", "mad1"];
const OUTSIDE: &str = "zrh1";

fn eu() -> ResidencyPolicy {
    ResidencyPolicy { geometry: Geometry::new(3, 2).unwrap(), ..policy(&["EU"]) }
}

/// Policies that six sites in DE FR NL CH SE ES cannot satisfy.
fn unsatisfiable() -> Vec<ResidencyPolicy> {
    let with =
        |k, m, base: ResidencyPolicy| ResidencyPolicy { geometry: Geometry::new(k, m).unwrap(), ..base };
    vec![
        policy(&["DE"]),
        policy(&["EU"]),
        policy(&["US"]),
        ResidencyPolicy { deny: vec!["DE".parse().unwrap()], ..eu() },
        ResidencyPolicy { deny: vec!["EU".parse().unwrap()], ..eu() },
        ResidencyPolicy { tier_min: Tier::IV, ..policy(&[]) },
        with(5, 2, policy(&[])),
        with(32, 16, policy(&[])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_policy_no_six_sites_satisfy_is_refused_before_a_byte_is_written() {
    let deployment = Deployment::six_sites().await;
    let operator = deployment.operator().await;
    let before = Files::of(&deployment.data().join("sites"));
    let catalogues = site_files(&deployment.data(), "service/catalogues");
    for wanted in unsatisfiable() {
        let new = NewTenant { name: "acme".to_owned(), policy: wanted.clone() };
        let refused = operator.create_tenant(&new, deployment.entropy()).await;
        let Err(CreateTenantError::Call(CallError::Precondition(why))) = refused else {
            panic!("{wanted:?} was not refused");
        };
        assert!(why.contains("cannot be satisfied"), "{why}");
        let after = Files::of(&deployment.data().join("sites"));
        assert_eq!(after.changed_since(&before), Vec::<std::path::PathBuf>::new(), "{wanted:?}");
    }
    assert_eq!(site_files(&deployment.data(), "service/catalogues"), catalogues, "no catalogue was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_the_sites_cannot_satisfy_or_wider_than_its_tenant_is_refused_before_a_byte_is_written()
{
    let deployment = Deployment::six_sites().await;
    let anywhere = deployment.tenant("anywhere").await;
    let european = deployment.tenant_with("european", eu()).await;
    let before = Files::of(&deployment.data().join("sites"));
    let geometry = Geometry::new(3, 2).unwrap();
    let wider = [
        ResidencyPolicy { geometry, ..policy(&[]) },
        ResidencyPolicy { geometry, ..policy(&["EU", "CH"]) },
        ResidencyPolicy { geometry, ..policy(&["CH", "DE", "FR", "NL", "SE"]) },
        ResidencyPolicy { geometry, deny: vec!["DE".parse().unwrap()], ..policy(&[]) },
    ];
    let bucket = bucket_name("things");
    for wanted in unsatisfiable() {
        let refused = anywhere.client.create_bucket(&bucket, Some(&wanted)).await;
        assert!(matches!(refused, Err(CallError::Precondition(_))), "{wanted:?}: {refused:?}");
    }
    for wanted in wider {
        let refused = european.client.create_bucket(&bucket, Some(&wanted)).await;
        assert!(matches!(refused, Err(CallError::Precondition(_))), "{wanted:?}: {refused:?}");
    }
    let after = Files::of(&deployment.data().join("sites"));
    assert_eq!(after.changed_since(&before), Vec::<std::path::PathBuf>::new());
    assert_eq!(anywhere.client.list_buckets().await.unwrap(), []);
    assert_eq!(european.client.list_buckets().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_an_eu_policy_the_site_outside_does_not_grow_by_a_byte_whatever_the_tenant_does() {
    let deployment = Deployment::six_sites().await;
    // Somebody else has bytes there already, so that there is something to grow.
    let other = deployment.tenant("anywhere").await;
    other.client.create_bucket(&bucket_name("things"), None).await.unwrap();
    other.put(&bucket_name("things"), "object", pattern(9, 200_000)).await;
    assert!(!volumes(&deployment.site_dir(OUTSIDE)).is_empty());
    let slots = |name: &str| site_files(&deployment.site_dir(name), "slots").len();
    let (slots_before, outside_before) = (INSIDE.map(slots), slots(OUTSIDE));
    let records = async || deployment.site(OUTSIDE).await.records;
    let records_before = records().await;
    let tenant = deployment.tenant_with("acme", eu()).await;
    // That there is such a tenant is known everywhere, by one fact of the
    // service's own realm; nothing of the tenant is.
    assert_eq!((slots(OUTSIDE), records().await), (outside_before, records_before + 1));
    let before = Files::of(&deployment.site_dir(OUTSIDE));
    let inside_before = INSIDE.map(|name| Files::of(&deployment.site_dir(name)));
    assert_eq!(INSIDE.map(slots), slots_before.map(|count| count + 1), "its keys lie inside");

    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for (key, length) in [("small", 900), ("striped", 70_000), ("large", 9 << 20)] {
        tenant.put(&bucket, key, pattern(1, length)).await;
        assert!(tenant.get(&bucket, key).await.unwrap() == pattern(1, length), "{key}");
        let placed = tenant.client.stat(&bucket, &object_key(key)).await.unwrap();
        assert!(!placed.sites.iter().any(|site| site == OUTSIDE), "{key} at {:?}", placed.sites);
    }
    assert_eq!(tenant.client.list(&bucket, b"").await.unwrap().len(), 3);
    let source = deployment.scratch().join("source");
    source_tree(&source, "residency");
    let backups = Backups::init(&tenant, &bucket).await;
    let (snapshot, manifest) = backups.store(&source).await;
    backups.bring_back(&snapshot, &manifest, &deployment.scratch().join("restored")).await;
    for key in ["small", "striped", "large"] {
        tenant.client.delete(&bucket, &object_key(key)).await.unwrap();
    }
    tenant.client.note_digest("manifest", &manifest.digest().unwrap()).await.unwrap();
    tenant.watch().advance(&tenant.client).await.unwrap();

    let after = Files::of(&deployment.site_dir(OUTSIDE));
    assert_eq!(after.changed_since(&before), Vec::<std::path::PathBuf>::new(), "nothing went to {OUTSIDE}");
    for (name, before) in INSIDE.iter().zip(&inside_before) {
        let after = Files::of(&deployment.site_dir(name));
        assert!(
            !after.changed_since(before).is_empty(),
            "{name} holds something: the comparison sees growth"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_site_inside_dead_a_write_is_refused_rather_than_spilled_outside() {
    let deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant_with("acme", eu()).await;
    let operator = deployment.operator().await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let before = Files::of(&deployment.site_dir(OUTSIDE));
    for name in INSIDE {
        operator.set_site_alive(name, false).await.unwrap();
        let body = std::io::Cursor::new(pattern(1, 200_000));
        let refused = tenant.client.put_reader(&bucket, &object_key("k"), Default::default(), body).await;
        assert!(matches!(refused, Err(PutError::Call(CallError::Unavailable(_)))), "{name}: {refused:?}");
        operator.set_site_alive(name, true).await.unwrap();
    }
    let after = Files::of(&deployment.site_dir(OUTSIDE));
    assert_eq!(after.changed_since(&before), Vec::<std::path::PathBuf>::new());
    assert_eq!(tenant.client.list(&bucket, b"").await.unwrap(), []);
}

/// Takes everything of one kind away from a site, as somebody with its disk could.
async fn take_away(deployment: &Deployment, kit: &RecoveryKit, name: &str, kind: RecordKind) -> usize {
    let site = deployment.open_site(kit, name);
    let lines = site.list(kind, None, usize::MAX).await.unwrap();
    site.delete(lines.iter().map(|line| line.id).collect()).await.unwrap();
    lines.len()
}

/// How many records of a kind a site has.
async fn count(deployment: &Deployment, kit: &RecoveryKit, name: &str, kind: RecordKind) -> usize {
    deployment.open_site(kit, name).list(kind, None, usize::MAX).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_writes_nothing_back_to_a_site_that_the_policy_has_ceased_to_admit() {
    let mut deployment = Deployment::six_sites().await;
    let anywhere = ResidencyPolicy { geometry: Geometry::new(3, 2).unwrap(), ..policy(&[]) };
    let mut tenant = deployment.tenant_with("acme", anywhere.clone()).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, Some(&anywhere)).await.unwrap();
    for n in 0..12_u64 {
        tenant.put(&bucket, &format!("striped-{n}"), pattern(n, 90_000)).await;
        tenant.put(&bucket, &format!("small-{n}"), pattern(n, 900)).await;
    }
    let kit = deployment.service().kit().await.unwrap();
    let read_all = async |tenant: &TenantClient| {
        for n in 0..12_u64 {
            assert!(tenant.get(&bucket, &format!("striped-{n}")).await.unwrap() == pattern(n, 90_000));
            assert!(tenant.get(&bucket, &format!("small-{n}")).await.unwrap() == pattern(n, 900));
        }
    };
    for admitted in [true, false] {
        if !admitted {
            let eu = ResidencyPolicy { allow: vec!["EU".parse().unwrap()], ..anywhere.clone() };
            tenant.client.set_bucket_policy(&bucket, &eu).await.unwrap();
        }
        deployment.stop().await;
        let mut taken = 0;
        for kind in [RecordKind::Shard, RecordKind::Manifest] {
            taken += take_away(&deployment, &kit, OUTSIDE, kind).await;
        }
        assert!(taken > 0, "zrh1 held something");
        deployment.start().await;
        deployment.reconnect(&mut tenant).await;
        read_all(&tenant).await;
        deployment.stop().await;
        let mut back = 0;
        for kind in [RecordKind::Shard, RecordKind::Manifest] {
            back += count(&deployment, &kit, OUTSIDE, kind).await;
        }
        assert_eq!(back > 0, admitted, "{back} records came back to zrh1");
        deployment.start().await;
        deployment.reconnect(&mut tenant).await;
    }
}
