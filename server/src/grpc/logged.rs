//! No call without a leaf: around each service, so that a call which ended
//! before the gate saw it (malformed, or of no method) leaves one all the same.
//! A new service is logged by being served through this; health alone is not.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use coffer_model::{Operation, Outcome};
use coffer_proto::{OWNER_METADATA, OWNER_UNKNOWN};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service as CallService, http};
use tonic::metadata::MetadataValue;
use tonic::server::NamedService;
use tonic::{Code, Request, Status};

use super::bearer;
use super::status::{Coded as _, status};
use crate::owner::NotOwner;
use crate::service::Service;

tokio::task_local! {
    /// Whether the call of this task was seen by the gate, whose stories leave
    /// their own leaves.
    static SEEN: Arc<AtomicBool>;
}

/// The gate saw the call that this task answers.
pub(crate) fn seen_by_the_gate() {
    // Outside a call nobody asks.
    let _ = SEEN.try_with(|seen| seen.store(true, Ordering::Relaxed));
}

/// A service whose every call leaves a leaf.
#[derive(Clone)]
pub(crate) struct Logged<S> {
    service: Arc<Service>,
    inner: S,
}

impl<S> Logged<S> {
    pub(crate) fn new(service: &Arc<Service>, inner: S) -> Self {
        Self { service: Arc::clone(service), inner }
    }
}

impl<S: NamedService> NamedService for Logged<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> CallService<http::Request<Body>> for Logged<S>
where
    S: CallService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut caller = Request::new(());
        caller.extensions_mut().clone_from(request.extensions());
        let uri = request.uri().clone();
        let counted = self.service.calls.begin(uri.path().trim_start_matches('/'));
        if let Err(error) = self.service.sites.owner().check() {
            // No leaf: the log is the owner's, and this replica's is not read.
            let elsewhere = self.service.sites.owner().elsewhere();
            let answer = counted.answered(before_anything(error, elsewhere).into_http());
            return Box::pin(std::future::ready(Ok(answer)));
        }
        let (service, answer) = (Arc::clone(&self.service), self.inner.call(request));
        let seen = Arc::new(AtomicBool::new(false));
        Box::pin(SEEN.scope(Arc::clone(&seen), async move {
            let answer = answer.await?;
            if refused(&answer)
                && !is_undecided(&answer)
                && let Err(error) = service.sites.owner().check()
            {
                return Ok(counted.answered(status(error).into_http()));
            }
            if seen.load(Ordering::Relaxed) {
                return Ok(counted.answered(answer));
            }
            let outcome = if refused(&answer) { Outcome::Failed } else { Outcome::Done };
            let method = method_of(uri.path());
            let answer = match service.note_of_caller(bearer(&caller), Operation::Call, method, outcome).await
            {
                Ok(()) => answer,
                Err(error) => status(error).into_http(),
            };
            // Last: what counts is what the caller is told.
            Ok(counted.answered(answer))
        }))
    }
}

/// The refusal of a call that was not begun, because the owner is another
/// replica: a caller that is told so may ask that one without a question.
fn before_anything(error: NotOwner, elsewhere: Option<String>) -> Status {
    let at = elsewhere.as_deref().unwrap_or(OWNER_UNKNOWN);
    let value = at.parse().unwrap_or_else(|_| MetadataValue::from_static(OWNER_UNKNOWN));
    let text = elsewhere.as_ref().map_or_else(|| error.to_string(), |at| format!("{error}: it is at {at}"));
    let mut refusal = Status::new(error.code(), text);
    refusal.metadata_mut().insert(OWNER_METADATA, value);
    refusal
}

/// Whether an answer is an error already in its head, as every call is that
/// ended before its story began.
fn refused(answer: &http::Response<Body>) -> bool {
    let code = answer.headers().get(Status::GRPC_STATUS);
    code.is_some_and(|code| Code::from_bytes(code.as_bytes()) != Code::Ok)
}

/// Whether nobody can say yet what became of the call.
fn is_undecided(answer: &http::Response<Body>) -> bool {
    let code = answer.headers().get(Status::GRPC_STATUS);
    code.is_some_and(|code| Code::from_bytes(code.as_bytes()) == Code::Unknown)
}

/// The longest name of a method that a leaf repeats.
const METHOD_CHARACTERS_MAX: usize = 96;

/// Which method was called; what is none of ours may be anything.
fn method_of(path: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "./_".contains(*c);
    path.trim_start_matches('/').chars().filter(plain).take(METHOD_CHARACTERS_MAX).collect()
}
