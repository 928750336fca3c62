//! The process that talks to a registry: what it has given up, when it ends, and
//! what the agent makes of one that lies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_agent::{Layer, PullError, PullLimits, PullProcess, Puller, Registry, RegistryConfig};

use super::picture::{MANIFEST, Picture};
use super::registry::{Served, streamed};
use super::{Node, had};
use crate::bench;
use crate::fleet::until_true;

/// The processes that talk to this registry, by their command lines.
fn talking_to(host: &str) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let ours = |path: &PathBuf| {
        let line = text(&path.join("cmdline"));
        line.contains("coffer-stage-pull") && line.contains(host)
    };
    processes.filter(ours).collect()
}

#[expect(clippy::disallowed_methods, reason = "a test looks at what the kernel says of a process")]
fn text(path: &Path) -> String {
    // One that has ended meanwhile has nothing to say.
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A registry that begins to answer and goes no further.
async fn holding(picture: &Picture) -> Served {
    Served::odd(picture, |_| Some(streamed(MANIFEST, futures::stream::pending()))).await
}

#[tokio::test]
async fn a_process_that_pulls_has_no_user_of_anybody_no_capability_and_no_file_to_write() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED HERE: what a process that pulls gives up; run the tests as root");
        return;
    }
    let picture = Picture::of(b"true");
    let registry = holding(&picture).await;
    let node = Node::asking(&[&registry.plain()]);
    let (reference, host) = (picture.at(&registry.host()), registry.host());
    let pulling = node.puller.pull(&reference, None, false);
    let looking = async {
        // It asks only after it has given up everything.
        until_true("it asks", || !registry.seen().is_empty()).await;
        let process = talking_to(&host).pop().unwrap();
        (text(&process.join("status")), text(&process.join("limits")))
    };
    let (status, limits) = tokio::select! {
        pulled = pulling => panic!("{pulled:?}"),
        looked = looking => looked,
    };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    if had().has(Layer::User) {
        let users = field("Uid");
        assert!(users.iter().all(|user| user.starts_with("1999999") && *user == users[0]), "{users:?}");
        assert_eq!(field("Gid"), users);
        assert!(field("Groups").is_empty());
    }
    if had().has(Layer::Capabilities) {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
    }
    assert_eq!(field("NoNewPrivs"), ["1"]);
    if had().has(Layer::Seccomp) {
        assert_eq!(field("Seccomp"), ["2"]);
    }
    let file_size = limits.lines().find(|line| line.starts_with("Max file size")).unwrap();
    assert_eq!(file_size.split_whitespace().nth(3), Some("0"), "{file_size}");
    until_true("nobody asks any more", || talking_to(&host).is_empty()).await;
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_any_more_ends_and_makes_way_for_the_next() {
    let picture = Picture::of(b"true");
    let registry = holding(&picture).await;
    let node = Node::asking(&[&registry.plain()]);
    let (reference, host) = (picture.at(&registry.host()), registry.host());
    for round in 1..=6 {
        let pulling = node.puller.pull(&reference, None, false);
        tokio::select! {
            pulled = pulling => panic!("{pulled:?}"),
            () = until_true("it asks again", || registry.seen().len() == round) => {}
        }
    }
    until_true("nobody asks any more", || talking_to(&host).is_empty()).await;
}

/// A program that says this in place of talking to a registry.
fn liar(directory: &Path, says: &str) -> PathBuf {
    let (text, path) = (directory.join("text"), directory.join("liar"));
    let script = format!("#!/bin/sh\nprintf '{says}' >&0\nwhile read -r line <&0; do :; done\n");
    let options = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&text);
    std::io::Write::write_all(&mut options.unwrap(), script.as_bytes()).unwrap();
    bench::place_program(&text, &path);
    path
}

#[tokio::test]
async fn a_process_that_was_taken_over_gets_nothing_kept_that_the_digest_does_not_name() {
    let picture = Picture::of(b"true");
    let registry = Served::honest(&picture).await;
    let directory = tempfile::tempdir().unwrap();
    let lies = [
        ("X", "a frame that is none"),
        ("D\\0\\0\\0\\1x", "data before its beginning"),
        ("B\\0\\0\\0\\1x", "a beginning that is no number"),
        ("B\\0\\0\\0\\10\\0\\0\\0\\0\\0\\0\\0\\7", "a beginning that was not asked for"),
        ("B\\0\\0\\0\\10\\0\\0\\0\\0\\0\\0\\0\\0D\\0\\0\\0\\0", "data without bytes"),
        ("D\\377\\377\\377\\377", "a frame without an end"),
        ("F\\0\\0\\0\\2{}", "a reason that is none"),
        ("E\\0\\0\\0\\0", "an end without a beginning"),
    ];
    for (says, what) in lies {
        let node = Node::running(liar(directory.path(), says), &registry);
        let error = node.pull(&registry, &picture).await.unwrap_err();
        assert!(matches!(error, PullError::Astray), "{what}: {error:?}");
        assert!(node.blobs().is_empty());
    }
    let empty = "B\\0\\0\\0\\10\\0\\0\\0\\0\\0\\0\\0\\0E\\0\\0\\0\\0";
    let node = Node::running(liar(directory.path(), empty), &registry);
    let error = node.pull(&registry, &picture).await.unwrap_err();
    assert!(matches!(error, PullError::Forged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_process_that_brings_nothing_in_its_time_is_ended_by_the_agent() {
    let picture = Picture::of(b"true");
    let registry = Served::honest(&picture).await;
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::asking(&[]);
    let limits = PullLimits { patience: Duration::from_millis(300), pace: u64::MAX, ..PullLimits::default() };
    let registries = vec![Registry::parse(&registry.plain()).unwrap()];
    let config = RegistryConfig { registries, limits, ..RegistryConfig::default() };
    let program = liar(directory.path(), "B\\0\\0\\0\\10\\0\\0\\0\\0\\0\\0\\0\\0");
    node.puller =
        Puller::new(config, PullProcess { program, ..super::pull_process() }, node.directory.path());
    let error = node.pull(&registry, &picture).await.unwrap_err();
    assert!(matches!(error, PullError::Late(_)), "{error:?}");
}

#[tokio::test]
async fn a_process_that_ends_or_cannot_be_started_is_told() {
    let picture = Picture::of(b"true");
    let registry = Served::honest(&picture).await;
    let node = Node::running("/bin/false".into(), &registry);
    let error = node.pull(&registry, &picture).await.unwrap_err();
    assert!(matches!(error, PullError::BrokeOff(_)), "{error:?}");
    let node = Node::running("/not-there".into(), &registry);
    let error = node.pull(&registry, &picture).await.unwrap_err();
    assert!(matches!(error, PullError::Process(_)), "{error:?}");
    assert!(registry.seen().is_empty());
}
