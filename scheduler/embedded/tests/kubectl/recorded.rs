//! What `kubectl` 1.32 was seen to ask, and what it must be answered: replayed
//! against the service in this process, whether or not the machine has the binary.
//!
//! `tests/recorded/kubectl-1.32.json` holds, for each run of a contract test, its
//! commands in order, and of each command its requests: method, path, the
//! headers that matter, body. In place of what differs from run to run stand `{uid:PATH}`
//! and `{version:PATH}`, the uid and resource version of the object or list at that path.
//! `tests/recorded/record.py` makes the file.

use std::collections::HashMap;

use bytes::Bytes;
use coffer_embedded::Identity;
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::Value;
use tower::ServiceExt;

use crate::cluster::{PATIENCE, Populated};

#[derive(Deserialize)]
struct Run {
    commands: Vec<Command>,
}

#[derive(Deserialize)]
struct Command {
    words: String,
    requests: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    method: String,
    path: String,
    #[serde(default)]
    accept: Option<String>,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    body: Option<String>,
    status: u16,
    /// By JSON pointer, what the answer says.
    #[serde(default)]
    says: HashMap<String, Value>,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubectl_asks_is_answered_as_it_was() {
    let runs: Vec<Run> = serde_json::from_str(include_str!("../recorded/kubectl-1.32.json")).unwrap();
    let mut requests = 0;
    for run in runs {
        let home = Populated::start().await;
        for command in run.commands {
            for asked in command.requests {
                replay(&home, &command.words, &asked).await;
                requests += 1;
            }
        }
    }
    assert!(requests > 150, "only {requests} requests were replayed");
}

/// Asks until the answer is what it was. As `kubectl` does, what reads and what
/// evicts is asked again, since pods stop and budgets are counted meanwhile;
/// everything else is asked once.
async fn replay(home: &Populated, words: &str, asked: &Asked) {
    let again = asked.method == "GET" || asked.path.contains("/eviction");
    let begun = tokio::time::Instant::now();
    while let Err(wrong) = attempt(home, asked).await {
        let patient = again && begun.elapsed() < PATIENCE;
        assert!(patient, "kubectl {words}: {} {}\n{wrong}", asked.method, asked.path);
        tokio::task::yield_now().await;
    }
}

/// Asks once; says what is wrong with the answer.
async fn attempt(home: &Populated, asked: &Asked) -> Result<(), String> {
    let path = filled(home, &asked.path).await;
    let body = filled(home, asked.body.as_deref().unwrap_or_default()).await;
    let watch = path.contains("watch=true");
    let mut request = http::Request::builder().method(asked.method.as_str()).uri(&path);
    if let Some(accept) = &asked.accept {
        request = request.header("accept", accept);
    }
    if let Some(content_type) = &asked.content_type {
        request = request.header("content-type", content_type);
    }
    let (status, answer) = ask(home, request.body(Full::new(Bytes::from(body))).unwrap(), watch).await;
    let said = String::from_utf8_lossy(&answer).into_owned();
    if asked.status != status {
        return Err(format!("{status} in place of {}: {said}", asked.status));
    }
    if watch {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(&answer).unwrap_or_else(|_| Value::String(said.clone()));
    match asked.says.iter().find(|(at, expected)| value.pointer(at) != Some(*expected)) {
        Some((at, expected)) => Err(format!("{at} is not {expected}: {said}")),
        None => Ok(()),
    }
}

/// The answer's status and body; of a watch, which does not end, only that it began.
async fn ask(home: &Populated, request: http::Request<Full<Bytes>>, watch: bool) -> (u16, Bytes) {
    let operator = Identity::new("operator", ["system:masters"]);
    let answer = home.embedded().service(operator).oneshot(request).await.unwrap();
    let status = answer.status().as_u16();
    if watch && status == 200 {
        return (status, Bytes::new());
    }
    (status, answer.into_body().collect().await.unwrap().to_bytes())
}

/// The text with what stands for things of this run replaced by them.
async fn filled(home: &Populated, text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, placeholder)) = split_at_placeholder(rest) {
        out.push_str(before);
        let (inside, behind) = placeholder.split_once('}').expect("the end of a placeholder");
        let (what, path) = inside.split_once(':').expect("a placeholder with a path");
        let request = http::Request::get(path).body(Full::new(Bytes::new())).unwrap();
        let (_, answer) = ask(home, request, false).await;
        let object: Value = serde_json::from_slice(&answer).unwrap();
        let at = if what == "uid" { "/metadata/uid" } else { "/metadata/resourceVersion" };
        out.push_str(object.pointer(at).and_then(Value::as_str).unwrap_or("gone"));
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// What stands before the next placeholder, and what stands behind its brace.
fn split_at_placeholder(text: &str) -> Option<(&str, &str)> {
    let at = [text.find("{uid:"), text.find("{version:")].into_iter().flatten().min()?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}
