//! Who may call the fleet's API: an authority of its own, which certifies the
//! listener, the node agents and the operator. A second one certifies the way
//! back, from the API to the nodes.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_client::profile::write_atomically;
use coffer_embedded::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::files;

const CERTIFICATE_MAX: u64 = 64 << 10;

/// The authority with its key.
pub(super) struct FleetAuthority {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl FleetAuthority {
    /// The one in a directory; a new one where there is none.
    pub(super) fn open_or_create(dir: &Path) -> Result<Self, Failure> {
        let (certificate, key_file) = (dir.join("ca.pem"), dir.join("ca.key"));
        let text = |path: &Path| -> Result<String, Failure> {
            let bytes = files::read_small(path, CERTIFICATE_MAX)?;
            String::from_utf8(bytes).map_err(|_| Failure::new(format!("{}: this is no PEM", path.display())))
        };
        if !certificate.exists() {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "Coffer fleet authority");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            let ca_pem = params.self_signed(&key)?.pem();
            files::make_directory(dir)?;
            // The certificate last: with it the authority counts.
            write_atomically(&key_file, Zeroizing::new(key.serialize_pem()).as_bytes())?;
            write_atomically(&certificate, ca_pem.as_bytes())?;
        }
        let ca_pem = text(&certificate)?;
        let key = KeyPair::from_pem(&Zeroizing::new(text(&key_file)?))?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key)?;
        Ok(Self { ca_pem, issuer })
    }

    pub(super) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Certificate and key of the listener, on this machine and at this address.
    pub(super) fn server(&self, at: IpAddr) -> Result<(String, Zeroizing<String>), Failure> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        let here = IpAddr::from([127, 0, 0, 1]);
        params.subject_alt_names.push(SanType::IpAddress(here));
        if at != here && !at.is_unspecified() {
            params.subject_alt_names.push(SanType::IpAddress(at));
        }
        params.distinguished_name.push(DnType::CommonName, "coffer fleet");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// Certificate and key of a node, under which the API asks it for logs and usage.
    pub(super) fn node(&self, name: &str) -> Result<(String, Zeroizing<String>), Failure> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// What the API shows to the nodes. Of this authority nobody else has a
    /// certificate that asks: neither people nor other nodes read logs past the API.
    pub(super) fn caller(&self) -> Result<Tls, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "coffer fleet API");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.issue(params)?;
        Ok(Tls { certificate, key, clients: self.ca_pem.clone() })
    }

    /// How a caller reaches the API: a kubeconfig, in the JSON that is YAML too.
    pub(super) fn kubeconfig(&self, api: SocketAddr, user: &str, group: &str) -> Result<Value, Failure> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (certificate, key) = self.issue(params)?;
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fleet",
            "clusters": [{ "name": "fleet", "cluster": {
                "server": format!("https://{api}"),
                "certificate-authority-data": STANDARD.encode(&self.ca_pem),
            } }],
            "users": [{ "name": user, "user": {
                "client-certificate-data": STANDARD.encode(certificate),
                "client-key-data": STANDARD.encode(key.as_bytes()),
            } }],
            "contexts": [{ "name": "fleet", "context": { "cluster": "fleet", "user": user, "namespace": "coffer" } }],
        }))
    }

    fn issue(&self, params: CertificateParams) -> Result<(String, Zeroizing<String>), Failure> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
    }
}
