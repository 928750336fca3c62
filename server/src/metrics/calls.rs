//! Calls, counted by method and outcome where they leave the service: an
//! answer that streams ends with its last byte, and one that its caller broke
//! off is `Cancelled`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coffer_model::Clock;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Response};
use tonic::{Code, Status};

use super::appends::Durations;

/// Methods that are told apart; there are fewer.
const METHODS_MAX: usize = 256;

/// What is counted under when there is no such method.
const UNKNOWN: &str = "unknown";

/// The calls of one method.
#[derive(Default)]
pub(super) struct Method {
    /// By the number of the gRPC status.
    pub(super) outcomes: BTreeMap<i32, u64>,
    pub(super) took: Durations,
}

/// Every call since the service started.
pub(crate) struct Calls {
    clock: Arc<dyn Clock>,
    methods: Mutex<BTreeMap<String, Method>>,
}

impl Calls {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, methods: Mutex::default() }
    }

    pub(super) fn methods(&self) -> MutexGuard<'_, BTreeMap<String, Method>> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to count a call; dropped before its answer, it was cancelled.
    pub(crate) fn begin(self: &Arc<Self>, method: &str) -> Counted {
        let calls = Arc::clone(self);
        Counted { method: method.to_owned(), began: calls.clock.monotonic(), calls, ended: false }
    }

    fn note(&self, method: &str, code: Code, took: Duration) {
        let mut methods = self.methods();
        // A path that names no method is chosen by its caller.
        let known =
            code != Code::Unimplemented && (methods.len() < METHODS_MAX || methods.contains_key(method));
        let method = methods.entry(if known { method } else { UNKNOWN }.to_owned()).or_default();
        *method.outcomes.entry(i32::from(code)).or_default() += 1;
        method.took.note(took);
    }
}

/// One call that is under way.
pub(crate) struct Counted {
    calls: Arc<Calls>,
    method: String,
    began: Duration,
    ended: bool,
}

impl Counted {
    /// Counts the call when its answer is over.
    pub(crate) fn answered(mut self, answer: Response<Body>) -> Response<Body> {
        // What fails before it has a body says so in its head.
        if let Some(code) = code_in(answer.headers()) {
            self.end(code);
        }
        answer.map(|inner| Body::new(Answered { inner, counted: self }))
    }

    fn end(&mut self, code: Code) {
        if !self.ended {
            self.ended = true;
            let took = self.calls.clock.monotonic().saturating_sub(self.began);
            self.calls.note(&self.method, code, took);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// An answer that is counted when its trailers have passed.
pub(crate) struct Answered {
    inner: Body,
    counted: Counted,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(code) = frame.trailers_ref().and_then(code_in) {
                    self.counted.end(code);
                }
            }
            Poll::Ready(Some(Err(status))) => {
                let code = status.code();
                self.counted.end(code);
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> coffer_model::Timestamp {
            coffer_model::Timestamp(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_secs(3)
        }
    }

    fn outcomes(calls: &Calls) -> Vec<(String, Vec<(i32, u64)>)> {
        let methods = calls.methods();
        let of = |method: &Method| method.outcomes.iter().map(|(code, count)| (*code, *count)).collect();
        methods.iter().map(|(name, method)| (name.clone(), of(method))).collect()
    }

    #[tokio::test]
    async fn a_call_is_counted_once_by_how_it_ended() {
        let calls = Arc::new(Calls::new(Arc::new(Stopped)));
        let failed = Status::not_found("no").into_http::<Body>();
        drop(calls.begin("a/Failed").answered(failed));
        let invented = Status::unimplemented("no").into_http::<Body>();
        drop(calls.begin("a/Invented").answered(invented));
        drop(calls.begin("a/BrokenOff").answered(Response::new(Body::empty())));
        drop(calls.begin("a/Unanswered"));
        let cancelled = i32::from(Code::Cancelled);
        assert_eq!(
            outcomes(&calls),
            [
                ("a/BrokenOff".to_owned(), vec![(cancelled, 1)]),
                ("a/Failed".to_owned(), vec![(5, 1)]),
                ("a/Unanswered".to_owned(), vec![(cancelled, 1)]),
                (UNKNOWN.to_owned(), vec![(12, 1)]),
            ]
        );
    }
}
