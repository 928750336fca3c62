//! How far events were handed on: a small file, replaced after they were.

use std::path::{Path, PathBuf};

use coffer_client::profile::write_atomically;

use crate::exit::Failure;
use crate::files;

/// No bookmark comes near. In bytes.
const LIMIT: u64 = 4096;

/// Of which log so many leaves were handed on.
pub(super) struct Bookmark {
    path: PathBuf,
    kept: Option<(String, u64)>,
}

impl Bookmark {
    /// Reads the file; one that is not there is a beginning.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        if !path.exists() {
            return Ok(Self { path: path.to_owned(), kept: None });
        }
        let text = String::from_utf8(files::read_small(path, LIMIT)?).unwrap_or_default();
        let kept = text
            .trim_end()
            .rsplit_once(' ')
            .and_then(|(origin, next)| Some((origin.to_owned(), next.parse::<u64>().ok()?)));
        match kept {
            Some(kept) => Ok(Self { path: path.to_owned(), kept: Some(kept) }),
            None => Err(Failure::usage(format!("{}: says nothing about a log", path.display()))),
        }
    }

    /// The first leaf that was not handed on yet.
    pub(super) fn next(&self, origin: &str) -> Result<u64, Failure> {
        match &self.kept {
            None => Ok(0),
            Some((log, next)) if log == origin => Ok(*next),
            Some((log, _)) => {
                Err(Failure::usage(format!("{}: is about log {log}, not {origin}", self.path.display())))
            }
        }
    }

    /// Keeps that everything before `next` was handed on.
    pub(super) fn keep(&mut self, origin: &str, next: u64) -> Result<(), Failure> {
        write_atomically(&self.path, format!("{origin} {next}\n").as_bytes())?;
        self.kept = Some((origin.to_owned(), next));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_reads_back_and_is_of_one_log_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bookmark");
        let mut bookmark = Bookmark::open(&path).unwrap();
        assert_eq!(bookmark.next("log/a").unwrap(), 0);
        bookmark.keep("log/a", 17).unwrap();
        let again = Bookmark::open(&path).unwrap();
        assert_eq!(again.next("log/a").unwrap(), 17);
        assert!(again.next("log/b").is_err());
        write_atomically(&path, b"nonsense").unwrap();
        assert!(Bookmark::open(&path).is_err());
    }
}
