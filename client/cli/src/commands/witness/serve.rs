//! A witness on its socket: HTTP/1.1, one call, bounded in every direction.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coffer_client::keys::SUBMISSION_BYTES_MAX;
use coffer_client::witness::{Reply, WitnessBook};
use coffer_model::Clock;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use crate::commands::{stdin_closed, until_told};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Connections at a time; a log needs one.
const CONNECTIONS_MAX: usize = 256;
/// How long a caller may take over the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long over its body.
const BODY_TIME: Duration = Duration::from_secs(10);

struct Shared {
    book: Mutex<WitnessBook>,
    clock: Arc<dyn Clock>,
}

pub(super) async fn run(
    context: &Context<'_>,
    book: WitnessBook,
    listen: SocketAddr,
    exit_with_stdin: bool,
) -> Result<Exit, Failure> {
    let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::new(format!("cannot listen on {listen}: {error}")).safe("nothing was started")
    })?;
    let (url, key) = (format!("http://{}/", listener.local_addr()?), book.public().to_string());
    context.output.object(&json!({ "ready": true, "url": url, "key": key }));
    context.output.text(format_args!("ready on {url} as {key}"));
    let shared = Arc::new(Shared { book: Mutex::new(book), clock: Arc::clone(&context.clock) });
    let stdin = exit_with_stdin.then(stdin_closed);
    tokio::select! {
        () = until_told(terminate, interrupt, stdin) => {}
        never = accept(listener, &shared) => match never {},
    }
    Ok(Exit::Success)
}

async fn accept(listener: TcpListener, shared: &Arc<Shared>) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others must end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(response(answer(&shared, request).await)) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .serve_connection(TokioIo::new(stream), answer);
            // A caller that breaks off has had its loss.
            let _ = served.await;
            drop(place);
        });
    }
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Reply {
    let plain = |status: StatusCode| Reply {
        status: status.as_u16(),
        content_type: "text/plain; charset=utf-8",
        body: format!("{status}\n"),
    };
    if request.uri().path() != "/add-checkpoint" {
        return plain(StatusCode::NOT_FOUND);
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = Limited::new(request.into_body(), SUBMISSION_BYTES_MAX).collect();
    let body = match tokio::time::timeout(BODY_TIME, body).await {
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT),
        Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Ok(body)) => body.to_bytes(),
    };
    let Ok(text) = String::from_utf8(body.to_vec()) else { return plain(StatusCode::BAD_REQUEST) };
    let shared = Arc::clone(shared);
    // It waits for the disk, and for its turn: one state after the other.
    let judged = tokio::task::spawn_blocking(move || {
        let seconds = shared.clock.now().0 / 1_000_000_000;
        shared.book.lock().unwrap_or_else(PoisonError::into_inner).add_checkpoint(&text, seconds)
    });
    judged.await.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR))
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = hyper::header::HeaderValue::from_static(reply.content_type);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
