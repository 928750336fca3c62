//! What a request asks for. Method, path, query and headers are parsed once,
//! here; what lies behind sees typed values only.

mod accept;
mod path;
mod query;

use std::sync::Arc;

use http::Method;
use http::header::CONTENT_TYPE;

pub(crate) use accept::{Accept, Form};
pub(crate) use query::{FieldValidation, Propagation, Query, VersionMatch};

use crate::kinds::Verb;
use crate::refusal::{Malformed, Refusal};
use crate::registry::{Registry, Resource};
use crate::{discovery, openapi};

/// The longest path and query that are looked at.
const URI_BYTES_MAX: usize = 16 << 10;

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Request {
    /// What it is about.
    pub(crate) target: Target,
    /// Its parameters.
    pub(crate) query: Query,
    /// How it wants to be answered.
    pub(crate) accept: Accept,
    /// The media type of its body, without parameters; empty if it says none.
    pub(crate) content_type: String,
}

/// What a request is about.
#[derive(Debug)]
pub(crate) enum Target {
    /// Whether the server lives.
    Health,
    /// What there is.
    Discovery(discovery::Page),
    /// What it looks like.
    OpenApi(openapi::Page),
    /// Objects.
    Objects(Objects),
}

/// Objects of one resource, and what is to be done with them.
#[derive(Clone, Debug)]
pub(crate) struct Objects {
    /// The resource.
    pub(crate) resource: Arc<Resource>,
    /// What is to be done.
    pub(crate) verb: Verb,
    /// In this namespace; empty for all, and for what has none.
    pub(crate) namespace: String,
    /// The one object; none if it is about the collection.
    pub(crate) name: Option<String>,
    /// A part of the object.
    pub(crate) part: Option<Part>,
}

/// A subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `status`.
    Status,
    /// `scale`.
    Scale,
    /// `binding` of a pod.
    Binding,
    /// `eviction` of a pod.
    Eviction,
    /// `log` of a pod.
    Log,
    /// `finalize` of a namespace.
    Finalize,
}

impl Part {
    /// The word on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Log => "log",
            Self::Finalize => "finalize",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Status, Self::Scale, Self::Binding, Self::Eviction, Self::Log, Self::Finalize]
            .into_iter()
            .find(|part| part.as_str() == text)
    }
}

impl Objects {
    /// The resource with its part, as `pods/status`.
    pub(crate) fn words(&self) -> String {
        match self.part {
            Some(part) => format!("{}/{}", self.resource.kind.plural, part.as_str()),
            None => self.resource.kind.plural.clone(),
        }
    }
}

impl Request {
    /// Parses everything but the body.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn parse(head: &http::request::Parts, registry: &Registry) -> Result<Self, Refusal> {
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        if path.len() + query.len() > URI_BYTES_MAX {
            return Err(Malformed::Path.into());
        }
        let segments = path::segments(path)?;
        let query = Query::parse(query)?;
        let target = target(&head.method, &segments, &query, registry)?;
        let content_type =
            head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Ok(Self { target, query, accept: Accept::parse(&head.headers), content_type })
    }
}

fn target(
    method: &Method,
    segments: &[String],
    query: &Query,
    registry: &Registry,
) -> Result<Target, Refusal> {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let page = match segments.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => Target::Health,
        ["version"] => Target::Discovery(discovery::Page::Version),
        ["api"] => Target::Discovery(discovery::Page::Api),
        ["apis"] => Target::Discovery(discovery::Page::Apis),
        ["apis", group] => Target::Discovery(discovery::Page::Group((*group).to_owned())),
        ["api", version] => Target::Discovery(resources("", version)),
        ["apis", group, version] => Target::Discovery(resources(group, version)),
        ["openapi", "v3"] => Target::OpenApi(openapi::Page::Index),
        ["openapi", "v3", "api", version] => Target::OpenApi(openapi("", version)),
        ["openapi", "v3", "apis", group, version] => Target::OpenApi(openapi(group, version)),
        ["api", version, rest @ ..] => {
            return objects(method, query, registry, ("", version), rest).map(Target::Objects);
        }
        ["apis", group, version, rest @ ..] => {
            return objects(method, query, registry, (group, version), rest).map(Target::Objects);
        }
        _ => return Err(Refusal::NoPath),
    };
    if *method == Method::GET { Ok(page) } else { Err(Refusal::MethodNotAllowed) }
}

fn resources(group: &str, version: &str) -> discovery::Page {
    discovery::Page::Resources { group: group.to_owned(), version: version.to_owned() }
}

fn openapi(group: &str, version: &str) -> openapi::Page {
    openapi::Page::Group { group: group.to_owned(), version: version.to_owned() }
}

fn objects(
    method: &Method,
    query: &Query,
    registry: &Registry,
    (group, version): (&str, &str),
    rest: &[&str],
) -> Result<Objects, Refusal> {
    let find = |plural: &str| registry.find(group, version, plural).ok_or(Refusal::NoPath);
    let (namespace, plural, behind) = match rest {
        // A namespace has parts of its own; everything else behind it is a resource inside.
        ["namespaces", name, part] if Part::parse(part).is_some() && group.is_empty() => {
            ("", "namespaces", vec![*name, *part])
        }
        ["namespaces", namespace, plural, behind @ ..] => (*namespace, *plural, behind.to_vec()),
        [plural, behind @ ..] => ("", *plural, behind.to_vec()),
        [] => return Err(Refusal::NoPath),
    };
    let resource = find(plural)?;
    let (name, part) = match behind.as_slice() {
        [] => (None, None),
        [name] => (Some((*name).to_owned()), None),
        [name, part] => (Some((*name).to_owned()), Some(Part::parse(part).ok_or(Refusal::NoPath)?)),
        _ => return Err(Refusal::NoPath),
    };
    let placed = !namespace.is_empty();
    if placed != resource.kind.namespaced && (placed || name.is_some()) {
        return Err(Refusal::NoPath);
    }
    let verb = verb(method, query, name.is_some(), part).ok_or(Refusal::MethodNotAllowed)?;
    if resource.kind.namespaced
        && !placed
        && !matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection)
    {
        // Only what reads may leave out the namespace; reviews have none at all.
        return Err(Refusal::MethodNotAllowed);
    }
    let verbs = match part {
        Some(part) => &resource.kind.subresource(part.as_str()).ok_or(Refusal::NoPath)?.verbs,
        None => &resource.kind.verbs,
    };
    if !verbs.contains(&verb) {
        return Err(Refusal::MethodNotAllowed);
    }
    Ok(Objects { resource, verb, namespace: namespace.to_owned(), name, part })
}

fn verb(method: &Method, query: &Query, named: bool, part: Option<Part>) -> Option<Verb> {
    let posted = matches!(part, Some(Part::Binding | Part::Eviction));
    match (method.as_str(), named) {
        ("GET" | "HEAD", true) => Some(Verb::Get),
        ("GET" | "HEAD", false) if query.watch => Some(Verb::Watch),
        ("GET" | "HEAD", false) => Some(Verb::List),
        ("POST", named) if named == posted => Some(Verb::Create),
        ("PUT", true) => Some(Verb::Update),
        ("PATCH", true) => Some(Verb::Patch),
        ("DELETE", true) => Some(Verb::Delete),
        ("DELETE", false) => Some(Verb::DeleteCollection),
        _ => None,
    }
}
