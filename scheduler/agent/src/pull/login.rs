//! Logins at registries, from a file or a secret in the format of docker's
//! `config.json`. The most fitting entry of the first list that has one is
//! used, and it is sent to that registry and to the service of tokens that this
//! registry names.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::place::Source;

/// The key in a secret of the type `kubernetes.io/dockerconfigjson`.
pub(crate) const KEY: &str = ".dockerconfigjson";
/// The type of such a secret.
pub(crate) const KIND: &str = "kubernetes.io/dockerconfigjson";

/// A name and a password, as `Basic` authentication sends them. It is wiped
/// when it goes, and cannot be printed.
pub struct Login {
    basic: Zeroizing<String>,
}

/// Why a list of logins was not understood. Nothing of the list is in the words.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// It is not the JSON that it should be.
    #[error("it is not in the format of docker's config.json")]
    Format,
    /// An entry has neither name and password nor both in `auth`.
    #[error("the entry for {0} has no name and password; helpers and identity tokens are not understood")]
    Entry(String),
}

#[derive(Deserialize)]
struct Logins {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Login {
    /// The login for `source` in a list, if it has one.
    ///
    /// # Errors
    /// The list, or the entry for this registry, is not understood.
    pub fn find(list: &[u8], source: &Source) -> Result<Option<Self>, LoginError> {
        let logins: Logins = serde_json::from_slice(list).map_err(|_| LoginError::Format)?;
        let fitting =
            logins.auths.into_iter().filter_map(|(place, entry)| Some((fits(&place, source)?, place, entry)));
        match fitting.max_by_key(|(length, ..)| *length) {
            Some((_, place, entry)) => Self::of(entry).map(Some).ok_or(LoginError::Entry(place)),
            None => Ok(None),
        }
    }

    fn of(entry: Entry) -> Option<Self> {
        let (auth, password) = (entry.auth.map(Zeroizing::new), entry.password.map(Zeroizing::new));
        let basic = match (entry.username, password, auth) {
            (Some(name), Some(password), _) if !name.is_empty() && !name.contains(':') => {
                let both = Zeroizing::new(format!("{name}:{}", *password));
                Zeroizing::new(BASE64_STANDARD.encode(both.as_bytes()))
            }
            (_, _, Some(auth)) => {
                let both = Zeroizing::new(BASE64_STANDARD.decode(auth.as_bytes()).ok()?);
                both.contains(&b':').then_some(auth)?
            }
            _ => return None,
        };
        Some(Self { basic })
    }

    /// Name and password in base64, as they are sent.
    pub(super) fn danger_basic(&self) -> &str {
        &self.basic
    }
}

/// How much of the source an entry's place names, if it is a place of it: the
/// host with its port, and whole parts of the repository.
fn fits(place: &str, source: &Source) -> Option<usize> {
    let bare = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    if !host.eq_ignore_ascii_case(&source.host) {
        return None;
    }
    // Old entries end with the version of the interface.
    let path = match path.trim_matches('/') {
        "v1" | "v2" => "",
        path => path,
    };
    let rest = source.repository.strip_prefix(path)?;
    (path.is_empty() || rest.is_empty() || rest.starts_with('/')).then_some(path.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(host: &str, repository: &str) -> Source {
        Source { host: host.to_owned(), repository: repository.to_owned(), plain: false }
    }

    fn found(list: &serde_json::Value, host: &str, repository: &str) -> Option<String> {
        let list = serde_json::to_vec(list).unwrap();
        let login = Login::find(&list, &source(host, repository)).unwrap();
        login.map(|login| String::from_utf8(BASE64_STANDARD.decode(login.danger_basic()).unwrap()).unwrap())
    }

    #[test]
    fn the_login_of_another_registry_or_repository_is_never_used() {
        let list = serde_json::json!({ "auths": {
            "a.example": { "username": "a", "password": "1" },
            "https://b.example:5000/v1/": { "auth": BASE64_STANDARD.encode("b:2") },
            "a.example/team": { "username": "t", "password": "3:4" },
        } });
        assert_eq!(found(&list, "a.example", "site").as_deref(), Some("a:1"));
        assert_eq!(found(&list, "a.example", "team/site").as_deref(), Some("t:3:4"));
        assert_eq!(found(&list, "a.example", "teams/site").as_deref(), Some("a:1"));
        assert_eq!(found(&list, "b.example:5000", "site").as_deref(), Some("b:2"));
        for host in ["b.example", "a.example:443", "xa.example", "a.example.org", "example"] {
            assert_eq!(found(&list, host, "site"), None, "{host}");
        }
    }

    #[test]
    fn a_list_that_is_not_understood_is_refused_without_a_word_of_it() {
        let at = source("a.example", "site");
        for list in ["", "7", "{\"auths\": 7}", "{\"auths\": {\"a.example\": \"hunter2\"}}"] {
            assert!(matches!(Login::find(list.as_bytes(), &at), Err(LoginError::Format)), "{list}");
        }
        for entry in ["{}", "{\"auth\": \"?\"}", "{\"auth\": \"aHVudGVyMg==\"}", "{\"username\": \"u\"}"] {
            let list = format!("{{\"auths\": {{\"a.example\": {entry}}}}}");
            let Err(error) = Login::find(list.as_bytes(), &at) else { panic!("{entry}") };
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
