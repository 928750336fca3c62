//! Why a request is refused, and the `Status` object that says so in the words
//! that Kubernetes clients act on: code, reason, details and causes.

use http::StatusCode;
use serde_json::{Value, json};

use crate::store::{CommitError, HistoryError, OBJECT_BYTES_MAX};

/// What a refusal is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Group of the resource; empty for the core group.
    pub group: String,
    /// Plural of the resource, or kind where the object is at fault.
    pub kind: String,
    /// Name of the object.
    pub name: String,
}

impl Subject {
    /// `pods "a"`, or `sitesets.fleet.coffer "a"`.
    fn named(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        format!("{}{dot}{} \"{}\"", self.kind, self.group, self.name)
    }
}

/// One field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What is wrong with it.
    pub fault: Fault,
    /// Path of the field, as `spec.containers[0].name`.
    pub field: String,
    /// For people.
    pub message: String,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It must be there.
    Required,
    /// It has a value that it may not have.
    Invalid,
    /// It has a value that is not among the supported ones.
    Unsupported,
    /// It may not be given, or not be changed.
    Forbidden,
    /// It is there twice.
    Duplicate,
    /// It has the wrong type.
    Type,
    /// Another manager owns it.
    Owned,
    /// A disruption budget does not allow it.
    Budget,
}

impl Fault {
    fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::Unsupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Type => "FieldValueTypeInvalid",
            Self::Owned => "FieldManagerConflict",
            Self::Budget => "DisruptionBudget",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Unsupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::Type | Self::Owned | Self::Budget => "Invalid value",
        }
    }
}

impl Cause {
    /// A cause.
    pub fn new(fault: Fault, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { fault, field: field.into(), message: message.into() }
    }
}

/// A request that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The path is no UTF-8 once its escapes are undone, or has an empty part.
    #[error("the path is malformed")]
    Path,
    /// A parameter of the query has no meaning.
    #[error("the parameter {parameter} cannot be {value:?}")]
    Query {
        /// Which.
        parameter: &'static str,
        /// What it was.
        value: String,
    },
    /// A label selector does not follow the grammar.
    #[error("unable to parse the label selector at {at:?}")]
    LabelSelector {
        /// Where it stops making sense.
        at: String,
    },
    /// A field selector does not follow the grammar.
    #[error("unable to parse the field selector at {at:?}")]
    FieldSelector {
        /// Where it stops making sense.
        at: String,
    },
    /// This field cannot be selected by.
    #[error("field label not supported: {field}")]
    FieldLabel {
        /// Which.
        field: String,
    },
    /// A continue token of somebody else.
    #[error("continue key is not valid")]
    Continue,
    /// The body is no JSON, or nested too deep.
    #[error("the body is not valid JSON: {0}")]
    Json(String),
    /// The body is no YAML that stands for JSON.
    #[error("the body is not valid YAML: {0}")]
    Yaml(String),
    /// The body is of another kind.
    #[error("the object provided is unrecognized: expected {expected}, got {found}")]
    Kind {
        /// What the path says.
        expected: String,
        /// What the body says.
        found: String,
    },
    /// Path and body disagree.
    #[error("the {field} of the object ({body}) does not match the {field} of the request ({path})")]
    Mismatch {
        /// `name` or `namespace`.
        field: &'static str,
        /// The body's.
        body: String,
        /// The path's.
        path: String,
    },
    /// Fields that the schema does not know, where the client wants to know.
    #[error("strict decoding error: {0}")]
    Strict(String),
    /// The patch does not have the form that its type asks for.
    #[error("the patch is malformed: {0}")]
    Patch(String),
    /// The body stopped before its end.
    #[error("the body ended early")]
    Truncated,
    /// A name is missing.
    #[error("name or generateName is required")]
    NoName,
    /// The request cannot be done on this subresource.
    #[error("{0}")]
    Unmeaning(&'static str),
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request cannot be understood.
    Malformed(Malformed),
    /// The client cannot be told who it is.
    Unauthorized,
    /// The caller may not.
    Forbidden {
        /// What it is about.
        subject: Subject,
        /// Why not.
        why: String,
    },
    /// There is no such object.
    NotFound(Subject),
    /// There is no such path.
    NoPath,
    /// There is such an object already.
    AlreadyExists(Subject),
    /// The object changed, or is in a state that forbids it.
    Conflict {
        /// What it is about.
        subject: Subject,
        /// Why.
        why: String,
        /// Fields at fault.
        causes: Vec<Cause>,
    },
    /// Others own fields that were to be applied.
    FieldConflict {
        /// Which, and who.
        causes: Vec<Cause>,
    },
    /// The object is not valid.
    Invalid {
        /// What it is about, by kind.
        subject: Subject,
        /// Fields at fault.
        causes: Vec<Cause>,
    },
    /// The verb does not exist here.
    MethodNotAllowed,
    /// None of the accepted forms exists here.
    NotAcceptable,
    /// The body comes in a form that this server does not read.
    UnsupportedMediaType {
        /// What was sent.
        sent: String,
        /// What would have been read.
        readable: &'static str,
    },
    /// The body is too large.
    TooLarge {
        /// Bytes that are read at most.
        limit: usize,
    },
    /// Too many requests, or a budget that does not allow an eviction now.
    TooMany {
        /// What it is about.
        subject: Subject,
        /// Why.
        why: String,
        /// What stands in the way.
        causes: Vec<Cause>,
        /// After how many seconds to ask again; 0 says nothing.
        retry_after: u32,
    },
    /// The history that was asked for is gone.
    Expired(HistoryError),
    /// The revision that was asked for does not exist yet.
    TooNew(HistoryError),
    /// The store or a node does not answer.
    Unavailable {
        /// Which and why.
        why: String,
    },
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<HistoryError> for Refusal {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Expired { .. } => Self::Expired(error),
            HistoryError::Future { .. } => Self::TooNew(error),
        }
    }
}

impl From<CommitError> for Refusal {
    /// What is left once conflicts were dealt with.
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Deep => Malformed::Unmeaning("the object is nested too deep").into(),
            CommitError::Shapeless => Malformed::Unmeaning("the object has no metadata").into(),
            CommitError::Large => Self::TooLarge { limit: OBJECT_BYTES_MAX },
            CommitError::Conflict { .. } | CommitError::Closed => {
                Self::Unavailable { why: error.to_string() }
            }
        }
    }
}

impl Refusal {
    /// The HTTP status.
    pub fn code(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NotFound(_) | Self::NoPath => StatusCode::NOT_FOUND,
            Self::AlreadyExists(_) | Self::Conflict { .. } | Self::FieldConflict { .. } => {
                StatusCode::CONFLICT
            }
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Expired(_) => StatusCode::GONE,
            Self::TooNew(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden { .. } => "Forbidden",
            Self::NotFound(_) | Self::NoPath => "NotFound",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::Conflict { .. } | Self::FieldConflict { .. } => "Conflict",
            Self::Invalid { .. } => "Invalid",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::UnsupportedMediaType { .. } => "UnsupportedMediaType",
            Self::TooLarge { .. } => "RequestEntityTooLarge",
            Self::TooMany { .. } => "TooManyRequests",
            Self::Expired(_) => "Expired",
            Self::TooNew(_) => "Timeout",
            Self::Unavailable { .. } => "ServiceUnavailable",
        }
    }

    fn subject(&self) -> Option<&Subject> {
        match self {
            Self::Forbidden { subject, .. }
            | Self::NotFound(subject)
            | Self::AlreadyExists(subject)
            | Self::Conflict { subject, .. }
            | Self::Invalid { subject, .. }
            | Self::TooMany { subject, .. } => Some(subject),
            _ => None,
        }
    }

    fn causes(&self) -> &[Cause] {
        match self {
            Self::Conflict { causes, .. }
            | Self::FieldConflict { causes }
            | Self::Invalid { causes, .. }
            | Self::TooMany { causes, .. } => causes,
            _ => &[],
        }
    }

    /// After how many seconds it is worth asking again; 0 says nothing.
    pub fn retry_after(&self) -> u32 {
        match self {
            Self::TooMany { retry_after, .. } => *retry_after,
            Self::TooNew(_) | Self::Unavailable { .. } => 1,
            _ => 0,
        }
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut details = serde_json::Map::new();
        if let Some(subject) = self.subject() {
            let fields = [("name", &subject.name), ("group", &subject.group), ("kind", &subject.kind)];
            let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
            details.extend(given.map(|(field, value)| (field.to_owned(), json!(value))));
        }
        let mut causes: Vec<Value> = self
            .causes()
            .iter()
            .map(|cause| json!({"reason": cause.fault.reason(), "message": cause.message, "field": cause.field}))
            .collect();
        if matches!(self, Self::TooNew(_)) {
            causes
                .push(json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}));
        }
        if !causes.is_empty() {
            details.insert("causes".to_owned(), causes.into());
        }
        if self.retry_after() > 0 {
            details.insert("retryAfterSeconds".to_owned(), self.retry_after().into());
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": self.reason(), "code": self.code().as_u16(),
        });
        if let (false, Some(status)) = (details.is_empty(), status.as_object_mut()) {
            status.insert("details".to_owned(), details.into());
        }
        status
    }
}

impl std::error::Error for Refusal {}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Unauthorized => f.write_str("Unauthorized"),
            Self::Forbidden { subject, why } if subject.name.is_empty() => {
                write!(f, "{} is forbidden: {why}", subject.kind)
            }
            Self::Forbidden { subject, why } => write!(f, "{} is forbidden: {why}", subject.named()),
            Self::NotFound(subject) => write!(f, "{} not found", subject.named()),
            Self::NoPath => f.write_str("the server could not find the requested resource"),
            Self::AlreadyExists(subject) => write!(f, "{} already exists", subject.named()),
            Self::Conflict { subject, why, .. } => {
                write!(f, "Operation cannot be fulfilled on {}: {why}", subject.named())
            }
            Self::FieldConflict { causes } => {
                write!(f, "Apply failed with {} conflicts:", causes.len())?;
                causes.iter().try_for_each(|cause| write!(f, " {}: {};", cause.message, cause.field))
            }
            Self::Invalid { subject, causes } => {
                write!(f, "{} is invalid: ", subject.named())?;
                for (at, cause) in causes.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{}: {}: {}", cause.field, cause.fault.words(), cause.message)?;
                }
                Ok(())
            }
            Self::MethodNotAllowed => {
                f.write_str("the server does not allow this method on the requested resource")
            }
            Self::NotAcceptable => f.write_str("only application/json can be answered here"),
            Self::UnsupportedMediaType { sent, readable } => {
                write!(f, "the body of the request is {sent:?}; this server reads {readable}")
            }
            Self::TooLarge { limit } => write!(f, "the body is larger than {limit} bytes"),
            Self::TooMany { why, .. } | Self::Unavailable { why } => f.write_str(why),
            Self::Expired(error) | Self::TooNew(error) => error.fmt(f),
        }
    }
}

/// The `Status` that answers a success without an object.
pub(crate) fn success(subject: &Subject, uid: Option<&str>) -> Value {
    let mut details = json!({"name": subject.name, "kind": subject.kind});
    if !subject.group.is_empty() {
        details["group"] = json!(subject.group);
    }
    if let Some(uid) = uid {
        details["uid"] = json!(uid);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
