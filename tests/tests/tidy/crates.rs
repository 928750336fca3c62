//! The crates of the workspace and what they depend on, as cargo tells it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::Command;

use serde_json::Value;

use crate::sources::Tree;

/// The kinds of dependency that end up in a program or build one.
pub(crate) const NORMAL_AND_BUILD: &[&str] = &["normal", "build"];

/// What cargo says about the workspace.
pub(crate) struct Crates;

/// A member of the workspace with the dependencies that its manifest names.
pub(crate) struct Direct {
    pub(crate) name: String,
    manifest: String,
    /// Package, kind (`normal`, `build`, `dev`), optional.
    dependencies: Vec<(String, String, bool)>,
}

/// Everything that is built into the programs on this machine, and for whom.
/// Nodes are `name vVERSION`.
pub(crate) struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Crates {
    /// The members and what their manifests name.
    pub(crate) fn direct() -> Vec<Direct> {
        let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
        let metadata: Value = serde_json::from_slice(&metadata).unwrap();
        list(&metadata, "packages").iter().map(Direct::of).collect()
    }

    /// The normal dependencies of all members, features as they are built.
    /// `cargo metadata` would also list optional ones that nothing turns on.
    pub(crate) fn resolved() -> Graph {
        let arguments = ["tree", "--workspace", "--edges", "normal", "--prefix", "depth", "--format", " {p}"];
        let tree = String::from_utf8(cargo(&arguments)).unwrap();
        let (mut graph, mut way): (BTreeMap<_, BTreeSet<_>>, Vec<String>) = (BTreeMap::new(), Vec::new());
        for line in tree.lines().filter(|line| !line.is_empty()) {
            let mut words = line.split(' ');
            let depth: usize = words.next().and_then(|depth| depth.parse().ok()).unwrap();
            let package = format!("{} {}", words.next().unwrap(), words.next().unwrap());
            way.truncate(depth);
            graph.entry(package.clone()).or_default();
            if let Some(parent) = way.last() {
                graph.entry(parent.clone()).or_default().insert(package.clone());
            }
            way.push(package);
        }
        Graph(graph)
    }
}

impl Direct {
    fn of(package: &Value) -> Self {
        let dependency = |value: &Value| {
            let kind = value.get("kind").and_then(Value::as_str).unwrap_or("normal").to_owned();
            (text(value, "name"), kind, value.get("optional").and_then(Value::as_bool).unwrap_or(false))
        };
        let dependencies = list(package, "dependencies").iter().map(dependency).collect();
        Self { name: text(package, "name"), manifest: text(package, "manifest_path"), dependencies }
    }

    /// The name without `coffer-`.
    pub(crate) fn short(&self) -> &str {
        self.name.strip_prefix("coffer-").unwrap_or(&self.name)
    }

    /// Its manifest, from the root of the tree.
    pub(crate) fn manifest_in(&self, tree: &Tree) -> String {
        let root = format!("{}/", tree.root().display());
        self.manifest.strip_prefix(&root).unwrap_or(&self.manifest).to_owned()
    }

    /// Dependencies on our own crates, without `coffer-`; whether optional.
    pub(crate) fn coffer_dependencies(&self, kinds: &[&str]) -> Vec<(String, bool)> {
        let of_kind = self.dependencies.iter().filter(|(_, kind, _)| kinds.contains(&kind.as_str()));
        of_kind
            .filter_map(|(name, _, optional)| Some((name.strip_prefix("coffer-")?.to_owned(), *optional)))
            .collect()
    }

    /// Whether any manifest section names this package.
    pub(crate) fn depends_on(&self, package: &str) -> bool {
        self.dependencies.iter().any(|(name, _, _)| name == package)
    }
}

impl Graph {
    /// The shortest way over normal dependencies from a member to a package,
    /// told as a sentence; packages in `not_through` are not entered.
    pub(crate) fn path(&self, from: &str, to: &str, not_through: &[&str]) -> Option<String> {
        let start = self.0.keys().find(|package| name(package) == from);
        let start = start.unwrap_or_else(|| panic!("the workspace has no crate {from}: correct the rule"));
        let mut ways = VecDeque::from([vec![start]]);
        let mut seen = BTreeSet::from([start]);
        while let Some(way) = ways.pop_front() {
            for next in way.last().and_then(|last| self.0.get(*last)).into_iter().flatten() {
                let longer: Vec<&String> = way.iter().copied().chain([next]).collect();
                if name(next) == to {
                    let names: Vec<&str> = longer.into_iter().map(|package| name(package)).collect();
                    return Some(names.join(" -> "));
                }
                if !not_through.contains(&name(next)) && seen.insert(next) {
                    ways.push_back(longer);
                }
            }
        }
        None
    }
}

fn name(package: &str) -> &str {
    package.split(' ').next().unwrap_or(package)
}

/// Asks cargo, which here only reads: it neither builds nor goes to the network.
fn cargo(arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).args(["--offline", "--locked"]);
    let answer = command.output().unwrap();
    let complaint = String::from_utf8_lossy(&answer.stderr);
    assert!(answer.status.success(), "{complaint}\nRun `cargo check` once, so that Cargo.lock is current.");
    answer.stdout
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
