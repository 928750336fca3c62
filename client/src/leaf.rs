//! What a leaf says: the members by which events of a log are found and
//! shown. The form is `server/LEAVES.md`.

use serde_json::Value;

/// A leaf's JSON, and where its members are.
pub(crate) struct LeafView<'a>(pub(crate) &'a Value);

impl<'a> LeafView<'a> {
    /// Where each member is, for people who are told that it is missing.
    pub(crate) const OPERATION: &'static str = "/api/operation";
    pub(crate) const ACTOR: &'static str = "/actor/user/uid";
    pub(crate) const SUBJECT: &'static str = "/resources/0/uid";
    pub(crate) const OUTCOME: &'static str = "/status_detail";
    pub(crate) const TIME: &'static str = "/time";

    /// A text at one of these places.
    pub(crate) fn text(&self, place: &str) -> Option<&'a str> {
        self.0.pointer(place)?.as_str()
    }

    /// Milliseconds since 1970.
    pub(crate) fn time_ms(&self) -> Option<u64> {
        self.0.pointer(Self::TIME)?.as_u64()
    }

    /// In whose log it says that it is. Leaves of format 1 have it in the
    /// cloud's account.
    pub(crate) fn account(&self) -> Option<&'a str> {
        let named = self.text("/metadata/tenant_uid").filter(|uid| !uid.is_empty());
        named.or_else(|| self.text("/cloud/account/uid"))
    }

    /// Whether an operation of that name ended well, and on what.
    pub(crate) fn done(&self, operation: &str) -> Option<&'a str> {
        let done = self.text(Self::OPERATION) == Some(operation) && self.text(Self::OUTCOME) == Some("done");
        done.then(|| self.text(Self::SUBJECT)).flatten()
    }
}
