//! Who changed what through the fleet's API: `fleet/audit/audit.jsonl`, one JSON
//! object a line, and the files before it.
//!
//! A thread of its own writes, so that no answer waits for the disk. What it cannot write it keeps and tries again; until that
//! succeeds the API lets nobody change anything but nodes their own things and the inside of the process itself.
#![expect(clippy::disallowed_methods, reason = "this module is the disk adapter of the API's audit log")]

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use coffer_embedded::{Audit, AuditEvent};
use serde_json::json;
use tokio::sync::oneshot;

use crate::exit::Failure;
use crate::output::trouble;

/// Bytes of a file; the next line begins another.
const FILE_MAX: u64 = 8 << 20;
/// Files that are kept beside the one that is written; the oldest goes.
const FILES_KEPT: u32 = 9;
/// Lines that may wait for the disk.
const WAITING_MAX: usize = 4096;
/// Between two attempts at a disk that refuses.
const PAUSE: Duration = Duration::from_secs(1);

/// The audit log of a fleet at home.
pub(super) struct AuditFile {
    lines: SyncSender<String>,
    state: Arc<State>,
}

/// Done when the log that it came with is dropped and what could be written is on the disk.
pub(super) struct Written(oneshot::Receiver<()>);

impl Written {
    /// Waits for it.
    pub(super) async fn done(self) {
        // A writer that is gone writes nothing more either.
        drop(self.0.await);
    }
}

#[derive(Default)]
struct State {
    /// The disk refused the last line.
    refused: AtomicBool,
    /// Lines for which there was no room to wait.
    lost: AtomicU64,
}

impl AuditFile {
    /// Goes on with the log in a directory, or begins one.
    pub(super) fn open(directory: &Path) -> Result<(Self, Written), Failure> {
        crate::files::make_directory(directory)?;
        let log = Log::open(directory.join("audit.jsonl"), FILE_MAX).map_err(|error| {
            Failure::new(format!("{}: the audit log cannot be written: {error}", directory.display()))
                .safe("nothing was started")
                .next("make room there, or mend the disk")
        })?;
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        let (tell, written) = oneshot::channel::<()>();
        // Ends with the last sender, when everything is written or the disk refuses.
        std::thread::spawn(move || {
            keep(log, &waiting, &of_thread);
            // That it is gone is all that it says.
            drop(tell);
        });
        Ok((Self { lines, state }, Written(written)))
    }
}

impl Audit for AuditFile {
    fn record(&self, event: AuditEvent) {
        if is_routine(&event) {
            return;
        }
        let line = json!({
            "format": 1,
            "at": event.at.to_string(),
            "user": event.user,
            "groups": event.groups,
            "verb": event.verb,
            "group": event.group,
            "resource": event.resource,
            "namespace": event.namespace,
            "name": event.name,
            "dry_run": event.dry_run,
            "code": event.status.as_u16(),
            "source": event.source,
        });
        if self.lines.try_send(line.to_string()).is_err() {
            self.state.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn can_record(&self) -> bool {
        !self.state.refused.load(Ordering::Relaxed) && self.state.lost.load(Ordering::Relaxed) == 0
    }
}

/// What nodes and the control plane say all the time of themselves: leases, conditions, events. A refusal is
/// never routine.
fn is_routine(event: &AuditEvent) -> bool {
    let theirs = event.source.is_none() || event.groups == ["system:nodes"];
    let beat = matches!(event.resource.as_str(), "leases" | "events") || event.resource.ends_with("/status");
    theirs && beat && !event.status.is_client_error()
}

/// Writes what comes, until nobody sends any more.
fn keep(mut log: Log, lines: &Receiver<String>, state: &State) {
    let mut pending = VecDeque::new();
    loop {
        let over = match lines.recv_timeout(PAUSE) {
            Ok(line) => {
                // A disk that refuses for long must not take the memory, too: what there is no room for is counted.
                if pending.len() < WAITING_MAX {
                    pending.push_back(line);
                } else {
                    state.lost.fetch_add(1, Ordering::Relaxed);
                }
                false
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        while pending.len() < WAITING_MAX
            && let Ok(line) = lines.try_recv()
        {
            pending.push_back(line);
        }
        let written = write_all(&mut log, &mut pending, state);
        if let Err(error) = &written
            && !state.refused.swap(true, Ordering::Relaxed)
        {
            trouble(format_args!(
                "{}: {error}; until the audit log can be written, people change nothing in the fleet",
                log.path.display()
            ));
        }
        if written.is_ok() {
            state.refused.store(false, Ordering::Relaxed);
        }
        if over {
            return;
        }
    }
}

fn write_all(log: &mut Log, pending: &mut VecDeque<String>, state: &State) -> io::Result<()> {
    while let Some(line) = pending.front() {
        log.write(line)?;
        pending.pop_front();
    }
    // Those for which there was no room are counted at least.
    let lost = state.lost.load(Ordering::Relaxed);
    if lost > 0 {
        log.write(&json!({ "format": 1, "lost": lost }).to_string())?;
        state.lost.fetch_sub(lost, Ordering::Relaxed);
    }
    log.sync()
}

/// The file that is written, and those before it.
struct Log {
    path: PathBuf,
    most: u64,
    /// None after an error: it is opened anew.
    file: Option<File>,
    /// Bytes of whole lines.
    size: u64,
    dirty: bool,
}

impl Log {
    fn open(path: PathBuf, most: u64) -> io::Result<Self> {
        let mut log = Self { path, most, file: None, size: 0, dirty: false };
        let mut bytes = Vec::new();
        match File::open(&log.path) {
            Ok(file) => drop(file.take(log.most.saturating_mul(2)).read_to_end(&mut bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // What a crash cut off is no line.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        log.size = u64::try_from(whole).unwrap_or(u64::MAX);
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let length = file.metadata()?.len();
        // Somebody may have taken the file away, or it is none that has a length.
        self.size = self.size.min(length);
        if length > self.size {
            file.set_len(self.size)?;
        }
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        let added = u64::try_from(line.len()).unwrap_or(u64::MAX).saturating_add(1);
        if self.size > 0 && self.size.saturating_add(added) > self.most {
            self.begin_another()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        self.dirty = true;
        let written = file.write_all(format!("{line}\n").as_bytes());
        match written {
            Ok(()) => self.size = self.size.saturating_add(added),
            Err(_) => self.file = None,
        }
        written
    }

    fn sync(&mut self) -> io::Result<()> {
        if let (true, Some(file)) = (self.dirty, &self.file) {
            file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    /// The file becomes the first of those before it, and the oldest goes.
    fn begin_another(&mut self) -> io::Result<()> {
        self.sync()?;
        self.file = None;
        let before = |number: u32| self.path.with_file_name(format!("audit.{number}.jsonl"));
        for number in (1..FILES_KEPT).rev() {
            match fs::rename(before(number), before(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match fs::rename(&self.path, before(1)) {
            // Somebody took it away: there is nothing to keep.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.size = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coffer_model::Timestamp;
    use http::StatusCode;
    use serde_json::Value;

    use super::*;

    fn event(resource: &str, name: &str) -> AuditEvent {
        AuditEvent {
            at: Timestamp(0),
            user: "operator".to_owned(),
            groups: vec!["system:masters".to_owned()],
            verb: "delete",
            group: String::new(),
            resource: resource.to_owned(),
            namespace: "coffer".to_owned(),
            name: name.to_owned(),
            dry_run: false,
            status: StatusCode::OK,
            source: Some([192, 0, 2, 7].into()),
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn until(holds: impl Fn() -> bool) {
        while !holds() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_did_what_from_where_is_a_line_and_heartbeats_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        fs::write(&path, "{\"format\":1}\n{\"format\":1,\"us").unwrap();
        let (log, _) = AuditFile::open(dir.path()).unwrap();
        let node =
            |resource: &str| AuditEvent { groups: vec!["system:nodes".to_owned()], ..event(resource, "n1") };
        log.record(node("leases"));
        log.record(node("pods/status"));
        log.record(AuditEvent { status: StatusCode::FORBIDDEN, ..node("leases") });
        log.record(event("pods", "sites-1"));
        until(|| lines_or_none(&path) == 3);
        let lines = lines(&path);
        assert_eq!((&lines[1]["name"], &lines[1]["code"]), (&"n1".into(), &403.into()));
        let last = &lines[2];
        assert_eq!((&last["user"], &last["verb"]), (&"operator".into(), &"delete".into()));
        assert_eq!((&last["source"], &last["code"]), (&"192.0.2.7".into(), &200.into()));
    }

    /// How many whole lines there are.
    fn lines_or_none(path: &Path) -> usize {
        fs::read_to_string(path).unwrap_or_default().matches('\n').count()
    }

    #[test]
    fn a_full_disk_is_told_to_whoever_asks_and_nothing_is_missing_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let (log, _) = AuditFile::open(dir.path()).unwrap();
        assert!(log.can_record());
        log.record(event("pods", "a"));
        until(|| !log.can_record());
        fs::remove_file(&path).unwrap();
        log.record(event("pods", "b"));
        until(|| log.can_record());
        let names: Vec<Value> = lines(&path).iter().map(|line| line["name"].clone()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_disk_that_refuses_for_long_costs_a_bounded_memory_and_what_is_lost_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let log = Log::open(path, FILE_MAX).unwrap();
        let (send, lines) = sync_channel(3 * WAITING_MAX);
        (0..3 * WAITING_MAX).for_each(|number| send.send(format!("{number}")).unwrap());
        drop(send);
        let state = State::default();
        keep(log, &lines, &state);
        assert_eq!(state.lost.load(Ordering::Relaxed), 2 * u64::try_from(WAITING_MAX).unwrap());
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_of_the_log_finds_every_line_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (log, written) = AuditFile::open(dir.path()).unwrap();
        (0..1000).for_each(|number| log.record(event("pods", &number.to_string())));
        drop(log);
        written.done().await;
        assert_eq!(lines(&dir.path().join("audit.jsonl")).len(), 1000);
    }

    #[test]
    fn the_log_is_bounded_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path().join("audit.jsonl"), 100).unwrap();
        for number in 0..100 {
            log.write(&json!({ "number": number, "filling": "x".repeat(40) }).to_string()).unwrap();
        }
        let files = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, usize::try_from(FILES_KEPT + 1).unwrap());
        assert_eq!(lines(&dir.path().join("audit.jsonl")).last().unwrap()["number"], 99);
    }
}
