//! Starts that meet only sites which never heard of a tenant: refused, with the
//! sites that are missing by name, rather than without the tenant.
#![expect(clippy::unwrap_used, clippy::panic, reason = "steps of stories: what fails here fails the test")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use coffer_server::OpenError;
use coffer_tests::{Deployment, TenantClient, bucket_name, pattern};

/// The site that is away while the tenant is made.
const AWAY: &str = "mad1";
const OTHERS: [&str; 5] = ["fra1", "par1", "ams1", "zrh1", "sto1"];

struct Story {
    deployment: Deployment,
    tenant: TenantClient,
}

impl Story {
    /// A tenant with an object, of which one site knows nothing; stopped.
    async fn begin() -> Self {
        let mut deployment = Deployment::six_sites().await;
        deployment.stop().await;
        hide(&deployment, &[AWAY]);
        deployment.start().await;
        let tenant = deployment.tenant("acme").await;
        let bucket = bucket_name("things");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        tenant.put(&bucket, "object", pattern(1, 500)).await;
        deployment.stop().await;
        show(&deployment, &[AWAY]);
        Self { deployment, tenant }
    }

    /// Why a start is refused, and that it names the tenant and who is silent.
    async fn refused(&mut self) {
        match self.deployment.try_start().await {
            Err(OpenError::NoKeys { tenants, silent }) => {
                assert_eq!(tenants, BTreeSet::from([self.tenant.tenant]));
                assert_eq!(silent.iter().map(String::as_str).collect::<BTreeSet<_>>(), OTHERS.into());
            }
            other => panic!("started without the keys of a tenant: {other:?}"),
        }
    }

    async fn all_right(&mut self) {
        self.deployment.start().await;
        self.deployment.reconnect(&mut self.tenant).await;
        let read = self.tenant.get(&bucket_name("things"), "object").await;
        assert!(read.is_ok_and(|read| read == pattern(1, 500)));
    }

    fn catalogues(&self) -> PathBuf {
        self.deployment.data().join("service").join("catalogues")
    }

    /// Removes the catalogue files of this tenant, or of the realm.
    fn lose_catalogues(&self, of: impl Fn(&str) -> bool) {
        let mut lost = 0;
        for entry in std::fs::read_dir(self.catalogues()).unwrap() {
            let path = entry.unwrap().path();
            if of(path.file_name().unwrap().to_str().unwrap()) {
                std::fs::remove_file(path).unwrap();
                lost += 1;
            }
        }
        assert!(lost > 0);
    }
}

fn hidden(deployment: &Deployment, name: &str) -> PathBuf {
    deployment.scratch().join(format!("hidden-{name}"))
}

/// Takes the disks of these sites away.
fn hide(deployment: &Deployment, names: &[&str]) {
    for name in names {
        std::fs::rename(deployment.site_dir(name), hidden(deployment, name)).unwrap();
    }
}

/// Brings them back.
fn show(deployment: &Deployment, names: &[&str]) {
    for name in names {
        std::fs::rename(hidden(deployment, name), deployment.site_dir(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_meets_only_the_site_without_a_tenants_keys_is_refused_and_one_more_site_mends_it() {
    let mut story = Story::begin().await;
    hide(&story.deployment, &OTHERS);
    story.refused().await;
    // Nor does it help that the tenant's catalogue is gone as well.
    let id = story.tenant.tenant.to_string();
    story.lose_catalogues(|name| name.starts_with(&id));
    story.refused().await;
    show(&story.deployment, &OTHERS);
    story.all_right().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realm_that_was_rebuilt_knows_its_tenants_from_its_log() {
    let mut story = Story::begin().await;
    let id = story.tenant.tenant.to_string();
    story.lose_catalogues(|name| !name.starts_with(&id));
    story.all_right().await;
    story.deployment.stop().await;
    hide(&story.deployment, &OTHERS);
    story.refused().await;
    show(&story.deployment, &OTHERS);
    story.all_right().await;
}
