//! What a registry says when it wants a login: `WWW-Authenticate` (RFC 9110,
//! 11.6.1), and the request for a token that follows from it.

use hyper::Uri;
use hyper::header::{HeaderMap, WWW_AUTHENTICATE};

/// How a registry wants a login.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The login itself.
    Basic,
    /// A token of this service.
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// What the service knows the registry by.
        service: Option<String>,
        /// What for.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The one that is best understood: a token before the login itself.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let said = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut known: Vec<Self> = said.filter_map(Self::parse).collect();
        known.sort_by_key(|one| *one == Self::Basic);
        known.into_iter().next()
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        let mut rest = rest;
        while let Some((name, value, after)) = parameter(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
            rest = after;
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// The first `name=value` or `name="value"` of a list, and what comes after it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', ',', '\t']);
    let (name, rest) = text.split_once('=')?;
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ']).unwrap_or(rest.len());
        let (value, after) = rest.split_at(end);
        return Some((name.trim(), value.to_owned(), after));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, character) in quoted.char_indices() {
        match character {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => {
                let after = quoted.get(at..)?.strip_prefix('"')?;
                return Some((name.trim(), value, after));
            }
            other => {
                value.push(other);
                escaped = false;
            }
        }
    }
    None
}

/// The address that asks for a token.
pub(super) fn token_uri(realm: &str, service: Option<&str>, scope: &str) -> Option<Uri> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    let query = query.append_pair("scope", scope).finish();
    let join = if realm.contains('?') { '&' } else { '?' };
    let uri: Uri = format!("{realm}{join}{query}").parse().ok()?;
    (!realm.contains('#') && uri.authority().is_some() && uri.scheme().is_some()).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn of(said: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for one in said {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(one).unwrap());
        }
        Challenge::of(&headers)
    }

    #[test]
    fn a_token_is_preferred_and_every_way_to_write_a_parameter_is_read() {
        let text =
            r#"bearer realm="https://a.example/t\"x" , service=reg, scope="repository:a,b:pull,push",x=y"#;
        let challenge = of(&["Basic realm=\"x\"", text]).unwrap();
        let expected = Challenge::Bearer {
            realm: "https://a.example/t\"x".to_owned(),
            service: Some("reg".to_owned()),
            scope: Some("repository:a,b:pull,push".to_owned()),
        };
        assert_eq!(challenge, expected);
        assert_eq!(of(&["Negotiate", "BASIC"]), Some(Challenge::Basic));
    }

    #[test]
    fn what_is_no_challenge_is_none_and_ends() {
        for text in [
            "",
            "Digest realm=\"x\"",
            "Bearer",
            "Bearer realm=\"open",
            "Bearer service=\"x\"",
            "Bearer ===",
            "Bearer ,,,=",
        ] {
            assert_eq!(of(&[text]), None, "{text:?}");
        }
    }

    #[test]
    fn what_goes_into_the_address_of_a_token_stays_one_value() {
        let uri = token_uri("https://a.example/t", Some("s&scope=all"), "repository:x:pull").unwrap();
        assert_eq!(
            uri.to_string(),
            "https://a.example/t?service=s%26scope%3Dall&scope=repository%3Ax%3Apull"
        );
        for realm in ["", "/t", "a.example/t", "https://a b/", "https://a.example/#x"] {
            assert_eq!(token_uri(realm, None, "x"), None, "{realm:?}");
        }
    }
}
