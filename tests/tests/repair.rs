//! Sites are lost, damaged, replaced, drained and retired; policies change;
//! the process is killed. What was promised is whole again afterwards, at
//! legal sites, and nothing is said to be healed that was not read back.
#![expect(clippy::unwrap_used, clippy::panic, reason = "steps of stories: what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use coffer_client::{RepairOptions, ShardLedger, SiteChange};
use coffer_model::{Degraded, Digest, Geometry, RecordId, ResidencyPolicy};
use coffer_regions::{Record, RecordKind, Site};
use coffer_server::{Host, RecoveryKit, RepairBudget, RepairReport, RepairRun};
use coffer_tests::{
    Deployment, Lies, TenantClient, bucket_name, copy_tree, fast_sites_and, host, object_key, pattern,
    policy, replace_tree,
};

const THINGS: &str = "things";

/// A deployment, a tenant, and objects of every size.
struct Stored {
    deployment: Deployment,
    tenant: TenantClient,
    objects: Vec<(String, Bytes)>,
}

/// What a site lists of one kind.
type Listing = BTreeMap<RecordId, Digest>;

impl Stored {
    /// At sites that say what they are told to say.
    async fn lying(more: &[(&str, &str)]) -> (Self, Arc<Lies>) {
        let (sites, lies) = Lies::before(host().sites);
        let deployment = Deployment::on(Host { sites, ..host() }, &fast_sites_and(more)).await;
        (Self::on(deployment, policy(&[])).await, lies)
    }

    async fn on(deployment: Deployment, of_bucket: ResidencyPolicy) -> Self {
        let tenant =
            deployment.tenant_with("acme", ResidencyPolicy { allow: vec![], ..of_bucket.clone() }).await;
        tenant.client.create_bucket(&bucket_name(THINGS), Some(&of_bucket)).await.unwrap();
        let mut objects = vec![("large".to_owned(), pattern(200, 9 << 20))];
        for n in 0..8_usize {
            objects.push((format!("small-{n}"), pattern(n as u64, 40 + 700 * n)));
            objects.push((format!("striped-{n}"), pattern(100 + n as u64, 66_000)));
        }
        let stored = Self { deployment, tenant, objects };
        for (key, body) in &stored.objects {
            stored.tenant.put(&bucket_name(THINGS), key, body.clone()).await;
        }
        stored
    }

    async fn new() -> Self {
        Self::on(Deployment::with_sites(&fast_sites_and(&[])).await, policy(&[])).await
    }

    async fn kit(&self) -> RecoveryKit {
        self.deployment.service().kit().await.unwrap()
    }

    /// Stops, changes, and starts again.
    async fn restart(&mut self, change: impl AsyncFnOnce(&Deployment)) {
        self.deployment.between(&mut self.tenant, change).await;
    }

    async fn all_right(&self, what: &str) {
        for (key, body) in &self.objects {
            let read = self.tenant.get(&bucket_name(THINGS), key).await;
            assert!(read.is_ok_and(|read| read == *body), "{key} {what}");
        }
    }

    /// Rounds until nothing is left, and the sum of what they did.
    async fn repair(&self) -> RepairReport {
        let mut all = RepairReport::default();
        for _ in 0..10 {
            let report = self.deployment.service().repair_once(RepairBudget::default()).await.unwrap();
            assert_eq!(report.reasons, Vec::<String>::new());
            all.shards += report.shards;
            all.copies += report.copies;
            all.read_back += report.read_back;
            all.moved += report.moved;
            all.removed += report.removed;
            all.small += report.small;
            all.slots += report.slots;
            all.bytes_written += report.bytes_written;
            if report.is_over() {
                all.plan = report.plan;
                return all;
            }
        }
        panic!("there is always something left to repair");
    }

    async fn ledger(&self, key: &str, verify: bool) -> ShardLedger {
        self.tenant.client.stat_shards(&bucket_name(THINGS), &object_key(key), verify).await.unwrap()
    }

    /// What every site lists, whatever the service thinks; it must not run.
    async fn listings(&self, kit: &RecoveryKit, kind: RecordKind) -> BTreeMap<String, Listing> {
        let mut listings = BTreeMap::new();
        for address in &kit.sites {
            if self.deployment.site_dir(&address.site.name).exists() {
                let site = self.deployment.open_site(kit, &address.site.name);
                listings.insert(address.site.name.clone(), listing(&site, kind).await);
            }
        }
        listings
    }
}

async fn listing(site: &dyn Site, kind: RecordKind) -> Listing {
    let lines = site.list(kind, None, usize::MAX).await.unwrap();
    lines.into_iter().map(|line| (line.id, line.digest)).collect()
}

const KINDS: [RecordKind; 5] =
    [RecordKind::Shard, RecordKind::Manifest, RecordKind::Tombstone, RecordKind::Registry, RecordKind::Log];

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_site_is_filled_again_with_exactly_what_it_held_and_all_of_it_is_read_back() {
    let mut stored = Stored::new().await;
    stored.tenant.client.delete(&bucket_name(THINGS), &object_key("striped-7")).await.unwrap();
    stored.objects.retain(|(key, _)| key != "striped-7");
    let kit = stored.kit().await;
    let mut before = BTreeMap::new();
    stored.deployment.stop().await;
    for kind in KINDS {
        before.insert(kind, listing(&stored.deployment.open_site(&kit, "par1"), kind).await);
    }
    let slots = stored.deployment.open_site(&kit, "par1").list_slots().await.unwrap();
    std::fs::remove_dir_all(stored.deployment.site_dir("par1")).unwrap();
    stored.deployment.start().await;
    stored.deployment.reconnect(&mut stored.tenant).await;
    let waiting = stored.deployment.service().plan_repair(RepairBudget::default()).await.unwrap();
    assert!(waiting.steps.is_empty() && waiting.waiting > 0, "nothing can be done before there is a disk");
    assert!(stored.ledger("large", false).await.states.iter().any(|state| state.state == "silent"));

    let operator = stored.deployment.operator().await;
    operator.change_site("par1", SiteChange::Replace).await.unwrap();
    assert!(stored.ledger("large", false).await.states.iter().any(|state| state.state == "missing"));
    let report = stored.repair().await;
    assert_eq!(report.shards, before[&RecordKind::Shard].len() as u64);
    assert!(report.read_back >= report.shards + report.copies);
    assert_eq!((report.plan.versions_short, report.moved, report.removed), (0, 0, 0));
    let ledger = stored.ledger("large", true).await;
    assert!(ledger.states.iter().all(|state| state.state == "verified"), "{ledger:?}");
    assert_eq!((ledger.redundancy, ledger.promised), (2, 2));
    stored.all_right("after the repair").await;

    stored.deployment.stop().await;
    // Runs of leaves are wherever enough sites have them; all else is where it was.
    let runs = stored.listings(&kit, RecordKind::Log).await;
    for (id, digest) in &before[&RecordKind::Log] {
        let copies = runs.values().filter(|listing| listing.get(id) == Some(digest)).count();
        assert_eq!(copies, 4, "{id}");
    }
    let site = stored.deployment.open_site(&kit, "par1");
    for kind in KINDS.into_iter().filter(|kind| *kind != RecordKind::Log) {
        let now = listing(&site, kind).await;
        for (id, digest) in &before[&kind] {
            assert_eq!(now.get(id), Some(digest), "{kind:?} {id}");
        }
    }
    let now: BTreeSet<_> = site.list_slots().await.unwrap().iter().map(|line| line.slot).collect();
    assert!(slots.iter().all(|line| now.contains(&line.slot)), "its keys are there too");
    assert_eq!(site.scrub().await.unwrap(), []);
}

/// Deletes the shards of one index of a version at a site that is not running.
async fn lose_shards(site: &dyn Site, of: usize) -> usize {
    let lines = site.list(RecordKind::Shard, None, usize::MAX).await.unwrap();
    // Shards of the large object are by far the longest.
    let mut ids: Vec<RecordId> =
        lines.iter().filter(|line| line.body_bytes > 200_000).map(|line| line.id).collect();
    ids.truncate(of);
    let lost = ids.len();
    site.delete(ids).await.unwrap();
    lost
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_lose_least_is_repaired_first() {
    let mut stored = Stored::new().await;
    let kit = stored.kit().await;
    stored
        .restart(async |deployment| {
            assert!(lose_shards(&deployment.open_site(&kit, "fra1"), usize::MAX).await > 0);
            std::fs::remove_dir_all(deployment.site_dir("sto1")).unwrap();
        })
        .await;
    let service = Arc::clone(stored.deployment.service());
    service.replace_site("sto1").await.unwrap();
    let plan = service.plan_repair(RepairBudget::default()).await.unwrap();
    let order: Vec<usize> = plan.steps.iter().map(|step| step.redundancy).collect();
    assert!(order.is_sorted() && order[0] == 0 && order.contains(&1), "{order:?}");
    let large = stored.ledger("large", false).await;
    assert_eq!(large.redundancy, 0);
    let first: Vec<_> = plan.steps.iter().filter(|step| step.redundancy == 0).collect();
    assert!(first.iter().all(|step| step.version == large.version), "two losses: the large object only");

    // A budget of one step repairs the most urgent stripe and nothing else.
    let budget = RepairBudget { bytes: 1, ..RepairBudget::default() };
    let report = service.repair_once(budget).await.unwrap();
    assert_eq!((report.done, report.plan.steps[0].version), (1, large.version));
    assert!(report.plan.later_steps > 0);
    stored.repair().await;
    assert_eq!(stored.ledger("large", true).await.redundancy, 2);
    stored.all_right("after two losses").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_repair_is_named_once_and_keeps_nothing_else_from_being_repaired() {
    let mut stored = Stored::new().await;
    let kit = stored.kit().await;
    let large = stored.ledger("large", false).await.version;
    stored
        .restart(async |deployment| {
            for name in ["fra1", "sto1", "mad1"] {
                lose_shards(&deployment.open_site(&kit, name), usize::MAX).await;
            }
            std::fs::remove_dir_all(deployment.site_dir("ams1")).unwrap();
        })
        .await;
    let service = Arc::clone(stored.deployment.service());
    service.replace_site("ams1").await.unwrap();
    let report = stored.repair().await;
    assert_eq!((report.plan.beyond_repair, report.plan.versions_short), (1, 1));
    assert_eq!(report.plan.troubled[0].version, large);
    service.repair_once(RepairBudget::default()).await.unwrap();
    let leaves = stored.tenant.leaves().await;
    let subject = format!("{large} is beyond repair");
    assert_eq!(leaves.iter().filter(|leaf| leaf.subject == subject).count(), 1);
    let (short, total) = stored.tenant.client.list_short().await.unwrap();
    assert_eq!((short.len(), total), (1, 1));
    assert!(short[0].why[0].starts_with("beyond repair"), "{:?}", short[0]);
    stored.objects.retain(|(key, _)| key != "large");
    stored.all_right("beside what is beyond repair").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_acknowledges_and_keeps_nothing_is_not_counted_as_healed() {
    let (mut stored, lies) = Stored::lying(&[]).await;
    stored
        .restart(async |deployment| {
            lies.forget();
            std::fs::remove_dir_all(deployment.site_dir("zrh1")).unwrap();
        })
        .await;
    let service = Arc::clone(stored.deployment.service());
    service.replace_site("zrh1").await.unwrap();
    lies.begin("zrh1");
    for _ in 0..2 {
        let report = service.repair_once(RepairBudget::default()).await.unwrap();
        assert!(report.failed > 0 && lies.told() > 0);
        // Runs of leaves find other sites; nothing else may.
        assert_eq!((report.done, report.shards, report.copies), (0, 0, 0));
        assert!(report.reasons[0].contains("acknowledged it and does not give it back"), "{report:?}");
    }
    let ledger = stored.ledger("large", false).await;
    assert_eq!((ledger.redundancy, ledger.promised), (1, 2), "one shard of each stripe is not there");
    assert!(stored.deployment.site("zrh1").await.reported > 0);
    lies.end();
    stored.repair().await;
    assert_eq!(stored.ledger("large", true).await.redundancy, 2);
    assert_eq!(stored.deployment.site("zrh1").await.known_damage, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_moves_what_must_move_and_no_byte_goes_outside_meanwhile() {
    let anywhere = ResidencyPolicy { geometry: Geometry::new(3, 2).unwrap(), ..policy(&[]) };
    let mut stored = Stored::on(Deployment::with_sites(&fast_sites_and(&[])).await, anywhere.clone()).await;
    let kit = stored.kit().await;
    let eu = ResidencyPolicy { allow: vec!["EU".parse().unwrap()], ..anywhere };
    stored.tenant.client.set_bucket_policy(&bucket_name(THINGS), &eu).await.unwrap();
    let plan = stored.deployment.service().plan_repair(RepairBudget::default()).await.unwrap();
    assert!(plan.out_of_place > 0 && !plan.steps.is_empty(), "what lies in CH is found");
    stored.tenant.put(&bucket_name(THINGS), "new", pattern(5, 70_000)).await;
    stored.objects.push(("new".to_owned(), pattern(5, 70_000)));

    let outside = |listings: &BTreeMap<String, Listing>| listings["zrh1"].clone();
    let mut last: Option<[Listing; 2]> = None;
    loop {
        let budget = RepairBudget { steps: 20, ..RepairBudget::default() };
        let report = stored.deployment.service().repair_once(budget).await.unwrap();
        assert_eq!(report.reasons, Vec::<String>::new());
        stored.all_right("while it moves").await;
        stored.deployment.stop().await;
        let now = [
            outside(&stored.listings(&kit, RecordKind::Shard).await),
            outside(&stored.listings(&kit, RecordKind::Manifest).await),
        ];
        for (now, before) in now.iter().zip(last.iter().flatten()) {
            assert!(now.keys().all(|id| before.contains_key(id)), "nothing new came to zrh1");
        }
        stored.deployment.start().await;
        stored.deployment.reconnect(&mut stored.tenant).await;
        let over = report.is_over();
        last = Some(now);
        if over {
            break;
        }
    }
    let [shards, manifests] = last.unwrap();
    assert_eq!((shards.len(), manifests.len()), (0, 0), "the old place is empty");
    for (key, _) in &stored.objects {
        let ledger = stored.ledger(key, true).await;
        let right = |state: &coffer_client::ShardState| state.state == "verified" && !state.out_of_place;
        assert!(ledger.states.iter().all(right), "{key}: {ledger:?}");
        assert!(ledger.states.iter().all(|state| state.site != "zrh1"));
    }
    let moved = stored.tenant.leaves().await;
    let moved =
        moved.iter().filter(|leaf| leaf.operation == "repair" && leaf.subject.contains(" at ")).count();
    assert!(moved > 0, "each move is a leaf");

    // What the sites hold says the same.
    let kit = stored.kit().await;
    stored.deployment.stop().await;
    stored.deployment.lose_all_but_sites();
    stored.deployment.recover(&kit).await;
    stored.deployment.reconnect(&mut stored.tenant).await;
    stored.all_right("after a rebuild").await;
    let bucket = stored.tenant.client.list_buckets().await.unwrap().remove(0);
    assert_eq!(bucket.policy, eu, "the policy too");
    assert_eq!(stored.repair().await.plan.versions_short, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_does_not_admit_goes_before_the_sites_that_may_be_lost_answer_again() {
    let anywhere = ResidencyPolicy { geometry: Geometry::new(3, 2).unwrap(), ..policy(&[]) };
    let mut stored = Stored::on(Deployment::with_sites(&fast_sites_and(&[])).await, anywhere.clone()).await;
    let kit = stored.kit().await;
    let operator = stored.deployment.operator().await;
    operator.set_site_alive("zrh1", false).await.unwrap();
    let eu = ResidencyPolicy { allow: vec!["EU".parse().unwrap()], ..anywhere };
    stored.tenant.client.set_bucket_policy(&bucket_name(THINGS), &eu).await.unwrap();
    stored.repair().await;
    // All has moved away from zrh1, which was silent and has its records still.
    for dead in ["sto1", "mad1", "ams1"] {
        operator.set_site_alive(dead, false).await.unwrap();
    }
    operator.set_site_alive("zrh1", true).await.unwrap();
    let rounds = async || {
        for _ in 0..3 {
            stored.deployment.service().repair_once(RepairBudget::default()).await.unwrap();
        }
    };
    let left = async || {
        let plan = stored.deployment.service().plan_repair(RepairBudget::default()).await.unwrap();
        plan.out_of_place
    };
    rounds().await;
    let waits = left().await;
    assert!(waits > 0, "more are silent than may be lost: what is for them stays");
    rounds().await;
    assert_eq!(left().await, waits, "and goes on staying");
    operator.set_site_alive("ams1", true).await.unwrap();
    rounds().await;
    assert_eq!(left().await, 0, "two are silent, as may be");
    stored.all_right("without two sites").await;
    stored.deployment.stop().await;
    for kind in [RecordKind::Shard, RecordKind::Manifest] {
        assert_eq!(stored.listings(&kit, kind).await["zrh1"].len(), 0, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_missed_a_deletion_gets_the_tombstone_before_anything_else_and_revives_nothing() {
    let mut stored = Stored::new().await;
    let operator = stored.deployment.operator().await;
    let large = stored.ledger("large", false).await;
    let home = large.states.iter().find(|state| state.shard.is_some()).unwrap().site.clone();
    operator.set_site_alive(&home, false).await.unwrap();
    stored.tenant.client.delete(&bucket_name(THINGS), &object_key("large")).await.unwrap();
    operator.set_site_alive(&home, true).await.unwrap();
    let report = stored.repair().await;
    assert!(report.small > 0, "the tombstone, and what of the log it missed");
    let kit = stored.kit().await;
    stored.deployment.stop().await;
    let tombstones = stored.listings(&kit, RecordKind::Tombstone).await;
    assert!(tombstones.values().all(|listing| *listing == tombstones["fra1"]), "everywhere the same");
    // Only the site that missed it, and just enough others, are left.
    let others: Vec<String> =
        kit.sites.iter().map(|address| address.site.name.clone()).filter(|name| *name != home).collect();
    for name in &others[..2] {
        std::fs::remove_dir_all(stored.deployment.site_dir(name)).unwrap();
    }
    stored.deployment.lose_all_but_sites();
    stored.deployment.recover(&kit).await;
    stored.deployment.reconnect(&mut stored.tenant).await;
    assert!(stored.tenant.get(&bucket_name(THINGS), "large").await.is_err(), "it stays deleted");
    for name in &others[..2] {
        stored.deployment.service().replace_site(name).await.unwrap();
    }
    stored.repair().await;
    assert!(stored.tenant.get(&bucket_name(THINGS), "large").await.is_err(), "repair revives nothing");
    stored.objects.retain(|(key, _)| key != "large");
    stored.all_right("that was not deleted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_added_another_one_drained_and_retired_and_the_list_outlives_topology_and_kit() {
    let mut stored = Stored::new().await;
    let old_kit = stored.kit().await;
    let operator = stored.deployment.operator().await;
    let needed = operator.change_site("mad1", SiteChange::Drain).await;
    assert!(needed.is_err(), "without it 4+2 cannot be satisfied");
    operator.add_site(&fast_sites_and(&[("hel1", "FI")]), None).await.unwrap();
    let again = operator.add_site(&fast_sites_and(&[("hel1", "FI")]), Some("hel1")).await;
    assert!(again.is_err(), "names are for life");
    operator.change_site("mad1", SiteChange::Drain).await.unwrap();
    let occupied = operator.change_site("mad1", SiteChange::Retire).await;
    assert!(occupied.is_err(), "versions have a place there");
    stored.tenant.put(&bucket_name(THINGS), "during", pattern(6, 80_000)).await;
    stored.objects.push(("during".to_owned(), pattern(6, 80_000)));
    assert!(stored.ledger("during", false).await.states.iter().all(|state| state.site != "mad1"));
    // In the midst of it the service stops; the drain goes on afterwards.
    stored
        .deployment
        .service()
        .repair_once(RepairBudget { steps: 9, ..RepairBudget::default() })
        .await
        .unwrap();
    stored.restart(async |_| ()).await;
    assert_eq!(stored.deployment.site("mad1").await.standing, "draining");
    let report = stored.repair().await;
    assert!(report.moved > 0);
    stored.deployment.operator().await.change_site("mad1", SiteChange::Retire).await.unwrap();
    stored.all_right("after the retirement").await;
    stored.deployment.stop().await;
    std::fs::remove_dir_all(stored.deployment.site_dir("mad1")).unwrap();
    // The kit is older than the new site, and everything else is gone.
    stored.deployment.lose_all_but_sites();
    stored.deployment.recover(&old_kit).await;
    stored.deployment.reconnect(&mut stored.tenant).await;
    assert_eq!(stored.deployment.site("hel1").await.standing, "active");
    assert_eq!(stored.deployment.site("mad1").await.standing, "retired");
    stored.all_right("after a recovery from the old kit").await;
    stored.repair().await;
    stored.restart(async |_| ()).await;
    assert_eq!(stored.deployment.site("hel1").await.standing, "active");
    assert_eq!(stored.repair().await.plan.versions_short, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_below_its_promise_is_listed_until_it_is_repaired() {
    let accepting = ResidencyPolicy { degraded: Degraded::Accept, ..policy(&[]) };
    let stored = Stored::on(Deployment::with_sites(&fast_sites_and(&[])).await, accepting).await;
    let operator = stored.deployment.operator().await;
    operator.set_site_alive("fra1", false).await.unwrap();
    stored.tenant.put(&bucket_name(THINGS), "late", pattern(7, 90_000)).await;
    operator.set_site_alive("fra1", true).await.unwrap();
    let (short, _) = stored.tenant.client.list_short().await.unwrap();
    let keys: Vec<String> = short.iter().map(|short| short.key.to_string()).collect();
    assert_eq!(keys, ["late"]);
    assert_eq!((short[0].redundancy, short[0].promised), (1, 2));
    let (sums, last) = operator.run_repair(RepairOptions::default(), |_| ()).await.unwrap();
    assert!(sums.shards_written > 0 && last.failed == 0, "{sums:?} {last:?}");
    assert_eq!(stored.tenant.client.list_short().await.unwrap(), (vec![], 0));
    let status = operator.repair_status().await.unwrap();
    assert!(!status.running && status.sums == sums);
    stored.all_right("after all").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_within_a_bandwidth_that_gives_way_to_tenants_comes_to_the_same_end() {
    let mut stored = Stored::new().await;
    stored.restart(async |deployment| std::fs::remove_dir_all(deployment.site_dir("fra1")).unwrap()).await;
    let service = Arc::clone(stored.deployment.service());
    service.replace_site("fra1").await.unwrap();
    let run = RepairRun { bytes_per_second: Some(64 << 20), ..RepairRun::default() };
    let (last, progress) = service.repair(run, &|_| ()).await.unwrap();
    assert!(last.is_over() && progress.failed == 0 && progress.shards > 0, "{last:?}");
    assert_eq!(stored.ledger("large", true).await.redundancy, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_came_back_older_is_brought_what_it_lacks_and_is_then_believed_again() {
    let mut stored = Stored::new().await;
    let kept = stored.deployment.scratch().join("kept");
    stored.restart(async |deployment| copy_tree(&deployment.site_dir("ams1"), &kept)).await;
    stored.tenant.put(&bucket_name(THINGS), "newer", pattern(11, 2 << 20)).await;
    stored.objects.push(("newer".to_owned(), pattern(11, 2 << 20)));
    stored.tenant.client.delete(&bucket_name(THINGS), &object_key("striped-3")).await.unwrap();
    stored.objects.retain(|(key, _)| key != "striped-3");
    stored.restart(async |deployment| replace_tree(&kept, &deployment.site_dir("ams1"))).await;
    assert!(stored.deployment.site("ams1").await.quarantined);
    let report = stored.repair().await;
    assert!(report.shards > 0 && report.small > 0, "{report:?}");
    assert!(!stored.deployment.site("ams1").await.quarantined, "nothing is lacking there any more");
    let ledger = stored.ledger("newer", true).await;
    assert!(ledger.states.iter().all(|state| state.state == "verified"), "{ledger:?}");
    stored.restart(async |_| ()).await;
    assert!(!stored.deployment.site("ams1").await.quarantined);
    stored.all_right("after the quarantine").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_keeps_what_it_says_it_removed_is_named_and_ends_the_repair() {
    let (stored, lies) = Stored::lying(&[("vie1", "AT")]).await;
    // A shard of one site lies at another one too.
    let ledger = stored.ledger("large", false).await;
    let holds = |name: &str| ledger.states.iter().any(|state| state.site == name);
    let elsewhere = stored.kit().await.sites.into_iter().map(|listed| listed.site.name);
    let elsewhere: Vec<String> = elsewhere.filter(|name| !holds(name)).collect();
    let [elsewhere] = elsewhere.as_slice() else { panic!("seven sites and six holders: {elsewhere:?}") };
    let home = lies.site(&ledger.states.iter().find(|state| state.shard.is_some()).unwrap().site).unwrap();
    for line in home.list(RecordKind::Shard, None, usize::MAX).await.unwrap() {
        let shard = home.get(line.id).await.unwrap();
        lies.site(elsewhere).unwrap().put(vec![shard]).await.unwrap();
    }
    lies.hoard(elsewhere);
    let before = stored.deployment.site(elsewhere).await.reported;
    let service = Arc::clone(stored.deployment.service());
    let told = lies.told();
    let counted = |progress: &coffer_server::RepairProgress| {
        assert!(progress.rounds <= 10, "it goes round and round");
    };
    let (last, progress) = service.repair(RepairRun::default(), &counted).await.unwrap();
    assert!(lies.told() > told, "it was asked to remove something");
    assert!(last.failed > 0 && last.done == 0 && progress.rounds == 2, "{last:?} {progress:?}");
    assert!(last.reasons.iter().all(|reason| reason.contains(elsewhere.as_str())), "{:?}", last.reasons);
    assert!(stored.deployment.site(elsewhere).await.reported > before);
    lies.end();
    let (last, _) = service.repair(RepairRun::default(), &|_| ()).await.unwrap();
    assert!(last.is_over() && last.failed == 0 && last.plan.out_of_place == 0, "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_no_version_names_are_counted_at_their_site() {
    let (stored, lies) = Stored::lying(&[]).await;
    let par1 = lies.site("par1").unwrap();
    let own = par1.list(RecordKind::Shard, None, 1).await.unwrap().remove(0);
    let own = par1.get(own.id).await.unwrap();
    // As a put leaves it that was withdrawn while the site was silent.
    let id = RecordId::from_bytes([9; 16]);
    let left = Record::new(RecordKind::Shard, id, own.geometry(), pattern(5, 70_000)).unwrap();
    par1.put(vec![left]).await.unwrap();
    assert_eq!(stored.deployment.site("par1").await.unnamed_shards, None, "nobody has looked");
    stored.repair().await;
    assert_eq!(stored.deployment.site("par1").await.unnamed_shards, Some((1, 70_000)));
    assert_eq!(stored.deployment.site("fra1").await.unnamed_shards, Some((0, 0)));
}
