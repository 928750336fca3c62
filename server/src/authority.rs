//! The deployment's certificate authority: it certifies the server itself,
//! operators and tenants' clients. Nobody outside the deployment trusts it.

use coffer_model::PrincipalId;
use coffer_proto::SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use zeroize::Zeroizing;

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate library refused; the text is its reason.
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The caller's signing request is not acceptable.
    #[error("the certificate signing request cannot be read: {0}")]
    Request(rcgen::Error),
}

/// A fresh credential: what a client needs to call the service.
pub struct IssuedCredential {
    /// Whom it names.
    pub principal: PrincipalId,
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: Zeroizing<String>,
    /// The CA to check the server with.
    pub ca_pem: String,
}

/// A certificate and the fingerprint by which its bearer is known.
pub(crate) struct Certified {
    pub(crate) pem: String,
    pub(crate) fingerprint: [u8; 32],
}

/// BLAKE3 of a certificate, DER.
pub(crate) fn fingerprint(der: &[u8]) -> [u8; 32] {
    *blake3::hash(der).as_bytes()
}

/// The CA with its key.
pub(crate) struct Authority {
    ca_pem: String,
    key_pem: Zeroizing<String>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new CA with a new key.
    pub(crate) fn found() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Coffer deployment CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca_pem = params.self_signed(&key)?.pem();
        Self::load(ca_pem, Zeroizing::new(key.serialize_pem()))
    }

    /// The CA as the key store keeps it.
    pub(crate) fn load(ca_pem: String, key_pem: Zeroizing<String>) -> Result<Self, AuthorityError> {
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, KeyPair::from_pem(&key_pem)?)?;
        Ok(Self { ca_pem, key_pem, issuer })
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The private key, for the key store and nothing else.
    pub(crate) fn danger_key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A certificate for the server, and its key. Made anew at every start.
    pub(crate) fn certify_server(&self) -> Result<(String, Zeroizing<String>), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned(), "localhost".to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "Coffer service");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
    }

    /// Certifies the key of a caller's signing request. Only the key is taken
    /// from the request; every name in the certificate is ours.
    pub(crate) fn certify_request(
        &self,
        principal: PrincipalId,
        request_der: &[u8],
    ) -> Result<Certified, AuthorityError> {
        let der = request_der.to_vec().into();
        let request = CertificateSigningRequestParams::from_der(&der).map_err(AuthorityError::Request)?;
        let certificate = client_params(principal).signed_by(&request.public_key, &self.issuer)?;
        Ok(Certified { fingerprint: fingerprint(certificate.der()), pem: certificate.pem() })
    }

    /// A certificate with a key made here, for the first operator and for
    /// recoveries, in which nobody is there to ask for one.
    pub(crate) fn issue(
        &self,
        principal: PrincipalId,
    ) -> Result<(IssuedCredential, [u8; 32]), AuthorityError> {
        let key = KeyPair::generate()?;
        let certificate = client_params(principal).signed_by(&key, &self.issuer)?;
        let fingerprint = fingerprint(certificate.der());
        let credential = IssuedCredential {
            principal,
            certificate_pem: certificate.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
            ca_pem: self.ca_pem.clone(),
        };
        Ok((credential, fingerprint))
    }
}

fn client_params(principal: PrincipalId) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, principal.to_string());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}
