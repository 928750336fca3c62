//! Before the storm: tenants are made one after the other in fine weather, so
//! that the ledger learns whose clear tags, keys and slots are whose.

use std::collections::BTreeSet;
use std::sync::Arc;

use coffer_client::{LogWatch, NewTenant};
use coffer_model::{BucketName, ObjectKey};
use coffer_server::IssuedCredential;

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
    if !stage.refresh_kit().await {
        return None;
    }
    let mut tenants = Vec::new();
    for (plan, owner) in stage.plan.tenants.clone().into_iter().zip(1..) {
        let admitted: BTreeSet<_> = stage
            .machines()
            .iter()
            .filter(|machine| plan.policy.admits(&machine.description))
            .map(|machine| machine.description.id)
            .collect();
        let geometry =
            (u8::try_from(plan.policy.geometry.k()).ok()?, u8::try_from(plan.policy.geometry.m()).ok()?);
        stage.ledger.learn(owner, admitted, Some(geometry));
        tenants.push(make(stage, operator, contents, plan, owner).await?);
    }
    stage.ledger.stop_learning();
    Some(tenants)
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
