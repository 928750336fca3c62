//! Names as Kubernetes has them (RFC 1123): of nodes DNS names, of site sets DNS labels.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has 1 to 63 of the characters a-z, 0-9 and -, and begins and ends with none of the last (a node's may have several such parts, with points between), not \"{0}\""
)]
pub struct NameError(String);

/// Letters of a label at most (RFC 1123 section 2.1).
const LABEL_MAX: usize = 63;

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inside = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let edges =
        bytes.first().is_some_and(|byte| *byte != b'-') && bytes.last().is_some_and(|byte| *byte != b'-');
    edges && bytes.len() <= LABEL_MAX && bytes.iter().all(inside)
}

/// Letters of a name of labels at most.
const NAME_MAX: usize = 253;

fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && text.split('.').all(is_label)
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $is:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                text.to_owned().try_into()
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                if $is(&text) { Ok(Self(text)) } else { Err(NameError(text)) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A node.
    NodeName, is_name
}
name! {
    /// A set of storage pods that are placed together.
    SetName, is_label
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_label_is_no_name() {
        for text in ["", "-a", "a-", "A", "a.b", "a b", "ä", &"a".repeat(64)] {
            assert!(text.parse::<SetName>().is_err(), "{text}");
        }
        for text in ["a", "0", "node-17", &"a".repeat(63)] {
            assert_eq!(text.parse::<SetName>().map(String::from).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_node_is_called_by_labels_with_points_between() {
        assert!("ip-10-0-0-1.internal".parse::<NodeName>().is_ok());
        for text in ["", ".", "a.", ".a", "a..b", "a.-b", "A.b", &"a.".repeat(200)] {
            assert!(text.parse::<NodeName>().is_err(), "{text}");
        }
    }
}
