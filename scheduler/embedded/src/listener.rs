//! The API over the network: HTTP/1.1 behind mutual TLS. Whoever calls shows a
//! certificate of the fleet's authority: its common name is the user, its
//! organizations are the groups. There is no other way in.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tower::Service as _;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use crate::embedded::Embedded;
use crate::identity::Identity;
use crate::reply::ending;

/// Connections of known callers at the same time; every watch over HTTP/1.1 holds one.
const CONNECTIONS_MAX: usize = 1024;
/// Connections that have not shown yet who they are. One more closes the oldest of them.
const STRANGERS_MAX: usize = 64;
/// Where the machine has no descriptor or no memory for a connection, it is asked again after this.
const SHORTAGE: Duration = Duration::from_millis(50);
/// The longest that a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest that the head of a request may take.
const HEAD: Duration = Duration::from_secs(30);
/// Bytes of the head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long answers under way may go on after the word to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What the listener is and whom it believes.
#[derive(Clone)]
pub struct Tls {
    /// Its certificate and the chain behind it, PEM.
    pub certificate: String,
    /// The certificate's private key, PEM.
    pub key: Zeroizing<String>,
    /// Who certifies callers, PEM.
    pub clients: String,
}

/// Why the API does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A certificate or key is no PEM.
    #[error("a certificate or key cannot be read: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// Nobody could call.
    #[error("the authority of callers cannot be used: {0}")]
    Clients(#[from] VerifierBuilderError),
    /// The certificate and key cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// No more connections are accepted.
    #[error("connections cannot be accepted: {0}")]
    Accept(#[from] io::Error),
}

impl Tls {
    fn acceptor(&self) -> Result<TlsAcceptor, ListenError> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(self.clients.as_bytes()) {
            roots.add(root?)?;
        }
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        let mut config =
            ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl Embedded {
    /// Answers callers until `shutdown` completes. Then watches end, and so does who has not said yet who he is;
    /// other answers under way may be finished.
    ///
    /// # Errors
    /// [`ListenError`].
    pub async fn listen(
        &self,
        listener: TcpListener,
        tls: Tls,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ListenError> {
        let acceptor = tls.acceptor()?;
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut strangers = Strangers::default();
        let (stop, stopping) = watch::channel(false);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let (stream, source) = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) if is_passing(&error) => continue,
                    Err(error) if is_shortage(&error) => {
                        strangers.close_oldest();
                        tokio::time::sleep(SHORTAGE).await;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            let connection = Connection {
                embedded: self.clone(),
                acceptor: acceptor.clone(),
                places: Arc::clone(&places),
                stopping: stopping.clone(),
            };
            strangers.admit(tokio::spawn(connection.meet(stream, source.ip())));
        }
        drop(stopping);
        drop(strangers);
        stop.send_replace(true);
        // Connections hold their ends of the channel until they are over.
        drop(timeout(GRACE, stop.closed()).await);
        Ok(())
    }
}

/// Connections of nobody known, the oldest first. They are closed with this.
#[derive(Default)]
struct Strangers(VecDeque<JoinHandle<()>>);

impl Strangers {
    fn admit(&mut self, meeting: JoinHandle<()>) {
        self.0.retain(|known| !known.is_finished());
        if self.0.len() >= STRANGERS_MAX {
            self.close_oldest();
        }
        self.0.push_back(meeting);
    }

    fn close_oldest(&mut self) {
        self.0.retain(|known| !known.is_finished());
        if let Some(oldest) = self.0.pop_front() {
            oldest.abort();
        }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// A moment without descriptors or memory: connections wait in the kernel meanwhile.
fn is_shortage(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no kind of their own; ENOMEM, ENOBUFS.
    const NUMBERS: [i32; 4] = [24, 23, 12, 105];
    error.raw_os_error().is_some_and(|number| NUMBERS.contains(&number))
}

/// A caller that gave up does not end the listener.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

struct Connection {
    embedded: Embedded,
    acceptor: TlsAcceptor,
    places: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl Connection {
    /// Finds out who calls; who is known gets a place among those that are served.
    async fn meet(self, stream: TcpStream, source: IpAddr) {
        // Lines of a watch would wait for the caller's delayed ACK otherwise; a connection that
        // refuses the option still works.
        let _ = stream.set_nodelay(true);
        let stream = tokio::select! {
            accepted = timeout(HANDSHAKE, self.acceptor.accept(stream)) => accepted,
            () = stops(self.stopping.clone()) => return,
        };
        let Ok(Ok(stream)) = stream else { return };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let Some(identity) = certificate.and_then(|certificate| identity_of(certificate)) else { return };
        // One connection too many is closed at once.
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        tokio::spawn(self.serve(stream, identity.calling_from(source), place));
    }

    async fn serve(self, stream: TlsStream<TcpStream>, identity: Identity, _place: OwnedSemaphorePermit) {
        let service = self.embedded.service(identity);
        let stopping = self.stopping.clone();
        let answer = service_fn(move |request| {
            let (answer, stop) = (service.clone().call(request), stops(stopping.clone()));
            async move { answer.await.map(|response| ending(response, stop)) }
        });
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), answer)
        );
        tokio::select! {
            // How a connection ended is the caller's to know.
            ended = &mut connection => drop(ended),
            () = stops(self.stopping.clone()) => {
                connection.as_mut().graceful_shutdown();
                drop(timeout(GRACE, connection).await);
            }
        }
    }
}

/// Until the word to stop.
async fn stops(mut stopping: watch::Receiver<bool>) {
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// Who a certificate says that it is; none without a common name.
fn identity_of(certificate: &[u8]) -> Option<Identity> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups: Vec<String> =
        subject.iter_organization().filter_map(|group| group.as_str().ok()).map(str::to_owned).collect();
    (!user.is_empty()).then(|| Identity::new(user, groups))
}
