//! A wrap opens in its own place and in no other.

use coffer_keys::{
    Dek, Kek, RootKey, SigningKey, TenantRoot, UnwrapError, Wrap, WrapFormatError, open_with_root,
    seal_with_root, unwrap_catalog_key, unwrap_dek, unwrap_kek, unwrap_signing_key, unwrap_tenant_root,
    wrap_catalog_key, wrap_dek, wrap_kek, wrap_signing_key, wrap_tenant_root,
};
use coffer_model::{CatalogKey, KeyId, TenantId, VersionId};
use zeroize::Zeroizing;

use crate::seeded::Seeded;

const KEK: KeyId = KeyId::from_bytes([1; 16]);
const OTHER_KEY: KeyId = KeyId::from_bytes([2; 16]);
const TENANT: TenantId = TenantId::from_bytes([3; 16]);
const OTHER_TENANT: TenantId = TenantId::from_bytes([4; 16]);
const VERSION: VersionId = VersionId::from_bytes([5; 16]);
const OTHER_VERSION: VersionId = VersionId::from_bytes([6; 16]);

fn wrapped() -> (Kek, Dek, Wrap) {
    let entropy = Seeded::new(1);
    let (kek, dek) = (Kek::generate(&entropy), Dek::generate(&entropy));
    let wrap = wrap_dek(&kek, KEK, 7, TENANT, VERSION, &dek, &entropy);
    (kek, dek, wrap)
}

#[test]
fn a_wrap_survives_its_stored_form() {
    let (kek, dek, wrap) = wrapped();
    let read = Wrap::from_bytes(&wrap.to_bytes()).unwrap();
    assert_eq!((read.key_id(), read.epoch()), (KEK, 7));
    let opened = unwrap_dek(&kek, KEK, 7, TENANT, VERSION, &read).unwrap();
    assert_eq!(opened.danger_expose(), dek.danger_expose());
}

#[test]
fn a_wrap_moved_to_another_tenant_or_version_does_not_open() {
    let (kek, _, wrap) = wrapped();
    for (tenant, version) in [(OTHER_TENANT, VERSION), (TENANT, OTHER_VERSION)] {
        let error = unwrap_dek(&kek, KEK, 7, tenant, version, &wrap).err();
        assert_eq!(error, Some(UnwrapError::NotAuthentic));
    }
}

#[test]
fn a_wrap_says_which_key_and_epoch_it_needs() {
    let (kek, _, wrap) = wrapped();
    let error = unwrap_dek(&kek, OTHER_KEY, 7, TENANT, VERSION, &wrap).err();
    assert_eq!(error, Some(UnwrapError::OtherKey { found: KEK, given: OTHER_KEY }));
    let error = unwrap_dek(&kek, KEK, 8, TENANT, VERSION, &wrap).err();
    assert_eq!(error, Some(UnwrapError::OtherEpoch { found: 7, given: 8 }));
}

#[test]
fn a_wrap_relabelled_with_another_key_or_epoch_does_not_open() {
    let (kek, _, wrap) = wrapped();
    let mut bytes = wrap.to_bytes();
    bytes[20] = 8;
    let relabelled = Wrap::from_bytes(&bytes).unwrap();
    let error = unwrap_dek(&kek, KEK, 8, TENANT, VERSION, &relabelled).err();
    assert_eq!(error, Some(UnwrapError::NotAuthentic));
}

#[test]
fn every_flipped_bit_of_a_stored_wrap_is_noticed() {
    let (kek, _, wrap) = wrapped();
    for bit in 0..Wrap::BYTES * 8 {
        let mut bytes = wrap.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = Wrap::from_bytes(&bytes).map(|wrap| unwrap_dek(&kek, KEK, 7, TENANT, VERSION, &wrap));
        assert!(opened.is_err() || opened.is_ok_and(|inner| inner.is_err()), "bit {bit}");
    }
}

#[test]
fn a_wrap_of_another_length_or_version_is_not_read() {
    let (_, _, wrap) = wrapped();
    let bytes = wrap.to_bytes();
    let short = Wrap::from_bytes(&bytes[..80]);
    assert_eq!(short, Err(WrapFormatError::Length { found: 80 }));
    assert!(Wrap::from_bytes(&[bytes.as_slice(), b"!"].concat()).is_err());
    let mut newer = bytes;
    newer[0] = 2;
    assert_eq!(Wrap::from_bytes(&newer), Err(WrapFormatError::Version { found: 2 }));
}

#[test]
fn the_whole_chain_opens_from_the_root_down_and_from_no_other_root() {
    let entropy = Seeded::new(2);
    let (root, tenant_root) = (RootKey::generate(&entropy), TenantRoot::generate(&entropy));
    let (kek, root_id, tenant_root_id) = (Kek::generate(&entropy), OTHER_KEY, KeyId::generate(&entropy));
    let upper = wrap_tenant_root(&root, root_id, 1, TENANT, tenant_root_id, &tenant_root, &entropy);
    let lower = wrap_kek(&tenant_root, tenant_root_id, 4, TENANT, KEK, &kek, &entropy);
    let opened = unwrap_tenant_root(&root, root_id, 1, TENANT, tenant_root_id, &upper).unwrap();
    let opened = unwrap_kek(&opened, tenant_root_id, 4, TENANT, KEK, &lower).unwrap();
    assert_eq!(opened.danger_expose(), kek.danger_expose());

    let other = RootKey::generate(&entropy);
    assert!(unwrap_tenant_root(&other, root_id, 1, TENANT, tenant_root_id, &upper).is_err());
    assert!(unwrap_tenant_root(&root, root_id, 1, OTHER_TENANT, tenant_root_id, &upper).is_err());
    assert!(unwrap_kek(&tenant_root, tenant_root_id, 4, TENANT, OTHER_KEY, &lower).is_err());
    assert!(unwrap_kek(&tenant_root, tenant_root_id, 4, OTHER_TENANT, KEK, &lower).is_err());
}

#[test]
fn a_wrap_made_for_one_purpose_does_not_open_for_another() {
    let entropy = Seeded::new(3);
    let kek = Kek::generate(&entropy);
    let catalog = CatalogKey::new(Zeroizing::new([9; 32]));
    let signing = SigningKey::generate(&entropy);
    let for_catalog = wrap_catalog_key(&kek, KEK, 1, TENANT, &catalog, &entropy);
    let for_signing = wrap_signing_key(&kek, KEK, 1, TENANT, &signing, &entropy);
    assert!(unwrap_catalog_key(&kek, KEK, 1, TENANT, &for_signing).is_err());
    assert!(unwrap_signing_key(&kek, KEK, 1, TENANT, &for_catalog).is_err());
    let version = VersionId::from_bytes(*TENANT.as_bytes());
    assert!(unwrap_dek(&kek, KEK, 1, TENANT, version, &for_catalog).is_err());
    let read = unwrap_catalog_key(&kek, KEK, 1, TENANT, &for_catalog).unwrap();
    assert_eq!(read.danger_expose(), &[9; 32]);
    let read = unwrap_signing_key(&kek, KEK, 1, TENANT, &for_signing).unwrap();
    assert_eq!(read.verifying_key(), signing.verifying_key());
}

#[test]
fn a_deployment_secret_opens_under_its_root_and_label_only() {
    let entropy = Seeded::new(4);
    let (root, other) = (RootKey::generate(&entropy), RootKey::generate(&entropy));
    let sealed = seal_with_root(&root, "ca key", &entropy, b"-----BEGIN");
    assert_eq!(*open_with_root(&root, "ca key", &sealed).unwrap(), b"-----BEGIN");
    assert!(open_with_root(&root, "ca keys", &sealed).is_err());
    assert!(open_with_root(&other, "ca key", &sealed).is_err());
    for len in 0..sealed.len() {
        assert!(open_with_root(&root, "ca key", &sealed[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn no_two_derived_keys_are_the_same() {
    let same = || Zeroizing::new([1; 32]);
    let dek = Dek::danger_from_bytes(same());
    let keys = [
        *dek.danger_expose(),
        *dek.subkey("content").danger_expose(),
        *dek.subkey("manifest").danger_expose(),
        *dek.subkey("").danger_expose(),
        *RootKey::danger_from_bytes(same()).sealing_key("content").danger_expose(),
        *TenantRoot::danger_from_bytes(same()).sealing_key("content").danger_expose(),
        *TenantRoot::danger_from_bytes(same()).sealing_key("kek").danger_expose(),
    ];
    for (i, key) in keys.iter().enumerate() {
        assert!(!keys[i + 1..].contains(key), "key {i}");
    }
}
