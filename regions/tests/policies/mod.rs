//! The policies that plans of repair and of levelling are tried under.

use coffer_model::{Degraded, Geometry, ResidencyPolicy, Tier};

pub(crate) fn policy(k: u8, m: u8, allow: &[&str]) -> ResidencyPolicy {
    ResidencyPolicy {
        allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
        deny: vec![],
        tier_min: Tier::I,
        geometry: Geometry::new(k, m).unwrap(),
        degraded: Degraded::Refuse,
    }
}
