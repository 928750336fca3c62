//! Disks that rot, sites that lose shards, clocks that jump: found by the
//! service itself, before any reader.
#![expect(clippy::unwrap_used, reason = "cases of tests: what fails here fails the test")]

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use coffer_client::{CallError, ChallengeRequest, SiteDelayInfo};
use coffer_custody::OsEntropy;
use coffer_model::SiteId;
use coffer_regions::{Answer, Challenge, Record, RecordKind, ScrubCursor, ScrubStep, Site, SiteError};
use coffer_server::{
    Coverage, DelayState, Host, HostSites, JobSettings, OpenedSite, RepairRun, Service, SiteChallenges,
};
use coffer_site::DirectorySite;
use coffer_tests::{
    AuditLeaf, Deployment, Files, HandClock, OpenedThrough, TenantClient, Twist, Twisted, bucket_name, flip,
    object_key, pattern,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Objects of one to three stripes, and a few small ones.
async fn stored(deployment: &Deployment) -> TenantClient {
    let tenant = deployment.tenant("tenant").await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    for (n, size) in (0..).zip([70_000, 1_000_000, 5_000_000, 9_000_000, 500, 40_000]) {
        tenant.put(&bucket, &format!("object-{n}"), pattern(n, size)).await;
    }
    tenant
}

async fn records(site: &DirectorySite, kind: RecordKind) -> Vec<Record> {
    let mut records = Vec::new();
    for line in site.list(kind, None, 1000).await.unwrap() {
        records.push(site.get(line.id).await.unwrap());
    }
    records
}

/// Flips a byte in the middle of a body, wherever it lies on the site's disk.
fn flip_body(site_dir: &Path, record: &Record) {
    let volumes = site_dir.join("volumes");
    let start = &record.body()[..64];
    for (path, bytes) in Files::of(&volumes).iter() {
        if let Some(at) = bytes.windows(64).position(|window| window == start) {
            let middle = at + record.body().len() / 2;
            return flip(&volumes.join(path), u64::try_from(middle).unwrap());
        }
    }
    unreachable!("the body lies in no volume");
}

/// The leaves of the service's own log about one kind of operation.
async fn own_leaves(service: &Service, operation: &str) -> Vec<AuditLeaf> {
    let bodies = service.own_leaves(0, 100_000).await.unwrap();
    let leaves = bodies.iter().map(|body| AuditLeaf::read(body));
    leaves.filter(|leaf| leaf.operation == operation).collect()
}

async fn at<'a>(round: &'a [SiteChallenges], deployment: &Deployment, name: &str) -> &'a SiteChallenges {
    let id = site_id(deployment, name).await;
    round.iter().find(|site| site.site == id).unwrap()
}

async fn site_id(deployment: &Deployment, name: &str) -> SiteId {
    deployment.site(name).await.id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_flipped_on_a_disk_is_found_within_one_pass_noted_and_logged() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = stored(&deployment).await;
    let kit = deployment.service().kit().await.unwrap();
    let mut flipped = None;
    deployment
        .between(&mut tenant, async |deployment| {
            let shards = records(&deployment.open_site(&kit, "fra1"), RecordKind::Shard).await;
            let shard = shards.iter().max_by_key(|shard| shard.body().len()).unwrap();
            flip_body(&deployment.site_dir("fra1"), shard);
            flipped = Some(shard.id());
        })
        .await;
    let service = deployment.service();
    assert_eq!(deployment.site("fra1").await.damaged, 0, "nobody has read it yet");
    let scrubbed = service.scrub_once(u64::MAX).await.unwrap();
    assert!(scrubbed.iter().all(|site| site.pass_ended && site.answered));
    let found: Vec<u64> = scrubbed.iter().map(|site| site.findings).collect();
    assert_eq!(found.iter().sum::<u64>(), 1, "one bit at one site: {found:?}");
    let fra1 = deployment.site("fra1").await;
    assert!(fra1.damaged > 0 && fra1.reported > 0);
    let subject = format!("{}/{}", site_id(&deployment, "fra1").await, flipped.unwrap());
    let leaves = own_leaves(service, "scrub").await;
    let named = |leaf: &&AuditLeaf| leaf.subject == subject && leaf.outcome == "failed";
    assert_eq!(leaves.iter().filter(named).count(), 1);
    service.scrub_once(u64::MAX).await.unwrap();
    let leaves = own_leaves(service, "scrub").await;
    assert_eq!(leaves.iter().filter(named).count(), 1, "what is known is not news");
}

/// Some record of each kind that is small and lies whole at several sites.
const SMALL: [RecordKind; 3] = [RecordKind::Tombstone, RecordKind::Registry, RecordKind::Log];

#[tokio::test(flavor = "multi_thread")]
async fn what_rots_of_tombstones_facts_and_runs_of_leaves_is_written_anew_and_forgotten() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = stored(&deployment).await;
    tenant.client.delete(&bucket_name("things"), &object_key("object-4")).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    let mut rotten = Vec::new();
    deployment
        .between(&mut tenant, async |deployment| {
            for kind in SMALL {
                let some = records(&deployment.open_site(&kit, "fra1"), kind).await.remove(0);
                flip_body(&deployment.site_dir("fra1"), &some);
                rotten.push(some);
            }
        })
        .await;
    let service = deployment.service();
    service.scrub_once(u64::MAX).await.unwrap();
    assert_eq!(deployment.site("fra1").await.known_damage, 3);
    let (last, _) = service.repair(RepairRun::default(), &|_| ()).await.unwrap();
    assert!(last.is_over() && last.failed == 0, "{last:?}");
    assert_eq!(deployment.site("fra1").await.known_damage, 0, "what was mended is not known to be wrong");
    assert!(service.scrub_once(u64::MAX).await.unwrap().iter().all(|site| site.findings == 0));
    deployment.stop().await;
    let site = deployment.open_site(&kit, "fra1");
    for record in rotten {
        assert_eq!(site.get(record.id()).await.as_ref(), Ok(&record));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rot_in_the_framing_of_a_volume_is_found_by_the_pass_and_told_once() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = stored(&deployment).await;
    deployment
        .between(&mut tenant, async |deployment| {
            // Within the header of the first batch; a checkpoint covers it.
            flip(&deployment.site_dir("fra1").join("volumes/00000000.vol"), 128 + 40);
        })
        .await;
    let service = deployment.service();
    for _ in 0..2 {
        let scrubbed = service.scrub_once(u64::MAX).await.unwrap();
        assert!(scrubbed.iter().all(|site| site.pass_ended && site.answered));
        assert_eq!(scrubbed.iter().map(|site| site.findings).sum::<u64>(), 1, "{scrubbed:?}");
    }
    let place = format!("{}/00000000.vol", site_id(&deployment, "fra1").await);
    let leaves = own_leaves(service, "scrub").await;
    let named = |leaf: &&AuditLeaf| leaf.subject.starts_with(&place) && leaf.outcome == "failed";
    assert_eq!(leaves.iter().filter(named).count(), 1, "what is known is not news");
}

/// A promise that nothing was ever read for slips, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_was_never_read_to_its_end_alarms_after_the_same_time() {
    let clock = Arc::new(HandClock::default());
    let host = Host::of_this_machine(Arc::clone(&clock) as _, Arc::new(OsEntropy));
    let mut deployment = Deployment::six_sites_on(host).await;
    let mut tenant = stored(&deployment).await;
    let alarms = async |deployment: &Deployment| {
        let leaves = own_leaves(deployment.service(), "scrub").await;
        leaves.iter().filter(|leaf| leaf.subject.ends_with("/coverage")).count()
    };
    deployment.service().scrub_once(2_000_000).await.unwrap();
    clock.pass(20 * DAY);
    deployment.between(&mut tenant, async |_| ()).await;
    deployment.service().scrub_once(0).await.unwrap();
    assert_eq!(alarms(&deployment).await, 0);
    clock.pass(11 * DAY);
    deployment.service().scrub_once(0).await.unwrap();
    deployment.service().scrub_once(0).await.unwrap();
    assert_eq!(alarms(&deployment).await, 6, "one for each site, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_no_copy_mends_is_told_by_the_repair() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = stored(&deployment).await;
    let kit = deployment.service().kit().await.unwrap();
    let names: Vec<String> = kit.sites.iter().map(|listed| listed.site.name.clone()).collect();
    deployment
        .between(&mut tenant, async |deployment| {
            // The same run of leaves rots wherever it is.
            let site = |name: &str| deployment.open_site(&kit, name);
            let run = records(&site("fra1"), RecordKind::Log).await.remove(0);
            for name in &names {
                if site(name).get(run.id()).await.is_ok() {
                    flip_body(&deployment.site_dir(name), &run);
                }
            }
        })
        .await;
    let service = Arc::clone(deployment.service());
    service.scrub_once(u64::MAX).await.unwrap();
    let (last, progress) = service.repair(RepairRun::default(), &|_| ()).await.unwrap();
    assert!(last.failed > 0 && progress.rounds < 4, "{last:?}");
    assert!(last.reasons.iter().any(|reason| reason.contains("fra1")), "{:?}", last.reasons);
    assert!(deployment.site("fra1").await.known_damage > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_service_finds_it_by_itself() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = stored(&deployment).await;
    let kit = deployment.service().kit().await.unwrap();
    let rate = NonZeroU64::new(1 << 30);
    deployment.set_jobs(JobSettings { scrub_rate: rate, ..JobSettings::BY_HAND });
    deployment
        .between(&mut tenant, async |deployment| {
            let shards = records(&deployment.open_site(&kit, "zrh1"), RecordKind::Shard).await;
            flip_body(&deployment.site_dir("zrh1"), &shards[0]);
        })
        .await;
    let found = async {
        loop {
            let status = deployment.service().scrub_status().await.unwrap();
            if status.iter().all(|site| site.is_kept()) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(120), found).await.unwrap();
    let damaged: Vec<(&str, u64)> =
        status.iter().map(|site| (site.site.name.as_str(), site.damaged)).filter(|site| site.1 > 0).collect();
    assert_eq!(damaged, [("zrh1", 1)]);
    drop(tenant.client);
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_pass_was() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = stored(&deployment).await;
    deployment.service().scrub_once(u64::MAX).await.unwrap();
    let whole = deployment.service().scrub_status().await.unwrap();
    deployment.service().scrub_once(2_000_000).await.unwrap();
    let before = deployment.service().scrub_status().await.unwrap();
    deployment.between(&mut tenant, async |_| ()).await;
    let after = deployment.service().scrub_status().await.unwrap();
    for (before, after) in before.iter().zip(&after) {
        assert!(before.running.unwrap().bytes >= 2_000_000);
        assert_eq!(after.running, before.running, "{}", after.site.name);
        assert_eq!(after.last, before.last, "{}", after.site.name);
    }
    deployment.service().scrub_once(u64::MAX).await.unwrap();
    let ended = deployment.service().scrub_status().await.unwrap();
    for ((whole, before), ended) in whole.iter().zip(&before).zip(&ended) {
        let (whole, ended) = (whole.last.unwrap(), ended.last.unwrap());
        assert_eq!(ended.started, before.running.unwrap().started);
        let new = ended.bytes.checked_sub(whole.bytes).unwrap();
        assert!(new < 100_000, "nothing was read twice, {new} bytes of log came in between");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_promise_alarms_when_it_slips_and_no_clock_that_went_back_keeps_it() {
    let clock = Arc::new(HandClock::default());
    let host = Host::of_this_machine(Arc::clone(&clock) as _, Arc::new(OsEntropy));
    let mut deployment = Deployment::six_sites_on(host).await;
    let mut tenant = stored(&deployment).await;
    let coverage =
        async |deployment: &Deployment| deployment.service().scrub_status().await.unwrap()[0].coverage;
    assert_eq!(coverage(&deployment).await, Coverage::Unknown);
    deployment.service().scrub_once(u64::MAX).await.unwrap();
    assert!(matches!(coverage(&deployment).await, Coverage::Kept(_)));
    clock.pass(29 * DAY);
    assert!(matches!(coverage(&deployment).await, Coverage::Kept(age) if age >= 29 * DAY));
    clock.pass(2 * DAY);
    deployment.between(&mut tenant, async |_| ()).await;
    assert!(matches!(coverage(&deployment).await, Coverage::Slipped(age) if age >= 31 * DAY));
    let alarms = async |deployment: &Deployment, outcome: &str| {
        let leaves = own_leaves(deployment.service(), "scrub").await;
        let about = |leaf: &&AuditLeaf| leaf.subject.ends_with("/coverage") && leaf.outcome == outcome;
        leaves.iter().filter(about).count()
    };
    // Looks, and reads nothing; twice, for an alarm is given once.
    deployment.service().scrub_once(0).await.unwrap();
    deployment.service().scrub_once(0).await.unwrap();
    assert_eq!(alarms(&deployment, "failed").await, 6, "one for each site");
    let shown = deployment.operator().await.scrub_status().await.unwrap();
    assert!(!shown.kept && shown.sites.iter().all(|site| !site.kept && site.age.unwrap() >= 31 * DAY));
    deployment.service().scrub_once(u64::MAX).await.unwrap();
    assert_eq!(alarms(&deployment, "done").await, 6, "and is taken back");
    assert!(matches!(coverage(&deployment).await, Coverage::Kept(age) if age < DAY));
    // Twenty days pass, and somebody sets the clock so that they did not.
    clock.pass(20 * DAY);
    assert!(matches!(coverage(&deployment).await, Coverage::Kept(age) if age >= 20 * DAY));
    clock.set_back(15 * DAY);
    assert_eq!(coverage(&deployment).await, Coverage::Unknown);
    deployment.between(&mut tenant, async |_| ()).await;
    assert_eq!(coverage(&deployment).await, Coverage::Unknown, "a restart does not bring it back");
    deployment.service().scrub_once(u64::MAX).await.unwrap();
    assert!(matches!(coverage(&deployment).await, Coverage::Kept(_)));
    deployment.stop().await;
    clock.set_back(DAY);
    deployment.start().await;
    assert_eq!(coverage(&deployment).await, Coverage::Unknown, "nor one that was set while nobody looked");
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_sites_answer_every_question_and_none_is_asked_twice() {
    let deployment = Deployment::six_sites().await;
    let _tenant = stored(&deployment).await;
    let round = deployment.service().challenge_round(10).await.unwrap();
    for site in &round {
        assert!(site.answered && site.failed.is_empty(), "{site:?}");
        assert_eq!((site.right, site.repeated), (10, 0), "four striped objects with four questions each");
    }
    // Each of the four objects has at least one new question at any time.
    for _ in 0..10 {
        for site in deployment.service().challenge_round(4).await.unwrap() {
            assert_eq!(
                (site.right, site.repeated),
                (4, 0),
                "what is spent is made anew from what is read back"
            );
        }
    }
    assert!(deployment.site("fra1").await.damaged == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_lost_its_shards_has_no_answer_and_the_log_names_them() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = stored(&deployment).await;
    let kit = deployment.service().kit().await.unwrap();
    let mut lost = Vec::new();
    deployment
        .between(&mut tenant, async |deployment| {
            let site = deployment.open_site(&kit, "par1");
            lost = records(&site, RecordKind::Shard).await.iter().map(Record::id).collect();
            site.delete(lost.clone()).await.unwrap();
        })
        .await;
    let service = deployment.service();
    let scrubbed = service.scrub_once(u64::MAX).await.unwrap();
    assert!(scrubbed.iter().all(|site| site.findings == 0), "a scrub reads what is there, and it is right");
    let round = service.challenge_round(16).await.unwrap();
    let par1 = at(&round, &deployment, "par1").await;
    assert!(par1.answered && par1.right == 0 && !par1.failed.is_empty(), "{par1:?}");
    assert!(par1.failed.iter().all(|record| lost.contains(record)));
    assert!(round.iter().filter(|site| site.site != par1.site).all(|site| site.failed.is_empty()));
    assert!(deployment.site("par1").await.damaged >= par1.failed.len() as u64);
    let leaves = own_leaves(service, "challenge").await;
    for record in &par1.failed {
        let subject = format!("{}/{record}", site_id(&deployment, "par1").await);
        assert!(leaves.iter().any(|leaf| leaf.subject == subject && leaf.outcome == "failed"), "{subject}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_down_is_not_blamed_and_keeps_its_questions() {
    let deployment = Deployment::six_sites().await;
    let _tenant = stored(&deployment).await;
    deployment.operator().await.set_site_alive("sto1", false).await.unwrap();
    let round = deployment.service().challenge_round(16).await.unwrap();
    let sto1 = at(&round, &deployment, "sto1").await;
    assert!(!sto1.answered && sto1.failed.is_empty() && sto1.right == 0);
    deployment.operator().await.set_site_alive("sto1", true).await.unwrap();
    let round = deployment.service().challenge_round(10).await.unwrap();
    let sto1 = at(&round, &deployment, "sto1").await;
    assert_eq!((sto1.right, sto1.repeated), (10, 0));
    let scrubbed = deployment.service().scrub_once(u64::MAX).await.unwrap();
    assert!(scrubbed.iter().all(|site| site.answered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_catalogue_gets_its_challenges_from_shards_that_are_read_back() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = stored(&deployment).await;
    deployment
        .between(&mut tenant, async |deployment| {
            std::fs::remove_dir_all(deployment.data().join("service/catalogues")).unwrap();
        })
        .await;
    let status = deployment.operator().await.scrub_status().await.unwrap();
    assert_eq!(status.unchallenged_versions, 4);
    assert!(status.sites.iter().all(|site| site.challenges == 0 && site.age.is_none()));
    let round = deployment.service().challenge_round(16).await.unwrap();
    assert!(round.iter().all(|site| site.right == 0 && site.failed.is_empty()), "there was nothing to ask");
    let status = deployment.operator().await.scrub_status().await.unwrap();
    assert_eq!(status.unchallenged_versions, 0);
    assert!(status.sites.iter().all(|site| site.challenges == 16), "{status:?}");
    let round = deployment.service().challenge_round(8).await.unwrap();
    assert!(round.iter().all(|site| site.right == 8 && site.failed.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_reads_asks_and_sees_over_the_wire() {
    let deployment = Deployment::six_sites().await;
    let tenant = stored(&deployment).await;
    let operator = deployment.operator().await;
    let mut steps = Vec::new();
    operator.run_scrub(Some("ams1"), true, |step| steps.push(step)).await.unwrap();
    assert!(steps.iter().all(|step| step.name == "ams1" && step.answered && step.findings == 0));
    assert!(steps.last().unwrap().pass_ended && steps.last().unwrap().bytes > 1_000_000);
    let status = operator.scrub_status().await.unwrap();
    assert!(!status.kept, "five sites were not read");
    assert_eq!(
        status.sites.iter().filter(|site| site.kept).map(|site| site.name.as_str()).collect::<Vec<_>>(),
        ["ams1"]
    );
    operator.run_scrub(None, false, |_| ()).await.unwrap();
    assert!(operator.scrub_status().await.unwrap().kept);
    let asked = ChallengeRequest { site: Some("ams1".to_owned()), answers: Some(5), enrol_delays: false };
    let round = operator.run_challenges(&asked).await.unwrap();
    assert_eq!(round.len(), 1);
    assert_eq!((round[0].right, round[0].failed.len(), round[0].delay), (5, 0, SiteDelayInfo::Learning));
    let nowhere = ChallengeRequest { site: Some("nowhere".to_owned()), ..ChallengeRequest::default() };
    assert!(matches!(operator.run_challenges(&nowhere).await, Err(CallError::NotFound(_))));
    let many = ChallengeRequest { answers: Some(5000), ..ChallengeRequest::default() };
    assert!(matches!(operator.run_challenges(&many).await, Err(CallError::Invalid(_))));
    assert!(matches!(tenant.client.scrub_status().await, Err(CallError::PermissionDenied(_))));
    let outcomes: Vec<String> =
        own_leaves(deployment.service(), "challenge").await.into_iter().map(|leaf| leaf.outcome).collect();
    assert_eq!(outcomes, ["intent", "done", "intent", "failed", "intent", "failed"]);
}

/// A site that is asked through somebody who wants to look whole.
struct Crooked {
    inner: Arc<dyn Site>,
    crooked: Arc<AtomicBool>,
    how: Crook,
    clock: Arc<HandClock>,
}

/// What it does when it is asked.
#[derive(Clone, Copy)]
enum Crook {
    /// It does not answer questions, and everything else.
    Mute,
    /// It fetches what it is asked for from elsewhere, in so much time.
    Relay(Duration),
    /// It sends the scrub in a circle.
    Circle,
    /// It sends the scrub on and on, and reads nothing.
    Onward,
}

#[async_trait]
impl Twist for Crooked {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }
    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        match self.how {
            Crook::Mute if self.crooked.load(Ordering::Acquire) => Err(SiteError::Unreachable),
            Crook::Relay(takes) if self.crooked.load(Ordering::Acquire) => {
                self.clock.pass(takes);
                self.inner.answer(challenge).await
            }
            _ => self.inner.answer(challenge).await,
        }
    }
    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        match self.how {
            Crook::Circle if self.crooked.load(Ordering::Acquire) => {
                Ok(ScrubStep { next: Some(ScrubCursor([7; 16])), ..ScrubStep::default() })
            }
            Crook::Onward if self.crooked.load(Ordering::Acquire) => {
                let at = from.map_or(0, |from| u128::from_be_bytes(from.0));
                let next = Some(ScrubCursor((at + 1).to_be_bytes()));
                Ok(ScrubStep { next, ..ScrubStep::default() })
            }
            _ => self.inner.scrub_step(from, bytes_max).await,
        }
    }
}

/// A deployment in which mad1 is crooked as soon as it is told to be.
async fn crooked_deployment(how: Crook) -> (Deployment, Arc<AtomicBool>) {
    let crooked = Arc::new(AtomicBool::new(false));
    let clock = Arc::new(HandClock::still());
    let mut host = Host::of_this_machine(Arc::clone(&clock) as _, Arc::new(OsEntropy));
    let honest = HostSites::new(Arc::clone(&host.entropy));
    let bent = Arc::clone(&crooked);
    host.sites = Arc::new(OpenedThrough::new(Arc::new(honest), move |opened: OpenedSite| {
        if opened.site.description().name != "mad1" {
            return opened;
        }
        let (crooked, clock) = (Arc::clone(&bent), Arc::clone(&clock));
        let site = Twisted(Crooked { inner: opened.site, crooked, how, clock });
        OpenedSite { site: Arc::new(site), link: opened.link }
    }));
    (Deployment::six_sites_on(host).await, crooked)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_up_and_silent_only_when_it_is_asked_is_taken_at_its_word() {
    let (deployment, crooked) = crooked_deployment(Crook::Mute).await;
    let _tenant = stored(&deployment).await;
    crooked.store(true, Ordering::Release);
    let round = deployment.service().challenge_round(16).await.unwrap();
    assert!(!at(&round, &deployment, "mad1").await.failed.is_empty());
    assert!(deployment.site("mad1").await.damaged > 0);
}

/// Scrubs sites of which one goes on in this way: the five others end their pass, and it is reported.
async fn gets_no_pass_for(how: Crook) {
    let (deployment, crooked) = crooked_deployment(how).await;
    let _tenant = stored(&deployment).await;
    crooked.store(true, Ordering::Release);
    let scrubbed = deployment.service().scrub_once(u64::MAX).await.unwrap();
    let ended = scrubbed.iter().filter(|site| site.pass_ended && site.answered).count();
    assert_eq!(ended, 5);
    assert!(deployment.site("mad1").await.reported > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_sends_the_scrub_in_a_circle_gets_no_pass_for_it() {
    gets_no_pass_for(Crook::Circle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_sends_the_scrub_on_without_end_gets_no_pass_for_it() {
    gets_no_pass_for(Crook::Onward).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_begins_to_fetch_its_answers_is_reported_and_not_got_used_to() {
    let (deployment, crooked) = crooked_deployment(Crook::Relay(Duration::from_millis(25))).await;
    let _tenant = stored(&deployment).await;
    let service = deployment.service();
    let mad1 = service.challenge_round(1).await.unwrap().last().unwrap().site;
    while matches!(service.delay_state(mad1).await.unwrap(), DelayState::Learning(_)) {
        assert_eq!(service.challenge_site(mad1, 64).await.unwrap().failed.len(), 0);
    }
    crooked.store(true, Ordering::Release);
    let mut state = DelayState::AsEnrolled;
    for _ in 0..20 {
        state = service.challenge_site(mad1, 16).await.unwrap().delay;
        if state == DelayState::Later {
            break;
        }
    }
    assert_eq!(state, DelayState::Later, "every answer is right, and late");
    let leaves = own_leaves(service, "challenge").await;
    assert!(leaves.iter().any(|leaf| leaf.subject == format!("{mad1}/delay") && leaf.outcome == "failed"));
    service.enrol_delays(mad1).await.unwrap();
    assert_eq!(service.delay_state(mad1).await.unwrap(), DelayState::Learning(0), "an operator has looked");
}
