//! What a bucket was promised about where its bytes lie holds when sites come,
//! when its policy changes under a put, and when it is removed.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use coffer_client::{CallError, GetError, PutError, PutOutcome, RebalanceOptions, SiteChange};
use coffer_model::{BucketName, Degraded, Geometry, ResidencyPolicy, Tier};
use coffer_regions::{Receipt, Record, RecordKind, Site, SiteError};
use coffer_server::{Host, OpenedSite, RepairBudget};
use coffer_tests::{
    Deployment, OpenedThrough, TenantClient, Twist, Twisted, bucket_name, fast_sites, host, object_key,
    pattern, policy,
};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use tokio::sync::watch;

/// Country of each of the six sites.
const COUNTRIES: [(&str, &str); 6] =
    [("fra1", "DE"), ("par1", "FR"), ("ams1", "NL"), ("zrh1", "CH"), ("sto1", "SE"), ("mad1", "ES")];

/// Any four sites of six.
fn roomy() -> ResidencyPolicy {
    ResidencyPolicy {
        allow: vec![],
        deny: vec![],
        tier_min: Tier::I,
        geometry: Geometry::new(3, 1).unwrap(),
        degraded: Degraded::Refuse,
    }
}

fn country_of(site: &str) -> &'static str {
    COUNTRIES.iter().find(|(name, _)| *name == site).unwrap().1
}

fn without(site: &str) -> ResidencyPolicy {
    ResidencyPolicy { deny: vec![country_of(site).parse().unwrap()], ..roomy() }
}

/// Which site was given what of versions, in order.
type Given = Vec<(String, RecordKind)>;

/// What all sites know of each other.
struct Notes {
    given: watch::Sender<Given>,
    /// Whether only the first site that is given a manifest takes it, and who did.
    one_takes: Mutex<Option<Option<String>>>,
    /// The others, which wait with theirs until they may refuse it.
    waiting: watch::Sender<Vec<String>>,
    refuse: watch::Sender<bool>,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            given: watch::Sender::default(),
            one_takes: Mutex::default(),
            waiting: watch::Sender::default(),
            refuse: watch::Sender::default(),
        }
    }
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
    host.sites = Arc::new(OpenedThrough::new(host.sites, move |opened: OpenedSite| {
        let site = Twisted(Noting { inner: opened.site, notes: Arc::clone(&noted) });
        OpenedSite { site: Arc::new(site), link: opened.link }
    }));
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
