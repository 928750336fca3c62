//! The body of a request: bounded before it is read, and read as what its
//! media type says.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body as HttpBody;
use serde_json::Value;

use crate::refusal::{Malformed, Refusal};

/// The largest body that is read, as in Kubernetes.
pub(crate) const BODY_BYTES_MAX: usize = 3 << 20;

/// What is read where an object is expected.
const READABLE: &str = "application/json and application/yaml";

/// Reads a body whole.
pub(crate) async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: HttpBody,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if body.size_hint().lower() > u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX) {
        return Err(Refusal::TooLarge { limit: BODY_BYTES_MAX });
    }
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::TooLarge { limit: BODY_BYTES_MAX })
        }
        Err(_) => Err(Malformed::Truncated.into()),
    }
}

/// An object of a body, by its media type.
pub(crate) fn object(content_type: &str, body: &[u8]) -> Result<Value, Refusal> {
    let value = match content_type {
        "" | "application/json" => json(body)?,
        "application/yaml" => yaml(body)?,
        sent => return Err(Refusal::UnsupportedMediaType { sent: sent.to_owned(), readable: READABLE }),
    };
    if value.is_object() {
        Ok(value)
    } else {
        Err(Malformed::Json("an object is expected".to_owned()).into())
    }
}

/// Any JSON.
pub(crate) fn json(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| Malformed::Json(error.to_string()).into())
}

/// YAML, which JSON is a part of.
pub(crate) fn yaml(body: &[u8]) -> Result<Value, Refusal> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let text = std::str::from_utf8(body).map_err(|error| Malformed::Yaml(error.to_string()))?;
    serde_saphyr::from_str(text)
        .map_err(|error| Malformed::Yaml(error.to_string().chars().take(200).collect()).into())
}
