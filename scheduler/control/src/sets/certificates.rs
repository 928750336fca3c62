//! Certificates of sites: issued once a pod has a node, because the certificate
//! names where it stands. Until then its volume is not there, and it waits. They are renewed in time, and each pod
//! is restarted with its new one as the loss budget allows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coffer_scheduler::{Attestation, PodId};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::{Look, SetError};
use crate::names::{FIELD_MANAGER, SITE_FILE};

/// Annotation of a certificate's secret: the country that it names.
const ISSUED_FOR: &str = "fleet.coffer/issued-for";
/// Annotation of a certificate's secret: when it was issued, seconds since 1970.
const ISSUED_AT: &str = "fleet.coffer/issued-at";
/// Annotation of a certificate's secret: how often it was renewed; of a pod: which one it began with.
pub(super) const CERTIFICATE: &str = "fleet.coffer/certificate";

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteIdentity {
    /// The pod, and so the site.
    pub pod: PodId,
    /// Where its node stands, by the signed attestation.
    pub stands: Attestation,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Whoever issues them does not answer, or refuses.
    #[error("no certificate was issued for {pod}: {why}")]
    NotIssued {
        /// The pod.
        pod: PodId,
        /// What the issuer says.
        why: String,
    },
}

/// Who issues certificates of sites.
#[async_trait]
pub trait SiteCertificates: Send + Sync {
    /// The files that the site daemon starts with, by name.
    ///
    /// # Errors
    /// [`CertificateError`].
    async fn issue(&self, site: &SiteIdentity) -> Result<BTreeMap<String, Vec<u8>>, CertificateError>;

    /// For how long what is issued now holds. It is renewed when two thirds of that are over; `None`: not here.
    fn lasts(&self) -> Option<Duration> {
        None
    }

    /// The files anew, for the site that these are of.
    ///
    /// # Errors
    /// [`CertificateError`]. Then what there is stays, and it is asked again with the next look.
    async fn renew(
        &self,
        site: &SiteIdentity,
        files: &BTreeMap<String, Vec<u8>>,
    ) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        let _ = files;
        Err(CertificateError::NotIssued { pod: site.pod.clone(), why: "nobody renews it here".to_owned() })
    }
}

/// For fleets whose sites get their certificates elsewhere: the secret is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCertificates;

#[async_trait]
impl SiteCertificates for NoCertificates {
    async fn issue(&self, _: &SiteIdentity) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        Ok(BTreeMap::new())
    }
}

impl Look<'_> {
    /// A certificate, and where it is asked for a claim of disk, for every pod that has a node.
    pub(super) async fn certify(&mut self) -> Result<(), SetError> {
        let stands = self.sets.locked(|book| {
            let placed = book.pods_of(&self.name).filter_map(|(id, pod)| {
                let node = book.ledger().cluster().node(pod.node.as_ref()?)?;
                Some((id.clone(), node.name.to_string(), node.attested.clone()?))
            });
            placed.collect::<Vec<_>>()
        });
        for (pod, node, stands) in stands {
            self.claim(&pod, &node).await?;
            self.certificate(SiteIdentity { pod, stands }).await?;
        }
        Ok(())
    }

    /// Remembers which site a pod is; who fills the secret by hand says it there, too.
    fn note_site(&mut self, pod: &PodId, data: Option<&BTreeMap<String, ByteString>>) {
        let said = data.and_then(|data| String::from_utf8(data.get(SITE_FILE)?.0.clone()).ok());
        if let Some(site) = said {
            self.sites.insert(pod.ordinal, site.trim().to_owned());
        }
    }

    /// Seconds since 1970.
    fn seconds(&self) -> u64 {
        self.sets.control.clock.now().0 / 1_000_000_000
    }

    /// Numbers of pods that began with an older certificate than there is.
    pub(super) fn with_old_certificates(&self) -> impl Iterator<Item = u32> {
        let began =
            |pod: &Pod| pod.annotations().get(CERTIFICATE).and_then(|text| text.parse().ok()).unwrap_or(0);
        let members = self.status.members.iter();
        let old = members.filter(move |member| {
            self.pods.get(&member.ordinal).is_some_and(|pod| began(pod) < member.certificate)
        });
        old.map(|member| member.ordinal)
    }

    /// Renews a certificate of which less than a third of its time is left; the pods take it up by a restart.
    async fn renew(&mut self, api: &Api<Secret>, site: SiteIdentity, known: Secret) -> Result<(), SetError> {
        let certificates = Arc::clone(&self.sets.control.certificates);
        let Some(lasts) = certificates.lasts() else { return Ok(()) };
        let said = |key: &str| known.annotations().get(key).and_then(|text| text.parse::<u64>().ok());
        let mut number = said(CERTIFICATE).unwrap_or(0);
        let now = self.seconds();
        // One that does not say when is of before anybody renewed.
        let due = said(ISSUED_AT).is_none_or(|at| now >= at.saturating_add((lasts * 2 / 3).as_secs()));
        if due {
            let files = known.data.clone().unwrap_or_default();
            let files = files.into_iter().map(|(name, ByteString(bytes))| (name, bytes)).collect();
            let files = certificates.renew(&site, &files).await?;
            let data: BTreeMap<String, ByteString> =
                files.into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
            number = number.saturating_add(1);
            let annotations = json!({ ISSUED_AT: now.to_string(), CERTIFICATE: number.to_string() });
            let version = known.metadata.resource_version.clone();
            let patch = json!({
                "metadata": { "annotations": annotations, "resourceVersion": version }, "data": data,
            });
            let params =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            api.patch(&known.name_any(), &params, &Patch::Merge(&patch)).await?;
        }
        let mut members = self.status.members.iter_mut();
        if let Some(member) = members.find(|member| member.ordinal == site.pod.ordinal) {
            member.certificate = number;
        }
        Ok(())
    }

    async fn certificate(&mut self, site: SiteIdentity) -> Result<(), SetError> {
        let api: Api<Secret> = Api::namespaced(self.sets.control.client.clone(), &self.namespace);
        let name = format!("{}-certificate", site.pod);
        // Of one site for life: a node that moves to another country loses the site, it does not rename it.
        if let Some(known) = api.get_opt(&name).await? {
            self.note_site(&site.pod, known.data.as_ref());
            return self.renew(&api, site, known).await;
        }
        let files = self.sets.control.certificates.issue(&site).await?;
        let data: BTreeMap<String, ByteString> =
            files.into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
        self.note_site(&site.pod, Some(&data));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                annotations: Some(
                    [
                        (ISSUED_FOR.to_owned(), site.stands.country.to_string()),
                        (ISSUED_AT.to_owned(), self.seconds().to_string()),
                    ]
                    .into(),
                ),
                owner_references: Some(self.object.controller_owner_ref(&()).into_iter().collect()),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..Secret::default()
        };
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch(&name, &params, &Patch::Apply(&secret)).await?;
        Ok(())
    }

    /// A claim that names its node: disk is provisioned where the pod was placed, not the other way round.
    async fn claim(&self, pod: &PodId, node: &str) -> Result<(), SetError> {
        let template = &self.object.spec.template;
        let Some(class) = &template.storage_class else { return Ok(()) };
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.sets.control.client.clone(), &self.namespace);
        let name = format!("data-{pod}");
        if api.get_opt(&name).await?.is_some() {
            return Ok(());
        }
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": { "name": name, "annotations": { "volume.kubernetes.io/selected-node": node } },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": class,
                "resources": { "requests": { "storage": template.resources.disk_bytes.to_string() } },
            },
        }))?;
        api.create(&PostParams::default(), &claim).await?;
        Ok(())
    }
}
