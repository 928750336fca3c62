//! From wire to nouns: every value from outside passes here once, and comes
//! out as a type that cannot hold a bad value.

use coffer_model::{
    BucketName, Degraded, Digest, Geometry, GeometryError, Jurisdiction, NameError, ObjectKey, PlaceError,
    ResidencyPolicy, TenantId, Tier,
};

use crate::v1;

/// Why a message is refused. The peer sent it; nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// An id field has another length than sixteen bytes.
    #[error("field {0}: an id has sixteen bytes")]
    Id(&'static str),
    /// A digest field has another length than 32 bytes.
    #[error("field {0}: a digest has 32 bytes")]
    Digest(&'static str),
    /// A name or key breaks the rules.
    #[error("field {0}: {1}")]
    Name(&'static str, NameError),
    /// A field that the call cannot do without is absent.
    #[error("field {0} is missing")]
    Missing(&'static str),
    /// A policy names an unknown place or tier.
    #[error("policy: {0}")]
    Place(#[from] PlaceError),
    /// A policy names an impossible geometry.
    #[error("policy: {0}")]
    Geometry(#[from] GeometryError),
    /// A stated limit is broken.
    #[error("field {0} is over its limit")]
    OverLimit(&'static str),
}

/// An id of sixteen bytes.
pub fn id<T: for<'a> TryFrom<&'a [u8]>>(field: &'static str, bytes: &[u8]) -> Result<T, InvalidMessage> {
    T::try_from(bytes).map_err(|_| InvalidMessage::Id(field))
}

/// A digest of 32 bytes.
pub fn digest(field: &'static str, bytes: &[u8]) -> Result<Digest, InvalidMessage> {
    bytes.try_into().map(Digest).map_err(|_| InvalidMessage::Digest(field))
}

/// A bucket name.
pub fn bucket_name(name: String) -> Result<BucketName, InvalidMessage> {
    BucketName::new(name).map_err(|error| InvalidMessage::Name("bucket", error))
}

/// An object key.
pub fn object_key(key: &[u8]) -> Result<ObjectKey, InvalidMessage> {
    ObjectKey::new(key).map_err(|error| InvalidMessage::Name("key", error))
}

/// The tenant that a request names, or `None` for the caller's own.
pub fn own_or(tenant: &[u8]) -> Result<Option<TenantId>, InvalidMessage> {
    if tenant.is_empty() { Ok(None) } else { id("tenant", tenant).map(Some) }
}

/// A policy; absent fields take the defaults that the .proto states.
pub fn policy(message: v1::Policy) -> Result<ResidencyPolicy, InvalidMessage> {
    let places = |list: Vec<String>| -> Result<Vec<Jurisdiction>, InvalidMessage> {
        if list.len() > 256 {
            return Err(InvalidMessage::OverLimit("policy"));
        }
        list.iter().map(|text| Ok(text.parse()?)).collect()
    };
    let tier_min = match message.tier_min.as_str() {
        "" => Tier::I,
        text => text.parse()?,
    };
    let geometry = match message.geometry.as_str() {
        "" => Geometry::DEFAULT,
        text => text.parse()?,
    };
    let degraded = if message.accept_degraded { Degraded::Accept } else { Degraded::Refuse };
    Ok(ResidencyPolicy {
        allow: places(message.allow)?,
        deny: places(message.deny)?,
        tier_min,
        geometry,
        degraded,
    })
}

/// The message that [`policy`] reads back.
pub fn policy_message(policy: &ResidencyPolicy) -> v1::Policy {
    let texts = |list: &[Jurisdiction]| list.iter().map(ToString::to_string).collect();
    v1::Policy {
        allow: texts(&policy.allow),
        deny: texts(&policy.deny),
        tier_min: policy.tier_min.to_string(),
        geometry: policy.geometry.to_string(),
        accept_degraded: policy.degraded == Degraded::Accept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_back_from_its_message() {
        let message = v1::Policy {
            allow: vec!["EU".into(), "CH".into()],
            deny: vec!["HU".into()],
            tier_min: "III".into(),
            geometry: "4+2".into(),
            accept_degraded: true,
        };
        assert_eq!(policy_message(&policy(message.clone()).unwrap()), message);
    }

    #[test]
    fn unknown_places_tiers_and_geometries_are_refused() {
        let bad = [
            v1::Policy { allow: vec!["Europe".into()], ..Default::default() },
            v1::Policy { tier_min: "V".into(), ..Default::default() },
            v1::Policy { geometry: "0+2".into(), ..Default::default() },
            v1::Policy { geometry: "4-2".into(), ..Default::default() },
        ];
        for message in bad {
            let refused = matches!(
                policy(message.clone()),
                Err(InvalidMessage::Place(_) | InvalidMessage::Geometry(_))
            );
            assert!(refused, "{message:?}");
        }
    }

    #[test]
    fn an_id_of_another_length_is_refused() {
        assert_eq!(id::<TenantId>("tenant", &[0; 15]), Err(InvalidMessage::Id("tenant")));
        assert_eq!(own_or(&[]), Ok(None));
        assert!(own_or(&[1; 17]).is_err());
    }
}
