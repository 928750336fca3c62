//! What a bucket was promised about where its bytes lie holds when sites come,
//! when its policy changes under a put, and when it is removed.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use coffer_client::evidence::gather_facts;
use coffer_client::keys::VerifierName;
use coffer_client::{CallError, GetError, PutError, PutOutcome, RebalanceOptions, SiteChange};
use coffer_model::{BucketName, Geometry, ResidencyPolicy};
use coffer_regions::{Receipt, Record, RecordKind, Site, SiteError};
use coffer_server::{Host, RepairBudget};
use coffer_tests::{
    COUNTRIES, Deployment, TenantClient, Twist, bucket_name, fast_sites, fast_sites_and, host, object_key,
    pattern, policy, roomy, twisted,
};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use tokio::sync::watch;

fn country_of(site: &str) -> &'static str {
    COUNTRIES.iter().find(|(name, _)| *name == site).unwrap().1
}

fn without(site: &str) -> ResidencyPolicy {
    roomy(&[country_of(site)])
}

/// Which site was given what of versions, in order.
type Given = Vec<(String, RecordKind)>;

/// What all sites know of each other.
#[derive(Default)]
struct Notes {
    given: watch::Sender<Given>,
    /// Whether only the first site that is given a manifest takes it, and who did.
    one_takes: Mutex<Option<Option<String>>>,
    /// The others, which wait with theirs until they may refuse it.
    waiting: watch::Sender<Vec<String>>,
    refuse: watch::Sender<bool>,
    /// Sites that are given shards: the first of these refuses them.
    shards_fail: Mutex<Option<Vec<(String, usize)>>>,
    /// The second takes one, and the others once they may arrive.
    late: watch::Sender<(usize, bool)>,
}

impl Notes {
    /// How much of versions a site was given.
    fn at(&self, site: &str) -> usize {
        self.given.borrow().iter().filter(|(at, _)| at == site).count()
    }

    /// The sites that were given something of versions.
    fn sites(&self) -> Vec<String> {
        let mut sites: Vec<String> = self.given.borrow().iter().map(|(at, _)| at.clone()).collect();
        sites.sort();
        sites.dedup();
        sites
    }

    async fn shards(&self, count: usize) {
        let mut given = self.given.subscribe();
        let enough =
            |given: &Given| given.iter().filter(|(_, kind)| *kind == RecordKind::Shard).count() >= count;
        given.wait_for(enough).await.unwrap();
    }
}

struct Noting {
    inner: Arc<dyn Site>,
    notes: Arc<Notes>,
}

impl Noting {
    /// Whether this site is one of those that must refuse a manifest.
    fn refuses(&self, records: &[Record]) -> bool {
        let name = &self.inner.description().name;
        match &mut *self.notes.one_takes.lock().unwrap() {
            Some(taker) if records.iter().any(|record| record.kind() == RecordKind::Manifest) => {
                taker.get_or_insert_with(|| name.clone()) != name
            }
            _ => false,
        }
    }

    /// The how manieth of the sites that are given shards this is, and which of
    /// its shards, where that matters.
    fn turn(&self) -> Option<(usize, usize)> {
        let name = &self.inner.description().name;
        let mut met = self.notes.shards_fail.lock().unwrap();
        let met = met.as_mut()?;
        if !met.iter().any(|(site, _)| site == name) {
            met.push((name.clone(), 0));
        }
        let at = met.iter().position(|(site, _)| site == name)?;
        met[at].1 += 1;
        Some((at, met[at].1))
    }
}

#[async_trait]
impl Twist for Noting {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let name = &self.inner.description().name;
        if self.refuses(&records) {
            let mut refuse = self.notes.refuse.subscribe();
            self.notes.waiting.send_modify(|waiting| waiting.push(name.clone()));
            refuse.wait_for(|refuse| *refuse).await.unwrap();
            return Err(SiteError::Full);
        }
        if records.iter().any(|record| record.kind() == RecordKind::Shard) {
            match self.turn() {
                Some((0, _)) => return Err(SiteError::Full),
                Some((1, 2..)) => {
                    let mut late = self.notes.late.subscribe();
                    self.notes.late.send_modify(|(waiting, _)| *waiting += 1);
                    late.wait_for(|(_, arrives)| *arrives).await.unwrap();
                }
                _ => {}
            }
        }
        let of_versions = records
            .iter()
            .map(Record::kind)
            .filter(|kind| matches!(kind, RecordKind::Shard | RecordKind::Manifest));
        let given: Given = of_versions.map(|kind| (name.clone(), kind)).collect();
        let receipts = self.inner.put(records).await?;
        self.notes.given.send_modify(|all| all.extend(given));
        Ok(receipts)
    }
}

fn noting_host() -> (Host, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let mut host = host();
    let noted = Arc::clone(&notes);
    host.sites = twisted(host.sites, move |inner| Noting { inner, notes: Arc::clone(&noted) });
    (host, notes)
}

/// A deployment whose sites say what they were given, and a tenant with a
/// bucket, both under the same policy.
async fn noting(policy: ResidencyPolicy) -> (Deployment, TenantClient, BucketName, Arc<Notes>) {
    let (host, notes) = noting_host();
    let deployment = Deployment::six_sites_on(host).await;
    let tenant = deployment.tenant_with("acme", policy).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    (deployment, tenant, bucket, notes)
}

type Pieces = UnboundedSender<io::Result<Bytes>>;

/// A put whose pieces are sent one by one; it ends when the sender is dropped.
fn begin<'a>(
    tenant: &'a TenantClient,
    bucket: &'a BucketName,
    key: &str,
) -> (Pieces, impl Future<Output = Result<PutOutcome, PutError>> + use<'a>) {
    let (pieces, source) = unbounded();
    let key = object_key(key);
    let put = async move { tenant.client.put(bucket, &key, Default::default(), source).await };
    (pieces, put)
}

async fn repair(deployment: &Deployment) {
    for _ in 0..6 {
        deployment.service().repair_once(RepairBudget::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_added_outside_of_a_tenants_policy_gets_no_byte_though_its_bucket_names_no_place() {
    let (host, notes) = noting_host();
    let european = fast_sites().replace("\"CH\"", "\"AT\"");
    let deployment = Deployment::on(host, &european).await;
    let tenant = deployment.tenant_with("acme", policy(&["EU"])).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, Some(&policy(&[]))).await.unwrap();
    let operator = deployment.operator().await;
    let more = |name: &str, country: &str| {
        format!(
            "{european}\n[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"{name}\"\ntier = \"III\"\n"
        )
    };
    operator.add_site(&more("nyc1", "US"), Some("nyc1")).await.unwrap();
    for n in 0..10_u64 {
        tenant.put(&bucket, &format!("striped-{n}"), pattern(n, 70_000)).await;
        tenant.put(&bucket, &format!("small-{n}"), pattern(n, 700)).await;
    }
    assert_eq!(notes.at("nyc1"), 0, "new versions");
    // The six inside are needed: the seventh stands in for none of them.
    let drained = operator.change_site("mad1", SiteChange::Drain).await;
    assert!(matches!(drained, Err(CallError::Precondition(_))), "{drained:?}");
    operator.rebalance(RebalanceOptions::default(), |_| ()).await.unwrap();
    repair(&deployment).await;
    assert_eq!(notes.at("nyc1"), 0, "levelling and repair");
    operator.add_site(&more("vie2", "AT"), Some("vie2")).await.unwrap();
    operator.change_site("mad1", SiteChange::Drain).await.unwrap();
    repair(&deployment).await;
    assert_eq!(notes.at("nyc1"), 0, "what moves away from a site that leaves");
    operator.change_site("mad1", SiteChange::Retire).await.unwrap();
    let lines = tenant.client.residency().await.unwrap();
    assert!(
        lines.len() == 20 && lines.iter().all(|line| line.inside && !line.countries.contains(&"US".into()))
    );
    tenant.client.delete(&bucket, &object_key("small-0")).await.unwrap();
    assert!(tenant.get(&bucket, "striped-3").await.unwrap() == pattern(3, 70_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_began_before_its_policy_changed_goes_to_sites_of_the_new_one() {
    let (_deployment, tenant, bucket, notes) = noting(roomy(&[])).await;
    let (puts, senders): (Vec<_>, Vec<_>) = (0..12)
        .map(|n| {
            let (pieces, put) = begin(&tenant, &bucket, &format!("object-{n}"));
            pieces.unbounded_send(Ok(Bytes::from_static(b"x"))).unwrap();
            (put, pieces)
        })
        .unzip();
    let change = async {
        for _ in 0..8 {
            tenant.client.list_buckets().await.unwrap();
        }
        tenant.client.set_bucket_policy(&bucket, &without("zrh1")).await.unwrap();
        for (n, pieces) in senders.into_iter().enumerate() {
            pieces.unbounded_send(Ok(pattern(n as u64, if n % 2 == 0 { 300 } else { 90_000 }))).unwrap();
        }
    };
    let (ended, ()) = tokio::join!(futures::future::join_all(puts), change);
    ended.into_iter().for_each(|put| drop(put.unwrap()));
    assert_eq!(notes.at("zrh1"), 0);
    assert_eq!(tenant.client.list(&bucket, b"").await.unwrap().len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_sites_are_excluded_meanwhile_sends_nothing_more_there_and_can_be_repeated() {
    let (_deployment, tenant, bucket, notes) = noting(roomy(&[])).await;
    let (pieces, put) = begin(&tenant, &bucket, "large");
    let change = async {
        pieces.unbounded_send(Ok(pattern(1, 9 << 20))).unwrap();
        notes.shards(8).await;
        let excluded = notes.sites().remove(0);
        tenant.client.set_bucket_policy(&bucket, &without(&excluded)).await.unwrap();
        let before = notes.at(&excluded);
        pieces.unbounded_send(Ok(pattern(2, 16 << 20))).unwrap();
        drop(pieces);
        (excluded, before)
    };
    let (put, (excluded, before)) = tokio::join!(put, change);
    match put {
        Err(PutError::Call(CallError::Unavailable(why))) => assert!(why.contains("policy"), "{why}"),
        put => panic!("{put:?}"),
    }
    assert_eq!(notes.at(&excluded), before);
    let read = tenant.get(&bucket, "large").await;
    assert!(matches!(read, Err(GetError::Call(CallError::NotFound(_)))));
    tenant.put(&bucket, "large", pattern(3, 9 << 20)).await;
    assert_eq!(notes.at(&excluded), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_not_changed_before_what_a_failed_upload_sent_has_arrived_or_failed() {
    let (_deployment, tenant, bucket, notes) = noting(roomy(&[])).await;
    *notes.shards_fail.lock().unwrap() = Some(Vec::new());
    let (pieces, put) = begin(&tenant, &bucket, "large");
    pieces.unbounded_send(Ok(pattern(1, 11 << 20))).unwrap();
    drop(pieces);
    let change = async {
        notes.late.subscribe().wait_for(|(waiting, _)| *waiting > 0).await.unwrap();
        let late = notes.shards_fail.lock().unwrap().as_ref().unwrap()[1].0.clone();
        let without = without(&late);
        let mut change = std::pin::pin!(tenant.client.set_bucket_policy(&bucket, &without));
        let calls = async {
            for _ in 0..50 {
                tenant.client.list_buckets().await.unwrap();
            }
        };
        tokio::select! {
            changed = &mut change => panic!("something is on its way to {late}: {changed:?}"),
            () = calls => {}
        }
        notes.late.send_modify(|(_, arrives)| *arrives = true);
        change.await.unwrap();
        (notes.at(&late), late)
    };
    let (put, (before, late)) = tokio::join!(put, change);
    assert!(put.is_err(), "one site refused its shards");
    assert_eq!(notes.at(&late), before, "nothing lands there after the change");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_facts_of_one_tenant_looked_at_stays_no_secret_to_repair() {
    let mut deployment = Deployment::six_sites().await;
    let (mut tenant, other) =
        (deployment.tenant_with("acme", roomy(&[])).await, deployment.tenant("other").await);
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    tenant.put(&bucket, "small", pattern(1, 700)).await;
    let home = tenant.client.stat(&bucket, &object_key("small")).await.unwrap().sites.remove(0);
    let name = other.log_origin.split_once("/log/").unwrap().0.to_owned();
    gather_facts(&other.client, &VerifierName { name, key: other.log_key }).await.unwrap();
    let operator = deployment.operator().await;
    operator.set_site_alive(&home, false).await.unwrap();
    tenant.client.set_bucket_policy(&bucket, &without(&home)).await.unwrap();
    repair(&deployment).await;
    operator.set_site_alive(&home, true).await.unwrap();
    repair(&deployment).await;
    assert_eq!(tenant.get(&bucket, "small").await.unwrap(), pattern(1, 700));
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    let left = deployment.open_site(&kit, &home).list(RecordKind::Manifest, None, 10).await.unwrap();
    assert!(left.is_empty(), "the policy excludes {home}, and a record of the object lies there");
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_sites_the_new_policy_admits_comes_to_its_end() {
    let (_deployment, tenant, bucket, notes) = noting(roomy(&[])).await;
    let (pieces, put) = begin(&tenant, &bucket, "large");
    let change = async {
        pieces.unbounded_send(Ok(pattern(1, 9 << 20))).unwrap();
        notes.shards(8).await;
        let taken = notes.sites();
        let (free, _) = COUNTRIES.iter().find(|(name, _)| !taken.contains(&(*name).to_owned())).unwrap();
        tenant.client.set_bucket_policy(&bucket, &without(free)).await.unwrap();
        drop(pieces);
    };
    let (put, ()) = tokio::join!(put, change);
    put.unwrap();
    assert!(tenant.get(&bucket, "large").await.unwrap() == pattern(1, 9 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_put_left_is_not_rolled_forward_to_a_site_that_is_excluded_by_now() {
    let (mut deployment, mut tenant, bucket, notes) = noting(roomy(&[])).await;
    let operator = deployment.operator().await;
    *notes.one_takes.lock().unwrap() = Some(None);
    let (pieces, put) = begin(&tenant, &bucket, "ghost");
    pieces.unbounded_send(Ok(Bytes::from_static(b"never there"))).unwrap();
    drop(pieces);
    let fail = async {
        notes.waiting.subscribe().wait_for(|waiting| !waiting.is_empty()).await.unwrap();
        // So few that it cannot be withdrawn either.
        for (name, _) in &COUNTRIES[1..] {
            operator.set_site_alive(name, false).await.unwrap();
        }
        notes.refuse.send_replace(true);
    };
    let (put, ()) = tokio::join!(put, fail);
    assert!(put.unwrap_err().to_string().contains("undecided"));
    for (name, _) in &COUNTRIES[1..] {
        operator.set_site_alive(name, true).await.unwrap();
    }
    *notes.one_takes.lock().unwrap() = None;
    let excluded = notes.waiting.borrow()[0].clone();
    tenant.client.set_bucket_policy(&bucket, &without(&excluded)).await.unwrap();
    deployment.stop().await;
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    assert_eq!(notes.at(&excluded), 0);
    let read = tenant.get(&bucket, "ghost").await;
    assert!(matches!(read, Err(GetError::Call(CallError::NotFound(_)))), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_bucket_hides_stays_where_its_policy_admitted_it() {
    let (host, notes) = noting_host();
    let mut deployment = Deployment::six_sites_on(host).await;
    let mut tenant = deployment.tenant_with("acme", policy(&[])).await;
    let bucket = bucket_name("things");
    let three = ResidencyPolicy { geometry: Geometry::new(2, 1).unwrap(), ..policy(&["DE", "FR", "NL"]) };
    tenant.client.create_bucket(&bucket, Some(&three)).await.unwrap();
    for (key, length) in [("small", 700), ("striped", 90_000)] {
        tenant.put(&bucket, key, pattern(1, length)).await;
        tenant.client.delete(&bucket, &object_key(key)).await.unwrap();
    }
    tenant.client.remove_bucket(&bucket).await.unwrap();
    let inside = ["ams1", "fra1", "par1"];
    assert_eq!(notes.sites(), inside);

    let operator = deployment.operator().await;
    operator.drain_site_anyway("fra1").await.unwrap();
    repair(&deployment).await;
    assert_eq!(notes.sites(), inside, "repair");
    deployment.between(&mut tenant, async |_| ()).await;
    repair(&deployment).await;
    assert_eq!(notes.sites(), inside, "repair after a restart");
    let operator = deployment.operator().await;
    operator.rebalance(RebalanceOptions::default(), |_| ()).await.unwrap();
    assert_eq!(notes.sites(), inside, "levelling");
    let retired = operator.change_site("fra1", SiteChange::Retire).await;
    assert!(matches!(retired, Err(CallError::Precondition(_))), "{retired:?}");
    let lines = tenant.client.residency().await.unwrap();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.hidden && line.inside));

    let german = "\n[[site]]\nname = \"ber1\"\ncountry = \"DE\"\ndomain = \"ber1\"\ntier = \"III\"\n";
    operator.add_site(&(fast_sites() + german), Some("ber1")).await.unwrap();
    repair(&deployment).await;
    assert_eq!(notes.sites(), ["ams1", "ber1", "fra1", "par1"], "a site inside takes them");
    operator.change_site("fra1", SiteChange::Retire).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_not_drained_that_only_hidden_versions_of_a_removed_bucket_need() {
    let deployment = Deployment::six_sites().await;
    let two_and_one =
        |places: &[&str]| ResidencyPolicy { geometry: Geometry::new(2, 1).unwrap(), ..policy(places) };
    let tenant = deployment.tenant_with("acme", two_and_one(&[])).await;
    let operator = deployment.operator().await;
    let leave = async |name: &str, length: Option<usize>| {
        let bucket = bucket_name(name);
        tenant.client.create_bucket(&bucket, Some(&two_and_one(&["DE", "FR", "NL"]))).await.unwrap();
        if let Some(length) = length {
            tenant.put(&bucket, "object", pattern(1, length)).await;
            tenant.client.delete(&bucket, &object_key("object")).await.unwrap();
        }
        tenant.client.remove_bucket(&bucket).await.unwrap();
    };
    // An empty bucket leaves nothing, and a small version lies at two sites.
    for (name, length) in [("empty", None), ("small", Some(700))] {
        leave(name, length).await;
        operator.change_site("fra1", SiteChange::Drain).await.unwrap();
        operator.change_site("fra1", SiteChange::Undrain).await.unwrap();
    }
    leave("striped", Some(90_000)).await;
    let refused = operator.change_site("fra1", SiteChange::Drain).await;
    let says = |error: &CallError| matches!(error, CallError::Precondition(why) if why.contains("was removed") && why.contains("coffer site add"));
    assert!(refused.as_ref().is_err_and(says), "{refused:?}");
    operator.add_site(&fast_sites_and(&[("ber1", "DE")]), Some("ber1")).await.unwrap();
    operator.change_site("fra1", SiteChange::Drain).await.unwrap();
    repair(&deployment).await;
    operator.change_site("fra1", SiteChange::Retire).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_a_policy_does_not_admit_is_drained_whatever_that_policy_lacks() {
    let european = fast_sites().replace("\"CH\"", "\"AT\"");
    let american = "\n[[site]]\nname = \"nyc1\"\ncountry = \"US\"\ndomain = \"nyc1\"\ntier = \"III\"\n";
    let deployment = Deployment::with_sites(&(european + american)).await;
    let tenant = deployment.tenant_with("acme", policy(&["EU"])).await;
    tenant.client.create_bucket(&bucket_name("things"), Some(&policy(&["EU"]))).await.unwrap();
    let operator = deployment.operator().await;
    operator.drain_site_anyway("mad1").await.unwrap();
    operator.change_site("nyc1", SiteChange::Drain).await.unwrap();
    let refused = operator.change_site("sto1", SiteChange::Drain).await;
    assert!(matches!(refused, Err(CallError::Precondition(_))), "{refused:?}");
}
