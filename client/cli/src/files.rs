//! The disk as the command line sees it: files that people name.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of the command line")]

mod copying;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::exit::{Exit, Failure};

pub(crate) use copying::{copy_site, digest_of};

/// A failure about a path.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Failure + use<> {
    let path = path.to_owned();
    move |error| Failure::new(format!("{}: {error}", name_of(&path)))
}

/// Removes a tree, also where its directories were restored read-only.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Failure> {
    coffer_client::backup::remove_tree(path).map_err(at(path))
}

/// How a path that people named is told.
fn name_of(path: &Path) -> std::path::Display<'_> {
    if path == Path::new("-") { Path::new("stdout").display() } else { path.display() }
}

/// Whether something is there that must be written in place, or not at all: a
/// device or a pipe that a file in its place would destroy.
pub(crate) fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// A file for reading in small steps.
pub(crate) fn reader(path: &Path) -> Result<BufReader<File>, Failure> {
    File::open(path).map(|file| BufReader::with_capacity(1 << 20, file)).map_err(at(path))
}

/// A new file of mode 0600 for writing in small steps; never an existing one.
pub(crate) fn writer(path: &Path) -> Result<BufWriter<File>, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map(|file| BufWriter::with_capacity(1 << 20, file)).map_err(at(path))
}

/// Makes what was written durable.
pub(crate) fn finish(path: &Path, writer: BufWriter<File>) -> Result<(), Failure> {
    let file = writer.into_inner().map_err(|error| at(path)(error.into_error()))?;
    file.sync_all().map_err(at(path))
}

/// The bytes of a small file.
pub(crate) fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    read_small_from(File::open(path).map_err(at(path))?, path, limit)
}

/// The bytes of something small that is open already and known by this name.
/// What is longer is refused, never cut.
pub(crate) fn read_small_from(from: impl Read, name: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.take(limit + 1).read_to_end(&mut bytes).map_err(at(name))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(Failure::new(format!(
            "{}: longer than {limit} bytes; is it the right file?",
            name.display()
        ))
        .safe("nothing was changed"));
    }
    Ok(bytes)
}

/// The bytes of a file that somebody else made: what is no regular file is
/// refused before it is read.
pub(crate) fn read_foreign(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    coffer_client::read_regular(path, limit).map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => Exit::Differences,
            _ => Exit::Failure,
        };
        at(path)(error).exit(exit).safe("nothing was changed")
    })
}

/// Every file below a directory, by its path with `/`. What is neither a file
/// nor a directory is refused: a link could lead anywhere.
pub(crate) fn read_tree(root: &Path, limit: u64) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let (mut files, mut left) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let path = entry.map_err(at(&directory))?.path();
            let kind = fs::symlink_metadata(&path).map_err(at(&path))?.file_type();
            if kind.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            files.insert(name, read_foreign(&path, limit)?);
        }
    }
    Ok(files)
}

/// The name of this machine; empty where the system does not tell it.
pub(crate) fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Makes a directory of mode 0700 and its parents.
pub(crate) fn make_directory(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// A log of mode 0600 that is written at its end.
#[cfg(feature = "embedded")]
pub(crate) fn appender(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(at(path))
}

/// Refuses a directory that has anything in it; one that is not there is good.
pub(crate) fn refuse_used(path: &Path) -> Result<(), Failure> {
    let used = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        entries => entries.map_err(at(path))?.next().is_some(),
    };
    if used {
        return Err(Failure::usage(format!("{} is not empty", path.display()))
            .next("name a new or an empty directory"));
    }
    Ok(())
}

/// Makes a directory that must be new or empty.
pub(crate) fn make_empty_directory(path: &Path) -> Result<(), Failure> {
    refuse_used(path)?;
    make_directory(path)
}

/// The absolute path of something that exists.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(path).map_err(at(path))
}

/// What a file or stdin (`-`) gives, in pieces, read by a thread of its own.
pub(crate) fn pieces(path: &Path, piece: usize) -> Result<ReceiverStream<io::Result<Bytes>>, Failure> {
    let mut source: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(at(path))?)
    };
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut bytes = Vec::with_capacity(piece);
            let limit = u64::try_from(piece).unwrap_or(u64::MAX);
            let read = source.by_ref().take(limit).read_to_end(&mut bytes);
            let end = !matches!(read, Ok(count) if count > 0);
            let item = read.map(|_| Bytes::from(bytes));
            let empty = matches!(&item, Ok(bytes) if bytes.is_empty());
            // A receiver that has gone has its own error to tell.
            if (!empty && sender.blocking_send(item).is_err()) || end {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

/// A file that gets its name only when it is whole; stdout for `-`; a device or
/// a pipe as it is.
pub(crate) enum Sink {
    Stdout,
    Special(PathBuf, File),
    File { temporary: PathBuf, path: PathBuf, file: Option<File> },
}

impl Sink {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        if is_special(path) {
            let file = OpenOptions::new().write(true).open(path).map_err(at(path))?;
            return Ok(Self::Special(path.to_owned(), file));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(at(path))?;
        Ok(Self::File { temporary, path: path.to_owned(), file: Some(file) })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().write_all(bytes),
            Self::Special(_, file) => file.write_all(bytes),
            Self::File { file: Some(file), .. } => file.write_all(bytes),
            Self::File { .. } => Ok(()),
        }
    }

    /// Hands on what was written so far, for whoever reads along.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().flush(),
            Self::Special(..) | Self::File { .. } => Ok(()),
        }
    }

    /// Gives the whole file its name.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        match &mut self {
            Self::Stdout => io::stdout().flush().map_err(at(Path::new("-"))),
            Self::Special(path, file) => file.flush().map_err(at(path)),
            Self::File { temporary, path, file } => {
                if let Some(file) = file {
                    file.sync_all().map_err(at(path))?;
                }
                fs::rename(&*temporary, &*path).map_err(at(path))?;
                *file = None;
                Ok(())
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Still open: it is not whole, and must not lie about.
        if let Self::File { temporary, file: Some(_), .. } = self {
            drop(fs::remove_file(temporary));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt as _;

    use super::*;

    #[test]
    fn a_pipe_or_a_device_is_written_to_and_never_replaced_by_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        let mut sink = Sink::open(&pipe).unwrap();
        sink.write(b"words").unwrap();
        sink.finish().unwrap();
        assert_eq!(reader.join().unwrap(), b"words");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let refused = coffer_client::profile::write_atomically(&pipe, b"words");
        assert!(refused.unwrap_err().to_string().contains("not a regular file"));
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
}
