//! What a leaf says, read back from its text: the members by which the service
//! finds its own events again. Written by [`crate::leaf`].

use std::borrow::Cow;

use serde::Deserialize;

/// The members of a leaf, of either format; those that nobody asks for are
/// passed over.
#[derive(Deserialize)]
pub(crate) struct LeafText<'a> {
    #[serde(borrow)]
    actor: Actor<'a>,
    #[serde(borrow)]
    api: Api<'a>,
    #[serde(borrow)]
    resources: Vec<Uid<'a>>,
    #[serde(borrow)]
    status_detail: Cow<'a, str>,
    /// Milliseconds since 1970.
    pub(crate) time: u64,
}

#[derive(Deserialize)]
struct Actor<'a> {
    #[serde(borrow)]
    user: Uid<'a>,
}

#[derive(Deserialize)]
struct Api<'a> {
    #[serde(borrow)]
    operation: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Uid<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
}

impl<'a> LeafText<'a> {
    /// The members; none of what is no leaf of ours.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    pub(crate) fn actor(&self) -> &str {
        &self.actor.user.uid
    }

    pub(crate) fn operation(&self) -> &str {
        &self.api.operation
    }

    /// Empty where the leaf names nothing.
    pub(crate) fn subject(&self) -> &str {
        self.resources.first().map_or("", |resource| &resource.uid)
    }

    /// `intent`, `done`, `denied`, `failed` or `interrupted`.
    pub(crate) fn outcome(&self) -> &str {
        &self.status_detail
    }
}
