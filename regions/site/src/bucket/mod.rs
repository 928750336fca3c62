//! The bucket adapter of the port: a site in an S3-compatible bucket. The
//! objects, the order of writes and what a crash leaves are in
//! `regions/BUCKET.md`.

mod fence;
mod form;
mod objects;
mod records;
mod site;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coffer_model::{RecordId, SiteDescription, SiteId};
use coffer_regions::SiteError;
use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use form::Names;
pub(crate) use form::{parse_bucket_head, parse_bucket_slot};
use objects::{Created, Objects};

/// How long what may take, and what counts as long.
#[derive(Clone, Debug)]
pub struct BucketTiming {
    /// One connection.
    pub connect: Duration,
    /// Every call with all its repetitions, besides the time for its bytes.
    pub call: Duration,
    /// The slowest rate at which bytes may pass, in bytes a second.
    pub bytes_per_second: u64,
    /// How often a call that failed is repeated, with growing pauses.
    pub repetitions: usize,
    /// Between two probes of a bucket that does not answer.
    pub probe_every: Duration,
    /// Bodies above this length are uploaded in parts.
    pub apart_bytes: usize,
    /// Bytes of one part; S3 wants at least 5 MiB.
    pub part_bytes: usize,
}

impl Default for BucketTiming {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            call: Duration::from_secs(10),
            bytes_per_second: 4 << 20,
            repetitions: 4,
            probe_every: Duration::from_secs(2),
            apart_bytes: 8 << 20,
            part_bytes: 5 << 20,
        }
    }
}

/// What a bucket is reached with.
pub struct BucketOptions {
    /// What the topology says about the site.
    pub description: SiteDescription,
    /// `https://HOST` of the provider; `http://` only for loopback addresses.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// Names of objects begin with it, so that sites may share a bucket.
    pub prefix: String,
    /// The provider's name for where the bucket stands.
    pub region: String,
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Zeroizing<String>,
    /// Deadlines and lengths.
    pub timing: BucketTiming,
}

/// Why a bucket cannot be a site.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The provider's client refused the settings.
    #[error("the bucket cannot be reached with these settings: {0}")]
    Settings(#[from] object_store::Error),
    /// Plain HTTP to somewhere else than this machine.
    #[error("{0}: a bucket is reached over https; plain http is for loopback addresses")]
    Plain(String),
    /// There is a site already.
    #[error("the bucket already holds the site {0} under this prefix")]
    AlreadyASite(SiteId),
    /// There is none.
    #[error("the bucket holds no site under this prefix")]
    NotASite,
    /// Another site than the topology says.
    #[error("the bucket holds {found} under this prefix, not {expected}")]
    OtherSite {
        /// Whose it is.
        found: SiteId,
        /// Whose it should be.
        expected: SiteId,
    },
    /// Written by a newer program, or damaged.
    #[error("the object SITE of the bucket cannot be read by this program")]
    SiteObject,
    /// The bucket keeps what is overwritten.
    #[error(
        "the bucket keeps old versions of objects, so that a key slot could not be wiped; use one without versioning"
    )]
    Versioned,
    /// The bucket does not do what was asked.
    #[error("the bucket does not answer as it should: {0}")]
    Unreachable(SiteError),
}

/// The object SITE.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteObject {
    format: u32,
    site: String,
}

const FORMAT: u32 = 1;
const SITE_OBJECT_BYTES_MAX: usize = 4096;
/// Damaged records that are remembered.
const DAMAGED_MAX: usize = 1 << 16;

/// What is in the bucket, once it was counted.
#[derive(Clone, Copy, Default)]
struct Counts {
    records: u64,
    bytes: u64,
}

/// What the adapter's tasks share.
struct Shared {
    description: SiteDescription,
    names: Names,
    objects: Objects,
    counts: Mutex<Option<Counts>>,
    damaged: Mutex<BTreeSet<RecordId>>,
    /// Whether an owner's epoch was ever seen here.
    fenced: AtomicBool,
}

/// A site in a bucket.
pub struct BucketSite {
    shared: Arc<Shared>,
    probe: JoinHandle<()>,
}

impl Drop for BucketSite {
    fn drop(&mut self) {
        self.probe.abort();
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.strip_prefix("http://").unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl BucketSite {
    /// Creates the site in a bucket that holds none under this prefix.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn create(options: BucketOptions) -> Result<Self, BucketError> {
        let shared = Shared::of(options)?;
        let id = shared.description.id;
        let object = SiteObject { format: FORMAT, site: id.to_string() };
        let object = serde_json::to_vec(&object).map_err(|_| BucketError::SiteObject)?;
        let path = shared.names.site();
        match shared.objects.create(&path, object.clone().into()).await.map_err(BucketError::Unreachable)? {
            Created::Existed => return Err(BucketError::AlreadyASite(shared.whose().await?)),
            Created::New => {}
        }
        // Written twice, so that a bucket that keeps versions says so.
        let versions = shared.objects.overwrite(&path, object.into()).await;
        if versions.map_err(BucketError::Unreachable)? {
            // Left there, it would be opened as a site.
            shared.objects.remove(&path).await.map_err(BucketError::Unreachable)?;
            return Err(BucketError::Versioned);
        }
        shared.objects.confirm();
        Ok(Self::started(shared))
    }

    /// Opens the site in a bucket. A bucket that does not answer is no error:
    /// it is asked again for as long as this lives, and holds no calls up.
    ///
    /// # Errors
    /// [`BucketError`], if it answers and is not this site's.
    pub async fn open(options: BucketOptions) -> Result<Self, BucketError> {
        let shared = Shared::of(options)?;
        match shared.check().await {
            Ok(()) | Err(BucketError::Unreachable(_)) => Ok(Self::started(shared)),
            Err(error) => Err(error),
        }
    }

    fn started(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let probing = Arc::clone(&shared);
        let probe = tokio::spawn(async move {
            loop {
                tokio::time::sleep(probing.objects.timing().probe_every).await;
                if !probing.objects.answers() {
                    // What it says of a bucket that became another's: stay away.
                    let _ = probing.check().await;
                }
            }
        });
        Self { shared, probe }
    }
}

impl Shared {
    fn of(options: BucketOptions) -> Result<Self, BucketError> {
        let BucketOptions { description, endpoint, bucket, prefix, region, timing, .. } = options;
        let plain = !endpoint.starts_with("https://");
        if plain && !is_loopback(&endpoint) {
            return Err(BucketError::Plain(endpoint));
        }
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: timing.call / 4,
            base: 2.0,
        };
        let retry = RetryConfig { backoff, max_retries: timing.repetitions, retry_timeout: timing.call };
        let client =
            ClientOptions::new().with_connect_timeout(timing.connect).with_timeout(timing.deadline(16 << 20));
        let store = AmazonS3Builder::new()
            .with_client_options(client)
            .with_endpoint(endpoint)
            .with_bucket_name(bucket)
            .with_region(region)
            .with_access_key_id(options.access_key_id)
            .with_secret_access_key(options.secret_access_key.as_str())
            .with_allow_http(plain)
            .with_virtual_hosted_style_request(false)
            .with_retry(retry)
            .build()?;
        Ok(Self {
            description,
            names: Names::below(&prefix),
            objects: Objects::new(Box::new(store), timing),
            counts: Mutex::default(),
            damaged: Mutex::default(),
            fenced: AtomicBool::new(false),
        })
    }

    /// Whose the bucket is.
    async fn whose(&self) -> Result<SiteId, BucketError> {
        let read = self.objects.read(&self.names.site(), SITE_OBJECT_BYTES_MAX).await;
        let bytes: Bytes = match read {
            Ok(found) => found.bytes,
            Err(SiteError::Missing) => return Err(BucketError::NotASite),
            Err(SiteError::Damaged) => return Err(BucketError::SiteObject),
            Err(error) => return Err(BucketError::Unreachable(error)),
        };
        let object: SiteObject = serde_json::from_slice(&bytes).map_err(|_| BucketError::SiteObject)?;
        if object.format != FORMAT {
            return Err(BucketError::SiteObject);
        }
        object.site.parse().map_err(|_| BucketError::SiteObject)
    }

    /// Asks the bucket whose it is; only then it counts as answering.
    async fn check(&self) -> Result<(), BucketError> {
        let (found, expected) = (self.whose().await?, self.description.id);
        if found != expected {
            return Err(BucketError::OtherSite { found, expected });
        }
        self.look_for_epochs().await.map_err(BucketError::Unreachable)?;
        self.objects.confirm();
        Ok(())
    }

    fn counted(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = counts.as_mut() {
            change(counts);
        }
    }

    fn note_damage(&self, id: RecordId) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < DAMAGED_MAX {
            damaged.insert(id);
        }
    }

    fn note_mended(&self, id: RecordId) {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_addresses_only() {
        for near in ["http://127.0.0.9:9000", "http://127.0.0.1", "http://[::1]:9000"] {
            assert!(is_loopback(near), "{near}");
        }
        for far in
            ["http://10.0.0.1:9000", "http://localhost.example", "https://127.0.0.1", "ftp://127.0.0.1"]
        {
            assert!(!is_loopback(far), "{far}");
        }
    }
}
