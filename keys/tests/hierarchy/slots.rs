//! Passphrase slots and recovery seals.

use coffer_keys::{
    PassphraseError, PassphraseSlot, RecoveryError, RecoveryPublicKey, RecoverySecret, open_sealed,
    open_under_passphrase, seal_to, seal_under_passphrase,
};

use crate::seeded::Seeded;

#[test]
fn a_slot_opens_under_its_passphrase_only() {
    let slot = seal_under_passphrase(b"correct horse", &[7; 32], &Seeded::new(1)).unwrap();
    assert_eq!(slot.len(), PassphraseSlot::BYTES);
    assert_eq!(*open_under_passphrase(b"correct horse", &slot).unwrap(), [7; 32]);
    let error = open_under_passphrase(b"correct house", &slot).err();
    assert_eq!(error, Some(PassphraseError::WrongPassphrase));
}

#[test]
fn an_altered_cost_salt_nonce_or_key_does_not_open() {
    let slot = seal_under_passphrase(b"p", &[7; 32], &Seeded::new(1)).unwrap();
    // The last byte of passes, of salt, of nonce, of ciphertext and of tag.
    for at in [8, 28, 52, 84, 100] {
        let mut altered = slot.clone();
        altered[at] ^= 1;
        let error = open_under_passphrase(b"p", &altered).err();
        assert_eq!(error, Some(PassphraseError::WrongPassphrase), "byte {at}");
    }
}

#[test]
fn a_slot_that_asks_for_absurd_work_is_refused_before_any_is_done() {
    let slot = seal_under_passphrase(b"p", &[7; 32], &Seeded::new(1)).unwrap();
    let costs: [[u32; 3]; 7] = [
        [(1 << 20) + 1, 3, 4],
        [u32::MAX, 3, 4],
        [65536, 17, 4],
        [65536, 3, 17],
        [65536, 0, 4],
        [65536, 3, 0],
        [31, 3, 4],
    ];
    for cost in costs {
        let mut greedy = slot.clone();
        greedy[1..13].copy_from_slice(&cost.map(u32::to_be_bytes).concat());
        let [memory_kib, passes, lanes] = cost;
        let error = PassphraseSlot::from_bytes(&greedy).err();
        assert_eq!(error, Some(PassphraseError::Cost { memory_kib, passes, lanes }));
    }
}

#[test]
fn bytes_that_are_no_slot_are_refused() {
    let slot = seal_under_passphrase(b"p", &[7; 32], &Seeded::new(1)).unwrap();
    for len in (0..slot.len()).chain([slot.len() + 1]) {
        let bytes: Vec<u8> = slot.iter().copied().chain([0]).take(len).collect();
        assert_eq!(PassphraseSlot::from_bytes(&bytes).err(), Some(PassphraseError::Format), "{len}");
    }
    let newer = [[2].as_slice(), &slot[1..]].concat();
    assert_eq!(PassphraseSlot::from_bytes(&newer).err(), Some(PassphraseError::Format));
}

#[test]
fn a_recovery_seal_opens_for_its_key_and_purpose_only() {
    let entropy = Seeded::new(2);
    let (secret, other) = (RecoverySecret::generate(&entropy), RecoverySecret::generate(&entropy));
    let public = RecoveryPublicKey::from_text(&secret.public_key().to_text()).unwrap();
    let sealed = seal_to(&public, b"tenant/kek/3", &[7; 32], &entropy).unwrap();
    assert_eq!(*open_sealed(&secret, b"tenant/kek/3", &sealed).unwrap(), [7; 32]);
    for (secret, info) in [(&secret, b"tenant/kek/4"), (&other, b"tenant/kek/3")] {
        assert_eq!(open_sealed(secret, info, &sealed).err(), Some(RecoveryError::NotAuthentic));
    }
}

#[test]
fn no_altered_byte_of_a_recovery_seal_is_accepted() {
    let entropy = Seeded::new(2);
    let secret = RecoverySecret::generate(&entropy);
    let sealed = seal_to(&secret.public_key(), b"i", &[7; 32], &entropy).unwrap();
    for at in (0..sealed.len()).step_by(7).chain([0, 1, 2, sealed.len() - 1]) {
        let mut altered = sealed.clone();
        altered[at] ^= 0x40;
        assert!(open_sealed(&secret, b"i", &altered).is_err(), "byte {at}");
    }
    assert_eq!(open_sealed(&secret, b"i", &sealed[1..]).err(), Some(RecoveryError::Format));
    assert_eq!(open_sealed(&secret, b"i", &[]).err(), Some(RecoveryError::Format));
}

#[test]
fn texts_that_are_no_recovery_key_are_refused() {
    let good = RecoverySecret::generate(&Seeded::new(2)).public_key().to_text();
    let not_a_point = base64_of_ones();
    for text in ["", "AAAA", &good[4..], &good.replace('A', "!"), &not_a_point] {
        assert_eq!(RecoveryPublicKey::from_text(text).err(), Some(RecoveryError::PublicKey));
    }
}

/// 1216 bytes of ones: coefficients above the modulus of ML-KEM.
fn base64_of_ones() -> String {
    format!("{}/w==", "/".repeat(1620))
}
