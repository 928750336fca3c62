//! Where a trial keeps what.

use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::exit::Failure;
use crate::files;
use crate::flags::TryFlags;

/// The two directories of a trial, made by it and empty at its start.
pub(super) struct Places {
    /// Service and sites; nothing in it is readable without keys.
    pub(super) data: PathBuf,
    /// What people would keep: kit, shares, manifest, record.
    pub(super) out: PathBuf,
}

impl Places {
    pub(super) fn prepare(context: &Context<'_>, flags: &TryFlags) -> Result<Self, Failure> {
        let id = context.entropy.sixteen();
        let base = PathBuf::from(format!("coffer-try-{:02x}{:02x}{:02x}{:02x}", id[0], id[1], id[2], id[3]));
        let data = flags.data_dir.clone().unwrap_or_else(|| base.join("data"));
        let out = flags.out.clone().unwrap_or_else(|| base.join("out"));
        let source = files::absolute(&flags.directory)?;
        if !source.is_dir() {
            return Err(Failure::usage(format!("{} is not a directory", source.display())));
        }
        // Everything is looked at before anything is made: what is refused
        // leaves nothing behind.
        let (data, out) = (future(&data)?, future(&out)?);
        for dir in [&data, &out] {
            if dir.starts_with(&source) {
                return Err(inside(dir));
            }
            files::refuse_used(dir)?;
        }
        if data.starts_with(&out) || out.starts_with(&data) {
            return Err(Failure::usage("one of --data-dir and --out lies inside the other"));
        }
        files::make_empty_directory(&data)?;
        files::make_empty_directory(&out)?;
        Ok(Self { data: files::absolute(&data)?, out: files::absolute(&out)? })
    }

    /// The client's profile; it dies with the loss.
    pub(super) fn profile(&self) -> PathBuf {
        self.out.join("profile")
    }

    pub(super) fn custodians(&self) -> PathBuf {
        self.out.join("custodians")
    }

    pub(super) fn people(&self) -> PathBuf {
        self.out.join("people")
    }

    pub(super) fn kit(&self) -> PathBuf {
        self.out.join("recovery-kit.json")
    }

    pub(super) fn manifest(&self) -> PathBuf {
        self.out.join("source.manifest")
    }

    pub(super) fn restored(&self) -> PathBuf {
        self.out.join("restored")
    }

    pub(super) fn record(&self) -> PathBuf {
        self.out.join("record.json")
    }

    /// Removes what is large or secret and was only for the trial. After a
    /// failure the kit, the shares and the manifest go too: they belong to a
    /// deployment that is no more. Where not all of a fleet has `ended`, the data
    /// stays: only it says what to end. What could not be removed is returned.
    pub(super) fn clean(&self, succeeded: bool, ended: bool) -> Vec<Failure> {
        let mut dirs = vec![self.restored(), self.profile()];
        if ended {
            dirs.push(self.data.clone());
        }
        if !succeeded {
            dirs.push(self.out.clone());
        }
        let left = dirs.iter().filter_map(|dir| files::remove_tree(dir).err()).collect();
        if !succeeded {
            // The directory of both, if the trial made it and nothing else is in it.
            self.out.parent().map(std::fs::remove_dir).map(drop).unwrap_or_default();
        }
        left
    }
}

/// A trial that backs itself up would never end well.
fn inside(dir: &Path) -> Failure {
    Failure::usage(format!("{} would lie inside the directory to back up", dir.display()))
        .next("run it from another directory, or name other ones with --data-dir and --out")
}

/// The absolute path of a directory that need not exist yet.
fn future(dir: &Path) -> Result<PathBuf, Failure> {
    let dir = if dir.is_absolute() { dir.to_owned() } else { Path::new(".").join(dir) };
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    let rest = dir.strip_prefix(existing).unwrap_or_else(|_| Path::new(""));
    if rest.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Failure::usage(format!("{}: \"..\" in a directory that is not there", dir.display()))
            .next("name the directory without it"));
    }
    let existing = files::absolute(existing)?;
    Ok(if rest.as_os_str().is_empty() { existing } else { existing.join(rest) })
}
