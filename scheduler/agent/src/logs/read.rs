//! Reading a log: the last lines, those since a moment, and those to come, over
//! rotations.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::aged;
use crate::files;

/// How much of all rotated logs is read at most, from the end.
const READ_MAX: u64 = 64 << 20;

/// Which part of a log is wanted: the options of `kubectl logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Only the last lines.
    pub tail: Option<usize>,
    /// Only lines at or after this moment, RFC 3339 with a `Z`.
    pub since: Option<String>,
    /// With the time before each line.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<usize>,
}

/// Reads a log from its beginning to what is there now, and then what comes.
pub struct LogReader {
    path: PathBuf,
    options: LogOptions,
    current: Option<(File, u64)>,
    rest: Vec<u8>,
    left: usize,
}

impl LogReader {
    /// A reader of the log at `path`; that it does not exist yet is no error.
    pub fn new(path: &Path, options: LogOptions) -> Self {
        let left = options.limit_bytes.unwrap_or(usize::MAX);
        Self { path: path.to_owned(), options, current: None, rest: Vec::new(), left }
    }

    /// What is there, as the options want it.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn present(&mut self) -> io::Result<Vec<u8>> {
        let mut raw = Vec::new();
        for age in (1..=16).rev() {
            append_end(&aged(&self.path, age), &mut raw)?;
        }
        self.advance(&mut raw)?;
        let lines: Vec<&[u8]> = raw.split_inclusive(|byte| *byte == b'\n').collect();
        let kept: Vec<&[u8]> = lines.into_iter().filter(|line| self.wanted(line)).collect();
        // Parts of a long line count as one.
        let mut from = 0;
        if let Some(tail) = self.options.tail {
            let ends: Vec<usize> = (0..kept.len())
                .filter(|at| kept.get(*at).is_some_and(|line| parse(line).is_some_and(|p| p.whole)))
                .collect();
            from = match ends.len().checked_sub(tail) {
                None | Some(0) => 0,
                Some(over) => ends.get(over - 1).map_or(0, |end| end + 1),
            };
        }
        let mut out = Vec::new();
        for line in kept.get(from..).unwrap_or_default() {
            self.print(line, &mut out);
        }
        Ok(out)
    }

    /// What has come since the last call; empty if nothing has.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn more(&mut self) -> io::Result<Vec<u8>> {
        let mut raw = Vec::new();
        self.advance(&mut raw)?;
        let mut out = Vec::new();
        for line in raw.split_inclusive(|byte| *byte == b'\n') {
            if self.wanted(line) {
                self.print(line, &mut out);
            }
        }
        Ok(out)
    }

    /// Whether the limit of bytes is reached.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Reads on in the current file, and in its successor once it was rotated;
    /// whole lines only.
    fn advance(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.rest);
        loop {
            if let Some((file, _)) = &mut self.current {
                file.take(READ_MAX).read_to_end(&mut bytes)?;
            }
            let named = match files::open(&self.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let inode = named.metadata()?.ino();
            if self.current.as_ref().is_some_and(|(_, old)| *old == inode) {
                break;
            }
            self.current = Some((named, inode));
        }
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.rest = bytes.split_off(end);
        out.append(&mut bytes);
        Ok(())
    }

    fn wanted(&self, line: &[u8]) -> bool {
        let Some(since) = &self.options.since else { return true };
        parse(line).is_some_and(|parts| parts.time >= since.trim_end_matches('Z').as_bytes())
    }

    fn print(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(parts) = parse(line) else { return };
        let mut text = Vec::new();
        if self.options.timestamps {
            text.extend_from_slice(parts.time);
            text.push(b' ');
        }
        text.extend_from_slice(parts.text);
        if parts.whole {
            text.push(b'\n');
        }
        text.truncate(self.left);
        self.left -= text.len();
        out.append(&mut text);
    }
}

struct Parts<'a> {
    time: &'a [u8],
    whole: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Parts<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = parts.next()?;
    let _stream = parts.next()?;
    let whole = parts.next()? == b"F";
    Some(Parts { time, whole, text: parts.next()? })
}

fn append_end(path: &Path, out: &mut Vec<u8>) -> io::Result<()> {
    match files::open(path) {
        Ok(file) => file.take(READ_MAX).read_to_end(out).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::LogWriter;
    use super::*;

    fn written(lines: &[&str], max: u64) -> (tempfile::TempDir, PathBuf, LogWriter) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, max, 16).unwrap();
        for line in lines {
            log.write("stdout", format!("{line}\n").as_bytes());
        }
        (dir, path, log)
    }

    #[test]
    fn the_last_lines_are_found_over_rotations() {
        let (_dir, path, _log) = written(&["a", "b", "c", "d"], 50);
        let mut reader = LogReader::new(&path, LogOptions { tail: Some(3), ..LogOptions::default() });
        assert_eq!(reader.present().unwrap(), b"b\nc\nd\n");
    }

    #[test]
    fn no_line_is_lost_or_told_twice_when_the_log_is_rotated_between_two_reads() {
        let (_dir, path, mut log) = written(&["a"], 90);
        let mut reader = LogReader::new(&path, LogOptions::default());
        assert_eq!(reader.present().unwrap(), b"a\n");
        let mut got = Vec::new();
        for letter in ["b", "c", "d", "e", "f"] {
            log.write("stderr", format!("{letter}\n").as_bytes());
            got.extend(reader.more().unwrap());
        }
        assert_eq!(got, b"b\nc\nd\ne\nf\n");
        assert_eq!(reader.more().unwrap(), b"");
    }

    #[test]
    fn only_whole_lines_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        files::replace(&path, b"2026-01-01T00:00:00.000000000Z stdout F whole\n2026-01-01T00:00", 0o600)
            .unwrap();
        let mut reader = LogReader::new(&path, LogOptions::default());
        assert_eq!(reader.present().unwrap(), b"whole\n");
    }

    #[test]
    fn lines_before_the_moment_are_left_out() {
        let (_dir, path, _log) = written(&["old"], 1000);
        let since = Some("2999-01-01T00:00:00Z".to_owned());
        let mut reader = LogReader::new(&path, LogOptions { since, ..LogOptions::default() });
        assert_eq!(reader.present().unwrap(), b"");
    }

    #[test]
    fn no_more_bytes_are_told_than_asked_for() {
        let (_dir, path, _log) = written(&["abcdef", "ghi"], 1000);
        let mut reader = LogReader::new(&path, LogOptions { limit_bytes: Some(8), ..LogOptions::default() });
        assert_eq!(reader.present().unwrap(), b"abcdef\ng");
        assert!(reader.is_over());
    }
}
