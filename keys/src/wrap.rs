//! Wraps: a key under the key above it, by AES-256-GCM-SIV with a random
//! nonce. Purpose, wrapping key, epoch, tenant and subject are associated
//! data, so that no wrap opens in another's place. Drawn in `FORMAT.md`.

use coffer_model::{CatalogKey, Entropy, KeyId, TenantId, VersionId};
use zeroize::Zeroizing;

use crate::engine::{self, NONCE_BYTES};
use crate::evidence::SigningKey;
use crate::fields;
use crate::secret::{Dek, Kek, RootKey, TenantRoot};

const WRAP_VERSION: u8 = 1;
const CIPHERTEXT_BYTES: usize = 48;
const SECRET_VERSION: u8 = 1;

/// What kind of key a wrap holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapPurpose {
    /// A tenant root, under the deployment's root.
    TenantRoot,
    /// A KEK epoch, under its tenant root.
    Kek,
    /// The DEK of one version, under a KEK epoch.
    Dek,
    /// The key of a tenant's catalogue file, under a KEK epoch.
    CatalogKey,
    /// The seed of a log signing key, under a KEK epoch.
    SigningKey,
    /// A secret of the deployment itself, under its root.
    DeploymentSecret,
}

impl WrapPurpose {
    /// Its name in associated data; never changes.
    fn label(self) -> &'static str {
        match self {
            Self::TenantRoot => "tenant-root",
            Self::Kek => "kek",
            Self::Dek => "dek",
            Self::CatalogKey => "catalog-key",
            Self::SigningKey => "signing-key",
            Self::DeploymentSecret => "deployment-secret",
        }
    }
}

/// Everything that a wrap is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrapContext {
    /// What is wrapped.
    pub purpose: WrapPurpose,
    /// Which key wraps it.
    pub wrapping_key: KeyId,
    /// The epoch: of the wrapping KEK, of the wrapped KEK, or of the root.
    pub epoch: u32,
    /// Whose it is; none for the deployment's own.
    pub tenant: Option<TenantId>,
    /// Which one it is: version id, key id or tenant id.
    pub subject: [u8; 16],
}

impl WrapContext {
    fn associated_data(&self) -> Vec<u8> {
        let tenant: &[u8] = self.tenant.as_ref().map_or(&[], |tenant| tenant.as_bytes());
        fields::encode(&[
            b"coffer/wrap/v1",
            self.purpose.label().as_bytes(),
            self.wrapping_key.as_bytes(),
            &self.epoch.to_be_bytes(),
            tenant,
            &self.subject,
        ])
    }

    fn wrap(&self, key: &[u8; 32], secret: &[u8; 32], entropy: &dyn Entropy) -> Wrap {
        let sealed = engine::siv_seal(key, &self.associated_data(), secret, entropy);
        let (mut nonce, mut ciphertext) = ([0; NONCE_BYTES], [0; CIPHERTEXT_BYTES]);
        nonce.copy_from_slice(&sealed[..NONCE_BYTES]);
        ciphertext.copy_from_slice(&sealed[NONCE_BYTES..]);
        Wrap { key: self.wrapping_key, epoch: self.epoch, nonce, ciphertext }
    }

    fn unwrap(&self, key: &[u8; 32], wrap: &Wrap) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
        if wrap.key != self.wrapping_key {
            return Err(UnwrapError::OtherKey { found: wrap.key, given: self.wrapping_key });
        }
        if wrap.epoch != self.epoch {
            return Err(UnwrapError::OtherEpoch { found: wrap.epoch, given: self.epoch });
        }
        let sealed = [wrap.nonce.as_slice(), &wrap.ciphertext].concat();
        let plain =
            engine::siv_open(key, &self.associated_data(), &sealed).ok_or(UnwrapError::NotAuthentic)?;
        engine::thirty_two(&plain).ok_or(UnwrapError::NotAuthentic)
    }
}

/// Why bytes are not a wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapFormatError {
    /// Not 81 bytes.
    #[error("a wrap has {} bytes, not {found}", Wrap::BYTES)]
    Length {
        /// How many there are.
        found: usize,
    },
    /// A version that this release does not know.
    #[error("wrap format {found} is not known to this release; use a newer one")]
    Version {
        /// The version byte.
        found: u8,
    },
}

/// Why a wrap does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// It names another wrapping key.
    #[error("wrapped under {found}, not under {given}; fetch the key that it names")]
    OtherKey {
        /// The key that the wrap names.
        found: KeyId,
        /// The key that was given.
        given: KeyId,
    },
    /// It names another epoch.
    #[error("wrapped for epoch {found}, not for epoch {given}; open it with the epoch that it names")]
    OtherEpoch {
        /// The epoch that the wrap names.
        found: u32,
        /// The epoch that was given.
        given: u32,
    },
    /// Altered, or made for another purpose, tenant or subject, or the key is
    /// not the one with this id.
    #[error("the wrap was altered or belongs to another tenant or subject; read another copy")]
    NotAuthentic,
}

/// A wrapped 32-byte key as it is stored. Holds no secret in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrap {
    key: KeyId,
    epoch: u32,
    nonce: [u8; NONCE_BYTES],
    ciphertext: [u8; CIPHERTEXT_BYTES],
}

impl Wrap {
    /// Its stored length.
    pub const BYTES: usize = 1 + 16 + 4 + NONCE_BYTES + CIPHERTEXT_BYTES;

    /// The wrapping key that it names.
    pub fn key_id(&self) -> KeyId {
        self.key
    }

    /// The epoch that it names.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The stored bytes: version, key id, epoch, nonce, ciphertext.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0] = WRAP_VERSION;
        out[1..17].copy_from_slice(self.key.as_bytes());
        out[17..21].copy_from_slice(&self.epoch.to_be_bytes());
        out[21..33].copy_from_slice(&self.nonce);
        out[33..].copy_from_slice(&self.ciphertext);
        out
    }

    /// Reads stored bytes; says nothing about their authenticity.
    ///
    /// # Errors
    /// [`WrapFormatError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WrapFormatError> {
        let bytes: &[u8; Self::BYTES] =
            bytes.try_into().map_err(|_| WrapFormatError::Length { found: bytes.len() })?;
        if bytes[0] != WRAP_VERSION {
            return Err(WrapFormatError::Version { found: bytes[0] });
        }
        let (mut key, mut epoch) = ([0; 16], [0; 4]);
        let (mut nonce, mut ciphertext) = ([0; NONCE_BYTES], [0; CIPHERTEXT_BYTES]);
        key.copy_from_slice(&bytes[1..17]);
        epoch.copy_from_slice(&bytes[17..21]);
        nonce.copy_from_slice(&bytes[21..33]);
        ciphertext.copy_from_slice(&bytes[33..]);
        Ok(Self { key: KeyId::from_bytes(key), epoch: u32::from_be_bytes(epoch), nonce, ciphertext })
    }
}

fn context(
    purpose: WrapPurpose,
    wrapping_key: KeyId,
    epoch: u32,
    tenant: TenantId,
    subject: &[u8; 16],
) -> WrapContext {
    WrapContext { purpose, wrapping_key, epoch, tenant: Some(tenant), subject: *subject }
}

/// Wraps the DEK of `version` under epoch `epoch` of the tenant's KEK.
pub fn wrap_dek(
    kek: &Kek,
    kek_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    version: VersionId,
    dek: &Dek,
    entropy: &dyn Entropy,
) -> Wrap {
    context(WrapPurpose::Dek, kek_id, epoch, tenant, version.as_bytes()).wrap(
        kek.danger_expose(),
        dek.danger_expose(),
        entropy,
    )
}

/// Opens the wrap of the DEK of `version`.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_dek(
    kek: &Kek,
    kek_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    version: VersionId,
    wrap: &Wrap,
) -> Result<Dek, UnwrapError> {
    context(WrapPurpose::Dek, kek_id, epoch, tenant, version.as_bytes())
        .unwrap(kek.danger_expose(), wrap)
        .map(Dek::danger_from_bytes)
}

/// Wraps the KEK `kek_id`, whose epoch is `epoch`, under the tenant root `root_id`.
pub fn wrap_kek(
    root: &TenantRoot,
    root_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    kek_id: KeyId,
    kek: &Kek,
    entropy: &dyn Entropy,
) -> Wrap {
    context(WrapPurpose::Kek, root_id, epoch, tenant, kek_id.as_bytes()).wrap(
        &root.wrapping_key(),
        kek.danger_expose(),
        entropy,
    )
}

/// Opens the wrap of the KEK `kek_id`.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_kek(
    root: &TenantRoot,
    root_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    kek_id: KeyId,
    wrap: &Wrap,
) -> Result<Kek, UnwrapError> {
    context(WrapPurpose::Kek, root_id, epoch, tenant, kek_id.as_bytes())
        .unwrap(&root.wrapping_key(), wrap)
        .map(Kek::danger_from_bytes)
}

/// Wraps the tenant root `tenant_root_id` under version `epoch` of the
/// deployment's root `root_id`.
pub fn wrap_tenant_root(
    root: &RootKey,
    root_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    tenant_root_id: KeyId,
    tenant_root: &TenantRoot,
    entropy: &dyn Entropy,
) -> Wrap {
    context(WrapPurpose::TenantRoot, root_id, epoch, tenant, tenant_root_id.as_bytes()).wrap(
        &root.wrapping_key("tenant-root"),
        tenant_root.danger_expose(),
        entropy,
    )
}

/// Opens the wrap of the tenant root `tenant_root_id`.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_tenant_root(
    root: &RootKey,
    root_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    tenant_root_id: KeyId,
    wrap: &Wrap,
) -> Result<TenantRoot, UnwrapError> {
    context(WrapPurpose::TenantRoot, root_id, epoch, tenant, tenant_root_id.as_bytes())
        .unwrap(&root.wrapping_key("tenant-root"), wrap)
        .map(TenantRoot::danger_from_bytes)
}

/// Wraps the key of the tenant's catalogue file under a KEK epoch.
pub fn wrap_catalog_key(
    kek: &Kek,
    kek_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    key: &CatalogKey,
    entropy: &dyn Entropy,
) -> Wrap {
    context(WrapPurpose::CatalogKey, kek_id, epoch, tenant, tenant.as_bytes()).wrap(
        kek.danger_expose(),
        key.danger_expose(),
        entropy,
    )
}

/// Opens the wrap of the key of the tenant's catalogue file.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_catalog_key(
    kek: &Kek,
    kek_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    wrap: &Wrap,
) -> Result<CatalogKey, UnwrapError> {
    context(WrapPurpose::CatalogKey, kek_id, epoch, tenant, tenant.as_bytes())
        .unwrap(kek.danger_expose(), wrap)
        .map(CatalogKey::new)
}

/// Wraps the seed of the tenant's log signing key under a KEK epoch.
pub fn wrap_signing_key(
    kek: &Kek,
    kek_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    key: &SigningKey,
    entropy: &dyn Entropy,
) -> Wrap {
    context(WrapPurpose::SigningKey, kek_id, epoch, tenant, tenant.as_bytes()).wrap(
        kek.danger_expose(),
        key.danger_seed(),
        entropy,
    )
}

/// Opens the wrap of the tenant's log signing key.
///
/// # Errors
/// [`UnwrapError`].
pub fn unwrap_signing_key(
    kek: &Kek,
    kek_id: KeyId,
    epoch: u32,
    tenant: TenantId,
    wrap: &Wrap,
) -> Result<SigningKey, UnwrapError> {
    context(WrapPurpose::SigningKey, kek_id, epoch, tenant, tenant.as_bytes())
        .unwrap(kek.danger_expose(), wrap)
        .map(SigningKey::danger_from_seed)
}

/// Why a secret of the deployment does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenSecretError {
    /// A version that this release does not know, or no bytes at all.
    #[error("not a sealed deployment secret of a format that this release knows")]
    Format,
    /// Altered, or sealed under another root or label.
    #[error("the sealed secret was altered or belongs to another root key or label")]
    NotAuthentic,
}

fn secret_aad(label: &str) -> Vec<u8> {
    let purpose = WrapPurpose::DeploymentSecret.label();
    fields::encode(&[b"coffer/secret/v1", purpose.as_bytes(), label.as_bytes()])
}

/// Seals a secret of the deployment, of any length, under its root: version
/// byte, nonce, ciphertext.
pub fn seal_with_root(root: &RootKey, label: &str, entropy: &dyn Entropy, secret: &[u8]) -> Vec<u8> {
    let key = root.wrapping_key("deployment-secret");
    let mut out = vec![SECRET_VERSION];
    out.extend(engine::siv_seal(&key, &secret_aad(label), secret, entropy));
    out
}

/// Opens what [`seal_with_root`] made for this label.
///
/// # Errors
/// [`OpenSecretError`].
pub fn open_with_root(
    root: &RootKey,
    label: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenSecretError> {
    let (&SECRET_VERSION, sealed) = sealed.split_first().ok_or(OpenSecretError::Format)? else {
        return Err(OpenSecretError::Format);
    };
    let key = root.wrapping_key("deployment-secret");
    engine::siv_open(&key, &secret_aad(label), sealed).ok_or(OpenSecretError::NotAuthentic)
}
