//! Get and list: an object or a page of them, in the form that the client takes.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use coffer_model::Timestamp;
use http::StatusCode;
use serde_json::{Value, json};

use crate::api::{Api, is_other_view, view, view_bytes};
use crate::refusal::{Malformed, Refusal};
use crate::registry::Resource;
use crate::reply::Reply;
use crate::request::{Accept, Form, Objects, Query, VersionMatch};
use crate::rules;
use crate::store::{HistoryError, PageRequest, Stored};
use crate::table::{TableOptions, render};

/// The form of the answer; none fits if the client takes nothing but what this server does not give.
pub(crate) fn form(accept: &Accept) -> Result<Form, Refusal> {
    let fits = |form| matches!(form, Form::Plain | Form::Table(_) | Form::Partial);
    accept.first(fits).ok_or(Refusal::NotAcceptable)
}

/// One object.
pub(crate) fn get(api: &Api, objects: &Objects, query: &Query, accept: &Accept) -> Result<Reply, Refusal> {
    let form = form(accept)?;
    expect_known(api, query.revision)?;
    let resource = &objects.resource;
    let name = objects.name.as_deref().unwrap_or_default();
    let key = crate::store::Key::new(&resource.store, &objects.namespace, name);
    let stored = api.store.get(&key).ok_or_else(|| Refusal::NotFound(resource.subject(name)))?;
    Ok(match form {
        Form::Table(version) => {
            let metadata = json!({"resourceVersion": stored.revision.to_string()});
            let options = table_options(query, version);
            Reply::json(&render(resource, &[view(resource, &stored)], metadata, &options, api.clock.now()))
        }
        Form::Partial => Reply::bytes(StatusCode::OK, partial_bytes(resource, &stored)),
        Form::Plain | Form::Discovery(_) => Reply::bytes(StatusCode::OK, view_bytes(resource, &stored)),
    })
}

/// A page of objects, all as of one revision.
pub(crate) fn list(api: &Api, objects: &Objects, query: &Query, accept: &Accept) -> Result<Reply, Refusal> {
    let form = form(accept)?;
    expect_selectable(&objects.resource, query)?;
    let resource = &objects.resource;
    let namespace = Some(objects.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let (revision, after) = match query.continues.as_deref() {
        Some(token) => {
            let (revision, namespace, name) = parse_token(token)?;
            (Some(revision), Some((namespace, name)))
        }
        None => {
            expect_known(api, query.revision)?;
            let exact = query.matching == Some(VersionMatch::Exact);
            (query.revision.filter(|revision| exact && *revision > 0), None)
        }
    };
    let page = api.store.page(&PageRequest { resource: &resource.store, namespace, revision, after })?;
    let fits = |stored: &&Arc<Stored>| is_selected(query, stored);
    let mut selected = page.objects.iter().filter(fits);
    let limit = if query.limit == 0 { usize::MAX } else { query.limit };
    let shown: Vec<&Arc<Stored>> = selected.by_ref().take(limit).collect();
    let left = selected.count();
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let (true, Some(last)) = (left > 0, shown.last()) {
        metadata["continue"] = json!(format!("{}/{}/{}", page.revision, last.key.namespace, last.key.name));
        if query.labels.is_empty() && query.fields.is_empty() {
            metadata["remainingItemCount"] = json!(left);
        }
    }
    Ok(answer(resource, &shown, &metadata, query, form, api.clock.now()))
}

fn answer(
    resource: &Resource,
    shown: &[&Arc<Stored>],
    metadata: &Value,
    query: &Query,
    form: Form,
    now: Timestamp,
) -> Reply {
    match form {
        Form::Table(version) => {
            let objects: Vec<Value> = shown.iter().map(|stored| view(resource, stored)).collect();
            let options = table_options(query, version);
            Reply::json(&render(resource, &objects, metadata.clone(), &options, now))
        }
        Form::Partial => {
            let items: Vec<Value> = shown.iter().map(|stored| partial(&view(resource, stored))).collect();
            Reply::json(&json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items,
            }))
        }
        Form::Plain | Form::Discovery(_) => {
            let kind = &resource.kind;
            let head =
                json!({"kind": kind.list_kind, "apiVersion": kind.api_version(), "metadata": metadata})
                    .to_string();
            let mut body = BytesMut::with_capacity(
                head.len() + shown.iter().map(|one| one.json.len() + 1).sum::<usize>(),
            );
            body.put_slice(head.strip_suffix('}').unwrap_or(&head).as_bytes());
            body.put_slice(b",\"items\":[");
            for (at, stored) in shown.iter().enumerate() {
                if at > 0 {
                    body.put_u8(b',');
                }
                body.put(view_bytes(resource, stored));
            }
            body.put_slice(b"]}");
            Reply::bytes(StatusCode::OK, body.freeze())
        }
    }
}

/// Whether labels and fields of an object fit the request.
pub(crate) fn is_selected(query: &Query, stored: &Stored) -> bool {
    query.labels.fits(|name| stored.label(name)) && query.fields.fits(stored)
}

/// Only some fields can be selected by.
pub(crate) fn expect_selectable(resource: &Resource, query: &Query) -> Result<(), Refusal> {
    let allowed = rules::selectable(resource);
    for field in query.fields.fields() {
        let known = matches!(field, "metadata.name" | "metadata.namespace") || allowed.contains(&field);
        if !known {
            return Err(Malformed::FieldLabel { field: field.chars().take(64).collect() }.into());
        }
    }
    Ok(())
}

/// What a revision in the future is answered with.
fn expect_known(api: &Api, revision: Option<u64>) -> Result<(), Refusal> {
    let newest = api.store.revision();
    match revision {
        Some(asked) if asked > newest => Err(HistoryError::Future { asked, newest }.into()),
        _ => Ok(()),
    }
}

pub(crate) fn table_options(query: &Query, version: &'static str) -> TableOptions {
    TableOptions { version, include_object: query.include_object.clone(), no_headers: false }
}

/// The metadata of an object, for clients that want no more.
pub(crate) fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.get("metadata")})
}

/// The same as bytes. Where the metadata lies in what is stored, nothing else is read.
pub(crate) fn partial_bytes(resource: &Resource, stored: &Stored) -> Bytes {
    match stored.metadata().filter(|_| !is_other_view(resource)) {
        Some(metadata) => {
            let head = br#"{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata","metadata":"#;
            [head, metadata, b"}"].concat().into()
        }
        None => partial(&view(resource, stored)).to_string().into(),
    }
}

/// Where the next page begins: revision, namespace and name of the last one shown.
fn parse_token(token: &str) -> Result<(u64, &str, &str), Refusal> {
    let mut parts = token.splitn(3, '/');
    let revision = parts.next().and_then(|revision| revision.parse().ok());
    match (revision, parts.next(), parts.next()) {
        (Some(revision), Some(namespace), Some(name)) => Ok((revision, namespace, name)),
        _ => Err(Malformed::Continue.into()),
    }
}

/// The same bytes as a line of a watch.
pub(crate) fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(object.len() + kind.len() + 24);
    line.put_slice(b"{\"type\":\"");
    line.put_slice(kind.as_bytes());
    line.put_slice(b"\",\"object\":");
    line.put_slice(object);
    line.put_slice(b"}\n");
    line.freeze()
}
