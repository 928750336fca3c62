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
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use zeroize::Zeroizing;

/// Why a pod was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum SiteAuthorityError {
    /// Nobody made an authority there.
    #[error("there is no site authority in {0}: its files are ca.pem, ca.key and certificate.pem")]
    Missing(PathBuf),
    /// What it signed would be believed by nobody.
    #[error("{0}: ca.key is not the key of ca.pem")]
    OtherKey(PathBuf),
    /// A certificate speaks for life of the country in which its pod was enrolled.
    #[error("its certificate is of {certified} and it is to be in {wanted}; enrol another pod there")]
    OtherCountry {
        /// What the certificate says.
        certified: Country,
        /// Where it is to be.
        wanted: Country,
    },
    /// The certificate library refused; the text is its reason.
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// What is to be renewed is no certificate of this authority's for a pod with its receipt key.
    #[error(
        "this is no certificate of a pod of this authority with the receipt key that it names; enrol the pod anew"
    )]
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
            return Self::open(dir);
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

    /// The authority in a directory, of which nothing is written. To certify pods it needs `ca.pem`, `ca.key` and,
    /// of its caller, `certificate.pem` alone.
    ///
    /// # Errors
    /// [`SiteAuthorityError`], also where there is none.
    pub fn open(dir: &Path) -> Result<Self, SiteAuthorityError> {
        if !dir.join(CA).exists() {
            return Err(SiteAuthorityError::Missing(dir.to_owned()));
        }
        let ca_pem = read(&dir.join(CA))?.as_str().to_owned();
        let key = KeyPair::from_pem(&read(&dir.join(CA_KEY))?)?;
        if !der_of(&ca_pem).is_some_and(|der| is_of_key(&der, &key)) {
            return Err(SiteAuthorityError::OtherKey(dir.to_owned()));
        }
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key)?;
        let authority = Self { ca_pem, issuer, dir: dir.to_owned() };
        // Whoever certifies pods names their caller in each: found out now and not with the first one.
        authority.caller_line()?;
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
        let ca = Zeroizing::new(self.ca_pem.clone());
        let files = vec![(CA, false, ca), (CALLER, false, certificate), (CALLER_KEY, true, key)];
        Ok(CallerFiles { line: self.caller_line()?, files })
    }

    /// The caller in a pod's list. Its key is not needed for that.
    fn caller_line(&self) -> Result<String, SiteAuthorityError> {
        let path = self.dir.join(CALLER);
        let der = der_of(&read(&path)?).ok_or_else(|| std::io::ErrorKind::InvalidData.into());
        let print = fingerprint(&der.map_err(disk(&path))?);
        let line = print.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        Ok(format!("{line}/service"))
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
    /// with the same receipt key, which both come from what it has, in the country where it still is.
    ///
    /// # Errors
    /// [`SiteAuthorityError`], also for a certificate of another authority or another country.
    pub fn renew(
        &self,
        certificate_pem: &str,
        receipt_key: &str,
        country: Country,
        holds: Holds,
    ) -> Result<PodFiles, SiteAuthorityError> {
        let der = der_of(certificate_pem).filter(|der| self.has_signed(der));
        let identity = der.and_then(|der| SiteIdentity::of_certificate(&der).ok());
        let identity = identity.ok_or(SiteAuthorityError::NotEnrolled)?;
        if identity.country != country {
            return Err(SiteAuthorityError::OtherCountry { certified: identity.country, wanted: country });
        }
        let signer = ReceiptSigner::danger_from_text(receipt_key).ok_or(SiteAuthorityError::NotEnrolled)?;
        if signer.key() != identity.receipts {
            return Err(SiteAuthorityError::NotEnrolled);
        }
        self.pod_files(&identity, &signer, Some(holds))
    }

    /// Whether this authority signed a pod's certificate, however long that holds.
    fn has_signed(&self, der: &[u8]) -> bool {
        let signed = || {
            let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
            let from = u64::try_from(parsed.validity().not_before.timestamp()).ok()?;
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from(der_of(&self.ca_pem)?)).ok()?;
            let certificate = CertificateDer::from(der);
            let certificate = ParsedCertificate::try_from(&certificate).ok()?;
            let now = UnixTime::since_unix_epoch(Duration::from_secs(from));
            let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], now, algorithms).ok()
        };
        signed().is_some()
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
            self.caller_line()?
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

/// Whether a certificate is that of a key.
fn is_of_key(der: &[u8], key: &KeyPair) -> bool {
    x509_parser::parse_x509_certificate(der)
        .is_ok_and(|(_, parsed)| *parsed.public_key().subject_public_key.data == *key.public_key_raw())
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
        let country: Country = "SE".parse().unwrap();
        let second = authority.renew(&certificate, &receipts, country, holds(1_806_000_000)).unwrap();
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
            authority.renew("nothing", &receipts, country, holds(1)),
            Err(SiteAuthorityError::NotEnrolled)
        ));
        assert!(authority.renew(&certificate, "nothing", country, holds(1)).is_err());
    }

    #[test]
    fn what_another_authority_certified_or_what_is_elsewhere_by_now_is_not_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| SiteAuthority::open_or_create(&dir.path().join(name)).unwrap();
        let (ours, theirs) = (of("ours"), of("theirs"));
        let [sweden, france]: [Country; 2] = ["SE", "FR"].map(|name| name.parse().unwrap());
        let holds = Holds { from: 1, until: 2 };
        let text = |pod: &PodFiles, name: &str| -> String {
            pod.files.iter().find(|(file, ..)| *file == name).unwrap().2.as_str().to_owned()
        };
        let files = |pod: &PodFiles| (text(pod, "certificate.pem"), text(pod, "receipt.key"));
        // One that ended long ago can be renewed.
        let (certificate, receipts) = files(&ours.enrol_for(sweden, holds, &Zeros).unwrap());
        ours.renew(&certificate, &receipts, sweden, holds).unwrap();
        let elsewhere = ours.renew(&certificate, &receipts, france, holds);
        assert!(matches!(elsewhere, Err(SiteAuthorityError::OtherCountry { .. })));
        let (certificate, receipts) = files(&theirs.enrol(sweden, &Zeros).unwrap());
        let foreign = ours.renew(&certificate, &receipts, sweden, holds);
        assert!(matches!(foreign, Err(SiteAuthorityError::NotEnrolled)));
    }

    #[test]
    fn an_authority_that_was_handed_over_is_opened_whole_or_not_and_none_is_made_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, handed) = (dir.path().join("whole"), dir.path().join("handed"));
        assert!(matches!(SiteAuthority::open(&handed), Err(SiteAuthorityError::Missing(_))));
        assert!(!handed.exists());
        let line = SiteAuthority::open_or_create(&whole).unwrap().caller().unwrap().line;
        std::fs::create_dir(&handed).unwrap();
        for name in [CA, CA_KEY] {
            std::fs::copy(whole.join(name), handed.join(name)).unwrap();
        }
        assert!(matches!(SiteAuthority::open(&handed), Err(SiteAuthorityError::Disk { .. })));
        std::fs::copy(whole.join(CALLER), handed.join(CALLER)).unwrap();
        // The service's own key stays with the service.
        let authority = SiteAuthority::open(&handed).unwrap();
        let pod = authority.enrol("SE".parse().unwrap(), &Zeros).unwrap();
        assert!(pod.files.iter().any(|(name, _, text)| *name == "callers" && text.contains(&line)));
        let other = dir.path().join("other");
        SiteAuthority::open_or_create(&other).unwrap();
        std::fs::copy(other.join(CA_KEY), handed.join(CA_KEY)).unwrap();
        assert!(matches!(SiteAuthority::open(&handed), Err(SiteAuthorityError::OtherKey(_))));
    }
}
