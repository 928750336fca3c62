//! Before the storm: tenants are made one after the other in fine weather, so
//! that the ledger learns whose clear tags, keys and slots are whose.

use std::sync::Arc;

use coffer_client::{LogWatch, NewTenant};
use coffer_model::{BucketName, ObjectKey};
use coffer_server::IssuedCredential;

use super::estate::Estate;
use super::plan::TenantPlan;
use super::stage::Stage;
use super::workload::{Contents, Tenant, Worker};

/// Makes the tenants of the plan.
pub(crate) async fn set(
    stage: &Arc<Stage>,
    operator: &IssuedCredential,
    contents: &Arc<Contents>,
) -> Option<Vec<Arc<Tenant>>> {
    // A leaf in the service's own log, and the log at the sites, so that its
    // tag is known.
    stage.client("operator", &operator.certificate_pem)?.list_sites().await.ok()?;
    // The list of sites is a fact of the service's own: its tag, too.
    let (service, machines) = (stage.service()?, stage.machines());
    let first = machines.first()?.name();
    for back in [false, true] {
        service.drain_site(first, back).await.ok()?;
    }
    if !stage.refresh_kit().await {
        return None;
    }
    let mut tenants = Vec::new();
    for (plan, owner) in stage.plan.tenants.clone().into_iter().zip(1..) {
        let geometry =
            (u8::try_from(plan.policy.geometry.k()).ok()?, u8::try_from(plan.policy.geometry.m()).ok()?);
        let machines = stage.machines();
        let sites = machines.iter().map(|machine| &machine.description);
        stage.ledger.learn(owner, &plan.policy, geometry, sites);
        let tenant = make(stage, operator, contents, plan, owner).await?;
        let estate = second(stage, &tenant).await?;
        tenants.extend([tenant, estate]);
    }
    stage.ledger.stop_learning();
    Some(tenants)
}

/// The tenant's second bucket, whose policy changes, and beside which others
/// come and go.
async fn second(stage: &Arc<Stage>, tenant: &Tenant) -> Option<Arc<Tenant>> {
    let bucket = BucketName::new(format!("a-second-bucket-of-{}", tenant.owner)).ok()?;
    stage.patterns.add(bucket.as_str().as_bytes(), "a bucket's name");
    stage.patterns.add(b"a-passing-bucket", "a bucket's name");
    let client = stage.client("estate", &tenant.certificate_pem)?;
    client.create_bucket(&bucket, None).await.ok()?;
    Some(Arc::new(tenant.second(bucket, Estate::new(stage, tenant))))
}

async fn make(
    stage: &Arc<Stage>,
    operator: &IssuedCredential,
    contents: &Arc<Contents>,
    plan: TenantPlan,
    owner: usize,
) -> Option<Arc<Tenant>> {
    let client = stage.client("operator", &operator.certificate_pem)?;
    stage.patterns.add(plan.name.as_bytes(), "a tenant's name");
    let new = NewTenant { name: plan.name, policy: plan.policy.clone() };
    let grant = client.create_tenant(&new, stage.entropy.as_ref()).await.ok()?;
    let watch = LogWatch::new(grant.log_origin, grant.log_key, None).ok()?;
    let bucket = BucketName::new(format!("a-bucket-of-{owner}")).ok()?;
    stage.patterns.add(bucket.as_str().as_bytes(), "a bucket's name");
    stage.patterns.add(b"the-name-of-", "an object's name");
    stage.patterns.add(b"a tenant's own words", "a tenant's words");
    let tenant = Arc::new(Tenant::new(owner, plan.policy, bucket, grant.certificate_pem, watch));
    let worker = Worker::new(stage, &tenant, contents, 800)?;
    worker.client.create_bucket(&tenant.bucket, None).await.ok()?;
    let key = ObjectKey::new(format!("the-name-of-{owner}-first").into_bytes()).ok()?;
    worker.put_content(key.clone(), 100).await;
    worker.put_content(key.clone(), 70_000).await;
    worker.delete_key(key.clone()).await;
    worker.put_content(key, 200).await;
    worker.checkpoint().await;
    Some(tenant)
}
