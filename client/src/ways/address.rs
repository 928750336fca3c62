//! Where a service may be, as people write it: `https://HOST:PORT`, several of
//! them between commas or spaces. The name in it finds the service; who
//! answers there is for its certificate to say.

use std::net::IpAddr;

/// More are a mistake: each is tried while none answers.
pub(crate) const ADDRESSES_MAX: usize = 16;
/// The longest name that DNS has, in characters.
const HOST_CHARACTERS_MAX: usize = 253;

/// One place to look for the service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address {
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Reads `https://HOST:PORT` and nothing else: no path, no user.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let authority = text.strip_prefix("https://")?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':')?;
        let port = port.bytes().all(|digit| digit.is_ascii_digit()).then(|| port.parse().ok())??;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good = match bracketed {
            Some(inner) => matches!(inner.parse(), Ok(IpAddr::V6(_))),
            None => is_name(host),
        };
        let host = bracketed.unwrap_or(host).to_owned();
        (good && port > 0).then_some(Self { host, port })
    }

    /// All that are written in a text, each once; the first that is none is
    /// the error.
    pub(crate) fn list(text: &str) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        for word in text.split([',', ' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()) {
            let address = Self::parse(word).ok_or_else(|| word.to_owned())?;
            if !all.contains(&address) {
                all.push(address);
            }
        }
        match all.len() {
            0 => Err(text.to_owned()),
            n if n > ADDRESSES_MAX => Err(format!("{n} addresses, more than {ADDRESSES_MAX}")),
            _ => Ok(all),
        }
    }
}

/// What a name of a machine, or an IPv4 address, is made of.
fn is_name(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    (1..=HOST_CHARACTERS_MAX).contains(&host.len()) && host.chars().all(plain)
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            write!(f, "https://[{host}]:{port}")
        } else {
            write!(f, "https://{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_https_address_with_a_port_is_refused_and_the_rest_prints_as_it_was_written() {
        for good in ["https://127.0.0.1:7420", "https://[::1]:1", "https://coffer.example:65535"] {
            assert_eq!(Address::parse(good).unwrap().to_string(), good);
        }
        assert_eq!(Address::parse("https://a:1/"), Address::parse("https://a:1"));
        for bad in [
            "",
            "http://a:1",
            "https://a",
            "https://a:",
            "https://a:0",
            "https://a:+1",
            "https://a:65536",
            "https://:1",
            "https://a:1/x",
            "https://u@a:1",
            "https://[a]:1",
            "https://[127.0.0.1]:1",
            "https://::1:1",
            "https://a b:1",
            "https://a\u{e9}:1",
        ] {
            assert_eq!(Address::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_list_has_each_address_once_and_one_that_is_none_spoils_it_by_name() {
        let two = Address::list(" https://a:1,https://b:2\nhttps://a:1\n").unwrap();
        assert_eq!(two.iter().map(Address::to_string).collect::<Vec<_>>(), ["https://a:1", "https://b:2"]);
        assert_eq!(Address::list("https://a:1, b:2"), Err("b:2".to_owned()));
        assert!(Address::list(" \n").is_err());
        let many: String = (1..=17).map(|n| format!("https://a:{n} ")).collect();
        assert!(Address::list(&many).unwrap_err().contains("17"));
    }
}
