//! One registry, asked for manifests and blobs by digest as the OCI distribution
//! specification has it (1.1, "Pull"), with a login or a token where it wants one.
//! Nothing that comes is checked against its digest here: the agent does that.

use base64::Engine as _;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{StatusCode, Uri};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::challenge::{Challenge, token_uri};
use super::error::FetchError;
use super::http::{Answer, Http, Paced, Wanted};
use super::wire::Ask;

/// The manifests and indices that are understood.
const TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
/// The longest answer of a service of tokens, in bytes.
const TOKEN_MAX: u64 = 128 << 10;

/// A registry that is asked.
pub(super) struct Session {
    http: Http,
    /// With scheme and repository.
    base: String,
    repository: String,
    /// Name and password in base64; empty for nobody.
    login: Zeroizing<Vec<u8>>,
    /// What was good enough last time.
    authorization: Option<HeaderValue>,
}

/// Part of a blob or document on its way.
pub(super) struct Part {
    /// The first byte that comes.
    pub(super) from: u64,
    pub(super) body: Paced,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Session {
    pub(super) fn new(http: Http, (host, plain): (&str, bool), repository: String, login: Vec<u8>) -> Self {
        let scheme = if plain { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{repository}");
        Self { http, base, repository, login: Zeroizing::new(login), authorization: None }
    }

    /// Asks for it, up to the first byte.
    pub(super) async fn open(&mut self, ask: &Ask) -> Result<Part, FetchError> {
        let kind = if ask.manifest { "manifests" } else { "blobs" };
        let uri: Uri =
            format!("{}/{kind}/{}", self.base, ask.digest).parse().map_err(|_| FetchError::Order)?;
        let accept = if ask.manifest { TYPES.join(", ") } else { "application/octet-stream, */*".to_owned() };
        let (mut asked_again, mut from) = (false, ask.from);
        loop {
            let authorization = self.authorization.clone();
            let wanted = Wanted { uri: uri.clone(), accept: &accept, from, authorization };
            let Answer { response, at_home, host } = self.http.get(&wanted).await?;
            let status = response.status();
            match status {
                StatusCode::OK => {
                    if ask.manifest {
                        is_document(response.headers())?;
                    }
                    return Ok(Part { from: 0, body: self.http.body(response, &host, ask.size)? });
                }
                StatusCode::PARTIAL_CONTENT if from > 0 => {
                    begins_at(response.headers(), from)?;
                    let rest = ask.size.saturating_sub(from);
                    return Ok(Part { from, body: self.http.body(response, &host, rest)? });
                }
                // It has less than we, or cannot begin in the middle: from the beginning.
                StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => from = 0,
                StatusCode::UNAUTHORIZED if at_home && !asked_again => {
                    asked_again = true;
                    self.authorization = Some(self.log_in(response.headers(), &host).await?);
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(FetchError::Denied { host, status: status.as_u16() });
                }
                StatusCode::NOT_FOUND => return Err(FetchError::Absent { host, digest: ask.digest.clone() }),
                StatusCode::TOO_MANY_REQUESTS => {
                    return Err(FetchError::Busy { host, status: status.as_u16() });
                }
                other if other.is_server_error() => {
                    return Err(FetchError::Busy { host, status: other.as_u16() });
                }
                other => return Err(FetchError::Status { host, status: other.as_u16() }),
            }
        }
    }

    /// What the registry accepts in place of nothing.
    async fn log_in(&self, headers: &HeaderMap, host: &str) -> Result<HeaderValue, FetchError> {
        let challenge = Challenge::of(headers).ok_or_else(|| FetchError::Challenge(host.to_owned()))?;
        match challenge {
            Challenge::Basic => {
                let denied = || FetchError::Denied { host: host.to_owned(), status: 401 };
                self.basic().ok_or_else(denied)
            }
            Challenge::Bearer { realm, service, scope } => {
                let usual = format!("repository:{}:pull", self.repository);
                let uri = token_uri(&realm, service.as_deref(), scope.as_deref().unwrap_or(&usual));
                self.token(uri.ok_or_else(|| FetchError::Challenge(host.to_owned()))?).await
            }
        }
    }

    async fn token(&self, uri: Uri) -> Result<HeaderValue, FetchError> {
        let wanted = Wanted { uri, accept: "application/json", from: 0, authorization: self.basic() };
        let Answer { response, host, .. } = self.http.get(&wanted).await?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(FetchError::Denied { host, status: status.as_u16() });
            }
            status => return Err(FetchError::Busy { host, status: status.as_u16() }),
        }
        let answer = Zeroizing::new(self.http.whole(response, TOKEN_MAX).await?);
        let token = serde_json::from_slice::<Token>(&answer).ok();
        let token = token.and_then(|token| token.token.or(token.access_token)).map(Zeroizing::new);
        let header = token.and_then(|token| secret(&format!("Bearer {}", *token)));
        header.ok_or(FetchError::Token(host))
    }

    fn basic(&self) -> Option<HeaderValue> {
        let login = Some(&*self.login).filter(|login| !login.is_empty())?;
        // Base64 and nothing else: it came from a file.
        base64::prelude::BASE64_STANDARD.decode(login).ok()?;
        secret(&format!("Basic {}", str::from_utf8(login).ok()?))
    }
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn is_document(headers: &HeaderMap) -> Result<(), FetchError> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim();
    let known = TYPES.iter().any(|one| one.eq_ignore_ascii_case(kind));
    if known { Ok(()) } else { Err(FetchError::MediaType(kind.chars().take(100).collect())) }
}

fn begins_at(headers: &HeaderMap, from: u64) -> Result<(), FetchError> {
    let said = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = said.strip_prefix("bytes ").and_then(|range| range.split_once('-'));
    match first.and_then(|(first, _)| first.trim().parse::<u64>().ok()) {
        Some(first) if first == from => Ok(()),
        _ => Err(FetchError::Range),
    }
}
