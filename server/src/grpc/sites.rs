//! `coffer.v1.Sites`. Every principal may look; only operators change.

use std::sync::Arc;

use coffer_model::{Geometry, Operation, Outcome, Role};
use coffer_proto::v1::{self, sites_server::Sites};
use coffer_proto::v1::{
    ListSitesRequest, ListSitesResponse, SetSiteAliveRequest, SetSiteAliveResponse, SiteInfo,
};
use tonic::{Request, Response, Status};

use super::status::status;
use super::{bearer, operator_call, tenant_call};
use crate::measured::{Measured, Timed};
use crate::put::STRIPE_BYTES;
use crate::service::Service;
use crate::sites::ListedSite;

/// The service over gRPC.
pub(crate) struct SitesApi(pub(crate) Arc<Service>);

/// More than a record takes beside the shard in it: headers, digests, the frame of its batch.
const BESIDE_SHARD_BYTES: u64 = 4 << 10;

/// Whether a site that has so many bytes free refuses the next shard of a whole stripe, as buckets without a geometry
/// of their own cut it. What is smaller may still go there: no site is passed over because of this.
fn is_full(free: Option<u64>) -> bool {
    let shard = STRIPE_BYTES.div_ceil(Geometry::DEFAULT.k());
    let needed = u64::try_from(shard).map_or(u64::MAX, |shard| shard + BESIDE_SHARD_BYTES);
    free.is_some_and(|free| free < needed)
}

/// What is known of a site now.
pub(super) async fn info(service: &Service, listed: &ListedSite) -> SiteInfo {
    let site = &listed.address.site;
    let state = service.sites.state(site.id).await;
    if state.alive {
        service.sites.saw(site.id, service.host.clock.now());
    }
    let known_damage = u64::try_from(service.damage.count(site.id)).unwrap_or(u64::MAX);
    let unnamed = service.repairs.unnamed_shards(site.id);
    SiteInfo {
        id: site.id.as_bytes().to_vec().into(),
        name: site.name.clone(),
        country: site.country.to_string(),
        domain: site.domain.0.clone(),
        tier: site.tier.to_string(),
        alive: state.alive,
        simulated: service.sites.simulated(&site.name).is_some(),
        records: state.records,
        volume_bytes: state.volume_bytes,
        damaged: state.damaged.max(known_damage),
        reported: service.sites.reported(site.id),
        quarantined: service.sites.is_quarantined(site.id),
        refilling: listed.address.refilling,
        standing: listed.standing.name().to_owned(),
        dead_bytes: state.dead_bytes,
        free_bytes: state.free_bytes,
        full: is_full(state.free_bytes),
        read_only: state.read_only,
        known_damage,
        unnamed_shards: unnamed.map(|amount| amount.records),
        unnamed_shard_bytes: unnamed.map_or(0, |amount| amount.bytes),
        written_bytes: service.sites.written(site.id).data(),
        last_seen_ns: service.sites.last_seen(site.id).map_or(0, |time| time.0),
    }
}

fn measured(of: Measured, all_tenants: bool) -> v1::Measured {
    let timed = |timed: Timed| v1::Timed {
        amount: timed.amount,
        nanos: u64::try_from(timed.took.as_nanos()).unwrap_or(u64::MAX),
        until_ns: timed.until.0,
    };
    v1::Measured {
        versions: of.versions,
        bytes: of.bytes,
        rebuild: of.rebuild.map(timed),
        repair: of.repair.map(timed),
        all_tenants,
    }
}

#[tonic::async_trait]
impl Sites for SitesApi {
    async fn list_sites(
        &self,
        request: Request<ListSitesRequest>,
    ) -> Result<Response<ListSitesResponse>, Status> {
        let bearer = bearer(&request);
        let operator =
            bearer.and_then(|print| self.0.principal(&print)).is_some_and(|p| p.role == Role::Operator);
        let call = if operator {
            operator_call(Operation::Sites, String::new(), ())
        } else {
            tenant_call(Operation::Sites, None, String::new(), ())
        };
        let ((), grant) = self.0.authorize(bearer, call).await.map_err(status)?.into_parts();
        let wanted = request.into_inner().measured;
        let event = grant.event(&self.0, None, Outcome::Done);
        grant.tenant().note(&event).await.map_err(status)?;
        let mut sites = Vec::new();
        for site in self.0.sites.listed() {
            sites.push(info(&self.0, site).await);
        }
        let measured = match wanted {
            true => {
                let of = if operator { self.0.all_tenants() } else { vec![Arc::clone(grant.tenant())] };
                Some(measured(self.0.measured(&of, operator).await.map_err(status)?, operator))
            }
            false => None,
        };
        Ok(Response::new(ListSitesResponse { sites, measured }))
    }

    async fn set_site_alive(
        &self,
        request: Request<SetSiteAliveRequest>,
    ) -> Result<Response<SetSiteAliveResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let subject = self.0.sites.simulated(&wire.name).map(|(site, _)| site.id.to_string());
        let call = operator_call(Operation::Sites, subject.unwrap_or_default(), wire.alive);
        let (alive, grant) = self.0.authorize(bearer, call).await.map_err(status)?.into_parts();
        let Some((description, site)) = self.0.sites.simulated(&wire.name) else {
            let event = grant.event(&self.0, None, Outcome::Failed);
            grant.tenant().note(&event).await.map_err(status)?;
            return Err(Status::not_found(format!(
                "there is no simulated site {:?} that has its directory",
                wire.name
            )));
        };
        let event = grant.event(&self.0, None, Outcome::Intent);
        grant.tenant().note(&event).await.map_err(status)?;
        if alive {
            site.revive()
        } else {
            site.kill()
        }
        let event = grant.event(&self.0, None, Outcome::Done);
        grant.tenant().note(&event).await.map_err(status)?;
        let listed = self.0.sites.listed().iter().find(|site| site.address.site.id == description.id);
        let site = match listed {
            Some(listed) => Some(info(&self.0, listed).await),
            None => None,
        };
        Ok(Response::new(SetSiteAliveResponse { site }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_full_when_a_shard_does_not_fit_and_not_where_nobody_knows() {
        assert!(!is_full(None) && !is_full(Some(u64::MAX)) && !is_full(Some(2 << 20)));
        assert!(is_full(Some(0)) && is_full(Some(1 << 20)), "a megabyte and what is around it");
    }
}
