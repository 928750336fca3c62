//! Until when a certificate holds.

use x509_parser::pem::parse_x509_pem;

/// Seconds since 1970 until which the first certificate of a PEM is valid;
/// none if it is no certificate.
pub(crate) fn expiry_of_pem(pem: &str) -> Option<u64> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}
