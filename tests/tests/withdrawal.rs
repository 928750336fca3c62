//! A put that failed half-way and could not be withdrawn at once: what became
//! of it is settled by the next start in one way, whichever sites answer then.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use coffer_client::{CallError, GetError};
use coffer_model::RecordId;
use coffer_regions::{Receipt, Record, RecordKind, Site, SiteError};
use coffer_server::{Host, RecoveryKit, RepairBudget};
use coffer_tests::{Deployment, TenantClient, Twist, bucket_name, host, object_key, policy, twisted};

/// What the sites do now.
#[derive(Default)]
enum Mood {
    #[default]
    Honest,
    /// Only the first site that is given a manifest takes it, and its tombstone.
    OneTakes(Option<String>),
    /// That site does not give its tombstones.
    NoTombstone(String),
}

struct Moody {
    inner: Arc<dyn Site>,
    mood: Arc<Mutex<Mood>>,
}

#[async_trait]
impl Twist for Moody {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let counted = |record: &Record| matches!(record.kind(), RecordKind::Manifest | RecordKind::Tombstone);
        if let Mood::OneTakes(taker) = &mut *self.mood.lock().unwrap()
            && records.iter().any(counted)
        {
            let name = &self.inner.description().name;
            if taker.get_or_insert_with(|| name.clone()) != name {
                return Err(SiteError::Full);
            }
        }
        self.inner.put(records).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        let record = self.inner.get(id).await?;
        match &*self.mood.lock().unwrap() {
            Mood::NoTombstone(at)
                if *at == self.inner.description().name && record.kind() == RecordKind::Tombstone =>
            {
                Err(SiteError::Unreachable)
            }
            _ => Ok(record),
        }
    }
}

/// A put of which one site has the manifest, and the same site its tombstone:
/// its caller was told that nobody knows. The service is stopped.
struct Undecided {
    deployment: Deployment,
    tenant: TenantClient,
    mood: Arc<Mutex<Mood>>,
    taker: String,
    /// Of the moment before.
    kit: RecoveryKit,
}

async fn undecided() -> Undecided {
    let mood = Arc::<Mutex<Mood>>::default();
    let mut host: Host = host();
    let moody = Arc::clone(&mood);
    host.sites = twisted(host.sites, move |inner| Moody { inner, mood: Arc::clone(&moody) });
    let mut deployment = Deployment::six_sites_on(host).await;
    let tenant = deployment.tenant_with("acme", policy(&[])).await;
    let bucket = bucket_name("things");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();

    *mood.lock().unwrap() = Mood::OneTakes(None);
    let put = futures::stream::iter([Ok(bytes::Bytes::from_static(b"never there"))]);
    let put = tenant.client.put(&bucket, &object_key("ghost"), Default::default(), put).await;
    let told = put.unwrap_err().to_string();
    assert!(told.contains("undecided"), "{told}");
    deployment.stop().await;

    let taker = match &*mood.lock().unwrap() {
        Mood::OneTakes(Some(taker)) => taker.clone(),
        _ => unreachable!("somebody took the manifest"),
    };
    Undecided { deployment, tenant, mood, taker, kit }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_whose_withdrawal_has_begun_never_comes_to_be_though_its_one_tombstone_is_not_found() {
    let Undecided { mut deployment, mut tenant, mood, taker, .. } = undecided().await;
    let bucket = bucket_name("things");
    *mood.lock().unwrap() = Mood::NoTombstone(taker);
    deployment.start().await;
    deployment.reconnect(&mut tenant).await;
    let read = tenant.get(&bucket, "ghost").await;
    assert!(matches!(read, Err(GetError::Call(CallError::NotFound(_)))), "{read:?}");

    *mood.lock().unwrap() = Mood::Honest;
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    let read = tenant.get(&bucket, "ghost").await;
    assert!(matches!(read, Err(GetError::Call(CallError::NotFound(_)))), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_rebuild_let_stand_the_next_does_not_take_back_over_the_tombstone_of_one_site() {
    let Undecided { mut deployment, mut tenant, mood, taker, kit } = undecided().await;
    let bucket = bucket_name("things");
    *mood.lock().unwrap() = Mood::NoTombstone(taker);
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    assert_eq!(tenant.get(&bucket, "ghost").await.unwrap(), "never there", "no tombstone was met");

    *mood.lock().unwrap() = Mood::Honest;
    let service = Arc::clone(deployment.service());
    while !service.repair_once(RepairBudget::default()).await.unwrap().is_over() {}
    drop(service);
    let kit = deployment.service().kit().await.unwrap();
    deployment.stop().await;
    deployment.lose_all_but_sites();
    deployment.recover(&kit).await;
    deployment.reconnect(&mut tenant).await;
    assert_eq!(tenant.get(&bucket, "ghost").await.unwrap(), "never there", "what was shown is there");
}
