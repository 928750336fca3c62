//! One tenant of a profile.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_keys::{RecoveryPublicKey, RepositoryKey, SigningKey, VerifierName};
use coffer_model::{BucketName, Entropy};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Profile, ProfileError, files};
use crate::connect::Credentials;
use crate::log::{LogError, LogWatch};
use crate::tenants::TenantGrant;

/// What `tenant.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantIdentity {
    /// The tenant's name.
    pub name: String,
    /// Its id, as printed.
    pub tenant: String,
    /// Its principal's id, as printed.
    pub principal: String,
    /// C2SP origin line of its log.
    pub log_origin: String,
    /// The key that signs the log, as a C2SP vkey.
    pub log_key: String,
}

/// What was noted about the source when a snapshot was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceNote {
    /// SHA-256 of the manifest, hexadecimal.
    pub manifest_sha256: String,
    /// The leaf of the tenant's log that notes it.
    pub log_index: u64,
    /// Entries that could not be read, or changed while they were, in words;
    /// the first ones of many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A tenant's directory in a profile.
#[derive(Clone, Debug)]
pub struct TenantProfile {
    profile: Profile,
    dir: PathBuf,
    identity: TenantIdentity,
}

pub(super) fn read_identity(dir: &std::path::Path) -> Result<TenantIdentity, ProfileError> {
    let path = dir.join("tenant.json");
    let text = files::read(&path)?.unwrap_or_default();
    serde_json::from_str(&text).map_err(|_| ProfileError::Damaged(path))
}

impl Profile {
    /// Enters a tenant that was created, and the public half of its recovery key.
    ///
    /// # Errors
    /// [`ProfileError::Disk`].
    pub fn save_tenant(
        &self,
        name: &str,
        grant: &TenantGrant,
        recovery: Option<&RecoveryPublicKey>,
    ) -> Result<TenantProfile, ProfileError> {
        let dir = self.tenant_dir(name);
        let signer = grant.log_origin.split_once("/log/").map_or(&*grant.log_origin, |(signer, _)| signer);
        let identity = TenantIdentity {
            name: name.to_owned(),
            tenant: grant.tenant.to_string(),
            principal: grant.principal.to_string(),
            log_origin: grant.log_origin.clone(),
            log_key: VerifierName { name: signer.to_owned(), key: grant.log_key }.to_string(),
        };
        files::write(&dir.join("client.key"), grant.key_pem.as_bytes())?;
        files::write(&dir.join("client.pem"), grant.certificate_pem.as_bytes())?;
        if let Some(recovery) = recovery {
            files::write(&dir.join("recovery.pub"), format!("{}\n", recovery.to_text()).as_bytes())?;
        }
        let text = serde_json::to_string_pretty(&identity).unwrap_or_default();
        // Last: its presence says that the tenant is complete.
        files::write(&dir.join("tenant.json"), text.as_bytes())?;
        TenantProfile::open(self.clone(), dir)
    }
}

impl TenantProfile {
    pub(super) fn open(profile: Profile, dir: PathBuf) -> Result<Self, ProfileError> {
        let identity = read_identity(&dir)?;
        Ok(Self { profile, dir, identity })
    }

    /// Ids and log of the tenant.
    pub fn identity(&self) -> &TenantIdentity {
        &self.identity
    }

    fn damaged(&self, name: &str) -> ProfileError {
        ProfileError::Damaged(self.dir.join(name))
    }

    /// The tenant's credentials.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn credentials(&self) -> Result<Credentials, ProfileError> {
        let certificate = files::read(&self.dir.join("client.pem"))?;
        let certificate = certificate.ok_or_else(|| self.damaged("client.pem"))?;
        let key = files::read_secret(&self.dir.join("client.key"))?;
        self.profile.credentials(certificate.to_string(), key.ok_or_else(|| self.damaged("client.key"))?)
    }

    /// The key that signs the tenant's log, and its name.
    ///
    /// # Errors
    /// [`ProfileError::Damaged`].
    pub fn log_key(&self) -> Result<VerifierName, ProfileError> {
        self.identity.log_key.parse().map_err(|_| self.damaged("tenant.json"))
    }

    /// The watch over the tenant's log, with the checkpoint that was remembered.
    ///
    /// # Errors
    /// [`ProfileError`]; a remembered checkpoint that does not verify is
    /// damaged and never silently forgotten.
    pub fn log_watch(&self) -> Result<LogWatch, ProfileError> {
        let remembered = files::read(&self.dir.join("checkpoint"))?.map(|text| text.to_string());
        let watch = LogWatch::new(self.identity.log_origin.clone(), self.log_key()?.key, remembered);
        watch.map_err(|_: LogError| ProfileError::Checkpoint(self.dir.join("checkpoint")))
    }

    /// Remembers the watch's last checkpoint, unless another run of the same
    /// tenant has meanwhile remembered a later one.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn remember(&self, watch: &LogWatch) -> Result<(), ProfileError> {
        match watch.remembered() {
            Some(_) if self.log_watch()?.size() > watch.size() => Ok(()),
            Some(text) => files::write(&self.dir.join("checkpoint"), text.as_bytes()),
            None => Ok(()),
        }
    }

    /// The public half of the tenant's recovery key, if it has one.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn recovery_key(&self) -> Result<Option<RecoveryPublicKey>, ProfileError> {
        let Some(text) = files::read(&self.dir.join("recovery.pub"))? else { return Ok(None) };
        RecoveryPublicKey::from_text(&text).map(Some).map_err(|_| self.damaged("recovery.pub"))
    }

    /// The key with which this tenant cosigns checkpoints for its drills; made
    /// when it is first wanted.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn cosigner(&self, entropy: &dyn Entropy) -> Result<SigningKey, ProfileError> {
        if let Some(key) = self.known_cosigner()? {
            return Ok(key);
        }
        let key = SigningKey::generate(entropy);
        let text = Zeroizing::new(STANDARD.encode(key.danger_seed()));
        files::write(&self.dir.join("cosigner.key"), text.as_bytes())?;
        Ok(key)
    }

    /// That key, if it was ever wanted.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn known_cosigner(&self) -> Result<Option<SigningKey>, ProfileError> {
        let path = self.dir.join("cosigner.key");
        let Some(text) = files::read_secret(&path)? else { return Ok(None) };
        let seed = STANDARD.decode(text.trim()).map(Zeroizing::new);
        let seed = seed.map_err(|_| ProfileError::Damaged(path.clone()))?;
        let mut bytes = Zeroizing::new([0; 32]);
        if seed.len() != bytes.len() {
            return Err(ProfileError::Damaged(path));
        }
        bytes.copy_from_slice(&seed);
        Ok(Some(SigningKey::danger_from_seed(bytes)))
    }

    fn repository_path(&self, bucket: &BucketName) -> PathBuf {
        self.dir.join("repositories").join(format!("{bucket}.key"))
    }

    /// The master key of the repository in a bucket, if this profile has it.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn repository_key(&self, bucket: &BucketName) -> Result<Option<RepositoryKey>, ProfileError> {
        let path = self.repository_path(bucket);
        let Some(text) = files::read_secret(&path)? else { return Ok(None) };
        let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| ProfileError::Damaged(path.clone()))?;
        let mut key = Zeroizing::new([0; 32]);
        if bytes.len() != key.len() {
            return Err(ProfileError::Damaged(path));
        }
        key.copy_from_slice(&bytes);
        Ok(Some(RepositoryKey::danger_from_bytes(key)))
    }

    /// Keeps the master key of the repository in a bucket.
    ///
    /// # Errors
    /// [`ProfileError::Disk`].
    pub fn save_repository_key(&self, bucket: &BucketName, key: &RepositoryKey) -> Result<(), ProfileError> {
        let text = Zeroizing::new(STANDARD.encode(key.danger_expose()));
        files::write(&self.repository_path(bucket), text.as_bytes())
    }

    /// Forgets the master key of the repository in a bucket: for a repository
    /// that was never made after all.
    ///
    /// # Errors
    /// [`ProfileError::Disk`].
    pub fn forget_repository_key(&self, bucket: &BucketName) -> Result<(), ProfileError> {
        files::remove(&self.repository_path(bucket))
    }

    /// Where the source-time manifest of a snapshot is kept; its directory exists.
    ///
    /// # Errors
    /// [`ProfileError::Disk`].
    pub fn manifest_path(&self, bucket: &BucketName, snapshot: &str) -> Result<PathBuf, ProfileError> {
        let dir = self.dir.join("manifests").join(bucket.as_str());
        files::make_directory(&dir)?;
        Ok(dir.join(format!("{snapshot}.manifest")))
    }

    /// Keeps where the log notes a snapshot's manifest.
    ///
    /// # Errors
    /// [`ProfileError::Disk`].
    pub fn save_source_note(
        &self,
        bucket: &BucketName,
        snapshot: &str,
        note: &SourceNote,
    ) -> Result<(), ProfileError> {
        let path = self.manifest_path(bucket, snapshot)?.with_extension("json");
        files::write(&path, serde_json::to_string(note).unwrap_or_default().as_bytes())
    }

    /// Where the log notes a snapshot's manifest, if this profile knows.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn source_note(
        &self,
        bucket: &BucketName,
        snapshot: &str,
    ) -> Result<Option<SourceNote>, ProfileError> {
        let path = self.manifest_path(bucket, snapshot)?.with_extension("json");
        let Some(text) = files::read(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|_| ProfileError::Damaged(path))
    }
}
