//! The certificates of a fleet's pods, from a site authority in a directory: for
//! a fleet at home and for one on a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coffer_control::{CertificateError, SiteCertificates, SiteIdentity};
use coffer_model::{Clock, Entropy};
use coffer_server::{Holds, PodFiles, SiteAuthority, SiteAuthorityError};
use k8s_openapi::api::core::v1::Secret;

/// For how long a pod's certificate holds, where nobody says otherwise.
pub(crate) const CERTIFICATE_LASTS: Duration = Duration::from_secs(90 * 86_400);
/// Clocks of pods and service may differ by so much.
const CLOCKS_DIFFER: u64 = 3600;
/// The file of a certificate's secret that names the site.
const SITE_ID: &str = "site";

/// Enrols sites with a site authority.
pub(crate) struct Certificates {
    authority: SiteAuthority,
    lasts: Duration,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Certificates {
    /// Of this authority, for so long each.
    pub(crate) fn new(
        authority: SiteAuthority,
        lasts: Duration,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self { authority, lasts, clock, entropy }
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().0 / 1_000_000_000
    }

    fn holds(&self) -> Holds {
        let now = self.now();
        Holds { from: now.saturating_sub(CLOCKS_DIFFER), until: now.saturating_add(self.lasts.as_secs()) }
    }
}

/// What a pod has, by file, with the id of its site.
fn by_name(
    site: &SiteIdentity,
    enrolled: Result<PodFiles, SiteAuthorityError>,
) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
    let enrolled = enrolled
        .map_err(|why| CertificateError::NotIssued { pod: site.pod.clone(), why: why.to_string() })?;
    let files = enrolled.files.iter().map(|(name, _, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    Ok(files.chain([(SITE_ID.to_owned(), enrolled.site.to_string().into_bytes())]).collect())
}

#[async_trait]
impl SiteCertificates for Certificates {
    async fn issue(&self, site: &SiteIdentity) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        by_name(site, self.authority.enrol_for(site.stands.country, self.holds(), self.entropy.as_ref()))
    }

    fn lasts(&self) -> Option<Duration> {
        Some(self.lasts)
    }

    async fn renew(
        &self,
        site: &SiteIdentity,
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        let text = |name: &str| {
            files.get(name).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
        };
        let (certificate, receipts) = (text("certificate.pem"), text("receipt.key"));
        by_name(site, self.authority.renew(certificate, receipts, site.stands.country, self.holds()))
    }
}

/// The site that a certificate's secret is for.
pub(crate) fn site_id(secret: Secret) -> Option<String> {
    let id = secret.data?.remove(SITE_ID)?;
    String::from_utf8(id.0).ok()
}
