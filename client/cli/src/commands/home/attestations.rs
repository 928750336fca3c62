//! Where the nodes of a fleet at home stand: signed once, and not again with every
//! start. A start that signed anew would take back what the operator has revoked
//! or has signed since.

use std::collections::BTreeSet;
use std::path::Path;

use coffer_client::profile::write_atomically;
use coffer_control::attestation::{Attester, Said, Statement, said_by};
use coffer_control::{NAMESPACE, REVOCATIONS};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;

use super::Place;
use crate::context::Context;
use crate::exit::Failure;
use crate::files;

/// For how long a statement holds, and how long before its end another one is signed; seconds.
const HOLDS: u64 = 366 * 86_400;
const RENEWED_BEFORE: u64 = 60 * 86_400;
/// No statement is longer.
const TEXT_MAX: u64 = 4096;

/// The statements that the operator has revoked.
pub(super) async fn revoked(client: &kube::Client) -> Result<BTreeSet<String>, Failure> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let map = maps.get_opt(REVOCATIONS).await.map_err(|error| Failure::new(format!("the fleet: {error}")))?;
    Ok(map.and_then(|map| map.data).into_iter().flatten().map(|(id, _)| id).collect())
}

/// Leaves in the file what holds still of this place, and signs anew what does not. Of a place whose
/// statement was revoked nothing is signed until it is another place.
pub(super) fn keep(
    context: &Context<'_>,
    file: &Path,
    place: &Place,
    attester: &Attester,
    revoked: &BTreeSet<String>,
) -> Result<(), Failure> {
    let now = context.clock.now().0 / 1_000_000_000;
    let wanted = Statement {
        node: place.name.parse().map_err(Failure::usage)?,
        country: place.country,
        domain: place.domain.clone(),
        tier: place.tier,
        not_before: now.saturating_sub(60),
        not_after: now.saturating_add(HOLDS),
    };
    let kept = match file.exists() {
        true => said_by(String::from_utf8_lossy(&files::read_small(file, TEXT_MAX)?).trim()),
        false => None,
    };
    if let Some(Said { id, statement }) = kept.filter(|kept| same_place(&kept.statement, &wanted)) {
        if revoked.contains(&id) {
            context.output.remark(format_args!(
                "{}: its attestation {id} is revoked and is not signed anew; `coffer fleet attest` does",
                place.name
            ));
            return Ok(());
        }
        if statement.not_after > now.saturating_add(RENEWED_BEFORE) {
            return Ok(());
        }
    }
    write_atomically(file, attester.sign(&wanted).as_bytes())?;
    Ok(())
}

fn same_place(one: &Statement, other: &Statement) -> bool {
    let place = |of: &Statement| (of.node.clone(), of.country, of.domain.clone(), of.tier);
    place(one) == place(other)
}
