//! From which sites versions can be read, as whoever takes sites down is told:
//! never more than there is, whatever was counted before.
#![expect(clippy::unwrap_used, reason = "steps of stories: what fails here fails the test")]

use std::collections::BTreeSet;
use std::sync::Arc;

use coffer_model::{Degraded, ResidencyPolicy};
use coffer_regions::{RecordKind, Standing};
use coffer_server::{Holders, Service, SiteChangeError, SiteWish};
use coffer_tests::{Deployment, TenantClient, bucket_name, fast_sites_and, object_key, pattern, policy};

const ALL: [&str; 6] = ["fra1", "par1", "ams1", "zrh1", "sto1", "mad1"];

struct Stored {
    deployment: Deployment,
    tenant: TenantClient,
    service: Arc<Service>,
}

impl Stored {
    async fn new() -> Self {
        let deployment = Deployment::six_sites().await;
        let tenant = deployment.tenant_with("acme", policy(&[])).await;
        let degraded = ResidencyPolicy { degraded: Degraded::Accept, ..policy(&[]) };
        tenant.client.create_bucket(&bucket_name("things"), Some(&degraded)).await.unwrap();
        let service = Arc::clone(deployment.service());
        let stored = Self { deployment, tenant, service };
        stored.put("large", 200_000).await;
        stored.put("small", 200).await;
        stored
    }

    async fn put(&self, key: &str, bytes: usize) {
        self.tenant.put(&bucket_name("things"), key, pattern(1, bytes)).await;
    }

    async fn alive(&self, site: &str, alive: bool) {
        self.deployment.operator().await.set_site_alive(site, alive).await.unwrap();
    }

    async fn count(&self) -> Holders {
        self.service.count_holders().await.unwrap();
        self.service.holders().unwrap()
    }
}

/// The fewest sites of any group of striped versions.
fn fewest(holders: &Holders) -> usize {
    holders.groups.iter().filter(|group| group.needed == 4).map(|group| group.sites.len()).min().unwrap()
}

fn held(holders: &Holders, site: &str) -> u64 {
    holders.sites.iter().find(|one| one.name == site).unwrap().held
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_before_it_was_counted_and_then_every_site_of_a_version() {
    let stored = Stored::new().await;
    assert_eq!(stored.service.holders(), None);
    let holders = stored.count().await;
    assert_eq!(fewest(&holders), 6);
    // What the service writes of its own needs one site too, and lies at all; groups come in the order of ids.
    let alone = holders.groups.iter().filter(|group| group.needed == 1);
    let small = alone.min_by_key(|group| group.sites.len()).unwrap();
    assert_eq!((small.sites.len(), small.versions), (3, 1));
    let of_all: u64 = ALL.iter().map(|site| held(&holders, site)).sum();
    assert_eq!(of_all, 6 + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_falls_silent_is_not_counted_from_then_on() {
    let stored = Stored::new().await;
    assert_eq!(fewest(&stored.count().await), 6);
    stored.alive("par1", false).await;
    let holders = stored.service.holders().unwrap();
    assert_eq!(fewest(&holders), 5);
    assert!(held(&holders, "par1") > 0, "it is not empty because nobody can read it");
    assert_eq!(fewest(&stored.count().await), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_below_its_promise_counts_as_that_before_anybody_counts_again() {
    let stored = Stored::new().await;
    assert_eq!(fewest(&stored.count().await), 6);
    stored.alive("par1", false).await;
    stored.put("reduced", 100_000).await;
    stored.alive("par1", true).await;
    let holders = stored.service.holders().unwrap();
    assert_eq!(fewest(&holders), 5, "{holders:?}");
    assert_eq!(fewest(&stored.count().await), 5);
    stored.service.repair_once(coffer_server::RepairBudget::default()).await.unwrap();
    assert_eq!(fewest(&stored.count().await), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_lost_is_not_counted_and_news_of_damage_ends_what_was_counted() {
    let mut stored = Stored::new().await;
    let kit = stored.service.kit().await.unwrap();
    let lose = async |deployment: &Deployment| {
        let site = deployment.open_site(&kit, "zrh1");
        let lines = coffer_regions::Site::list(&site, RecordKind::Shard, None, 99).await.unwrap();
        let ids = lines.into_iter().map(|line| line.id).collect();
        coffer_regions::Site::delete(&site, ids).await.unwrap();
    };
    let Stored { mut deployment, mut tenant, service } = stored;
    drop(service);
    deployment.between(&mut tenant, lose).await;
    let service = Arc::clone(deployment.service());
    stored = Stored { deployment, tenant, service };
    assert_eq!(fewest(&stored.count().await), 5);
    // The reader finds it, and is not asked whether anybody has counted.
    stored.tenant.get(&bucket_name("things"), "large").await.unwrap();
    let mended = stored.service.holders();
    assert!(mended.is_none() || fewest(&mended.unwrap()) == 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_emptied_before_it_leaves_and_never_where_a_policy_needs_it() {
    let stored = Stored::new().await;
    let refused = stored.service.wish_of_site("par1", SiteWish::Empty { must: false }).await;
    assert!(matches!(refused, Err(SiteChangeError::Needed { .. })), "{refused:?}");
    let file = fast_sites_and(&[("waw1", "PL")]);
    stored.service.wish_of_site("waw1", SiteWish::Join(&file)).await.unwrap();
    for _ in 0..2 {
        stored.service.wish_of_site("par1", SiteWish::Empty { must: false }).await.unwrap();
    }
    let refused = stored.service.wish_of_site("par1", SiteWish::Leave).await;
    assert!(matches!(refused, Err(SiteChangeError::Occupied { .. })), "{refused:?}");
    assert_eq!(fewest(&stored.count().await), 6, "what is about to move can still be read");
    while !stored.service.repair_once(coffer_server::RepairBudget::default()).await.unwrap().is_over() {}
    let holders = stored.service.holders().unwrap();
    assert!(holders.groups.iter().any(|group| group.sites.contains("waw1")), "{holders:?}");
    let holders = stored.count().await;
    assert_eq!((held(&holders, "par1"), fewest(&holders)), (0, 6));
    stored.service.wish_of_site("par1", SiteWish::Leave).await.unwrap();
    let holders = stored.count().await;
    let standing = |name: &str| holders.sites.iter().find(|site| site.name == name).map(|site| site.standing);
    // A site that went is told from one that never was.
    assert_eq!((standing("par1"), standing("waw1")), (Some(Standing::Retired), Some(Standing::Active)));
    assert_eq!((held(&holders, "par1"), standing("rom1")), (0, None));
    stored.service.wish_of_site("par1", SiteWish::Leave).await.unwrap();
    let unknown = stored.service.wish_of_site("rom1", SiteWish::Leave).await;
    assert!(matches!(unknown, Err(SiteChangeError::NoSite(_))), "{unknown:?}");
    stored.tenant.get(&bucket_name("things"), "large").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_must_be_emptied_takes_no_new_byte_although_a_policy_needs_it() {
    let stored = Stored::new().await;
    stored.service.wish_of_site("par1", SiteWish::Empty { must: true }).await.unwrap();
    let before = held(&stored.count().await, "par1");
    let body = pattern(2, 100_000);
    let key = object_key("new");
    let put = stored.tenant.client.put_bytes(&bucket_name("things"), &key, &Default::default(), body).await;
    assert!(put.is_err(), "six places are promised, and there are five");
    assert_eq!(held(&stored.count().await, "par1"), before);
    stored.service.wish_of_site("par1", SiteWish::Keep).await.unwrap();
    stored.put("new", 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_the_same_over_the_wire_and_nobody_else_is() {
    let stored = Stored::new().await;
    let operator = stored.deployment.operator().await;
    let told = operator.count_holders(std::time::Duration::ZERO).await.unwrap();
    let counted = stored.service.holders().unwrap();
    let groups = |of: &Holders| -> BTreeSet<(usize, BTreeSet<String>, u64)> {
        of.groups.iter().map(|one| (one.needed, one.sites.clone(), one.versions)).collect()
    };
    let wire: BTreeSet<_> =
        told.groups.iter().map(|one| (one.needed as usize, one.sites.clone(), one.versions)).collect();
    assert_eq!(wire, groups(&counted));
    let held = |site: &str| told.sites.iter().find(|one| one.name == site).unwrap().held;
    assert_eq!(ALL.iter().map(|site| held(site)).sum::<u64>(), 9);
    let refused = stored.tenant.client.count_holders(std::time::Duration::ZERO).await;
    assert!(matches!(refused, Err(coffer_client::CallError::PermissionDenied(_))), "{refused:?}");

    let refused = operator.change_site("par1", coffer_client::SiteChange::Drain).await;
    assert!(matches!(refused, Err(coffer_client::CallError::Precondition(_))), "{refused:?}");
    operator.drain_site_anyway("par1").await.unwrap();
    let told = operator.count_holders(std::time::Duration::from_secs(600)).await.unwrap();
    assert!(told.sites.iter().find(|one| one.name == "par1").unwrap().draining);
    let Stored { mut deployment, service, .. } = stored;
    drop(service);
    deployment.stop().await;
    let overrides =
        deployment.service_leaves().await.into_iter().filter(|leaf| {
            leaf.operation == "sites" && leaf.subject.contains("although a policy may need it")
        });
    let outcomes: Vec<String> = overrides.map(|leaf| leaf.outcome).collect();
    assert_eq!(outcomes, ["intent", "done"], "an override does not look like the drain that was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_wait_for_a_count_leaves_no_intent_without_its_outcome() {
    let stored = Stored::new().await;
    let operator = stored.deployment.operator().await;
    // Later and later, until one was waited for to its end.
    for number in 0_u64.. {
        let wait = std::time::Duration::from_micros(number * 250);
        let call = operator.count_holders(std::time::Duration::ZERO);
        let ended = tokio::time::timeout(wait, call).await.is_ok();
        if ended && number >= 40 {
            break;
        }
    }
    // One count at a time: this one begins when those before it have ended.
    operator.count_holders(std::time::Duration::ZERO).await.unwrap();
    let Stored { mut deployment, service, .. } = stored;
    drop(service);
    deployment.stop().await;
    let leaves = deployment.service_leaves().await;
    let of = |outcome: &str| {
        let own = leaves.iter().filter(|leaf| leaf.operation == "repair" && leaf.subject.contains("holders"));
        own.filter(|leaf| leaf.outcome == outcome).count()
    };
    assert!(of("intent") > 1, "{leaves:?}");
    assert_eq!(of("intent"), of("done") + of("failed"), "{leaves:?}");
}
