//! Sites that come back older than they were: quarantined and named, and no
//! deleted object comes back with them. Sites that were merely away are not.
//! And sites that come back with a new disk, which know nothing.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use coffer_client::{CallError, GetError};
use coffer_model::{Degraded, ResidencyPolicy};
use coffer_server::{OpenError, RecoverError, RecoveryKit, RepairRun, SiteWish};
use coffer_tests::{
    Deployment, TenantClient, bucket_name, copy_tree, cut, object_key, pattern, policy, replace_tree, volumes,
};

/// Some objects, half of which are deleted after the past of the sites was kept.
struct Story {
    deployment: Deployment,
    tenant: TenantClient,
    kit: RecoveryKit,
}

const OBJECTS: u64 = 12;

fn body(n: u64) -> Bytes {
    // Small ones, which lie whole at three sites, and striped ones.
    pattern(n, if n.is_multiple_of(2) { 500 } else { 70_000 })
}

fn key(n: u64) -> String {
    format!("object-{n:02}")
}

fn deleted(n: u64) -> bool {
    n % 4 < 2
}

impl Story {
    /// Writes, keeps a copy of every site as it is then, and deletes.
    async fn begin() -> Self {
        let mut deployment = Deployment::six_sites().await;
        let mut tenant = deployment.tenant("acme").await;
        let bucket = bucket_name("things");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        for n in 0..OBJECTS {
            tenant.put(&bucket, &key(n), body(n)).await;
        }
        deployment.stop().await;
        copy_tree(&deployment.data().join("sites"), &deployment.scratch().join("past"));
        deployment.start().await;
        deployment.reconnect(&mut tenant).await;
        for n in (0..OBJECTS).filter(|n| deleted(*n)) {
            tenant.client.delete(&bucket, &object_key(&key(n))).await.unwrap();
        }
        let kit = deployment.service().kit().await.unwrap();
        deployment.stop().await;
        Self { deployment, tenant, kit }
    }

    /// Puts the past of these sites back.
    fn rewind(&self, names: &[&str]) {
        for name in names {
            let past = self.deployment.scratch().join("past").join(name);
            replace_tree(&past, &self.deployment.site_dir(name));
        }
    }

    async fn start(&mut self) {
        self.deployment.start().await;
        self.deployment.reconnect(&mut self.tenant).await;
    }

    async fn quarantined(&self) -> Vec<String> {
        let sites = self.deployment.operator().await.list_sites().await.unwrap();
        sites.into_iter().filter(|site| site.quarantined).map(|site| site.name).collect()
    }

    /// Everything reads back but what was deleted, which nothing shows.
    async fn all_right(&self) {
        let bucket = bucket_name("things");
        for n in 0..OBJECTS {
            let read = self.tenant.get(&bucket, &key(n)).await;
            match deleted(n) {
                true => assert!(matches!(read, Err(GetError::Call(CallError::NotFound(_)))), "{n}: {read:?}"),
                false => assert!(read.is_ok_and(|read| read == body(n)), "{n}"),
            }
        }
        let listed = self.tenant.client.list(&bucket, b"").await.unwrap();
        let keys: Vec<String> = listed.iter().map(|object| object.key.to_string()).collect();
        let expected: Vec<String> = (0..OBJECTS).filter(|n| !deleted(*n)).map(key).collect();
        assert_eq!(keys, expected);
    }

    /// Leaves of the service's own log about a site, by its operation.
    async fn leaves(&mut self, operation: &str) -> usize {
        self.deployment.stop().await;
        let count = self.deployment.service_leaves().await;
        let count = count.iter().filter(|leaf| leaf.operation == operation).count();
        self.start().await;
        count
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_copies_of_two_sites_are_quarantined_and_named_and_no_deleted_object_reappears() {
    let mut story = Story::begin().await;
    story.rewind(&["fra1", "par1"]);
    story.start().await;
    assert_eq!(story.quarantined().await, ["fra1", "par1"]);
    story.all_right().await;
    // The next start knows it as well, and the log has each of them once.
    assert_eq!(story.leaves("site_quarantine").await, 2);
    assert_eq!(story.quarantined().await, ["fra1", "par1"]);
    assert_eq!(story.leaves("site_quarantine").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_at_an_older_site_is_said_to_be_in_quarantine_and_silent_only_while_it_is_silent() {
    let mut story = Story::begin().await;
    story.rewind(&["fra1"]);
    story.start().await;
    let striped = object_key(&key(3));
    let states = async |verify| {
        let ledger = story.tenant.client.stat_shards(&bucket_name("things"), &striped, verify).await.unwrap();
        assert_eq!(
            (ledger.redundancy < ledger.promised),
            ledger.states.iter().any(|s| s.site == "fra1" && s.state != "listed")
        );
        let mut by_site: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for state in ledger.states {
            by_site.entry(state.site).or_default().insert(state.state);
        }
        let at_it: Vec<String> = by_site.remove("fra1").unwrap().into_iter().collect();
        let elsewhere: BTreeSet<String> = by_site.into_values().flatten().collect();
        (at_it, elsewhere.into_iter().collect::<Vec<_>>())
    };
    let told = |at_it: &str, elsewhere: &str| (vec![at_it.to_owned()], vec![elsewhere.to_owned()]);
    assert_eq!(states(false).await, told("quarantined", "listed"));
    assert_eq!(states(true).await, told("quarantined", "verified"));
    let operator = story.deployment.operator().await;
    operator.set_site_alive("fra1", false).await.unwrap();
    assert_eq!(states(false).await, told("silent", "listed"));
    operator.set_site_alive("fra1", true).await.unwrap();
    assert_eq!(states(false).await, told("quarantined", "listed"));
    story.deployment.service().repair(RepairRun::default(), &|_| ()).await.unwrap();
    assert_eq!(story.quarantined().await, Vec::<String>::new());
    assert_eq!(states(false).await, told("listed", "listed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_knows_nothing_but_the_kit_finds_the_older_sites_out() {
    let mut story = Story::begin().await;
    story.rewind(&["ams1", "mad1"]);
    story.deployment.lose_all_but_sites();
    let report = story.deployment.recover(&story.kit).await;
    assert_eq!(report.missing_sites, ["ams1", "mad1"]);
    story.deployment.reconnect(&mut story.tenant).await;
    assert_eq!(story.quarantined().await, ["ams1", "mad1"]);
    story.all_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_older_site_more_than_may_be_lost_stops_a_recovery_rather_than_bring_back_the_deleted() {
    let mut story = Story::begin().await;
    story.rewind(&["ams1", "mad1"]);
    std::fs::remove_dir_all(story.deployment.site_dir("zrh1")).unwrap();
    story.deployment.lose_all_but_sites();
    match story.deployment.try_recover(&story.kit).await {
        Err(RecoverError::Open(OpenError::TooManyLost { missing, more: 1, .. })) => {
            assert_eq!(missing.len(), 3, "{missing:?}");
        }
        other => panic!("recovered with too few sites that can be believed: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_cut_short_by_one_batch_or_by_half_is_found_by_its_reach() {
    let mut story = Story::begin().await;
    let last = |name: &str| volumes(&story.deployment.site_dir(name)).pop().unwrap();
    let length = |name: &str| last(name).metadata().unwrap().len();
    cut(&last("sto1"), length("sto1") - 1);
    cut(&last("zrh1"), length("zrh1") / 2);
    story.start().await;
    assert_eq!(story.quarantined().await, ["zrh1", "sto1"]);
    story.all_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_merely_away_is_not_quarantined_whether_it_was_dead_or_not_there() {
    let mut story = Story::begin().await;
    let (home, away) = (story.deployment.site_dir("par1"), story.deployment.scratch().join("away"));
    std::fs::rename(&home, &away).unwrap();
    story.start().await;
    let bucket = bucket_name("things");
    story.tenant.put(&bucket, "while-away", pattern(77, 300)).await;
    assert!(!story.deployment.site("par1").await.alive);
    story.deployment.stop().await;
    std::fs::rename(&away, &home).unwrap();
    story.start().await;
    assert!(story.deployment.site("par1").await.alive);

    let operator = story.deployment.operator().await;
    operator.set_site_alive("fra1", false).await.unwrap();
    story.tenant.put(&bucket, "while-dead", pattern(78, 300)).await;
    operator.set_site_alive("fra1", true).await.unwrap();
    story.tenant.put(&bucket, "striped", pattern(79, 70_000)).await;
    assert_eq!(story.quarantined().await, Vec::<String>::new());
    for (name, seed, length) in [("while-away", 77, 300), ("while-dead", 78, 300), ("striped", 79, 70_000)] {
        assert!(story.tenant.get(&bucket, name).await.unwrap() == pattern(seed, length), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quarantined_site_gets_nothing_until_it_is_released_and_then_again() {
    let mut story = Story::begin().await;
    story.rewind(&["fra1"]);
    story.start().await;
    let bucket = bucket_name("things");
    let before = story.deployment.site("fra1").await.records;
    // All n sites of 4+2 are needed, and one of the six is not believed.
    let (key, metadata) = (object_key("striped"), Default::default());
    let refused = story.tenant.client.put_bytes(&bucket, &key, &metadata, pattern(1, 70_000)).await;
    assert!(matches!(refused, Err(CallError::Unavailable(_))));
    for n in 0..10 {
        story.tenant.put(&bucket, &format!("small-{n}"), pattern(n, 100)).await;
    }
    assert_eq!(story.deployment.site("fra1").await.records, before);
    let id = story.kit.sites.iter().find(|address| address.site.name == "fra1").unwrap().site.id;
    story.deployment.service().release_site(id).await.unwrap();
    assert_eq!(story.quarantined().await, Vec::<String>::new());
    story.tenant.put(&bucket, "striped", pattern(1, 70_000)).await;
    assert!(story.deployment.site("fra1").await.records > before);
    assert_eq!(story.leaves("site_release").await, 1);
    assert_eq!(story.quarantined().await, Vec::<String>::new(), "the next start knows that it was released");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_site_is_believed_again_although_tenants_never_stop_to_write_and_delete() {
    let mut story = Story::begin().await;
    story.rewind(&["fra1"]);
    story.start().await;
    let accepting = ResidencyPolicy { degraded: Degraded::Accept, ..policy(&[]) };
    let bucket = bucket_name("busy");
    story.tenant.client.create_bucket(&bucket, Some(&accepting)).await.unwrap();
    let service = story.deployment.service();
    // Whenever repair looks, something new is missing at the site: a shard, or the tombstone of one.
    let busy = async |writer: u64| {
        let key = format!("of-{writer}");
        for n in 0.. {
            story.tenant.put(&bucket, &key, pattern(n, 70_000)).await;
            story.tenant.client.delete(&bucket, &object_key(&key)).await.unwrap();
            let rounds = service.repair_progress().rounds;
            if story.quarantined().await.is_empty() || rounds > 30 {
                return rounds;
            }
        }
        0
    };
    let run = RepairRun { bytes_per_second: None, yields: false, ..RepairRun::default() };
    let busy = futures::future::join_all((0..4).map(busy));
    let (repaired, rounds) = tokio::join!(service.repair(run, &|_| ()), busy);
    assert!(rounds.iter().all(|rounds| *rounds <= 30), "it was released when they rested: {rounds:?}");
    assert_eq!(story.quarantined().await, Vec::<String>::new());
    let (report, _) = repaired.unwrap();
    // With it back every byte has its place, and the run comes to an end of its own.
    assert!(report.is_over() && report.failed == 0, "{report:?}");
    assert_eq!(service.plan_repair(run.budget).await.unwrap().troubled, []);
    story.all_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_disk_counts_as_lost_for_whoever_makes_a_catalogue_again_until_repair_has_filled_it() {
    let mut story = Story::begin().await;
    std::fs::remove_dir_all(story.deployment.site_dir("sto1")).unwrap();
    story.start().await;
    let service = Arc::clone(story.deployment.service());
    service.replace_site("sto1").await.unwrap();
    let refilling = async || story.deployment.site("sto1").await.refilling;
    let repaired = async || service.repair(RepairRun::default(), &|_| ()).await.map(drop).unwrap();
    assert!(refilling().await);
    // Those that repair cannot ask may be the only ones who know what the new disk lacks.
    let operator = story.deployment.operator().await;
    for name in ["ams1", "mad1"] {
        operator.set_site_alive(name, false).await.unwrap();
    }
    repaired().await;
    assert!(refilling().await);
    // Nor is one filled that is being emptied: it is given nothing.
    for name in ["ams1", "mad1"] {
        operator.set_site_alive(name, true).await.unwrap();
    }
    service.wish_of_site("sto1", SiteWish::Empty { must: true }).await.unwrap();
    repaired().await;
    assert!(refilling().await);
    service.wish_of_site("sto1", SiteWish::Keep).await.unwrap();
    drop((service, operator));
    story.deployment.stop().await;
    story.deployment.lose_all_but_sites();
    let away = story.deployment.scratch().join("away");
    std::fs::create_dir(&away).unwrap();
    let take =
        |story: &Story, name| std::fs::rename(story.deployment.site_dir(name), away.join(name)).unwrap();
    let give =
        |story: &Story, name| std::fs::rename(away.join(name), story.deployment.site_dir(name)).unwrap();
    // As many as may be lost, beside the one that knows nothing yet. The kit is older than its disk.
    take(&story, "ams1");
    take(&story, "mad1");
    match story.deployment.try_recover(&story.kit).await {
        Err(RecoverError::Open(OpenError::TooManyLost { missing, more: 1, .. })) => {
            assert_eq!(missing, ["ams1", "sto1 with a new disk that is not filled yet", "mad1"]);
        }
        other => panic!("recovered from fewer sites than were promised to be met: {other:?}"),
    }
    give(&story, "ams1");
    story.deployment.recover(&story.kit).await;
    story.deployment.reconnect(&mut story.tenant).await;
    story.all_right().await;
    assert!(story.deployment.site("sto1").await.refilling, "a recovery does not fill it");

    story.deployment.stop().await;
    story.start().await;
    assert!(story.deployment.site("sto1").await.refilling, "nor does a start");
    // One that is away is not waited for: what it knows is also at others than the new disk.
    story.deployment.service().repair(RepairRun::default(), &|_| ()).await.unwrap();
    assert!(!story.deployment.site("sto1").await.refilling);
    story.deployment.stop().await;
    story.deployment.lose_all_but_sites();
    take(&story, "ams1");
    story.deployment.recover(&story.kit).await;
    story.deployment.reconnect(&mut story.tenant).await;
    story.all_right().await;
}
