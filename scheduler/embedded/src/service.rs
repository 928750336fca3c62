//! The API as a service: a request is understood, its caller is asked for, it
//! is carried out, it is written down. In process and behind TLS alike.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{Response, StatusCode};
use hyper::body::Body as HttpBody;
use serde_json::{Value, json};

use crate::api::Api;
use crate::audit::AuditEvent;
use crate::authorize::{Ask, authorize, authorize_body, is_restricted};
use crate::identity::Identity;
use crate::kinds::Verb;
use crate::refusal::Refusal;
use crate::reply::{Body, Reply};
use crate::request::{Objects, Part, Request, Target};
use crate::write::{DeleteOptions, Patch, Write, Written};
use crate::{body, discovery, openapi, read, review, watch};

/// The API for one caller.
#[derive(Clone)]
pub struct Service {
    api: Arc<Api>,
    identity: Arc<Identity>,
}

impl Service {
    pub(crate) fn new(api: Arc<Api>, identity: Identity) -> Self {
        Self { api, identity: Arc::new(identity) }
    }
}

impl<B> tower::Service<http::Request<B>> for Service
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (api, identity) = (Arc::clone(&self.api), Arc::clone(&self.identity));
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let response = match Request::parse(&head, &api.registry) {
                Ok(parsed) => answer(&api, &identity, &head, &parsed, body).await,
                Err(refusal) => Reply::from(refusal).into(),
            };
            Ok(response)
        })
    }
}

async fn answer<B>(
    api: &Arc<Api>,
    identity: &Identity,
    head: &http::request::Parts,
    request: &Request,
    body: B,
) -> Response<Body>
where
    B: HttpBody,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match &request.target {
        Target::Health => {
            Reply::bytes(StatusCode::OK, Bytes::from_static(b"ok")).media_type("text/plain").into()
        }
        Target::Discovery(page) => discovery::answer(page, &request.accept, &api.registry).into(),
        Target::OpenApi(page) => openapi::answer(page, &api.registry).into(),
        Target::Objects(objects) => {
            let dry_run = AtomicBool::new(request.query.dry_run);
            let call = Call { api, identity, head, request, objects, named: OnceLock::new(), dry_run };
            let outcome = call.carry_out(body).await;
            let status = outcome.as_ref().map_or_else(|refusal| refusal.code(), Response::status);
            call.write_down(status);
            outcome.unwrap_or_else(|refusal| Reply::from(refusal).into())
        }
    }
}

/// One request about objects.
struct Call<'a> {
    api: &'a Arc<Api>,
    identity: &'a Identity,
    head: &'a http::request::Parts,
    request: &'a Request,
    objects: &'a Objects,
    /// The name of the object, where the path does not say it.
    named: OnceLock<String>,
    /// Whether nothing is changed: the query says it, or the options in the body.
    dry_run: AtomicBool,
}

impl Call<'_> {
    async fn carry_out<B>(&self, body: B) -> Result<Response<Body>, Refusal>
    where
        B: HttpBody,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (api, objects, query, accept) =
            (self.api, self.objects, &self.request.query, &self.request.accept);
        authorize(api, self.identity, &Ask::of(objects, query))?;
        match (objects.verb, objects.part) {
            (Verb::Watch, _) => return watch::watch(api, objects, query, accept),
            (Verb::Get, Some(Part::Log)) => return api.logs(objects, query).await,
            (Verb::Get | Verb::List, _) if objects.resource.kind.group == "metrics.k8s.io" => {
                return crate::metrics::answer(api, objects, query, accept).await.map(Into::into);
            }
            (Verb::Get, Some(Part::Scale)) => return api.get_scale(objects).map(Into::into),
            (Verb::Get, _) => return read::get(api, objects, query, accept).map(Into::into),
            (Verb::List, _) => return read::list(api, objects, query, accept).map(Into::into),
            (Verb::Create | Verb::Update | Verb::Patch | Verb::Delete | Verb::DeleteCollection, _) => {}
        }
        self.expect_audit()?;
        let bytes = body::read(body).await?;
        let write = Write {
            api,
            objects,
            query,
            identity: self.identity,
            manager: query.manager.clone().unwrap_or_else(|| self.manager()),
            now: api.clock.now(),
        };
        let written = self.change(&write, &bytes).await?;
        drop(self.named.set(written.object.name().to_owned()));
        Ok(Reply::from(written).into())
    }

    /// What nobody could be asked about later is not done.
    fn expect_audit(&self) -> Result<(), Refusal> {
        let routine = *self.identity == Identity::inside()
            || (self.identity.node().is_some() && is_restricted(self.identity));
        if routine || self.api.audit.can_record() {
            return Ok(());
        }
        let why =
            "the audit log cannot be written, so that nothing is changed; make room for it, or mend its disk";
        Err(Refusal::Unavailable { why: why.to_owned() })
    }

    async fn change(&self, write: &Write<'_>, bytes: &[u8]) -> Result<Written, Refusal> {
        let content_type = self.request.content_type.as_str();
        let object = || body::object(content_type, bytes);
        match (self.objects.verb, self.objects.part) {
            (Verb::Create, _)
                if self.objects.resource.is("authorization.k8s.io", "selfsubjectaccessreviews") =>
            {
                review::answer(self.api, self.identity, object()?)
            }
            (Verb::Create, part) => {
                let object = object()?;
                authorize_body(self.identity, self.objects, &object)?;
                match part {
                    Some(Part::Binding) => write.bind(&object).await,
                    Some(Part::Eviction) => {
                        let options = object.get("deleteOptions").cloned().unwrap_or_else(|| json!({}));
                        write.evict(&object, &self.options(&options)?).await
                    }
                    _ => write.create(object).await,
                }
            }
            (Verb::Update, Some(Part::Scale)) => write.update_scale(object()?).await,
            (Verb::Update, _) => write.update(object()?).await,
            (Verb::Patch, part) => {
                let patch = Patch::parse(content_type, bytes)?;
                if part == Some(Part::Scale) {
                    write.patch_scale(&patch).await
                } else {
                    write.patch(&patch).await
                }
            }
            (Verb::Delete | Verb::DeleteCollection, _) => {
                let options = self.options(&if bytes.is_empty() { json!({}) } else { object()? })?;
                if self.objects.verb == Verb::Delete {
                    write.delete(&options).await
                } else {
                    read::expect_selectable(&self.objects.resource, write.query)?;
                    write.delete_collection(&options).await
                }
            }
            (Verb::Get | Verb::List | Verb::Watch, _) => Err(Refusal::MethodNotAllowed),
        }
    }

    /// What a body asks for of a deletion.
    fn options(&self, body: &Value) -> Result<DeleteOptions, Refusal> {
        let options = DeleteOptions::parse(body)?;
        self.dry_run.fetch_or(options.dry_run, Ordering::Relaxed);
        Ok(options)
    }

    /// Who owns the fields, if the request does not say: the program that sent it.
    fn manager(&self) -> String {
        let agent =
            self.head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let name: String = agent.split(['/', ' ']).next().unwrap_or_default().chars().take(128).collect();
        if name.is_empty() { "unknown".to_owned() } else { name }
    }

    fn write_down(&self, status: StatusCode) {
        let reads = matches!(self.objects.verb, Verb::Get | Verb::List | Verb::Watch);
        if reads && status != StatusCode::FORBIDDEN {
            return;
        }
        self.api.audit.record(AuditEvent {
            at: self.api.clock.now(),
            user: self.identity.user().to_owned(),
            groups: self.identity.groups().to_vec(),
            verb: self.objects.verb.as_str(),
            group: self.objects.resource.kind.group.clone(),
            resource: self.objects.words(),
            namespace: self.objects.namespace.clone(),
            name: self.objects.name.as_ref().or_else(|| self.named.get()).cloned().unwrap_or_default(),
            dry_run: self.dry_run.load(Ordering::Relaxed),
            status,
            source: self.identity.source(),
        });
    }
}
