//! Where each version lies, as its manifest states: one line for a version,
//! page by page.

use std::collections::BTreeSet;

use coffer_catalog::VersionRow;
use coffer_model::{Outcome, ResidencyPolicy, Topology, VersionId};

use super::FactsError;
use crate::authorize::Granted;
use crate::residency::Policies;
use crate::service::Service;

/// What is asked.
pub(crate) struct ListResidency {
    pub(crate) after: Option<VersionId>,
    pub(crate) limit: usize,
}

/// Where one version lies.
pub(crate) struct ResidencyLine {
    pub(crate) row: VersionRow,
    pub(crate) sites: Vec<String>,
    pub(crate) countries: BTreeSet<String>,
    pub(crate) inside: bool,
}

/// The next lines, and whether there are more.
pub(crate) async fn list_residency(
    service: &Service,
    call: Granted<ListResidency>,
) -> Result<(Vec<ResidencyLine>, bool), FactsError> {
    let (list, grant) = call.into_parts();
    let tenant = grant.tenant();
    tenant.note(&grant.event(service, None, Outcome::Done)).await?;
    let rows = tenant.catalog.versions(list.after, list.limit).await?;
    let more = rows.len() == list.limit;
    let topology = service.sites.topology();
    let mut lines = Vec::with_capacity(rows.len());
    let policies = Policies::of(tenant).await?;
    for row in rows {
        let policy = policies.of_version(&service.sites, &row.manifest.manifest);
        let name = |id| service.sites.name(id).to_owned();
        lines.push(line(row, &policy, topology, name));
    }
    Ok((lines, more))
}

fn line(
    row: VersionRow,
    policy: &ResidencyPolicy,
    topology: &Topology,
    name: impl Fn(coffer_model::SiteId) -> String,
) -> ResidencyLine {
    let homes = row.manifest.manifest.layout.sites();
    let sites = homes.iter().map(|id| name(*id)).collect();
    let known = homes.iter().map(|id| topology.site(*id));
    let inside = known.clone().all(|site| site.is_some_and(|site| policy.admits(site)));
    let countries = known.flatten().map(|site| site.country.to_string()).collect();
    ResidencyLine { sites, countries, inside, row }
}
