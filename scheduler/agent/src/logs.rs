//! Logs of containers: written by the shim, one line of output a line, with the
//! time and the stream it came from, as Kubernetes' container logs have it
//! (`TIME STREAM F|P TEXT`); rotated by size; read by tail, since and follow.

mod read;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::clock;

pub use read::{LogOptions, LogReader};

/// Longest text of one line; a longer one is cut in parts, marked `P`.
const LINE_MAX: usize = 16 << 10;

/// Writes one log, and rotates it.
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    size: u64,
    max: u64,
    keep: u32,
    partial: Vec<(&'static str, Vec<u8>)>,
}

impl LogWriter {
    /// Opens the log for appending. It is rotated at `max` bytes, and `keep`
    /// files are kept, this one included.
    pub(crate) fn open(path: &Path, max: u64, keep: u32) -> io::Result<Self> {
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
            max: max.max(1),
            keep: keep.max(1),
            partial: Vec::new(),
        })
    }

    /// Takes output of one stream; whole lines go to the log.
    pub(crate) fn write(&mut self, stream: &'static str, bytes: &[u8]) -> io::Result<()> {
        let at = self.partial.iter().position(|(name, _)| *name == stream);
        let (_, mut text) = at.map(|at| self.partial.swap_remove(at)).unwrap_or((stream, Vec::new()));
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            text.extend_from_slice(piece);
            while text.len() > LINE_MAX {
                let rest = text.split_off(LINE_MAX);
                self.line(stream, 'P', &text)?;
                text = rest;
            }
            if text.last() == Some(&b'\n') {
                text.pop();
                self.line(stream, 'F', &text)?;
                text.clear();
            }
        }
        self.partial.push((stream, text));
        Ok(())
    }

    /// Writes what is left without its newline.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        for (stream, text) in std::mem::take(&mut self.partial) {
            if !text.is_empty() {
                self.line(stream, 'F', &text)?;
            }
        }
        self.file.sync_data()
    }

    fn line(&mut self, stream: &str, tag: char, text: &[u8]) -> io::Result<()> {
        let mut line = format!("{} {stream} {tag} ", stamp()).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let length = line.len() as u64;
        if self.size > 0 && self.size + length > self.max {
            self.rotate()?;
        }
        self.size += length;
        self.file.write_all(&line)
    }

    fn rotate(&mut self) -> io::Result<()> {
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
        self.file = append(&self.path)?;
        self.size = 0;
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
        let text = crate::files::read_text(log).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn lines_of_two_streams_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, 1 << 20, 2).unwrap();
        log.write("stdout", b"one ").unwrap();
        log.write("stderr", b"bad\n").unwrap();
        log.write("stdout", b"line\nhalf").unwrap();
        log.end().unwrap();
        assert_eq!(lines(&path), ["stderr F bad", "stdout F one line", "stdout F half"]);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogWriter::open(&path, 1 << 30, 2).unwrap();
        for _ in 0..100 {
            log.write("stdout", &[b'x'; 4096]).unwrap();
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
            log.write("stdout", format!("line {number}\n").as_bytes()).unwrap();
        }
        let names = crate::files::names(dir.path()).unwrap();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        for name in names {
            assert!(dir.path().join(name).metadata().unwrap().len() <= 1000);
        }
        assert!(lines(&path).last().unwrap().ends_with("line 199"));
    }
}
