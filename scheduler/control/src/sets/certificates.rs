//! Certificates of sites: issued once a pod has a node, because the certificate
//! names where it stands. Until then its volume is not there, and it waits.

use std::collections::BTreeMap;

use async_trait::async_trait;
use coffer_scheduler::{Attestation, PodId};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource as _};
use serde_json::json;

use super::{Look, SetError};
use crate::names::FIELD_MANAGER;

/// Annotation of a certificate's secret: the country that it names.
const ISSUED_FOR: &str = "fleet.coffer/issued-for";

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

    async fn certificate(&self, site: SiteIdentity) -> Result<(), SetError> {
        let api: Api<Secret> = Api::namespaced(self.sets.control.client.clone(), &self.namespace);
        let name = format!("{}-certificate", site.pod);
        // Once for the life of a site: a node that moves to another country loses the site, it does not rename it.
        if api.get_opt(&name).await?.is_some() {
            return Ok(());
        }
        let files = self.sets.control.certificates.issue(&site).await?;
        let data: BTreeMap<String, ByteString> =
            files.into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect();
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                annotations: Some([(ISSUED_FOR.to_owned(), site.stands.country.to_string())].into()),
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
