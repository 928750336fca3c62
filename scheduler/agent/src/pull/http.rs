//! Requests to a registry, from which anything may come back. Only `GET` is ever
//! sent. Redirects are followed a few times, without the login once they lead to
//! another host, and never to where there is no TLS unless the operator named
//! that place; whoever is silent or slow is left.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue, LOCATION, RANGE};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::error::FetchError;

/// How often a registry may send on.
const REDIRECTS_MAX: usize = 5;
/// What must come within the patience: less than a slow line brings. For how long
/// the whole may hold a place is the agent's matter.
const PACE: u64 = 256 << 10;

/// Whom TLS believes: the authorities in a text of PEM, or those of this machine. A
/// machine may have none, and needs none where nothing is asked over TLS.
pub(super) fn tls(roots: Option<&str>, needed: bool) -> Result<ClientConfig, FetchError> {
    let failed = |error: &dyn std::fmt::Display| FetchError::Roots(error.to_string());
    let builder = || {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        builder.with_safe_default_protocol_versions().map_err(|error| failed(&error))
    };
    let mut store = RootCertStore::empty();
    if let Some(text) = roots {
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.map_err(|error| failed(&error))?;
            store.add(certificate).map_err(|error| failed(&error))?;
        }
        if store.is_empty() {
            return Err(FetchError::Roots("no certificate is in the file".to_owned()));
        }
    } else {
        match builder()?.with_native_roots() {
            Ok(builder) => return Ok(builder.with_no_client_auth()),
            Err(error) if needed => return Err(failed(&error)),
            Err(_) => {}
        }
    }
    Ok(builder()?.with_root_certificates(store).with_no_client_auth())
}

/// One thing that is asked for.
pub(super) struct Wanted<'a> {
    pub(super) uri: Uri,
    pub(super) accept: &'a str,
    /// From which byte on.
    pub(super) from: u64,
    pub(super) authorization: Option<HeaderValue>,
}

/// An answer, and whether the one who was asked gave it himself.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) at_home: bool,
    pub(super) host: String,
}

/// The way to a registry.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// Hosts, with ports, that may be asked without TLS.
    plain: Vec<String>,
    patience: Duration,
}

impl Http {
    pub(super) fn new(tls: ClientConfig, plain: Vec<String>, patience: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(patience));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .http1_max_buf_size(64 << 10)
            .build(connector);
        Self { client, plain, patience }
    }

    /// Asks, and follows where it is sent.
    pub(super) async fn get(&self, wanted: &Wanted<'_>) -> Result<Answer, FetchError> {
        let answer = timeout(self.patience, self.follow(wanted)).await;
        answer.map_err(|_| FetchError::Stalled(self.patience.as_secs()))?
    }

    async fn follow(&self, wanted: &Wanted<'_>) -> Result<Answer, FetchError> {
        let (mut uri, mut at_home) = (wanted.uri.clone(), true);
        for _ in 0..=REDIRECTS_MAX {
            let host = self.checked(&uri)?;
            let response = self
                .once(&uri, wanted, at_home)
                .await
                .map_err(|error| FetchError::Unreachable { host: host.clone(), cause: whole(&error) })?;
            if !is_redirect(response.status()) {
                return Ok(Answer { response, at_home, host });
            }
            let location = response.headers().get(LOCATION).ok_or(FetchError::Location)?;
            let next = next(&uri, location.to_str().map_err(|_| FetchError::Location)?)?;
            // Once away it stays away: whoever sends back here might have chosen what is asked.
            at_home = at_home && next.authority() == uri.authority() && next.scheme() == uri.scheme();
            uri = next;
        }
        Err(FetchError::Redirects(REDIRECTS_MAX))
    }

    /// The host of an address that may be asked.
    fn checked(&self, uri: &Uri) -> Result<String, FetchError> {
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let host = authority.ok_or(FetchError::Location)?.as_str().to_ascii_lowercase();
        match uri.scheme_str() {
            Some("https") => Ok(host),
            Some("http") if self.plain.contains(&host) => Ok(host),
            Some("http") => Err(FetchError::Plain(host)),
            _ => Err(FetchError::Location),
        }
    }

    async fn once(
        &self,
        uri: &Uri,
        wanted: &Wanted<'_>,
        at_home: bool,
    ) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        if let Ok(accept) = HeaderValue::from_str(wanted.accept) {
            headers.insert(ACCEPT, accept);
        }
        if wanted.from > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", wanted.from))
        {
            headers.insert(RANGE, range);
        }
        if let Some(authorization) = wanted.authorization.as_ref().filter(|_| at_home) {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        self.client.request(request).await
    }

    /// Everything in a body, of at most `max` bytes.
    pub(super) async fn whole(&self, response: Response<Incoming>, max: u64) -> Result<Vec<u8>, FetchError> {
        let mut body = self.body(response, "", max)?;
        let mut bytes = Vec::new();
        while let Some(more) = body.next().await? {
            bytes.extend_from_slice(&more);
        }
        Ok(bytes)
    }

    /// A body of at most `max` bytes; one that says beforehand that it is longer is not begun.
    pub(super) fn body(
        &self,
        response: Response<Incoming>,
        host: &str,
        max: u64,
    ) -> Result<Paced, FetchError> {
        let body = response.into_body();
        if body.size_hint().lower() > max {
            return Err(FetchError::TooLong(max));
        }
        let (patience, left) = (self.patience, self.patience);
        Ok(Paced { body, host: host.to_owned(), max, sent: 0, patience, left, window: 0 })
    }
}

/// A body that is watched while it comes.
pub(super) struct Paced {
    body: Incoming,
    host: String,
    max: u64,
    sent: u64,
    patience: Duration,
    /// How long it is waited for what is missing of [`PACE`].
    left: Duration,
    window: u64,
}

impl Paced {
    /// How long the body says it is.
    pub(super) fn announced(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            // Only waiting counts: what the agent needs for its disk is not the registry's fault.
            let begun = Instant::now();
            let frame = timeout(self.left, self.body.frame()).await;
            let frame = frame.map_err(|_| FetchError::Stalled(self.patience.as_secs()))?;
            self.left = self.left.saturating_sub(begun.elapsed());
            let Some(frame) = frame else { return Ok(None) };
            let broken = |error| FetchError::Unreachable { host: self.host.clone(), cause: whole(&error) };
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            let came = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.sent = self.sent.saturating_add(came);
            if self.sent > self.max {
                return Err(FetchError::TooLong(self.max));
            }
            self.window = self.window.saturating_add(came);
            if self.window >= PACE {
                (self.window, self.left) = (0, self.patience);
            }
            return Ok(Some(data));
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

/// Where a redirect leads: a whole address, or a path of the same host.
fn next(from: &Uri, location: &str) -> Result<Uri, FetchError> {
    let whole: Uri = location.parse().map_err(|_| FetchError::Location)?;
    if whole.scheme().is_some() {
        return Ok(whole);
    }
    if !location.starts_with('/') || location.starts_with("//") {
        return Err(FetchError::Location);
    }
    let mut parts = from.clone().into_parts();
    parts.path_and_query = whole.into_parts().path_and_query;
    Uri::from_parts(parts).map_err(|_| FetchError::Location)
}

/// An error with what is behind it.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let said: Vec<String> = causes.map(ToString::to_string).collect();
    said.join(": ").chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(plain: &[&str]) -> Http {
        let plain = plain.iter().map(|host| (*host).to_owned()).collect();
        Http::new(tls(None, false).unwrap(), plain, Duration::from_secs(1))
    }

    #[tokio::test]
    async fn nobody_is_asked_without_tls_who_was_not_named_so() {
        let http = http(&["127.0.0.1:5000"]);
        let checked = |uri: &str| http.checked(&uri.parse().unwrap());
        assert!(checked("http://127.0.0.1:5000/v2/").is_ok());
        assert!(checked("https://anybody.example/x").is_ok());
        for uri in
            ["http://127.0.0.1/", "http://127.0.0.1:5001/", "http://localhost:5000/", "http://a.example/"]
        {
            assert!(matches!(checked(uri), Err(FetchError::Plain(_))), "{uri}");
        }
        for uri in ["https://user:word@a.example/", "ftp://a.example/", "/path", "a.example"] {
            assert!(matches!(checked(uri), Err(FetchError::Location)), "{uri}");
        }
    }

    #[test]
    fn a_redirect_leads_to_a_whole_address_or_to_a_path_of_the_same_host() {
        let from = "https://a.example:5000/v2/x/blobs/y?z=1".parse().unwrap();
        let to = |location: &str| next(&from, location).map(|uri| uri.to_string());
        assert_eq!(to("/other?k=v").unwrap(), "https://a.example:5000/other?k=v");
        assert_eq!(to("https://b.example/z").unwrap(), "https://b.example/z");
        for location in ["//b.example/z", "z", "../z", "", "https://", "b.example/z", "http://a b/"] {
            assert!(matches!(to(location), Err(FetchError::Location)), "{location:?}");
        }
    }
}
