//! Requests that a pod refuses before its store is asked: over a limit,
//! without meaning, of no call that it has. Around the service, so that what
//! the transport refuses is seen as well; counted by kind, for whoever keeps a
//! log: a pod has none that anybody could verify.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use coffer_proto::site::v1;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status};

use super::Notice;
use super::callers::CallerName;
use crate::wire;

/// Counts of refusals since the pod was started.
#[derive(Default)]
pub(super) struct Refused {
    callers: AtomicU64,
    requests: AtomicU64,
    connections: AtomicU64,
}

impl Refused {
    pub(super) fn count(&self, notice: &Notice) {
        let kind = match notice {
            Notice::Caller { .. } => &self.callers,
            Notice::Request { .. } => &self.requests,
            Notice::Connections => &self.connections,
        };
        kind.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn message(&self) -> v1::Refused {
        v1::Refused {
            callers: self.callers.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
        }
    }
}

/// A service whose refusals are noticed.
#[derive(Clone)]
pub(super) struct Noticed<S> {
    inner: S,
    notices: Arc<dyn Fn(Notice) + Send + Sync>,
}

impl<S> Noticed<S> {
    pub(super) fn new(inner: S, notices: Arc<dyn Fn(Notice) + Send + Sync>) -> Self {
        Self { inner, notices }
    }
}

impl<S: NamedService> NamedService for Noticed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Noticed<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let caller = request.extensions().get::<CallerName>().map(|name| name.0.clone()).unwrap_or_default();
        let (answer, notices) = (self.inner.call(request), Arc::clone(&self.notices));
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(status) = Status::from_header_map(answer.headers())
                && is_of_the_request(&status)
            {
                notices(Notice::Request { caller, answer: status.message().to_owned() });
            }
            Ok(answer)
        })
    }
}

/// Whether the request itself was at fault, and not the store or the way. What
/// cannot be decoded is `Internal` to the transport; so is a caller that went
/// away before its message had come, who has asked for nothing.
fn is_of_the_request(status: &Status) -> bool {
    let refused = match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => true,
        Code::Internal => status.message() != "Missing request message.",
        _ => false,
    };
    refused && wire::store_error(status).is_none()
}
