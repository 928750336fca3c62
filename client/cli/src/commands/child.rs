//! A process of this same program, told what to do by its arguments and heard
//! through its stdout, one JSON object per line.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};

/// What of a child's stderr is kept, in bytes.
const STDERR_BYTES_MAX: u64 = 16 << 10;

/// A child that does not outlive its parent's interest: dropped, it is
/// killed; and should the parent be killed, its stdin closes and it ends.
pub(super) struct Child {
    process: std::process::Child,
    /// Held open for as long as the child shall live.
    _stdin: Option<ChildStdin>,
    events: mpsc::Receiver<Value>,
    stderr: mpsc::Receiver<String>,
    error: Option<Value>,
}

impl Child {
    pub(super) fn spawn(arguments: &[OsString]) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take();
        let (tell, events) = mpsc::channel(256);
        if let Some(stdout) = process.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Ok(event) = serde_json::from_str(&line)
                        && tell.blocking_send(event).is_err()
                    {
                        return;
                    }
                }
            });
        }
        let (tell, stderr) = mpsc::channel(1);
        if let Some(mut pipe) = process.stderr.take() {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                drop(pipe.by_ref().take(STDERR_BYTES_MAX).read_to_end(&mut text));
                drop(tell.blocking_send(String::from_utf8_lossy(&text).into_owned()));
                // The rest is read away, so that the child never waits for a reader.
                drop(std::io::copy(&mut pipe, &mut std::io::sink()));
            });
        }
        Ok(Self { process, _stdin: stdin, events, stderr, error: None })
    }

    /// The next object that the child prints; `None` once it closed its stdout.
    pub(super) async fn next_event(&mut self) -> Option<Value> {
        self.events.recv().await
    }

    /// Keeps an error object for [`Self::failure`].
    pub(super) fn remember_error(&mut self, event: &Value) {
        if let Some(error) = event.get("error") {
            self.error = Some(error.clone());
        }
    }

    /// Ends the child at once, as a power cut would.
    pub(super) async fn kill(&mut self) -> Result<(), Failure> {
        self.process.kill()?;
        self.wait(Duration::from_secs(30)).await.map(drop)
    }

    /// Waits until the child has ended.
    pub(super) async fn wait(&mut self, at_most: Duration) -> Result<ExitStatus, Failure> {
        let ended = async {
            loop {
                match self.process.try_wait() {
                    Ok(None) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Ok(Some(status)) => return Ok(status),
                    Err(error) => return Err(error),
                }
            }
        };
        let ended = tokio::time::timeout(at_most, ended).await;
        Ok(ended.map_err(|_| Failure::new("a process of the trial does not end"))??)
    }

    /// What went wrong in a child that ended: its own words, where it had some.
    pub(super) fn failure(&mut self, who: &str, status: ExitStatus) -> Failure {
        let exit = match status.code() {
            Some(2) => Exit::Usage,
            Some(4) => Exit::Differences,
            _ => Exit::Failure,
        };
        let told = self.error.take().unwrap_or_default();
        let part = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
        let stderr = self.stderr.try_recv().unwrap_or_default();
        let what = part("what").unwrap_or_else(|| format!("{who} ended with {status}: {}", stderr.trim()));
        Failure { what, safe: part("safe"), next: part("next"), exit }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Already ended children are past harm; this one is ended by its own id.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
