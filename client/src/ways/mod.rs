//! How a client finds its service: every address that it was given is a way,
//! and whichever leads to the owner is taken. What makes a service the right
//! one is its certificate alone, so that it may be anywhere; addresses decide
//! only where is looked.
//!
//! A request leaves only over an open connection. Where there is none, nothing
//! was asked; who is not the owner refuses before anything is done. So both
//! are followed by another attempt without a question, and no other failure is.

mod address;
mod book;
mod kept;
mod link;
mod names;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use coffer_proto::{OWNER_METADATA, SERVER_NAME};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hyper::{Request, Response, Uri};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service, ServiceExt as _};

use crate::connect::{ConnectOptions, Credentials};
use book::{Book, Target};
use kept::{Kept, Memory};
use link::{Link, NoLine, Pulse, Sender};

pub(crate) use address::Address;
pub(crate) use link::UnusableCredentials;
pub use names::{Names, SystemNames};

/// So long an address has before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);
/// So long a name may take to be found where there are addresses without one.
const QUICK_LOOKUP: Duration = Duration::from_secs(1);
/// As many sockets are tried at most in one round.
const TARGETS_MAX: usize = 32;
/// So many connections may end under one request before any of it leaves.
const LINES_MAX: usize = 8;
/// A request goes to at most so many services that are not the owner.
const HOPS_MAX: usize = 3;
/// Where there is one way, a slow line is waited for.
const ALONE: Pulse = Pulse { every: Duration::from_secs(20), patience: Duration::from_secs(60) };
/// Where there are several, a silent one is left.
const AMONG_OTHERS: Pulse = Pulse { every: Duration::from_secs(5), patience: Duration::from_secs(15) };

/// Told which address answered as somebody else.
pub type OnStranger = fn(&str);

/// No address became a connection.
#[derive(Clone, Debug)]
pub(crate) struct NoWay(Arc<Vec<(Address, NoLine)>>);

impl std::fmt::Display for NoWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        for (address, reason) in self.0.iter() {
            let gap = if text.is_empty() { "" } else { "; " };
            match self.0.len() {
                1 => write!(text, "{}", with_causes(reason))?,
                _ => write!(text, "{gap}{address}: {}", with_causes(reason))?,
            }
        }
        f.write_str(&text)
    }
}

/// The cause in the status of a request that went to nobody.
#[derive(Debug, thiserror::Error)]
#[error("nothing was asked")]
struct NeverLeft;

impl NeverLeft {
    fn status(text: String) -> Status {
        let mut status = Status::unavailable(text);
        status.set_source(Arc::new(Self));
        status
    }
}

/// Whether a request that was answered so went to nobody, so that it cannot
/// have happened.
pub(crate) fn never_left(status: &Status) -> bool {
    std::error::Error::source(status).is_some_and(|cause| cause.is::<NeverLeft>())
}

/// An open connection.
#[derive(Clone)]
struct Line {
    number: u64,
    target: Target,
    sender: Sender,
}

/// The connection that requests go over.
#[derive(Default)]
struct Current {
    line: Option<Line>,
    /// When the last round ended without one, for those who waited meanwhile.
    failed: Option<(Instant, NoWay)>,
}

/// What all clones of a client share.
pub(crate) struct Finder {
    link: Link,
    names: Arc<dyn Names>,
    lookup: Duration,
    on_stranger: Option<OnStranger>,
    book: Mutex<Book>,
    strangers: Mutex<BTreeSet<Address>>,
    /// Locked while a connection is made, so that there is one.
    current: tokio::sync::Mutex<Current>,
    numbers: std::sync::atomic::AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Finder {
    /// The sockets to try, best first, and the names that stand for none.
    async fn targets(&self) -> (Vec<Target>, Vec<(Address, NoLine)>) {
        let addresses = locked(&self.book).addresses();
        let some = addresses.iter().any(|address| address.host.parse::<IpAddr>().is_ok());
        let patience = if some { self.lookup.min(QUICK_LOOKUP) } else { self.lookup };
        let found = addresses.into_iter().map(|address| async move {
            let sockets = match address.host.parse() {
                Ok(ip) => Ok(vec![SocketAddr::new(ip, address.port)]),
                Err(_) => {
                    let find = self.names.find(&address.host, address.port);
                    let found = tokio::time::timeout(patience, find).await;
                    found.map_err(|_| NoLine::Late).and_then(|found| Ok(found?))
                }
            };
            (address, sockets)
        });
        let (mut targets, mut nowhere) = (Vec::new(), Vec::new());
        for (address, sockets) in futures::future::join_all(found).await {
            match sockets {
                Ok(sockets) => {
                    let target = |socket| Target { address: address.clone(), socket };
                    targets.extend(sockets.into_iter().map(target));
                }
                Err(reason) => nowhere.push((address, reason)),
            }
        }
        let mut targets = locked(&self.book).in_order(targets);
        targets.truncate(TARGETS_MAX);
        (targets, nowhere)
    }

    fn pulse(&self, targets: &[Target]) -> Pulse {
        if targets.len() < 2 && locked(&self.book).is_alone() { ALONE } else { AMONG_OTHERS }
    }

    /// Tries every way once: the next one when one failed, or beside it when
    /// it takes its time. The first that is open is taken.
    async fn round(&self) -> Result<Line, NoWay> {
        let (targets, mut failed) = self.targets().await;
        let pulse = self.pulse(&targets);
        let mut waiting = targets.iter();
        let mut running = FuturesUnordered::new();
        let mut beside = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut left = true;
        loop {
            tokio::select! {
                biased;
                Some((target, opened)) = running.next(), if !running.is_empty() => match opened {
                    Ok(sender) => return Ok(self.take(target, sender)),
                    Err(reason) => {
                        self.note_failure(target, &reason);
                        failed.push((target.address.clone(), reason));
                        beside.as_mut().reset(Instant::now());
                    }
                },
                () = &mut beside, if left => match waiting.next() {
                    Some(target) => {
                        running.push(async move { (target, self.link.open(target, pulse).await) });
                        beside.as_mut().reset(Instant::now() + STAGGER);
                    }
                    None => left = false,
                },
                else => return Err(NoWay(Arc::new(failed))),
            }
        }
    }

    fn take(&self, target: &Target, sender: Sender) -> Line {
        locked(&self.book).serves(target.socket);
        let number = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Line { number, target: target.clone(), sender }
    }

    fn note_failure(&self, target: &Target, reason: &NoLine) {
        locked(&self.book).fails(target.socket, Instant::now());
        if matches!(reason, NoLine::Stranger(_))
            && locked(&self.strangers).insert(target.address.clone())
            && let Some(tell) = self.on_stranger
        {
            tell(&format!("{}: {reason}", target.address));
        }
    }

    /// The open connection, or a new one. Who waited while others tried in vain
    /// does not try all of it again.
    async fn line(&self) -> Result<Line, NoWay> {
        let asked = Instant::now();
        let mut current = self.current.lock().await;
        if let Some(line) = current.line.as_mut() {
            if line.sender.ready().await.is_ok() {
                return Ok(line.clone());
            }
            current.line = None;
        }
        if let Some((when, failed)) = &current.failed
            && *when >= asked
        {
            return Err(failed.clone());
        }
        let tried = self.round().await;
        match &tried {
            Ok(line) => *current = Current { line: Some(line.clone()), failed: None },
            Err(none) => current.failed = Some((Instant::now(), none.clone())),
        }
        tried
    }

    /// The connection is not used for new requests.
    async fn leave(&self, line: &Line) {
        let mut current = self.current.lock().await;
        if current.line.as_ref().is_some_and(|current| current.number == line.number) {
            current.line = None;
        }
    }

    /// Hands a request to an open connection. One that gives it back, for it
    /// ended before any of it left, is followed by the next.
    async fn hand_over(&self, mut request: Request<Kept>) -> Result<(Line, Response<Body>), Status> {
        let mut why = String::new();
        for _ in 0..LINES_MAX {
            let mut line = self.line().await.map_err(|none| NeverLeft::status(none.to_string()))?;
            let mut failure = match line.sender.try_send_request(request).await {
                Ok(answer) => return Ok((line, answer.map(Body::new))),
                Err(failure) => failure,
            };
            why = with_causes(failure.error());
            // Whatever broke the connection, nobody answered; perhaps the next one does.
            let Some(back) = failure.take_message() else { return Err(Status::unavailable(why)) };
            self.leave(&line).await;
            request = back;
        }
        Err(NeverLeft::status(why))
    }

    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (mut parts, body) = request.into_parts();
        parts.uri = absolute(&parts.uri)?;
        let (mut body, mut memory): (Kept, Memory) = Kept::new(body);
        for hop in 0.. {
            let mut request = Request::new(body);
            *request.method_mut() = parts.method.clone();
            *request.uri_mut() = parts.uri.clone();
            *request.headers_mut() = parts.headers.clone();
            let (line, answer) = self.hand_over(request).await?;
            let Some(owner) = refused_as_no_owner(&answer) else { return Ok(answer) };
            locked(&self.book).is_not_owner(line.target.socket, owner, Instant::now());
            self.leave(&line).await;
            match memory.again() {
                Some(again) if hop < HOPS_MAX => (body, memory) = again,
                _ => return Ok(answer),
            }
        }
        Err(Status::internal("no attempt was made"))
    }
}

/// Where the owner is, if this answer refuses because it is not the owner;
/// the inner `None`: it does not know.
fn refused_as_no_owner(answer: &Response<Body>) -> Option<Option<Address>> {
    let told = answer.headers().get(OWNER_METADATA)?;
    Some(told.to_str().ok().and_then(Address::parse))
}

/// An error and its causes: the text of a transport's own says little.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

/// The address of a method, as every service sees it, wherever it is.
fn absolute(uri: &Uri) -> Result<Uri, Status> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("https").authority(SERVER_NAME).path_and_query(path).build();
    uri.map_err(|error| Status::internal(format!("the method has no address: {error}")))
}

/// What the generated clients send their requests with.
#[derive(Clone)]
pub(crate) enum Ways {
    /// Finds the service.
    Found(Arc<Finder>),
    /// Was given a connection.
    Given(Channel),
}

/// What a connection attempt of a caller ends with.
#[derive(Debug)]
pub(crate) enum FirstError {
    Address(String),
    Credentials(UnusableCredentials),
    None(NoWay),
}

impl Ways {
    /// Looks at every way once, and has an open connection then.
    pub(crate) async fn find(
        credentials: &Credentials,
        options: &ConnectOptions,
    ) -> Result<Self, FirstError> {
        let listed = Address::list(&credentials.endpoint).map_err(FirstError::Address)?;
        let link = Link::new(credentials, options.connect_timeout).map_err(FirstError::Credentials)?;
        let finder = Finder {
            link,
            names: Arc::clone(&options.names),
            lookup: options.connect_timeout,
            on_stranger: options.on_stranger,
            book: Mutex::new(Book::new(listed)),
            strangers: Mutex::default(),
            current: tokio::sync::Mutex::default(),
            numbers: std::sync::atomic::AtomicU64::new(0),
        };
        finder.line().await.map_err(FirstError::None)?;
        Ok(Self::Found(Arc::new(finder)))
    }

    /// Whether a request could leave now; if there is no connection, one is made.
    pub(crate) async fn reach(&self) -> Result<(), NoWay> {
        match self {
            Self::Found(found) => found.line().await.map(drop),
            Self::Given(_) => Ok(()),
        }
    }
}

impl Service<Request<Body>> for Ways {
    type Response = Response<Body>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.clone() {
            Self::Found(found) => Box::pin(async move { Ok(found.send(request).await?) }),
            Self::Given(channel) => Box::pin(async move { Ok(channel.oneshot(request).await?) }),
        }
    }
}
