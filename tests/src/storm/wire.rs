//! Connections between clients and the service inside this process: two byte
//! streams with a relay between them, which is slow, stalls, or is cut.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use coffer_server::InProcess;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::codegen::{Service, http::Uri};

use super::chance::Chance;
use super::weather::Weather;

/// Bytes under way in one direction.
const PIPE_BYTES: usize = 256 << 10;

/// Where new connections to the service go: nowhere while it is down.
#[derive(Clone, Default)]
pub(crate) struct FrontDoor {
    open: Arc<Mutex<Door>>,
}

#[derive(Default)]
struct Door {
    to_service: Option<mpsc::UnboundedSender<Result<InProcess, io::Error>>>,
    relays: Vec<AbortHandle>,
}

impl FrontDoor {
    /// A service listens from now on.
    pub(crate) fn open(&self) -> mpsc::UnboundedReceiver<Result<InProcess, io::Error>> {
        let (send, receive) = mpsc::unbounded_channel();
        self.door().to_service = Some(send);
        receive
    }

    /// Nobody listens any more, and every connection is gone.
    pub(crate) fn shut(&self) {
        self.door().to_service = None;
        self.cut_all();
    }

    /// Cuts every connection; new ones may be made.
    pub(crate) fn cut_all(&self) {
        let relays = std::mem::take(&mut self.door().relays);
        relays.iter().for_each(AbortHandle::abort);
    }

    fn door(&self) -> std::sync::MutexGuard<'_, Door> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes one client's connections.
#[derive(Clone)]
pub(crate) struct Connector {
    door: FrontDoor,
    weather: Arc<Weather>,
    chance: Arc<Chance>,
    certificate: Arc<Vec<u8>>,
}

impl Connector {
    pub(crate) fn new(
        door: FrontDoor,
        weather: Arc<Weather>,
        seed: u64,
        who: &str,
        certificate: Vec<u8>,
    ) -> Self {
        let chance = Arc::new(Chance::new(seed, &format!("wire {who}")));
        Self { door, weather, chance, certificate: Arc::new(certificate) }
    }

    fn connect(&self) -> io::Result<DuplexStream> {
        let (client, client_side) = duplex(PIPE_BYTES);
        let (service, service_side) = duplex(PIPE_BYTES);
        let mut door = self.door.door();
        let to_service = door.to_service.as_ref().ok_or(io::ErrorKind::ConnectionRefused)?;
        let accepted = InProcess::new(service, &self.certificate);
        to_service.send(Ok(accepted)).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        let relay = relay(client_side, service_side, Arc::clone(&self.weather), Arc::clone(&self.chance));
        door.relays.retain(|relay| !relay.is_finished());
        door.relays.push(tokio::spawn(relay).abort_handle());
        Ok(client)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            sleep(connector.weather.wire_delay(&connector.chance)).await;
            connector.connect().map(TokioIo::new)
        })
    }
}

/// Carries both directions until one of them ends.
async fn relay(a: DuplexStream, b: DuplexStream, weather: Arc<Weather>, chance: Arc<Chance>) {
    let ((from_a, to_a), (from_b, to_b)) = (split(a), split(b));
    tokio::select! {
        biased;
        () = carry(from_a, to_b, &weather, &chance) => {}
        () = carry(from_b, to_a, &weather, &chance) => {}
    }
}

async fn carry(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    weather: &Weather,
    chance: &Chance,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let arrives = Instant::now() + weather.wire_delay(chance);
        sleep_until(arrives).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// The least that a message between client and service takes.
pub(crate) const LEAST_DELAY: Duration = Duration::from_millis(1);
