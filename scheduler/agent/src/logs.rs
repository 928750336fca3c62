//! Logs of containers: written by the shim, one line of output a line, with the
//! time and the stream it came from, as Kubernetes' container logs have it
//! (`TIME STREAM F|P TEXT`); rotated by size; read by tail, since and follow.

mod read;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::clock;
use crate::files;

pub use read::{LogOptions, LogReader};

/// Longest text of one line; a longer one is cut in parts, marked `P`.
const LINE_MAX: usize = 16 << 10;

/// Writes one log, and rotates it. What the disk does not take is dropped and
/// counted: a container neither waits for its log nor ends with it.
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    size: u64,
    max: u64,
    keep: u32,
    partial: Vec<(&'static str, Vec<u8>)>,
    /// Lines that were dropped.
    lost: u64,
    /// How many of them the log does not tell of yet, and why they were.
    untold: Option<(u64, io::Error)>,
    /// Where their number stands for the agent; written over in place, because
    /// a full disk has no room for another file.
    count: Option<File>,
}

/// The number of lines of this log that were dropped.
pub(crate) fn lost(log: &Path) -> u64 {
    let text = files::read_text(&log.with_file_name(LOST)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The file with their number, beside the log.
const LOST: &str = "lost";

impl LogWriter {
    /// Opens the log for appending. It is rotated at `max` bytes, and `keep`
    /// files are kept, this one included.
    pub(crate) fn open(path: &Path, max: u64, keep: u32) -> io::Result<Self> {
        let file = append(path)?;
        let size = file.metadata()?.len();
        let mut count = OpenOptions::new();
        count.write(true).create(true).truncate(true).mode(0o600);
        let mut log = Self {
            path: path.to_owned(),
            file,
            size,
            max: max.max(1),
            keep: keep.max(1),
            partial: Vec::new(),
            lost: 0,
            untold: None,
            // Without it the lines are dropped all the same.
            count: count.open(path.with_file_name(LOST)).ok(),
        };
        log.write_count();
        Ok(log)
    }

    /// Takes output of one stream; whole lines go to the log.
    pub(crate) fn write(&mut self, stream: &'static str, bytes: &[u8]) {
        let at = self.partial.iter().position(|(name, _)| *name == stream);
        let (_, mut text) = at.map(|at| self.partial.swap_remove(at)).unwrap_or((stream, Vec::new()));
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            text.extend_from_slice(piece);
            while text.len() > LINE_MAX {
                let rest = text.split_off(LINE_MAX);
                self.line(stream, 'P', &text);
                text = rest;
            }
            if text.last() == Some(&b'\n') {
                text.pop();
                self.line(stream, 'F', &text);
                text.clear();
            }
        }
        self.partial.push((stream, text));
    }

    /// Writes what is left without its newline.
    pub(crate) fn end(&mut self) {
        for (stream, text) in std::mem::take(&mut self.partial) {
            if !text.is_empty() {
                self.line(stream, 'F', &text);
            }
        }
        // A log that may be lost with the machine is better than no end of its container.
        drop(self.file.sync_data());
    }

    /// One line, after a word about those that were dropped before it.
    fn line(&mut self, stream: &str, tag: char, text: &[u8]) {
        let told = match &self.untold {
            None => Ok(()),
            Some((count, why)) => {
                let word = format!("[coffer-node] {count} lines before this one could not be written: {why}");
                self.append("stderr", 'F', word.as_bytes())
            }
        };
        let written = told.and_then(|()| {
            self.untold = None;
            self.append(stream, tag, text)
        });
        if let Err(error) = written {
            let untold = self.untold.take().map_or(0, |(count, _)| count);
            self.untold = Some((untold.saturating_add(1), error));
            self.lost = self.lost.saturating_add(1);
            self.write_count();
        }
    }

    fn write_count(&mut self) {
        if let Some(file) = &self.count {
            // Best effort: the log itself tells of it, too, once it can.
            drop(file.write_all_at(format!("{:020}\n", self.lost).as_bytes(), 0));
        }
    }

    fn append(&mut self, stream: &str, tag: char, text: &[u8]) -> io::Result<()> {
        let mut line = format!("{} {stream} {tag} ", stamp()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.max {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(&line) {
            // A part of a line would be taken for the beginning of the next one.
            drop(self.file.set_len(self.size));
            return Err(error);
        }
        self.size += length;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Not there: it was moved before, when no new one could be made.
        if self.path.exists() {
            self.age()?;
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }

    /// Makes each log older by one; the oldest goes.
    fn age(&mut self) -> io::Result<()> {
        for age in (1..self.keep).rev() {
            let younger = if age == 1 { self.path.clone() } else { aged(&self.path, age - 1) };
            match std::fs::rename(younger, aged(&self.path, age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.keep == 1 {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The log that was rotated `age` times.
fn aged(path: &Path, age: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

/// Now, RFC 3339, always with nine digits, so that texts sort as times do.
fn stamp() -> String {
    let now = clock::wall();
    let whole = clock::timestamp(std::time::Duration::from_secs(now.as_secs())).to_string();
    format!("{}.{:09}Z", whole.trim_end_matches('Z'), now.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(log: &Path) -> Vec<String> {
        let text = files::read_text(log).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn lines_of_two_streams_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, 1 << 20, 2).unwrap();
        log.write("stdout", b"one ");
        log.write("stderr", b"bad\n");
        log.write("stdout", b"line\nhalf");
        log.end();
        assert_eq!(lines(&path), ["stderr F bad", "stdout F one line", "stdout F half"]);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, 1 << 30, 2).unwrap();
        for _ in 0..100 {
            log.write("stdout", &[b'x'; 4096]);
            assert!(log.partial.iter().all(|(_, text)| text.len() <= LINE_MAX));
        }
        assert!(lines(&path).iter().all(|line| line.starts_with("stdout P x")));
    }

    #[test]
    fn a_log_never_outgrows_what_it_may_hold() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, 1000, 3).unwrap();
        for number in 0..200 {
            log.write("stdout", format!("line {number}\n").as_bytes());
        }
        let names = files::names(dir.path()).unwrap();
        assert_eq!(names, ["log", "log.1", "log.2", "lost"]);
        for name in names {
            assert!(dir.path().join(name).metadata().unwrap().len() <= 1000);
        }
        assert!(lines(&path).last().unwrap().ends_with("line 199"));
    }

    #[test]
    fn what_a_full_disk_did_not_take_is_dropped_and_counted_and_said_once_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let mut log = LogWriter::open(&path, 1 << 20, 2).unwrap();
        log.write("stdout", b"one\ntwo\nthree\n");
        assert_eq!(lost(&path), 3);
        std::fs::remove_file(&path).unwrap();
        log.file = append(&path).unwrap();
        log.write("stdout", b"four\nfive\n");
        let said = lines(&path);
        assert!(said[0].starts_with("stderr F ") && said[0].contains("3 lines"), "{said:?}");
        assert_eq!(said[1..], ["stdout F four", "stdout F five"]);
        assert_eq!(lost(&path), 3, "what is lost stays lost");
    }

    #[test]
    fn a_rotation_that_was_broken_off_is_ended_and_pushes_no_log_out_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, 1 << 20, 2).unwrap();
        log.write("stdout", b"kept\n");
        // As it is where the disk has no room for one more file.
        std::fs::rename(&path, aged(&path, 1)).unwrap();
        log.rotate().unwrap();
        log.write("stdout", b"new\n");
        assert_eq!(lines(&aged(&path, 1)), ["stdout F kept"]);
        assert_eq!(lines(&path), ["stdout F new"]);
    }
}
