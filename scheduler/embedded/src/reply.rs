//! Answers: a body that is there, or one that comes as it is made.

use bytes::Bytes;
use futures::Stream;
use futures::StreamExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use crate::refusal::Refusal;

/// The body of an answer. A stream that breaks ends with an error, not as if it were whole.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The form of nearly all answers.
pub(crate) const JSON: &str = "application/json";

/// An answer whose body is there.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// The media type of the body.
    pub(crate) media_type: String,
    /// The body.
    pub(crate) body: Bytes,
    /// What the client should be warned of.
    pub(crate) warnings: Vec<String>,
    retry_after: u32,
}

impl Reply {
    /// A JSON object, with status 200.
    pub(crate) fn json(value: &Value) -> Self {
        Self::bytes(StatusCode::OK, value.to_string().into())
    }

    /// JSON that is serialised already.
    pub(crate) fn bytes(status: StatusCode, body: Bytes) -> Self {
        Self { status, media_type: JSON.to_owned(), body, warnings: Vec::new(), retry_after: 0 }
    }

    /// The same with another status.
    #[must_use]
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with another media type.
    #[must_use]
    pub(crate) fn media_type(mut self, media_type: impl Into<String>) -> Self {
        self.media_type = media_type.into();
        self
    }

    /// The same with warnings.
    #[must_use]
    pub(crate) fn warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let mut reply = Self::json(&refusal.status()).status(refusal.code());
        reply.retry_after = refusal.retry_after();
        reply
    }
}

impl From<Reply> for Response<Body> {
    fn from(reply: Reply) -> Self {
        let body = Full::new(reply.body).map_err(|never| match never {}).boxed_unsync();
        let mut response = with_type(reply.status, &reply.media_type, body);
        let headers = response.headers_mut();
        for warning in reply.warnings {
            let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
            let plain: String =
                quoted.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{plain}\"")) {
                headers.append(WARNING, value);
            }
        }
        if reply.retry_after > 0 {
            headers.insert(RETRY_AFTER, HeaderValue::from(reply.retry_after));
        }
        response
    }
}

/// Mark of an answer that goes on until somebody has enough of it. It may end at any time, and is whole then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endless;

/// The same answer, which ends with `stop` if it is an endless one.
pub(crate) fn ending(
    response: Response<Body>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Response<Body> {
    if response.extensions().get::<Endless>().is_none() {
        return response;
    }
    response.map(|body| StreamBody::new(BodyStream::new(body).take_until(Box::pin(stop))).boxed_unsync())
}

/// An answer that comes piece by piece.
pub(crate) fn stream(
    media_type: &str,
    pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Response<Body> {
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync();
    with_type(StatusCode::OK, media_type, body)
}

fn with_type(status: StatusCode, media_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let value = HeaderValue::from_str(media_type).unwrap_or_else(|_| HeaderValue::from_static(JSON));
    response.headers_mut().insert(CONTENT_TYPE, value);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
