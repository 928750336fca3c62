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
use kube::api::{ObjectMeta, Patch, PostParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::{Look, SetError};
use crate::names::{FIELD_MANAGER, SITE_FILE, ours};

/// Annotation of a certificate's secret: the country that it names.
const ISSUED_FOR: &str = "fleet.coffer/issued-for";
/// Annotation of a certificate's secret: when it was issued, seconds since 1970.
const ISSUED_AT: &str = "fleet.coffer/issued-at";
/// Annotation of a certificate's secret: from when on it is to be renewed, seconds since 1970.
const RENEW_AFTER: &str = "fleet.coffer/renew-after";
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

/// For fleets whose sites get their certificates elsewhere: no secret is made, and a pod waits for its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCertificates;

#[async_trait]
impl SiteCertificates for NoCertificates {
    async fn issue(&self, _: &SiteIdentity) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        Ok(BTreeMap::new())
    }
}

/// Files as a secret holds them.
fn data_of(files: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, ByteString> {
    files.into_iter().map(|(name, bytes)| (name, ByteString(bytes))).collect()
}

/// A number among the annotations of an object.
fn said(secret: &Secret, key: &str) -> Option<u64> {
    secret.annotations().get(key).and_then(|text| text.parse().ok())
}

/// By how much the clocks of two control planes may differ, in seconds.
const CLOCKS_DIFFER: u64 = 300;

/// Whether a certificate has to be renewed: when two thirds of its time are over, by what was so when it was
/// issued or is so now, whichever is earlier. One that does not say when it was issued is of before anybody renewed,
/// and one that says it was issued later than now is of a clock that was ahead: what it says of its time is nothing.
fn is_due(secret: &Secret, lasts: Duration, now: u64) -> bool {
    if said(secret, ISSUED_AT).is_some_and(|at| at > now.saturating_add(CLOCKS_DIFFER)) {
        return true;
    }
    let by_now = said(secret, ISSUED_AT).map(|at| at.saturating_add(two_thirds(lasts)));
    let by_then = said(secret, RENEW_AFTER).or(by_now);
    by_now.is_none_or(|at| now >= at) || by_then.is_none_or(|at| now >= at)
}

/// The number of the certificate that a pod began with.
fn began(pod: &Pod) -> u64 {
    pod.annotations().get(CERTIFICATE).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether a container of the pod was started, which waits for its certificate.
fn has_begun(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

/// In seconds.
fn two_thirds(lasts: Duration) -> u64 {
    (lasts * 2 / 3).as_secs()
}

/// The secret of a site's certificate.
fn secret_name(site: &SiteIdentity) -> String {
    format!("{}-certificate", site.pod)
}

/// Whether a certificate is of the country where its pod's node stands; a pod elsewhere is on its way out, and
/// gets none any more. One that does not say so is for its issuer to judge.
fn is_of_here(secret: &Secret, site: &SiteIdentity) -> bool {
    secret.annotations().get(ISSUED_FOR).is_none_or(|country| *country == site.stands.country.to_string())
}

impl Look<'_> {
    /// A certificate, and where it is asked for a claim of disk, for every pod that has a node. One that has none
    /// holds up no other; what the first of them ran into is returned.
    pub(super) async fn certify(&mut self) -> Result<(), SetError> {
        let stands = self.sets.locked(|book| {
            let placed = book.pods_of(&self.name).filter_map(|(id, pod)| {
                let node = book.ledger().cluster().node(pod.node.as_ref()?)?;
                Some((id.clone(), node.name.to_string(), node.attested.clone()?))
            });
            placed.collect::<Vec<_>>()
        });
        let mut first = Ok(());
        for (pod, node, stands) in stands {
            let done = async {
                self.claim(&pod, &node).await?;
                self.certificate(SiteIdentity { pod, stands }).await
            };
            first = first.and(done.await);
        }
        first
    }

    /// Remembers which site a pod is; who fills the secret by hand says it there, too.
    fn note_site(&mut self, pod: &PodId, files: &BTreeMap<String, Vec<u8>>) {
        let said = files.get(SITE_FILE).and_then(|file| String::from_utf8(file.clone()).ok());
        if let Some(site) = said {
            self.sites.insert(pod.ordinal, site.trim().to_owned());
        }
    }

    /// Seconds since 1970.
    fn seconds(&self) -> u64 {
        self.sets.control.clock.now().0 / 1_000_000_000
    }

    /// Numbers of pods that began with another certificate than there is. Of a member without a number nothing is
    /// known, as when its set's status was lost: the next look at its secret says it.
    pub(super) fn with_old_certificates(&self) -> impl Iterator<Item = u32> {
        let members = self.status.members.iter().filter(|member| member.certificate > 0);
        let old = members.filter(|member| {
            self.pods.get(&member.ordinal).is_some_and(|pod| began(pod) != member.certificate)
        });
        old.map(|member| member.ordinal)
    }

    /// The highest number that a certificate of this member had: its secret may have been deleted and made anew.
    fn last_number(&self, ordinal: u32, secret: Option<&Secret>) -> u64 {
        let member = self.status.members.iter().find(|member| member.ordinal == ordinal);
        let member = member.map(|member| member.certificate);
        let pod = self.pods.get(&ordinal).map(began);
        let secret = secret.and_then(|secret| said(secret, CERTIFICATE));
        [member, pod, secret].into_iter().flatten().max().unwrap_or(0)
    }

    /// The number of one that is issued and not renewed: the first has none, and one after others has another than
    /// all. A pod that runs began with one, also where none has a number: its secret was deleted, and what it began
    /// with would end before the new one is due.
    fn issued_number(&self, ordinal: u32, secret: Option<&Secret>) -> u64 {
        match self.last_number(ordinal, secret) {
            0 if !self.pods.get(&ordinal).is_some_and(has_begun) => 0,
            last => last.saturating_add(1),
        }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.sets.control.client.clone(), &self.namespace)
    }

    /// The certificate of a pod: issued where there is none, renewed in time, and of one site for life. A node
    /// that moves to another country loses the site, it does not rename it.
    async fn certificate(&mut self, site: SiteIdentity) -> Result<(), SetError> {
        let Some(known) = self.secrets().get_opt(&secret_name(&site)).await? else {
            return self.issue(site).await;
        };
        let files: BTreeMap<String, Vec<u8>> =
            known.data.clone().unwrap_or_default().into_iter().map(|(name, file)| (name, file.0)).collect();
        self.note_site(&site.pod, &files);
        let certificates = Arc::clone(&self.sets.control.certificates);
        let Some(lasts) = certificates.lasts() else { return Ok(()) };
        let mut number = said(&known, CERTIFICATE).unwrap_or(0);
        if files.is_empty() {
            // Of before there was anybody to issue it, or emptied by somebody.
            let files = certificates.issue(&site).await?;
            number = self.issued_number(site.pod.ordinal, Some(&known));
            self.note_site(&site.pod, &files);
            self.replace(&known, &site, (files, number)).await?;
        } else if is_due(&known, lasts, self.seconds()) && is_of_here(&known, &site) {
            let files = certificates.renew(&site, &files).await?;
            // The pods take it up by a restart.
            number = self.last_number(site.pod.ordinal, Some(&known)).saturating_add(1);
            self.replace(&known, &site, (files, number)).await?;
        }
        let mut members = self.status.members.iter_mut();
        if let Some(member) = members.find(|member| member.ordinal == site.pod.ordinal) {
            member.certificate = number;
        }
        Ok(())
    }

    /// What is noted beside a certificate that is issued now.
    fn noted(&self, site: &SiteIdentity, number: u64) -> BTreeMap<String, String> {
        let now = self.seconds();
        let lasts = self.sets.control.certificates.lasts();
        let renewed = lasts.map(|lasts| (RENEW_AFTER, now.saturating_add(two_thirds(lasts)).to_string()));
        let number = (number > 0).then(|| (CERTIFICATE, number.to_string()));
        let always = [(ISSUED_FOR, site.stands.country.to_string()), (ISSUED_AT, now.to_string())];
        let all = always.into_iter().chain(renewed).chain(number);
        all.map(|(key, text)| (key.to_owned(), text)).collect()
    }

    /// The secret of a pod that has none. It is made and never overwritten: another control plane, which leads in
    /// our place by now, may have made it since we looked, and its pod may have begun with it.
    async fn issue(&mut self, site: SiteIdentity) -> Result<(), SetError> {
        let files = self.sets.control.certificates.issue(&site).await?;
        if files.is_empty() {
            return Ok(());
        }
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(secret_name(&site)),
                annotations: Some(self.noted(&site, self.issued_number(site.pod.ordinal, None))),
                owner_references: Some(self.object.controller_owner_ref(&()).into_iter().collect()),
                ..ObjectMeta::default()
            },
            data: Some(data_of(files.clone())),
            ..Secret::default()
        };
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self.secrets().create(&params, &secret).await {
            Ok(_) => {
                self.note_site(&site.pod, &files);
                Ok(())
            }
            // The next look goes by it.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Other files in the secret that was seen; in one that somebody else changed meanwhile none.
    async fn replace(
        &self,
        known: &Secret,
        site: &SiteIdentity,
        (files, number): (BTreeMap<String, Vec<u8>>, u64),
    ) -> Result<(), SetError> {
        let version = known.metadata.resource_version.clone();
        let patch = json!({
            "metadata": { "annotations": self.noted(site, number), "resourceVersion": version },
            "data": data_of(files),
        });
        self.secrets().patch(&known.name_any(), &ours(), &Patch::Merge(&patch)).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_time_and_when_it_was_issued_in_the_future() {
        let lasts = Duration::from_secs(3000);
        let due = |issued: u64, renew: u64, now: u64| {
            let noted = [(ISSUED_AT, issued), (RENEW_AFTER, renew)];
            let noted = noted.map(|(key, number)| (key.to_owned(), number.to_string())).into();
            let metadata = ObjectMeta { annotations: Some(noted), ..ObjectMeta::default() };
            is_due(&Secret { metadata, ..Secret::default() }, lasts, now)
        };
        let of_now = [9_999, 10_000, 11_999, 12_000].map(|now| due(10_000, 12_000, now));
        assert_eq!(of_now, [false, false, false, true]);
        // Clocks differ a little; one that was ahead by a day would have nothing renewed for a day.
        assert!(!due(10_000, 12_000, 9_700));
        assert!(due(10_000, 12_000, 9_699) && due(96_400, 98_400, 10_000));
        assert!(is_due(&Secret::default(), lasts, 10_000), "nobody noted anything");
    }
}
