//! The policy that flags describe.

use coffer_model::{Degraded, Geometry, ResidencyPolicy, Tier};
use serde_json::{Value, json};

use crate::flags::PolicyFlags;

pub(super) fn of(flags: PolicyFlags) -> ResidencyPolicy {
    ResidencyPolicy {
        allow: flags.allow,
        deny: flags.deny,
        tier_min: flags.tier_min.unwrap_or(Tier::I),
        geometry: flags.geometry.unwrap_or(Geometry::DEFAULT),
        degraded: if flags.accept_degraded { Degraded::Accept } else { Degraded::Refuse },
    }
}

fn places(list: &[coffer_model::Jurisdiction]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

pub(super) fn text(policy: &ResidencyPolicy) -> String {
    let allow = if policy.allow.is_empty() { "anywhere".to_owned() } else { places(&policy.allow).join("+") };
    let deny = if policy.deny.is_empty() {
        String::new()
    } else {
        format!(" not {}", places(&policy.deny).join("+"))
    };
    format!("{allow}{deny}, tier {} up, {}", policy.tier_min, policy.geometry)
}

pub(super) fn object(policy: &ResidencyPolicy) -> Value {
    json!({
        "allow": places(&policy.allow),
        "deny": places(&policy.deny),
        "tier_min": policy.tier_min.to_string(),
        "geometry": policy.geometry.to_string(),
        "accept_degraded": policy.degraded == Degraded::Accept,
    })
}
