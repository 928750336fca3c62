//! What a pod's certificate says: which site, in which country, and the key
//! that its receipts are signed with, in one URI beside the server name.

use core::fmt;
use std::str::FromStr;

use coffer_model::{Country, SiteId};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::receipt::ReceiptKey;

/// What a certificate of a pod names:
/// `coffer://site/SITE-ID?country=CC&receipts=HEX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteIdentity {
    /// Which site.
    pub site: SiteId,
    /// Where its disks stand.
    pub country: Country,
    /// What its receipts are verified with.
    pub receipts: ReceiptKey,
}

/// Why a certificate names no site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It is no certificate.
    #[error("it is no X.509 certificate")]
    Certificate,
    /// It has no such URI, or several.
    #[error(
        "it names no site, or more than one, in a URI of the form coffer://site/ID?country=CC&receipts=KEY"
    )]
    Uri,
}

/// How the URI begins.
const PREFIX: &str = "coffer://site/";

impl SiteIdentity {
    /// Reads the identity out of a certificate, DER. Whether the certificate
    /// is to be believed is for the TLS library to say.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| IdentityError::Certificate)?;
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Certificate)?;
        let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
        let mut ours = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(PREFIX) => Some(*uri),
            _ => None,
        });
        match (ours.next(), ours.next()) {
            (Some(uri), None) => uri.parse(),
            _ => Err(IdentityError::Uri),
        }
    }
}

impl fmt::Display for SiteIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}?country={}&receipts={}", self.site, self.country, self.receipts)
    }
}

impl FromStr for SiteIdentity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let read = || {
            let (site, query) = uri.strip_prefix(PREFIX)?.split_once('?')?;
            let (country, receipts) = query.split_once('&')?;
            Some(Self {
                site: site.parse().ok()?,
                country: country.strip_prefix("country=")?.parse().ok()?,
                receipts: receipts.strip_prefix("receipts=")?.parse().ok()?,
            })
        };
        read().ok_or(IdentityError::Uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> SiteIdentity {
        let receipts = crate::receipt::ReceiptSigner::danger_from_seed([7; 32]).key();
        SiteIdentity { site: SiteId::from_bytes([1; 16]), country: "DE".parse().unwrap(), receipts }
    }

    #[test]
    fn an_identity_reads_back_from_its_uri_and_nothing_shorter_or_longer_does() {
        let uri = identity().to_string();
        assert_eq!(uri.parse(), Ok(identity()));
        for end in 0..uri.len() {
            assert_eq!(uri[..end].parse::<SiteIdentity>(), Err(IdentityError::Uri), "{end}");
        }
        assert_eq!(format!("{uri}&more=1").parse::<SiteIdentity>(), Err(IdentityError::Uri));
        assert_eq!(uri.replace("country=DE", "country=de").parse::<SiteIdentity>(), Err(IdentityError::Uri));
    }

    #[test]
    fn a_certificate_with_no_identity_with_two_or_no_certificate_at_all_names_nobody() {
        let with = |uris: &[String]| {
            let mut params = rcgen::CertificateParams::new(vec!["site.coffer.internal".to_owned()]).unwrap();
            for uri in uris {
                let uri = rcgen::string::Ia5String::try_from(uri.as_str()).unwrap();
                params.subject_alt_names.push(rcgen::SanType::URI(uri));
            }
            let key = rcgen::KeyPair::generate().unwrap();
            SiteIdentity::of_certificate(params.self_signed(&key).unwrap().der())
        };
        let uri = identity().to_string();
        assert_eq!(with(std::slice::from_ref(&uri)), Ok(identity()));
        assert_eq!(with(&["https://other".to_owned(), uri.clone()]), Ok(identity()));
        assert_eq!(with(&[]), Err(IdentityError::Uri));
        assert_eq!(with(&[uri.clone(), uri.clone()]), Err(IdentityError::Uri));
        assert_eq!(with(&[format!("{uri}0")]), Err(IdentityError::Uri));
        assert_eq!(SiteIdentity::of_certificate(b"no certificate"), Err(IdentityError::Certificate));
    }
}
