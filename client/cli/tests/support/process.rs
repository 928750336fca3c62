//! The real program as a process that others talk to, and what it says.
#![expect(clippy::panic, reason = "a process that does not say what it must is a failed test")]

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::program::command;

/// Whoever takes longer is stuck.
pub(crate) const STUCK: Duration = Duration::from_secs(180);

/// It is told to end when this is dropped, and waited for.
pub(crate) struct Process {
    pub(crate) child: Child,
    events: Receiver<Value>,
    /// Lines for people.
    pub(crate) words: Receiver<String>,
}

impl Process {
    pub(crate) fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = command(dir, &[&["--json"], arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let events = lines(child.stdout.take().unwrap(), |line| serde_json::from_str(&line).ok());
        let words = lines(child.stderr.take().unwrap(), Some);
        Self { child, events, words }
    }

    /// The next event that has a field.
    pub(crate) fn until(&self, field: &str) -> Value {
        loop {
            match self.events.recv_timeout(STUCK) {
                Ok(event) if event.get(field).is_some() => return event,
                Ok(_) => {}
                Err(error) => {
                    let words: Vec<String> = self.words.try_iter().collect();
                    panic!("it never said {field}: {error}; {words:#?}")
                }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::TERM);
        // One that is stopped would not hear it.
        let _ = kill_process(pid, Signal::CONT);
        let _ = self.child.wait();
    }
}

fn lines<T: Send + 'static>(
    pipe: impl Read + Send + 'static,
    read: impl Fn(String) -> Option<T> + Send + 'static,
) -> Receiver<T> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        // To the end in any case, so that nobody waits for a reader.
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        lines.filter_map(read).for_each(|line| drop(tell.send(line)));
    });
    told
}
