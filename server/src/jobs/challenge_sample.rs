//! Which shards of a version are asked about, under which keys, and what must
//! be answered: chosen while the shards pass by, by a secret of the tenant.

use std::collections::{BTreeMap, BTreeSet};

use coffer_catalog::{ChallengeRow, NewChallenges};
use coffer_keys::Dek;
use coffer_model::{Digest, Entropy, RecordId, SiteId, VersionId};
use coffer_regions::{Record, answer_of};

/// Challenges for each shard position of a version, whatever its length: at
/// 4+2 24 rows, and a 16 KiB hash for each, a few times over.
pub(crate) const PER_SHARD: u8 = 4;

/// The key of a question about `record`: the site sees it when it is asked,
/// and can compute neither it nor any other before.
pub(crate) fn key_of(secret: &Dek, record: RecordId, nonce: [u8; 8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(secret.danger_expose());
    hasher.update(b"coffer challenge key v1").update(record.as_bytes()).update(&nonce);
    *hasher.finalize().as_bytes()
}

/// What decides between the stripes: each has the same chance, and whoever
/// lacks the secret cannot tell which was taken.
fn rank(key: &[u8; 32]) -> [u8; 32] {
    *blake3::Hasher::new_keyed(key).update(b"coffer challenge rank v1").finalize().as_bytes()
}

struct Picked {
    rank: [u8; 32],
    record: RecordId,
    answer: Option<Digest>,
}

/// Takes, for each shard position and each of its challenges, one stripe at
/// random, without knowing how many stripes come.
pub(crate) struct Sampler {
    secret: Dek,
    version: VersionId,
    salt: [u8; 7],
    picked: BTreeMap<(u8, u8), Picked>,
}

impl Sampler {
    pub(crate) fn new(secret: Dek, version: VersionId, entropy: &dyn Entropy) -> Self {
        let mut salt = [0; 7];
        entropy.fill(&mut salt);
        Self { secret, version, salt, picked: BTreeMap::new() }
    }

    fn nonce(&self, slot: u8) -> [u8; 8] {
        let mut nonce = [slot; 8];
        nonce[1..].copy_from_slice(&self.salt);
        nonce
    }

    /// Looks at the shard of a stripe that passes by.
    pub(crate) fn offer(&mut self, index: u8, record: &Record) {
        self.consider(index, record.id());
        self.answer(index, record);
    }

    /// Takes `record` where it wins; what it takes has no answer yet.
    pub(crate) fn consider(&mut self, index: u8, record: RecordId) {
        for slot in 0..PER_SHARD {
            let rank = rank(&key_of(&self.secret, record, self.nonce(slot)));
            if self.picked.get(&(index, slot)).is_none_or(|picked| rank < picked.rank) {
                self.picked.insert((index, slot), Picked { rank, record, answer: None });
            }
        }
    }

    /// The records of a position that were taken and have no answer yet.
    pub(crate) fn unanswered(&self, index: u8) -> BTreeSet<RecordId> {
        let of = self.picked.range((index, 0)..=(index, u8::MAX));
        of.filter(|(_, picked)| picked.answer.is_none()).map(|(_, picked)| picked.record).collect()
    }

    /// Answers whatever is asked about `record`.
    pub(crate) fn answer(&mut self, index: u8, record: &Record) {
        for slot in 0..PER_SHARD {
            let nonce = self.nonce(slot);
            if let Some(picked) = self.picked.get_mut(&(index, slot))
                && picked.answer.is_none()
                && picked.record == record.id()
            {
                let key = key_of(&self.secret, record.id(), nonce);
                picked.answer = Some(answer_of(&key, record.body()).0);
            }
        }
    }

    /// The challenges that have their answers, but those of sites that missed
    /// their shards.
    pub(crate) fn finish(self, sites: &[SiteId], missed: &[SiteId]) -> NewChallenges {
        let mut rows = Vec::with_capacity(self.picked.len());
        let mut whole = true;
        for ((index, slot), picked) in &self.picked {
            let site = sites.get(usize::from(*index)).filter(|site| !missed.contains(site));
            match (site, picked.answer) {
                (Some(site), Some(answer)) => rows.push(ChallengeRow {
                    version: self.version,
                    site: *site,
                    record: picked.record,
                    nonce: self.nonce(*slot),
                    answer,
                }),
                _ => whole = false,
            }
        }
        whole &= self.picked.len() == sites.len() * usize::from(PER_SHARD);
        NewChallenges { rows, whole }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use coffer_regions::{ClearGeometry, RecordKind};
    use zeroize::Zeroizing;

    use super::*;

    struct Fixed(u8);
    impl Entropy for Fixed {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    fn sampler(salt: u8) -> Sampler {
        let secret = Dek::danger_from_bytes(Zeroizing::new([9; 32]));
        Sampler::new(secret, VersionId::from_bytes([1; 16]), &Fixed(salt))
    }

    fn shard(stripe: u8, index: u8) -> Record {
        let mut id = [index; 16];
        id[0] = stripe;
        let body = Bytes::from(vec![stripe ^ index; 40_000]);
        Record::new(RecordKind::Shard, RecordId::from_bytes(id), ClearGeometry::default(), body).unwrap()
    }

    fn sites() -> Vec<SiteId> {
        (0..6).map(|site| SiteId::from_bytes([site; 16])).collect()
    }

    #[test]
    fn every_position_has_its_challenges_and_the_holder_of_the_bytes_answers_them() {
        for stripes in [1, 2, 30] {
            let mut sampler = sampler(3);
            for stripe in 0..stripes {
                (0..6).for_each(|index| sampler.offer(index, &shard(stripe, index)));
            }
            let secret = Dek::danger_from_bytes(Zeroizing::new([9; 32]));
            let made = sampler.finish(&sites(), &[]);
            assert!(made.whole);
            assert_eq!(made.rows.len(), 24);
            for row in made.rows {
                let [stripe, index, ..] = *row.record.as_bytes();
                assert_eq!(row.site, sites()[usize::from(index)]);
                let right = answer_of(&key_of(&secret, row.record, row.nonce), shard(stripe, index).body());
                assert_eq!(row.answer, right.0);
            }
        }
    }

    #[test]
    fn many_stripes_have_a_chance_and_another_salt_asks_otherwise() {
        let stripes = |salt: u8| -> BTreeSet<RecordId> {
            let mut sampler = sampler(salt);
            for stripe in 0..100 {
                (0..6).for_each(|index| sampler.consider(index, shard(stripe, index).id()));
            }
            (0..6).flat_map(|index| sampler.unanswered(index)).collect()
        };
        assert!(stripes(1).len() > 18, "{} of 24", stripes(1).len());
        assert_ne!(stripes(1), stripes(2));
    }

    #[test]
    fn a_site_that_missed_its_shard_is_not_asked_about_it_and_the_version_is_not_whole() {
        let mut sampler = sampler(3);
        (0..6).for_each(|index| sampler.offer(index, &shard(0, index)));
        let made = sampler.finish(&sites(), &sites()[2..3]);
        assert!(!made.whole);
        assert_eq!(made.rows.len(), 20);
        assert!(made.rows.iter().all(|row| row.site != sites()[2]));
    }
}
