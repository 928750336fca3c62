//! The ids that a report gives to its parts: derived from what it was made
//! from, so that the same material gives the same ids.

use sha2::{Digest as _, Sha256};

use super::material::Material;
use crate::digits::hex;

/// Mints ids for one report.
pub(super) struct Identity {
    seed: [u8; 32],
}

impl Identity {
    pub(super) fn of(material: &Material) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"coffer report v1\n");
        hash.update(material.facts.statement.0);
        hash.update(material.period.from.0.to_be_bytes());
        hash.update(material.period.to.0.to_be_bytes());
        Self { seed: hash.finalize().into() }
    }

    /// The id of a part of this report. OSCAL takes versions 4 and 5 of UUIDs;
    /// these have the form of version 4, with a digest in the place of chance.
    pub(super) fn uuid(&self, kind: &str, name: &str) -> String {
        named(&self.seed, kind, name)
    }
}

/// The id of something that is the same in every report.
pub(super) fn constant(kind: &str, name: &str) -> String {
    named(b"coffer constant v1", kind, name)
}

fn named(seed: &[u8], kind: &str, name: &str) -> String {
    let mut hash = Sha256::new();
    for part in [seed, kind.as_bytes(), name.as_bytes()] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let mut bytes: [u8; 32] = hash.finalize().into();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex(&bytes);
    let part = |range: std::ops::Range<usize>| digits.get(2 * range.start..2 * range.end).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..4), part(4..6), part(6..8), part(8..10), part(10..16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_form_of_version_4_and_depends_on_every_part() {
        let id = constant("check", "place-inside");
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]));
        assert_ne!(id, constant("check", "place-tidy"));
        assert_ne!(constant("a", "bc"), constant("ab", "c"));
    }
}
