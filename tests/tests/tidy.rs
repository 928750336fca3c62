//! The rules of the workspace, each a test whose name is the rule. A failure
//! says what to do about it. `STYLE.md` lists them beside clippy's.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a rule that cannot be checked is a failed rule")]

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/sources.rs"]
mod sources;

use std::collections::BTreeSet;

use crates::{Crates, NORMAL_AND_BUILD};
use sources::{Source, Tree};

/// Who may depend on whom, in `[dependencies]` and `[build-dependencies]`,
/// without the prefix `coffer-`. A crate that is not here may not exist.
/// `?` marks a dependency that only a cargo feature brings in.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("keys", &["model"]),
    ("regions", &["model"]),
    ("proto", &["model"]),
    ("custody", &["keys", "model"]),
    ("site", &["regions", "proto", "model"]),
    ("catalog", &["model", "regions"]),
    ("server", &["model", "keys", "regions", "proto", "custody", "site", "catalog"]),
    ("client", &["model", "proto", "keys"]),
    (
        "cli",
        &[
            "client",
            "custody",
            "model",
            "proto",
            "server?",
            "site?",
            "regions?",
            "scheduler?",
            "control?",
            "embedded?",
            "agent?",
        ],
    ),
    ("scheduler", &["model", "proto"]),
    ("events", &[]),
    ("control", &["scheduler", "events", "model", "proto"]),
    ("embedded", &["scheduler", "model", "proto"]),
    ("agent", &["scheduler", "events", "model", "proto"]),
    (
        "tests",
        &[
            "model",
            "keys",
            "regions",
            "proto",
            "custody",
            "site",
            "catalog",
            "server",
            "client",
            "cli",
            "scheduler",
            "control",
            "embedded",
            "agent",
        ],
    ),
];

/// What the missing arrows say: never reached, however long the way.
const NEVER_REACH: &[(&str, &[&str])] = &[
    ("site", &["coffer-keys", "coffer-custody", "coffer-server", "coffer-client"]),
    ("catalog", &["coffer-keys", "coffer-custody"]),
    ("client", &["coffer-server", "coffer-regions", "coffer-site", "coffer-catalog"]),
    ("model", RUNTIMES),
    ("keys", RUNTIMES),
    ("regions", RUNTIMES),
    ("scheduler", RUNTIMES),
    ("scheduler", &["coffer-keys", "coffer-custody", "coffer-server", "coffer-site", "coffer-regions"]),
];

/// Crates that run tasks, wait for sockets or open files: not for pure rooms.
const RUNTIMES: &[&str] =
    &["tokio", "mio", "async-std", "smol", "async-io", "hyper", "tonic", "rusqlite", "rayon", "tempfile"];

/// Crates that encrypt. A site's only ways to one are its TLS, and the client
/// of S3, whose every request must be signed with an HMAC that it takes from
/// there. No code of a site names a cipher.
const AEADS: &[&str] = &[
    "aead",
    "aes-gcm",
    "aes-gcm-siv",
    "aes-siv",
    "ascon-aead",
    "aws-lc-rs",
    "aws-lc-sys",
    "boring",
    "chacha20poly1305",
    "crypto_box",
    "crypto_secretbox",
    "dryoc",
    "libsodium-sys",
    "openssl",
    "openssl-sys",
    "orion",
    "ring",
    "xsalsa20poly1305",
];

/// Crates that the design decided against, and what it uses in their place.
const NOT_THESE: &[(&str, &str)] = &[
    ("sharks", "vsss-rs: `sharks` makes shares that leak"),
    ("blahaj", "vsss-rs: a fork of `sharks`"),
    ("ring", "aws-lc-rs: one provider of ciphers, not two"),
    ("native-tls", "rustls over aws-lc-rs"),
    ("openssl", "aws-lc-rs; the OpenSSL inside SQLCipher is `openssl-sys`, and only SQLCipher's"),
    ("protobuf-src", "protox: a fresh machine needs no `protoc`"),
    ("protoc-bin-vendored", "protox: a fresh machine needs no `protoc`"),
];

/// Folders that define stored bytes, and the document that draws them.
const FORMATS: &[(&str, &str)] = &[
    ("keys/src", "keys/FORMAT.md"),
    ("regions/site/src", "regions/LAYOUT.md"),
    ("regions/site/src/bucket", "regions/BUCKET.md"),
    ("regions/site/src/daemon", "regions/PODS.md"),
    ("server/catalog/src", "server/catalog/SCHEMA.md"),
    ("server/src", "server/RECORDS.md"),
    ("client/src/backup", "client/BACKUP.md"),
    ("client/src/audit", "client/AUDIT.md"),
    ("client/src/case", "client/CASE.md"),
    ("scheduler/src", "scheduler/LEDGER.md"),
    ("scheduler/agent/src", "scheduler/agent/STATE.md"),
    ("scheduler/control/src", "scheduler/control/ATTESTATION.md"),
    ("scheduler/embedded/src/store", "scheduler/embedded/STORE.md"),
];

const BANNED_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "core"];

const LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Fails with everything that is wrong at once, so that one run shows it all.
#[track_caller]
fn none(wrong: &[String], remedy: &str) {
    assert!(wrong.is_empty(), "\n  {}\n\nWhat to do: {remedy}\n", wrong.join("\n  "));
}

#[test]
fn crates_depend_only_on_what_the_design_lets_them() {
    let mut wrong = Vec::new();
    for krate in Crates::direct().iter() {
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(name, _)| *name == krate.short()) else {
            wrong.push(format!("{} is not in MAY_DEPEND_ON", krate.name));
            continue;
        };
        for (dependency, optional) in krate.coffer_dependencies(NORMAL_AND_BUILD) {
            let behind_feature = format!("{dependency}?");
            let good = allowed.contains(&dependency.as_str())
                || optional && allowed.contains(&behind_feature.as_str());
            if !good {
                wrong.push(format!("{} depends on coffer-{dependency}", krate.name));
            }
        }
    }
    none(&wrong, "take the dependency out, or argue for it in DECISIONS.md and change MAY_DEPEND_ON with it");
}

#[test]
fn nothing_depends_on_the_tests() {
    let crates = Crates::direct();
    let offenders = crates.iter().filter(|krate| krate.depends_on("coffer-tests"));
    let wrong: Vec<String> = offenders.map(|krate| krate.name.clone()).collect();
    none(&wrong, "move what is shared into the crate that it is about");
}

#[test]
fn missing_arrows_stay_missing_however_long_the_way() {
    let graph = Crates::resolved();
    let mut wrong = Vec::new();
    for (from, never) in NEVER_REACH {
        for target in *never {
            wrong.extend(graph.path(&format!("coffer-{from}"), target, &[]));
        }
    }
    none(
        &wrong,
        "cut the path: sites see no keys, the client needs no server code, pure rooms have no runtime",
    );
}

#[test]
fn a_site_reaches_no_cipher_but_that_of_its_tls() {
    let graph = Crates::resolved();
    // rustls is the TLS; x509-parser reads its certificates, and checks their
    // signatures with the library that the TLS brings; object_store signs its
    // requests and has a TLS of its own.
    let tls = ["rustls", "x509-parser", "object_store"];
    let wrong: Vec<String> = AEADS.iter().filter_map(|aead| graph.path("coffer-site", aead, &tls)).collect();
    none(&wrong, "a site stores what others sealed; take the cipher out of its dependencies");
}

#[test]
fn crates_that_the_design_refuses_are_not_built() {
    let graph = Crates::resolved();
    let mut wrong = Vec::new();
    for (refused, instead) in NOT_THESE {
        for member in Crates::direct().iter() {
            wrong.extend(graph.path(&member.name, refused, &[]).map(|path| format!("{path}; use {instead}")));
        }
    }
    none(&wrong, "turn off the feature that brings it in, or use what the design names");
}

#[test]
fn every_crate_is_called_coffer_and_takes_the_lints_of_the_workspace() {
    let tree = Tree::read();
    let mut wrong = Vec::new();
    for krate in Crates::direct().iter() {
        if !krate.name.starts_with("coffer-") {
            wrong.push(format!("package {} is not called coffer-…", krate.name));
        }
        if !takes_workspace_lints(&tree.text(&krate.manifest_in(&tree))) {
            wrong.push(format!("{} has no [lints] workspace = true", krate.name));
        }
    }
    none(&wrong, "name it coffer-… and put `[lints]` with `workspace = true` into its Cargo.toml");
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let after = manifest.lines().map(str::trim).skip_while(|line| *line != "[lints]").skip(1);
    after.take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true")
}

#[test]
fn the_profile_of_development_optimises_no_crate_of_ours() {
    let manifest = Tree::read().text("Cargo.toml");
    let spared =
        |name: &str| manifest.lines().any(|line| line.starts_with(&format!("{name} = {{ opt-level = 0,")));
    let members = Crates::direct();
    let wrong: Vec<String> =
        members.iter().map(|krate| krate.name.clone()).filter(|name| !spared(name)).collect();
    none(
        &wrong,
        "add it to [profile.dev.package] in the root Cargo.toml, or each change of it is slow to build",
    );
}

#[test]
fn there_is_one_clippy_toml_and_it_is_at_the_root() {
    let tree = Tree::read();
    let named = |path: &&str| matches!(file_name(path), "clippy.toml" | ".clippy.toml");
    let found: Vec<&str> = tree.paths().filter(named).collect();
    assert_eq!(found, ["clippy.toml"], "a second one silently replaces the first: merge it into the root's");
}

#[test]
fn no_crate_module_or_file_is_called_after_nothing() {
    let tree = Tree::read();
    let banned = |part: &str| BANNED_NAMES.contains(&part.split('.').next().unwrap_or(part));
    let mut wrong: Vec<String> =
        tree.paths().filter(|path| path.split('/').any(banned)).map(str::to_owned).collect();
    for source in tree.rust() {
        for (number, line) in source.lines() {
            let module = line.trim().split("mod ").nth(1).and_then(|rest| rest.split([' ', ';']).next());
            if line.trim_start().starts_with(['m', 'p']) && module.is_some_and(banned) {
                wrong.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    none(&wrong, "name it after the one idea that it holds");
}

#[test]
fn no_rust_file_outgrows_six_hundred_lines_beside_its_tests() {
    let tree = Tree::read();
    let long = tree.rust().filter(|source| source.lines_without_tests() >= LINES_MAX);
    let wrong: Vec<String> =
        long.map(|source| format!("{}: {} lines", source.path, source.lines_without_tests())).collect();
    none(&wrong, "split the file where its ideas part");
}

#[test]
fn every_function_fits_a_screen() {
    let tree = Tree::read();
    let wrong: Vec<String> =
        tree.rust().flat_map(|source| source.functions_longer_than(FUNCTION_LINES_MAX)).collect();
    none(&wrong, "take out a step that has a name of its own");
}

#[test]
fn every_rust_file_begins_by_saying_what_it_is() {
    let tree = Tree::read();
    let silent = tree.rust().filter(|source| !source.text.starts_with("//! "));
    let wrong: Vec<String> = silent.map(|source| source.path.clone()).collect();
    none(&wrong, "begin the file with `//! ` and a sentence about its one idea");
}

#[test]
fn no_test_is_switched_off_nothing_is_left_to_do_and_no_lint_is_allowed_away() {
    // Written in two halves, or this line would be the first offence.
    let banned = [
        concat!("#[", "ignore"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "allow("),
        concat!("#![", "allow("),
    ];
    let tree = Tree::read();
    let wrong = offences(tree.rust(), &banned);
    none(&wrong, "finish it or leave it out; a lint that must yield is `#[expect(…, reason = \"…\")]`");
}

#[test]
fn no_text_names_a_path_of_one_machine_or_the_host_of_a_registry() {
    let banned = [
        concat!("/wo", "rk/"),
        concat!("/tm", "p/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("crates", ".io"),
        concat!("docs", ".rs/"),
        concat!("npm", "js."),
        concat!("pypi", ".org"),
    ];
    let tree = Tree::read();
    let texts = tree.texts().filter(|source| source.path != "Cargo.lock");
    let wrong = offences(texts, &banned);
    none(&wrong, "take directories from the caller; name packages, not the hosts that serve them");
}

fn offences<'a>(sources: impl Iterator<Item = &'a Source>, banned: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for source in sources {
        for (number, line) in source.lines() {
            if let Some(found) = banned.iter().find(|word| names(line, word)) {
                wrong.push(format!("{}:{number}: {found}", source.path));
            }
        }
    }
    wrong
}

/// Whether `word` stands in the line; a path only where it begins at the root.
fn names(line: &str, word: &str) -> bool {
    let inside = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "._-~*}".contains(c));
    line.match_indices(word).any(|(at, _)| !(word.starts_with('/') && inside(&line[..at])))
}

#[test]
fn every_stored_format_has_its_document_beside_it() {
    let tree = Tree::read();
    let mut wrong = Vec::new();
    for (folder, document) in FORMATS {
        let stores = tree.paths().any(|path| path.starts_with(&format!("{folder}/")));
        let text = tree.text(document);
        let promises = text.lines().any(|line| line.starts_with('#') && line.contains("promise"));
        let draws = text.contains("+--") || text.contains("┌─") || text.contains("│");
        match (stores, text.is_empty()) {
            (false, _) => wrong.push(format!("{folder} is gone: take it out of FORMATS")),
            (true, true) => wrong.push(format!("{document} is missing")),
            (true, false) if !draws => wrong.push(format!("{document} draws no bytes")),
            (true, false) if !promises => {
                wrong.push(format!("{document} does not say what it does not promise"))
            }
            (true, false) => {}
        }
    }
    none(&wrong, "write the format document: byte diagrams, the crash argument, what it does not promise");
}

#[test]
fn the_documents_of_the_workspace_name_only_files_that_exist() {
    let tree = Tree::read();
    let existing: BTreeSet<&str> = tree.paths().collect();
    let folder = |name: &str| existing.iter().any(|path| path.starts_with(name));
    // Else the paths of a new room would be checked by nobody.
    let crates = existing.iter().filter(|path| path.ends_with("/Cargo.toml"));
    let rooms = crates.filter_map(|path| path.split('/').next());
    let unknown: BTreeSet<&str> = rooms.filter(|room| !ROOMS.contains(room)).collect();
    let mut wrong: Vec<String> = unknown.iter().map(|room| format!("{room}/ is not in ROOMS")).collect();
    for document in ["README.md", "ARCHITECTURE.md", "STYLE.md", "CONTRIBUTING.md", "SECURITY.md"] {
        for (number, line) in tree.text(document).lines().enumerate() {
            for name in line.split('`').skip(1).step_by(2).filter(|name| is_path(name)) {
                let there = if name.ends_with('/') { folder(name) } else { existing.contains(name) };
                if !there {
                    wrong.push(format!("{document}:{}: {name}", number + 1));
                }
            }
        }
    }
    none(&wrong, "correct the path, or the sentence around it");
}

#[test]
fn the_tests_that_the_documents_name_exist() {
    let tree = Tree::read();
    let exists = |name: &str| tree.rust().any(|source| source.text.contains(&format!("fn {name}(")));
    let mut wrong = Vec::new();
    for document in ["SECURITY.md", "STYLE.md"] {
        let text = tree.text(document);
        let tests = text.split('`').skip(1).step_by(2).filter(|span| is_sentence(span));
        wrong.extend(tests.filter(|name| !exists(name)).map(|name| format!("{document}: {name}")));
    }
    none(
        &wrong,
        "a claim without its test is no claim: name the test that shows it now, or say that none does",
    );
}

/// Whether a code span is the name of a test; names of lints are shorter.
fn is_sentence(span: &str) -> bool {
    let plain = span.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    plain && span.matches('_').count() >= 4
}

/// The folders at the root of the checkout: whatever begins with one of them is a path.
const ROOMS: [&str; 11] =
    [".cargo", ".ci", "client", "fuzz", "keys", "model", "proto", "regions", "scheduler", "server", "tests"];

/// Whether a code span of a document is a path from the root of the checkout.
fn is_path(span: &str) -> bool {
    let plain = span.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    let first = span.split('/').next().unwrap_or_default();
    let endings = [".md", ".proto", ".py", ".rs", ".toml", ".yaml", ".yml", "/"];
    plain && span.contains('/') && ROOMS.contains(&first) && endings.iter().any(|end| span.ends_with(end))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
