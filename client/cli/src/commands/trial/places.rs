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
        for dir in [&data, &out] {
            refuse_inside(&source, dir)?;
            files::make_empty_directory(dir)?;
        }
        let (data, out) = (files::absolute(&data)?, files::absolute(&out)?);
        if data.starts_with(&out) || out.starts_with(&data) {
            return Err(Failure::usage("one of --data-dir and --out lies inside the other"));
        }
        Ok(Self { data, out })
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
    /// deployment that is no more.
    pub(super) fn clean(&self, succeeded: bool) -> Result<(), Failure> {
        for dir in [&self.data, &self.restored(), &self.profile()] {
            files::remove_tree(dir)?;
        }
        if !succeeded {
            files::remove_tree(&self.out)?;
            // The directory of both, if the trial made it and nothing else is in it.
            self.out.parent().map(std::fs::remove_dir).map(drop).unwrap_or_default();
        }
        Ok(())
    }
}

/// A trial that backs itself up would never end well.
fn refuse_inside(source: &Path, dir: &Path) -> Result<(), Failure> {
    let mut existing = if dir.is_absolute() { dir.to_owned() } else { Path::new(".").join(dir) };
    while !existing.exists() && existing.pop() {}
    if files::absolute(&existing)?.starts_with(source) {
        return Err(Failure::usage(format!("{} would lie inside the directory to back up", dir.display()))
            .next("run it from another directory, or name other ones with --data-dir and --out"));
    }
    Ok(())
}
