//! Where a site lives: a directory of this machine, a pod, a bucket. What
//! lets one in is not here: credentials are files below the data directory,
//! known by a name, so that topology and recovery kit stay public.

use std::path::{Path, PathBuf};

use coffer_site::{OpenSiteError, PodCredentials};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The home of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SiteHome {
    /// A directory below the data directory, named like the site.
    #[default]
    Directory,
    /// A daemon on another machine.
    Pod {
        /// `https://HOST:PORT`.
        endpoint: String,
        /// Name of the credentials.
        credentials: String,
    },
    /// An S3-compatible bucket.
    Bucket {
        /// `https://HOST` of the provider.
        endpoint: String,
        /// The bucket.
        name: String,
        /// Names of the site's objects begin with it.
        prefix: String,
        /// The provider's name for where the bucket stands.
        region: String,
        /// Name of the credentials.
        credentials: String,
    },
}

impl SiteHome {
    /// Whether it is a directory of this machine.
    pub fn is_directory(&self) -> bool {
        *self == Self::Directory
    }

    /// Where nothing lies any more without asking anybody: a directory that
    /// is gone. Pods and buckets are asked.
    pub(crate) fn is_gone(&self, data_dir: &Path, name: &str) -> bool {
        self.is_directory() && !data_dir.join("sites").join(name).is_dir()
    }
}

/// A directory of credentials: `DATA/credentials/NAME`.
pub(crate) struct CredentialFiles(PathBuf);

impl CredentialFiles {
    pub(crate) fn of(data_dir: &Path, name: &str) -> Self {
        Self(data_dir.join("credentials").join(name))
    }

    fn read(&self, file: &str) -> Result<Zeroizing<String>, OpenSiteError> {
        let path = self.0.join(file);
        let bytes = crate::disk::read_bounded(&path);
        let text = bytes.and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData))
        });
        text.map(Zeroizing::new).map_err(|source| OpenSiteError::Credentials { path, source })
    }

    /// What pods are shown, and whom the service believes.
    pub(crate) fn pod(&self) -> Result<PodCredentials, OpenSiteError> {
        Ok(PodCredentials {
            ca_pem: self.read("ca.pem")?.as_str().to_owned(),
            certificate_pem: self.read("certificate.pem")?.as_str().to_owned(),
            key_pem: self.read("key.pem")?,
        })
    }

    /// The access key id and the secret of a bucket, each the only line of
    /// its file.
    pub(crate) fn bucket(&self) -> Result<(String, Zeroizing<String>), OpenSiteError> {
        let id = self.read("access-key-id")?.trim().to_owned();
        let secret = self.read("secret-access-key")?;
        Ok((id, Zeroizing::new(secret.trim().to_owned())))
    }
}
