//! Which registries a node asks, and where in one an image is. None is asked
//! that the operator did not name, and none without TLS that he did not name so.

use std::fmt;

use super::error::PullError;
use crate::image::ImageReference;

/// A registry as an operator names it: `HOST[:PORT]`, with `http://` before it
/// for one without TLS, or `any`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registry {
    /// Every registry, over TLS.
    Any,
    /// This one.
    Named {
        /// Host, and port if it has one.
        host: String,
        /// Without TLS.
        plain: bool,
    },
}

/// The text names no registry.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no registry: write HOST, HOST:PORT, http://HOST:PORT without TLS, or any")]
pub struct RegistryError(String);

impl Registry {
    /// Reads `any`, `HOST[:PORT]`, `https://HOST[:PORT]` or `http://HOST[:PORT]`.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, RegistryError> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let (plain, host) = match text.strip_prefix("http://") {
            Some(host) => (true, host),
            None => (false, text.strip_prefix("https://").unwrap_or(text)),
        };
        let host = host.strip_suffix('/').unwrap_or(host).to_ascii_lowercase();
        if is_host(&host) { Ok(Self::Named { host, plain }) } else { Err(RegistryError(text.to_owned())) }
    }
}

/// Whether the text is a host with or without a port, and nothing else of a URL.
fn is_host(text: &str) -> bool {
    let authority = text.parse::<http::uri::Authority>();
    !text.contains('@') && authority.is_ok_and(|authority| !authority.host().is_empty())
}

/// Where an image is: a registry, and a name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Host, and port if it has one.
    pub(super) host: String,
    /// The name of the repository.
    pub(super) repository: String,
    /// Whether it is asked without TLS.
    pub(super) plain: bool,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)
    }
}

/// The host and the repository in the name of an image, if a registry is in it:
/// as everywhere, the first part is one if it has a dot or a port, or is `localhost`.
fn split(reference: &ImageReference) -> Option<(String, &str)> {
    let (host, repository) = reference.name.split_once('/')?;
    let registry = host.contains(['.', ':']) || host == "localhost";
    (registry && !reference.is_local() && is_host(host)).then(|| (host.to_ascii_lowercase(), repository))
}

/// Whether an image is one that a registry may have.
pub(crate) fn has_registry(reference: &ImageReference) -> bool {
    split(reference).is_some()
}

/// Finds the registry of an image among those that the operator named.
pub(super) fn source(named: &[Registry], reference: &ImageReference) -> Result<Source, PullError> {
    let (host, repository) =
        split(reference).ok_or_else(|| PullError::Name(reference.name.chars().take(256).collect()))?;
    // A tag beside the digest says nothing that the digest does not say better.
    let last = repository.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map_or("", |(_, tag)| tag);
    let repository =
        repository.strip_suffix(tag).and_then(|name| name.strip_suffix(':')).unwrap_or(repository);
    if !is_repository(repository) {
        return Err(PullError::Name(reference.name.chars().take(256).collect()));
    }
    let found = named.iter().find_map(|one| match one {
        Registry::Named { host: named, plain } if *named == host => Some(*plain),
        _ => None,
    });
    let plain = match found {
        Some(plain) => plain,
        None if named.contains(&Registry::Any) => false,
        None => return Err(PullError::NotNamed(host)),
    };
    Ok(Source { host, repository: repository.to_owned(), plain })
}

/// The OCI distribution specification's names: parts of small letters, digits
/// and separators, so that none of it can be another path.
fn is_repository(name: &str) -> bool {
    let part = |part: &str| {
        let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ends = |c: Option<&u8>| c.is_some_and(|c| inside(*c));
        ends(part.as_bytes().first())
            && ends(part.as_bytes().last())
            && part.bytes().all(|c| inside(c) || b"._-".contains(&c))
    };
    name.len() <= 255 && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageDigest;

    fn of(name: &str) -> ImageReference {
        ImageReference { name: name.to_owned(), digest: ImageDigest::of(b"x") }
    }

    #[test]
    fn only_a_registry_that_was_named_is_asked_and_without_tls_only_if_it_was_named_so() {
        let named = ["registry.example", "http://127.0.0.1:5000", "https://other.example:443/"]
            .map(|text| Registry::parse(text).unwrap());
        let plain = |name: &str| source(&named, &of(name)).map(|source| source.plain);
        assert!(!plain("registry.example/coffer/site").unwrap());
        assert!(plain("127.0.0.1:5000/site").unwrap());
        assert!(!plain("other.example:443/site").unwrap());
        for name in
            ["elsewhere.example/site", "registry.example:5000/site", "127.0.0.1/site", "localhost/site"]
        {
            assert!(matches!(plain(name), Err(PullError::NotNamed(_))), "{name}");
        }
        let any = [Registry::Any];
        assert!(!source(&any, &of("127.0.0.1:5000/site")).unwrap().plain);
    }

    #[test]
    fn a_name_that_is_none_of_a_repository_is_asked_of_nobody() {
        let any = [Registry::Any];
        for name in [
            "example/site",
            "site",
            "coffer.local/site",
            "a.example/",
            "a.example/../x",
            "a.example/X",
            "a.example/x//y",
            "a.example/x?y=z",
            "a.example/x#y",
            "a.example/.x",
            "u:p@a.example/x",
            "/x",
            "a.example/x/blobs/../y",
            "a.example/x%2f",
        ] {
            assert!(matches!(source(&any, &of(name)), Err(PullError::Name(_))), "{name}");
        }
        assert_eq!(source(&any, &of("A.example/x/y:v1")).unwrap().to_string(), "a.example/x/y");
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        for text in ["", "http://", "https://a.example/path", "user@a.example", "a b", "ftp://a.example"] {
            assert!(Registry::parse(text).is_err(), "{text:?}");
        }
    }
}
