//! The site authority: certifies pods and their callers. It is not the
//! deployment's authority, whose key lies in the key slots at the sites:
//! whoever comes to fetch that key must be let in before he has it. The
//! operator keeps it in a directory and needs it only to enrol pods.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_model::{Country, Entropy, SiteId};
use coffer_proto::SITE_SERVER_NAME;
use coffer_site::daemon::fingerprint;
use coffer_site::{ReceiptSigner, SiteIdentity};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use zeroize::Zeroizing;

/// Why a pod was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum SiteAuthorityError {
    /// The certificate library refused; the text is its reason.
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// What is to be renewed is no certificate of a pod with its receipt key.
    #[error("this is no certificate of a pod with the receipt key that it names; enrol the pod anew")]
    NotEnrolled,
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// When a certificate holds; seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// From then on.
    pub from: u64,
    /// Until then.
    pub until: u64,
}

/// What a pod is started with; each is a file of its own.
pub struct PodFiles {
    /// The id that its certificate names, for the site file.
    pub site: SiteId,
    /// File names, whether they are secret, contents.
    pub files: Vec<(&'static str, bool, Zeroizing<String>)>,
}

/// What the service shows to pods: the credentials that a site file calls "pods".
pub struct CallerFiles {
    /// SHA-256 of the certificate: a line of every pod's list of callers.
    pub line: String,
    /// File names, whether they are secret, contents.
    pub files: Vec<(&'static str, bool, Zeroizing<String>)>,
}

/// The authority with its key.
pub struct SiteAuthority {
    ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

/// Files of the authority.
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const CALLER: &str = "certificate.pem";
const CALLER_KEY: &str = "key.pem";

fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> SiteAuthorityError {
    move |source| SiteAuthorityError::Disk { path: path.to_owned(), source }
}

fn read(path: &Path) -> Result<Zeroizing<String>, SiteAuthorityError> {
    let bytes = crate::disk::read_bounded(path).map_err(disk(path))?;
    let text = String::from_utf8(bytes).map_err(|_| std::io::ErrorKind::InvalidData.into());
    text.map(Zeroizing::new).map_err(disk(path))
}

/// Writes a file that did not exist; a secret one for its owner alone.
fn write(path: &Path, secret: bool, text: &str) -> Result<(), SiteAuthorityError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mode = if secret { 0o600 } else { 0o644 };
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(disk(path))
}

/// Writes files into a directory, which is made if it does not exist.
///
/// # Errors
/// [`SiteAuthorityError::Disk`], also where one of them exists: keys are
/// never overwritten.
pub fn write_site_files(
    dir: &Path,
    files: &[(&'static str, bool, Zeroizing<String>)],
) -> Result<(), SiteAuthorityError> {
    std::fs::create_dir_all(dir).map_err(disk(dir))?;
    files.iter().try_for_each(|(name, secret, text)| write(&dir.join(name), *secret, text))
}

impl SiteAuthority {
    /// The authority in a directory; a new one with its first caller, where
    /// there is none.
    ///
    /// # Errors
    /// [`SiteAuthorityError`].
    pub fn open_or_create(dir: &Path) -> Result<Self, SiteAuthorityError> {
        if dir.join(CA).exists() {
            let ca_pem = read(&dir.join(CA))?.as_str().to_owned();
            let key = KeyPair::from_pem(&read(&dir.join(CA_KEY))?)?;
            let issuer = Issuer::from_ca_cert_pem(&ca_pem, key)?;
            return Ok(Self { ca_pem, issuer, dir: dir.to_owned() });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Coffer site authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca_pem = params.self_signed(&key)?.pem();
        let key_pem = Zeroizing::new(key.serialize_pem());
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key)?;
        let authority = Self { ca_pem, issuer, dir: dir.to_owned() };
        let (caller, caller_key) = authority.new_caller()?;
        let public = |text: &str| Zeroizing::new(text.to_owned());
        // The certificate of the authority last: with it the directory counts.
        let files = [
            (CA_KEY, true, key_pem),
            (CALLER_KEY, true, caller_key),
            (CALLER, false, caller),
            (CA, false, public(&authority.ca_pem)),
        ];
        write_site_files(dir, &files)?;
        Ok(authority)
    }

    fn new_caller(&self) -> Result<(Zeroizing<String>, Zeroizing<String>), SiteAuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Coffer service");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((Zeroizing::new(certificate.pem()), Zeroizing::new(key.serialize_pem())))
    }

    /// What the service shows to every pod of this authority.
    ///
    /// # Errors
    /// [`SiteAuthorityError`].
    pub fn caller(&self) -> Result<CallerFiles, SiteAuthorityError> {
        let certificate = read(&self.dir.join(CALLER))?;
        let key = read(&self.dir.join(CALLER_KEY))?;
        let der = der_of(&certificate).ok_or_else(|| std::io::ErrorKind::InvalidData.into());
        let print = fingerprint(&der.map_err(disk(&self.dir.join(CALLER)))?);
        let line = print.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let ca = Zeroizing::new(self.ca_pem.clone());
        let files = vec![(CA, false, ca), (CALLER, false, certificate), (CALLER_KEY, true, key)];
        Ok(CallerFiles { line: format!("{line}/service"), files })
    }

    /// A new pod in a country: its certificate, its keys, its list of callers.
    ///
    /// # Errors
    /// [`SiteAuthorityError`].
    pub fn enrol(&self, country: Country, entropy: &dyn Entropy) -> Result<PodFiles, SiteAuthorityError> {
        let (identity, signer) = identity(country, entropy);
        self.pod_files(&identity, &signer, None)
    }

    /// The same, with a certificate that holds between two moments.
    ///
    /// # Errors
    /// [`SiteAuthorityError`].
    pub fn enrol_for(
        &self,
        country: Country,
        holds: Holds,
        entropy: &dyn Entropy,
    ) -> Result<PodFiles, SiteAuthorityError> {
        let (identity, signer) = identity(country, entropy);
        self.pod_files(&identity, &signer, Some(holds))
    }

    /// Another certificate, with another key, for a pod that this authority enrolled: of the same site and
    /// country and with the same receipt key, which both come from what it has.
    ///
    /// # Errors
    /// [`SiteAuthorityError`], also for a certificate of another authority.
    pub fn renew(
        &self,
        certificate_pem: &str,
        receipt_key: &str,
        holds: Holds,
    ) -> Result<PodFiles, SiteAuthorityError> {
        let identity = der_of(certificate_pem).and_then(|der| SiteIdentity::of_certificate(&der).ok());
        let identity = identity.ok_or(SiteAuthorityError::NotEnrolled)?;
        let signer = ReceiptSigner::danger_from_text(receipt_key).ok_or(SiteAuthorityError::NotEnrolled)?;
        if signer.key() != identity.receipts {
            return Err(SiteAuthorityError::NotEnrolled);
        }
        self.pod_files(&identity, &signer, Some(holds))
    }

    fn pod_files(
        &self,
        identity: &SiteIdentity,
        signer: &ReceiptSigner,
        holds: Option<Holds>,
    ) -> Result<PodFiles, SiteAuthorityError> {
        let site = identity.site;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![SITE_SERVER_NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, site.to_string());
        params.subject_alt_names.push(SanType::URI(Ia5String::try_from(identity.to_string())?));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if let Some(holds) = holds {
            let epoch = rcgen::date_time_ymd(1970, 1, 1);
            params.not_before = epoch + Duration::from_secs(holds.from);
            params.not_after = epoch + Duration::from_secs(holds.until);
        }
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let callers = format!(
            "# who may call this pod, a certificate's SHA-256 in each line\n{}\n",
            self.caller()?.line
        );
        let files = vec![
            ("certificate.pem", false, Zeroizing::new(certificate)),
            ("key.pem", true, Zeroizing::new(key.serialize_pem())),
            ("receipt.key", true, signer.danger_to_text()),
            ("ca.pem", false, Zeroizing::new(self.ca_pem.clone())),
            ("callers", false, Zeroizing::new(callers)),
        ];
        Ok(PodFiles { site, files })
    }
}

/// A site that there was not before.
fn identity(country: Country, entropy: &dyn Entropy) -> (SiteIdentity, ReceiptSigner) {
    let site = SiteId::generate(entropy);
    let signer = ReceiptSigner::generate(entropy);
    (SiteIdentity { site, country, receipts: signer.key() }, signer)
}

/// The bytes of the first certificate in a PEM.
fn der_of(pem: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let body = pem.split("-----BEGIN CERTIFICATE-----").nth(1)?.split("-----END").next()?;
    let body: String = body.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeros;
    impl Entropy for Zeros {
        fn fill(&self, out: &mut [u8]) {
            out.fill(7);
        }
    }

    #[test]
    fn a_pods_certificate_names_its_site_country_and_receipt_key_and_keys_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let authority = SiteAuthority::open_or_create(&dir.path().join("authority")).unwrap();
        let again = SiteAuthority::open_or_create(&dir.path().join("authority")).unwrap();
        assert_eq!(authority.caller().unwrap().line, again.caller().unwrap().line);
        let pod = again.enrol("SE".parse().unwrap(), &Zeros).unwrap();
        let text = |name: &str| pod.files.iter().find(|(file, ..)| *file == name).unwrap().2.clone();
        let identity = SiteIdentity::of_certificate(&der_of(&text("certificate.pem")).unwrap()).unwrap();
        let signer = ReceiptSigner::danger_from_text(&text("receipt.key")).unwrap();
        assert_eq!((identity.site, identity.country.as_str()), (pod.site, "SE"));
        assert_eq!(identity.receipts, signer.key());
        assert!(text("callers").contains(&authority.caller().unwrap().line));
        let out = dir.path().join("pod");
        write_site_files(&out, &pod.files).unwrap();
        assert!(write_site_files(&out, &pod.files).is_err());
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(out.join("key.pem").metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_renewed_certificate_is_of_the_same_site_with_another_key_and_holds_as_long_as_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let authority = SiteAuthority::open_or_create(&dir.path().join("authority")).unwrap();
        let holds = |from| Holds { from, until: from + 90 * 86_400 };
        let first = authority.enrol_for("SE".parse().unwrap(), holds(1_800_000_000), &Zeros).unwrap();
        let text = |pod: &PodFiles, name: &str| -> String {
            pod.files.iter().find(|(file, ..)| *file == name).unwrap().2.as_str().to_owned()
        };
        let (certificate, receipts) = (text(&first, "certificate.pem"), text(&first, "receipt.key"));
        let second = authority.renew(&certificate, &receipts, holds(1_806_000_000)).unwrap();
        let identity = |pod: &PodFiles| {
            SiteIdentity::of_certificate(&der_of(&text(pod, "certificate.pem")).unwrap()).unwrap()
        };
        assert_eq!((first.site, identity(&first)), (second.site, identity(&second)));
        assert_eq!(receipts, text(&second, "receipt.key"));
        assert_ne!(text(&first, "key.pem"), text(&second, "key.pem"));
        let until = |pod: &PodFiles| {
            let der = der_of(&text(pod, "certificate.pem")).unwrap();
            let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
            parsed.validity().not_after.timestamp()
        };
        assert_eq!((until(&first), until(&second)), (1_807_776_000, 1_813_776_000));
        assert!(matches!(
            authority.renew("nothing", &receipts, holds(1)),
            Err(SiteAuthorityError::NotEnrolled)
        ));
        assert!(authority.renew(&certificate, "nothing", holds(1)).is_err());
    }
}
