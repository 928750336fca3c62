//! What the tests of pods share: an authority, certificates right and wrong,
//! and pods that serve any site on a loopback address.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_model::{SiteDescription, SiteId};
use coffer_proto::SITE_SERVER_NAME;
use coffer_regions::Site;
use coffer_site::daemon::{Callers, DaemonError, DaemonOptions, Notice, fingerprint, serve_unchecked};
use coffer_site::{
    AsListed, PodCredentials, PodOptions, PodRefusal, PodSite, PodTiming, ReceiptSigner, SiteIdentity,
    Witness,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::CountingEntropy;

/// Short enough for tests that wait for a deadline, long enough for a busy machine.
pub(crate) fn timing() -> PodTiming {
    PodTiming {
        connect: Duration::from_secs(5),
        call: Duration::from_secs(30),
        probe_every: Duration::from_millis(50),
        probe: Duration::from_secs(5),
        ..PodTiming::default()
    }
}

/// An authority for pods and their callers.
pub(crate) struct Authority {
    pub(crate) ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key.
pub(crate) struct Certified {
    pub(crate) certificate: Certificate,
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key).unwrap();
        Self { ca_pem, issuer }
    }

    /// A pod's certificate with these URIs.
    pub(crate) fn pod(&self, name: &str, uris: &[String]) -> Certified {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().unwrap()));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    pub(crate) fn caller(&self) -> Certified {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Certified {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certified { certificate, key_pem: key.serialize_pem() }
    }
}

/// What a witness saw, and what daemons noticed.
#[derive(Default)]
pub(crate) struct Seen {
    refusals: Mutex<Vec<(SiteId, PodRefusal)>>,
    notices: Mutex<Vec<Notice>>,
}

impl Witness for Seen {
    fn refused(&self, site: SiteId, refusal: &PodRefusal) {
        self.refusals.lock().unwrap().push((site, refusal.clone()));
    }
}

impl Seen {
    pub(crate) fn refusals(&self) -> Vec<(SiteId, PodRefusal)> {
        self.refusals.lock().unwrap().clone()
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.notices.lock().unwrap().clone()
    }
}

/// One authority, one caller, and what everybody saw.
pub(crate) struct Fleet {
    pub(crate) authority: Authority,
    pub(crate) caller: Certified,
    pub(crate) seen: Arc<Seen>,
}

/// A pod that runs in this process.
pub(crate) struct RunningPod {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<(), DaemonError>>,
}

impl RunningPod {
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.server.await.unwrap().unwrap();
    }
}

/// The seed of every pod's receipt key in these tests.
pub(crate) const RECEIPTS: [u8; 32] = [42; 32];

pub(crate) fn identity(description: &SiteDescription) -> SiteIdentity {
    let receipts = ReceiptSigner::danger_from_seed(RECEIPTS).key();
    SiteIdentity { site: description.id, country: description.country, receipts }
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let caller = authority.caller();
        Self { authority, caller, seen: Arc::default() }
    }

    /// The certificate that a pod of this description should have.
    pub(crate) fn certificate(&self, description: &SiteDescription) -> Certified {
        self.authority.pod(SITE_SERVER_NAME, &[identity(description).to_string()])
    }

    pub(crate) fn options(&self, certified: &Certified, receipts: [u8; 32]) -> DaemonOptions {
        let mut callers = Callers::default();
        let print = fingerprint(self.caller.certificate.der());
        let text = print.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        callers.add(&format!("{text}/service")).unwrap();
        let seen = Arc::clone(&self.seen);
        DaemonOptions {
            certificate_pem: certified.certificate.pem(),
            key_pem: certified.key_pem.clone().into(),
            ca_pem: self.authority.ca_pem.clone(),
            receipts: ReceiptSigner::danger_from_seed(receipts),
            callers,
            lease: None,
            notices: Arc::new(move |notice| seen.notices.lock().unwrap().push(notice)),
        }
    }

    /// Serves a site as its pod would.
    pub(crate) async fn serve(&self, site: Arc<dyn Site>) -> RunningPod {
        let certified = self.certificate(site.description());
        self.serve_as(site, self.options(&certified, RECEIPTS)).await
    }

    /// Serves a site with whatever identity.
    pub(crate) async fn serve_as(&self, site: Arc<dyn Site>, options: DaemonOptions) -> RunningPod {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve_unchecked(site, options, listener, async {
            let _ = stopped.await;
        }));
        RunningPod { address, stop: Some(stop), server }
    }

    /// The adapter for a pod at `address`, shown `caller`'s certificate.
    pub(crate) async fn open_as(
        &self,
        caller: &Certified,
        description: SiteDescription,
        address: SocketAddr,
        timing: PodTiming,
    ) -> PodSite {
        let options = PodOptions {
            description,
            endpoint: format!("https://{address}"),
            discovery: Arc::new(AsListed),
            credentials: PodCredentials {
                ca_pem: self.authority.ca_pem.clone(),
                certificate_pem: caller.certificate.pem(),
                key_pem: caller.key_pem.clone().into(),
            },
            timing,
            entropy: Arc::new(CountingEntropy::default()),
            witness: Arc::clone(&self.seen) as Arc<dyn Witness>,
        };
        PodSite::open(options).await.unwrap()
    }

    pub(crate) async fn open(&self, description: SiteDescription, address: SocketAddr) -> PodSite {
        self.open_as(&self.caller, description, address, timing()).await
    }
}
