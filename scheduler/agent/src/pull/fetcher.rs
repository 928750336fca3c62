//! The process that talks to a registry: the agent's binary, executed once more.
//! It learns what to ask, gives up everything (`confine/outward.rs`), and only
//! then opens its first connection. What comes it hands to the agent unread: it
//! writes no file, and has no place where it could.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::FetchError;
use super::http::{self, Http};
use super::session::Session;
use super::wire::{self, Ask, Kind, Setting};
use crate::confine::starter;

/// Serves the agent on the socket at standard input until it is closed.
pub(crate) fn run(_: &Path) -> ExitCode {
    let Ok(line) = starter::take_report() else { return ExitCode::FAILURE };
    let mut line = UnixStream::from(line);
    match serve(&mut line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // An agent that is gone needs no reason.
            drop(tell(&mut line, &error));
            ExitCode::FAILURE
        }
    }
}

fn tell(line: &mut UnixStream, error: &FetchError) -> io::Result<()> {
    line.set_nonblocking(false)?;
    line.write_all(&[Kind::Failed.byte()])?;
    wire::write_json(line, error)
}

fn serve(line: &mut UnixStream) -> Result<(), FetchError> {
    let order = |_| FetchError::Order;
    let setting: Setting = wire::read_json(line).map_err(order)?;
    let login = wire::read(line).map_err(order)?;
    let is_plain = setting.plain.contains(&setting.host);
    // The authorities lie in files, which are out of reach afterwards.
    let tls = http::tls(setting.roots.as_deref(), !is_plain)?;
    let unconfined = |error: &dyn std::fmt::Display| FetchError::Unconfined(error.to_string());
    setting.outward.give_up().map_err(|error| unconfined(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
    let line = line.try_clone().map_err(order)?;
    runtime.map_err(|error| unconfined(&error))?.block_on(async {
        line.set_nonblocking(true).map_err(order)?;
        let line = tokio::net::UnixStream::from_std(line).map_err(order)?;
        let http = Http::new(tls, setting.plain, Duration::from_millis(setting.patience_ms));
        let session = Session::new(http, (&setting.host, is_plain), setting.repository, login);
        answer(line, session).await
    })
}

async fn answer(mut line: tokio::net::UnixStream, mut session: Session) -> Result<(), FetchError> {
    let order = |_| FetchError::Order;
    loop {
        let mut length = [0; 4];
        if line.read_exact(&mut length).await.is_err() {
            return Ok(());
        }
        let mut bytes = vec![0; wire::checked(length).map_err(order)?];
        line.read_exact(&mut bytes).await.map_err(order)?;
        let ask: Ask = serde_json::from_slice(&bytes).map_err(|_| FetchError::Order)?;
        one(&mut line, &mut session, &ask).await?;
    }
}

/// Hands one document or blob to the agent.
async fn one(line: &mut tokio::net::UnixStream, session: &mut Session, ask: &Ask) -> Result<(), FetchError> {
    let order = |_| FetchError::Order;
    let mut part = session.open(ask).await?;
    let mut sent = part.from;
    if !ask.manifest {
        // One that says beforehand that it is too short is not begun.
        let announced = part.body.announced().map(|rest| rest.saturating_add(part.from));
        if let Some(short) = announced.filter(|announced| *announced < ask.size) {
            return Err(FetchError::Short { sent: short, of: ask.size });
        }
    }
    frame(line, Kind::Begin, &part.from.to_be_bytes()).await.map_err(order)?;
    while let Some(data) = part.body.next().await? {
        for piece in data.chunks(wire::DATA_MAX) {
            frame(line, Kind::Data, piece).await.map_err(order)?;
        }
        sent = sent.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
    }
    if !ask.manifest && sent < ask.size {
        return Err(FetchError::Short { sent, of: ask.size });
    }
    frame(line, Kind::End, &[]).await.map_err(order)
}

async fn frame(line: &mut tokio::net::UnixStream, kind: Kind, bytes: &[u8]) -> io::Result<()> {
    line.write_all(&[kind.byte()]).await?;
    line.write_all(&wire::length(bytes)?).await?;
    line.write_all(bytes).await
}
