//! Rebuilt catalogues against the lost ones, row by row, as a reader sees them
//! that shares no code with the service.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use coffer_model::{Geometry, ResidencyPolicy, SiteId, TenantId};
use coffer_regions::{RecordKind, Site as _};
use coffer_server::{Host, RecoveryKit, RepairBudget};
use coffer_tests::{
    Deployment, Ledger, Lies, TenantClient, bucket_name, catalogue_keys, flip, host, object_key, pattern,
    policy, volumes,
};

/// Everything that a catalogue can hold: versions over versions, deletions,
/// a name that came back, another bucket, a removed one.
async fn furnish(tenant: &TenantClient, seed: u64) {
    for bucket in ["things", "others", "removed"] {
        tenant.client.create_bucket(&bucket_name(bucket), None).await.unwrap();
    }
    let things = bucket_name("things");
    for n in 0..40 {
        tenant.put(&things, &format!("small-{:02}", n % 25), pattern(seed + n, 300)).await;
        tenant.put(&bucket_name("removed"), &format!("gone-{n:02}"), pattern(seed + n, 100)).await;
        tenant.client.delete(&bucket_name("removed"), &object_key(&format!("gone-{n:02}"))).await.unwrap();
    }
    for n in 0..6 {
        tenant.put(&bucket_name("others"), &format!("striped-{n}"), pattern(seed + n, 70_000)).await;
    }
    tenant.put(&things, "large", pattern(seed, 9 << 20)).await;
    for n in [3, 4, 30] {
        let key = format!("small-{:02}", n % 25);
        tenant.client.delete(&things, &object_key(&key)).await.unwrap();
        if n == 4 {
            tenant.put(&things, &key, pattern(seed + 900, 40)).await;
        }
    }
    tenant.client.remove_bucket(&bucket_name("removed")).await.unwrap();
}

/// Reads every catalogue of a stopped deployment.
async fn ledgers(
    deployment: &Deployment,
    leaves: &BTreeMap<TenantId, u64>,
    lost: &[SiteId],
) -> BTreeMap<TenantId, Ledger> {
    let keys = catalogue_keys(&deployment.data(), deployment.root()).await;
    let read = |(id, key): (&TenantId, _)| {
        let leaves = leaves.get(id).copied().unwrap_or(u64::MAX);
        (*id, Ledger::read(&deployment.data(), *id, key, leaves, lost))
    };
    keys.iter().map(read).collect()
}

fn count(ledger: &Ledger, kind: &str) -> u64 {
    ledger.lines[kind].count
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogues_rebuilt_from_four_of_six_sites_equal_the_lost_ones_in_every_row() {
    let mut deployment = Deployment::six_sites().await;
    let (a, b) = (deployment.tenant("a").await, deployment.tenant("b").await);
    furnish(&a, 1000).await;
    furnish(&b, 2000).await;
    let kit = deployment.service().kit().await.unwrap();
    let signing_key = deployment.service().verifying_key();
    let of_a = a.tenant;
    drop((a, b));
    deployment.stop().await;
    let before = ledgers(&deployment, &BTreeMap::new(), &[]).await;
    assert_eq!(before.len(), 3, "two tenants and the service's own realm");
    let (versions, tombstones) = (count(&before[&of_a], "version"), count(&before[&of_a], "tombstone"));
    assert_eq!((versions, tombstones), (48, 43), "what was furnished is what is compared");

    deployment.lose_all_but_sites();
    let gone = ["ams1", "sto1"];
    for name in gone {
        std::fs::remove_dir_all(deployment.site_dir(name)).unwrap();
    }
    let report = deployment.recover(&kit).await;
    assert_eq!((report.unreadable, report.missing_sites.as_slice()), (0, &gone.map(str::to_owned)[..]));
    assert_eq!(deployment.service().verifying_key(), signing_key);
    deployment.stop().await;
    let id = |name: &str| kit.sites.iter().find(|address| address.site.name == name).unwrap().site.id;
    let leaves = before.iter().map(|(tenant, ledger)| (*tenant, ledger.leaves)).collect();
    let after = ledgers(&deployment, &leaves, &gone.map(id)).await;
    for (tenant, lost) in &before {
        assert_eq!(lost.differences(&after[tenant]), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_finds_no_difference_would_have_found_one() {
    let mut deployment = Deployment::six_sites().await;
    let tenant = deployment.tenant("a").await;
    furnish(&tenant, 1).await;
    let id = tenant.tenant;
    drop(tenant.client);
    deployment.stop().await;
    let before = ledgers(&deployment, &BTreeMap::new(), &[]).await.remove(&id).unwrap();
    assert_eq!(before.differences(&before), Vec::<String>::new());
    for kind in ["bucket", "name", "version", "tombstone", "fact", "leaf"] {
        let mut other = before.clone();
        other.lines.get_mut(kind).unwrap().digest.push('0');
        assert_eq!(before.differences(&other).len(), 1, "{kind}");
    }
    let with = |change: fn(&mut Ledger)| {
        let mut other = before.clone();
        change(&mut other);
        before.differences(&other).len()
    };
    assert_eq!(with(|other| other.next_order = 1), 1);
    assert_eq!(with(|other| other.replicated -= 1), 1);
    assert_eq!(with(|other| other.pending = 1), 1);
    assert_eq!(with(|other| other.reduced_otherwise = 1), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_of_many_records_is_rebuilt_whole_while_two_sites_show_damage_everywhere() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("a").await;
    furnish(&tenant, 7).await;
    let kit = deployment.service().kit().await.unwrap();
    let listed = tenant.client.list(&bucket_name("things"), b"").await.unwrap();
    deployment.stop().await;
    for name in ["fra1", "mad1"] {
        for volume in volumes(&deployment.site_dir(name)) {
            let end = volume.metadata().unwrap().len();
            (0..2000).for_each(|n| flip(&volume, 128 + n * (end - 128) / 2000));
        }
    }
    deployment.lose_all_but_sites();
    let report = deployment.recover(&kit).await;
    assert_eq!(report.unreadable, 0);
    deployment.reconnect(&mut tenant).await;
    assert_eq!(tenant.client.list(&bucket_name("things"), b"").await.unwrap(), listed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_a_power_cut_left_half_filled_is_made_again_whatever_its_pages_say() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("a").await;
    furnish(&tenant, 7).await;
    let listed = tenant.client.list(&bucket_name("things"), b"").await.unwrap();
    deployment.stop().await;
    // Filled without fsyncs: some pages are on the disk and some are not.
    let catalogues = deployment.data().join("service").join("catalogues");
    let file = catalogues.join(format!("{}.db", tenant.tenant));
    let half = OpenOptions::new().write(true).open(&file).unwrap();
    for page in (1..half.metadata().unwrap().len() / 4096).filter(|page| page % 3 != 0) {
        half.write_all_at(&[0; 4096], page * 4096).unwrap();
    }
    let mark = catalogues.join(format!("{}.filling", tenant.tenant));
    OpenOptions::new().write(true).create_new(true).open(&mark).unwrap();
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    assert_eq!(tenant.client.list(&bucket_name("things"), b"").await.unwrap(), listed);
    assert!(!mark.exists(), "it is whole now");
}

/// Removes a tenant's catalogue of a stopped deployment.
fn lose_catalogue(deployment: &Deployment, tenant: TenantId) {
    let catalogues = deployment.data().join("service").join("catalogues");
    for end in ["db", "db-wal", "db-shm"] {
        let _ = std::fs::remove_file(catalogues.join(format!("{tenant}.{end}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_catalogue_is_rebuilt_while_more_sites_of_a_bucket_are_silent_than_it_ever_promised_to_survive() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("a").await;
    let narrow = bucket_name("narrow");
    let promised = ResidencyPolicy { geometry: Geometry::new(2, 1).unwrap(), ..policy(&["DE", "FR", "NL"]) };
    tenant.client.create_bucket(&narrow, Some(&promised)).await.unwrap();
    tenant.put(&narrow, "kept", pattern(1, 300)).await;
    let holders = tenant.client.stat(&narrow, &object_key("kept")).await.unwrap().sites;
    assert_eq!(holders.len(), 2, "as many as its tenant may lose");
    // The second time the bucket promises more, and what is in it lies where it lay.
    for wider in [false, true] {
        if wider {
            tenant.client.set_bucket_policy(&narrow, &policy(&[])).await.unwrap();
        }
        deployment.stop().await;
        lose_catalogue(&deployment, tenant.tenant);
        for name in &holders {
            std::fs::rename(deployment.site_dir(name), deployment.scratch().join(name)).unwrap();
        }
        for _ in 0..2 {
            let refused = deployment.try_start().await.unwrap_err().to_string();
            assert!(holders.iter().all(|name| refused.contains(name)), "{refused}");
            assert!(
                refused.contains("bucket narrow") && refused.contains("Bring back 1 of them"),
                "{refused}"
            );
        }
        for name in &holders {
            std::fs::rename(deployment.scratch().join(name), deployment.site_dir(name)).unwrap();
        }
        deployment.start().await;
        deployment.reconnect(&mut tenant).await;
        assert_eq!(tenant.get(&narrow, "kept").await.unwrap(), pattern(1, 300), "wider: {wider}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sites_that_are_given_up_by_name_hold_up_no_rebuild_and_only_what_they_alone_knew_is_left_out() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("a").await;
    let (narrow, wide) = (bucket_name("narrow"), bucket_name("wide"));
    let promised = ResidencyPolicy { geometry: Geometry::new(2, 1).unwrap(), ..policy(&["DE", "FR", "NL"]) };
    tenant.client.create_bucket(&narrow, Some(&promised)).await.unwrap();
    tenant.client.create_bucket(&wide, None).await.unwrap();
    tenant.put(&narrow, "lost", pattern(1, 300)).await;
    tenant.put(&wide, "kept", pattern(2, 300)).await;
    let burned = tenant.client.stat(&narrow, &object_key("lost")).await.unwrap().sites;
    deployment.stop().await;
    lose_catalogue(&deployment, tenant.tenant);
    for name in &burned {
        std::fs::rename(deployment.site_dir(name), deployment.scratch().join(name)).unwrap();
    }
    let refused = deployment.try_start().await.unwrap_err().to_string();
    assert!(refused.contains("--without-site"), "{refused}");
    deployment.give_up(&[burned[0].clone(), "burned1".to_owned()]);
    let refused = deployment.try_start().await.unwrap_err().to_string();
    assert!(refused.contains("no site burned1") && refused.contains(&burned[0]), "{refused}");

    deployment.give_up(&burned);
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    assert_eq!(tenant.get(&wide, "kept").await.unwrap(), pattern(2, 300));
    let listed = tenant.client.list(&narrow, b"").await.unwrap();
    assert!(listed.is_empty(), "what only the burned sites knew: {listed:?}");
    let leaves = tenant.leaves().await;
    let told = leaves.iter().rfind(|leaf| leaf.operation == "rebuild").unwrap();
    let named = burned.iter().all(|name| told.subject.contains(name.as_str()));
    assert!(told.subject.contains("given up: ") && named, "the log says so: {}", told.subject);
}

/// A site loses every manifest that it has, and tells nobody.
async fn forget_manifests(deployment: &Deployment, kit: &RecoveryKit, name: &str) {
    let site = deployment.open_site(kit, name);
    let listed = site.list(RecordKind::Manifest, None, usize::MAX).await.unwrap();
    assert!(!listed.is_empty());
    site.delete(listed.iter().map(|line| line.id).collect()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_site_has_that_was_away_during_a_rebuild_shows_from_the_first_start_at_which_it_answers()
{
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("a").await;
    let narrow = bucket_name("narrow");
    let promised = ResidencyPolicy { geometry: Geometry::new(2, 1).unwrap(), ..policy(&["DE", "FR", "NL"]) };
    tenant.client.create_bucket(&narrow, Some(&promised)).await.unwrap();
    for (n, key) in (0..).zip(["kept", "replaced", "removed", "removed-before"]) {
        // All of them at the two sites that the first one has.
        for attempt in 0_u32.. {
            tenant.put(&narrow, key, pattern(n, 300)).await;
            let sites = tenant.client.stat(&narrow, &object_key(key)).await.unwrap().sites;
            if sites == tenant.client.stat(&narrow, &object_key("kept")).await.unwrap().sites {
                break;
            }
            assert!(attempt < 200);
            tenant.client.delete(&narrow, &object_key(key)).await.unwrap();
        }
    }
    tenant.client.delete(&narrow, &object_key("removed-before")).await.unwrap();
    let holders = tenant.client.stat(&narrow, &object_key("kept")).await.unwrap().sites;
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;

    // One of the two lost what it had, the other is away: nobody has it.
    forget_manifests(&deployment, &kit, &holders[0]).await;
    lose_catalogue(&deployment, tenant.tenant);
    let away = deployment.scratch().join("away");
    std::fs::rename(deployment.site_dir(&holders[1]), &away).unwrap();
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    assert!(tenant.client.list(&narrow, b"").await.unwrap().is_empty(), "two were lost of one");
    let leaves = tenant.leaves().await;
    let told = leaves.iter().rfind(|leaf| leaf.operation == "rebuild").unwrap();
    assert!(told.subject.contains(&format!("not heard: {}", holders[1])), "{}", told.subject);
    let new = pattern(9, 200);
    tenant.put(&narrow, "replaced", new.clone()).await;
    tenant.put(&narrow, "removed", new.clone()).await;
    tenant.client.delete(&narrow, &object_key("removed")).await.unwrap();
    // A start without it changes nothing.
    deployment.stop().await;
    deployment.start().await;

    deployment.stop().await;
    std::fs::rename(&away, deployment.site_dir(&holders[1])).unwrap();
    for start in 0..2 {
        deployment.start().await;
        deployment.reconnect(&mut tenant).await;
        assert_eq!(tenant.get(&narrow, "kept").await.unwrap(), pattern(0, 300), "start {start}");
        assert_eq!(tenant.get(&narrow, "replaced").await.unwrap(), new, "what is newer stays");
        let listed = tenant.client.list(&narrow, b"").await.unwrap();
        let keys: Vec<_> = listed.iter().map(|object| object.key.clone()).collect();
        assert_eq!(keys, [object_key("kept"), object_key("replaced")], "what was removed stays removed");
        let leaves = tenant.leaves().await;
        let heard = leaves.iter().filter(|leaf| leaf.subject.contains("heard now: ")).count();
        assert_eq!(heard, 1, "it is heard once");
        deployment.stop().await;
    }
}

/// Until it hangs.
const LONG: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_lists_without_end_keeps_no_rebuild_repair_or_count_from_its_end_and_counts_as_silent() {
    let honest = host();
    let (sites, lies) = Lies::before(honest.sites.clone());
    let mut deployment = Deployment::six_sites_on(Host { sites, ..honest }).await;
    let mut tenant = deployment.tenant("a").await;
    furnish(&tenant, 7).await;
    let listed = tenant.client.list(&bucket_name("things"), b"").await.unwrap();
    deployment.stop().await;
    lies.forget();
    lose_catalogue(&deployment, tenant.tenant);
    lies.babble("par1");
    tokio::time::timeout(LONG, deployment.start()).await.expect("the rebuild ends");
    deployment.reconnect(&mut tenant).await;
    assert_eq!(tenant.client.list(&bucket_name("things"), b"").await.unwrap(), listed);
    let reported = deployment.site("par1").await.reported;
    assert!(reported > 0, "the operator is told");

    let service = deployment.service();
    let plan = tokio::time::timeout(LONG, service.plan_repair(RepairBudget::default())).await;
    let plan = plan.expect("a look at everything ends").unwrap();
    assert!(plan.steps.is_empty(), "nothing is moved away from a site that is merely silent: {plan:?}");
    assert!(plan.versions_short > 0, "and nothing of it counts");
    let round = tokio::time::timeout(LONG, service.repair_once(RepairBudget::default())).await;
    round.expect("a round of repair ends").unwrap();
    let counted = tokio::time::timeout(LONG, service.count_holders()).await;
    counted.expect("a count ends").unwrap();
    let short = tokio::time::timeout(LONG, tenant.client.list_short()).await;
    assert!(short.expect("a tenant's look ends").unwrap().1 > 0);
    assert!(deployment.site("par1").await.reported > reported);
    assert!(lies.told() > 0);

    // It lists what it has again: all is well, and was.
    lies.end();
    let plan = deployment.service().plan_repair(RepairBudget::default()).await.unwrap();
    assert_eq!((plan.versions_short, plan.steps.len()), (0, 0), "{plan:?}");
}
