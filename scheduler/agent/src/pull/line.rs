//! The agent's end of the line to the process that talks to a registry. What
//! comes from there is bytes of which the agent knows how many may come and what
//! their digest is; nothing else of it is looked at.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::error::PullError;
use super::keep::Partial;
use super::login::Login;
use super::wire::{self, Ask, Kind, Setting};
use crate::image::ImageDigest;

/// A process that talks to one registry. It ends with this.
pub(super) struct Line {
    child: Child,
    stream: UnixStream,
}

impl Line {
    /// Starts the process on `theirs` and tells it whom to ask.
    pub(super) fn start(
        program: &Path,
        (ours, theirs): (UnixStream, UnixStream),
        setting: &Setting,
        login: Option<&Login>,
    ) -> Result<Self, PullError> {
        // Longer than it waits for the registry: it is the one who knows why nothing comes.
        let patience = Duration::from_millis(setting.patience_ms).saturating_mul(6);
        ours.set_read_timeout(Some(patience.max(Duration::from_secs(10)))).map_err(PullError::Process)?;
        let child = Command::new(program)
            .arg(crate::stage::PULL)
            .arg(format!("{}/{}", setting.host, setting.repository))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(PullError::Process)?;
        let mut line = Self { child, stream: ours };
        wire::write_json(&mut line.stream, setting).map_err(PullError::BrokeOff)?;
        let login = login.map_or("", Login::danger_basic);
        wire::write(&mut line.stream, login.as_bytes()).map_err(PullError::BrokeOff)?;
        Ok(line)
    }

    /// A document of at most `most` bytes, if it is what its digest says.
    pub(super) fn document(&mut self, digest: &ImageDigest, most: u64) -> Result<Vec<u8>, PullError> {
        let mut bytes: Vec<u8> = Vec::new();
        let ask = Ask { manifest: true, digest: digest.clone(), from: 0, size: most };
        self.ask(&ask, |came| match came {
            Came::Begin(0) => Ok(()),
            Came::Begin(_) => Err(PullError::Astray),
            Came::Data(data) => {
                bytes.extend_from_slice(data);
                let long = u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most;
                if long { Err(PullError::Astray) } else { Ok(()) }
            }
        })?;
        let found = ImageDigest::of(&bytes);
        if found == *digest { Ok(bytes) } else { Err(PullError::Forged { wanted: digest.clone(), found }) }
    }

    /// What is missing of a blob of `size` bytes.
    pub(super) fn blob(
        &mut self,
        digest: &ImageDigest,
        size: u64,
        partial: &mut Partial,
    ) -> Result<(), PullError> {
        let ask = Ask { manifest: false, digest: digest.clone(), from: partial.written(), size };
        self.ask(&ask, |came| match came {
            Came::Begin(0) if ask.from > 0 => {
                partial.restart().map_err(|error| PullError::Disk(digest.hex().into(), error))
            }
            Came::Begin(from) if from == ask.from => Ok(()),
            Came::Begin(_) => Err(PullError::Astray),
            Came::Data(data) => {
                let more = u64::try_from(data.len()).unwrap_or(u64::MAX);
                if partial.written().saturating_add(more) > size {
                    return Err(PullError::Astray);
                }
                partial.take(data)
            }
        })?;
        if partial.written() == size { Ok(()) } else { Err(PullError::Astray) }
    }

    fn ask(
        &mut self,
        ask: &Ask,
        mut take: impl FnMut(Came<'_>) -> Result<(), PullError>,
    ) -> Result<(), PullError> {
        let told = wire::write_json(&mut self.stream, ask);
        let mut begun = false;
        loop {
            let (kind, bytes) = match (wire::read_kind(&mut self.stream), &told) {
                (Ok(frame), _) => frame,
                (Err(error), _) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(PullError::Astray);
                }
                // One that failed before it was asked may have said why; else that is the reason.
                (Err(_), Err(error)) => return Err(PullError::BrokeOff(error.kind().into())),
                (Err(error), Ok(())) => return Err(PullError::BrokeOff(error)),
            };
            match kind {
                Kind::Failed => {
                    let error = serde_json::from_slice(&bytes).map_err(|_| PullError::Astray)?;
                    return Err(PullError::Fetch(error));
                }
                Kind::Begin if !begun => {
                    let from = <[u8; 8]>::try_from(bytes).map_err(|_| PullError::Astray)?;
                    take(Came::Begin(u64::from_be_bytes(from)))?;
                    begun = true;
                }
                // One without bytes brings nothing, and could come for ever.
                Kind::Data if begun && !bytes.is_empty() => take(Came::Data(&bytes))?,
                Kind::End if begun => return Ok(()),
                _ => return Err(PullError::Astray),
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Neither matters for one that has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What comes after a question.
enum Came<'a> {
    Begin(u64),
    Data(&'a [u8]),
}
