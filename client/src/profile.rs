//! The user's directory of credentials: which deployment, as whom, and what a
//! client remembers between its runs. Secret files have mode 0600, and every
//! file is replaced as a whole or not at all.
//!
//! ```text
//! endpoint                          https://HOST:PORT; several lines, or names, where it may be at several
//! ca.pem                            the deployment's CA
//! operator.pem  operator.key        its operator, where this user is one
//! service-checkpoint                the last verified checkpoint of the service's own log
//! tenants/NAME/tenant.json          ids, log origin and log key
//! tenants/NAME/client.pem client.key
//! tenants/NAME/recovery.pub         the tenant's recovery key, public half
//! tenants/NAME/checkpoint           the last verified checkpoint of the log
//! tenants/NAME/repositories/BUCKET.key
//! tenants/NAME/manifests/BUCKET/SNAPSHOT{.manifest,.json}
//! ```

mod files;
mod tenant;

use std::io;
use std::path::{Path, PathBuf};

use coffer_keys::VerifierName;
use zeroize::Zeroizing;

use crate::connect::Credentials;
use crate::log::{LogError, LogWatch};
use crate::ways::Address;

pub use files::{read_text, write_atomically};
pub use tenant::{SourceNote, TenantIdentity, TenantProfile};

/// Why the profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The disk.
    #[error("{}: {source}", path.display())]
    Disk {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No deployment is known here yet.
    #[error("{} knows no deployment; start one with `coffer serve`, or name the directory that `coffer serve` wrote \
             with --config-dir", .0.display())]
    NoDeployment(PathBuf),
    /// This user is not an operator.
    #[error("{} holds no operator's credentials; this command is the operator's", .0.display())]
    NotOperator(PathBuf),
    /// No tenant of this name, or none at all.
    #[error(
        "no tenant {0:?} in this profile; create it with `coffer tenant create`, or name another with --tenant"
    )]
    NoTenant(String),
    /// No tenant at all.
    #[error("this profile has no tenant; create one with `coffer tenant create NAME`")]
    NoTenants,
    /// Several, and none was named.
    #[error("several tenants are here ({0}); name one with --tenant")]
    WhichTenant(String),
    /// A file is not what was written.
    #[error("{}: damaged or not of this program; move it away", .0.display())]
    Damaged(PathBuf),
    /// What is remembered of a log was not signed with the key that is given.
    #[error(
        "{}: not signed with the key of this log: either the key is another deployment's, or the file is damaged; keep it: it is what shows whether the service went back in time",
        .0.display()
    )]
    Checkpoint(PathBuf),
    /// A secret lies open to other users of the machine.
    #[error("{}: other users may read it (mode {mode:o}); run chmod 600 on it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The file of the service's own log.
const SERVICE_CHECKPOINT: &str = "service-checkpoint";

/// A profile directory.
#[derive(Clone, Debug)]
pub struct Profile {
    dir: PathBuf,
    /// Where the service is looked for instead of where the directory says.
    endpoint: Option<String>,
}

impl Profile {
    /// The profile in this directory, which need not exist yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), endpoint: None }
    }

    /// The same, of a service that is looked for at these addresses.
    #[must_use]
    pub fn looked_for_at(self, endpoint: Option<String>) -> Self {
        Self { endpoint, ..self }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Enters a deployment and its operator's credentials.
    ///
    /// # Errors
    /// [`ProfileError::Disk`].
    pub fn save_operator(&self, operator: &Credentials) -> Result<(), ProfileError> {
        files::write(&self.dir.join("ca.pem"), operator.ca_pem.as_bytes())?;
        files::write(&self.dir.join("operator.pem"), operator.certificate_pem.as_bytes())?;
        files::write(&self.dir.join("operator.key"), operator.key_pem.as_bytes())?;
        self.save_endpoint(&operator.endpoint)
    }

    /// Enters where the deployment listens. A list of addresses, or a name, is
    /// somebody's choice and stays as it is.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn save_endpoint(&self, endpoint: &str) -> Result<(), ProfileError> {
        let path = self.dir.join("endpoint");
        let chosen = files::read(&path)?.is_some_and(|text| is_chosen(&text));
        if chosen { Ok(()) } else { files::write(&path, format!("{endpoint}\n").as_bytes()) }
    }

    fn deployment(&self, name: &str) -> Result<String, ProfileError> {
        let text = files::read(&self.dir.join(name))?;
        let text = text.ok_or_else(|| ProfileError::NoDeployment(self.dir.clone()))?;
        Ok(text.to_string())
    }

    fn credentials(&self, certificate: String, key: Zeroizing<String>) -> Result<Credentials, ProfileError> {
        Ok(Credentials {
            ca_pem: self.deployment("ca.pem")?,
            certificate_pem: certificate,
            key_pem: key,
            endpoint: self.endpoint()?,
        })
    }

    fn endpoint(&self) -> Result<String, ProfileError> {
        match &self.endpoint {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(self.deployment("endpoint")?.trim().to_owned()),
        }
    }

    /// The operator's credentials.
    ///
    /// # Errors
    /// [`ProfileError::NotOperator`] if there are none.
    pub fn operator(&self) -> Result<Credentials, ProfileError> {
        self.endpoint()?;
        let missing = || ProfileError::NotOperator(self.dir.clone());
        let certificate = files::read(&self.dir.join("operator.pem"))?.ok_or_else(missing)?;
        let key = files::read_secret(&self.dir.join("operator.key"))?.ok_or_else(missing)?;
        self.credentials(certificate.to_string(), key)
    }

    /// The watch over the service's own log, which this key signs, with the
    /// checkpoint that was remembered.
    ///
    /// # Errors
    /// [`ProfileError`]; a remembered checkpoint that does not verify is
    /// damaged and never silently forgotten.
    pub fn service_watch(&self, signer: VerifierName) -> Result<LogWatch, ProfileError> {
        let path = self.dir.join(SERVICE_CHECKPOINT);
        let remembered = files::read(&path)?.map(|text| text.to_string());
        LogWatch::of_signer(signer, remembered).map_err(|_: LogError| ProfileError::Checkpoint(path))
    }

    /// Remembers the last checkpoint of the service's own log, unless another
    /// run has meanwhile remembered a later one.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn remember_service(&self, watch: &LogWatch) -> Result<(), ProfileError> {
        match watch.remembered() {
            Some(_) if self.service_watch(watch.key())?.size() > watch.size() => Ok(()),
            Some(text) => files::write(&self.dir.join(SERVICE_CHECKPOINT), text.as_bytes()),
            None => Ok(()),
        }
    }

    /// The names of all tenants of this profile, sorted.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn tenants(&self) -> Result<Vec<String>, ProfileError> {
        let mut names = Vec::new();
        for dir in files::directories(&self.dir.join("tenants"))? {
            names.push(tenant::read_identity(&dir)?.name);
        }
        names.sort();
        Ok(names)
    }

    /// The tenant of this name or, without a name, the only one.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn tenant(&self, name: Option<&str>) -> Result<TenantProfile, ProfileError> {
        let name = match (name, self.tenants()?.as_slice()) {
            (Some(name), _) => name.to_owned(),
            (None, []) => return Err(ProfileError::NoTenants),
            (None, [only]) => only.clone(),
            (None, several) => return Err(ProfileError::WhichTenant(several.join(", "))),
        };
        let dir = self.tenant_dir(&name);
        if files::read(&dir.join("tenant.json"))?.is_none() {
            return Err(ProfileError::NoTenant(name));
        }
        TenantProfile::open(self.clone(), dir)
    }

    fn tenant_dir(&self, name: &str) -> PathBuf {
        self.dir.join("tenants").join(directory_name(name))
    }
}

/// Whether a person wrote an endpoint: a service writes one address of a machine.
fn is_chosen(endpoint: &str) -> bool {
    match Address::list(endpoint).as_deref() {
        Ok([only]) => only.host.parse::<std::net::IpAddr>().is_err(),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// A tenant's name as a directory's: what is not a plain letter, digit or
/// inner sign becomes `%` and two hexadecimal digits.
fn directory_name(name: &str) -> String {
    let mut out = String::new();
    for (at, byte) in name.bytes().enumerate() {
        let inner = at > 0 && matches!(byte, b'.' | b'-' | b'_');
        if byte.is_ascii_alphanumeric() || inner {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tenant_name_leaves_its_directory_or_meets_another() {
        assert_eq!(directory_name("demo-1.eu"), "demo-1.eu");
        assert_eq!(directory_name(".."), "%2e.");
        assert_eq!(directory_name("a/b"), "a%2fb");
        assert_eq!(directory_name("a%2fb"), "a%252fb");
    }

    #[test]
    fn a_service_that_starts_replaces_the_address_that_a_service_wrote_and_no_choice_of_a_person() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path());
        let now = |profile: &Profile| profile.endpoint().unwrap();
        profile.save_endpoint("https://127.0.0.1:1").unwrap();
        profile.save_endpoint("https://127.0.0.1:2").unwrap();
        assert_eq!(now(&profile), "https://127.0.0.1:2");
        for chosen in ["https://127.0.0.1:1\nhttps://127.0.0.1:2", "https://coffer.example:7420"] {
            write_atomically(&dir.path().join("endpoint"), chosen.as_bytes()).unwrap();
            profile.save_endpoint("https://127.0.0.1:3").unwrap();
            assert_eq!(now(&profile), chosen);
        }
        let elsewhere = profile.looked_for_at(Some("https://127.0.0.1:4".to_owned()));
        assert_eq!(now(&elsewhere), "https://127.0.0.1:4");
    }
}
