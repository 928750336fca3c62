//! In which form the client wants its answer.

use http::HeaderMap;
use http::header::ACCEPT;

/// Forms of one answer that are looked at, at most.
const FORMS_MAX: usize = 16;

/// A form that this server can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object or list itself.
    Plain,
    /// `Table` of meta.k8s.io, in this version.
    Table(&'static str),
    /// `PartialObjectMetadata`, or its list.
    Partial,
    /// `APIGroupDiscoveryList`, in this version.
    Discovery(&'static str),
}

/// The forms that the client takes, the best first; those that this server does not know are left out.
#[derive(Clone, Debug)]
pub(crate) struct Accept {
    /// In the client's order.
    pub(crate) forms: Vec<Form>,
}

impl Accept {
    pub(super) fn parse(headers: &HeaderMap) -> Self {
        let values: Vec<&str> =
            headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        if values.is_empty() {
            return Self { forms: vec![Form::Plain] };
        }
        let ranges = values.iter().flat_map(|value| value.split(','));
        Self { forms: ranges.take(FORMS_MAX).filter_map(form).collect() }
    }

    /// The first form that fits.
    pub(crate) fn first(&self, fits: impl Fn(Form) -> bool) -> Option<Form> {
        self.forms.iter().copied().find(|form| fits(*form))
    }
}

fn form(range: &str) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?;
    if !matches!(media, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let (mut kind, mut version, mut group) = (None, None, None);
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", value)) => kind = Some(value),
            Some(("v", value)) => version = Some(value),
            Some(("g", value)) => group = Some(value),
            _ => {}
        }
    }
    match (kind, group, version) {
        (None, _, _) => Some(Form::Plain),
        (Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(Form::Table("v1")),
        (Some("Table"), Some("meta.k8s.io"), Some("v1beta1")) => Some(Form::Table("v1beta1")),
        (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) => {
            Some(Form::Partial)
        }
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
            Some(Form::Discovery("v2"))
        }
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => {
            Some(Form::Discovery("v2beta1"))
        }
        _ => None,
    }
}
