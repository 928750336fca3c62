//! A witness over HTTP, as C2SP tlog-witness v1 has it: one POST for each
//! checkpoint. What passes is signed by both sides and holds no secret, so that
//! plain HTTP loses nothing but who asks; `https` is checked against the roots
//! of this machine.

use async_trait::async_trait;
use bytes::Bytes;
use coffer_keys::WitnessName;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;

use crate::witness::{Witness, WitnessAnswer, WitnessError};

/// The longest answer that is read, in bytes: some signature lines.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// The path below a witness's submission prefix.
const PATH: &str = "add-checkpoint";

/// Why a witness cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum HttpWitnessError {
    /// Not `http://…` or `https://…`.
    #[error("{0:?} is no address of a witness: it reads http://HOST:PORT/ or https://HOST/PATH/")]
    Url(String),
    /// This machine's roots cannot be read.
    #[error(
        "an https:// witness needs the certificate authorities of this machine, which cannot be read: {0}"
    )]
    Roots(#[from] std::io::Error),
}

/// A witness at a URL.
pub struct HttpWitness {
    key: WitnessName,
    uri: Uri,
    way: Way,
}

/// How it is reached.
enum Way {
    Clear(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Way {
    /// The roots of this machine are read where they are needed only: a machine
    /// may have none.
    fn to(uri: &Uri) -> Result<Self, std::io::Error> {
        let client = Client::builder(TokioExecutor::new());
        if uri.scheme_str() != Some("https") {
            return Ok(Self::Clear(client.build_http()));
        }
        let connector = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().build();
        Ok(Self::Tls(client.build(connector)))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Clear(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        }
    }
}

impl HttpWitness {
    /// The witness with this key that takes submissions below `url`.
    ///
    /// # Errors
    /// [`HttpWitnessError`].
    pub fn new(key: WitnessName, url: &str) -> Result<Self, HttpWitnessError> {
        let uri = format!("{}/{PATH}", url.trim_end_matches('/'));
        let uri = uri
            .parse::<Uri>()
            .ok()
            .filter(|uri| uri.authority().is_some() && matches!(uri.scheme_str(), Some("http" | "https")));
        let uri = uri.ok_or_else(|| HttpWitnessError::Url(url.to_owned()))?;
        Ok(Self { key, way: Way::to(&uri)?, uri })
    }
}

fn unreachable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> WitnessError {
    WitnessError::Unreachable(error.into())
}

#[async_trait]
impl Witness for HttpWitness {
    fn key(&self) -> &WitnessName {
        &self.key
    }

    async fn add_checkpoint(&self, body: String) -> Result<WitnessAnswer, WitnessError> {
        let request = Request::builder().method(Method::POST).uri(&self.uri);
        let request = request.body(Full::new(Bytes::from(body))).map_err(unreachable)?;
        let answer = self.way.send(request).await.map_err(unreachable)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(unreachable)?.to_bytes();
        let text = str::from_utf8(&body).map_err(|_| WitnessError::Answer)?;
        match status {
            StatusCode::OK => Ok(WitnessAnswer::Cosigned(text.to_owned())),
            // A conflict of roots has no size in its body.
            StatusCode::CONFLICT => Ok(match text.trim_end().parse() {
                Ok(size) => WitnessAnswer::Knows(size),
                Err(_) => WitnessAnswer::Refused(status.as_u16()),
            }),
            status => Ok(WitnessAnswer::Refused(status.as_u16())),
        }
    }
}
