//! A registry that other people wrote, Debian's `docker-registry`, where it is
//! installed: an image is pushed to it by its interface for uploads, pulled, and
//! run. Where it is not, that is said.

use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use coffer_agent::{FetchError, ImageDigest, Login};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tempfile::TempDir;

use super::picture::Picture;
use super::{Node, STUCK};

/// Name and password that the registry knows, and what it keeps of them (bcrypt).
const LOGIN: &str = "alice:correct horse";
const KEPT: &str = "alice:$2b$04$gpnMg4R6URROZLZ68CsysepAo9Miq.qeR13hEjuUecpcccdgESNSa\n";

/// A registry of its own, that ends with the test.
pub(super) struct Real {
    child: Child,
    host: String,
    _directory: TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Real {
    /// `None`, with a word on standard error, where there is no such program.
    pub(super) async fn start(test: &str, with_login: bool) -> Option<Self> {
        if Command::new("docker-registry").arg("--version").output().is_err() {
            eprintln!("NOT TESTED HERE: {test}: docker-registry is not installed");
            return None;
        }
        // A port that was free a moment ago; who took it meanwhile is told by the registry's end.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut config = json!({
            "version": 0.1, "log": { "level": "error" }, "http": { "addr": host },
            "storage": { "filesystem": { "rootdirectory": path("storage") } },
        });
        if with_login {
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": path("users") } });
        }
        // YAML, of which JSON is a part.
        for (name, text) in [("config.yml", config.to_string()), ("users", KEPT.to_owned())] {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path(name));
            std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
        }
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let mut real = Self { child: command.spawn().unwrap(), host, _directory: directory };
        let listens = async {
            while tokio::net::TcpStream::connect(&real.host).await.is_err() {
                assert!(real.child.try_wait().unwrap().is_none(), "the registry ended");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(STUCK, listens).await.unwrap();
        Some(real)
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn plain(&self) -> String {
        format!("http://{}", self.host)
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        kind: &str,
        body: &[u8],
    ) -> hyper::Response<hyper::body::Incoming> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let login = format!("Basic {}", BASE64_STANDARD.encode(LOGIN));
        let request = Request::builder().method(method).uri(url).header("content-type", kind);
        let request = request.header("authorization", login).body(Full::new(Bytes::copy_from_slice(body)));
        client.request(request.unwrap()).await.unwrap()
    }

    /// Uploads every blob, then the documents, the outermost last.
    pub(super) async fn push(&self, picture: &Picture) {
        let base = format!("{}/v2/coffer/site", self.plain());
        for blob in &picture.blobs {
            let begun = self.send(Method::POST, &format!("{base}/blobs/uploads/"), "x/y", b"").await;
            assert_eq!(begun.status(), StatusCode::ACCEPTED);
            let location = begun.headers()["location"].to_str().unwrap().to_owned();
            let join = if location.contains('?') { '&' } else { '?' };
            let url = format!("{location}{join}digest={}", ImageDigest::of(blob));
            let done = self.send(Method::PUT, &url, "application/octet-stream", blob).await;
            assert_eq!(done.status(), StatusCode::CREATED);
        }
        for (kind, document) in picture.documents.iter().rev() {
            let url = format!("{base}/manifests/{}", ImageDigest::of(document));
            let done = self.send(Method::PUT, &url, kind, document).await;
            let status = done.status();
            let said = done.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&said));
        }
    }
}

#[tokio::test]
async fn an_image_is_pulled_from_a_registry_that_other_people_wrote() {
    let Some(real) = Real::start("a pull from a real registry", false).await else { return };
    let picture = Picture::of(b"true");
    real.push(&picture).await;
    let node = Node::asking(&[&real.plain()]);
    let reference = picture.at(real.host());
    let pulled = node.puller.pull(&reference, None, false).await.unwrap();
    assert_eq!(pulled.bytes, pulled.came);
    assert_eq!(node.ready(&reference).unwrap().entrypoint, ["/bin/site"]);
    let absent = Picture::of(b"never pushed").at(real.host());
    let error = super::fetch(node.puller.pull(&absent, None, false).await);
    assert!(matches!(error, FetchError::Absent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_registry_that_other_people_wrote_gives_its_image_to_a_login_only() {
    let Some(real) = Real::start("a pull with a login from a real registry", true).await else { return };
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let picture = Picture::of(b"true");
    real.push(&picture).await;
    let node = Node::asking(&[&real.plain()]);
    let reference = picture.at(real.host());
    let source = node.puller.source(&reference).unwrap();
    let login = |both: &str| {
        let list = json!({ "auths": { (real.host()): { "auth": BASE64_STANDARD.encode(both) } } });
        Login::find(&serde_json::to_vec(&list).unwrap(), &source).unwrap()
    };
    for wrong in [None, login("alice:wrong"), login("bob:correct horse")] {
        let error = super::fetch(node.puller.pull(&reference, wrong, false).await);
        assert!(matches!(error, FetchError::Denied { status: 401, .. }), "{error:?}");
    }
    node.puller.pull(&reference, login(LOGIN), false).await.unwrap();
    node.ready(&reference).unwrap();
    // The index that it is given next names it beside one for another machine, which it wants to have too.
    let other = Picture::of(b"for another machine");
    real.push(&other).await;
    let index = Picture::index(&[(&other, "s390x"), (&picture, arch)]);
    real.push(&index).await;
    let reference = index.at(real.host());
    let pulled = node.puller.pull(&reference, login(LOGIN), false).await.unwrap();
    assert_eq!(pulled.came, 0, "all of it was there");
    node.ready(&reference).unwrap();
}
