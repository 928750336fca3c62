//! Who may call a pod: a list of certificates, each with a name for people.
//! That a certificate is signed is not enough.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use tonic::transport::server::TlsConnectInfo;
use tonic::{Request, Status};

use super::Notice;
use super::connections::Place;

/// Why a list of callers is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// A line or flag of another form.
    #[error(
        "a caller is FINGERPRINT or FINGERPRINT/NAME, the SHA-256 of its certificate in hexadecimal, not {0:?}"
    )]
    Form(String),
}

/// The callers of a pod.
#[derive(Clone, Debug, Default)]
pub struct Callers(BTreeMap<[u8; 32], String>);

/// SHA-256 of a certificate, DER: what `openssl x509 -fingerprint -sha256`
/// prints.
pub fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// The name of the caller, in the extensions of an admitted request.
#[derive(Clone)]
pub(super) struct CallerName(pub(super) String);

impl Callers {
    /// Adds one: `FINGERPRINT` or `FINGERPRINT/NAME`; colons as OpenSSL
    /// prints them are left out.
    ///
    /// # Errors
    /// [`CallerError`].
    pub fn add(&mut self, text: &str) -> Result<(), CallerError> {
        let form = || CallerError::Form(text.to_owned());
        let (print, name) = text.split_once('/').unwrap_or((text, "caller"));
        let digits: Vec<u8> = print.bytes().filter(|byte| *byte != b':').collect();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, odd) = digits.as_chunks::<2>();
        let bytes: Option<Vec<u8>> =
            pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        let print: [u8; 32] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(form)?;
        if !odd.is_empty() || name.is_empty() {
            return Err(form());
        }
        self.0.insert(print, name.to_owned());
        Ok(())
    }

    /// Adds every line of a file; empty lines and those that begin with `#`
    /// say nothing.
    ///
    /// # Errors
    /// [`CallerError`].
    pub fn add_lines(&mut self, text: &str) -> Result<(), CallerError> {
        let lines = text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).try_for_each(|line| self.add(line))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lets a request of a listed caller through.
    pub(super) fn admit(
        &self,
        mut request: Request<()>,
        notices: &(dyn Fn(Notice) + Send + Sync),
    ) -> Result<Request<()>, Status> {
        let connection = request.extensions().get::<TlsConnectInfo<Place>>();
        let certificates = connection.and_then(TlsConnectInfo::peer_certs);
        let leaf = certificates.as_ref().and_then(|list| list.first());
        let print = leaf.map(|der| fingerprint(der));
        match print.and_then(|print| self.0.get(&print)) {
            Some(_) if connection.is_some_and(|connection| !connection.get_ref().admit()) => {
                Err(Status::resource_exhausted("this site serves as many connections as it may"))
            }
            Some(name) => {
                request.extensions_mut().insert(CallerName(name.clone()));
                Ok(request)
            }
            None => {
                notices(Notice::Caller { fingerprint: print });
                Err(Status::permission_denied("this certificate is not on the list of this site's callers"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_read_as_openssl_prints_them_and_nothing_else_is() {
        let mut callers = Callers::default();
        let colons = ["AB"; 32].join(":");
        callers.add_lines(&format!("# who\n\n {colons}/service \n{}\n", "0f".repeat(32))).unwrap();
        assert_eq!(callers.0.get(&[0xab; 32]).map(String::as_str), Some("service"));
        assert_eq!(callers.0.len(), 2);
        for bad in ["", "ab", &"ab".repeat(33), &"zz".repeat(32), &format!("{}/", "ab".repeat(32))] {
            assert_eq!(callers.add(bad), Err(CallerError::Form(bad.to_owned())));
        }
        assert_eq!(callers.add(&"a".repeat(63)), Err(CallerError::Form("a".repeat(63))));
    }
}
