//! Watch: the changes of a resource as lines of JSON, until the client has
//! enough, its time is over, or it is too slow for the history that is kept.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, Sleep, interval, sleep};

use crate::api::{Api, view, view_bytes};
use crate::object::set_meta;
use crate::read::{expect_selectable, form, is_selected, line, partial, partial_bytes, table_options};
use crate::refusal::{Malformed, Refusal};
use crate::registry::Resource;
use crate::reply::{Body, Endless, JSON, stream};
use crate::request::{Accept, Form, Objects, Query, VersionMatch};
use crate::store::{Event, EventKind, HistoryError, Stored, Watched, Watcher};
use crate::table::render;

/// How long a watch lasts that names no time.
const LASTING: u32 = 3600;
/// How often a quiet watch says up to where it knows everything.
const BOOKMARK: Duration = Duration::from_secs(30);
/// Objects of the beginning that one piece carries.
const PIECE: usize = 128;

/// Starts a watch.
pub(crate) fn watch(
    api: &Arc<Api>,
    objects: &Objects,
    query: &Query,
    accept: &Accept,
) -> Result<Response<Body>, Refusal> {
    let form = form(accept)?;
    expect_selectable(&objects.resource, query)?;
    if query.initial && (query.matching != Some(VersionMatch::NotOlderThan) || !query.bookmarks) {
        let why = "sendInitialEvents needs resourceVersionMatch=NotOlderThan and allowWatchBookmarks=true";
        return Err(Malformed::Unmeaning(why).into());
    }
    let namespace = Some(objects.namespace.clone()).filter(|namespace| !namespace.is_empty());
    let store = &objects.resource.store;
    let from = query.revision.filter(|revision| *revision > 0 && !query.initial);
    let (present, watcher) = match from {
        None => {
            let (present, watcher) = api.store.snapshot(store, namespace.as_deref());
            (present, Ok(watcher))
        }
        Some(revision) => (Vec::new(), api.store.watch(store, revision)),
    };
    let mut bookmarks = interval(BOOKMARK);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    bookmarks.reset();
    let watching = Watching {
        api: Arc::clone(api),
        resource: Arc::clone(&objects.resource),
        query: query.clone(),
        namespace,
        form,
        headers: true,
        end_of_present: query.initial.then(|| watcher.as_ref().map_or(0, Watcher::cursor)),
        present: present.into(),
        watcher,
        deadline: Box::pin(sleep(Duration::from_secs(query.timeout.unwrap_or(LASTING).into()))),
        bookmarks,
        ended: false,
    };
    let lines = futures::stream::unfold(watching, |mut watching| async move {
        let piece = watching.next().await?;
        Some((Ok(piece), watching))
    });
    let mut response = stream(JSON, lines);
    response.extensions_mut().insert(Endless);
    Ok(response)
}

struct Watching {
    api: Arc<Api>,
    resource: Arc<Resource>,
    query: Query,
    namespace: Option<String>,
    form: Form,
    /// Whether the next table still has to name its columns.
    headers: bool,
    /// The revision of the bookmark that ends the present.
    end_of_present: Option<u64>,
    present: VecDeque<Arc<Stored>>,
    watcher: Result<Watcher, HistoryError>,
    deadline: Pin<Box<Sleep>>,
    bookmarks: Interval,
    ended: bool,
}

impl Watching {
    /// The next lines; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        while !self.present.is_empty() {
            let lines = self.present_lines();
            if !lines.is_empty() {
                return Some(lines);
            }
        }
        if let Some(revision) = self.end_of_present.take() {
            return Some(self.bookmark(revision, true));
        }
        loop {
            let watcher = match &mut self.watcher {
                Ok(watcher) => watcher,
                Err(error) => {
                    let error = *error;
                    return Some(self.expired(error));
                }
            };
            tokio::select! {
                biased;
                () = &mut self.deadline => {
                    self.ended = true;
                    let revision = watcher.cursor();
                    return self.query.bookmarks.then(|| self.bookmark(revision, false));
                }
                seen = watcher.next() => match seen {
                    Watched::Events(events, _) => {
                        let lines = self.lines(&events);
                        if !lines.is_empty() {
                            return Some(lines);
                        }
                    }
                    Watched::Overtaken(error) => return Some(self.expired(error)),
                    Watched::Closed => return None,
                },
                _ = self.bookmarks.tick(), if self.query.bookmarks => {
                    let revision = watcher.cursor();
                    return Some(self.bookmark(revision, false));
                }
            }
        }
    }

    fn present_lines(&mut self) -> Bytes {
        let mut lines = BytesMut::new();
        for _ in 0..PIECE {
            let Some(stored) = self.present.pop_front() else { break };
            if is_selected(&self.query, &stored) {
                lines.extend_from_slice(&line("ADDED", &self.shown(&stored)));
            }
        }
        lines.freeze()
    }

    fn lines(&mut self, events: &[Event]) -> Bytes {
        let mut lines = BytesMut::new();
        for event in events {
            let here =
                |stored: &Stored| self.namespace.as_deref().is_none_or(|name| name == &*stored.key.namespace);
            if !here(&event.object) {
                continue;
            }
            let was = event.previous.as_ref().filter(|previous| is_selected(&self.query, previous));
            let is = event.kind != EventKind::Deleted && is_selected(&self.query, &event.object);
            let piece = match (was, is) {
                (None, true) => line("ADDED", &self.shown(&event.object)),
                (Some(_), true) => line("MODIFIED", &self.shown(&event.object)),
                (Some(_), false) if event.kind == EventKind::Deleted => {
                    line("DELETED", &self.shown(&event.object))
                }
                (Some(previous), false) => {
                    // It does not fit any more: shown as it last fitted, at the revision of the change.
                    let mut object = view(&self.resource, previous);
                    set_meta(&mut object, "resourceVersion", Some(event.object.revision.to_string().into()));
                    line("DELETED", &self.formed(object))
                }
                (None, false) => continue,
            };
            lines.extend_from_slice(&piece);
        }
        lines.freeze()
    }

    fn shown(&mut self, stored: &Stored) -> Bytes {
        match self.form {
            Form::Plain | Form::Discovery(_) => view_bytes(&self.resource, stored),
            Form::Partial => partial_bytes(&self.resource, stored),
            Form::Table(_) => self.formed(view(&self.resource, stored)),
        }
    }

    fn formed(&mut self, object: Value) -> Bytes {
        match self.form {
            Form::Table(version) => {
                let mut options = table_options(&self.query, version);
                options.no_headers = !self.headers;
                self.headers = false;
                let metadata = json!({"resourceVersion": crate::object::revision(&object)});
                render(&self.resource, &[object], metadata, &options, self.api.clock.now()).to_string().into()
            }
            Form::Partial => partial(&object).to_string().into(),
            Form::Plain | Form::Discovery(_) => object.to_string().into(),
        }
    }

    fn bookmark(&self, revision: u64, ends_present: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_present {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let kind = &self.resource.kind;
        let object = match self.form {
            Form::Table(version) => json!({
                "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata,
                "columnDefinitions": [], "rows": [],
            }),
            Form::Partial => partial(&json!({"metadata": metadata})),
            Form::Plain | Form::Discovery(_) => {
                json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata})
            }
        };
        line("BOOKMARK", object.to_string().as_bytes())
    }

    fn expired(&mut self, error: HistoryError) -> Bytes {
        self.ended = true;
        // A revision of the future comes from another history: the client must list again, too.
        let asked = match error {
            HistoryError::Expired { .. } => error,
            HistoryError::Future { asked, newest } => HistoryError::Expired { asked, oldest: newest },
        };
        line("ERROR", Refusal::Expired(asked).status().to_string().as_bytes())
    }
}
