//! The files of the checkout, as git lists them, or as they lie there where
//! git is not at hand.
#![expect(clippy::disallowed_methods, reason = "the rules are about files")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// One text file.
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every file that is tracked, or would be if it were added.
pub(crate) struct Tree {
    root: PathBuf,
    paths: Vec<String>,
    texts: Vec<Source>,
}

impl Tree {
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned();
        let mut paths = listed_by_git(&root).unwrap_or_else(|| found_on_disk(&root));
        // A file that was removed and not yet committed is still listed.
        paths.retain(|path| root.join(path).is_file());
        paths.sort();
        paths.dedup();
        assert!(
            paths.len() > 50,
            "only {} files under {}: this is not the checkout",
            paths.len(),
            root.display()
        );
        let text = |path: &String| {
            let bytes = std::fs::read(root.join(path)).unwrap();
            String::from_utf8(bytes).ok().map(|text| Source { path: path.clone(), text })
        };
        let texts = paths.iter().filter_map(text).collect();
        Self { root, paths, texts }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    pub(crate) fn texts(&self) -> impl Iterator<Item = &Source> {
        self.texts.iter()
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = &Source> {
        self.texts().filter(|source| source.path.ends_with(".rs"))
    }

    /// The text of a file, empty where there is none.
    pub(crate) fn text(&self, path: &str) -> String {
        self.texts().find(|source| source.path == path).map(|source| source.text.clone()).unwrap_or_default()
    }
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let answer = git.output().ok().filter(|answer| answer.status.success())?;
    let names = answer.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let paths: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    // Unpacked inside another repository that ignores it, git lists nothing.
    if paths.iter().any(|path| path == "Cargo.toml") { Some(paths) } else { None }
}

fn found_on_disk(root: &Path) -> Vec<String> {
    let (mut paths, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let top = path.parent() == Some(root);
            if path.is_symlink() || name == ".git" || (top && name == "target") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                paths.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    paths
}

impl Source {
    /// The lines with their numbers, from one.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Lines before the test module that ends the file.
    pub(crate) fn lines_without_tests(&self) -> usize {
        self.text.lines().take_while(|line| *line != "#[cfg(test)]").count()
    }

    /// Functions whose body has more than `most` lines. rustfmt closes a function
    /// at the indent of its first line, which is all that this knows of Rust.
    pub(crate) fn functions_longer_than(&self, most: usize) -> Vec<String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut long = Vec::new();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            let indent = &line[..line.len() - line.trim_start().len()];
            let (end, declared) = (format!("{indent}}}"), format!("{indent})"));
            let ends = |line: &&str| *line == end || line.starts_with(&declared) && line.ends_with(';');
            let body = lines[at + 1..].iter().position(ends).unwrap_or_default();
            if body > most {
                long.push(format!("{}:{}: {body} lines", self.path, at + 1));
            }
        }
        long
    }
}

/// Whether a function begins here and does not end on the same line.
fn begins_function(line: &str) -> bool {
    let modifier = |word: &&str| {
        word.starts_with("pub") || matches!(*word, "async" | "const" | "unsafe" | "extern" | "default")
    };
    let keyword = line.split_whitespace().find(|word| !modifier(word));
    keyword == Some("fn") && !line.ends_with(['}', ';'])
}
