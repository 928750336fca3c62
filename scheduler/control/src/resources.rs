//! The fleet's own resources, in group `fleet.coffer`, version `v1`. Their
//! definitions are generated from these types (`scheduler/deploy/`).

mod ledger;
mod reservation;
mod site_set;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

pub use ledger::{PlacementRecord, PlacementRecordSpec};
pub use reservation::{Held, Reservation, ReservationSpec};
pub use site_set::{
    Condition, Departed, Member, SiteResources, SiteSet, SiteSetResidency, SiteSetSpec, SiteSetSpread,
    SiteSetStatus, SiteTemplate, SiteToleration,
};

/// The definitions of all of them.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![SiteSet::crd(), PlacementRecord::crd(), Reservation::crd()]
}
