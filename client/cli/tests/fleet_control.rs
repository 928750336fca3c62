//! What `coffer fleet control` is handed before it leads anything: the authority
//! of the pods' certificates.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and reads files")]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::path::Path;
use std::process::Output;

use program::command;

fn coffer(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().unwrap()
}

/// Where nobody answers.
const KUBECONFIG: &str = r#"{
    "apiVersion": "v1", "kind": "Config", "current-context": "c",
    "clusters": [{ "name": "c", "cluster": { "server": "https://127.0.0.1:1" } }],
    "users": [{ "name": "u", "user": {} }],
    "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }]
}"#;

#[test]
fn a_control_plane_makes_no_authority_in_place_of_one_that_it_was_to_be_handed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kubeconfig"), KUBECONFIG).unwrap();
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let control = |authority: &str| {
        let flags =
            ["fleet", "control", "--kubeconfig", "kubeconfig", "--trust", key, "--authority", authority];
        let output = coffer(dir.path(), &flags);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = control("missing");
    assert!(
        said.contains("no site authority in missing") && said.contains("coffer site authority"),
        "{said}"
    );
    assert!(!dir.path().join("missing").exists());
    // One without the certificate that pods are to let in.
    let made = coffer(dir.path(), &["site", "authority", "--authority", "whole", "--data-dir", "data"]);
    assert!(made.status.success(), "{made:?}");
    fs::create_dir(dir.path().join("half")).unwrap();
    for name in ["ca.pem", "ca.key"] {
        fs::copy(dir.path().join("whole").join(name), dir.path().join("half").join(name)).unwrap();
    }
    let said = control("half");
    assert!(said.contains("half/certificate.pem"), "{said}");
}

#[test]
fn an_authority_is_made_once_with_what_the_service_shows_and_what_a_cluster_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let made = || {
        let output = coffer(dir.path(), &["site", "authority", "--authority", "whole", "--data-dir", "data"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("create secret generic site-authority --from-file=whole/ca.pem"), "{text}");
        assert!(!text.contains("key.pem"), "the service's own key is nobody else's: {text}");
        fs::read(dir.path().join("whole/ca.pem")).unwrap()
    };
    let first = made();
    assert_eq!(made(), first);
    let shown = dir.path().join("data/credentials/pods");
    assert_eq!(fs::read(shown.join("ca.pem")).unwrap(), first);
    assert!(shown.join("key.pem").exists());
}
