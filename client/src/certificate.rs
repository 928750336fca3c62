//! A principal's key pair, made where it stays, and the request (PKCS#10, RFC
//! 2986) with which the service certifies it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_model::Entropy;
use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

/// PKCS#8 (RFC 8410) of an Ed25519 key, up to its 32-byte seed.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Why no request was made.
#[derive(Debug, thiserror::Error)]
#[error("the certificate request could not be made: {0}")]
pub struct CertificateRequestError(#[from] rcgen::Error);

/// A fresh key and the request to certify it.
pub struct CertificateRequest {
    /// The private key, PKCS#8 as PEM; it never leaves the client.
    pub key_pem: Zeroizing<String>,
    /// The signed request, DER.
    pub csr_der: Vec<u8>,
}

/// Makes an Ed25519 key out of `entropy`, and its certificate request. The
/// request names nobody: the service decides which principal it certifies.
///
/// # Errors
/// [`CertificateRequestError`], which no key of the right length causes.
pub fn new_certificate_request(entropy: &dyn Entropy) -> Result<CertificateRequest, CertificateRequestError> {
    let mut der = Zeroizing::new([0; 48]);
    der[..16].copy_from_slice(&PKCS8_PREFIX);
    entropy.fill(&mut der[16..]);
    let pair = KeyPair::try_from(der.as_slice())?;
    let csr_der = CertificateParams::new(Vec::new())?.serialize_request(&pair)?.der().to_vec();
    let body = Zeroizing::new(STANDARD.encode(der.as_slice()));
    let mut key_pem = Zeroizing::new(String::with_capacity(160));
    for part in ["-----BEGIN PRIVATE KEY-----\n", &body, "\n-----END PRIVATE KEY-----\n"] {
        key_pem.push_str(part);
    }
    Ok(CertificateRequest { key_pem, csr_der })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count;
    impl Entropy for Count {
        fn fill(&self, out: &mut [u8]) {
            out.iter_mut().zip(0..).for_each(|(byte, n)| *byte = n);
        }
    }

    #[test]
    fn the_key_comes_from_the_entropy_that_was_given_and_reads_back() {
        let made = new_certificate_request(&Count).unwrap();
        let pair = KeyPair::from_pem(&made.key_pem).unwrap();
        assert_eq!(pair.public_key_raw()[..4], [0x03, 0xa1, 0x07, 0xbf], "RFC 8032 key of seed 00 01 02 ..");
    }

    #[test]
    fn the_request_carries_a_signature_that_verifies() {
        let made = new_certificate_request(&Count).unwrap();
        let read = rcgen::CertificateSigningRequestParams::from_der(&made.csr_der.as_slice().into());
        assert!(read.is_ok());
        let mut forged = made.csr_der;
        if let Some(last) = forged.last_mut() {
            *last ^= 1;
        }
        assert!(rcgen::CertificateSigningRequestParams::from_der(&forged.as_slice().into()).is_err());
    }
}
